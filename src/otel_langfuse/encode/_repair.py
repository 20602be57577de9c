"""Values that OTLP cannot hold, made into such as it can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from otel_langfuse.model import Attributes, Span, SpanEvent, SpanLink

INT64 = range(-(2**63), 2**63)
INT32 = range(-(2**31), 2**31)
UINT64 = range(2**64)
UINT32 = range(2**32)
ROOM = 93
"""Messages that may be nested under an attribute: parsers stop at 100, and 7 are around an attribute of a span event.
A list takes 2 more, a mapping 3."""


def repaired(span: Span) -> Span:
    """The span with values that OTLP can hold. Slow; only for a span that could not be written as it is."""
    links = [_repaired_link(link) for link in span.links if len(link.trace_id) == 32 and len(link.span_id) == 16]
    lost = len(span.links) - len(links)
    return span._replace(
        name=text(span.name),
        start_time_unix_nano=within(span.start_time_unix_nano, UINT64),
        end_time_unix_nano=within(span.end_time_unix_nano, UINT64),
        attributes=repaired_attributes(span.attributes),
        kind=within(span.kind, range(2**31)),
        status_code=within(span.status_code, range(2**31)),
        status_message=None if span.status_message is None else text(span.status_message),
        events=tuple(map(_repaired_event, span.events)),
        links=tuple(links),
        trace_state=text(span.trace_state),
        flags=within(span.flags, UINT32),
        dropped_attributes_count=within(span.dropped_attributes_count, UINT32),
        dropped_events_count=within(span.dropped_events_count, UINT32),
        dropped_links_count=within(span.dropped_links_count + lost, UINT32),
    )


def _repaired_event(event: SpanEvent) -> SpanEvent:
    return SpanEvent(
        text(event.name),
        within(event.time_unix_nano, UINT64),
        repaired_attributes(event.attributes),
        within(event.dropped_attributes_count, UINT32),
    )


def _repaired_link(link: SpanLink) -> SpanLink:
    return link._replace(
        trace_state=text(link.trace_state),
        attributes=repaired_attributes(link.attributes),
        dropped_attributes_count=within(link.dropped_attributes_count, UINT32),
        flags=within(link.flags, UINT32),
    )


def fits(span: Span) -> bool:
    """Whether all but its ids and attributes is such as OTLP can hold. For JSON, which would hold anything."""
    times = [span.start_time_unix_nano or 0, span.end_time_unix_nano or 0, *(event.time_unix_nano for event in span.events)]
    counts = [span.flags, span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count]
    counts += [event.dropped_attributes_count for event in span.events]
    counts += [count for link in span.links for count in (link.dropped_attributes_count, link.flags)]
    texts = [span.name, span.trace_state, span.status_message or "", *(event.name for event in span.events)]
    texts += [link.trace_state for link in span.links]
    return (
        all(type(time) is int and time in UINT64 for time in times)
        and all(type(count) is int and count in UINT32 for count in counts)
        and all(isinstance(number, int) and number in INT32 for number in (span.kind, span.status_code))
        and all(type(text) is str for text in texts)
    )


def repaired_attributes(attributes: Attributes) -> dict[str, Any]:
    return {text(key): _repaired_value(value, ROOM) for key, value in attributes.items()}


def _repaired_value(value: Any, room: int) -> Any:
    if value is None or type(value) in (bool, float):
        return value
    if isinstance(value, int):
        return int(value) if int(value) in INT64 else str(int(value))
    if isinstance(value, float):
        return float(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, Mapping):
        if room < 3:
            return _flat(value)
        return {text(key): _repaired_value(item, room - 3) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        items = [_repaired_value(item, room - 2) for item in value] if room >= 2 else _flat(value)
        return items or ([] if isinstance(value, list) else ())  # which are not the same: see from_otlp_json
    return text(value)


def _flat(value: Any) -> str:
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, RecursionError):
        return "(nested too deeply)"


def text(value: Any) -> str:
    """Text that UTF-8 can hold: surrogates are paired where they are a pair, and replaced by U+FFFD where not."""
    found = str.__str__(value) if isinstance(value, str) else str(value)
    return found if found.isascii() else found.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def within(value: int | None, limits: range) -> int:
    return min(max(int(value), limits.start), limits.stop - 1) if value else 0
