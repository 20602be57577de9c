"""Observations as the contents of ingestion events. Source: mapping.md 2 (which events), 4 and 5 (their bodies)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableSet
from typing import Any

from otel_langfuse.conventions._javascript import iso_time
from otel_langfuse.model import OBSERVATION_TYPES, Observation

_MS = 1_000_000  # nanoseconds
_ORIGIN_ONLY = 2  # resourceAttributes and scope
_TYPES = {kind: f"{kind}-create" for kind in OBSERVATION_TYPES}


class _Times(dict[int, str]):
    """Milliseconds since 1970 -> text, for one batch: many of its spans have an edge in common."""

    def __missing__(self, milliseconds: int) -> str:
        made = self[milliseconds] = iso_time(milliseconds)
        return made


def events(
    observations: Iterable[Observation],
    *,
    now: str,
    seen: MutableSet[str] | None = None,
    corrections: bool = True,
) -> list[dict[str, Any]]:
    """The ingestion events of a batch, in order: before each observation's own event, where due, a ``trace-create``.

    ``now`` is the envelope timestamp of observations' events (ISO 8601). ``seen`` holds ids of traces that already exist;
    ids are added to it. A trace gets an event from each root span, from each span that updates it, and from the first span
    seen of it, the last kind only while no other one of the batch tells more (mapping.md 2.4).
    With ``corrections`` a span that tells of its trace what another of the batch has told gets none for it, and the
    nanoseconds of start and end, which the server cuts to milliseconds, are kept in the metadata.
    """
    listed: list[dict[str, Any]] = []
    shallow: list[tuple[int, str]] = []  # places of events that say nothing of their trace
    told: set[str] = set()
    named: dict[str, None] = {}  # a set that keeps its order
    updates: set[tuple[Any, ...]] = set()
    times = _Times()
    for observation in observations:
        trace_id, start, end = observation.trace_id, observation.start_time_unix_nano, observation.end_time_unix_nano
        # An edge is cut to milliseconds; where it is unknown it is the other one, else now (mapping.md 1.4).
        first = end if start is None else start
        last = start if end is None else end
        start_time = now if first is None else times[first // _MS]
        if observation.is_root or observation.updates_trace:
            if not (corrections and _is_told(observation, updates)):
                listed.append(_trace_event(observation, start_time, full=True))
            told.add(trace_id)
        elif trace_id not in named and (seen is None or trace_id not in seen):
            shallow.append((len(listed), trace_id))
            listed.append(_trace_event(observation, start_time, full=False))
        named[trace_id] = None
        end_time = now if last is None else times[last // _MS]
        listed.append(_observation_event(observation, now, start_time, end_time, corrections=corrections))
    if seen is not None:
        for trace_id in named:
            seen.add(trace_id)
    needless = {place for place, trace_id in shallow if trace_id in told}
    return [event for place, event in enumerate(listed) if place not in needless] if needless else listed


def _is_told(observation: Observation, updates: set[tuple[Any, ...]]) -> bool:
    """Whether the batch has said about the trace all that this observation would; what it says is added.

    Only of what is below the root, and holds no name, input, output or metadata of its own for the trace: the server merges
    updates field by field, so that saying the same again changes nothing (mapping.md 2.5).
    """
    trace = observation.trace
    tags = tuple(trace.tags)
    said = (observation.trace_id, trace.user_id, trace.session_id, trace.release, trace.public, tags, observation.version)
    is_plain = trace.name is None and trace.input is None and trace.output is None and len(trace.metadata) == _ORIGIN_ONLY
    if not observation.is_root and is_plain and said in updates:
        return True
    updates.add(said)
    return False


def _trace_event(observation: Observation, timestamp: str, *, full: bool) -> dict[str, Any]:
    trace_id = observation.trace_id
    body: dict[str, Any] = {"id": trace_id, "timestamp": timestamp, "environment": observation.environment}
    if full:
        name, user_id, session_id, release, public, tags, given, produced, metadata = observation.trace
        body |= {
            "name": name,
            "metadata": metadata,
            "version": observation.version,
            "release": release,
            "userId": user_id,
            "sessionId": session_id,
            "public": public,
            "tags": list(tags),
            "input": given,
            "output": produced,
        }
    return {"id": f"{trace_id}-{observation.id}-trace"[:800], "type": "trace-create", "timestamp": timestamp, "body": body}


def _observation_event(
    observation: Observation, now: str, start_time: str, end_time: str, *, corrections: bool
) -> dict[str, Any]:
    # Taken apart once: reading the fields by name takes twice as long.
    (identity, trace_id, parent_id, kind, name, start, end, environment, level, status_message, version, given, produced,
     metadata, model, parameters, usage, cost, prompt_name, prompt_version, completion_start) = observation[:21]  # fmt: skip
    body = {
        "id": identity,
        "traceId": trace_id,
        "parentObservationId": parent_id,
        "name": name,
        "startTime": start_time,
        "endTime": end_time,
        "environment": environment,
        "completionStartTime": completion_start,
        "metadata": _with_nanoseconds(metadata, start, end) if corrections else metadata,
        "level": level,
        "statusMessage": status_message,
        "version": version,
        "modelParameters": parameters,
        "model": model,
        "promptName": prompt_name,
        "promptVersion": prompt_version,
        "usageDetails": usage,
        "costDetails": cost,
        "input": given,
        "output": produced,
    }
    return {"id": f"{trace_id}-{identity}"[:800], "type": _TYPES[kind], "timestamp": now, "body": body}


def _with_nanoseconds(metadata: Mapping[str, Any], start: int | None, end: int | None) -> Mapping[str, Any]:
    if start and end and start % _MS and end % _MS:  # nearly always
        return {**metadata, "startTimeUnixNano": str(start), "endTimeUnixNano": str(end)}
    cut = {}
    if start is not None and start % _MS:
        cut["startTimeUnixNano"] = str(start)
    if end is not None and end % _MS:
        cut["endTimeUnixNano"] = str(end)
    return {**metadata, **cut} if cut else metadata
