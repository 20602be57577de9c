"""What can go wrong, and what we promise then: three tables. Each row is run with our parts and with the stock SDK's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc as grpcio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTracePartialSuccess, ExportTraceServiceResponse

import grpc_servers
import sites
from application import INTERVAL_S, WRITING_S, Plan
from grpc_servers import abort
from promises import RSS_LIMIT_MIB, Scenario, all_arrive, at_least, each_is_named, hung, in_time, named_in_time, once
from servers import Received, garbage, half_body, hang, late, reset, status, trickle, when

MIB = 1 << 20

# -- servers that have limits --------------------------------------------------------------------------------------------------


def larger_than(size: int) -> Callable[[Received], bool]:
    return lambda received: received.wire_bytes > size


def out_of_range(exchange: Any) -> Any:
    """As rotel, whose limit is on the message and whose word for it is OUT_OF_RANGE."""
    if exchange.call.request.ByteSize() > 20_000:
        return abort(grpcio.StatusCode.OUT_OF_RANGE, "Error, decoded message length too large")(exchange)
    return grpc_servers.ok(exchange)


def judged(event: dict[str, Any]) -> dict[str, Any] | None:
    """A 207: the span 3 is refused for good."""
    return {"status": 400, "message": "no"} if event["body"].get("name") == "3" else None


PARTLY = ExportTraceServiceResponse(
    partial_success=ExportTracePartialSuccess(rejected_spans=1, error_message="too old")
).SerializeToString()
EXHAUSTED = grpcio.StatusCode.RESOURCE_EXHAUSTED
UNAVAILABLE = grpcio.StatusCode.UNAVAILABLE
OK = status(200)
SHORT: dict[str, Any] = {"exporter": {"timeout": 1.0}, "stock": {"timeout": 1}}
"""A timeout of a second, so that the stock exporter's patience ends sooner; ours is not bound by it."""
QUICK_FLUSHES: dict[str, Any] = {
    "ours": {"flush_interval": INTERVAL_S},
    "stock_processor": {"schedule_delay_millis": INTERVAL_S * 1000},
}

# -- the rows that the issue names ---------------------------------------------------------------------------------------------

NAMED = (
    Scenario(
        "10 minutes of outage, 100,000 spans, a restart (60 times as fast: 10 s)",
        sites.down_for(5.0, of_run=1),
        Plan(
            spans=50_000,
            spread_s=3.0,
            flush_s=60.0,
            exporter={"spool_path": "SPOOL", "spool_after": 0.5},
        ),
        "0 lost",
        all_arrive,
        runs=2,
        alone=True,
    ),
    Scenario(
        "20 spans, one of 20 MB; nginx takes 4 MB",
        sites.nginx("/small"),
        Plan(size=2000, large=20_000_000, flush_s=20.0),
        "19 delivered, at least",
        at_least(19),
        row="413 / gRPC too large",
        needs="nginx",
    ),
    Scenario(
        "500, 500, 200",
        sites.http(status(500), status(500), OK),
        Plan(),
        "all delivered",
        all_arrive,
        row="HTTP retryable",
        quick=True,
    ),
    Scenario(
        "429 with Retry-After: 30, which is longer than the timeout (as 12, with all defaults)",
        sites.http(status(429, Retry_After="12"), OK),
        Plan(flush_s=30.0),
        "all delivered, after that time",
        all_arrive,
        row="Retry-After",
    ),
    Scenario(
        "a hung server: flush(1.0), exit",
        sites.http(hang),
        Plan(spans=2000, flush_s=1.0),
        "flush 1.1 s, exit 5.5 s, each named",
        hung,
        row="shutdown",
    ),
    Scenario(
        "a hung server, 1,500 spans of 1 MB",
        sites.http(hang),
        Plan(spans=1500, size=1_000_000),
        "memory grows by less than 100 MiB, each named",
        lambda o: o.measured.rss_mib is None or o.measured.rss_mib < RSS_LIMIT_MIB,
        alone=True,
    ),
    Scenario(
        "a burst of 50,000", sites.http(OK), Plan(spans=50_000, flush_s=30.0), "0 lost", all_arrive, row="queue", alone=True
    ),
    Scenario(
        "SIGKILL in the middle, with write-ahead",
        sites.http(OK),
        Plan(program="go_on", exporter={"spool_path": "SPOOL", "spool_mode": "always"}, flush_s=10.0, **QUICK_FLUSHES),
        f"lost is at most what ended in the last interval, {INTERVAL_S} s (here {INTERVAL_S + WRITING_S} s)",
        lambda o: not o.unaccounted,
        runs=2,
    ),
    Scenario(
        "SIGKILL in an outage, with write-ahead",
        sites.down_for(2.0, of_run=1),
        Plan(program="go_on", exporter={"spool_path": "SPOOL", "spool_mode": "always"}, flush_s=20.0, **QUICK_FLUSHES),
        f"lost is at most what ended in the last interval, {INTERVAL_S} s (here {INTERVAL_S + WRITING_S} s)",
        lambda o: not o.unaccounted,
        runs=2,
    ),
    Scenario(
        "fork; the child ends with os._exit",
        sites.http(OK),
        Plan(program="fork", spans=30),
        "all delivered, each once",
        all_arrive,
        row="fork",
        quick=True,
    ),
    Scenario("multiprocessing.Pool", sites.http(OK), Plan(program="pool"), "all delivered, each once", all_arrive),
    Scenario(
        "20 s of 10,000 spans a second, a queue of 20,000, 1 s for each request",
        sites.http(late(1.0, OK)),
        Plan(
            spans=200_000,
            spread_s=20.0,
            flush_s=1.0,
            ours={"max_queue_spans": 20_000},
            stock_processor={"max_queue_size": 20_000},
        ),
        "memory grows by less than 100 MiB, a flush says no, each named, exit 5.5 s",
        lambda o: in_time(o) and o.measured.flush_said is False and (o.measured.rss_mib or 0.0) < RSS_LIMIT_MIB,
        row="queue",
        alone=True,
    ),
    Scenario(
        "a burst of 20,000 with queue_policy='wait' and a queue of 2,000, 20 ms for each request",
        sites.http(late(0.02, OK)),
        Plan(
            spans=20_000,
            flush_s=30.0,
            ours={"queue_policy": "wait", "max_wait_ms": 5000, "max_queue_spans": 2000},
            stock_processor={"max_queue_size": 2000},
        ),
        "0 lost",
        all_arrive,
        row="queue",
        alone=True,
    ),
    Scenario("SIGTERM", sites.http(OK), Plan(program="sigterm"), "all delivered", all_arrive),
    Scenario(
        "gevent: spans arrive while it computes",
        sites.http(OK),
        Plan(program="compute", **QUICK_FLUSHES),
        "all delivered",
        all_arrive,
        row="gevent",
        needs="gevent",
    ),
)

# -- protocol.md section 5, row by row -----------------------------------------------------------------------------------------

PROTOCOL = (
    Scenario(
        "302",
        sites.http(status(302, Location="http://127.0.0.1:9/")),
        Plan(),
        "each named, asked once",
        once,
        row="HTTP success",
        quick=True,
    ),
    Scenario(
        "302 of nginx",
        sites.nginx("/redir"),
        Plan(),
        "each named, nobody else is asked",
        lambda o: not o.requests and each_is_named(o),
        row="HTTP success",
        needs="nginx",
        quick=True,
    ),
    Scenario(
        "200, one span of five rejected",
        sites.http(status(200, PARTLY), refused=1),
        Plan(spans=5),
        "each named, asked once",
        once,
        row="partial_success",
        quick=True,
    ),
    Scenario(
        "gRPC OK, one span of five rejected",
        sites.grpc(grpc_servers.partly(1, "too old"), refused=1),
        Plan(spans=5, protocol="grpc"),
        "each named, asked once",
        once,
        row="partial_success",
        quick=True,
    ),
    Scenario(
        "207, one observation of five refused",
        sites.ingestion(judged),
        Plan(spans=5, protocol="ingestion"),
        "4 delivered, each named",
        lambda o: o.delivered == 4,
        row="207 (ingestion)",
        quick=True,
    ),
    Scenario("408, then 200", sites.http(status(408), OK), Plan(), "all delivered", all_arrive, row="HTTP retryable", quick=True),
    Scenario(
        "413 above 20 KB",
        sites.http(when(larger_than(20_000), status(413), OK)),
        Plan(spans=10, size=5000),
        "all delivered",
        all_arrive,
        row="413 / gRPC too large",
        quick=True,
    ),
    Scenario(
        "400 for one bad span of 20",
        sites.http(when(lambda received: "7" in received.names, status(400), OK)),
        Plan(),
        "19 delivered",
        lambda o: o.delivered == 19,
        quick=True,
    ),
    Scenario(
        "gRPC OUT_OF_RANGE above 20 KB",
        sites.grpc(out_of_range),
        Plan(spans=10, size=5000, protocol="grpc"),
        "all delivered",
        all_arrive,
        row="413 / gRPC too large",
        quick=True,
    ),
    Scenario(
        "gRPC larger than max (grpcio)",
        sites.grpc(grpc_servers.ok, max_bytes=20_000),
        Plan(spans=10, size=5000, protocol="grpc"),
        "all delivered",
        all_arrive,
        row="413 / gRPC too large",
        quick=True,
    ),
    Scenario(
        "12 spans of 500 KB over gRPC to rotel, which takes 4 MiB",
        sites.rotel(),
        Plan(spans=12, size=500_000, protocol="grpc", flush_s=10.0, exporter={"max_request_bytes": 16 * MIB}),
        "all delivered",
        all_arrive,
        row="413 / gRPC too large",
        needs="rotel",
    ),
    Scenario(
        "429 with Retry-After: 2, which is longer than the timeout",
        sites.http(status(429, Retry_After="2"), OK),
        Plan(flush_s=8.0, **SHORT),
        "all delivered, after that time",
        all_arrive,
        row="Retry-After",
        quick=True,
    ),
    Scenario(
        "gRPC RESOURCE_EXHAUSTED without RetryInfo",
        sites.grpc(abort(EXHAUSTED, "quota")),
        Plan(protocol="grpc", **SHORT),
        "asked once, each named",
        once,
        row="RESOURCE_EXHAUSTED without RetryInfo",
        quick=True,
    ),
    Scenario(
        "gRPC RESOURCE_EXHAUSTED, RetryInfo 1.8 s in the status",
        sites.grpc(
            abort(EXHAUSTED, "quota", details_s=1.8), grpc_servers.until_s(1.8, abort(EXHAUSTED, "too early"), grpc_servers.ok)
        ),
        Plan(protocol="grpc", flush_s=8.0),
        "all delivered, asked twice",
        lambda o: o.all_arrived and o.requests == 2,
        row="RetryInfo in grpc-status-details-bin",
        quick=True,
    ),
    Scenario(
        "503 for longer than the timeout",
        sites.http(sites.until_s(2.5, status(503), OK)),
        Plan(flush_s=10.0, **SHORT),
        "all delivered",
        all_arrive,
        row="jitter, attempts",
        quick=True,
    ),
    Scenario(
        "nobody listens for longer than the timeout",
        sites.down_for(3.0),
        Plan(flush_s=10.0, **SHORT),
        "all delivered",
        all_arrive,
        row="jitter, attempts",
        quick=True,
    ),
    Scenario(
        "flush(0.1) while nobody listens",
        sites.http(status(503)),
        Plan(spans=5, flush_s=0.1, stock={"timeout": 3}),
        "0.2 s, and says no",
        lambda o: o.measured.flush_said is False and (o.measured.flush_s or 0) <= 0.2 and in_time(o),
        row="force_flush(100 ms)",
        quick=True,
    ),
    Scenario(
        "401 of nginx for all of it",
        sites.nginx("/auth"),
        Plan(),
        "each named, in time",
        lambda o: in_time(o) and each_is_named(o),
        row="export result",
        needs="nginx",
        quick=True,
    ),
    Scenario(
        "401 for all of it",
        sites.http(status(401)),
        Plan(),
        "each named, in time",
        lambda o: in_time(o) and each_is_named(o),
        row="export result",
        quick=True,
    ),
    Scenario(
        "a hung server: exit with four batches",
        sites.http(hang),
        Plan(spans=2048, stock={"timeout": 2}),
        "5.5 s, each named",
        lambda o: in_time(o) and each_is_named(o),
        row="shutdown",
        quick=True,
    ),
    Scenario(
        "a burst of 5,000 to a server that takes 0.2 s for each request",
        sites.http(late(0.2, OK)),
        Plan(spans=5000, flush_s=10.0),
        "all delivered",
        all_arrive,
        row="queue",
        quick=True,
    ),
    Scenario(
        "20 spans of 1 MB; 413 above 8 MB",
        sites.http(when(larger_than(8 * MIB), status(413), OK)),
        Plan(size=MIB, flush_s=10.0),
        "all delivered",
        all_arrive,
        row="batch size",
        quick=True,
    ),
    Scenario(
        "a filter of the user's that raises for one span of 20",
        sites.http(OK),
        Plan(program="filter"),
        "19 delivered, nothing raised, each named",
        lambda o: o.delivered == 19 and not o.measured.raised,
        row="exceptions",
        quick=True,
    ),
    Scenario(
        "one span of 20 with an error message that is no UTF-8",
        sites.http(OK),
        Plan(bad=True),
        "all delivered",
        all_arrive,
        row="encode failure",
        quick=True,
    ),
)

# -- whatever a server can do --------------------------------------------------------------------------------------------------

OUTAGE = "each named, in time"


SERVERS = (
    Scenario("hangs at connect", sites.never_accepts, Plan(flush_s=1.0), OUTAGE, hung),
    Scenario("hangs after half of the headers", sites.http(trickle(b"HTTP/1.1 200 O", b"", 60)), Plan(flush_s=1.0), OUTAGE, hung),
    Scenario(
        "sends its headers byte by byte",
        sites.http(trickle(b"HTTP/1.1 200 OK\r\nX: ", b"x", 0.1)),
        Plan(flush_s=1.0),
        OUTAGE,
        hung,
    ),
    Scenario("200 with half a body", sites.http(half_body(200)), Plan(), "all delivered", all_arrive),
    Scenario("503 with half a body, then 200", sites.http(half_body(503), OK), Plan(flush_s=8.0), "all delivered", all_arrive),
    Scenario("resets twice, then 200", sites.http(reset, reset, OK), Plan(flush_s=8.0), "all delivered", all_arrive),
    Scenario("resets every connection", sites.http(reset), Plan(flush_s=1.0), OUTAGE, named_in_time),
    Scenario("garbage twice, then 200", sites.http(garbage, garbage, OK), Plan(flush_s=8.0), "all delivered", all_arrive),
    Scenario("3 s for each answer", sites.http(late(3.0, OK)), Plan(flush_s=10.0), "all delivered", all_arrive),
    Scenario(
        "502 of nginx for 3 s",
        sites.nginx("/dead", comes_back_s=3.0),
        Plan(flush_s=15.0),
        "all delivered",
        all_arrive,
        needs="nginx",
    ),
    Scenario(
        "502 of nginx for 15 s",
        sites.nginx("/dead", comes_back_s=15.0),
        Plan(flush_s=60.0),
        "all delivered",
        all_arrive,
        needs="nginx",
        row="jitter, attempts",
    ),
    Scenario(
        "503 of nginx with Retry-After: 12, for 12 s",
        sites.nginx("/down", comes_back_s=12.0, retry_after=12),
        Plan(flush_s=60.0),
        "all delivered",
        all_arrive,
        needs="nginx",
        row="Retry-After",
    ),
    Scenario(
        "429 of nginx: one request every 2 s, Retry-After: 2",
        sites.nginx("/limited", retry_after=2),
        Plan(spans=1500, flush_s=30.0),
        "all delivered",
        all_arrive,
        needs="nginx",
    ),
    Scenario("hangs, over gRPC", sites.grpc(grpc_servers.hang), Plan(protocol="grpc", flush_s=1.0), OUTAGE, hung),
    Scenario(
        "gRPC UNAVAILABLE for longer than the timeout",
        sites.grpc(grpc_servers.until_s(12.0, abort(UNAVAILABLE), grpc_servers.ok)),
        Plan(protocol="grpc", flush_s=60.0),
        "all delivered",
        all_arrive,
        row="jitter, attempts",
    ),
)

SCENARIOS = (*(scenario._replace(named=True) for scenario in NAMED), *PROTOCOL, *SERVERS)
