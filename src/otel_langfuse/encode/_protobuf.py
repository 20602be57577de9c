"""Our values written into the OTLP messages, by ``add()`` and assignment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans

from otel_langfuse.model import Attributes, Resource, Scope, Span, SpanEvent, SpanLink

from ._repair import ROOM, UINT32, repaired_attributes, text, within


class NoIdError(ValueError):
    """The message is what the drop says."""


def put_span(into: Any, span: Span) -> None:
    """Write one span into an empty message.

    Raises:
        NoIdError: One of its ids, or of its links' ids, is not hex of 16 or 8 bytes.
        Exception: Whatever else OTLP cannot hold; ``into`` is then to be thrown away.
    """
    into.trace_id = _id_bytes(span.trace_id, 16)
    into.span_id = _id_bytes(span.span_id, 8)
    if span.parent_span_id is not None:
        into.parent_span_id = _id_bytes(span.parent_span_id, 8)
    into.name = span.name
    into.kind = span.kind
    into.flags = span.flags
    if span.start_time_unix_nano is not None:
        into.start_time_unix_nano = span.start_time_unix_nano
    if span.end_time_unix_nano is not None:
        into.end_time_unix_nano = span.end_time_unix_nano
    if span.attributes:
        _put_attributes(into.attributes, span.attributes)
    status = into.status
    status.code = span.status_code  # even 0: it makes the message present, as it is in the stock encoder's
    if span.status_message:
        status.message = span.status_message
    for event in span.events:
        _put_event(into.events.add(), event)
    for link in span.links:
        _put_link(into.links.add(), link)
    if span.trace_state:
        into.trace_state = span.trace_state
    if span.dropped_attributes_count:
        into.dropped_attributes_count = span.dropped_attributes_count
    if span.dropped_events_count:
        into.dropped_events_count = span.dropped_events_count
    if span.dropped_links_count:
        into.dropped_links_count = span.dropped_links_count


def check_ids(span: Span) -> None:
    """Nothing, unless an id is such as ``put_span`` refuses: for OTLP/JSON, where any text would do as an id.

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


def _put_event(into: Any, event: SpanEvent) -> None:
    into.name = event.name
    into.time_unix_nano = event.time_unix_nano
    into.dropped_attributes_count = event.dropped_attributes_count
    _put_attributes(into.attributes, event.attributes)


def _put_link(into: Any, link: SpanLink) -> None:
    into.trace_id = _id_bytes(link.trace_id, 16)
    into.span_id = _id_bytes(link.span_id, 8)
    into.trace_state = link.trace_state
    into.flags = link.flags
    into.dropped_attributes_count = link.dropped_attributes_count
    _put_attributes(into.attributes, link.attributes)


def put_resource(into: ResourceSpans, resource: Resource) -> None:
    """Repaired at once rather than when needed: it is one for many spans, and none of them may suffer from it."""
    into.schema_url = text(resource.schema_url)
    into.resource.SetInParent()
    _put_attributes(into.resource.attributes, repaired_attributes(resource.attributes))


def put_scope(into: ScopeSpans, scope: Scope) -> None:
    into.schema_url = text(scope.schema_url)
    into.scope.name = text(scope.name or "")
    into.scope.version = text(scope.version or "")
    into.scope.dropped_attributes_count = within(scope.dropped_attributes_count, UINT32)
    _put_attributes(into.scope.attributes, repaired_attributes(scope.attributes))


def _put_attributes(into: Any, attributes: Attributes) -> None:
    add = into.add
    for key, value in attributes.items():
        item = add()
        item.key = key
        kind = type(value)
        if kind is str:  # these two without the table: a call costs more than the rest
            item.value.string_value = value
        elif kind is int:
            item.value.int_value = value
        else:
            _PUT[kind](item.value, value, ROOM)


def _put_none(into: Any, value: None, room: int) -> None:  # noqa: ARG001 - the signature of the table
    into.SetInParent()


def _put_str(into: Any, value: str, room: int) -> None:  # noqa: ARG001
    into.string_value = value


def _put_bool(into: Any, value: bool, room: int) -> None:  # noqa: ARG001
    into.bool_value = value


def _put_int(into: Any, value: int, room: int) -> None:  # noqa: ARG001
    into.int_value = value


def _put_float(into: Any, value: float, room: int) -> None:  # noqa: ARG001
    into.double_value = value


def _put_bytes(into: Any, value: bytes, room: int) -> None:  # noqa: ARG001
    into.bytes_value = value


def _put_list(into: Any, value: Sequence[Any], room: int) -> None:
    if room < 2:
        raise RecursionError("nested too deeply for OTLP")
    array = into.array_value
    array.SetInParent()
    add = array.values.add
    for item in value:
        _PUT[type(item)](add(), item, room - 2)


def _put_dict(into: Any, value: Mapping[str, Any], room: int) -> None:
    if room < 3:
        raise RecursionError("nested too deeply for OTLP")
    pairs = into.kvlist_value
    pairs.SetInParent()
    for key, item in value.items():
        pair = pairs.values.add()
        pair.key = key
        _PUT[type(item)](pair.value, item, room - 3)


_PUT: dict[type, Callable[[Any, Any, int], None]] = {
    type(None): _put_none,
    str: _put_str,
    bool: _put_bool,
    int: _put_int,
    float: _put_float,
    bytes: _put_bytes,
    list: _put_list,
    tuple: _put_list,
    dict: _put_dict,
}
"""By exact type, which is what the SDK makes; for anything else there is a KeyError, and ``repaired``."""
