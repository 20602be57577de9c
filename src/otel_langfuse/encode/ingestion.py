"""Observations as events of Langfuse's ingestion API (``/api/public/ingestion``), the way its server writes before 4.

Source: mapping.md 2 (which events), 4 and 5 (their bodies); api.md 2 (the envelope).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableSet, Sequence
from typing import Any, NamedTuple, TypeAlias

import orjson

from otel_langfuse.errors import Drop, DropReason
from otel_langfuse.model import Observation, Request

from ._contents import events
from .cut import cut_event

__all__ = ["GROUP", "Event", "Items", "events", "items_of", "request", "requests", "requests_of", "smaller"]

_MAX_CUTS = 4
_ENVELOPE = b'{"batch":['
_END = b"]}"
_OF_TRACE = "trace-create"

GROUP = 32
"""Events that are encoded at once where not all of them fit into one request."""

_SAMPLE = 32
_SAMPLE_BYTES = 100_000  # where there are few, one of them says little of the others


class Event(NamedTuple):
    """One ingestion event. ``observation_id`` is None for what only says something about a trace; a score has its own."""

    id: str
    observation_id: str | None
    content: dict[str, Any]

    @property
    def body(self) -> bytes:
        """The event as JSON. Encoded each time: a request has it, and only its parts are made of single events."""
        return _dumps(self.content)


class Items(Sequence[Event]):
    """The events of a request, which nearly nobody looks at one by one."""

    def __init__(self, contents: Sequence[dict[str, Any]]) -> None:
        self.contents = contents

    @property
    def spans(self) -> int:
        """How many observations there are among them."""
        return sum([content["type"] != _OF_TRACE for content in self.contents])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Items) and self.contents == other.contents

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.contents)

    def __getitem__(self, index: Any) -> Any:
        return list(map(_event, self.contents[index])) if isinstance(index, slice) else _event(self.contents[index])


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
    contents = list(events)
    drops: list[Drop] = []
    if contents and _may_fit(contents, max_request_bytes):
        body = _whole(contents)
        if body is not None and len(body) <= max_request_bytes:
            return [_request(contents, body, url, headers)], drops
    packs = _packs(contents, max_request_bytes, drops)
    return [_request(some, _joined(bodies), url, headers) for some, bodies in packs], drops


def request(items: Sequence[Event], *, url: str, headers: Mapping[str, str]) -> Request:
    """One request that carries the events, which another had carried. Not compressed: the route does not inflate (api.md 1.4)."""
    contents = [item.content for item in items]
    body = _whole(contents)
    return _request(contents, _joined([item.body for item in items]) if body is None else body, url, headers)


def _request(contents: Sequence[dict[str, Any]], body: bytes, url: str, headers: Mapping[str, str]) -> Request:
    return Request("ingestion", url, {**headers, "Content-Type": "application/json"}, body, Items(contents))


def _may_fit(contents: Sequence[dict[str, Any]], max_request_bytes: int) -> bool:
    """Whether they are likely to fit into one request, by some of them."""
    try:
        return sum([len(orjson.dumps(content)) for content in contents[::_SAMPLE]]) * _SAMPLE <= max_request_bytes + _SAMPLE_BYTES
    except (TypeError, ValueError, RecursionError):
        return False


def _whole(contents: Sequence[dict[str, Any]]) -> bytes | None:
    """The body of a request, encoded at once; None if an event has no JSON form as it is."""
    try:
        return orjson.dumps({"batch": contents})
    except (TypeError, ValueError, RecursionError):
        return None


def _packs(
    contents: Sequence[dict[str, Any]], max_request_bytes: int, drops: list[Drop]
) -> Iterator[tuple[list[dict[str, Any]], list[bytes]]]:
    """The events in as few requests as keep their order and the limit; a group that does not fit is taken one by one."""
    some: list[dict[str, Any]] = []
    bodies: list[bytes] = []
    size = len(_ENVELOPE) + len(_END)
    for start in range(0, len(contents), GROUP):
        group = contents[start : start + GROUP]
        together = _together(group)
        if together is not None and size + len(together) + 1 <= max_request_bytes:
            encoded: Iterable[tuple[Sequence[dict[str, Any]], bytes]] = [(group, together)]
        else:
            encoded = (([content], body) for content, body in _fitting(group, max_request_bytes, drops))
        for more, body in encoded:
            if some and size + len(body) + 1 > max_request_bytes:
                yield some, bodies
                some, bodies, size = [], [], len(_ENVELOPE) + len(_END)
            some += more
            bodies.append(body)
            size += len(body) + 1
    if some:
        yield some, bodies


def _together(contents: Sequence[dict[str, Any]]) -> bytes | None:
    """Events as they stand in a request, with commas between them; None if one has no JSON form as it is."""
    try:
        return orjson.dumps(contents)[1:-1]
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
    cut = _cut(item.content, max_bytes)
    return None if cut is None else _event(cut[0])


def _event(content: dict[str, Any]) -> Event:
    return Event(content["id"], None if content["type"] == _OF_TRACE else content["body"]["id"], content)


_Encoded: TypeAlias = "tuple[dict[str, Any], bytes]"


def _fitting(contents: Iterable[dict[str, Any]], max_request_bytes: int, drops: list[Drop]) -> Iterator[_Encoded]:
    """The events one by one, such that each fits into a request; those that do not are added to ``drops``."""
    for content in contents:
        kind = content["type"]
        lost = 0 if kind == _OF_TRACE else 1
        try:
            body = _dumps(content)
        except (TypeError, ValueError, RecursionError) as error:
            drops.append(Drop(DropReason.UNREADABLE, lost, f"{kind} has no JSON form: {type(error).__name__}"))
            continue
        if len(body) + len(_ENVELOPE) + len(_END) <= max_request_bytes:
            yield content, body
            continue
        cut = _cut(content, max_request_bytes)
        detail = f"{kind} of {len(body)} bytes is over the limit of {max_request_bytes} bytes a request"
        if cut is None:
            drops.append(Drop(DropReason.TOO_LARGE, lost, detail))
        else:
            drops.append(Drop(DropReason.TOO_LARGE, 0, f"{detail}: its largest values are cut"))
            yield cut


def _cut(content: dict[str, Any], max_request_bytes: int) -> _Encoded | None:
    limit = aim = max_request_bytes - len(_ENVELOPE) - len(_END)
    for _ in range(_MAX_CUTS):
        cut = cut_event(content, aim)
        body = _dumps(cut)
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
