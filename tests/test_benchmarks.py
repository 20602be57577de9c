"""The benchmarks measure what they say, and what they measure arrives."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import caller, choosing, meaning, measure, run, subjects, through, whole, workloads


def test_w1_is_traces_of_five_with_2_kb_in_and_1_kb_out() -> None:
    spans = workloads.sdk_spans("W1", 10)
    traces = [list(each) for _, each in itertools.groupby(spans, lambda span: span.context.trace_id)]
    assert [len(trace) for trace in traces] == [5, 5]
    for span in spans:
        attributes = span.attributes or {}
        assert 1800 < len(str(attributes["langfuse.observation.input"])) < 2200
        assert 900 < len(str(attributes["langfuse.observation.output"])) < 1100
    assert sum(span.parent is None for span in spans) == 2


def test_w3_is_200_kb_and_w4_is_25_attributes_and_w2_is_nothing() -> None:
    assert [len(span.attributes or {}) for span in workloads.sdk_spans("W4", 2)] == [25, 25]
    assert [len(span.attributes or {}) for span in workloads.sdk_spans("W2", 2)] == [0, 0]
    (large,) = workloads.sdk_spans("W3", 1)
    assert [len(str(value)) for value in (large.attributes or {}).values()] == [200_000]


def test_subjects_take_turns_and_a_ratio_is_of_the_rounds() -> None:
    order: list[str] = []

    def subject(name: str, costs: list[float]) -> float:
        order.append(name)
        return costs[order.count(name) - 1]

    samples = measure.interleaved(3, {"a": lambda: subject("a", [1, 2, 4]), "b": lambda: subject("b", [2, 4, 4])})
    assert "".join(order) == "abbaab"
    assert measure.ratio(samples, "b", "a") == 2
    assert measure.rows(samples, "a", ("W",), {"b": "x"}) == ["| W | a | 2.0 | 1.00 |", "| W | b | 4.0 | 2.00 | x |"]


@pytest.mark.parametrize("subject", [name for name in subjects.SUBJECTS if name not in subjects.PEERS])
def test_everything_that_is_measured_arrives(subject: str) -> None:
    with measure.sink() as url:
        found = measure.through(subject, "W1", 400, url)  # ends the program if it does not
    assert found["spans"] == 400 + through.WARM_UP
    assert 0 < found["caller"] <= found["total"]


def test_every_target_is_of_subjects_that_are_compared() -> None:
    for _, workload, subject, _, base, _ in whole.TARGETS:
        assert {subject, base} <= {*whole.COMPARED[workload], *whole.WITH_PEERS[workload]}


def test_what_is_compared_as_encoders_runs() -> None:
    heading, lines = run.encoding(1, 5)
    assert heading.startswith("## Encoding")
    assert len(lines) == 2 + 3 * 5


def test_what_is_known_of_spans_is_held_to_its_bars() -> None:
    heading, lines = meaning.meaning(1, 5)
    assert heading.startswith("## Meaning")
    held = [line for line in lines if "met |" in line or "MISSED |" in line]
    assert len([line for line in held if "translate, encode JSON" in line]) == len(meaning.SPANS)
    assert len([line for line in held if " write " in line]) == 2 + 2 + 3
    assert len([line for line in held if "look for corrections" in line]) == 2


def test_a_bar_is_a_share_or_microseconds() -> None:
    assert meaning.Subject(int, share=0.5).verdict(9.0, 0.5) == "0.50, met"
    assert meaning.Subject(int, share=0.5).verdict(1.0, 0.51) == "0.50, MISSED"
    assert meaning.Subject(int, us=5.0).verdict(5.1, 0.1) == "5.0 us, MISSED"
    assert meaning.Subject(int).verdict(1.0, 1.0) == "-"


@pytest.mark.parametrize("subject", [name for name in caller.SUBJECTS if not name.startswith("langfuse")])
def test_every_way_to_call_a_small_function_runs(subject: str) -> None:
    command = [sys.executable, "-m", "benchmarks.caller", subject, str(caller.BURST)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=measure.ENVIRON, cwd=measure.ROOT, timeout=60)
    assert float(done.stdout) > 0


def test_the_cost_of_choosing_is_beside_what_chooses_nothing_and_all_of_it_is_kept() -> None:
    heading, lines = choosing.choosing(2)
    assert heading.startswith("## Choosing")
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]] == list(choosing.SETTINGS)
    assert lines[2].split(" | ")[2] == "0.0"
