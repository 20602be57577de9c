"""To a real OpenTelemetry collector (rotel, from PyPI), over HTTP and gRPC, and read back from what it prints."""

from __future__ import annotations

import importlib.util
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode

from otel_langfuse import LangfuseOTLPExporter, LangfuseSpanProcessor

_rotel = importlib.util.find_spec("rotel")
AGENT = Path(_rotel.origin).with_name("rotel-agent") if _rotel is not None and _rotel.origin else None


def runs(agent: Path | None) -> bool:
    """Whether there is one, and what it needs: its wheel wants the interpreter's shared library."""
    return (
        agent is not None
        and agent.exists()
        and not subprocess.run([agent, "--version"], capture_output=True, check=False).returncode
    )


HAS_COLLECTOR = runs(AGENT)
pytestmark = [
    pytest.mark.usefixtures("every_span"),
    pytest.mark.skipif(not HAS_COLLECTOR, reason="rotel is not installed, or does not run here"),
]

ATTRIBUTES: dict[str, Any] = {
    "gen_ai.request.model": "gpt-5",
    "gen_ai.usage.input_tokens": 12,
    "gen_ai.request.temperature": 0.5,
    "flag": True,
    "tags": ("a", "b"),
    "langfuse.observation.input": '{"role":"user","content":"Grüße, \\"Welt\\""}',
}


class Collector(NamedTuple):
    """A running collector. ``spans`` waits for so many that end with a name's suffix."""

    http: str
    grpc: str
    output: Path

    def spans(self, suffix: str, count: int) -> list[dict[str, Any]]:
        deadline = time.monotonic() + 10
        printed = ""
        while time.monotonic() < deadline:
            time.sleep(0.03)
            before, printed = printed, self.output.read_text("utf-8")
            if printed == before and printed.count(f"{suffix}\n") == count:  # it has come to rest
                break
        return [span for span in parse(printed) if span["name"].endswith(suffix)]


def parse(printed: str) -> list[dict[str, Any]]:
    """The spans that rotel's debug log prints, as far as whole ones are there."""
    spans = []
    for block in re.split(r"\nSpan #\d+\n", printed)[1:]:
        block = re.split(r"\n(?:ResourceSpans|ScopeSpans) #", block)[0]  # noqa: PLW2901 - what follows belongs to others
        fields = dict(re.findall(r"^ *([A-Z][A-Za-z ]+?) *: (.*)$", block.partition("Attributes:")[0], re.MULTILINE))
        attributes = re.findall(r"^ +-> (\S+): (\w+)\((.*)\)$", block.partition("Attributes:")[2], re.MULTILINE)
        spans.append(
            {
                "name": fields["Name"],
                "trace": fields["Trace ID"],
                "id": fields["ID"],
                "parent": fields["Parent ID"],
                "kind": fields["Kind"],
                "status": fields["Status code"],
                "message": fields["Status message"],
                "times": (int(fields["Start time"]), int(fields["End time"])),
                "attributes": {key: (kind, value) for key, kind, value in attributes},
            }
        )
    return spans


def expected(span: ReadableSpan) -> dict[str, Any]:
    def shown(value: Any) -> tuple[str, str]:
        if isinstance(value, tuple):
            return "Slice", ", ".join("{}({})".format(*shown(item)) for item in value)
        kind = {str: "Str", int: "Int", float: "Double", bool: "Bool"}[type(value)]
        return kind, str(value).lower() if isinstance(value, bool) else str(value)

    return {
        "name": span.name,
        "trace": f"{span.context.trace_id:032x}",
        "id": f"{span.context.span_id:016x}",
        "parent": f"{span.parent.span_id:016x}" if span.parent else "",
        "kind": f"SPAN_KIND_{span.kind.name}",
        "status": f"STATUS_CODE_{span.status.status_code.name}",
        "message": span.status.description or "",
        "times": (span.start_time, span.end_time),
        "attributes": {key: shown(value) for key, value in (span.attributes or {}).items()},
    }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    folder = tmp_path_factory.mktemp("rotel")
    http, grpc = free_port(), free_port()
    command = [
        *(str(AGENT), "start"),
        *("--otlp-http-endpoint", f"127.0.0.1:{http}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}"),
        *("--exporter", "blackhole", "--debug-log", "traces", "--debug-log-verbosity", "detailed"),
        *("--pid-file", str(folder / "pid"), "--log-file", str(folder / "log")),
    ]
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=folder)
        try:
            for port in (http, grpc):
                wait_for(port, process)
            yield Collector(f"http://127.0.0.1:{http}/v1/traces", f"127.0.0.1:{grpc}", folder / "output")
        finally:
            process.terminate()
            process.wait(10)


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 15
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:  # noqa: PERF203 - it is the loop's purpose
            assert process.poll() is None, "rotel ended"
            assert time.monotonic() < deadline, "rotel does not listen"
            time.sleep(0.02)
        else:
            return


def exporters(collector: Collector) -> dict[str, SpanExporter]:
    return {
        "ours": LangfuseOTLPExporter(endpoint=collector.http),
        "ours, not compressed": LangfuseOTLPExporter(endpoint=collector.http, compression="none"),
        "ours, json": LangfuseOTLPExporter(endpoint=collector.http, protocol="http/json"),
        "ours, grpc": LangfuseOTLPExporter(endpoint=f"http://{collector.grpc}", protocol="grpc"),
        "ours, grpc, not compressed": LangfuseOTLPExporter(
            endpoint=f"http://{collector.grpc}", protocol="grpc", compression="none"
        ),
        "stock http": HttpExporter(endpoint=collector.http),
        "stock grpc": GrpcExporter(endpoint=collector.grpc, insecure=True),
    }


WHICH = [
    "ours",
    "ours, not compressed",
    "ours, json",
    "ours, grpc",
    "ours, grpc, not compressed",
    "stock http",
    "stock grpc",
]


@pytest.mark.parametrize("which", WHICH)
def test_what_a_real_collector_gets_is_what_the_application_recorded(collector: Collector, which: str) -> None:
    processor = LangfuseSpanProcessor(exporters(collector)[which])
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    recorded = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(recorded))
    tracer = provider.get_tracer("tests", "1.0")
    suffix = f" {which}!"
    with tracer.start_as_current_span(f"root{suffix}", kind=SpanKind.SERVER):
        for i in range(3):
            with tracer.start_as_current_span(f"child {i}{suffix}", kind=SpanKind.CLIENT, attributes=ATTRIBUTES) as span:
                span.set_attribute("i", i)
        with tracer.start_as_current_span(f"failed{suffix}") as span:
            span.set_status(Status(StatusCode.ERROR, "no such tool"))
    assert processor.force_flush()
    assert processor.stats() == (5, 5, 0, {}, 0)
    got = {span["id"]: span for span in collector.spans(suffix, 5)}
    assert got == {f"{span.context.span_id:016x}": expected(span) for span in recorded.get_finished_spans()}
    assert processor.shutdown()


def test_a_masked_span_reaches_the_collector_masked_by_any_exporter(collector: Collector) -> None:
    for which, exporter in exporters(collector).items():
        processor = LangfuseSpanProcessor(exporter, mask=lambda data: data.replace("SECRET", "***"))
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(processor)
        suffix = f" masked {which}?"
        provider.get_tracer("tests").start_span(f"SECRET{suffix}", attributes={"input": "SECRET"}).end()
        assert processor.force_flush()
        (span,) = collector.spans(suffix, 1)
        assert span["name"] == f"***{suffix}"
        assert span["attributes"] == {"input": ("Str", "***")}
        processor.shutdown()
    assert "SECRET" not in collector.output.read_text("utf-8")
