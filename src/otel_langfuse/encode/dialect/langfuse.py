"""The dialect of Langfuse: ``langfuse.*``, which its server reads before anything else.

It holds every field of an observation but the name, which is the span's. Beside other attributes it says what they said, in
the place that wins. Two things are left out there: metadata, which Langfuse reads from no other family and would show twice,
but for the notes of corrections; and content of a root whose trace was given only one side of its own, because the other
would become the observation's (mapping.md 9.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otel_langfuse import attributes as key
from otel_langfuse.conventions._environment import normal_environment
from otel_langfuse.conventions._plan import TRACE_UPDATES

from ._json import as_text, object_json, same, to_json
from ._row import ORIGIN, Row, Subject

_IN_OBSERVATION = key.OBSERVATION_METADATA + "."
# As a key of its own each of these would be read as something else (mapping.md 2.3, 9 Tools), so they stay inside the object.
INSIDE = frozenset({name.removeprefix(_IN_OBSERVATION) for name in TRACE_UPDATES if name.startswith(_IN_OBSERVATION)})
NOTES = ("unusable_", "duplicate_of", "repeats_usage_of", "usage_not_counted")
"""How the names of metadata begin that corrections of a finished observation have added."""

_DEFAULT = normal_environment(None)


def value_of_entry(value: Any) -> Any:
    """An entry of metadata as an attribute: text, numbers and lists of them as they are, anything else as JSON text."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, list) and value and all(isinstance(item, (str, bool, int, float)) for item in value):
        return value
    return to_json(value)


def _entries(metadata: dict[str, Any]) -> dict[str, Any] | None:
    return {name: value_of_entry(value) for name, value in metadata.items() if value is not None and name not in INSIDE} or None


def _metadata_inside(subject: Subject) -> str | None:
    return object_json({name: value for name, value in subject.user_metadata().items() if name in INSIDE})


def _of_trace(subject: Subject) -> dict[str, Any]:
    """What the span says of its trace alone: a root's trace has the observation's metadata anyway."""
    own = subject.observation.metadata if subject.observation.is_root else {}
    found = subject.observation.trace.metadata
    return {
        name: value for name, value in found.items() if name not in ORIGIN and (name not in own or not same(own[name], value))
    }


def _makes_update(subject: Subject) -> str | None:
    """An empty object makes a span an update of its trace where nothing else of it would (mapping.md 2.3)."""
    observation = subject.observation
    return "{}" if observation.updates_trace and not observation.is_root and not _of_trace(subject) else None


def _notes(subject: Subject) -> dict[str, Any]:
    """Metadata that corrections have noted: alone, what is not there beside other attributes already."""
    return {name: value for name, value in subject.user_metadata().items() if name.startswith(NOTES)}


def _metadata(subject: Subject) -> dict[str, Any] | None:
    return _entries(_notes(subject) if subject.given is not None else subject.user_metadata())


def _own(subject: Subject, side: str) -> Any:
    """Input or output. Beside the attributes that tool definitions came from, without these: they are moved there again."""
    if subject.given is not None:
        return subject.content(side)
    return subject.own(side)


def _details(subject: Subject, details: Mapping[str, Any]) -> str | None:
    """Usage or cost; ``{}`` where a correction has taken it away, so that no other attribute gives it back."""
    if not details and not any(group.startswith("batch/") for group in subject.observation.rules):
        return None
    return to_json(details)


def _keeps_trace(subject: Subject) -> bool:
    observation, trace = subject.observation, subject.observation.trace
    if not observation.is_root or "trace_io" not in observation.rules:
        return True
    sides = ((trace.input, observation.input), (trace.output, observation.output))
    return all(of_trace not in (None, "") or own is None for of_trace, own in sides)


def _trace_name(subject: Subject) -> str | None:
    """Where it is not the observation's name, which the trace of a root has anyway."""
    observation = subject.observation
    name = observation.trace.name
    return None if name is None or (observation.is_root and name == observation.name) else as_text(name)


def _trace_side(subject: Subject, side: str) -> str | None:
    trace = subject.observation.trace
    of_trace = trace.input if side == "input" else trace.output
    if of_trace is None or of_trace == "":
        return None
    if subject.observation.is_root and same(of_trace, _own(subject, side)):
        return None
    return as_text(of_trace)


def _nowhere(subject: Subject) -> bool:  # noqa: ARG001 - the signature of ``Row.beside``
    return False


ROWS = (
    Row("type", key.OBSERVATION_TYPE, lambda s: s.observation.type, "mapping.md 11.1"),
    Row("level", key.OBSERVATION_LEVEL, lambda s: s.observation.level, "mapping.md 5, level"),
    Row("status_message", key.OBSERVATION_STATUS_MESSAGE, lambda s: as_text(s.observation.status_message), "mapping.md 5"),
    Row("version", key.VERSION, lambda s: as_text(s.observation.version), "mapping.md 4, version"),
    Row(
        "environment",
        key.ENVIRONMENT,
        lambda s: None if s.observation.environment == _DEFAULT else s.observation.environment,
        "mapping.md 7",
    ),
    Row("input", key.OBSERVATION_INPUT, lambda s: as_text(_own(s, "input")), "mapping.md 9.1", beside=_keeps_trace),
    Row("output", key.OBSERVATION_OUTPUT, lambda s: as_text(_own(s, "output")), "mapping.md 9.1", beside=_keeps_trace),
    Row("model", key.OBSERVATION_MODEL, lambda s: as_text(s.observation.model) or None, "mapping.md 12"),
    Row(
        "model_parameters",
        key.OBSERVATION_MODEL_PARAMETERS,
        lambda s: object_json({name: value for name, value in s.observation.model_parameters.items() if value is not None}),
        "mapping.md 12.1",
    ),
    Row("usage_details", key.OBSERVATION_USAGE_DETAILS, lambda s: _details(s, s.observation.usage_details), "mapping.md 13.1"),
    Row("cost_details", key.OBSERVATION_COST_DETAILS, lambda s: _details(s, s.observation.cost_details), "mapping.md 13"),
    Row("prompt_name", key.OBSERVATION_PROMPT_NAME, lambda s: s.observation.prompt_name, "mapping.md 14"),
    Row("prompt_version", key.OBSERVATION_PROMPT_VERSION, lambda s: s.observation.prompt_version, "mapping.md 14"),
    Row(
        "completion_start_time",
        key.OBSERVATION_COMPLETION_START_TIME,
        lambda s: s.observation.completion_start_time,
        "mapping.md 5, completionStartTime",
    ),
    Row("metadata", key.OBSERVATION_METADATA + ".*", _metadata, "mapping.md 8.1"),
    Row("metadata", key.OBSERVATION_METADATA, _metadata_inside, "mapping.md 8.1", beside=_nowhere),
    Row("trace.metadata", key.TRACE_METADATA + ".*", lambda s: _entries(_of_trace(s)), "mapping.md 8.1", beside=_nowhere),
    Row("trace.metadata", key.TRACE_METADATA, _makes_update, "mapping.md 2.3", beside=_nowhere),
    Row("trace.name", key.TRACE_NAME, _trace_name, "mapping.md 4, name"),
    Row("trace.user_id", key.USER_ID, lambda s: as_text(s.observation.trace.user_id), "mapping.md 4, userId"),
    Row("trace.session_id", key.SESSION_ID, lambda s: as_text(s.observation.trace.session_id), "mapping.md 4, sessionId"),
    Row("trace.release", key.RELEASE, lambda s: as_text(s.observation.trace.release), "mapping.md 4, release"),
    Row("trace.public", key.TRACE_PUBLIC, lambda s: s.observation.trace.public, "mapping.md 4, public"),
    Row("trace.tags", key.TRACE_TAGS, lambda s: list(s.observation.trace.tags) or None, "mapping.md 4, tags"),
    Row("trace.input", key.TRACE_INPUT, lambda s: _trace_side(s, "input"), "mapping.md 9.1"),
    Row("trace.output", key.TRACE_OUTPUT, lambda s: _trace_side(s, "output"), "mapping.md 9.1"),
    Row(
        "is_root",
        key.AS_ROOT,
        lambda s: (s.observation.is_root and s.observation.parent_id is not None) or None,
        "mapping.md 2.2",
    ),
)
