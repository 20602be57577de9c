"""Spans -> OTLP/JSON."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from otel_langfuse.model import Attributes, Resource, Scope, Span, SpanEvent, SpanLink

from ._packs import Form
from ._protobuf import check_ids
from ._repair import INT64, ROOM, UINT32, fits, repaired, repaired_attributes, text, within


def to_json(spans: Iterable[Span]) -> bytes:
    """One ``ExportTraceServiceRequest`` as OTLP/JSON (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding).

    Ids are hex, as they stand in the span; 64-bit integers decimal strings, bytes base64, enums numbers; NaN and
    infinities the strings that protobuf's JSON has for them. What ``from_otlp_json`` reads of it are equal spans, if
    these came from there and those of one resource and scope stood together.
    """
    spans = list(spans)
    try:
        return _request((span, _json_span(span)) for span in spans)
    except (TypeError, KeyError, RecursionError):
        return _request((span, _json_span(repaired(span))) for span in spans)


def span_json(span: Span) -> bytes:
    """One span as OTLP/JSON, repaired if need be.

    Raises:
        NoIdError: One of its ids is not hex of 16 or 8 bytes.
        Exception: Whatever else cannot be repaired.
    """
    try:
        check_ids(span)
        if fits(span):
            return orjson.dumps(_json_span(span))
    except Exception:  # noqa: BLE001, S110 - whatever it is, what cannot be repaired fails again
        pass
    span = repaired(span)
    check_ids(span)
    return orjson.dumps(_json_span(span))


def _request(made: Iterable[tuple[Span, Any]]) -> bytes:
    """The whole, from spans and what stands in it for each."""
    resources: dict[int, dict[str, Any]] = {}
    groups: dict[tuple[int, int], list[Any]] = {}
    for span, body in made:
        key = id(span.resource), id(span.scope)
        group = groups.get(key)
        if group is None:
            entry = resources.get(key[0])
            if entry is None:
                entry = resources[key[0]] = _json_resource(span.resource)
            group = groups[key] = []
            entry["scopeSpans"].append(_json_scope(span.scope, group))
        group.append(body)
    return orjson.dumps({"resourceSpans": list(resources.values())})


JSON: Final = Form(
    lambda spans, texts: _request(zip(spans, map(orjson.Fragment, texts), strict=True)),
    lambda resource: len(orjson.dumps(_json_resource(resource))) + 1,
    lambda scope: len(orjson.dumps(_json_scope(scope, []))) + 1,
    between=1,
    around=len(b'{"resourceSpans":[]}'),
)


def _json_resource(resource: Resource) -> dict[str, Any]:
    entry = {"resource": {"attributes": _json_attributes(repaired_attributes(resource.attributes))}, "scopeSpans": []}
    return _with(entry, schemaUrl=text(resource.schema_url))


def _json_scope(scope: Scope, spans: list[Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if scope.name is not None:
        made["name"] = text(scope.name)
    if scope.version is not None:
        made["version"] = text(scope.version)
    if scope.dropped_attributes_count is not None:
        made["droppedAttributesCount"] = within(scope.dropped_attributes_count, UINT32)
    made = _with(made, attributes=_json_attributes(repaired_attributes(scope.attributes)))
    return _with({"scope": made, "spans": spans}, schemaUrl=text(scope.schema_url))


def _json_span(span: Span) -> dict[str, Any]:
    status: dict[str, Any] = _with({}, code=span.status_code)
    if span.status_message is not None:
        status["message"] = span.status_message
    made: dict[str, Any] = {"traceId": span.trace_id, "spanId": span.span_id}
    if span.parent_span_id is not None:
        made["parentSpanId"] = span.parent_span_id
    made["name"] = span.name
    made["kind"] = span.kind
    if span.start_time_unix_nano is not None:
        made["startTimeUnixNano"] = str(span.start_time_unix_nano)
    if span.end_time_unix_nano is not None:
        made["endTimeUnixNano"] = str(span.end_time_unix_nano)
    made["attributes"] = _json_attributes(span.attributes)
    made["status"] = status
    return _with(
        made,
        events=[_json_event(event) for event in span.events],
        links=[_json_link(link) for link in span.links],
        traceState=span.trace_state,
        flags=span.flags,
        droppedAttributesCount=span.dropped_attributes_count,
        droppedEventsCount=span.dropped_events_count,
        droppedLinksCount=span.dropped_links_count,
    )


def _with(made: dict[str, Any], **more: Any) -> dict[str, Any]:
    """``made`` with those of ``more`` that are not empty, as protobuf leaves defaults out."""
    made.update((key, value) for key, value in more.items() if value)
    return made


def _json_event(event: SpanEvent) -> dict[str, Any]:
    made = {"name": event.name, "timeUnixNano": str(event.time_unix_nano)}
    return _with(made, attributes=_json_attributes(event.attributes), droppedAttributesCount=event.dropped_attributes_count)


def _json_link(link: SpanLink) -> dict[str, Any]:
    return _with(
        {"traceId": link.trace_id, "spanId": link.span_id},
        traceState=link.trace_state,
        attributes=_json_attributes(link.attributes),
        droppedAttributesCount=link.dropped_attributes_count,
        flags=link.flags,
    )


def _json_attributes(attributes: Attributes) -> list[dict[str, Any]]:
    return [{"key": key, "value": _JSON[type(value)](value, ROOM)} for key, value in attributes.items()]


def _json_float(value: float, room: int) -> dict[str, Any]:  # noqa: ARG001 - the signature of the table
    if math.isfinite(value):
        return {"doubleValue": value}
    return {"doubleValue": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}


def _json_list(value: Sequence[Any], room: int) -> dict[str, Any]:
    if room < 2:
        raise RecursionError("nested too deeply for OTLP")
    if value == ():
        return {"arrayValue": {}}
    return {"arrayValue": {"values": [_JSON[type(item)](item, room - 2) for item in value]}}


def _json_dict(value: Mapping[str, Any], room: int) -> dict[str, Any]:
    if room < 3:
        raise RecursionError("nested too deeply for OTLP")
    pairs = [{"key": key, "value": _JSON[type(item)](item, room - 3)} for key, item in value.items()]
    return {"kvlistValue": {"values": pairs}}


_JSON: dict[type, Callable[[Any, int], dict[str, Any]]] = {
    type(None): lambda _, room: {},  # noqa: ARG005
    str: lambda value, room: {"stringValue": value},  # noqa: ARG005
    bool: lambda value, room: {"boolValue": value},  # noqa: ARG005
    int: lambda value, room: {"intValue" if value in INT64 else "stringValue": str(value)},  # noqa: ARG005
    float: _json_float,
    bytes: lambda value, room: {"bytesValue": base64.b64encode(value).decode()},  # noqa: ARG005
    list: _json_list,
    tuple: _json_list,
    dict: _json_dict,
}
"""By exact type, as ``_wire._ANY``."""
