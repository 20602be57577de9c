"""Observations as events of Langfuse's ingestion API (``/api/public/ingestion``), the way its server writes before 4.

Source: mapping.md 2 (which events), 4 and 5 (their bodies); api.md 2 (the envelope).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableSet, Sequence
from typing import Any, NamedTuple

import orjson

from otel_langfuse.conventions._javascript import iso_time
from otel_langfuse.errors import Drop, DropReason
from otel_langfuse.model import Observation, Request

from .cut import cut_event

_MAX_CUTS = 4
_ENVELOPE = b'{"batch":['
_END = b"]}"


class Event(NamedTuple):
    """One encoded ingestion event. ``observation_id`` is None for what only says something about a trace; a score has its own."""

    id: str
    observation_id: str | None
    body: bytes


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
    known: MutableSet[str] = set() if seen is None else seen
    listed: list[tuple[str | None, dict[str, Any]]] = []
    told: set[str] = set()
    updates: set[tuple[Any, ...]] = set()
    for observation in observations:
        trace_id = observation.trace_id
        full = observation.is_root or observation.updates_trace
        if corrections and full and _is_told(observation, updates):
            known.add(trace_id)
        elif full or trace_id not in known:
            listed.append((None if full else trace_id, _trace_event(observation, now)))
        known.add(trace_id)
        if full:
            told.add(trace_id)
        listed.append((None, _observation_event(observation, now, corrections=corrections)))
    return [event for shallow_of, event in listed if shallow_of is None or shallow_of not in told]


def requests(
    observations: Iterable[Observation],
    *,
    url: str,
    headers: Mapping[str, str],
    max_request_bytes: int,
    now: str,
    seen: MutableSet[str] | None = None,
) -> tuple[list[Request], list[Drop]]:
    """Requests of at most ``max_request_bytes`` each. Of an event that alone is larger, the largest values are cut.

    One that has no JSON form is dropped; a ``Drop`` of nothing says that one was cut.
    ``Request.items`` are ``Event`` values; ``request`` makes a request of some of them again.
    """
    return requests_of(events(observations, now=now, seen=seen), url=url, headers=headers, max_request_bytes=max_request_bytes)


def requests_of(
    made: Iterable[dict[str, Any]], *, url: str, headers: Mapping[str, str], max_request_bytes: int
) -> tuple[list[Request], list[Drop]]:
    """The same for ingestion events of any type."""
    encoded: list[Event] = []
    drops: list[Drop] = []
    for event in made:
        body, drop = _encoded(event, max_request_bytes)
        if drop is not None:
            drops.append(drop)
        if body:
            encoded.append(_event(event, body))
    return [request(chunk, url=url, headers=headers) for chunk in _chunks(encoded, max_request_bytes)], drops


def request(items: Sequence[Event], *, url: str, headers: Mapping[str, str]) -> Request:
    """One request that carries the events. Not compressed: the route does not inflate (api.md 1.4)."""
    body = b"".join((_ENVELOPE, b",".join([item.body for item in items]), _END))
    return Request("ingestion", url, {**headers, "Content-Type": "application/json"}, body, items)


def items_of(body: bytes) -> list[Event]:
    """The items of a request that was made here, from its body.

    Raises:
        Exception: It is none.
    """
    return [_event(event, orjson.dumps(event)) for event in orjson.loads(body)["batch"]]


def smaller(item: Event, max_bytes: int) -> Event | None:
    """The event with its largest values cut, so that it alone makes a request of ``max_bytes``; None if it cannot."""
    body = _cut(orjson.loads(item.body), max_bytes)
    return None if body is None else item._replace(body=body)


def _event(event: Mapping[str, Any], body: bytes) -> Event:
    return Event(event["id"], None if event["type"] == "trace-create" else event["body"]["id"], body)


def _encoded(event: dict[str, Any], max_request_bytes: int) -> tuple[bytes, Drop | None]:
    lost = 0 if event["type"] == "trace-create" else 1
    try:
        body = _dumps(event)
    except (TypeError, ValueError, RecursionError) as error:
        return b"", Drop(DropReason.UNREADABLE, lost, f"{event['type']} has no JSON form: {type(error).__name__}")
    if len(body) + len(_ENVELOPE) + len(_END) <= max_request_bytes:
        return body, None
    cut = _cut(event, max_request_bytes)
    detail = f"{event['type']} of {len(body)} bytes is over the limit of {max_request_bytes} bytes a request"
    if cut is None:
        return b"", Drop(DropReason.TOO_LARGE, lost, detail)
    return cut, Drop(DropReason.TOO_LARGE, 0, f"{detail}: its largest values are cut")


def _cut(event: dict[str, Any], max_request_bytes: int) -> bytes | None:
    limit = aim = max_request_bytes - len(_ENVELOPE) - len(_END)
    for _ in range(_MAX_CUTS):
        body = _dumps(cut_event(event, aim))
        if len(body) <= limit:
            return body
        aim = aim * limit // len(body) * 9 // 10  # JSON may need six bytes for one
    return None


def _dumps(event: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(event)
    except TypeError:  # a lone surrogate, or an integer over 64 bits
        return orjson.dumps(_repaired(event, 0))


def _repaired(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if depth > 200:
        return None
    if isinstance(value, Mapping):
        return {_repaired(str(name), depth): _repaired(item, depth + 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_repaired(item, depth + 1) for item in value]
    if isinstance(value, int) and abs(value) >= 2**63:
        return float(value)
    return value


def _chunks(encoded: Iterable[Event], max_request_bytes: int) -> Iterable[list[Event]]:
    chunk: list[Event] = []
    size = len(_ENVELOPE) + len(_END)
    for event in encoded:
        if chunk and size + len(event.body) + 1 > max_request_bytes:
            yield chunk
            chunk, size = [], len(_ENVELOPE) + len(_END)
        chunk.append(event)
        size += len(event.body) + 1
    if chunk:
        yield chunk


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


_ORIGIN_ONLY = 2  # resourceAttributes and scope


def _time(edge: int | None, other: int | None, now: str) -> str:
    """An edge of a span, cut to milliseconds; where it is unknown the other edge, else now (mapping.md 1.4)."""
    known = other if edge is None else edge
    return now if known is None else iso_time(known // 1_000_000)


def _trace_event(observation: Observation, now: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": observation.trace_id,
        "timestamp": _time(observation.start_time_unix_nano, observation.end_time_unix_nano, now),
        "environment": observation.environment,
    }
    if observation.is_root or observation.updates_trace:
        trace = observation.trace
        body |= {
            "name": trace.name,
            "metadata": trace.metadata,
            "version": observation.version,
            "release": trace.release,
            "userId": trace.user_id,
            "sessionId": trace.session_id,
            "public": trace.public,
            "tags": list(trace.tags),
            "input": trace.input,
            "output": trace.output,
        }
    identifier = f"{observation.trace_id}-{observation.id}-trace"
    return {"id": identifier[:800], "type": "trace-create", "timestamp": body["timestamp"], "body": body}


def _observation_event(observation: Observation, now: str, *, corrections: bool) -> dict[str, Any]:
    start, end = observation.start_time_unix_nano, observation.end_time_unix_nano
    body = {
        "id": observation.id,
        "traceId": observation.trace_id,
        "parentObservationId": observation.parent_id,
        "name": observation.name,
        "startTime": _time(start, end, now),
        "endTime": _time(end, start, now),
        "environment": observation.environment,
        "completionStartTime": observation.completion_start_time,
        "metadata": _with_nanoseconds(observation) if corrections else observation.metadata,
        "level": observation.level,
        "statusMessage": observation.status_message,
        "version": observation.version,
        "modelParameters": observation.model_parameters,
        "model": observation.model,
        "promptName": observation.prompt_name,
        "promptVersion": observation.prompt_version,
        "usageDetails": observation.usage_details,
        "costDetails": observation.cost_details,
        "input": observation.input,
        "output": observation.output,
    }
    identifier = f"{observation.trace_id}-{observation.id}"
    return {"id": identifier[:800], "type": f"{observation.type}-create", "timestamp": now, "body": body}


def _with_nanoseconds(observation: Observation) -> Mapping[str, Any]:
    start, end = observation.start_time_unix_nano, observation.end_time_unix_nano
    metadata = {**observation.metadata}
    if start is not None and start % 1_000_000:
        metadata["startTimeUnixNano"] = str(start)
    if end is not None and end % 1_000_000:
        metadata["endTimeUnixNano"] = str(end)
    return metadata
