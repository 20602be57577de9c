"""``make faults``: every scenario, each in processes of its own, with our parts and with the stock SDK's; one table.

It is printed, and written to RESULTS.md when all was run. Exits with 1 if a promise of ours was broken. Words that are given
choose scenarios by their titles.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from promises import Outcome, Scenario
from running import Row, both
from scenarios import SCENARIOS
from sites import nginx_program, rotel_program

RESULTS = Path(__file__).with_name("RESULTS.md")
FORGIVEN_S = 1.0
AT_ONCE = 3  # scenarios that mostly wait
HEAD = (
    "scenario",
    "spans",
    "promise",
    "ours: delivered",
    "dropped",
    "unaccounted",
    "waits",
    "stock: delivered",
    "unaccounted",
    "waits",
)
INTRODUCTION = """\
# Faults

What spans have to go through, with `LangfuseSpanProcessor` and `LangfuseOTLPExporter`, and with the stock SDK's
`BatchSpanProcessor` and `OTLPSpanExporter`: the same application, the same server, defaults unless the scenario says otherwise.
Each run is a process of its own. Spans are counted where they arrive. *Dropped* is what `stats()` names, by reason, and what is
left in the spool or the queue; the stock SDK counts nothing. *Unaccounted* is what ended, did not arrive and is not named.
*Waits* are the longest that the application waited for one span's end, for the flush it asked for, and for its exit.
`!` marks a broken promise. What was only late, by less than a second, was run once more by itself. Written by `make faults`.
"""


def seconds(value: float) -> str:
    """Short."""
    return f"{value * 1000:.1f} ms" if value < 0.1 else f"{value:.2f} s"


def waits(outcome: Outcome) -> str:
    """The longest of each kind."""
    m = outcome.measured
    kinds = {"end": m.longest_end_s or None, "flush": m.flush_s, "exit": m.exit_s}
    said = [f"{kind} {seconds(value)}" for kind, value in kinds.items() if value is not None]
    if m.rss_mib is not None and m.rss_mib > 20:
        said.append(f"memory +{m.rss_mib:.0f} MiB")
    return ", ".join([*said, *outcome.trouble.splitlines()[:1]])


def dropped(outcome: Outcome) -> str:
    """By reason."""
    named = dict(outcome.dropped or {})
    named |= {"kept": outcome.kept} if outcome.kept else {}
    named |= {"killed": outcome.killed} if outcome.killed else {}
    return ", ".join(f"{reason} {count:,}" for reason, count in named.items()) or "0"


def cells(row: Row) -> tuple[str, ...]:
    """One line of the table."""
    scenario, ours, stock = row
    head = (scenario.title, f"{scenario.plan.spans * scenario.runs:,}" if ours is None else f"{ours.spans:,}", scenario.promise)
    if ours is None:
        return (*head, f"not run: no {scenario.needs}", "", "", "", "", "", "")
    mark = "" if scenario.kept_by(ours) else "! "
    mine = (f"{mark}{ours.delivered:,}{_again(ours)}", dropped(ours), f"{ours.unaccounted:,}", waits(ours))
    if stock is None:
        return (*head, *mine, "speaks no such protocol", "", "")
    mark = "" if scenario.kept_by(stock) else "! "
    return (*head, *mine, f"{mark}{stock.delivered:,}{_again(stock)}", f"{stock.unaccounted:,}", waits(stock))


def _again(outcome: Outcome) -> str:
    return f" (+{outcome.doubled} twice)" if outcome.doubled else ""


def as_text(rows: Iterable[Row]) -> str:
    """For a terminal."""
    lines = [HEAD, *map(cells, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def as_markdown(rows: Iterable[Row]) -> str:
    """For a page."""
    rule = ["---"] + ["--:" if "delivered" in name or name in ("spans", "unaccounted") else "---" for name in HEAD[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in (HEAD, rule, *map(cells, rows)))


def versions() -> str:
    """Of the machine, and of the servers that are not ours."""
    from benchmarks.run import machine  # its folder is in the path under make

    programs = {"nginx": (nginx_program(), "-v"), "rotel": (rotel_program(), "--version")}
    said = []
    for name, (program, option) in programs.items():
        done = program and subprocess.run([program, option], capture_output=True, text=True, check=False)
        said.append(" ".join((done.stdout + done.stderr).split()) if done else f"no {name}")
    return f"{machine()}; {', '.join(said)}."


def is_late_only(row: Row) -> bool:
    """Whether a promise of ours was broken by a moment, and by nothing else: the machine may have been busy."""
    scenario, ours, _ = row
    return ours is not None and not scenario.kept_by(ours) and scenario.kept_by(ours.forgiven(FORGIVEN_S))


def run_all(chosen: Sequence[Scenario], told: Callable[[Row], object]) -> list[Row]:
    """Those that need the machine for themselves one by one, the others a few at a time; who was late, once more by itself."""
    done: dict[str, Row] = {}

    def one(scenario: Scenario) -> None:
        done[scenario.title] = both(scenario)
        told(done[scenario.title])

    for scenario in chosen:
        if scenario.alone:
            one(scenario)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, [scenario for scenario in chosen if not scenario.alone]))
    for scenario in chosen:
        if is_late_only(done[scenario.title]):
            one(scenario)
    return [done[scenario.title] for scenario in chosen]


def main(words: Sequence[str]) -> int:
    """Returns the exit status."""
    chosen = [scenario for scenario in SCENARIOS if not words or any(word in scenario.title for word in words)]
    began = time.monotonic()
    rows = run_all(chosen, lambda row: print(f"{time.monotonic() - began:5.0f} s  {row.scenario.title}", file=sys.stderr))
    named = [row for row in rows if row.scenario.named]
    others = [row for row in rows if not row.scenario.named]
    print(as_text([*named, *others]))
    broken = [row for row in rows if row.ours is not None and not row.scenario.kept_by(row.ours)]
    for row in broken:
        print(f"\nbroken: {row.scenario.title} ({row.scenario.promise}):\n{row.ours}")
    if not words:
        RESULTS.write_text(f"{INTRODUCTION}\n{versions()}\n\n{as_markdown([*named, *others])}\n")
    missing = sorted({row.scenario.needs for row in rows if row.ours is None})
    print(f"\n{len(rows) - len(broken)} of {len(rows)} kept" + "".join(f"; not run, without {name}" for name in missing))
    return 1 if broken else 0
