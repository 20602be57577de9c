"""Runs a scenario, in processes of its own or inside of this one, and says what came of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from application import INTERVAL_S, OURS, STOCK, WRITING_S, Measured, Plan, perform
from promises import Outcome, Scenario
from sites import Site

TIMEOUT_S = 90.0
KILL_AFTER_S = 2.0


class Run(NamedTuple):
    """Of one process: what it measured, how many spans ended, and how many of them in its last moments before a SIGKILL."""

    measured: Measured
    spans: int
    recent: frozenset[str] = frozenset()
    trouble: str = ""


def outcome(scenario: Scenario, which: str, *, here: bool = False) -> Outcome:
    """Runs it for ``ours`` or ``stock``; ``here``: inside of this process, as far as the program allows that."""
    with tempfile.TemporaryDirectory() as folder, scenario.place() as site:
        plan = _with_spool(scenario.plan, str(Path(folder, "spool.db")))
        if here and plan.program in ("plain", "filter"):
            site.begins(0)
            measured = perform(which, site.url, plan)
            return _judged(which, site, plan, [Run(measured, measured.ended)])
        runs: list[Run] = []
        for number in range(scenario.runs):
            first = sum(run.spans for run in runs)
            is_last = number == scenario.runs - 1
            # Whoever was killed is followed by one that ends by itself.
            program = "plain" if number and plan.program == "go_on" else plan.program
            site.begins(number)
            this = plan._replace(first=first, program=program, flush_s=plan.flush_s if is_last else None)
            runs.append(_run(which, site, this, is_gevent=scenario.needs == "gevent"))
        return _judged(which, site, plan, runs)


def _with_spool(plan: Plan, path: str) -> Plan:
    exporter = {name: path if value == "SPOOL" else value for name, value in plan.exporter.items()}
    return plan._replace(exporter=exporter)


def _judged(which: str, site: Site, plan: Plan, runs: list[Run]) -> Outcome:
    """Compares what ended with what arrived, and both with what is said."""
    arrived = Counter(site.names())
    last = runs[-1].measured
    all_stats = [run.measured.stats for run in runs if run.measured.stats is not None]
    dropped: Counter[str] = Counter()
    for stats in all_stats:
        dropped.update(stats[3])
    killed = sum(name not in arrived for run in runs for name in run.recent)
    return Outcome(
        which=which,
        spans=sum(run.spans for run in runs),
        delivered=len(arrived),
        doubled=sum(arrived.values()) - len(arrived),
        requests=site.requests(),
        measured=last._replace(
            longest_end_s=max(run.measured.longest_end_s for run in runs),
            raised=sum(run.measured.raised for run in runs),
            exit_s=max((run.measured.exit_s for run in runs if run.measured.exit_s is not None), default=None),
        ),
        dropped=dict(dropped) if which == OURS else None,
        kept=0 if last.stats is None else last.stats[2] + last.stats[4],
        killed=killed,
        balanced=all(_is_balanced(run.measured, has_spool="spool_path" in plan.exporter) for run in runs),
        trouble="; ".join(run.trouble for run in runs if run.trouble),
    )


def _is_balanced(measured: Measured, *, has_spool: bool) -> bool:
    """The invariant: all that ended here was started, and is exported, queued, spooled or dropped for a reason."""
    if measured.stats is None:
        return True
    started, exported, queued, dropped, spooled = measured.stats[:5]
    adds_up = started == exported + queued + spooled + sum(dropped.values())
    # What an earlier process left in a spool is counted by the one that takes it up.
    return adds_up and (started >= measured.ended if has_spool else started == measured.ended)


# -- processes -----------------------------------------------------------------------------------------------------------------


def _run(which: str, site: Site, plan: Plan, *, is_gevent: bool) -> Run:
    argument = json.dumps([which, site.url, plan._asdict(), is_gevent])
    application = Path(__file__).with_name("application.py")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("LANGFUSE_", "OTEL_"))}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, str(application), argument],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**environ, "NO_PROXY": "127.0.0.1"},
        )
        try:
            run = _KILLED.get(plan.program, _left)(process, plan)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
        errors.seek(0)
        said = errors.read()
    return (
        run._replace(trouble=f"{run.trouble} {said[-500:]}".strip())
        if run.trouble or (which == OURS and "Traceback" in said)
        else run
    )


def _left(process: subprocess.Popen[str], plan: Plan) -> Run:
    """Waits for a process that ends by itself."""
    try:
        written, _ = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return Run(Measured(), plan.spans, trouble=f"still running after {TIMEOUT_S:.0f} s")
    ended = time.monotonic()
    said: dict[str, Any] = {}
    for line in written.splitlines():
        said |= json.loads(line)
    if process.returncode or "account" not in said:
        return Run(Measured(), plan.spans, trouble=f"ended with status {process.returncode}")
    measured = Measured(**said["account"])._replace(exit_s=ended - said["leaving"])
    in_children = plan.program in ("fork", "pool")  # whose spans only they count
    return Run(measured, plan.spans if in_children else measured.ended)


def _by_sigterm(process: subprocess.Popen[str], plan: Plan) -> Run:
    """Ends a process that waits for that. It runs no exit functions, so nobody is left to give an account."""
    said = _line(process)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(TIMEOUT_S)
    measured = Measured(**said["ended"])._replace(exit_s=time.monotonic() - began)
    trouble = "" if process.returncode == -signal.SIGTERM else f"ended with status {process.returncode}"
    return Run(measured, measured.ended, trouble=trouble)


def _by_sigkill(process: subprocess.Popen[str], plan: Plan) -> Run:
    """Kills a process in the middle of its work."""
    ended: list[tuple[str, float]] = []
    assert process.stdout is not None
    kill_at = time.monotonic() + KILL_AFTER_S
    while not ended or time.monotonic() < kill_at:
        said = _line(process)
        if not ended:
            kill_at = time.monotonic() + KILL_AFTER_S
        ended.append((str(said["number"]), said["at"]))
    process.kill()
    killed_at = time.monotonic()
    rest = process.stdout.read().splitlines()
    ended += [(str(said["number"]), said["at"]) for said in map(json.loads, rest)]
    recent = frozenset(name for name, at in ended if at > killed_at - INTERVAL_S - WRITING_S)
    return Run(Measured(ended=len(ended)), len(ended), recent)


def _computing(process: subprocess.Popen[str], plan: Plan) -> Run:
    """Waits for a process that kills itself when it has computed."""
    said = _line(process)
    process.wait(TIMEOUT_S)
    measured = Measured(**said["ended"])
    return Run(measured, measured.ended)


def _line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise AssertionError(f"the application ended, with status {process.wait(10)}")
    said: dict[str, Any] = json.loads(line)
    return said


_KILLED = {"sigterm": _by_sigterm, "go_on": _by_sigkill, "compute": _computing}


class Row(NamedTuple):
    """What came of a scenario, for both; None where it does not apply, or could not be run."""

    scenario: Scenario
    ours: Outcome | None
    stock: Outcome | None


def both(scenario: Scenario, *, here: bool = False, with_stock: bool = True) -> Row:
    """Runs it for ours, and for the stock SDK where it has an answer to this at all."""
    if not scenario.is_possible:
        return Row(scenario, None, None)
    speaks = scenario.plan.protocol != "ingestion"
    ours = outcome(scenario, OURS, here=here)
    return Row(scenario, ours, outcome(scenario, STOCK, here=here) if with_stock and speaks else None)
