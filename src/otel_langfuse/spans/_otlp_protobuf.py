"""OTLP as protobuf. Loaded by who reads it, which no way to a server does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from otel_langfuse.model import Resource, Scope, Span, SpanEvent, SpanLink

from ._otlp_json import Unreadable


def read(payload: bytes) -> list[Span]:
    """See ``from_otlp_protobuf``."""
    try:
        request = ExportTraceServiceRequest.FromString(payload)
    except DecodeError:
        raise Unreadable("not a protobuf ExportTraceServiceRequest") from None
    spans: list[Span] = []
    for entry in request.resource_spans:
        resource = Resource(_attributes_pb(entry.resource.attributes), entry.schema_url)
        for group in entry.scope_spans:
            raw = group.scope
            scope = Scope(
                raw.name or None,
                raw.version or None,
                _attributes_pb(raw.attributes),
                group.schema_url,
                raw.dropped_attributes_count or None,
            )
            spans.extend(_span_pb(span, resource, scope) for span in group.spans)
    return spans


def _span_pb(span: trace_pb2.Span, resource: Resource, scope: Scope) -> Span:
    if not span.trace_id or not span.span_id:
        raise Unreadable("a span without trace_id or span_id")
    return Span(
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex() or None,
        span.name,
        span.start_time_unix_nano or None,
        span.end_time_unix_nano or None,
        _attributes_pb(span.attributes),
        resource,
        scope,
        span.kind,
        span.status.code,
        span.status.message or None,
        tuple(_event_pb(event) for event in span.events),
        tuple(_link_pb(link) for link in span.links),
        span.trace_state,
        span.flags,
        span.dropped_attributes_count,
        span.dropped_events_count,
        span.dropped_links_count,
    )


def _event_pb(event: trace_pb2.Span.Event) -> SpanEvent:
    return SpanEvent(event.name, event.time_unix_nano, _attributes_pb(event.attributes), event.dropped_attributes_count)


def _link_pb(link: trace_pb2.Span.Link) -> SpanLink:
    return SpanLink(
        link.trace_id.hex(),
        link.span_id.hex(),
        link.trace_state,
        _attributes_pb(link.attributes),
        link.dropped_attributes_count,
        link.flags,
    )


def _attributes_pb(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for item in attributes:
        if not item.HasField("value"):
            raise Unreadable("an attribute without value")
        made[item.key] = _value_pb(item.value)
    return made


def _value_pb(value: AnyValue) -> Any:
    which = value.WhichOneof("value")
    if which is None:
        return None
    found = getattr(value, which)
    if which == "array_value":
        return [_value_pb(item) for item in found.values] or ()
    if which == "kvlist_value":
        return {item.key: _value_pb(item.value) for item in found.values}
    return found
