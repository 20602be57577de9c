"""Every span is accounted for, in ``stats()``, in OpenTelemetry's own metrics, and in log lines that say what to do."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import subprocess
import sys
import textwrap
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from otel_langfuse import DropReason, LangfuseOTLPExporter, LangfuseSpanProcessor, meters, stats
from servers import Server, closed_port, hang, late, provider_with, sdk_spans, status

pytestmark = pytest.mark.usefixtures("every_span")

LONG_S = 60.0


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryMetricReader]:
    """A MeterProvider of the SDK's that an application has set, and what it would export."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)
    monkeypatch.setattr(meters, "_made", {})
    monkeypatch.setattr(meters, "_components", weakref.WeakSet())
    monkeypatch.setattr(meters, "_counted", defaultdict(int))
    yield reader
    provider.shutdown()


def collected(reader: InMemoryMetricReader) -> dict[str, dict[str, float]]:
    """Metric -> error.type or drop reason ("" without) -> value, or count of a histogram; summed over components."""
    found: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(int))
    data = reader.get_metrics_data()
    if data is None:
        return {}
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            assert scope.scope.name == "otel-langfuse"
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    assert {"otel.component.type", "otel.component.name"} <= set(point.attributes or {})
                    kind = str((point.attributes or {}).get("error.type", (point.attributes or {}).get(meters.DROP_REASON, "")))
                    found[metric.name][kind] += getattr(point, "count", None) or getattr(point, "value", 0)
    return {name: dict(values) for name, values in found.items()}


def balanced(processor: LangfuseSpanProcessor) -> bool:
    now = processor.stats()
    return now.started == now.exported + now.queued + now.spooled + sum(now.dropped.values())


def adds_up(processor: LangfuseSpanProcessor, reader: InMemoryMetricReader) -> bool:
    """What the metrics say is what ``stats()`` says, and nothing is missing between queue and destination."""
    now, found = processor.stats(), collected(reader)
    processed, exported = found[meters.PROCESSED], found[meters.EXPORTED]
    return (
        now.started == sum(processed.values()) + found[meters.QUEUE_SIZE][""]
        and processed[""] == sum(exported.values()) + found[meters.INFLIGHT][""] + found.get(meters.SPOOLED, {}).get("", 0)
        and exported.get("", 0) == now.exported
    )


def to(server: Server | str, **settings: Any) -> LangfuseSpanProcessor:
    url = server if isinstance(server, str) else server.url
    exporter = LangfuseOTLPExporter(endpoint=f"{url}/v1/traces", timeout=settings.pop("timeout", 5.0))
    return LangfuseSpanProcessor(exporter, **{"flush_interval": LONG_S, **settings})


def end_spans(processor: LangfuseSpanProcessor, count: int, name: str = "a") -> None:
    tracer = provider_with(processor).get_tracer("tests")
    for _ in range(count):
        tracer.start_span(name).end()


# -- scenarios ---------------------------------------------------------------------------------------------------------


def delivered(processor: LangfuseSpanProcessor) -> None:
    end_spans(processor, 10)
    assert processor.force_flush()


def waiting(processor: LangfuseSpanProcessor) -> None:
    end_spans(processor, 10)


def left_out(processor: LangfuseSpanProcessor) -> None:
    end_spans(processor, 4, "noise")
    end_spans(processor, 6)
    processor.force_flush()


def given_up(processor: LangfuseSpanProcessor) -> None:
    end_spans(processor, 10)
    processor.shutdown(100)
    end_spans(processor, 3)


def flushed_in_vain(processor: LangfuseSpanProcessor) -> None:
    end_spans(processor, 10)
    processor.force_flush(200)


SCENARIOS: dict[str, tuple[Any, dict[str, Any], Callable[[LangfuseSpanProcessor], None], dict[str, dict[str, int]]]] = {
    "delivered": (
        status(200),
        {},
        delivered,
        {meters.PROCESSED: {"": 10}, meters.EXPORTED: {"": 10}, meters.DURATION: {"": 1}, meters.INFLIGHT: {"": 0}},
    ),
    "waiting": (status(200), {}, waiting, {meters.QUEUE_SIZE: {"": 10}, meters.QUEUE_CAPACITY: {"": 50_000}}),
    "left out": (
        status(200),
        {"should_export_span": lambda span: span.name != "noise"},
        left_out,
        {meters.PROCESSED: {"": 6, "filtered": 4}, meters.EXPORTED: {"": 6}},
    ),
    "sampled out": (
        status(200),
        {"sample_rate": 0.0},
        left_out,
        {meters.PROCESSED: {"": 0, "sampled_out": 10}, meters.EXPORTED: {"": 0}},
    ),
    "rejected": (
        status(404),
        {},
        flushed_in_vain,
        {meters.PROCESSED: {"": 10}, meters.EXPORTED: {"": 0, "rejected": 10}, meters.DURATION: {"rejected": 1}},
    ),
    "partial success": (
        status(200, b'{"partialSuccess": {"rejectedSpans": 3, "errorMessage": "no"}}'),
        {},
        flushed_in_vain,
        {meters.EXPORTED: {"": 7, "rejected": 3}, meters.DURATION: {"rejected": 1}},
    ),
    "on its way": (hang, {"flush_at": 4}, flushed_in_vain, {meters.INFLIGHT: {"": 4}, meters.QUEUE_SIZE: {"": 6}}),
    "queue full": (
        hang,
        {"flush_at": 4, "max_queue_spans": 5},
        waiting,
        {meters.PROCESSED: {"queue_full": 5}, meters.QUEUE_CAPACITY: {"": 5}},
    ),
    "given up and too late": (
        hang,
        {},
        given_up,
        {meters.PROCESSED: {"": 10, "already_shutdown": 3}, meters.EXPORTED: {"": 0, "send_failed": 10}},
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_stats_and_metrics_account_for_every_span(name: str, reader: InMemoryMetricReader) -> None:
    step, settings, play, expected = SCENARIOS[name]
    with Server(step) as server:
        processor = to(server, threads=1, **settings)
        play(processor)
        assert balanced(processor), processor.stats()
        assert adds_up(processor, reader), (processor.stats(), collected(reader))
        found = collected(reader)
        for metric, values in expected.items():
            assert values.items() <= found[metric].items(), (metric, found)
        processor.shutdown(0)
        assert balanced(processor), processor.stats()


def test_what_is_in_the_spool_is_told(reader: InMemoryMetricReader, tmp_path: Path) -> None:
    with closed_port() as url:
        exporter = LangfuseOTLPExporter(endpoint=f"{url}/v1/traces", spool_path=tmp_path / "spool.db", spool_mode="always")
        processor = LangfuseSpanProcessor(exporter, flush_interval=LONG_S)
        end_spans(processor, 5)
        processor.shutdown(5000)
        assert processor.stats()[:4] == (5, 0, 0, {})
        assert processor.stats().spooled == 5
        found = collected(reader)
        assert found[meters.SPOOLED] == {"": 5}
        # The spool's own thread may have tried to send it meanwhile; nothing has been delivered.
        assert "" not in found.get(meters.DURATION, {})
        assert adds_up(processor, reader)


def test_each_component_has_a_name_of_its_own_and_says_where_it_sends_to(reader: InMemoryMetricReader) -> None:
    with Server() as one, Server() as two:
        processors = [to(one), to(two)]
        for processor in processors:
            delivered(processor)
        data = reader.get_metrics_data()
        assert data is not None
        points = [p for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics for p in m.data.data_points]
        ports = {server.server_address[1] for server in (one, two)}  # a thread of a test before may still tell of its own
        exported = [dict(p.attributes or {}) for p in points if (p.attributes or {}).get("server.port") in ports]
        assert {(a["otel.component.name"], a["server.address"], a["server.port"]) for a in exported} == {
            (f"langfuse_span_exporter/{i}", "127.0.0.1", server.server_address[1]) for i, server in enumerate((one, two))
        }
        names = {str((p.attributes or {})["otel.component.name"]) for p in points}
        assert {name for name in names if "processor" in name} == {f"langfuse_batch_span_processor/{i}" for i in range(2)}
        for processor in processors:
            processor.shutdown()


def test_an_exporter_of_ours_behind_somebody_elses_processor_tells_as_well(reader: InMemoryMetricReader) -> None:
    with Server(status(200), status(404)) as server:
        exporter = LangfuseOTLPExporter(endpoint=f"{server.url}/v1/traces")
        provider = provider_with(SimpleSpanProcessor(exporter))
        for name in "ab":
            provider.get_tracer("tests").start_span(name).end()
        found = collected(reader)
        assert found[meters.EXPORTED] == {"": 1, "rejected": 1}
        assert found[meters.DURATION] == {"": 1, "rejected": 1}
        assert found[meters.INFLIGHT] == {"": 0}
        assert meters.PROCESSED not in found
        provider.shutdown()


class Foreign(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        if spans[0].name == "raises":
            raise LookupError
        return SpanExportResult.FAILURE if spans[0].name == "fails" else SpanExportResult.SUCCESS


def test_a_foreign_exporter_is_told_of_by_its_class(reader: InMemoryMetricReader) -> None:
    processor = LangfuseSpanProcessor(Foreign(), flush_interval=LONG_S)
    for name in ("works", "fails", "raises"):
        end_spans(processor, 1, name)
        processor.force_flush()
    found = collected(reader)
    assert found[meters.EXPORTED] == {"": 1, "send_failed": 2}
    assert found[meters.DURATION] == {"": 1, "send_failed": 1, "LookupError": 1}
    assert adds_up(processor, reader)
    (component,) = meters._components
    assert component.exporter["otel.component.type"] == "test_accounting.Foreign"
    processor.shutdown()


def test_the_duration_of_an_export_includes_its_retries(reader: InMemoryMetricReader) -> None:
    with Server(late(0.1, status(503, Retry_After="0")), late(0.1, status(200))) as server:
        processor = to(server)
        delivered(processor)
        data = reader.get_metrics_data()
        assert data is not None
        (point,) = [
            p
            for r in data.resource_metrics
            for s in r.scope_metrics
            for m in s.metrics
            if m.name == meters.DURATION
            for p in m.data.data_points
        ]
        assert point.count == 1
        assert 0.2 <= point.sum < 5
        processor.shutdown()


def test_a_meter_provider_that_comes_after_the_processor_is_found(tmp_path: Path) -> None:
    program = """
        from opentelemetry import metrics, trace
        from otel_langfuse import configure
        langfuse = configure(base_url="sqlite:///traces.db", flush_interval=60)
        trace.get_tracer("t").start_span("a").end()
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        reader = InMemoryMetricReader()
        metrics.set_meter_provider(MeterProvider([reader]))
        langfuse.flush()
        scopes = [s for r in reader.get_metrics_data().resource_metrics for s in r.scope_metrics]
        print(sorted(m.name for s in scopes if s.scope.name == "otel-langfuse" for m in s.metrics))
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    expected = [meters.PROCESSED, meters.QUEUE_SIZE, meters.QUEUE_CAPACITY, meters.EXPORTED, meters.INFLIGHT, meters.DURATION]
    assert done.stdout == f"{sorted(expected)}\n", done.stderr


def test_a_component_that_is_gone_is_told_of_no_more() -> None:
    gc.collect()
    before = len(meters._components)
    processor = to("http://127.0.0.1:1")
    assert len(meters._components) == before + 1
    processor.shutdown()
    del processor
    gc.collect()
    assert len(meters._components) == before


def test_a_meter_provider_that_fails_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError

    monkeypatch.setattr(metrics, "get_meter", fail)
    monkeypatch.setattr(meters, "_made", {})
    with Server() as server:
        processor = to(server)
        delivered(processor)
        assert server.names == ["a"] * 10
        processor.shutdown()


def test_names_units_and_kinds_are_those_of_the_semantic_conventions(reader: InMemoryMetricReader) -> None:
    otel = pytest.importorskip("opentelemetry.semconv._incubating.metrics.otel_metrics")
    theirs = {value for name, value in vars(otel).items() if name.startswith("OTEL_SDK_") and not name.endswith("_COUNT")}
    ours = {meters.PROCESSED, meters.QUEUE_SIZE, meters.QUEUE_CAPACITY, meters.EXPORTED, meters.INFLIGHT, meters.DURATION}
    if meters.DURATION not in theirs:
        pytest.skip("these semantic conventions are older")
    assert ours <= theirs
    with Server() as server:
        processor = to(server)
        delivered(processor)
        data = reader.get_metrics_data()
        assert data is not None
        for metric in itertools.chain(*(s.metrics for r in data.resource_metrics for s in r.scope_metrics)):
            doc = metric.name.removeprefix("otel.sdk.")
            counter = metric.name in (meters.PROCESSED, meters.EXPORTED)
            assert metric.unit == ("s" if metric.name == meters.DURATION else "{span}"), doc
            assert getattr(metric.data, "is_monotonic", counter) == counter, doc
        processor.shutdown()


# -- log lines ---------------------------------------------------------------------------------------------------------

TO_DO = ("check", "raise", "shut down later", "put less", "report", "see")


@pytest.mark.parametrize("reason", [r for r in DropReason if r not in stats.CHOSEN])
def test_each_reasons_line_says_how_many_and_what_to_do(reason: DropReason, caplog: pytest.LogCaptureFixture) -> None:
    ledger = stats.Ledger(name="http://host")
    for count in (3, 4, 5):
        ledger.drop(reason, count)
    (record,) = caplog.records
    line = record.getMessage()
    assert line.startswith(f"otel-langfuse to http://host: 3 spans dropped ({reason}): ")
    assert record.levelno >= logging.WARNING
    assert any(words in line for words in TO_DO), line


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_has_an_account_of_its_own() -> None:
    with Server() as server:
        processor = to(server)
        end_spans(processor, 3)
        pid = os.fork()
        if pid == 0:
            end_spans(processor, 2)
            ok = processor.force_flush() and processor.stats()[:4] == (2, 2, 0, {})
            os._exit(0 if ok else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert processor.stats()[:4] == (3, 0, 3, {})
        processor.shutdown()


def test_an_exporters_own_account_is_balanced_too() -> None:
    with Server(status(200), status(413)) as server:
        exporter = LangfuseOTLPExporter(endpoint=f"{server.url}/v1/traces")
        exporter.export(sdk_spans("ab"))
        exporter.export(sdk_spans("c"))
        now = exporter.stats()
        assert now.started == 3 == now.exported + sum(now.dropped.values()) + now.spooled
        exporter.shutdown()
