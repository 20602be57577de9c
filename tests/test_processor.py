"""The processor with real SDK providers, real exporters and real servers on loopback."""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult, TraceIdRatioBased

from otel_langfuse import ConfigError, LangfuseIngestionExporter, LangfuseOTLPExporter, LangfuseSpanProcessor, batch, retry
from otel_langfuse.ended import held_bytes
from otel_langfuse.pipeline import sample
from otel_langfuse.store import Store
from servers import Server, hang, multi_status, provider_with, sdk_spans, status, when

pytestmark = pytest.mark.usefixtures("every_span")

SLACK_S = 0.4
KEYS = {"public_key": "pk-lf-1", "secret_key": "sk-lf-SECRET"}


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first wait of a backoff a tenth as long as in production."""
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.05)


def to(server: Server | str, **settings: Any) -> LangfuseSpanProcessor:
    url = server if isinstance(server, str) else server.url
    return LangfuseSpanProcessor(base_url=url, **KEYS, **settings)


def end_spans(processor: LangfuseSpanProcessor, *names: str, **attributes: Any) -> TracerProvider:
    provider = provider_with(processor)
    tracer = provider.get_tracer("tests")
    for name in names:
        tracer.start_span(name, attributes=attributes).end()
    return provider


def balanced(processor: LangfuseSpanProcessor) -> bool:
    stats = processor.stats()
    return stats.started == stats.exported + stats.queued + sum(stats.dropped.values())


def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


# -- the default way ---------------------------------------------------------------------------------------------------


def test_finished_spans_go_to_langfuse_by_otlp() -> None:
    with Server() as server:
        processor = to(server)
        end_spans(processor, "a", "b")
        assert processor.force_flush()
        assert server.received[0].path == "/api/public/otel/v1/traces"
        assert server.names == ["a", "b"]
        assert processor.stats() == (2, 2, 0, {}, 0)
        assert processor.shutdown()


def test_a_sqlite_url_is_a_destination_like_any_other(tmp_path: Any) -> None:
    processor = LangfuseSpanProcessor(base_url=f"sqlite:///{tmp_path}/traces.db")
    end_spans(processor, "a")
    assert processor.force_flush()
    assert [trace.name for trace in Store(tmp_path / "traces.db").traces()] == ["a"]
    assert processor.shutdown()


def test_older_servers_get_ingestion_events() -> None:
    with Server(multi_status(lambda _: None)) as server:
        processor = LangfuseSpanProcessor(LangfuseIngestionExporter(base_url=server.url, **KEYS))
        end_spans(processor, "a")
        assert processor.force_flush()
        assert [event["type"] for event in server.received[0].events] == ["trace-create", "span-create"]
        processor.shutdown()


def test_without_keys_nothing_is_sent_and_one_warning_says_what_to_set(caplog: pytest.LogCaptureFixture) -> None:
    processor = LangfuseSpanProcessor()
    end_spans(processor, "a")
    assert processor.force_flush()
    assert processor.shutdown()
    assert processor.stats() == (0, 0, 0, {}, 0)
    assert len(caplog.records) == 1
    assert "set LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY to send to Langfuse" in caplog.text


def test_switched_off_by_the_environment_it_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFUSE_TRACING_ENABLED", "false")
    with Server() as server:
        processor = to(server, environment="prod")
        end_spans(processor, "a")
        assert processor.force_flush()
        assert processor.stats() == (0, 0, 0, {}, 0)
        assert not server.received


@pytest.mark.parametrize(
    "settings",
    [
        {"sample_rate": 2},
        {"environment": "Prod Env!"},
        {"flush_at": 0},
        {"mask": "x"},
        {"should_export_span": 7},
        {"exporter": object()},
        {"base_url": "nonsense"},
    ],
)
def test_settings_that_cannot_work_are_refused_at_construction(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        LangfuseSpanProcessor(**settings)


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_spans_that_opentelemetry_did_not_sample_are_not_ours() -> None:
    with Server() as server:
        processor = to(server)
        provider = TracerProvider(sampler=TraceIdRatioBased(0.0), shutdown_on_exit=False)
        provider.add_span_processor(processor)
        provider.get_tracer("t").start_span("a").end()
        processor.shutdown()
        assert processor.stats() == (0, 0, 0, {}, 0)


class RecordOnly(Sampler):
    """Spans are recorded, for processors on this machine, but not sampled, so not to be sent."""

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        return SamplingResult(Decision.RECORD_ONLY)

    def get_description(self) -> str:
        return "record only"


def test_spans_that_are_recorded_but_not_sampled_are_not_ours_either() -> None:
    with Server() as server:
        processor = to(server)
        provider = TracerProvider(sampler=RecordOnly(), shutdown_on_exit=False)
        provider.add_span_processor(processor)
        provider.get_tracer("t").start_span("a").end()
        processor.shutdown()
        assert processor.stats() == (0, 0, 0, {}, 0)


def test_the_filter_decides_for_this_destination_only() -> None:
    with Server() as server:
        processor = to(server, should_export_span=lambda span: span.name != "noise")
        provider = provider_with(processor)
        other = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(other))
        for name in ("a", "noise", "b"):
            provider.get_tracer("t").start_span(name).end()
        assert processor.force_flush(), "what was left out on purpose is not lost"
        assert server.names == ["a", "b"]
        assert processor.stats() == (3, 2, 0, {"filtered": 1}, 0)
        assert len(other.get_finished_spans()) == 3
        processor.shutdown()


def test_a_filter_that_raises_drops_the_span_and_harms_nobody() -> None:
    def broken(span: ReadableSpan) -> bool:
        raise RuntimeError("SECRET")

    with Server() as server:
        processor = to(server, should_export_span=broken)
        end_spans(processor, "a", "b")
        processor.shutdown()
        assert processor.stats() == (2, 0, 0, {"filtered": 2}, 0)


def test_sampling_keeps_and_drops_whole_traces() -> None:
    with Server() as server:
        processor = to(server, sample_rate=0.4)
        tracer = provider_with(processor).get_tracer("t")
        for _ in range(200):
            with tracer.start_as_current_span("root"), tracer.start_as_current_span("child"):
                pass
        assert processor.force_flush()
        traces: dict[bytes, int] = {}
        for received in server.taken:
            for span in received.spans:
                traces[span.trace_id] = traces.get(span.trace_id, 0) + 1
        assert set(traces.values()) == {2}
        assert 40 < len(traces) < 120
        assert all(sample.keep(int.from_bytes(trace_id, "big"), sample.bound(0.4)) for trace_id in traces)
        assert processor.stats().dropped == {"sampled_out": 400 - 2 * len(traces)}
        assert balanced(processor)
        processor.shutdown()


def test_a_rate_of_zero_sends_nothing() -> None:
    with Server() as server:
        processor = to(server, sample_rate=0.0)
        end_spans(processor, "a", "b")
        processor.shutdown()
        assert not server.received
        assert processor.stats() == (2, 0, 0, {"sampled_out": 2}, 0)


# -- masking -----------------------------------------------------------------------------------------------------------


def hide(data: str) -> str:
    return data.replace("SECRET", "***")


def test_what_is_masked_never_leaves_and_other_processors_see_the_original() -> None:
    with Server() as server:
        processor = to(server, mask=hide)
        provider = provider_with(processor)
        other = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(other))
        with provider.get_tracer("t").start_as_current_span("SECRET") as span:
            span.set_attribute("input", "SECRET")
            span.record_exception(ValueError("SECRET"))
        assert processor.force_flush()
        assert b"SECRET" not in server.received[0].body
        assert b"***" in server.received[0].body
        original = other.get_finished_spans()[0]
        assert (original.name, dict(original.attributes or {})["input"]) == ("SECRET", "SECRET")
        processor.shutdown()


def test_a_foreign_exporter_gets_the_masked_spans_and_the_originals_where_nothing_changed() -> None:
    exporter = InMemorySpanExporter()
    processor = LangfuseSpanProcessor(exporter, mask=hide)
    provider = provider_with(processor)
    tracer = provider.get_tracer("t")
    plain, secret = tracer.start_span("plain"), tracer.start_span("SECRET", attributes={"a": ("SECRET", "b")})
    plain.end()
    secret.end()
    assert processor.force_flush()
    first, second = exporter.get_finished_spans()
    assert first.name == "plain"
    assert second.name == "***"
    assert dict(second.attributes or {}) == {"a": ("***", "b")}
    assert second.context.span_id == secret.get_span_context().span_id
    assert "SECRET" not in second.to_json()
    (given,) = sdk_spans(["given"])
    processor.on_end(given)
    assert processor.force_flush()
    assert exporter.get_finished_spans()[2] is given
    processor.shutdown()


def test_a_foreign_exporter_gets_the_very_spans_when_there_is_no_mask() -> None:
    exporter = InMemorySpanExporter()
    processor = LangfuseSpanProcessor(exporter)
    spans = sdk_spans(["a", "b"])
    for span in spans:
        processor.on_end(span)
    assert processor.force_flush()
    assert all(got is given for got, given in zip(exporter.get_finished_spans(), spans, strict=True))
    processor.shutdown()


def test_nothing_is_masked_twice() -> None:
    with Server() as server:
        exporter = LangfuseOTLPExporter(base_url=server.url, mask=lambda data: data + "!", **KEYS)
        processor = LangfuseSpanProcessor(exporter)
        end_spans(processor, "a")
        assert processor.force_flush()
        assert server.names == ["a!"]
        processor.shutdown()
        with pytest.raises(ConfigError, match="not at both"):
            LangfuseSpanProcessor(exporter, mask=hide)


# -- environment and release -------------------------------------------------------------------------------------------


def test_environment_and_release_are_set_on_every_span_that_names_none() -> None:
    with Server() as server:
        processor = to(server, environment="prod", release="1.2")
        end_spans(processor, "a")
        end_spans(processor, "b", **{"langfuse.environment": "mine"})
        assert processor.force_flush()
        read = {
            span.name: {item.key: item.value.string_value for item in span.attributes}
            for received in server.taken
            for span in received.spans
        }
        marked = {"langfuse.internal.is_app_root": ""}  # a boolean
        assert read["a"] == {"langfuse.environment": "prod", "langfuse.release": "1.2", **marked}
        assert read["b"] == {"langfuse.environment": "mine", "langfuse.release": "1.2", **marked}
        processor.shutdown()


# -- faults, deadlines, the account ------------------------------------------------------------------------------------


def test_an_outage_that_ends_loses_nothing() -> None:
    with Server(status(503), status(500), status(200)) as server:
        processor = to(server)
        end_spans(processor, *[f"s{i}" for i in range(30)])
        assert processor.force_flush(8000)
        assert len(server.names) == 30
        assert processor.stats() == (30, 30, 0, {}, 0)
        processor.shutdown()


def test_while_it_waits_to_try_again_the_queue_goes_on_taking_spans_up_to_its_bound() -> None:
    with Server(status(503, Retry_After="1"), status(200)) as server:
        processor = to(server, max_queue_spans=40, flush_at=10)
        end_spans(processor, *[f"s{i}" for i in range(10)])
        assert until(lambda: len(server.received) == 1)
        end_spans(processor, *[f"s{i}" for i in range(10, 50)])
        assert processor.stats() == (50, 0, 40, {"queue_full": 10}, 0)
        assert not processor.force_flush(5000), "ten were lost"
        assert server.names == [f"s{i}" for i in range(40)]
        assert processor.stats() == (50, 40, 0, {"queue_full": 10}, 0)
        processor.shutdown()


def test_a_hung_server_holds_neither_flush_nor_shutdown_nor_the_application() -> None:
    with Server(hang) as server:
        processor = to(server, timeout=30)
        begin = time.monotonic()
        end_spans(processor, *["s"] * 100)
        assert time.monotonic() - begin < SLACK_S
        begin = time.monotonic()
        assert processor.force_flush(500) is False
        assert 0.5 <= time.monotonic() - begin < 0.6 + SLACK_S
        begin = time.monotonic()
        assert processor.shutdown(500) is False
        assert time.monotonic() - begin < 0.6 + SLACK_S
        assert processor.stats() == (100, 0, 0, {"send_failed": 100}, 0)
        end_spans(processor, "late")
        assert processor.stats() == (101, 0, 0, {"send_failed": 100, "after_shutdown": 1}, 0)


def test_shutdown_wakes_a_sleeping_retry_and_delivers_if_the_server_is_back() -> None:
    with Server(status(503, Retry_After="60"), status(200)) as server:
        processor = to(server)
        end_spans(processor, "a")
        assert processor.force_flush(100) is False
        begin = time.monotonic()
        assert processor.shutdown() is False or processor.stats().exported == 1
        assert time.monotonic() - begin < 1
        assert server.names == ["a"]


def test_spans_count_with_what_they_hold_so_that_memory_is_bounded() -> None:
    with Server(hang) as server:
        processor = to(server, max_queue_bytes=10_000_000, timeout=30)
        end_spans(processor, *["s"] * 15, input="x" * 1_000_000)
        assert processor.stats().dropped == {"queue_full": 6}
        provider = provider_with(processor)
        with provider.get_tracer("t").start_as_current_span("s") as span:
            span.add_event("choice", {"content": "x" * 1_000_000})
        assert processor.stats().dropped == {"queue_full": 7}, "span events count as well"
        processor.shutdown(0)


@pytest.mark.parametrize(
    ("attributes", "least"),
    [
        ({}, 0),
        ({"a": "x" * 100_000}, 100_000),
        ({"a": "€" * 100_000}, 200_000),
        ({"a": ["x" * 50_000, "y" * 50_000]}, 100_000),
        ({"a": b"x" * 100_000}, 100_000),
        ({"a": [b"x" * 50_000, b"y" * 50_000]}, 100_000),
        ({"a": 1, "b": True, "c": 0.5, "d": [1, 2, 3]}, 4 * 40),
    ],
)
def test_the_estimate_of_a_spans_bytes(attributes: dict[str, Any], least: int) -> None:
    (span,) = sdk_spans(["s"], **attributes)
    assert least + 512 <= held_bytes(span) <= least * 1.1 + 2000


def test_a_span_that_cannot_be_read_is_counted_and_raises_nothing() -> None:
    with Server() as server:
        processor = to(server)

        class Broken(ReadableSpan):
            @property
            def attributes(self) -> Any:
                raise RuntimeError("SECRET")

        (span,) = sdk_spans(["a"])
        processor.on_end(Broken(name="b", context=span.context))
        processor.on_end(ReadableSpan(name="no context"))
        assert processor.stats() == (1, 0, 0, {"unreadable": 1}, 0)
        processor.shutdown()


def test_a_span_to_start_that_breaks_raises_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with Server() as server:
        processor = to(server, environment="prod")
        processor.on_start(object())  # type: ignore[arg-type]
        assert "AttributeError" in caplog.text
        processor.shutdown()


def test_whatever_the_server_does_the_account_is_balanced() -> None:
    dice = random.Random(5)
    steps = [
        status(200),
        status(503, Retry_After="0"),
        status(400),
        status(413),
        status(401),
        status(200),
        status(429, Retry_After="0"),
    ]
    with Server(*[dice.choice(steps) for _ in range(60)], status(200)) as server:
        processor = to(server, flush_at=20, flush_interval=0.01, sample_rate=0.7, max_queue_spans=300)
        tracer = provider_with(processor).get_tracer("t")

        def work() -> None:
            for i in range(300):
                tracer.start_span(f"s{i}").end()
                if i % 30 == 0:
                    time.sleep(0.005)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            processor.force_flush(20)
        processor.shutdown()
        stats = processor.stats()
        assert stats.started == 900
        assert stats.queued == 0
        assert balanced(processor)
        assert len(server.names) == stats.exported
        assert {"sampled_out", "rejected"} <= stats.dropped.keys()


# -- foreign exporters -------------------------------------------------------------------------------------------------


def test_the_stock_http_exporter_behind_it() -> None:
    with Server() as server:
        processor = LangfuseSpanProcessor(HttpExporter(endpoint=server.url + "/v1/traces"))
        end_spans(processor, "a", "b")
        assert processor.force_flush()
        assert server.names == ["a", "b"]
        assert processor.stats() == (2, 2, 0, {}, 0)
        assert processor.shutdown()


def test_the_stock_grpc_exporter_behind_it() -> None:
    names: list[str] = []

    def export(request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:
        names.extend(s.name for part in request.resource_spans for scope in part.scope_spans for s in scope.spans)
        return ExportTraceServiceResponse()

    handler = grpc.unary_unary_rpc_method_handler(
        export,
        request_deserializer=ExportTraceServiceRequest.FromString,
        response_serializer=ExportTraceServiceResponse.SerializeToString,
    )
    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    server = grpc.server(futures.ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        processor = LangfuseSpanProcessor(GrpcExporter(endpoint=f"127.0.0.1:{port}", insecure=True), mask=hide)
        end_spans(processor, "a", "SECRET")
        assert processor.force_flush()
        assert names == ["a", "***"]
        assert processor.shutdown()
    finally:
        server.stop(0)


class Foreign(SpanExporter):
    """Somebody's exporter that does what it is told."""

    def __init__(self, action: Callable[[], Any]) -> None:
        self.action = action
        self.shut_down = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result: SpanExportResult = self.action()
        return result

    def shutdown(self) -> None:
        self.shut_down.set()


def explode() -> None:
    raise RuntimeError("SECRET")


@pytest.mark.parametrize("action", [explode, lambda: SpanExportResult.FAILURE])
def test_a_foreign_exporter_that_fails_is_counted(action: Callable[[], Any], caplog: pytest.LogCaptureFixture) -> None:
    exporter = Foreign(action)
    processor = LangfuseSpanProcessor(exporter)
    end_spans(processor, "a", "b")
    assert processor.force_flush() is False
    assert processor.stats() == (2, 0, 0, {"send_failed": 2}, 0)
    assert "SECRET" not in caplog.text
    processor.shutdown()
    assert exporter.shut_down.is_set()


def test_a_foreign_exporter_that_says_nothing_is_believed() -> None:
    processor = LangfuseSpanProcessor(Foreign(lambda: None))
    end_spans(processor, "a")
    assert processor.force_flush()
    processor.shutdown()


def test_a_foreign_exporter_that_hangs_holds_nobody_and_is_told_to_end() -> None:
    exporter = Foreign(lambda: exporter.shut_down.wait(30))
    processor = LangfuseSpanProcessor(exporter)
    end_spans(processor, "a")
    begin = time.monotonic()
    assert processor.force_flush(200) is False
    assert processor.shutdown(200) is False
    assert time.monotonic() - begin < 0.5 + SLACK_S
    assert until(exporter.shut_down.is_set)
    assert processor.stats() == (1, 0, 0, {"send_failed": 1}, 0)


def test_the_stock_exporters_retries_do_not_outlast_our_shutdown() -> None:
    with Server(status(503)) as server:
        processor = LangfuseSpanProcessor(HttpExporter(endpoint=server.url + "/v1/traces", timeout=30))
        end_spans(processor, "a")
        begin = time.monotonic()
        assert processor.shutdown(400) is False
        assert time.monotonic() - begin < 0.5 + SLACK_S
        assert balanced(processor)


# -- processes ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_sends_its_own_spans_and_none_of_its_parents() -> None:
    with Server() as server:
        processor = to(server, flush_interval=60)
        end_spans(processor, "parent 1")
        assert processor.force_flush()
        provider = end_spans(processor, "parent 2")
        pid = os.fork()
        if pid == 0:
            logging.disable()
            provider.get_tracer("t").start_span("child").end()
            os._exit(0 if processor.force_flush(3000) and processor.stats() == (1, 1, 0, {}, 0) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert server.names == ["parent 1", "child"]
        assert processor.shutdown()
        assert server.names == ["parent 1", "child", "parent 2"]


SCRIPT = """
    import sys, time
    from opentelemetry.sdk.trace import TracerProvider
    from otel_langfuse import LangfuseSpanProcessor, batch
    batch.SHUTDOWN_TIMEOUT_S = 1.0
    processor = LangfuseSpanProcessor(base_url=sys.argv[1], public_key="pk", secret_key="sk", timeout=60)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    for i in range(700):
        provider.get_tracer("t").start_span(f"s{i}").end()
    print(time.time())
"""


def run(url: str) -> float:
    """Runs a program that ends spans and then itself. Returns the seconds from its last line to its end."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), url], capture_output=True, text=True, timeout=60, check=True, env=env
    )
    assert "Traceback" not in done.stderr, done.stderr
    return time.time() - float(done.stdout)


def test_the_end_of_the_interpreter_delivers() -> None:
    with Server() as server:
        run(server.url)
        assert len(server.names) == 700


def test_the_end_of_the_interpreter_is_bounded_when_the_server_hangs() -> None:
    assert batch.SHUTDOWN_TIMEOUT_S == 5.0, "the script has a fifth of that"
    with Server(hang) as server:
        assert run(server.url) < 1.5 + SLACK_S


def test_requests_are_split_where_a_proxy_allows_little() -> None:
    with Server(when(lambda received: len(received.body) < 40_000, status(200), status(413))) as server:
        processor = to(server)
        end_spans(processor, *[f"s{i}" for i in range(100)], input="x" * 3000)
        assert processor.force_flush()
        assert len(server.names) == 100
        processor.shutdown()
