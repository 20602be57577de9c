"""What goes wrong between an application and a server: the scenarios that are quick, ours beside the stock SDK's.

``make faults`` runs all of them, each in processes of its own, and holds the times to what is promised; here everything runs at
the same time inside of one process, so a second of each wait is forgiven.
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from application import OURS, STOCK, Measured
from promises import ROWS, Outcome, Scenario
from running import Row, outcome
from scenarios import SCENARIOS
from suite import FORGIVEN_S, as_text, is_late_only

QUICK = [scenario for scenario in SCENARIOS if scenario.quick]
SDK = tuple(int(part) for part in importlib.metadata.version("opentelemetry-sdk").split(".")[:2])
STOCK_HAS_A_DEADLINE = SDK >= (1, 35)
"""Before that, its retries take more than a minute, whatever its timeout."""

NEWEST_KNOWN = (1, 45)
"""What a newer stock SDK does better is good news, not a failure of ours."""


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[tuple[str, str], Future[Outcome]]]:
    """All at once: mostly they wait."""
    logging.disable(logging.CRITICAL)
    try:
        with ThreadPoolExecutor(2 * len(QUICK)) as pool:
            yield {
                (scenario.title, which): pool.submit(outcome, scenario, which, here=True)
                for scenario in QUICK
                for which in (OURS, STOCK)
                if scenario.is_possible and (which == OURS or (STOCK_HAS_A_DEADLINE and scenario.plan.protocol != "ingestion"))
            }
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("scenario", QUICK, ids=lambda scenario: scenario.title)
def test_where_the_stock_sdk_fails_we_do_not(
    scenario: Scenario, outcomes: dict[tuple[str, str], Future[Outcome]], remarks: list[str]
) -> None:
    if not scenario.is_possible:
        pytest.skip(f"there is no {scenario.needs}; make faults gets it")
    ours = outcomes[scenario.title, OURS].result().forgiven(FORGIVEN_S)
    assert scenario.kept_by(ours), as_text([Row(scenario, ours, None)])
    if (scenario.title, STOCK) in outcomes and scenario.row:
        stock = outcomes[scenario.title, STOCK].result().forgiven(FORGIVEN_S)
        if scenario.kept_by(stock):
            remarks.append(f"the stock SDK no longer fails: {scenario.title}")
        assert SDK > NEWEST_KNOWN or not scenario.kept_by(stock), as_text([Row(scenario, ours, stock)])


def test_every_row_of_the_protocols_section_has_a_scenario() -> None:
    assert {scenario.row for scenario in SCENARIOS} - {""} == set(ROWS)
    assert len({scenario.title for scenario in SCENARIOS}) == len(SCENARIOS)


GOOD = Outcome(OURS, 20, 15, 0, 2, Measured(ended=20, longest_end_s=0.001), {"rejected": 3}, kept=1, killed=1)
ANY = QUICK[0]._replace(holds=lambda _: True)


@pytest.mark.parametrize(
    "bad",
    [
        {"delivered": 14},
        {"delivered": 16},
        {"dropped": {"rejected": 2}},
        {"dropped": None},
        {"kept": 0},
        {"balanced": False},
        {"trouble": "it ended with status 1"},
        {"measured": Measured(ended=20, raised=1)},
        {"measured": Measured(ended=20, longest_end_s=1.0)},
    ],
    ids=str,
)
def test_a_broken_promise_is_seen(bad: dict[str, object]) -> None:
    assert ANY.kept_by(GOOD)
    assert not ANY.kept_by(GOOD._replace(**bad))
    assert not ANY._replace(holds=lambda _: False).kept_by(GOOD)
    assert "! " in as_text([Row(ANY, GOOD._replace(**bad), None)])
    assert "! " not in as_text([Row(ANY, GOOD, None)])


def test_only_what_is_late_by_a_moment_is_run_again() -> None:
    late = GOOD._replace(measured=Measured(ended=20, longest_end_s=0.6))
    assert is_late_only(Row(ANY, late, None))
    assert not is_late_only(Row(ANY, GOOD, None))
    assert not is_late_only(Row(ANY, late._replace(delivered=14), None))
    assert not is_late_only(Row(ANY, late.forgiven(-2.0), None))


def test_the_results_are_those_of_these_scenarios() -> None:
    written = Path(__file__).with_name("RESULTS.md").read_text()
    missing = [scenario.title for scenario in SCENARIOS if f"| {scenario.title} |" not in written]
    assert not missing, "make faults writes them"
    assert "| ! " not in "\n".join(" | ".join(line.split(" | ")[:4]) for line in written.splitlines()), "all of ours are kept"
