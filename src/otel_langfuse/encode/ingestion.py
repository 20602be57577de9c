"""Observations as events of Langfuse's ingestion API (``/api/public/ingestion``), the way its server writes before 4.

Source: mapping.md 2 (which events), 4 and 5 (their bodies); api.md 2 (the envelope).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableSet, Sequence
from typing import Any, NamedTuple, TypeAlias

import orjson

from otel_langfuse.conventions._javascript import iso_time
from otel_langfuse.errors import Drop, DropReason
from otel_langfuse.model import OBSERVATION_TYPES, Observation, Request

from .cut import cut_event

_MAX_CUTS = 4
_ENVELOPE = b'{"batch":['
_END = b"]}"
_IO = ("input", "output")
_FRAME_BYTES = 1_000  # of an event beside its input and output, about


class Event(NamedTuple):
    """One ingestion event. ``observation_id`` is None for what only says something about a trace; a score has its own."""

    id: str
    observation_id: str | None
    content: dict[str, Any]

    @property
    def body(self) -> bytes:
        """The event as JSON. Encoded each time: a request has it, and only its parts are made of single events."""
        return _dumps(self.content)


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
    listed: list[dict[str, Any]] = []
    shallow: list[tuple[int, str]] = []  # places of events that say nothing of their trace
    told: set[str] = set()
    updates: set[tuple[Any, ...]] = set()
    for observation in observations:
        trace_id = observation.trace_id
        if observation.is_root or observation.updates_trace:
            if not (corrections and _is_told(observation, updates)):
                listed.append(_trace_event(observation, now, full=True))
            told.add(trace_id)
        elif trace_id not in known:
            shallow.append((len(listed), trace_id))
            listed.append(_trace_event(observation, now, full=False))
        known.add(trace_id)
        listed.append(_observation_event(observation, now, corrections=corrections))
    needless = {place for place, trace_id in shallow if trace_id in told}
    return [event for place, event in enumerate(listed) if place not in needless] if needless else listed


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
    events: Iterable[dict[str, Any]], *, url: str, headers: Mapping[str, str], max_request_bytes: int
) -> tuple[list[Request], list[Drop]]:
    """The same for ingestion events of any type."""
    made: list[Request] = []
    drops: list[Drop] = []
    for part in _parts(map(_event, events), max_request_bytes):
        body = _whole(part)
        if body is not None and len(body) <= max_request_bytes:
            made.append(_request(part, body, url, headers))
            continue
        for chunk in _chunks(_fitting(part, max_request_bytes, drops), max_request_bytes):
            items, bodies = zip(*chunk, strict=True)
            made.append(_request(items, _joined(bodies), url, headers))
    return made, drops


def request(items: Sequence[Event], *, url: str, headers: Mapping[str, str]) -> Request:
    """One request that carries the events, which another had carried. Not compressed: the route does not inflate (api.md 1.4)."""
    body = _whole(items)
    return _request(items, _joined([item.body for item in items]) if body is None else body, url, headers)


def _request(items: Sequence[Event], body: bytes, url: str, headers: Mapping[str, str]) -> Request:
    return Request("ingestion", url, {**headers, "Content-Type": "application/json"}, body, items)


def _whole(items: Iterable[Event]) -> bytes | None:
    """The body of a request, encoded at once; None if an event has no JSON form as it is."""
    try:
        return orjson.dumps({"batch": [item.content for item in items]})
    except (TypeError, ValueError, RecursionError):
        return None


def _joined(bodies: Iterable[bytes]) -> bytes:
    return b"".join((_ENVELOPE, b",".join(bodies), _END))


def items_of(body: bytes) -> list[Event]:
    """The items of a request that was made here, from its body.

    Raises:
        Exception: It is none.
    """
    return [_event(event) for event in orjson.loads(body)["batch"]]


def smaller(item: Event, max_bytes: int) -> Event | None:
    """The event with its largest values cut, so that it alone makes a request of ``max_bytes``; None if it cannot."""
    cut = _cut(item, max_bytes)
    return None if cut is None else cut[0]


def _event(content: dict[str, Any]) -> Event:
    return Event(content["id"], None if content["type"] == "trace-create" else content["body"]["id"], content)


_Encoded: TypeAlias = "tuple[Event, bytes]"


def _fitting(items: Iterable[Event], max_request_bytes: int, drops: list[Drop]) -> Iterator[_Encoded]:
    """The events one by one, such that each fits into a request; those that do not are added to ``drops``."""
    for item in items:
        kind, lost = item.content["type"], 0 if item.observation_id is None else 1
        try:
            body = item.body
        except (TypeError, ValueError, RecursionError) as error:
            drops.append(Drop(DropReason.UNREADABLE, lost, f"{kind} has no JSON form: {type(error).__name__}"))
            continue
        if len(body) + len(_ENVELOPE) + len(_END) <= max_request_bytes:
            yield item, body
            continue
        cut = _cut(item, max_request_bytes)
        detail = f"{kind} of {len(body)} bytes is over the limit of {max_request_bytes} bytes a request"
        if cut is None:
            drops.append(Drop(DropReason.TOO_LARGE, lost, detail))
        else:
            drops.append(Drop(DropReason.TOO_LARGE, 0, f"{detail}: its largest values are cut"))
            yield cut


def _cut(item: Event, max_request_bytes: int) -> _Encoded | None:
    limit = aim = max_request_bytes - len(_ENVELOPE) - len(_END)
    for _ in range(_MAX_CUTS):
        cut = item._replace(content=cut_event(item.content, aim))
        body = cut.body
        if len(body) <= limit:
            return cut, body
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


def _parts(items: Iterable[Event], max_request_bytes: int) -> Iterator[list[Event]]:
    """The events in such parts as are likely to fit into a request each, by the length of their input and output."""
    part: list[Event] = []
    size = 0
    for item in items:
        body = item.content["body"]
        weight = _FRAME_BYTES + sum([len(text) for side in _IO if type(text := body.get(side)) is str])
        if part and size + weight > max_request_bytes:
            yield part
            part, size = [], 0
        part.append(item)
        size += weight
    if part:
        yield part


def _chunks(encoded: Iterable[_Encoded], max_request_bytes: int) -> Iterator[list[_Encoded]]:
    chunk: list[_Encoded] = []
    size = len(_ENVELOPE) + len(_END)
    for one in encoded:
        if chunk and size + len(one[1]) + 1 > max_request_bytes:
            yield chunk
            chunk, size = [], len(_ENVELOPE) + len(_END)
        chunk.append(one)
        size += len(one[1]) + 1
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


def _trace_event(observation: Observation, now: str, *, full: bool) -> dict[str, Any]:
    timestamp = _time(observation.start_time_unix_nano, observation.end_time_unix_nano, now)
    body: dict[str, Any] = {
        "id": observation.trace_id,
        "timestamp": timestamp,
        "environment": observation.environment,
    }
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
    identifier = f"{observation.trace_id}-{observation.id}-trace"
    return {"id": identifier[:800], "type": "trace-create", "timestamp": timestamp, "body": body}


_TYPES = {kind: f"{kind}-create" for kind in OBSERVATION_TYPES}


def _observation_event(observation: Observation, now: str, *, corrections: bool) -> dict[str, Any]:
    # Taken apart once: reading the fields by name takes twice as long.
    (identity, trace_id, parent_id, kind, name, start, end, environment, level, status_message, version, *rest) = observation
    (given, produced, metadata, model, parameters, usage, cost, prompt_name, prompt_version, completion_start, *_) = rest
    body = {
        "id": identity,
        "traceId": trace_id,
        "parentObservationId": parent_id,
        "name": name,
        "startTime": _time(start, end, now),
        "endTime": _time(end, start, now),
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
    cut = {}
    if start is not None and start % 1_000_000:
        cut["startTimeUnixNano"] = str(start)
    if end is not None and end % 1_000_000:
        cut["endTimeUnixNano"] = str(end)
    return {**metadata, **cut} if cut else metadata
