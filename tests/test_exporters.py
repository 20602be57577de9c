"""Our exporters by themselves, and behind the stock processors, against real servers on loopback."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import re
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult

from otel_langfuse import (
    ConfigError,
    LangfuseIngestionExporter,
    LangfuseOTLPExporter,
    LangfuseSpanProcessor,
    SqliteExporter,
    retry,
)
from otel_langfuse.config import Config
from otel_langfuse.exporters import exporter_for
from otel_langfuse.store import Store
from servers import (
    Received,
    Server,
    closed_port,
    half_body,
    hang,
    late,
    multi_status,
    provider_with,
    reset,
    sdk_spans,
    status,
    when,
)

pytestmark = pytest.mark.usefixtures("every_span")

SLACK_S = 0.4
SUCCESS, FAILURE = SpanExportResult.SUCCESS, SpanExportResult.FAILURE


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first wait of a backoff a tenth as long as in production."""
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.05)


def otlp(server: Server | str, **settings: Any) -> LangfuseOTLPExporter:
    url = server if isinstance(server, str) else server.url
    return LangfuseOTLPExporter(public_key="pk-lf-1", secret_key="sk-lf-SECRET", base_url=url, **settings)


def ingestion(server: Server, **settings: Any) -> LangfuseIngestionExporter:
    return LangfuseIngestionExporter(public_key="pk-lf-1", secret_key="sk-lf-SECRET", base_url=server.url, **settings)


# -- what arrives ------------------------------------------------------------------------------------------------------


def test_otlp_goes_to_langfuses_route_with_its_headers_and_compressed() -> None:
    with Server() as server:
        assert otlp(server.url + "/base/").export(sdk_spans(["a", "b"], input="x" * 5000)) is SUCCESS
        received = server.received[0]
        assert received.path == "/base/api/public/otel/v1/traces"
        assert received.names == ["a", "b"]
        assert received.headers["content-encoding"] == "gzip"
        assert received.wire_bytes < len(received.body) / 5
        assert received.headers["x-langfuse-ingestion-version"] == "4"
        assert received.headers["x-langfuse-sdk-name"] == "otel-langfuse"
        assert received.headers["x-langfuse-public-key"] == "pk-lf-1"
        assert received.headers["authorization"].startswith("Basic ")


def test_compression_can_be_switched_off() -> None:
    with Server() as server:
        assert otlp(server, compression="none").export(sdk_spans(["a"])) is SUCCESS
        assert "content-encoding" not in server.received[0].headers


def test_any_collector_gets_the_users_headers_and_none_of_langfuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk-lf-1")
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk-lf-SECRET")
    with Server() as server:
        exporter = LangfuseOTLPExporter(endpoint=server.url + "/v1/traces", headers={"X-Team": "us"})
        assert exporter.export(sdk_spans(["a"])) is SUCCESS
        received = server.received[0]
        assert received.path == "/v1/traces"
        assert received.headers["x-team"] == "us"
        assert not [name for name in received.headers if "langfuse" in name or name == "authorization"]
        assert "pk-lf" not in repr(received)


def test_headers_meant_for_another_vendor_never_reach_langfuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-honeycomb-team=HONEYKEY")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-honeycomb-team=HONEYKEY")
    with Server() as server:
        otlp(server).export(sdk_spans(["a"]))
        assert "HONEYKEY" not in repr(server.received[0].headers)


def test_ingestion_gets_translated_observations_uncompressed() -> None:
    with Server(multi_status(lambda _: None)) as server:
        exporter = ingestion(server)
        assert exporter.export(sdk_spans(["a"], **{"gen_ai.request.model": "gpt"})) is SUCCESS
        received = server.received[0]
        assert received.path == "/api/public/ingestion"
        assert received.headers["content-type"] == "application/json"
        assert "content-encoding" not in received.headers
        assert [event["type"] for event in received.events] == ["trace-create", "generation-create"]
        assert exporter.stats() == (1, 1, 0, {}, 0)


def test_sqlite_keeps_observations_in_the_file(tmp_path: Path) -> None:
    exporter = SqliteExporter(tmp_path / "traces.db")
    spans = sdk_spans(["a", "b"])
    assert exporter.export(spans) is SUCCESS
    exporter.shutdown()
    store = Store(tmp_path / "traces.db")
    assert sorted(trace.name for trace in store.traces()) == ["a", "b"]
    store.close()


def test_sqlite_that_cannot_be_written_is_counted(tmp_path: Path) -> None:
    (tmp_path / "traces.db").write_bytes(b"no database" * 1000)
    exporter = SqliteExporter(tmp_path / "traces.db")
    assert exporter.export(sdk_spans(["a"])) is FAILURE
    assert exporter.stats() == (1, 0, 0, {"send_failed": 1}, 0)


def test_sqlite_that_another_process_locks_is_written_as_soon_as_it_is_free(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "traces.db", isolation_level=None, check_same_thread=False)) as other:
        exporter = SqliteExporter(tmp_path / "traces.db")
        assert exporter.export(sdk_spans(["first"])) is SUCCESS
        other.execute("BEGIN IMMEDIATE")
        threading.Timer(0.8, lambda: other.execute("ROLLBACK")).start()
        assert exporter.export(sdk_spans(["a"])) is SUCCESS
        exporter.shutdown()


def test_sqlite_that_another_process_locks_holds_no_shutdown_longer_than_it_may_take(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "traces.db", isolation_level=None)) as other:
        processor = LangfuseSpanProcessor(SqliteExporter(tmp_path / "traces.db"))
        processor.on_end(sdk_spans(["first"])[0])
        assert processor.force_flush(2000)
        other.execute("BEGIN IMMEDIATE")
        processor.on_end(sdk_spans(["a"])[0])
        begin = time.monotonic()
        assert processor.shutdown(1500) is False
        assert time.monotonic() - begin < 1.5 + SLACK_S
        assert processor.stats() == (2, 1, 0, {"send_failed": 1}, 0)
        other.execute("ROLLBACK")


# -- faults ------------------------------------------------------------------------------------------------------------


def test_what_may_pass_is_tried_again() -> None:
    with Server(status(500), reset, status(503, Retry_After="0"), status(200)) as server:
        exporter = otlp(server, timeout=8)
        assert exporter.export(sdk_spans(["a"])) is SUCCESS
        assert server.names == ["a"]
        assert exporter.stats() == (1, 1, 0, {}, 0)


def test_retry_after_is_obeyed() -> None:
    with Server(status(429, Retry_After="1"), status(200)) as server:
        assert otlp(server).export(sdk_spans(["a"])) is SUCCESS
        first, second = (received.at for received in server.received)
        assert 1.0 <= second - first < 1.1 + SLACK_S


def test_a_wait_that_would_not_fit_into_the_timeout_is_not_begun() -> None:
    with Server(status(429, Retry_After="30")) as server:
        begin = time.monotonic()
        assert otlp(server, timeout=2).export(sdk_spans(["a"])) is FAILURE
        assert time.monotonic() - begin < SLACK_S


@pytest.mark.parametrize("step", [hang, late(1, status(200))])
def test_export_takes_no_longer_than_its_timeout(step: Any) -> None:
    with Server(step) as server:
        exporter = otlp(server, timeout=0.3)
        begin = time.monotonic()
        assert exporter.export(sdk_spans(["a"])) is FAILURE
        assert time.monotonic() - begin < 0.3 + SLACK_S
        assert exporter.stats() == (1, 0, 0, {"send_failed": 1}, 0)


def test_all_tries_together_take_no_longer_than_the_timeout() -> None:
    with Server(late(0.9, status(503, Retry_After="0")), hang) as server:
        begin = time.monotonic()
        assert otlp(server, timeout=1.6).export(sdk_spans(["a"])) is FAILURE
        assert time.monotonic() - begin < 1.6 + SLACK_S
        assert len(server.received) == 2


def test_an_outage_is_counted_and_not_raised() -> None:
    with closed_port() as url:
        exporter = otlp(url, timeout=0.3)
        assert exporter.export(sdk_spans(["a", "b"])) is FAILURE
        assert exporter.stats() == (2, 0, 0, {"send_failed": 2}, 0)


def test_a_redirect_loses_nothing_silently(caplog: pytest.LogCaptureFixture) -> None:
    with Server() as target, Server(status(302, Location=f"{target.url}/login")) as server:
        exporter = otlp(server)
        assert exporter.export(sdk_spans(["a"])) is FAILURE
        assert exporter.stats() == (1, 0, 0, {"rejected": 1}, 0)
        assert "redirects are not followed" in caplog.text
        assert not target.received


def test_a_success_whose_body_breaks_off_is_a_success() -> None:
    with Server(half_body(200)) as server:
        assert otlp(server).export(sdk_spans(["a"])) is SUCCESS
        assert len(server.received) == 1


def at_most(count: int) -> Any:
    return when(lambda received: len(received.spans) <= count, status(200), status(413, b"Body exceeded 1mb limit"))


def test_what_is_too_large_together_arrives_in_parts() -> None:
    names = [f"s{i}" for i in range(20)]
    with Server(at_most(3)) as server:
        exporter = otlp(server)
        assert exporter.export(sdk_spans(names)) is SUCCESS
        assert server.names == names, "in order"


def body_below(size: int) -> Any:
    return when(lambda received: len(received.body) < size, status(200), status(413))


def test_of_one_span_that_is_too_large_alone_the_largest_values_are_cut_visibly(caplog: pytest.LogCaptureFixture) -> None:
    spans = sdk_spans([f"s{i}" for i in range(19)])
    spans[7:7] = sdk_spans(["huge"], input="x" * 20_000_000, output="y" * 9_000, small="z")
    with Server(body_below(500_000)) as server:
        exporter = otlp(server, compression="none", timeout=20)
        assert exporter.export(spans) is SUCCESS
        assert sorted(server.names) == sorted(["huge", *(f"s{i}" for i in range(19))])
        assert exporter.stats() == (20, 20, 0, {}, 0)
        (huge,) = [span for received in server.taken for span in received.spans if span.name == "huge"]
    values = {item.key: item.value.string_value for item in huge.attributes}
    assert re.fullmatch(r"x{200000,}\.\.\.<cut: 19\.\d MB of 20\.0 MB left out>", values["input"])
    assert (values["output"], values["small"]) == ("y" * 9_000, "z"), "what is small stays whole"
    assert "cut the largest values of a span" in caplog.text
    assert "xxx" not in caplog.text


def test_of_one_observation_that_is_too_large_alone_the_largest_values_are_cut_visibly() -> None:
    def judge(exchange: Any) -> None:
        (multi_status(lambda _: None) if len(exchange.received.body) < 200_000 else status(413))(exchange)

    with Server(judge) as server:
        exporter = ingestion(server, max_request_bytes=1_000_000)
        assert exporter.export(sdk_spans(["a", "huge", "b"], input="x" * 3_000_000)) is SUCCESS
        assert exporter.stats() == (3, 3, 0, {}, 0)
        bodies = [event["body"] for received in server.taken for event in received.events if event["type"] == "span-create"]
    assert len(bodies) == 3
    assert all(body["input"].endswith("<cut: 2.9 MB of 3.0 MB left out>") for body in bodies)


def test_a_span_of_which_nothing_can_be_cut_costs_only_itself() -> None:
    spans = sdk_spans(["a", "b", "c"])
    with Server(when(lambda received: "b" not in received.names, status(200), status(413))) as server:
        exporter = otlp(server)
        assert exporter.export(spans) is FAILURE
        assert server.names == ["a", "c"]
        assert exporter.stats() == (3, 2, 0, {"too_large": 1}, 0)


def test_a_server_that_finds_everything_too_large_is_not_asked_for_every_span() -> None:
    with Server(status(413)) as server:
        exporter = otlp(server)
        assert exporter.export(sdk_spans([f"s{i}" for i in range(500)])) is FAILURE
        assert exporter.stats() == (500, 0, 0, {"too_large": 500}, 0)
        assert len(server.received) < 60


def test_a_request_stays_within_the_limit_of_bytes() -> None:
    with Server() as server:
        exporter = otlp(server, max_request_bytes=50_000)
        assert exporter.export(sdk_spans([f"s{i}" for i in range(30)], input="x" * 9000)) is SUCCESS
        assert len(server.names) == 30
        assert max(len(received.body) for received in server.received) <= 50_000


def bad(received: Received) -> bool:
    return not any(name.startswith("bad") for name in received.names)


def test_the_span_for_which_a_whole_request_is_refused_is_found_and_its_neighbours_arrive(
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = [f"s{i}" for i in range(60)]
    names[17], names[44] = "bad1", "bad2"
    with Server(when(bad, status(200), status(400, b'{"error":"Invalid OTLP trace export: 1 of 60 span(s)"}'))) as server:
        exporter = otlp(server)
        assert exporter.export(sdk_spans(names)) is FAILURE
        assert server.names == [name for name in names if not name.startswith("bad")]
        assert exporter.stats() == (60, 58, 0, {"rejected": 2}, 0)
        assert "Invalid OTLP trace export" in caplog.text


def test_a_server_that_refuses_everything_is_not_asked_for_every_span() -> None:
    with Server(status(400)) as server:
        exporter = otlp(server)
        assert exporter.export(sdk_spans([f"s{i}" for i in range(500)])) is FAILURE
        assert exporter.stats() == (500, 0, 0, {"rejected": 500}, 0)
        assert len(server.received) < 60


@pytest.mark.parametrize("code", [401, 403])
def test_refused_keys_are_named_in_one_message_and_not_shown(code: int, caplog: pytest.LogCaptureFixture) -> None:
    body = b'{"message":"Invalid credentials. Confirm that you\'ve configured the correct host."}'
    with Server(status(code, body)) as server:
        exporter = otlp(server)
        for _ in range(5):
            assert exporter.export(sdk_spans(["a"])) is FAILURE
        assert exporter.stats() == (5, 0, 0, {"rejected": 5}, 0)
        assert len(server.received) == 5, "not tried again: there is no time for that"
    assert "LANGFUSE_PUBLIC_KEY" in caplog.records[0].getMessage()
    assert caplog.text.count("nothing is taken") == 1
    assert "sk-lf" not in caplog.text


@pytest.mark.parametrize("code", [401, 403])
def test_behind_our_processor_what_refused_keys_hold_up_is_kept_and_tried_again_rarely(
    code: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retry, "REFUSED_WAIT_S", 0.4)
    suspended = status(code, b"Ingestion suspended: Usage threshold exceeded. Please upgrade your plan.")
    with Server(suspended, suspended, status(200)) as server:
        processor = LangfuseSpanProcessor(public_key="pk", secret_key="sk", base_url=server.url, flush_at=10, max_queue_spans=50)
        for span in sdk_spans([f"s{i}" for i in range(60)]):
            processor.on_end(span)
        begin = time.monotonic()
        assert processor.force_flush(200) is False
        assert time.monotonic() - begin < SLACK_S, "it does not wait for what cannot be in time"
        assert processor.stats() == (60, 0, 50, {"queue_full": 10}, 0)
        assert len(server.received) == 1
        processor.force_flush(5000)
        assert processor.stats() == (60, 50, 0, {"queue_full": 10}, 0)
        assert server.received[1].at - server.received[0].at >= 0.4
        processor.shutdown()
    assert caplog.text.count("nothing is taken") == 1
    assert "Ingestion suspended" in caplog.text


def test_shutdown_ends_the_wait_of_refused_keys_and_counts_them_as_that() -> None:
    with Server(status(401)) as server:
        processor = LangfuseSpanProcessor(public_key="pk", secret_key="sk", base_url=server.url, flush_at=1)
        for span in sdk_spans(["a", "b", "c"]):
            processor.on_end(span)
        while not server.received:
            time.sleep(0.01)
        begin = time.monotonic()
        assert processor.shutdown() is False
        assert time.monotonic() - begin < 1
        assert processor.stats() == (3, 0, 0, {"rejected": 3}, 0)


def test_partial_success_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    partial = ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(rejected_spans=2, error_message="too old"))
    with Server(status(200, partial.SerializeToString(), Content_Type="application/x-protobuf")) as server:
        exporter = otlp(server)
        assert exporter.export(sdk_spans(["a", "b", "c"])) is FAILURE
        assert exporter.stats() == (3, 1, 0, {"rejected": 2}, 0)
        assert "too old" in caplog.text


# -- ingestion's 207 ---------------------------------------------------------------------------------------------------


def test_each_entry_of_a_207_is_counted_by_itself_and_only_what_failed_for_now_is_sent_again() -> None:
    def judge(event: dict[str, Any]) -> dict[str, Any] | None:
        if event["body"].get("name") == "bad" and event["type"] == "span-create":
            return {"status": 400, "message": "Invalid request data", "error": "expected string"}
        if event["body"].get("name") == "later" and event["type"] == "span-create" and len(server.received) == 1:
            return {"status": 500, "error": "Internal Server Error"}
        return None

    with Server(multi_status(judge)) as server:
        exporter = ingestion(server)
        assert exporter.export(sdk_spans(["good", "bad", "later"])) is FAILURE
        assert exporter.stats() == (3, 2, 0, {"rejected": 1}, 0)
        assert [len(received.events) for received in server.received] == [6, 1]


def test_a_newer_server_that_takes_no_observations_there_is_named_once_with_the_way_out(caplog: pytest.LogCaptureFixture) -> None:
    refusal = {"status": 400, "message": "Event type not accepted", "error": 'Event type "span-create" is not accepted'}
    with Server(multi_status(lambda _: refusal)) as server:
        exporter = ingestion(server)
        for _ in range(3):
            assert exporter.export(sdk_spans(["a", "b"])) is FAILURE
        assert exporter.stats() == (6, 0, 0, {"rejected": 6}, 0)
    assert len(caplog.records) == 1
    assert "by OTLP only: use LangfuseOTLPExporter" in caplog.text


def test_an_ingestion_outage_that_calls_our_request_invalid_is_tried_again() -> None:
    with Server(
        status(500, b'{"message":"Invalid request data","errors":["Failed to upload events"]}'), multi_status(lambda _: None)
    ) as server:
        exporter = ingestion(server)
        assert exporter.export(sdk_spans(["a"])) is SUCCESS
        assert len(server.received) == 2


# -- settings ----------------------------------------------------------------------------------------------------------


def test_without_keys_nothing_is_sent_and_one_warning_says_what_to_set(caplog: pytest.LogCaptureFixture) -> None:
    with Server() as server:
        exporter = LangfuseOTLPExporter(base_url=server.url)
        assert "set LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY" in caplog.text
        assert exporter.export(sdk_spans(["a"])) is FAILURE
        assert exporter.stats() == (1, 0, 0, {"send_failed": 1}, 0)
        assert not server.received


@pytest.mark.parametrize(
    "settings",
    [
        {"endpoint": "http://host/v1/traces", "secret_key": "sk-SECRET"},
        {"endpoint": "http://host/v1/traces", "base_url": "http://langfuse"},
        {"endpoint": "host:4318"},
        {"endpoint": "http://user:SECRET@host/"},
        {"headers": {"a": "SECRET"}},
        {"endpoint": "http://host", "headers": {"a\n": "b"}},
        {"endpoint": "http://host", "headers": {"a": "SECRET\r\nx: y"}},
        {"endpoint": "http://host", "headers": {"Content-Type": "text/plain"}},
        {"base_url": "sqlite:///x.db"},
        {"mask": 7},
    ],
)
def test_settings_that_cannot_work_together_are_refused_without_showing_a_secret(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        LangfuseOTLPExporter(**settings)
    assert "SECRET" not in str(refused.value)


def test_the_settings_choose_the_exporter(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = {"public_key": "pk", "secret_key": "sk"}
    assert isinstance(exporter_for(Config.from_env({}, **keys)), LangfuseOTLPExporter)
    assert isinstance(exporter_for(Config.from_env({}, base_url=f"sqlite:///{tmp_path}/x.db")), SqliteExporter)
    assert exporter_for(Config.from_env({}, public_key="pk")) is None
    assert "set LANGFUSE_SECRET_KEY to send" in caplog.text


def test_an_exporter_of_its_own_masks() -> None:
    with Server() as server:
        exporter = otlp(server, mask=lambda data: data.replace("SECRET", "***"))
        assert exporter.export(sdk_spans(["SECRET"], a="SECRET")) is SUCCESS
        assert b"SECRET" not in server.received[0].body


def test_a_mask_that_fails_is_logged_and_the_rest_arrives(caplog: pytest.LogCaptureFixture) -> None:
    def broken(data: str) -> str:
        raise ValueError(data)

    with Server() as server:
        assert otlp(server, mask=broken).export(sdk_spans(["SECRET"])) is SUCCESS
        assert server.names == ["<masked: mask failed>"]
    assert "mask raised ValueError" in caplog.text
    assert "SECRET" not in caplog.text


# -- behind the stock processors ---------------------------------------------------------------------------------------


def test_behind_the_stock_batch_processor() -> None:
    with Server(status(500), status(200)) as server:
        exporter = otlp(server)
        provider = provider_with(BatchSpanProcessor(exporter))
        tracer = provider.get_tracer("t")
        for i in range(3):
            tracer.start_span(f"s{i}").end()
        assert provider.force_flush()
        provider.shutdown()
        assert server.names == ["s0", "s1", "s2"]
        assert exporter.stats() == (3, 3, 0, {}, 0)


def test_behind_the_stock_simple_processor_on_the_applications_thread() -> None:
    with Server() as server:
        provider = provider_with(SimpleSpanProcessor(otlp(server)))
        provider.get_tracer("t").start_span("a").end()
        assert server.names == ["a"]
        provider.shutdown()


def test_shutdown_from_another_thread_ends_an_export_that_waits(caplog: pytest.LogCaptureFixture) -> None:
    with Server(status(503, Retry_After="20")) as server:
        exporter = otlp(server, timeout=25)
        results: list[SpanExportResult] = []
        thread = threading.Thread(target=lambda: results.append(exporter.export(sdk_spans(["a"]))))
        begin = time.monotonic()
        thread.start()
        while not server.received:
            time.sleep(0.01)
        exporter.shutdown()
        thread.join(5)
        assert results == [FAILURE]
        assert time.monotonic() - begin < 2
        assert exporter.export(sdk_spans(["b"])) is FAILURE
        assert exporter.stats() == (2, 0, 0, {"send_failed": 1, "after_shutdown": 1}, 0)
        assert exporter.force_flush()


def test_what_cannot_be_read_is_counted_and_its_neighbours_arrive() -> None:
    with Server() as server:
        exporter = otlp(server)
        spans: list[Any] = [*sdk_spans(["a"]), object(), *sdk_spans(["b"])]
        assert exporter.export(spans) is FAILURE
        assert server.names == ["a", "b"]
        assert exporter.stats() == (3, 2, 0, {"unreadable": 1}, 0)


def test_with_threads_several_requests_of_ours_are_on_their_way_at_once_and_one_of_a_foreign_exporter() -> None:
    gate = threading.Barrier(3, timeout=5)

    def meet(exchange: Any) -> None:
        gate.wait()
        status(200)(exchange)

    class Foreign(SpanExporter):
        running = most = 0

        def export(self, spans: Any) -> SpanExportResult:
            self.running += 1
            self.most = max(self.most, self.running)
            time.sleep(0.02)
            self.running -= 1
            return SUCCESS

    with Server(meet) as server:
        keys = {"public_key": "pk", "secret_key": "sk", "base_url": server.url}
        processor = LangfuseSpanProcessor(**keys, threads=3, flush_at=1)
        foreign = Foreign()
        other = LangfuseSpanProcessor(foreign, threads=3, flush_at=1)
        for span in sdk_spans(["a", "b", "c"]):
            processor.on_end(span)
            other.on_end(span)
        assert processor.force_flush(6000)
        assert other.force_flush(6000)
        assert foreign.most == 1
        processor.shutdown()
        other.shutdown()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_exports_over_a_connection_of_its_own() -> None:
    with Server() as server:
        exporter = otlp(server)
        exporter.export(sdk_spans(["parent"]))
        pid = os.fork()
        if pid == 0:
            logging.disable()
            os._exit(0 if exporter.export(sdk_spans(["child"])) is SUCCESS and exporter.stats().started == 1 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert exporter.export(sdk_spans(["parent again"])) is SUCCESS
        assert server.names == ["parent", "child", "parent again"]


def test_waits_before_a_retry_leave_the_applications_random_numbers_alone() -> None:
    spans = sdk_spans(["a"])
    with Server(status(503), status(200)) as server:
        exporter = LangfuseOTLPExporter(endpoint=f"{server.url}/v1/traces")
        before = random.getstate()
        assert exporter.export(spans) is SpanExportResult.SUCCESS
        assert random.getstate() == before
        assert len(server.received) == 2
