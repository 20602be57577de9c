"""Our values as OTLP messages (opentelemetry/proto/trace/v1/trace.proto), in protobuf's wire format.

The numbers before each part are its field's number, shifted, with its wire type. Fields stand in the order of their numbers,
and those that have their default are left out, so the bytes are those of protobuf's own writer.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from otel_langfuse.model import Resource, Scope, Span, SpanEvent, SpanLink

from ._repair import INT32, UINT32, repaired_attributes, text, within
from ._wire import attributes_field, field, sized, varint

_FIXED32: Final = struct.Struct("<I").pack
_FIXED64: Final = struct.Struct("<Q").pack


class NoIdError(ValueError):
    """The message is what the drop says."""


def span_field(span: Span) -> bytes:
    """One span, as it stands in a ``ScopeSpans``.

    Raises:
        NoIdError: One of its ids, or of its links' ids, is not hex of 16 or 8 bytes.
        Exception: It has something else that OTLP cannot hold.
    """
    parent, state, message, code = span.parent_span_id, span.trace_state, span.status_message, span.status_code
    parts = [b"\x0a\x10", _id_bytes(span.trace_id, 16), b"\x12\x08", _id_bytes(span.span_id, 8)]
    put = parts.append
    if state:
        put(field(b"\x1a", state.encode()))
    if parent is not None:
        put(b"\x22\x08")
        put(_id_bytes(parent, 8))
    put(field(b"\x2a", span.name.encode()))
    put(_number(b"\x30", span.kind))
    if span.start_time_unix_nano:
        put(b"\x39" + _FIXED64(span.start_time_unix_nano))
    if span.end_time_unix_nano:
        put(b"\x41" + _FIXED64(span.end_time_unix_nano))
    put(attributes_field(b"\x4a", span.attributes))
    put(_count(b"\x50", span.dropped_attributes_count))
    parts += [b"\x5a" + sized(_event(event)) for event in span.events]
    put(_count(b"\x60", span.dropped_events_count))
    parts += [b"\x6a" + sized(_link(link)) for link in span.links]
    put(_count(b"\x70", span.dropped_links_count))
    # Even an empty status is written: it is present in the stock encoder's messages, too.
    put(b"\x7a" + sized(field(b"\x12", (message or "").encode()) + _number(b"\x18", code)) if message or code else b"\x7a\x00")
    if span.flags:
        put(b"\x85\x01" + _FIXED32(span.flags))
    return b"".join((b"\x12", varint(sum(map(len, parts))), *parts))


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
    time = b"\x09" + _FIXED64(event.time_unix_nano) if event.time_unix_nano else b""
    attributes = attributes_field(b"\x1a", event.attributes)
    return b"".join((time, field(b"\x12", event.name.encode()), attributes, _count(b"\x20", event.dropped_attributes_count)))


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


def request(made: Iterable[tuple[Span, bytes]]) -> bytes:
    """One ``ExportTraceServiceRequest``, from spans and what ``span_field`` made of each."""
    resources: dict[int, _Resource] = {}
    groups: dict[tuple[int, int], list[bytes]] = {}
    for span, body in made:
        key = id(span.resource), id(span.scope)
        group = groups.get(key)
        if group is None:
            found = resources.get(key[0])
            if found is None:
                found = _Resource(_resource_field(span.resource), [], _schema_field(span.resource.schema_url))
                resources[key[0]] = found
            group = groups[key] = []
            found.scopes.append((_scope_field(span.scope), group, _schema_field(span.scope.schema_url)))
        group.append(body)
    parts: list[bytes] = []
    for found in resources.values():
        inside = [found.head]
        for head, group, tail in found.scopes:
            inside += b"\x12" + varint(_length(head, tail, *group)) + head, *group, tail
        inside.append(found.tail)
        parts += b"\x0a" + varint(_length(*inside)), *inside
    return b"".join(parts)  # once: each level on its own would copy every text again


def _length(*parts: Any) -> int:
    return sum(map(len, parts))
