"""Real servers on loopback, for any test: they take what is sent, answer by a script, and keep what they took.

``with Server(status(500), status(500), status(200)) as server:`` answers so in turn; the last step goes on for ever.
"""

from __future__ import annotations

import gzip
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider


class Received(NamedTuple):
    """One request, its body decompressed; ``wire_bytes`` as it came. ``at`` is ``time.monotonic()``."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    wire_bytes: int
    at: float

    @property
    def spans(self) -> list[trace_pb2.Span]:
        request = ExportTraceServiceRequest.FromString(self.body)
        return [span for part in request.resource_spans for scope in part.scope_spans for span in scope.spans]

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.spans]

    @property
    def events(self) -> list[dict[str, Any]]:
        """Langfuse's ingestion events."""
        return json.loads(self.body)["batch"]


class Exchange(NamedTuple):
    """What a step of a script works with."""

    handler: Any
    received: Received
    stopped: threading.Event
    take: Callable[[], None]
    """To be called before an answer that says so: the content was taken."""


Step = Callable[[Exchange], None]
"""Answers one request."""


class Server(ThreadingHTTPServer):
    """A server on 127.0.0.1 that answers POSTs by its script. Without ``listens`` it refuses connections until ``listen``."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, *script: Step, listens: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), _Handler, bind_and_activate=False)
        self.server_bind()
        self._listens = listens
        self._script = list(script) or [status(200)]
        self._lock = threading.Lock()
        self.stopped = threading.Event()
        self.clients: list[Any] = []
        """One address for each connection."""
        self.received: list[Received] = []
        self.taken: list[Received] = []

    def listen(self) -> None:
        """From now on it takes connections."""
        self._listens = True
        self.server_activate()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def __enter__(self) -> Server:
        if self._listens:
            self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        if self._listens:
            self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def names(self) -> list[str]:
        """Names of the spans that were taken."""
        return [name for received in self.taken for name in received.names]

    def process_request(self, request: Any, client_address: Any) -> None:
        self.clients.append(client_address)
        super().process_request(request, client_address)

    def answer(self, handler: Any, received: Received) -> None:
        with self._lock:
            self.received.append(received)
            step = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        step(Exchange(handler, received, self.stopped, lambda: self.taken.append(received)))

    def handle_error(self, request: Any, client_address: Any) -> None:  # a client that went away is no news
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_POST(self) -> None:
        wire = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        body = gzip.decompress(wire) if self.headers.get("Content-Encoding") == "gzip" else wire
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.answer(self, Received(self.path, headers, body, len(wire), time.monotonic()))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that the base class gives it
        pass


# -- steps -------------------------------------------------------------------------------------------------------------


def status(code: int, body: bytes = b"{}", **headers: str) -> Step:
    """Answers with a status. ``Retry_After="1"`` becomes the header ``Retry-After``."""

    def step(exchange: Exchange) -> None:
        handler = exchange.handler
        if 200 <= code < 300:
            exchange.take()
        handler.send_response(code)
        sent = {"Content-Type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
        for name, text in sent.items():
            handler.send_header(name, text)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return step


def multi_status(judge: Callable[[dict[str, Any]], dict[str, Any] | None]) -> Step:
    """Answers as Langfuse's ingestion route: 207, where ``judge`` says for each event what is wrong with it, or None."""

    def step(exchange: Exchange) -> None:
        events = exchange.received.events
        errors = [{"id": event["id"], **wrong} for event in events if (wrong := judge(event)) is not None]
        refused = {error["id"] for error in errors}
        taken = [{"id": event["id"], "status": 201} for event in events if event["id"] not in refused]
        status(207, json.dumps({"successes": taken, "errors": errors}).encode())(exchange)

    return step


def when(condition: Callable[[Received], bool], then: Step, otherwise: Step) -> Step:
    """One of two steps."""

    def step(exchange: Exchange) -> None:
        (then if condition(exchange.received) else otherwise)(exchange)

    return step


def hang(exchange: Exchange) -> None:
    """Never answers."""
    exchange.stopped.wait(60)


def late(seconds: float, then: Step) -> Step:
    """Answers after a while."""

    def step(exchange: Exchange) -> None:
        exchange.stopped.wait(seconds)
        then(exchange)

    return step


def reset(exchange: Exchange) -> None:
    """Resets the connection."""
    connection = exchange.handler.connection
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    exchange.handler.close_connection = True
    os.close(connection.detach())


def garbage(exchange: Exchange) -> None:
    """Answers with what is no HTTP, and closes."""
    exchange.handler.wfile.write(bytes(range(256)) * 4)
    exchange.handler.close_connection = True


def half_body(code: int) -> Step:
    """Promises a body of 100 bytes, sends ten and closes."""

    def step(exchange: Exchange) -> None:
        if 200 <= code < 300:
            exchange.take()
        exchange.handler.wfile.write(b"HTTP/1.1 %d X\r\nContent-Length: 100\r\n\r\n{%9s" % (code, b""))
        exchange.handler.close_connection = True

    return step


def trickle(prefix: bytes, byte: bytes, interval_s: float) -> Step:
    """Sends ``prefix`` and then one byte after the other, for ever."""

    def step(exchange: Exchange) -> None:
        exchange.handler.wfile.write(prefix)
        while not exchange.stopped.wait(interval_s):
            exchange.handler.wfile.write(byte)

    return step


@contextmanager
def closed_port() -> Iterator[str]:
    """A URL where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"


# -- spans -------------------------------------------------------------------------------------------------------------


class _Keep(SpanProcessor):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


def sdk_spans(names: Iterable[str], **attributes: Any) -> list[ReadableSpan]:
    """Finished spans of the real SDK."""
    provider = TracerProvider(shutdown_on_exit=False)
    keep = _Keep()
    provider.add_span_processor(keep)
    tracer = provider.get_tracer("tests", "1.0")
    for name in names:
        tracer.start_span(name, attributes=attributes).end()
    return keep.spans


def provider_with(processor: SpanProcessor) -> TracerProvider:
    """An SDK provider that ends with the test, not with the process."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return provider
