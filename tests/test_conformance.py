"""The tables and the cases hold each other: see conformance/README.md."""

from __future__ import annotations

import gzip
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from jsonschema import Draft202012Validator

from otel_langfuse.conventions import CONVENTIONS, SERVER_CONVENTIONS, by_id, precedence
from otel_langfuse.conventions._batch import REASONS
from otel_langfuse.conventions._repairs import REPAIRS
from otel_langfuse.encode.ingestion import events
from otel_langfuse.spans import from_otlp
from otel_langfuse.translate import UntranslatableError, translate_all

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli", reason="tomllib is in the standard library from 3.11 on")

ROOT = Path(__file__).parent.parent / "conformance"
SHARED = Path(__file__).parent.parent.parent / "shared"
NOW = "2030-01-01T00:00:00.000Z"
CASES = {str(path.relative_to(ROOT)): json.loads(path.read_text()) for path in sorted((ROOT / "cases").rglob("*.json"))}
OTHER_IDS = {repair.id for repair in REPAIRS} | set(REASONS) | {"corrections/repair/trace_name"}


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def comparable(made: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = json.loads(json.dumps(made))
    for event in kept:
        del event["id"]
        if event["type"] != "trace-create":
            del event["timestamp"]
    return without_nulls(kept)


def translated(request: dict[str, Any], *, corrections: bool) -> list[dict[str, Any]]:
    observations = translate_all(from_otlp(request), corrections=corrections)
    return comparable(events(observations, now=NOW, corrections=corrections))


@pytest.mark.parametrize("name", CASES)
def test_a_case_gives_its_events_and_fires_its_rules(name: str) -> None:
    case = CASES[name]
    observations = translate_all(from_otlp(case["request"]), corrections=case["corrections"])
    fired = {rule for observation in observations for rule in observation.rules.values()}
    assert comparable(events(observations, now=NOW, corrections=case["corrections"])) == case["events"]
    assert set(case["rules"]) <= fired


def test_cases_have_the_shape_of_their_schema() -> None:
    validator = Draft202012Validator(json.loads((ROOT / "case.schema.json").read_text()))
    assert [(name, error.message) for name, case in CASES.items() for error in validator.iter_errors(case)] == []


def test_every_rule_has_a_case_and_every_cited_rule_exists() -> None:
    cited = {rule for case in CASES.values() for rule in case["rules"]}
    assert cited == set(by_id()) | OTHER_IDS


def test_precedence_names_each_rule_once_under_its_own_group() -> None:
    for order, expected in (
        (precedence.SERVER, {rule.id for convention in SERVER_CONVENTIONS for rule in convention.rules}),
        (precedence.CORRECTED, set(by_id())),
    ):
        named = Counter(rule for ranked in order.values() for rule in ranked)
        assert set(named) == expected
        assert max(named.values()) == 1
        assert [rule for group, ranked in order.items() for rule in ranked if rule.split("/")[1] != group] == []


def test_a_group_sets_the_same_fields_in_every_family() -> None:
    fields = {(rule.group, frozenset(rule.sets)) for convention in CONVENTIONS for rule in convention.rules}
    assert len(fields) == len({group for group, _ in fields})


def test_ids_are_of_their_family_and_every_rule_cites_its_source() -> None:
    for convention in CONVENTIONS:
        for rule in convention.rules:
            assert rule.id.startswith(f"{convention.name}/")
            assert rule.spec
            assert bool(rule.reason) == (convention not in SERVER_CONVENTIONS)


KNOWN = tomllib.loads((ROOT / "known.toml").read_text())["known"]


def test_every_correction_is_known_with_its_reason() -> None:
    corrections = {rule.id: rule.reason for rule in by_id().values() if rule.reason}
    corrections |= {repair.id: repair.reason for repair in REPAIRS} | REASONS
    listed = {entry["id"]: entry["reason"] for entry in KNOWN}
    assert {rule: listed.get(rule) for rule in corrections} == corrections


@pytest.mark.parametrize("entry", KNOWN, ids=lambda entry: entry["id"])
def test_a_known_difference_still_differs(entry: dict[str, str]) -> None:
    case = CASES[entry["case"]]
    assert translated(case["request"], corrections=False) == case["server"]
    assert case["events"] != case["server"]


def shared_cases() -> Iterator[dict[str, Any]]:
    for path in sorted((SHARED / "cases").rglob("*.json")):
        yield json.loads(path.read_text())
    with gzip.open(SHARED / "cases" / "fuzz.ndjson.gz", "rt") as lines:
        yield from map(json.loads, lines)


needs_shared = pytest.mark.skipif(not (SHARED / "cases").is_dir(), reason="the recorded answers of a real server are not here")


@needs_shared
def test_without_corrections_every_recorded_answer_of_the_server_is_ours() -> None:
    count, different = 0, []
    for case in shared_cases():
        count += 1
        try:
            ours = translated(case["otlp"], corrections=False)
        except (ValueError, UntranslatableError):
            ours = []
        if ours != comparable(case["events"]):
            different.append(case["name"])
    assert different == []
    assert count > 2_000


@needs_shared
def test_with_corrections_every_event_passes_the_servers_schema() -> None:
    validator = jsonschema_rs.Draft202012Validator(json.loads((SHARED / "langfuse" / "ingestion-event.schema.json").read_text()))
    refused = [
        (case["name"], error.message[:200])
        for case in shared_cases()
        for event in events(translate_all(from_otlp(case["otlp"])), now=NOW)
        for error in validator.iter_errors(event)
    ]
    assert refused == []
