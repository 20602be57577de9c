"""The whole way of a span: made, ended, encoded, compressed, sent to a sink on loopback; ours and the peers in turns."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence

from benchmarks.measure import ENVIRON, Samples, Table, arrived, interleaved, ratio, sink, through
from benchmarks.subjects import PEERS

BARE, GZIP = "OpenTelemetry", "OpenTelemetry, gzip"

COMPARED: Mapping[str, tuple[str, ...]] = {
    "W1": (
        *(BARE, GZIP, "ours", "ours, observe", "ours, plain calls", "ours, plain calls, uncompressed"),
        *("ours, ingestion", "ours, plain calls, ingestion"),
    ),
    "W2": (BARE, GZIP, "ours", "ours, observe", "ours, plain calls"),
    "W3": (BARE, GZIP, "ours", "ours, plain calls", "ours, plain calls, uncompressed"),
    "W4": (BARE, GZIP, "ours, plain calls", "ours, plain calls, uncompressed", "ours, dialect"),
}
WITH_PEERS: Mapping[str, tuple[str, ...]] = {
    "W1": tuple(PEERS),
    "W2": tuple(PEERS),
    "W3": ("langfuse",),
    "W4": ("langfuse", "logfire", "traceloop", "openinference"),
}

TARGETS = (
    ("W1, calling thread", "W1", "ours", "caller", BARE, 0.75),
    ("W1, total, gzip", "W1", "ours", "total", BARE, 0.50),
    ("W1, total, beside langfuse's context manager", "W1", "ours", "total", "langfuse", 0.16),
    ("W2, total", "W2", "ours, plain calls", "total", BARE, 0.65),
    ("W3, total", "W3", "ours", "total", BARE, 0.60),
    ("W3, total, uncompressed", "W3", "ours, plain calls, uncompressed", "total", BARE, 0.60),
    ("W3, calling thread", "W3", "ours", "caller", BARE, 1.00),
    ("W4, total, all defaults", "W4", "ours, plain calls", "total", BARE, 0.45),
    ("W4, total, a whole dialect written", "W4", "ours, dialect", "total", BARE, 0.75),
    ("W1, total, ingestion", "W1", "ours, ingestion", "total", BARE, 0.60),
    ("W1, bytes on the wire, of gzip level 9", "W1", "ours, plain calls", "wire", GZIP, 1.25),
    ("W3, bytes on the wire, of gzip level 9", "W3", "ours, plain calls", "wire", GZIP, 1.25),
    ("W4, bytes on the wire, of gzip level 9", "W4", "ours, plain calls", "wire", GZIP, 1.25),
)
"""What it says, workload, whose figure, which, of whose, and the bar."""


def verdict(found: float, bar: float) -> str:
    return f"{found:.2f} | {bar:.2f} | {'met' if found <= bar else '**missed**'}"


def whole_way(rounds: int, counts: Mapping[str, int], *, peers: bool) -> list[Table]:
    """The figures, and what they say of the targets."""
    lines = [
        "| workload | what | total CPU us a span | ratio | caller CPU us | ratio | bytes a span |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    found: dict[tuple[str, str], Samples] = {}
    with sink() as url:
        for workload, count in counts.items():
            subjects = COMPARED[workload] + (WITH_PEERS[workload] if peers else ())
            runs = _runs(rounds, subjects, workload, count, url)
            for figure in ("total", "caller", "wire"):
                found[workload, figure] = {name: [run[figure] for run in each] for name, each in runs.items()}
            lines += [_row(found, workload, name) for name in subjects]
    heading = (
        "## The whole way\n\nThe application making spans, processor, exporter, compression and HTTP to a sink on loopback, all "
        "threads of the process; nothing is dropped, and all that was made has arrived. The caller is the thread that makes the "
        "spans. Ours with all defaults towards a Langfuse server: gzip, corrections, masking of secrets. W1 of ours is made with "
        "our own API unless it says plain calls; so is W1 to the ingestion route, which takes no compression. Ratios are to "
        "bare OpenTelemetry with the stock exporter, which does not compress by default."
    )
    return [(heading, lines), _targets(found)]


def _runs(rounds: int, subjects: Sequence[str], workload: str, count: int, url: str) -> dict[str, list[dict[str, float]]]:
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in subjects}

    def once(subject: str) -> float:
        runs[subject].append(through(subject, workload, count, url))
        return runs[subject][-1]["total"]

    interleaved(rounds, {name: lambda name=name: once(name) for name in subjects})
    return runs


def _row(found: Mapping[tuple[str, str], Samples], workload: str, name: str) -> str:
    cells = []
    for figure in ("total", "caller"):
        samples = found[workload, figure]
        cells.append(f"{statistics.median(samples[name]):.1f} | {ratio(samples, name, BARE):.2f}")
    return f"| {workload} | {name} | {' | '.join(cells)} | {found[workload, 'wire'][name][-1]:.0f} |"


def _targets(found: Mapping[tuple[str, str], Samples]) -> Table:
    lines = ["| target | found | bar | |", "|---|--:|--:|---|"]
    for says, workload, name, figure, base, bar in TARGETS:
        samples = found.get((workload, figure), {})
        if name in samples and base in samples:
            lines.append(f"| {says} | {verdict(ratio(samples, name, base), bar)} |")
    return "## Targets\n\nRatios to bare OpenTelemetry uncompressed unless said; medians of the rounds' ratios.", lines


# -- how it scales, how long a traced call takes, and whether memory grows -----------------------------------------------------


def _load(*arguments: object) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.load", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRON, timeout=900)
    if done.returncode:
        raise SystemExit(f"{arguments}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def scaling(rounds: int, spans: Sequence[int], threads: Sequence[int], batches: Sequence[int]) -> Table:
    """Cost of a span by how many there are, by the application's threads, and by the size of a batch."""
    lines = ["| W2 by | CPU us a span | ratio to the first |", "|---|--:|--:|"]
    with sink() as url:
        for what, values, arguments in (
            ("spans", spans, lambda n: (n, 1, 512)),
            ("threads", threads, lambda n: (spans[1], n, 512)),
            ("batch of", batches, lambda n: (spans[1], 1, n)),
        ):
            subjects = {
                f"{n:,} {what}" if what != "batch of" else f"batch of {n:,}": lambda n=n, a=arguments: (
                    _load("scale", url, *a(n))["total"] + 0 * arrived(url)["spans"]
                )
                for n in values
            }
            samples = interleaved(rounds, subjects)
            first = next(iter(samples))
            lines += [
                f"| {name} | {statistics.median(cost):.1f} | {ratio(samples, name, first):.2f} |"
                for name, cost in samples.items()
            ]
    return "## Scaling\n\nTarget: flat within 15 % in each of the three.", lines


def latency(rounds: int, seconds: float) -> Table:
    """How long one trace of W1 takes the thread that makes it, at 150 traces a second."""
    runs: dict[str, list[dict[str, float]]] = {BARE: [], GZIP: [], "ours, plain calls": [], "ours": []}
    with sink() as url:

        def once(subject: str) -> float:
            runs[subject].append(_load("latency", url, subject, seconds))
            arrived(url)
            return runs[subject][-1]["p99"]

        samples = interleaved(rounds, {name: lambda name=name: once(name) for name in runs})
    lines = ["| what | p50 ms | p90 ms | p99 ms | ratio of p99 | process CPU % |", "|---|--:|--:|--:|--:|--:|"]
    for name, each in runs.items():
        cells = [f"{statistics.median(run[key] for run in each):.2f}" for key in ("p50", "p90", "p99")]
        lines.append(f"| {name} | {' | '.join(cells)} | {ratio(samples, name, BARE):.2f} | {each[-1]['cpu']:.0f} |")
    return (
        "## Latency\n\nTime on the clock of a trace of five (W1), 150 traces a second. Target: p99 not above bare's.",
        lines,
    )


def soak(seconds: float) -> Table:
    """Memory of a process that traces steadily: in the second half of the time it must not grow."""
    with sink() as url:
        found = _load("soak", url, seconds)
        taken = arrived(url)
    marks = " | ".join(f"{found[name]:.1f}" for name in ("early", "half", "end"))
    lines = [
        "| minutes | spans | arrived | RSS MiB after a fifth | at the half | at the end |",
        "|--:|--:|--:|--:|--:|--:|",
        f"| {seconds / 60:.1f} | {found['spans']:.0f} | {taken['spans']} | {marks} |",
    ]
    return "## Soak\n\nW1 by our API, steadily. Target: memory stays flat.", lines
