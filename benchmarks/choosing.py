"""What choosing costs: sampling at the head and at the tail, and the filter, where they keep everything unless it is said.

CPU of ``on_start`` and ``on_end`` on the application's thread, and of the worker until everything was handed to an exporter
that does nothing, in microseconds a span of traces of five; what it is beside a processor that chooses nothing is the cost.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.measure import Table, interleaved
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, Span, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_langfuse import LangfuseSpanProcessor, keep_errors, keep_level, keep_rate

TRACES = 200
LEFT_OUT = "filter llm, which leaves them out"
"""Spans of a database's instrumentation instead of a model's: most of what an application has."""

CALLER_US = 2.0
"""The bar for the caller where nothing waits."""

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "nothing is chosen": {"filter": "all"},
    "filter llm": {"filter": "llm"},
    LEFT_OUT: {"filter": "llm"},
    "head": {"filter": "all", "sample_rate": 1 - 2**-40},
    "tail, by spans": {"filter": "all", "tail": [keep_errors(), keep_rate(1)]},
    "tail, by observations": {"filter": "all", "tail": [keep_level("ERROR"), keep_rate(1)]},
}
BASE = next(iter(SETTINGS))


class Nowhere(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:  # noqa: ARG002
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        pass


def _finished(scope: str, attributes: Mapping[str, str]) -> tuple[list[Span], list[ReadableSpan]]:
    """Spans of traces, as they start and as they end; of the SDK, without any processor."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer(scope)
    started: list[Any] = []
    ended: list[Any] = []
    for _ in range(TRACES):
        root = tracer.start_span("answer")
        inside = trace.set_span_in_context(root)
        children = [tracer.start_span("call", inside, attributes=attributes) for _ in range(4)]
        started += [root, *children]
        ended += [*children, root]
    return started, ended


def _measured(name: str, caller: list[float]) -> Callable[[], float]:
    spans = (
        ("dbapi.bench", {"db.system": "sqlite"}) if name == LEFT_OUT else ("openinference.bench", {"gen_ai.request.model": "m"})
    )
    # All of it waits for the flush, so that the worker does not run beside what is measured.
    processor = LangfuseSpanProcessor(Nowhere(), flush_interval=3600, flush_at=100_000, **SETTINGS[name])

    def measured() -> float:
        started, ended = _finished(*spans)
        began = time.process_time()
        for span in started:
            processor.on_start(span)
        starting = time.process_time() - began
        for span in ended:
            span.end()  # type: ignore[attr-defined]
        again = time.process_time()
        for span in ended:
            processor.on_end(span)
        caller.append((starting + time.process_time() - again) / len(ended) * 1e6)
        processor.force_flush()
        return (starting + time.process_time() - again) / len(ended) * 1e6

    return measured


def choosing(rounds: int) -> Table:
    """Each setting beside none."""
    callers: dict[str, list[float]] = {name: [] for name in SETTINGS}
    samples = interleaved(rounds, {name: _measured(name, callers[name]) for name in SETTINGS})
    lines = ["| what | caller CPU us | more | total CPU us | more | caller at most |", "|---|--:|--:|--:|--:|---|"]
    for name in SETTINGS:
        more = _more(callers, name)
        verdict = (
            "" if name in (BASE, LEFT_OUT) or "tail" in name else f"+{CALLER_US:g}: {'met' if more <= CALLER_US else 'MISSED'}"
        )
        cells = (statistics.median(callers[name]), more, statistics.median(samples[name]), _more(samples, name))
        lines.append(f"| {name} | {' | '.join(f'{cell:.1f}' for cell in cells)} | {verdict} |")
    return f"## Choosing\n\n{' '.join((__doc__ or '').split())}", lines


def _more(samples: Mapping[str, list[float]], name: str) -> float:
    return statistics.median(mine - other for mine, other in zip(samples[name], samples[BASE], strict=True))
