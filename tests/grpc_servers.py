"""A real gRPC server on loopback with OTLP's generated servicer: it answers by a script, and keeps what it took.

``with GrpcServer(abort(UNAVAILABLE), ok) as server:`` answers so in turn; the last step goes on for ever.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent import futures
from typing import Any, NamedTuple

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as services


class Call(NamedTuple):
    """One call. ``metadata`` as it came, ``at`` is ``time.monotonic()``."""

    request: messages.ExportTraceServiceRequest
    metadata: Mapping[str, str]
    peer: str
    at: float

    @property
    def names(self) -> list[str]:
        return [span.name for part in self.request.resource_spans for scope in part.scope_spans for span in scope.spans]


class Exchange(NamedTuple):
    """What a step of a script works with."""

    call: Call
    context: Any
    server: GrpcServer


Step = Callable[[Exchange], messages.ExportTraceServiceResponse]
"""Answers one call, or aborts it."""


class GrpcServer(services.TraceServiceServicer):
    """A server on 127.0.0.1. ``max_bytes`` is what it takes in one message (grpcio's default is 4 MiB)."""

    def __init__(self, *script: Step, credentials: Any = None, max_bytes: int | None = None, port: int = 0) -> None:
        self._script = list(script) or [ok]
        self._lock = threading.Lock()
        self.stopped = threading.Event()
        self.received: list[Call] = []
        self.taken: list[Call] = []
        options = [("grpc.so_reuseport", 0)]
        options += [("grpc.max_receive_message_length", max_bytes)] if max_bytes else []
        self._server = grpc.server(futures.ThreadPoolExecutor(8), options=options)
        services.add_TraceServiceServicer_to_server(self, self._server)
        address = f"127.0.0.1:{port}"
        scheme = "http" if credentials is None else "https"
        self.port = (
            self._server.add_insecure_port(address) if credentials is None else self._server.add_secure_port(address, credentials)
        )
        self.url = f"{scheme}://127.0.0.1:{self.port}"

    def __enter__(self) -> GrpcServer:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self._server.stop(0).wait(5)

    @property
    def names(self) -> list[str]:
        """Names of the spans that were taken."""
        return [name for call in self.taken for name in call.names]

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name that OTLP gives it
        call = Call(request, dict(context.invocation_metadata()), context.peer(), time.monotonic())
        with self._lock:
            self.received.append(call)
            step = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        return step(Exchange(call, context, self))


# -- steps -------------------------------------------------------------------------------------------------------------


def ok(exchange: Exchange) -> messages.ExportTraceServiceResponse:
    """Takes it."""
    exchange.server.taken.append(exchange.call)
    return messages.ExportTraceServiceResponse()


def partly(rejected: int, message: str) -> Step:
    """Takes it but for some spans."""

    def step(exchange: Exchange) -> messages.ExportTraceServiceResponse:
        ok(exchange)
        partial = messages.ExportTracePartialSuccess(rejected_spans=rejected, error_message=message)
        return messages.ExportTraceServiceResponse(partial_success=partial)

    return step


def abort(code: grpc.StatusCode, message: str = "no", *, details_s: float | None = None, trailer_s: float | None = None) -> Step:
    """Refuses it, with a RetryInfo in the status's details, or in a trailer of its own, where seconds are given."""

    def step(exchange: Exchange) -> messages.ExportTraceServiceResponse:
        trailers: list[tuple[str, bytes]] = []
        if details_s is not None:
            detail = AnyMessage()
            detail.Pack(_info(details_s))
            status = status_pb2.Status(code=code.value[0], message=message, details=[detail])
            trailers.append(("grpc-status-details-bin", status.SerializeToString()))
        if trailer_s is not None:
            trailers.append(("google.rpc.retryinfo-bin", _info(trailer_s).SerializeToString()))
        exchange.context.set_trailing_metadata(trailers)
        exchange.context.abort(code, message)
        raise AssertionError

    return step


def _info(seconds: float) -> error_details_pb2.RetryInfo:
    return error_details_pb2.RetryInfo(retry_delay=Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9)))


def stumble(exchange: Exchange) -> messages.ExportTraceServiceResponse:
    """Raises, of which grpcio makes UNKNOWN."""
    raise ValueError("the servicer stumbled")


def hang(exchange: Exchange) -> messages.ExportTraceServiceResponse:
    """Never answers."""
    exchange.server.stopped.wait(60)
    return messages.ExportTraceServiceResponse()


def late(seconds: float, then: Step) -> Step:
    """Answers after a while."""

    def step(exchange: Exchange) -> messages.ExportTraceServiceResponse:
        exchange.server.stopped.wait(seconds)
        return then(exchange)

    return step


def when(condition: Callable[[Call], bool], then: Step, otherwise: Step) -> Step:
    """One of two steps."""
    return lambda exchange: (then if condition(exchange.call) else otherwise)(exchange)


def until_s(seconds: float, before: Step, after: Step) -> Step:
    """One step for so many seconds from the server's first call on, then another."""

    def step(exchange: Exchange) -> messages.ExportTraceServiceResponse:
        elapsed_s = time.monotonic() - exchange.server.received[0].at
        return (before if elapsed_s < seconds else after)(exchange)

    return step
