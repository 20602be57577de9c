"""What the classic client's methods were given, sorted: fields of the observation, of the trace, times, ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from otel_langfuse.tracing._ending import nanoseconds
from otel_langfuse.tracing._origin import NOTES
from otel_langfuse.tracing.fields import OBSERVATION

from ._usage import used

_CAMEL: Final = {
    "userId": "user_id",
    "sessionId": "session_id",
    "traceId": "trace_id",
    "parentObservationId": "parent_observation_id",
    "startTime": "start_time",
    "endTime": "end_time",
    "statusMessage": "status_message",
    "completionStartTime": "completion_start_time",
    "modelParameters": "model_parameters",
    "usageDetails": "usage_details",
    "costDetails": "cost_details",
}
"""Names by which the API knows them, which the classic client let through."""

_OF_TRACE: Final = frozenset({"user_id", "session_id", "release", "public", "tags"})
_TIMES: Final = frozenset({"start_time", "end_time", "timestamp"})
_IDS: Final = frozenset({"id", "trace_id", "parent_observation_id", "trace_name"})
_GENERATIONS: Final = frozenset({"model", "model_parameters", "usage_details", "cost_details", "completion_start_time", "prompt"})
"""Who says one of these is a generation."""


class Given(NamedTuple):
    """The fields of one call, without those that are None. Times are nanoseconds since 1970."""

    name: str | None
    fields: dict[str, Any]  # of tracing.fields.OBSERVATION
    trace: dict[str, Any]  # of tracing.fields.TRACE
    ids: dict[str, str]
    start_ns: int | None
    end_ns: int | None

    @property
    def is_generation(self) -> bool:
        """Whether a span that says this is a generation."""
        return not _GENERATIONS.isdisjoint(self.fields)


def given(fields: Mapping[str, Any], *, of_trace: bool = False) -> Given:
    """Sorts the arguments of a call. Never raises: what cannot be used is left out, with a note.

    Args:
        fields: by name.
        of_trace: what a trace and an observation both can say is said of the trace: version and metadata.
    """
    known = {_CAMEL.get(name, name): value for name, value in fields.items() if value is not None}
    name = text_of("name", known.pop("name", None))
    times = {key: nanoseconds(key, known.pop(key)) for key in _TIMES & known.keys()}
    ids = {key: text for key in _IDS & known.keys() if (text := text_of(key, known.pop(key)))}
    trace = {key: known.pop(key) for key in _OF_TRACE & known.keys() if of_trace or key != "tags"}
    _fold(known)
    if of_trace:
        trace |= {key: known.pop(key) for key in ("version", "metadata", "environment") if key in known}
    for key in [key for key in known if key not in OBSERVATION]:
        NOTES.note(f"field {key}", f"there is no field {key[:40]!r}: it is left out")
        del known[key]
    start_ns = times.get("start_time") or times.get("timestamp")
    return Given(name, known, trace, ids, start_ns, times.get("end_time"))


def text_of(key: str, value: Any) -> str | None:
    """A name or an id as a text, whatever it was given as (a UUID, a number); None where it has none."""
    try:
        return None if value is None else str(value)
    except Exception:  # noqa: BLE001 - somebody's object
        NOTES.note(f"value {key}", f"{key} is left out: expected a text")
        return None


def _fold(known: dict[str, Any]) -> None:
    """What has no field of its own: ``data`` of an event and tags of an observation are metadata, usage is counts and costs."""
    if "data" in known:
        _add_metadata(known, known.pop("data"), "data")
    if "tags" in known:
        _add_metadata(known, {"tags": known.pop("tags")}, "tags")
    if "usage" not in known:
        return
    try:
        found = used(known.pop("usage"))
    except Exception:  # noqa: BLE001 - somebody's object
        NOTES.note("value usage", "usage is left out: expected a mapping or Usage(...)")
        return
    if found.counts:
        known.setdefault("usage_details", found.counts)
    if found.costs:
        known.setdefault("cost_details", found.costs)
    if found.unit is not None:
        _add_metadata(known, {"usage_unit": found.unit}, "usage_unit")


def _add_metadata(known: dict[str, Any], more: Any, name: str) -> None:
    had = known.get("metadata")
    base = dict(had) if isinstance(had, Mapping) else {} if had is None else {"metadata": had}
    known["metadata"] = {**base, **(more if isinstance(more, Mapping) else {name: more})}
