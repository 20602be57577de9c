"""What masking costs on the worker: CPU of the thread for each span, over reading the spans alone."""

from __future__ import annotations

import statistics

from benchmarks.measure import Table, interleaved, us_each
from benchmarks.workloads import sdk_spans

from otel_langfuse.pipeline.mask import Masking, masking
from otel_langfuse.spans import from_sdk

BARS = {"secrets": 5.0, "secrets, pii": 40.0}
"""Microseconds for each observation of W1, at most."""


def masks() -> dict[str, Masking | None]:
    return {"secrets": masking(), "secrets, pii": masking("pii"), "secrets, content": masking("content")}


def masked(rounds: int, count: int) -> Table:
    lines = ["| workload | what | CPU us a span | at most |", "|---|---|--:|---|"]
    for workload in ("W1", "W2", "W4"):
        spans, _ = from_sdk(sdk_spans(workload, count))
        made = {name: mask for name, mask in masks().items() if mask is not None}
        timed = {name: us_each(lambda mask=mask, spans=spans: mask.spans(spans), count) for name, mask in made.items()}
        for name, costs in interleaved(rounds, timed).items():
            cost = statistics.median(costs)
            bar = BARS.get(name) if workload == "W1" else None
            verdict = "" if bar is None else f"{bar:g}: {'met' if cost <= bar else 'MISSED'}"
            lines.append(f"| {workload} | {name} | {cost:.1f} | {verdict} |")
    return f"## Masking\n\n{count} spans a batch, in which nothing is to be masked; on the worker, never in your threads.", lines
