"""Our values as OTLP messages (opentelemetry/proto/trace/v1/trace.proto), in protobuf's wire format.

The numbers before each part are its field's number, shifted, with its wire type. Fields stand in the order of their numbers,
and those that have their default are left out, so the bytes are those of protobuf's own writer.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import repeat
from operator import is_, itemgetter
from typing import Any, Final, NamedTuple

from otel_langfuse.model import Resource, Scope, Span, SpanEvent, SpanLink

from ._repair import INT32, UINT32, repaired_attributes, text, within
from ._wire import attributes_field, field, sized, varint

_FIXED32: Final = struct.Struct("<I").pack
_FIXED64: Final = struct.Struct("<Q").pack
_TIMES: Final = struct.Struct("<cQcQ").pack
_RESOURCE: Final = itemgetter(Span._fields.index("resource"))
_SCOPE: Final = itemgetter(Span._fields.index("scope"))


class NoIdError(ValueError):
    """The message is what the drop says."""


def span_field(span: Span) -> bytes:
    """One span, as it stands in a ``ScopeSpans``.

    Raises:
        NoIdError: One of its ids, or of its links' ids, is not hex of 16 or 8 bytes.
        Exception: It has something else that OTLP cannot hold.
    """
    # All at once: asking for each of the nineteen by its name takes longer than writing most of them.
    (trace_id, span_id, parent, name, start, end, attributes, _, _, kind, code, message, events, links, state, flags,
     dropped_attributes, dropped_events, dropped_links) = span[:19]  # fmt: skip
    parts = [b"\x0a\x10", _id_bytes(trace_id, 16), b"\x12\x08", _id_bytes(span_id, 8)]
    put = parts.append
    if state:
        put(field(b"\x1a", state.encode()))
    if parent is not None:
        put(b"\x22\x08")
        put(_id_bytes(parent, 8))
    put(field(b"\x2a", name.encode()))
    put(_KINDS.get(kind) or _number(b"\x30", kind))
    if start and end:
        put(_TIMES(b"\x39", start, b"\x41", end))
    else:
        put(_time(b"\x39", start) + _time(b"\x41", end))
    put(attributes_field(b"\x4a", attributes))
    if dropped_attributes or events or dropped_events or links or dropped_links:
        put(_count(b"\x50", dropped_attributes))
        parts += [b"\x5a" + sized(_event(event)) for event in events]
        put(_count(b"\x60", dropped_events))
        parts += [b"\x6a" + sized(_link(link)) for link in links]
        put(_count(b"\x70", dropped_links))
    # Even an empty status is written: it is present in the stock encoder's messages, too.
    put(b"\x7a" + sized(field(b"\x12", (message or "").encode()) + _number(b"\x18", code)) if message or code else b"\x7a\x00")
    if flags:
        put(b"\x85\x01" + _FIXED32(flags))
    body = b"".join(parts)
    return b"".join((b"\x12", varint(len(body)), body))


_KINDS: Final = {kind: b"\x30" + varint(kind) for kind in range(1, 6)}


def _time(tag: bytes, time: int | None) -> bytes:
    return tag + _FIXED64(time) if time else b""


def check_ids(span: Span) -> None:
    """Nothing, unless an id is such as ``span_field`` refuses: for OTLP/JSON, where any text would do as an id.

    Raises:
        NoIdError: One of its ids, or of its links' ids, is not hex of 16 or 8 bytes.
    """
    _id_bytes(span.trace_id, 16)
    _id_bytes(span.span_id, 8)
    if span.parent_span_id is not None:
        _id_bytes(span.parent_span_id, 8)
    for link in span.links:
        _id_bytes(link.trace_id, 16)
        _id_bytes(link.span_id, 8)


def _id_bytes(digits: str, size: int) -> bytes:
    try:
        raw = bytes.fromhex(digits)  # which also takes spaces: hence both lengths
        if len(raw) == size and len(digits) == size + size:
            return raw
    except (TypeError, ValueError):
        pass
    raise NoIdError(f"a trace, span or parent id is not {size} bytes in hex, as OTLP needs it")


def _number(tag: bytes, value: int) -> bytes:
    """An enumeration's number: one that the enumeration does not have is written, too."""
    if value in INT32:
        return tag + varint(value if value > 0 else value + (1 << 64)) if value else b""
    raise OverflowError("more than 32 bits")


def _count(tag: bytes, value: int) -> bytes:
    if not value:
        return b""
    if value in UINT32:
        return tag + varint(value)
    raise OverflowError("more than 32 bits, or negative")


def _event(event: SpanEvent) -> bytes:
    attributes = attributes_field(b"\x1a", event.attributes)
    return b"".join(
        (
            _time(b"\x09", event.time_unix_nano),
            field(b"\x12", event.name.encode()),
            attributes,
            _count(b"\x20", event.dropped_attributes_count),
        )
    )


def _link(link: SpanLink) -> bytes:
    parts = [b"\x0a\x10", _id_bytes(link.trace_id, 16), b"\x12\x08", _id_bytes(link.span_id, 8)]
    parts.append(field(b"\x1a", link.trace_state.encode()))
    parts.append(attributes_field(b"\x22", link.attributes))
    parts.append(_count(b"\x28", link.dropped_attributes_count))
    parts.append(b"\x35" + _FIXED32(link.flags) if link.flags else b"")
    return b"".join(parts)


# -- what stands around spans: repaired at once rather than when needed, as none of the many spans inside may suffer from it


def _resource_field(resource: Resource) -> bytes:
    return b"\x0a" + sized(attributes_field(b"\x0a", repaired_attributes(resource.attributes)))


def _scope_field(scope: Scope) -> bytes:
    name, version = text(scope.name or "").encode(), text(scope.version or "").encode()
    attributes = attributes_field(b"\x1a", repaired_attributes(scope.attributes))
    dropped = _count(b"\x20", within(scope.dropped_attributes_count, UINT32))
    return b"\x0a" + sized(b"".join((field(b"\x0a", name), field(b"\x12", version), attributes, dropped)))


def _schema_field(schema_url: str) -> bytes:
    return field(b"\x1a", text(schema_url).encode())


def resource_bytes(resource: Resource) -> int:
    """At most what a resource adds to a request."""
    return len(_resource_field(resource)) + len(_schema_field(resource.schema_url)) + _FRAME_BYTES


def scope_bytes(scope: Scope) -> int:
    """At most what a scope adds to a request."""
    return len(_scope_field(scope)) + len(_schema_field(scope.schema_url)) + _FRAME_BYTES


_FRAME_BYTES: Final = 6
"""At most what a tag and a length add to a message of up to 2 GiB."""


class _Resource(NamedTuple):
    head: bytes
    scopes: list[tuple[bytes, list[bytes], bytes]]
    tail: bytes


def request(spans: Sequence[Span], bodies: Sequence[bytes]) -> bytes:
    """One ``ExportTraceServiceRequest``, from spans and what ``span_field`` made of each."""
    resources: dict[int, _Resource] = {}
    groups: dict[tuple[int, int], list[bytes]] = {}
    if _is_of_one_origin(spans):
        _group_of(spans[0], resources, groups).extend(bodies)
    else:
        for span, body in zip(spans, bodies, strict=True):
            group = groups.get((id(span.resource), id(span.scope)))
            (_group_of(span, resources, groups) if group is None else group).append(body)
    parts: list[bytes] = []
    for found in resources.values():
        inside = [found.head]
        for head, group, tail in found.scopes:
            inside += b"\x12" + varint(_length(head, tail, *group)) + head, *group, tail
        inside.append(found.tail)
        parts += b"\x0a" + varint(_length(*inside)), *inside
    return b"".join(parts)  # once: each level on its own would copy every text again


def _is_of_one_origin(spans: Sequence[Span]) -> bool:
    """Whether all of them have one resource object and one scope object, as mostly."""
    if not spans:
        return False
    first = spans[0]
    of_one_scope = all(map(is_, map(_SCOPE, spans), repeat(first.scope)))
    return of_one_scope and all(map(is_, map(_RESOURCE, spans), repeat(first.resource)))


def _group_of(span: Span, resources: dict[int, _Resource], groups: dict[tuple[int, int], list[bytes]]) -> list[bytes]:
    """A new group, for the spans of this one's resource and scope."""
    key = id(span.resource), id(span.scope)
    found = resources.get(key[0])
    if found is None:
        found = _Resource(_resource_field(span.resource), [], _schema_field(span.resource.schema_url))
        resources[key[0]] = found
    group = groups[key] = []
    found.scopes.append((_scope_field(span.scope), group, _schema_field(span.scope.schema_url)))
    return group


def _length(*parts: Any) -> int:
    return sum(map(len, parts))
