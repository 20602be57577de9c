"""The same spans to any OTLP collector: that of OTEL_EXPORTER_OTLP_ENDPOINT, or, where that is not set, twenty lines of one."""

from __future__ import annotations

import gzip
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from otel_langfuse import LangfuseOTLPExporter, LangfuseSpanProcessor


class Collector(BaseHTTPRequestHandler):
    """Says which spans it received."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = ExportTraceServiceRequest.FromString(gzip.decompress(body))
        names = [span.name for r in request.resource_spans for s in r.scope_spans for span in s.spans]
        print(f"collector at {self.path}: {names}")
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """No access log."""


def start_collector() -> str:
    server = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


collector = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or start_collector()

# -- all that it takes -----------------------------------------------------------------------------------------------------
exporter = LangfuseOTLPExporter(endpoint=f"{collector.rstrip('/')}/v1/traces")
langfuse = LangfuseSpanProcessor(exporter)

provider = TracerProvider(resource=Resource({"service.name": "any-collector"}))
provider.add_span_processor(langfuse)
trace.set_tracer_provider(provider)

tracer = trace.get_tracer("any-collector")
with (
    tracer.start_as_current_span("answer"),
    tracer.start_as_current_span("chat toy-1", attributes={"gen_ai.request.model": "toy-1"}),
):
    pass

provider.shutdown()
print(langfuse.stats())
