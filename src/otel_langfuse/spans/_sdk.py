"""From the SDK's spans and back to them: the two places that know its types."""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping, Sequence
from typing import Any, Final, TypeAlias

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource as SdkResource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    DEFAULT_TRACE_STATE,
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from otel_langfuse.errors import Drop, DropReason
from otel_langfuse.model import Attributes, Resource, Scope, Span, SpanEvent, SpanLink
from otel_langfuse.span_context import SPAN_ID, TRACE_ID, TRACE_STATE

from ._slots import parts_of

HAS_IS_REMOTE = 0x100
"""Bit of ``flags``: whether the parent is remote is known (trace.proto, ``SpanFlags``)."""

IS_REMOTE = 0x200
"""Bit of ``flags``: the parent (of a link: the linked span) is in another process."""

_INTERNAL = SpanKind.INTERNAL
_UNSET = StatusCode.UNSET

Made: TypeAlias = MutableMapping[int, "tuple[Any, Any]"]
"""``id()`` of a resource or scope -> it (so that the id stays its own) and what was made of it."""


def from_sdk(spans: Iterable[ReadableSpan], attributes: Sequence[Attributes] | None = None) -> tuple[list[Span], list[Drop]]:
    """Read finished SDK spans, in the worker.

    A span that cannot be read costs only itself. Values of attributes are taken as they are, not copied: the SDK has
    made them immutable. An empty sequence is an empty tuple there, which is also what ``from_otlp`` makes of one.

    Args:
        spans: Finished spans, of the SDK 1.30 or later.
        attributes: For each span the copy of its attributes that the caller has already taken; as many as ``spans``.

    Returns:
        The spans, in order, and one ``Drop`` (unreadable) for each that could not be read. Spans of one SDK resource
        share one ``Resource`` object, those of equal instrumentation scopes one ``Scope`` object.
    """
    made: list[Span] = []
    drops: list[Drop] = []
    read = Reader().read
    pairs: Iterable[tuple[ReadableSpan, Attributes | None]] = (
        ((span, None) for span in spans) if attributes is None else zip(spans, attributes, strict=True)
    )
    for span, copied in pairs:
        try:
            made.append(read(span, copied))
        except Exception as error:  # noqa: BLE001, PERF203 - whatever a foreign span raises costs only that one
            drops.append(unreadable(error))
    return made, drops


def unreadable(error: Exception) -> Drop:
    """What becomes of a span that raised this when it was read."""
    return Drop(DropReason.UNREADABLE, 1, f"{type(error).__name__} while reading a span")


class Reader:
    """Reads the spans of one batch, one by one, as ``from_sdk`` does; they share what it says that they share."""

    __slots__ = ("_resources", "_scopes")

    def __init__(self) -> None:
        self._resources: Made = {}
        self._scopes: dict[Any, Any] = {}

    def read(self, span: ReadableSpan, attributes: Attributes | None) -> Span:
        """One span; with ``attributes``, if they are given, instead of its own.

        Raises:
            Exception: it cannot be read.
        """
        (name, context, parent, start, end, raw_resource, raw_scope, kind, code, message,
         dropped_attributes, events, dropped_events, links, dropped_links) = parts_of(span)  # fmt: skip
        if type(context) is SpanContext:
            plain: Any = context
            trace_id, span_id, state = plain[TRACE_ID], plain[SPAN_ID], plain[TRACE_STATE]
        elif context is None:
            raise ValueError("a span without a context")
        else:
            trace_id, span_id, state = context.trace_id, context.span_id, context.trace_state
        resource = self._resources.get(id(raw_resource))
        if resource is None:
            resource = self._resources[id(raw_resource)] = (raw_resource, _resource_from_sdk(raw_resource))
        scope = self._scopes.get(id(raw_scope))
        if scope is None:
            scope = self._scopes[id(raw_scope)] = (raw_scope, _scope_from_sdk(raw_scope, self._scopes))
        made: Span = _new_tuple(
            Span,  # what its constructor does, without a call in between
            (
                trace_id.to_bytes(16, "big").hex(),
                span_id.to_bytes(8, "big").hex(),
                None if parent is None else parent.span_id.to_bytes(8, "big").hex(),
                name,
                start,
                end,
                _copied(span.attributes) if attributes is None else attributes,
                resource[1],
                scope[1],
                1 if kind is _INTERNAL else kind._value_ + 1,
                0 if code is _UNSET else code._value_,
                message,
                tuple(map(_event_from_sdk, span.events)) if events else (),
                tuple(map(_link_from_sdk, span.links)) if links else (),
                "" if state is DEFAULT_TRACE_STATE else _state_text(state),
                HAS_IS_REMOTE | IS_REMOTE if parent is not None and parent.is_remote else HAS_IS_REMOTE,
                dropped_attributes,
                dropped_events,
                dropped_links,
                (),
            ),
        )
        return made


_new_tuple: Final[Any] = tuple.__new__


def _copied(attributes: Any) -> Attributes:
    """A plain dict. ``copy()`` of the SDK's mapping is one call, where ``dict()`` asks it for key after key."""
    try:
        copy = attributes.copy()
    except AttributeError:
        return dict(attributes or {})
    return copy if type(copy) is dict else dict(copy)


def _resource_from_sdk(resource: Any) -> Resource:
    return Resource() if resource is None else Resource(_copied(resource.attributes), resource.schema_url or "")


def _scope_from_sdk(scope: Any, scopes: dict[Any, Any]) -> Scope:
    """The same object for every equal scope: an application that calls ``get_tracer()`` for each request makes many."""
    if scope is None:
        return Scope()
    made = Scope(scope.name or None, scope.version or None, _copied(scope.attributes), scope.schema_url or "")
    if made.attributes:
        return made
    shared: Scope = scopes.setdefault((made.name, made.version, made.schema_url), made)
    return shared


def _event_from_sdk(event: Any) -> SpanEvent:
    return SpanEvent(event.name, event.timestamp, _copied(event.attributes), event.dropped_attributes)


def _link_from_sdk(link: Any) -> SpanLink:
    context = link.context
    return SpanLink(
        context.trace_id.to_bytes(16, "big").hex(),
        context.span_id.to_bytes(8, "big").hex(),
        _state_text(context.trace_state),
        _copied(link.attributes),
        link.dropped_attributes,
        HAS_IS_REMOTE | IS_REMOTE if context.is_remote else HAS_IS_REMOTE,
    )


def _state_text(state: Any) -> str:
    return ",".join(f"{key}={value}" for key, value in state.items()) if state else ""


# -- to the SDK --------------------------------------------------------------------------------------------------------


def to_sdk(span: Span, made: Made | None = None) -> ReadableSpan:
    """An SDK span for a foreign exporter: to the stock encoders it is equal to the one that ``from_sdk`` read.

    Args:
        span: Ids must be hex, as ``from_sdk`` makes them.
        made: An empty dict, the same for all spans of a batch: their SDK resources and scopes are then made only once.

    Raises:
        ValueError: An id is not hex, which only spans of ``from_otlp`` can have.
    """
    made = {} if made is None else made
    trace_id = int(span.trace_id, 16)
    parent = span.parent_span_id
    return ReadableSpan(
        name=span.name,
        # What reaches an exporter was sampled; ``flags`` need not say so, because the stock encoder never does.
        context=_context(trace_id, int(span.span_id, 16), span.trace_state, flags=span.flags & ~IS_REMOTE | TraceFlags.SAMPLED),
        parent=None if parent is None else _context(trace_id, int(parent, 16), span.trace_state, flags=span.flags),
        resource=_shared(made, span.resource, _resource_to_sdk),
        attributes=_bounded(span.attributes, span.dropped_attributes_count),
        events=_bounded_list([_event_to_sdk(event) for event in span.events], span.dropped_events_count),
        links=_bounded_list([_link_to_sdk(link) for link in span.links], span.dropped_links_count),
        kind=SpanKind(span.kind - 1) if 1 <= span.kind <= 5 else _INTERNAL,
        status=_status_to_sdk(span.status_code, span.status_message),
        start_time=span.start_time_unix_nano,
        end_time=span.end_time_unix_nano,
        instrumentation_scope=_shared(made, span.scope, _scope_to_sdk),
    )


def with_attributes(span: ReadableSpan, attributes: Attributes) -> ReadableSpan:
    """The same finished span with other attributes; the given one is not changed."""
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_bounded(attributes, span.dropped_attributes),
        events=_bounded_list(span.events, span.dropped_events),
        links=_bounded_list(span.links, span.dropped_links),
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _context(trace_id: int, span_id: int, trace_state: str, *, flags: int) -> SpanContext:
    pairs = [(key, value) for key, _, value in (pair.partition("=") for pair in trace_state.split(",")) if key]
    return SpanContext(trace_id, span_id, bool(flags & IS_REMOTE), TraceFlags(flags & 0xFF), TraceState(pairs))


def _shared(made: Made, value: Any, make: Callable[[Any], Any]) -> Any:
    found = made.get(id(value))
    if found is None:
        found = made[id(value)] = (value, make(value))
    return found[1]


def _resource_to_sdk(resource: Resource) -> SdkResource:
    return SdkResource(resource.attributes, resource.schema_url)


def _scope_to_sdk(scope: Scope) -> InstrumentationScope:
    return InstrumentationScope(scope.name or "", scope.version, scope.schema_url, scope.attributes)


def _status_to_sdk(code: int, message: str | None) -> Status:
    if code == StatusCode.ERROR.value:
        return Status(StatusCode.ERROR, message)
    return Status(StatusCode.OK if code == StatusCode.OK.value else StatusCode.UNSET)


def _event_to_sdk(event: SpanEvent) -> Event:
    return Event(event.name, _bounded(event.attributes, event.dropped_attributes_count), event.time_unix_nano)


def _link_to_sdk(link: SpanLink) -> Link:
    context = _context(int(link.trace_id, 16), int(link.span_id, 16), link.trace_state, flags=link.flags)
    return Link(context, _bounded(link.attributes, link.dropped_attributes_count))


def _bounded(attributes: Attributes, dropped: int) -> Attributes:
    """The attributes; in the SDK's own class when some were dropped, because only that can say so."""
    if not dropped:
        return attributes
    bounded = BoundedAttributes(attributes=attributes)
    bounded.dropped = dropped
    return bounded


def _bounded_list(items: Sequence[Any], dropped: int) -> Sequence[Any]:
    if not dropped:
        return items
    bounded = BoundedList.from_seq(len(items), items)
    bounded.dropped = dropped
    return bounded
