"""A recording as a conformance case: its request, what we read of it, and what Langfuse's server would."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from otel_langfuse.encode.ingestion import events
from otel_langfuse.encode.otlp import to_json
from otel_langfuse.model import Span
from otel_langfuse.spans import from_otlp
from otel_langfuse.translate import UntranslatableError, translate_all

NOW = "2030-01-01T00:00:00.000Z"
WIDTH = 130


def case(name: str, packages: Sequence[str], spans: Sequence[Span]) -> dict[str, Any]:
    """A case of ``case.schema.json``; ``server`` only where the server alone would read something else."""
    return translated({"name": name, "spec": list(packages), "request": json.loads(to_json(spans))})


def translated(recorded: dict[str, Any]) -> dict[str, Any]:
    """The case with what the tables of today make of its request."""
    request = recorded["request"]
    spans = from_otlp(request)
    observations = translate_all(spans)
    made = {
        "name": recorded["name"],
        "rules": sorted({rule for observation in observations for rule in observation.rules.values()}),
        "spec": recorded["spec"],
        "corrections": True,
        "request": request,
        "events": comparable(events(observations, now=NOW)),
    }
    server = as_server(spans)
    return made if server == made["events"] else {**made, "server": server}


def as_server(spans: Sequence[Span]) -> list[Any]:
    """The events of Langfuse's server; none where it drops the whole request."""
    try:
        return comparable(events(translate_all(spans, corrections=False), now=NOW, corrections=False))
    except UntranslatableError:
        return []


def comparable(made: list[dict[str, Any]]) -> list[Any]:
    """Events without what conformance/README.md says to leave out."""
    kept = []
    for event in json.loads(json.dumps(made)):
        times = {"timestamp": event["timestamp"]} if event["type"] == "trace-create" else {}
        kept.append({"type": event["type"], **times, "body": _without_nulls(event["body"])})
    return kept


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


# -- as text -----------------------------------------------------------------------------------------------------------


def pretty(value: Any, indent: int = 0) -> str:
    """JSON with as much on one line as fits, so that a difference is a line."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) + indent <= WIDTH or not isinstance(value, (dict, list)) or not value:
        return line
    inner = " " * (indent + 1)
    if isinstance(value, dict):
        parts = [f"{inner}{json.dumps(key, ensure_ascii=False)}: {pretty(item, indent + 1)}" for key, item in value.items()]
    else:
        parts = [inner + pretty(item, indent + 1) for item in value]
    begin, end = "{}" if isinstance(value, dict) else "[]"
    return begin + "\n" + ",\n".join(parts) + f"\n{' ' * indent}{end}"


# -- differences -------------------------------------------------------------------------------------------------------


def differences(old: dict[str, Any] | None, new: dict[str, Any] | None) -> list[str]:
    """What changed, as lines: the request as a unified diff, then the fields of the observations. Empty where nothing did."""
    before, after = ([] if one is None else _readable(one["request"]).splitlines() for one in (old, new))
    lines = list(difflib.unified_diff(before, after, "recorded", "now", lineterm="", n=2))
    fields = list(_field_changes({} if old is None else _bodies(old), {} if new is None else _bodies(new)))
    return lines + (["observations:", *fields] if fields else [])


def _readable(request: dict[str, Any]) -> str:
    """The request for reading: attributes as objects, JSON in texts as JSON, without times, which only tell the order."""

    def read(value: Any) -> Any:
        if isinstance(value, dict):
            shown = {key: item for key, item in value.items() if not key.endswith("UnixNano")}
            return {key: _attributes(item) if key == "attributes" else read(item) for key, item in shown.items()}
        return [read(item) for item in value] if isinstance(value, list) else value

    def _attributes(pairs: list[Any]) -> dict[str, Any]:
        return {pair["key"]: {kind: _parsed(value) for kind, value in pair["value"].items()} for pair in pairs}

    return pretty(read(request))


def _parsed(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return {"JSON": json.loads(value)}
        except ValueError:
            return value
    return value


def _bodies(one: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What is compared of each event, by the event's name, kind and id."""
    left_out = ("metadata", "startTime", "endTime", "timestamp")
    found = {}
    for event in one["events"]:
        body = event["body"]
        kind = "trace" if event["type"] == "trace-create" else "observation"
        fields = {key: value for key, value in body.items() if key not in left_out}
        found[f"{body.get('name', '')} ({kind} {body['id']})"] = {"type": event["type"].removesuffix("-create"), **fields}
    return found


def _field_changes(old: dict[str, dict[str, Any]], new: dict[str, dict[str, Any]]) -> Iterator[str]:
    for name in {**old, **new}:
        before, after = old.get(name), new.get(name)
        if before is None or after is None:
            yield f"{'+' if before is None else '-'} {name}"
            continue
        for key in {**before, **after}:
            was, now = (json.dumps(one.get(key), ensure_ascii=False) for one in (before, after))
            if was != now:
                yield f"  {name}: {key}"
                yield f"    - {was}"
                yield f"    + {now}"
