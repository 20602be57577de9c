"""What an SDK span says of itself, all at once: from the SDK's own slots where they are as expected, else from its properties.

Each property of a span is a call of Python, and each list of events is copied under a lock, mostly an empty one. To read fifteen
slots is one call in C, at a fifth of that. A class of spans is looked at once, when its first span comes: its properties have to
be the SDK's own, and what the slots hold has to be what those say.
"""

from __future__ import annotations

from functools import cache
from operator import attrgetter
from typing import Any, Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode

_SLOTS: Final = attrgetter(
    "_name",
    "_context",
    "_parent",
    "_start_time",
    "_end_time",
    "_resource",
    "_instrumentation_scope",
    "_kind",
    "_status._status_code",
    "_status._description",
    "_attributes.dropped",
    "_events._dq",
    "_events.dropped",
    "_links._dq",
    "_links.dropped",
)
"""In the order of ``_properties``."""

_PROPERTIES: Final = (
    "name",
    "get_span_context",
    "parent",
    "start_time",
    "end_time",
    "resource",
    "instrumentation_scope",
    "kind",
    "status",
    "dropped_attributes",
    "events",
    "dropped_events",
    "links",
    "dropped_links",
    "__getattribute__",
)


def parts_of(span: ReadableSpan) -> Any:
    """All at once.

    Returns:
        Name, context, parent, start, end, resource, scope, kind, status code, its description, how many attributes were dropped,
        something that is true where there are events, how many were dropped, and the same two of links.

    Raises:
        Exception: a property of a foreign span does.
    """
    if _KEEPS.get(type(span)) or _keeps(type(span)):
        try:
            return _SLOTS(span)
        except AttributeError:  # made by hand, of plain values
            pass
    return _properties(span)


def _properties(span: ReadableSpan) -> tuple[Any, ...]:
    status = span.status
    return (
        span.name,
        span.get_span_context(),
        span.parent,
        span.start_time,
        span.end_time,
        span.resource,
        span.instrumentation_scope,
        span.kind,
        status.status_code,
        status.description,
        span.dropped_attributes,
        span.events,
        span.dropped_events,
        span.links,
        span.dropped_links,
    )


_KEEPS: Final[dict[type, bool]] = {}
"""Classes of spans, and whether their slots say what their properties do."""

_MAX_CLASSES: Final = 100


def _keeps(kind: type) -> bool:
    known = _KEEPS.get(kind)
    if known is None:
        known = all(getattr(kind, name, None) is getattr(ReadableSpan, name) for name in _PROPERTIES) and _slots_say_the_same()
        if len(_KEEPS) < _MAX_CLASSES:
            _KEEPS[kind] = known
    return known


@cache
def _slots_say_the_same() -> bool:
    """Whether the slots of a span that has something of everything hold what its properties say."""
    context = SpanContext(1, 2, is_remote=False)
    attributes = BoundedAttributes(0, {"a": 1})
    events: Any = BoundedList(1)
    links: Any = BoundedList(1)
    events.extend([Event("a"), Event("b")])
    links.extend([Link(context)] * 3)
    span = ReadableSpan(
        "a name",
        context=context,
        parent=SpanContext(1, 3, is_remote=True),
        resource=Resource({}),
        attributes=attributes,
        events=events,
        links=links,
        kind=SpanKind.CLIENT,
        status=Status(StatusCode.ERROR, "a message"),
        start_time=4,
        end_time=5,
        instrumentation_scope=InstrumentationScope("a scope"),
    )
    try:
        return all(
            list(slot) == list(said) if name in ("events", "links") else slot is said
            for name, slot, said in zip(_NAMES, _SLOTS(span), _properties(span), strict=True)
        )
    except Exception:  # noqa: BLE001 - it is other than we think
        return False


_NAMES: Final = (*_PROPERTIES[:8], "status code", "description", *_PROPERTIES[9:14])
