"""Our exporter beside OpenTelemetry's own, in front of the same server: what arrived, in how many calls, and what was said of it.

Each scenario is a mistake of the stock exporters that protocol.md 5 names and that shows at an exporter's door, without a
processor. ``python tests/versus.py`` prints the two columns; tests/test_grpc.py holds ours to what it should be.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import grpc
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as StockGrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as StockHttpExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTracePartialSuccess, ExportTraceServiceResponse
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from grpc_servers import GrpcServer, abort, ok, partly
from otel_langfuse import LangfuseOTLPExporter
from servers import Server, sdk_spans, status, when

TIMEOUT_S = 2.5
SDK = tuple(int(part) for part in importlib.metadata.version("opentelemetry-sdk").split(".")[:2])
STOCK_HAS_A_DEADLINE = SDK >= (1, 35)
"""Before that, its retries take more than a minute, whatever its timeout."""


class Outcome(NamedTuple):
    """Of one export: spans that the server took, calls that it got, whether success was claimed, and how long it took."""

    delivered: int
    calls: int
    success: bool
    seconds: float

    def __str__(self) -> str:
        said = "success" if self.success else "failure"
        return f"{self.delivered} delivered, {self.calls} calls, {self.seconds:.1f} s, says {said}"


class Scenario(NamedTuple):
    """``run`` makes the server and exports to it; ``right`` says whether an outcome is what it should be."""

    title: str
    spans: int
    run: Callable[[str, list[ReadableSpan]], Outcome]
    right: Callable[[Outcome], bool]
    should: str
    size: int = 10

    def outcome(self, which: str) -> Outcome:
        """Runs it for ``ours`` or ``stock``."""
        return self.run(which, sdk_spans([f"span {i}" for i in range(self.spans)], text="x" * self.size))


def over_http(*script: Any, refused: int = 0) -> Callable[[str, list[ReadableSpan]], Outcome]:
    def run(which: str, spans: list[ReadableSpan]) -> Outcome:
        with Server(*script) as server:
            url = f"{server.url}/v1/traces"
            exporter = (
                LangfuseOTLPExporter(endpoint=url, timeout=TIMEOUT_S)
                if which == "ours"
                else StockHttpExporter(endpoint=url, timeout=TIMEOUT_S)
            )
            return exported(exporter, spans, lambda: (len(server.names) - refused, len(server.received)))

    return run


def over_grpc(*script: Any, refused: int = 0, max_bytes: int | None = None) -> Callable[[str, list[ReadableSpan]], Outcome]:
    def run(which: str, spans: list[ReadableSpan]) -> Outcome:
        with GrpcServer(*script, max_bytes=max_bytes) as server:
            exporter = (
                LangfuseOTLPExporter(endpoint=server.url, protocol="grpc", timeout=TIMEOUT_S)
                if which == "ours"
                else StockGrpcExporter(endpoint=server.url, insecure=True, timeout=int(TIMEOUT_S))
            )
            return exported(exporter, spans, lambda: (len(server.names) - refused, len(server.received)))

    return run


def exported(exporter: SpanExporter, spans: list[ReadableSpan], seen: Callable[[], tuple[int, int]]) -> Outcome:
    begin = time.monotonic()
    result = exporter.export(spans)
    seconds = time.monotonic() - begin
    exporter.shutdown()
    return Outcome(*seen(), result is SpanExportResult.SUCCESS, seconds)


def out_of_range(exchange: Any) -> Any:
    """As rotel, whose limit is on the message and whose word for it is OUT_OF_RANGE."""
    if exchange.call.request.ByteSize() > 20_000:
        return abort(grpc.StatusCode.OUT_OF_RANGE, "Error, decoded message length too large")(exchange)
    return ok(exchange)


PARTLY = ExportTraceServiceResponse(
    partial_success=ExportTracePartialSuccess(rejected_spans=1, error_message="too old")
).SerializeToString()
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED

SCENARIOS = (
    Scenario(
        "HTTP 302",
        5,
        over_http(status(302, Location="http://127.0.0.1:9/")),
        lambda o: not o.success and o.calls == 1,
        "a failure, at once",
    ),
    Scenario(
        "HTTP 413 above 20 KB",
        10,
        over_http(when(lambda received: len(received.body) > 20_000, status(413), status(200))),
        lambda o: o.success and o.delivered == 10,
        "all delivered",
        size=5000,
    ),
    Scenario(
        "HTTP 200, one span rejected",
        5,
        over_http(status(200, PARTLY), refused=1),
        lambda o: not o.success and o.calls == 1,
        "a failure, not tried again",
    ),
    Scenario(
        "gRPC OK, one span rejected",
        5,
        over_grpc(partly(1, "too old"), refused=1),
        lambda o: not o.success and o.calls == 1,
        "a failure, not tried again",
    ),
    Scenario(
        "gRPC OUT_OF_RANGE above 20 KB",
        10,
        over_grpc(out_of_range),
        lambda o: o.success and o.delivered == 10,
        "all delivered",
        size=5000,
    ),
    Scenario(
        "gRPC larger than max (grpcio)",
        10,
        over_grpc(ok, max_bytes=20_000),
        lambda o: o.success and o.delivered == 10,
        "all delivered",
        size=5000,
    ),
    Scenario(
        "gRPC RESOURCE_EXHAUSTED, no RetryInfo",
        5,
        over_grpc(abort(EXHAUSTED, "quota")),
        lambda o: not o.success and o.calls == 1,
        "a failure, not tried again",
    ),
    Scenario(
        "gRPC RESOURCE_EXHAUSTED, RetryInfo 1.8 s in the status",
        5,
        over_grpc(abort(EXHAUSTED, "quota", details_s=1.8), ok),
        lambda o: o.success and o.seconds >= 1.8,
        "delivered, after 1.8 s",
    ),
)


class Row(NamedTuple):
    """What both did in one scenario; ``stock`` is None where it was not run."""

    scenario: Scenario
    ours: Outcome
    stock: Outcome | None


def compare(scenario: Scenario) -> Row:
    """Runs a scenario for both."""
    return Row(scenario, scenario.outcome("ours"), scenario.outcome("stock") if STOCK_HAS_A_DEADLINE else None)


def compare_all() -> list[Row]:
    """All scenarios at the same time: mostly they wait."""
    with ThreadPoolExecutor(len(SCENARIOS)) as pool:
        return list(pool.map(compare, SCENARIOS))


def table(rows: Iterable[Row]) -> str:
    """The two columns, as text; what is not as it should be is marked."""

    def shown(row: Row, outcome: Outcome | None) -> str:
        if outcome is None:
            return "not run"
        return f"{'  ' if row.scenario.right(outcome) else '! '}{outcome}"

    head = ("scenario", "spans", "should be", "ours", "stock")
    lines = [head] + [
        (row.scenario.title, str(row.scenario.spans), row.scenario.should, shown(row, row.ours), shown(row, row.stock))
        for row in rows
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


if __name__ == "__main__":
    print(table(compare_all()))
