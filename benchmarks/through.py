"""One measurement of the whole way, in a process of its own: spans made, ended, encoded, compressed and sent.

``python -m benchmarks.through SETUP WORKLOAD COUNT URL`` prints CPU microseconds a span, as JSON. Spans come in bursts that
fit into every queue, and each burst is flushed, so that nothing is dropped and no time passes in waiting.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

from benchmarks.workloads import WORKLOADS
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

WARM_UP = 20
BURSTS = {"W1": 400, "W2": 400, "W3": 40, "W4": 400}


def _stock(url: str, *, compressed: bool) -> SpanProcessor:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return BatchSpanProcessor(
        OTLPSpanExporter(endpoint=url, compression=Compression.Gzip if compressed else Compression.NoCompression)
    )


def _ours(url: str, *, compressed: bool) -> SpanProcessor:
    from otel_langfuse import LangfuseOTLPExporter, LangfuseSpanProcessor

    exporter = LangfuseOTLPExporter(endpoint=url, compression="gzip" if compressed else "none")
    return LangfuseSpanProcessor(exporter, should_export_span=lambda _: True)


SETUPS: dict[str, Callable[[str], SpanProcessor]] = {
    "stock": lambda url: _stock(url, compressed=False),
    "stock, gzip": lambda url: _stock(url, compressed=True),
    "ours": lambda url: _ours(url, compressed=False),
    "ours, gzip": lambda url: _ours(url, compressed=True),
}


def measure(setup: str, workload: str, count: int, url: str) -> dict[str, float]:
    """CPU of the thread that makes the spans, and of the whole process until all were sent, in microseconds a span."""
    provider = TracerProvider(shutdown_on_exit=False)
    processor = SETUPS[setup](url)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("benchmark", "1.0")
    make, burst = WORKLOADS[workload], BURSTS[workload]
    make(tracer, WARM_UP)
    processor.force_flush(30_000)
    caller = 0.0
    began = time.process_time()
    for _ in range(count // burst):
        start = time.thread_time()
        make(tracer, burst)
        caller += time.thread_time() - start
        processor.force_flush(30_000)
    total = time.process_time() - began
    provider.shutdown()
    spans = count // burst * burst
    return {"caller": caller / spans * 1e6, "total": total / spans * 1e6, "spans": spans + WARM_UP}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])))
