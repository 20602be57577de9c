"""What every test may rely on: no setting of the machine reaches it, and nothing on loopback goes through a proxy."""

from __future__ import annotations

import gc
import gzip
import logging
import os
import threading
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util._once import Once

from langfuse_server import PUBLIC, SECRET, LangfuseServer
from otel_langfuse import client as clients
from otel_langfuse import propagation, retry
from otel_langfuse.classic import _client, _known
from otel_langfuse.exporters import _outbox
from otel_langfuse.tracing import _origin, register

for _name in [name for name in os.environ if name.startswith(("LANGFUSE_", "OTEL_"))]:
    del os.environ[_name]
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"

pytest.register_assert_rewrite("openai_calls")  # a plugin, which its users also import from

gc.disable()  # until all is collected: what is loaded stays, and there is much of it
_remarks: list[str] = []

SLOWEST = (
    "test_spool", "test_dialect", "test_media_sending", "test_processes", "test_translate", "test_delivery", "test_explain",
    "test_processor", "test_readme", "test_exporters", "test_demo", "test_benchmarks", "test_imports", "test_grpc",
    "test_many_spans", "test_scores", "test_contracts", "test_doctor",
)  # fmt: skip
"""Files that take longest, by turns those that wait and those that compute: first, so that no worker is left alone with one."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: number for number, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture
def every_span(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what happens to spans on their way, whatever they are: all go to Langfuse, not those of LLM calls only."""
    monkeypatch.setenv("LANGFUSE_FILTER", "all")


@pytest.fixture
def remarks() -> list[str]:
    """Lines appended here are printed before pytest's own summary: what a reader should know but no test enforces."""
    return _remarks


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in _remarks:
        terminalreporter.write_line(line)


def pytest_collection_finish() -> None:
    """What all test files have loaded stays: tests that collect garbage, some of them hundreds of times, need not look at it."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    """The summary is what is read last: what the tests' processors have to say at exit is of no interest."""
    logging.getLogger("otel_langfuse").addHandler(logging.NullHandler())


@cache
def _resource() -> Resource:
    """What a provider would make for itself, which takes longer than most tests."""
    return Resource.create()


class Recorder:
    """What ``observe`` and its relatives have recorded: the finished spans of a TracerProvider of its own, in memory."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def span(self, name: str | None = None) -> ReadableSpan:
        """The only one (of this name)."""
        (found,) = [span for span in self.spans if name in (None, span.name)]
        return found

    def fields(self, name: str | None = None) -> dict[str, Any]:
        """Its attributes, by the last part of their keys."""
        return {key.removeprefix("langfuse.observation."): value for key, value in (self.span(name).attributes or {}).items()}

    def clear(self) -> None:
        self.exporter.clear()


@pytest.fixture(autouse=True)
def _nothing_is_left_configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(clients, "_clients", {})
    monkeypatch.setattr(clients, "_waiting", None)
    # What a test makes the global provider is not the next one's, which may expect that there is none.
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", trace._TRACER_PROVIDER)
    if trace._TRACER_PROVIDER is None:
        monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())
    yield
    _origin.register()
    propagation.projects.clear()
    propagation._late.clear()  # tests use the same few trace ids


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    found = Recorder()
    register(provider=found.provider)
    yield found
    register()


@pytest.fixture(autouse=True)
def _notes_anew() -> None:
    """What is said once a minute is said once a test."""
    _origin.NOTES._reset()


class OtlpSink(ThreadingHTTPServer):
    """A collector on loopback: takes everything at any path, reads it with OpenTelemetry's own messages and keeps the spans."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receiver)
        self.spans: list[Span] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def names(self) -> list[str]:
        return [span.name for span in self.spans]


class _Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: OtlpSink

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        request = ExportTraceServiceRequest.FromString(body)
        self.server.spans += [span for part in request.resource_spans for scope in part.scope_spans for span in scope.spans]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the name that BaseHTTPRequestHandler gives it
        pass


@pytest.fixture
def hurries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits a tenth as long as in production, and dead processes noticed sooner."""
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.05)
    monkeypatch.setattr(retry, "MAX_WAIT_S", 0.2)
    monkeypatch.setattr(_outbox, "TAKE_OVER_INTERVAL_S", 0.3)


@pytest.fixture
def otlp_sink() -> Iterator[OtlpSink]:
    with OtlpSink() as sink:
        threading.Thread(target=sink.serve_forever, args=(0.05,), daemon=True).start()
        yield sink
        sink.shutdown()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LangfuseServer]:
    """A Langfuse server for a program that finds it by the environment, and sets up OpenTelemetry itself."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())
    monkeypatch.setattr(_client, "_made", {})
    _known._start_anew()
    _origin.register()
    _origin.NOTES._reset()
    with LangfuseServer() as running:
        monkeypatch.setenv("LANGFUSE_BASE_URL", running.url)
        monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", PUBLIC)
        monkeypatch.setenv("LANGFUSE_SECRET_KEY", SECRET)
        yield running
        for client in list(_client._made.values()):
            client.shutdown(5)
        _origin.register()
