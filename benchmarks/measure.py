"""How things are compared: in turns, by CPU time, by the median of the ratios of single rounds."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.environments import python_of

ROOT = Path(__file__).parents[1]
ENVIRON = {
    # What Python has compiled is kept, as wherever a package is installed: else it is compilers that are compared.
    **{key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "LANGFUSE_", "PYTHONDONTWRITE"))},
    "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH")))),
    "NO_PROXY": "127.0.0.1",
    "DO_NOT_TRACK": "1",
}

Samples = dict[str, list[float]]
Table = tuple[str, list[str]]
"""A heading with a sentence, and the lines of a Markdown table."""


def interleaved(rounds: int, subjects: Mapping[str, Callable[[], float]]) -> Samples:
    """What each subject costs in each round; every other round in reverse order."""
    samples: Samples = {name: [] for name in subjects}
    for i in range(rounds):
        for name in list(subjects)[:: -1 if i % 2 else 1]:
            samples[name].append(subjects[name]())
    return samples


def ratio(samples: Samples, name: str, base: str) -> float:
    return statistics.median(mine / other for mine, other in zip(samples[name], samples[base], strict=True))


def rows(samples: Samples, base: str, prefix: Sequence[str] = (), more: Mapping[str, str] | None = None) -> list[str]:
    """A row of a table for each subject: its median and its ratio to ``base``."""
    cells = {name: f"{statistics.median(values):.1f} | {ratio(samples, name, base):.2f}" for name, values in samples.items()}
    extra = more or {}
    return [f"| {' | '.join((*prefix, name, cell, *filter(None, (extra.get(name),))))} |" for name, cell in cells.items()]


def us_each(work: Callable[[], object], count: int) -> Callable[[], float]:
    """A run of ``work`` as CPU microseconds of this thread for each of ``count``."""

    def measured() -> float:
        start = time.thread_time()
        work()
        return (time.thread_time() - start) / count * 1e6

    return measured


@contextmanager
def sink() -> Iterator[str]:
    """The URL of a sink in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.sink"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRON) as process:
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}" if process.stdout else ""
        finally:
            process.communicate(timeout=10)


def arrived(url: str) -> dict[str, int]:
    """What the sink has taken since it was asked before: spans, bytes, requests."""
    with urllib.request.urlopen(url, timeout=120) as answer:
        found: dict[str, int] = json.load(answer)
        return found


def through(subject: str, workload: str, count: int, url: str) -> dict[str, float]:
    """One run in a process of its own, with what arrived."""
    command = [python_of(subject), "-m", "benchmarks.through", subject, workload, str(count), url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRON, timeout=300)
    if done.returncode:
        raise SystemExit(f"{subject}, {workload}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    taken = arrived(url)
    # logfire sends a second span for each when it starts
    if taken["spans"] != found["spans"] and not (subject == "logfire" and taken["spans"] > found["spans"]):
        raise SystemExit(f"{subject}, {workload}: {found['spans']} spans were made and {taken['spans']} arrived")
    return {**found, "wire": taken["bytes"] / found["spans"]}
