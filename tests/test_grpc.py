"""OTLP/gRPC: to a scripted servicer, to a real collector, through forks; and the table that says what each status means."""

from __future__ import annotations

import base64
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="the extra otel-langfuse[otlp] is not installed")

from google.rpc import error_details_pb2, status_pb2  # noqa: E402
from opentelemetry import context as otel_context  # noqa: E402
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY  # noqa: E402
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # noqa: E402
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace.export import SpanExportResult  # noqa: E402

from grpc_servers import GrpcServer, abort, hang, late, ok, stumble, when  # noqa: E402
from otel_langfuse import ConfigError, DropReason, LangfuseOTLPExporter, LangfuseSpanProcessor, retry, retry_grpc  # noqa: E402
from otel_langfuse.encode.otlp import GRPC_PATH  # noqa: E402
from otel_langfuse.model import Request, Response  # noqa: E402
from otel_langfuse.prepare import requests  # noqa: E402
from otel_langfuse.retry import Decision, Done, GiveUp, Split, Wait, decide  # noqa: E402
from otel_langfuse.spans import from_sdk  # noqa: E402
from otel_langfuse.transport._grpc import GrpcTransport  # noqa: E402
from proxies import Proxy  # noqa: E402
from servers import closed_port, provider_with, sdk_spans  # noqa: E402
from test_collector import HAS_COLLECTOR, Collector, collector  # noqa: E402, F401 - the fixture

pytestmark = pytest.mark.usefixtures("every_span")

Code = grpc.StatusCode
SUCCESS, FAILURE = SpanExportResult.SUCCESS, SpanExportResult.FAILURE
SLACK_S = 0.4


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first wait of a backoff a tenth as long as in production."""
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.05)


def exporter(server: GrpcServer | str, **settings: Any) -> LangfuseOTLPExporter:
    url = server if isinstance(server, str) else server.url
    return LangfuseOTLPExporter(endpoint=url, protocol="grpc", **settings)


def post(url: str, body: bytes = b"") -> Request:
    return Request("otlp", url + GRPC_PATH, {"grpc-encoding": "gzip", "user-agent": "tests"}, body, ())


# -- what a status means -----------------------------------------------------------------------------------------------


def answer(code: int, message: str = "", *, attempt: int = 0, **trailers: bytes) -> Decision:
    request = Request("otlp", "http://host:4317" + GRPC_PATH, {}, b"...", ("a", "b", "c", "d"))
    headers = {retry_grpc.STATUS: str(code), retry_grpc.MESSAGE: message}
    headers |= {name: base64.b64encode(value).decode() for name, value in trailers.items()}
    return decide(request, Response(retry_grpc.http_status(code), headers), attempt=attempt, now=0, jitter=0.5)


def in_status(seconds: int, nanos: int = 0) -> dict[str, bytes]:
    status = status_pb2.Status(code=8)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="something else"))
    status.details.add().Pack(retry_info(seconds, nanos))
    return {retry_grpc.DETAILS: status.SerializeToString()}


def retry_info(seconds: int, nanos: int = 0) -> error_details_pb2.RetryInfo:
    info = error_details_pb2.RetryInfo()
    info.retry_delay.seconds, info.retry_delay.nanos = seconds, nanos
    return info


MEANINGS = {
    "CANCELLED": Wait,
    "UNKNOWN": Wait,
    "INVALID_ARGUMENT": Split,
    "DEADLINE_EXCEEDED": Wait,
    "NOT_FOUND": GiveUp,
    "ALREADY_EXISTS": GiveUp,
    "PERMISSION_DENIED": Wait,  # as 403
    "RESOURCE_EXHAUSTED": GiveUp,
    "FAILED_PRECONDITION": GiveUp,
    "ABORTED": Wait,
    "OUT_OF_RANGE": Split,
    "UNIMPLEMENTED": GiveUp,
    "INTERNAL": Split,
    "UNAVAILABLE": Wait,
    "DATA_LOSS": Wait,
    "UNAUTHENTICATED": Wait,  # as 401
}


def test_the_table_has_every_status_by_its_number_and_name() -> None:
    assert {code: row.name for code, row in retry_grpc.CODES.items()} == {code.value[0]: code.name for code in Code}
    assert set(MEANINGS) == {row.name for code, row in retry_grpc.CODES.items() if code}


@pytest.mark.parametrize("name", MEANINGS)
def test_each_status_means(name: str) -> None:
    decision = answer(Code[name].value[0], "because")
    assert type(decision) is MEANINGS[name]
    assert not isinstance(decision, Done)
    assert decision.detail.startswith(f"gRPC {name}")
    assert decision.detail.endswith("(it says: because)")


@pytest.mark.parametrize("name", ["CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "UNAVAILABLE"])
def test_what_may_pass_is_waited_for_however_often(name: str) -> None:
    assert isinstance(answer(Code[name].value[0], attempt=1000), Wait)


def test_a_server_that_stumbles_again_and_again_gets_halves() -> None:
    assert isinstance(answer(2, attempt=retry.MAX_SERVER_ERRORS), Split)


@pytest.mark.parametrize(
    "message",
    [
        "SERVER: Received message larger than max (51060 vs. 20000)",
        "grpc: received message larger than max (5242884 vs. 4194304)",
        "gRPC message exceeds maximum size 4194304: 5242880",
        "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes",
    ],
)
def test_what_is_too_large_is_split_whatever_the_status_that_says_so(message: str) -> None:
    for code in (8, 11, 2, 13):
        decision = answer(code, message)
        assert isinstance(decision, Split)
        assert decision.reason is DropReason.TOO_LARGE
    assert isinstance(answer(2, "Received http2 header with status: 413"), Split), "a proxy's answer"


@pytest.mark.parametrize(
    "place", [in_status(3, 500_000_000), {retry_grpc.RETRY_INFO: retry_info(3, 500_000_000).SerializeToString()}]
)
def test_retry_info_is_read_in_both_places_and_makes_resource_exhausted_worth_waiting(place: dict[str, bytes]) -> None:
    for code in (8, 14):
        decision = answer(code, **place)
        assert isinstance(decision, Wait)
        assert 3.5 <= decision.seconds <= 3.85


def test_no_server_parks_our_spans_for_days_nor_makes_us_ask_without_a_pause() -> None:
    long, none, ago = (answer(8, **in_status(seconds)) for seconds in (10**9, 0, -7))
    assert isinstance(long, Wait)
    assert long.seconds <= retry.MAX_RETRY_AFTER_S * 1.1
    for decision in (none, ago):
        assert isinstance(decision, Wait)
        assert decision.seconds == retry.backoff_s(0, 0.5)


@pytest.mark.parametrize("name", [retry_grpc.DETAILS, retry_grpc.RETRY_INFO])
@pytest.mark.parametrize("value", [b"", b"\xff\xff\xff", b"garbage"])
def test_a_retry_info_that_cannot_be_read_is_none(name: str, value: bytes) -> None:
    assert isinstance(answer(8, **{name: value}), GiveUp)
    assert isinstance(answer(14, **{name: value}), Wait)


def test_one_place_that_cannot_be_read_does_not_spoil_the_other() -> None:
    trailers = {retry_grpc.DETAILS: b"\xff\xff", retry_grpc.RETRY_INFO: retry_info(2).SerializeToString()}
    assert isinstance(answer(8, **trailers), Wait)
    assert retry_grpc.retry_delay_s({retry_grpc.DETAILS: "not base64 ä"}) is None


@pytest.mark.parametrize("code", ["", "x", "99", "-1"])
def test_a_status_that_nobody_knows_is_unknown(code: str) -> None:
    row = retry_grpc.row({retry_grpc.STATUS: code})
    assert row is not None
    assert row.name == "UNKNOWN"
    assert retry_grpc.http_status(99) == 500


def test_what_will_not_change_says_what_to_check() -> None:
    for name, hint in {"NOT_FOUND": "endpoint=", "UNIMPLEMENTED": "4317"}.items():
        decision = answer(Code[name].value[0])
        assert isinstance(decision, GiveUp)
        assert decision.reason is DropReason.REJECTED
        assert hint in decision.detail


@pytest.mark.parametrize(("name", "status"), [("UNAUTHENTICATED", 401), ("PERMISSION_DENIED", 403)])
def test_refused_credentials_are_as_over_http(name: str, status: int) -> None:
    decision = answer(Code[name].value[0])
    over_http = decide(Request("otlp", "u", {}, b"", ()), Response(status), attempt=0, now=0, jitter=0.5)
    assert isinstance(decision, Wait)
    assert isinstance(over_http, Wait)
    assert decision._replace(detail="") == over_http._replace(detail="")
    assert "headers=" in decision.detail


def test_a_message_is_one_line_that_a_terminal_can_show() -> None:
    decision = answer(3, "line\n\x1b[31mred\x00 " + "x" * 5000)
    assert isinstance(decision, Split)
    assert decision.detail.isprintable()
    assert len(decision.detail) <= 200


def test_a_partial_success_whose_message_looks_like_json_is_still_read() -> None:
    partial = ExportTracePartialSuccess(rejected_spans=3, error_message='{"code": 7}')
    body = ExportTraceServiceResponse(partial_success=partial).SerializeToString()
    request = Request("otlp", "u", {}, b"", ("a", "b", "c", "d"))
    assert decide(request, Response(200, {}, body), attempt=0, now=0, jitter=0) == Done(3, '{"code": 7}')


# -- on the wire -------------------------------------------------------------------------------------------------------


def test_spans_go_to_the_servicer_with_the_users_metadata_and_none_of_langfuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk-lf-1")
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk-lf-SECRET")
    with GrpcServer() as server:
        sender = exporter(server, headers={"X-Team": "us"})
        assert sender.export(sdk_spans(["a", "b"], text="Grüße")) is SUCCESS
        assert sender.stats() == (2, 2, 0, {}, 0)
        call = server.received[0]
        assert call.names == ["a", "b"]
        assert call.metadata["x-team"] == "us"
        assert call.metadata["user-agent"].startswith("otel-langfuse/")
        assert set(call.metadata) == {"x-team", "user-agent"}
        sender.shutdown()


@pytest.mark.parametrize(("compression", "low", "high"), [("gzip", 0, 100_000), ("none", 1_000_000, 1_100_000)])
def test_compression_is_on_the_wire(compression: str, low: int, high: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with Proxy() as proxy, GrpcServer() as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "elsewhere")
        monkeypatch.setenv("NO_PROXY", "elsewhere")
        sender = exporter(server, compression=compression)
        assert sender.export(sdk_spans(["a"], text="x" * 1_000_000)) is SUCCESS
        sender.shutdown()
        deadline = time.monotonic() + 5
        while not proxy.sent_bytes and time.monotonic() < deadline:  # it counts when the connection ends
            time.sleep(0.01)
        assert low < proxy.sent_bytes < high
        assert proxy.targets == [f"127.0.0.1:{server.port}"]


@pytest.mark.parametrize(
    "environ",
    [{"https_proxy": "{}"}, {"grpc_proxy": "{}"}, {"http_proxy": "{}", "no_proxy": "*"}],
    ids=" ".join,
)
def test_which_proxy_is_asked_is_as_over_http_not_as_grpcio_has_it(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Proxy() as proxy, GrpcServer() as server:
        for name, value in environ.items():
            monkeypatch.setenv(name, value.format(proxy.url))
        sender = exporter(server)
        assert sender.export(sdk_spans(["a"])) is SUCCESS
        sender.shutdown()
        assert not proxy.asked


def test_a_call_that_is_not_answered_ends_in_time_and_the_next_one_has_a_new_connection() -> None:
    with GrpcServer(hang, ok) as server:
        transport = GrpcTransport(server.url, {})
        begin = time.monotonic()
        response = transport.send(post(server.url), 0.3)
        assert time.monotonic() - begin < 0.3 + SLACK_S
        assert (response.status, response.headers[retry_grpc.STATUS]) == (504, "4")
        assert transport.send(post(server.url), 5).status == 200
        assert server.received[0].peer != server.received[1].peer
        transport.close()


def test_the_connection_is_kept_while_it_works() -> None:
    with GrpcServer() as server:
        transport = GrpcTransport(server.url, {})
        assert {transport.send(post(server.url), 5).status for _ in range(5)} == {200}
        assert len({call.peer for call in server.received}) == 1
        transport.close()


def test_a_server_that_comes_back_is_found_at_once() -> None:
    with GrpcServer() as server:
        transport = GrpcTransport(server.url, {})
        assert transport.send(post(server.url), 5).status == 200
        port = server.port
    response = transport.send(post(server.url), 5)
    assert (response.status, response.headers[retry_grpc.STATUS]) == (503, "14")
    with GrpcServer(port=port) as server:
        begin = time.monotonic()
        assert transport.send(post(server.url), 5).status == 200
        assert time.monotonic() - begin < SLACK_S, "grpcio's own backoff would have refused for a second"
        transport.close()


def test_an_unreachable_server_is_an_answer_of_one_line() -> None:
    with closed_port() as url:
        sender = exporter(url, timeout=0.5)
        assert sender.export(sdk_spans(["a"])) is FAILURE
        assert sender.stats().dropped == {"send_failed": 1}
        response = GrpcTransport(url, {}).send(post(url), 2)
        assert response.status == 503
        assert "refused" in response.headers[retry_grpc.MESSAGE].lower()


def test_what_stumbles_once_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "grpc._server")
    script = (stumble, abort(Code.UNAVAILABLE), abort(Code.ABORTED), abort(Code.RESOURCE_EXHAUSTED, trailer_s=0.1), ok)
    with GrpcServer(*script) as server:
        sender = exporter(server)
        assert sender.export(sdk_spans(["a", "b"])) is SUCCESS
        assert len(server.received) == 5
        assert server.names == ["a", "b"]
        sender.shutdown()


def test_one_span_that_the_server_cannot_take_costs_its_neighbours_nothing() -> None:
    bad = when(lambda call: "bad" in call.names, abort(Code.INVALID_ARGUMENT, "no such span"), ok)
    with GrpcServer(bad) as server:
        sender = exporter(server)
        assert sender.export(sdk_spans(["a", "b", "bad", "c"])) is FAILURE
        assert sorted(server.names) == ["a", "b", "c"]
        assert sender.stats() == (4, 3, 0, {"rejected": 1}, 0)
        sender.shutdown()


def test_one_span_that_is_too_large_costs_its_neighbours_nothing() -> None:
    with GrpcServer(max_bytes=20_000) as server:
        sender = exporter(server)
        spans = [*sdk_spans([f"s{i}" for i in range(9)], text="x" * 100), *sdk_spans(["giant"], text="y" * 30_000)]
        sender.export(spans)
        assert {f"s{i}" for i in range(9)} <= set(server.names)
        stats = sender.stats()
        assert stats.started == 10 == stats.exported + sum(stats.dropped.values())
        sender.shutdown()


def test_credentials_are_in_no_repr_error_or_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def echo(exchange: Any) -> Any:
        return abort(Code.UNAUTHENTICATED, f"you sent {exchange.call.metadata['authorization']}")(exchange)

    with GrpcServer(echo) as server:
        sender = exporter(server, headers={"Authorization": "Bearer SECRET-TOKEN"})
        sender.export(sdk_spans(["a"]))
        assert server.received[0].metadata["authorization"] == "Bearer SECRET-TOKEN"
        response = sender._outgoing._transport.send(post(server.url), 5)
        assert response.status == 401
        assert "you sent" in caplog.text
        for text in (caplog.text, repr(response), repr(sender._outgoing._transport), repr(sender.target)):
            assert "SECRET" not in text
        sender.shutdown()


def test_another_server_gets_nothing() -> None:
    with GrpcServer() as ours, GrpcServer() as other:
        transport = GrpcTransport(ours.url, {"authorization": "Bearer SECRET"})
        assert transport.send(post(other.url), 5).status is None
        assert not other.received


def test_what_it_sends_is_not_instrumented(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    channel = grpc.insecure_channel

    def look(*args: Any) -> Any:  # where opentelemetry-instrumentation-grpc puts its interceptor
        seen.append(otel_context.get_value(_SUPPRESS_INSTRUMENTATION_KEY))
        return channel(*args)

    monkeypatch.setattr(grpc, "insecure_channel", look)
    with GrpcServer() as server:
        GrpcTransport(server.url, {}).send(post(server.url), 5)
    assert seen == [True]


def test_many_threads_may_send_at_once_and_a_hung_call_holds_up_no_other() -> None:
    with GrpcServer(hang, ok) as server:
        transport = GrpcTransport(server.url, {})
        statuses: list[int | None] = []
        first = threading.Thread(target=lambda: statuses.append(transport.send(post(server.url), 1).status))
        first.start()
        while not server.received:
            time.sleep(0.01)
        others = [
            threading.Thread(target=lambda: statuses.extend(transport.send(post(server.url), 5).status for _ in range(10)))
            for _ in range(4)
        ]
        for thread in others:
            thread.start()
        for thread in others:
            thread.join()
        assert statuses == [200] * 40
        first.join()
        assert statuses[-1] == 504
        transport.close()


def test_closing_ends_what_is_on_its_way_and_a_later_call_works() -> None:
    with GrpcServer(hang, ok) as server:
        transport = GrpcTransport(server.url, {})
        ended: list[Response] = []
        thread = threading.Thread(target=lambda: ended.append(transport.send(post(server.url), 30)))
        thread.start()
        while not server.received:
            time.sleep(0.01)
        transport.close()
        thread.join(5)
        assert [response.headers[retry_grpc.STATUS] for response in ended] == ["1"]
        assert transport.send(post(server.url), 5).status == 200
        transport.close()


def test_a_connection_that_was_given_up_is_closed_when_its_last_call_has_ended() -> None:
    with GrpcServer(late(0.2, ok), hang, ok) as server:
        transport = GrpcTransport(server.url, {})
        thread = threading.Thread(target=transport.send, args=(post(server.url), 5))
        thread.start()
        while not server.received:
            time.sleep(0.01)
        line = transport._line
        assert line is not None
        assert transport.send(post(server.url), 0.1).status == 504
        assert transport._line is None
        thread.join()
        assert len(server.taken) == 1, "what was on the old connection arrived"
        with pytest.raises(ValueError, match="closed channel"):
            line.channel.unary_unary("/x")(b"", timeout=1)


# -- settings ----------------------------------------------------------------------------------------------------------


def test_langfuse_has_no_grpc() -> None:
    with pytest.raises(ConfigError, match=r"protocol='grpc': expected http/protobuf or http/json.*endpoint="):
        LangfuseOTLPExporter(public_key="pk", secret_key="sk", protocol="grpc")


def test_without_grpcio_it_says_which_extra_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    monkeypatch.delitem(sys.modules, "otel_langfuse.transport._grpc")
    with pytest.raises(ConfigError, match=r"protocol='grpc'.*otel-langfuse\[otlp\]"):
        exporter("http://127.0.0.1:4317")


def test_grpcio_is_not_loaded_for_http() -> None:
    program = (
        "import sys; from otel_langfuse import LangfuseOTLPExporter as E; "
        "E(endpoint='http://127.0.0.1:9/v1/traces'); assert 'grpc' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


@pytest.mark.parametrize(
    "endpoint", ["http://host:4318/v1/traces", "host:4317", "grpc://host:4317", "http://user:SECRET@host:1", ""]
)
def test_an_endpoint_that_grpc_cannot_use_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match=r"endpoint=\.\.\.: expected http\(s\)://host:port") as raised:
        exporter(endpoint)
    assert "SECRET" not in str(raised.value)


@pytest.mark.parametrize("headers", [{"grpc-timeout": "1"}, {"x-bin": "y"}, {"x!": "y"}, {"x": "Grüße SECRET"}])
def test_headers_that_are_no_metadata_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"headers.*for gRPC") as raised:
        exporter("http://127.0.0.1:1", headers=headers)
    assert "SECRET" not in str(raised.value)


def test_a_protocol_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="protocol='http': expected http/protobuf or http/json or grpc"):
        LangfuseOTLPExporter(endpoint="http://127.0.0.1:1", protocol="http")


# -- a real collector --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not HAS_COLLECTOR, reason="rotel is not installed, or does not run here")
def test_a_real_collector_that_says_out_of_range_gets_halves(collector: Collector) -> None:  # noqa: F811
    sender = exporter(f"http://{collector.grpc}", max_request_bytes=64 << 20, timeout=10, compression="none")
    suffix = " beyond four megabytes!"
    spans = sdk_spans([f"{i}{suffix}" for i in range(6)], text="x" * 1_000_000)
    assert sender.export(spans) is SUCCESS
    assert sender.stats() == (6, 6, 0, {}, 0)
    assert len(collector.spans(suffix, 6)) == 6
    whole, *_ = sender._outgoing._transport.send(requests_of(sender, spans)[0], 5)
    assert whole == retry_grpc.CODES[11].http_status, "it is rotel's OUT_OF_RANGE that was met"
    sender.shutdown()


def requests_of(sender: LangfuseOTLPExporter, spans: Any) -> list[Request]:
    return requests(from_sdk(spans)[0], sender.target, now="", seen=set())[0]


# -- processes ---------------------------------------------------------------------------------------------------------

FORK = """
import os, sys, threading, time
if sys.argv[2] == "with fork support":
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "true"
from opentelemetry.sdk.trace import TracerProvider
from otel_langfuse import LangfuseOTLPExporter, LangfuseSpanProcessor
processor = LangfuseSpanProcessor(LangfuseOTLPExporter(endpoint=sys.argv[1], protocol="grpc"), flush_at=1)
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(processor)
tracer = provider.get_tracer("fork")
tracer.start_span("before").end()
assert processor.force_flush(5000)
tracer.start_span("in flight").end()  # the server takes its time
time.sleep(0.2)
pid = os.fork()
tracer.start_span("child" if pid == 0 else "parent").end()
flushed = processor.force_flush(5000)
if pid == 0:
    os._exit(0 if flushed else 7)
deadline = time.monotonic() + 8
while not (ended := os.waitpid(pid, os.WNOHANG))[0] and time.monotonic() < deadline:
    time.sleep(0.02)
if not ended[0]:
    os.kill(pid, 9)
    sys.exit("the child hangs")
assert os.waitstatus_to_exitcode(ended[1]) == 0, ended
assert flushed
tracer.start_span("at exit").end()  # delivered by what the interpreter's end does
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("which", ["with fork support", "as it comes"])
def test_parent_and_child_of_a_fork_both_deliver_each_its_own(which: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(FORK)
    slow = when(lambda call: "in flight" in call.names, late(0.6, ok), ok)
    with GrpcServer(slow) as server:
        command = [sys.executable, "program.py", server.url, which]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        names = server.names
        assert set(names) == {"before", "in flight", "child", "parent", "at exit"}
        assert len(names) == 5 + (names.count("in flight") - 1), "only what was interrupted may come twice"


def test_a_forked_child_does_not_wait_for_its_parents_lock() -> None:
    with GrpcServer() as server:
        transport = GrpcTransport(server.url, {})
        taken, go = threading.Event(), threading.Event()

        def hold() -> None:
            with transport._lock:
                taken.set()
                go.wait(5)

        thread = threading.Thread(target=hold)
        thread.start()
        taken.wait(5)
        line = transport._line
        transport.reset()
        assert line is None
        assert transport.send(post(server.url), 5).status == 200
        go.set()
        thread.join()
        transport.close()


def test_behind_the_processor_a_hung_server_does_not_hold_up_a_flush() -> None:
    with GrpcServer(hang) as server:
        processor = LangfuseSpanProcessor(exporter(server), flush_interval=60)
        provider_with(processor).get_tracer("t").start_span("a").end()
        begin = time.monotonic()
        assert processor.force_flush(300) is False
        assert time.monotonic() - begin < 0.3 + SLACK_S
        processor.shutdown(300)
        assert time.monotonic() - begin < 0.6 + 2 * SLACK_S
        assert processor.stats().dropped == {"send_failed": 1}
