"""Corrections of a finished observation: what Langfuse's schema would refuse is repaired, so that nothing is lost to it.

The server drops an event that fails its schema (mapping.md 16); over OTLP it says so only in its own log. Each row names the
field, what the schema wants, and what is done about a value that it would refuse; the original is kept in the metadata.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from otel_langfuse.conventions import _javascript as js
from otel_langfuse.conventions._openai import is_strict, usage_buckets
from otel_langfuse.model import Observation, TraceFields

MAX_TRACE_NAME = 1_000
_TEXT = (str, type(None))
_INTEGER = frozenset({int})
_FULL_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)\Z", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)
_NO_OFFSET = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?)\s*(Z|[+-]\d\d:?\d\d)?\Z", re.ASCII | re.IGNORECASE)


class Repair(NamedTuple):
    """One row: the fields that it looks at, and their values after it, or None where there is nothing to repair."""

    id: str
    fields: tuple[str, ...]
    mend: Callable[..., tuple[Any, ...] | None]
    reason: str
    keeps: bool = True  # whether the refused value is kept in the metadata


def _text_only(value: Any) -> tuple[Any, ...] | None:
    return None if value is None or isinstance(value, str) else (js.text(value) if not _nested(value) else js.stringify(value),)


def _nested(value: Any) -> bool:
    return isinstance(value, (list, dict))


def _prompt(name: Any, version: Any) -> tuple[Any, ...] | None:
    """Both or neither, the version a whole number over 0 (mapping.md 16)."""
    if name is None and version is None:
        return None
    number = js.whole(js.number(version)) if isinstance(version, (str, float)) and version != "" else version
    if isinstance(name, str) and name and isinstance(number, int) and not isinstance(number, bool) and number > 0:
        return None if number is version else (name, number)
    return None, None


def _completion_start(value: Any) -> tuple[Any, ...] | None:
    if value is None or (isinstance(value, str) and _FULL_TIME.match(value)):
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return (js.iso_time(int(value)),)
    if isinstance(value, str) and _DATE.match(value):
        return (f"{value}T00:00:00.000Z",)
    found = _NO_OFFSET.match(value) if isinstance(value, str) else None
    if found is None:
        return (None,)
    offset = (found[3] or "Z").upper()
    return (f"{found[1]}T{found[2]}{offset if offset == 'Z' or ':' in offset else offset[:3] + ':' + offset[3:]}",)


def _counts(counts: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Whole numbers that came as floats become integers, and OpenAI's shape the buckets (mapping.md 16): floats are dropped.

    The schema does the second itself; done here, every destination counts each token once.
    """
    if is_strict(counts):
        return (usage_buckets(counts),)
    mended = {name: js.whole(value) if isinstance(value, float) else value for name, value in counts.items()}
    return None if all(mended[name] is counts[name] for name in counts) else (mended,)


def _costs(costs: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Costs as text become numbers: the schema drops text silently (mapping.md 16)."""
    mended = {
        name: js.number(value) if isinstance(value, str) and value.strip() and js.number(value) == js.number(value) else value
        for name, value in costs.items()
    }
    return None if all(mended[name] is costs[name] for name in costs) else (mended,)


REPAIRS = (
    Repair("corrections/repair/name", ("name",), _text_only, "a name that is not text loses the observation", keeps=False),
    Repair(
        "corrections/repair/version",
        ("version",),
        _text_only,
        "a numeric service.version loses the trace and all of its observations",
        keeps=False,
    ),
    Repair(
        "corrections/repair/status_message",
        ("status_message",),
        _text_only,
        "a status message that is not text loses the observation",
        keeps=False,
    ),
    Repair("corrections/repair/model", ("model",), _text_only, "a model that is not text loses the observation", keeps=False),
    Repair(
        "corrections/repair/prompt",
        ("prompt_name", "prompt_version"),
        _prompt,
        "a prompt name without a version above 0, or a version as text, loses the observation",
    ),
    Repair(
        "corrections/repair/completion_start_time",
        ("completion_start_time",),
        _completion_start,
        "a completion start that is not a full ISO time with offset loses the observation",
    ),
    Repair(
        "corrections/repair/usage",
        ("usage_details",),
        _counts,
        "counts as floats are dropped silently, and OpenAI's shape would count a token twice elsewhere",
        keeps=False,
    ),
    Repair("corrections/repair/cost", ("cost_details",), _costs, "costs as text are dropped silently", keeps=False),
)


def repaired(observation: Observation) -> Observation:
    """The observation as the schema takes it."""
    return observation if _is_fine(observation) else _mended(observation)


def _is_fine(observation: Observation) -> bool:
    """The quick look that nearly every observation passes: nothing there that any row would mend."""
    return (
        type(observation.name) is str
        and type(observation.version) in _TEXT
        and type(observation.status_message) in _TEXT
        and type(observation.model) in _TEXT
        and observation.prompt_name is None
        and observation.prompt_version is None
        and observation.completion_start_time is None
        and not observation.cost_details
        and (not observation.usage_details or _are_fine_counts(observation.usage_details))
        and _is_fine_trace(observation.trace)
    )


def _are_fine_counts(counts: Mapping[str, Any]) -> bool:
    return _INTEGER.issuperset(map(type, counts.values())) and "total_tokens" not in counts


def _is_fine_trace(trace: TraceFields) -> bool:
    name = trace.name
    return (name is None or (type(name) is str and len(name) <= MAX_TRACE_NAME)) and type(trace.release) in _TEXT


def _mended(observation: Observation) -> Observation:
    changes: dict[str, Any] = {}
    kept: dict[str, Any] = {}
    fired: dict[str, str] = {}
    for repair in REPAIRS:
        before = tuple(getattr(observation, name) for name in repair.fields)
        after = repair.mend(*before)
        if after is None:
            continue
        changes |= dict(zip(repair.fields, after, strict=True))
        fired[repair.id.removeprefix("corrections/")] = repair.id
        if repair.keeps:
            kept |= {name: value for name, value, new in zip(repair.fields, before, after, strict=True) if value != new}
    trace = _repaired_trace(observation)
    if trace is not None:
        changes["trace"] = trace
        fired["repair/trace"] = "corrections/repair/trace_name"
    if not changes:
        return observation
    if kept:
        changes["metadata"] = {**observation.metadata, **{f"unusable_{name}": value for name, value in kept.items()}}
    return observation._replace(**changes, rules={**observation.rules, **fired})


def _repaired_trace(observation: Observation) -> Any:
    """Names of traces are text of at most 1,000 characters, releases text (mapping.md 16)."""
    name, release = observation.trace.name, observation.trace.release
    fine_name = (_text_only(name) or (name,))[0]
    fine = {"name": fine_name and fine_name[:MAX_TRACE_NAME], "release": (_text_only(release) or (release,))[0]}
    return None if fine == {"name": name, "release": release} else observation.trace._replace(**fine)
