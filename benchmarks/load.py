"""Steady loads in a process of their own: ``python -m benchmarks.load scale|latency|soak URL ...`` prints figures as JSON."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.subjects import _FILTER, KEYS, SUBJECTS, ours_w1
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider


def scale(url: str, spans: int, threads: int, batch: int) -> dict[str, float]:
    """CPU of the whole process for each of so many tiny spans, on so many threads, sent in batches of that size."""
    from otel_langfuse import LangfuseSpanProcessor

    processor = LangfuseSpanProcessor(base_url=url, flush_at=batch, max_queue_spans=200_000, **KEYS, **_FILTER)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("benchmark", "1.0")

    def work(count: int) -> None:
        for done in range(0, count, 1000):
            for _ in range(min(1000, count - done)):
                tracer.start_span("tiny").end()
            if done % 50_000 == 49_000:
                processor.force_flush(60_000)

    work(2000)
    processor.force_flush(60_000)
    began = time.process_time()
    each = [threading.Thread(target=work, args=(spans // threads,)) for _ in range(threads)]
    for thread in each:
        thread.start()
    for thread in each:
        thread.join()
    processor.force_flush(60_000)
    total = time.process_time() - began
    stats = processor.stats()
    if stats.dropped:
        raise SystemExit(f"dropped: {stats.dropped}")
    return {"total": total / (spans // threads * threads) * 1e6}


def latency(url: str, subject: str, seconds: float, rate: float = 150.0) -> dict[str, float]:
    """Milliseconds that traces of W1 take at a steady rate."""
    made = SUBJECTS[subject](url)
    make: Callable[[int], None] = made.make["W1"]
    make(100)
    made.flush()
    took: list[float] = []
    cpu, begin = time.process_time(), time.perf_counter()
    for i in range(int(seconds * rate)):
        if (ahead := begin + i / rate - time.perf_counter()) > 0:
            time.sleep(ahead)
        start = time.perf_counter()
        make(5)
        took.append((time.perf_counter() - start) * 1000)
    share = (time.process_time() - cpu) / (time.perf_counter() - begin)
    made.flush()
    took.sort()
    return {name: took[int(len(took) * part)] for name, part in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))} | {
        "cpu": share * 100
    }


def soak(url: str, seconds: float) -> dict[str, float]:
    """Resident memory, in MiB, of a process that makes traces of W1 by our API all the time."""
    made = SUBJECTS["ours"](url)
    begin = time.monotonic()
    marks: dict[str, float] = {}
    spans = 0
    for name, part in (("early", 0.2), ("half", 0.5), ("end", 1.0)):
        while time.monotonic() < begin + part * seconds:
            ours_w1(50)
            spans += 50
            time.sleep(0.02)
        made.flush()
        marks[name] = rss_mib()
    return {**marks, "spans": spans}


def rss_mib() -> float:
    """Linux only, as is what calls it."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    kind, url, *rest = sys.argv[1:]
    if kind == "scale":
        found = scale(url, *map(int, rest))
    elif kind == "latency":
        found = latency(url, rest[0], float(rest[1]))
    else:
        found = soak(url, float(rest[0]))
    print(json.dumps(found), flush=True)
    trace.get_tracer_provider()
    os._exit(0)
