"""A batch of spans while it is being masked: all that holds text, as places in dictionaries that may be changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from otel_langfuse.model import Resource, Scope, Span

Where: TypeAlias = Literal["span", "attribute", "event", "event attribute", "link", "resource", "scope", "value"]


class Place(NamedTuple):
    """Where a value stands: ``holder[key]``.

    ``where`` says what holds it. Of a span and of a span event themselves, ``key`` is the field's name; elsewhere the
    attribute's key. ``event`` is the name of the span event that it is on. ``value`` is what stood there when this was made;
    ``beside``, for a span's own fields, its attributes.
    """

    holder: dict[str, Any]
    key: str
    where: Where
    value: Any
    event: str = ""
    beside: Mapping[str, Any] = {}


class _Part:
    """A named tuple with attributes, and what becomes of it."""

    __slots__ = ("attributes", "fields", "old")

    def __init__(self, old: Any, *fields: str) -> None:
        self.old = old
        self.attributes = dict(old.attributes)
        self.fields = {name: getattr(old, name) for name in fields}

    def new(self) -> Any:
        changed = {name: value for name, value in self.fields.items() if value is not getattr(self.old, name)}
        before = self.old.attributes
        if self.attributes.keys() != before.keys() or any(self.attributes[key] is not before[key] for key in before):
            changed["attributes"] = self.attributes
        return self.old._replace(**changed) if changed else self.old


class Draft:
    """One span. Resource and scope are drafts that it shares with others."""

    __slots__ = ("_links", "_part", "_resource", "_scope", "_span_events", "old")

    def __init__(self, old: Span, resource: _Part, scope: _Part) -> None:
        self.old = old
        self._part = _Part(old, "name", "status_message")
        self._span_events = [_Part(event, "name") for event in old.events]
        self._links = [_Part(link) for link in old.links]
        self._resource = resource
        self._scope = scope

    @property
    def attributes(self) -> dict[str, Any]:
        """The span's attributes, to be changed."""
        return self._part.attributes

    def places(self) -> Iterator[Place]:
        """What holds values on this span alone."""
        for name in ("name", "status_message"):
            yield Place(self._part.fields, name, "span", self._part.fields[name], "", self._part.attributes)
        yield from _attributes(self._part, "attribute")
        for event in self._span_events:
            name = event.fields["name"]
            yield Place(event.fields, "name", "event", name, name)
            yield from _attributes(event, "event attribute", name)
        for link in self._links:
            yield from _attributes(link, "link")

    def new(self, made: dict[int, Any]) -> Span:
        """The masked span, the same object where nothing changed. ``made`` holds what spans share."""
        span: Span = self._part.new()
        changed: dict[str, Any] = {}
        for name, parts in (("events", self._span_events), ("links", self._links)):
            new = tuple(part.new() for part in parts)
            if any(one is not part.old for one, part in zip(new, parts, strict=True)):
                changed[name] = new
        for name, shared in (("resource", self._resource), ("scope", self._scope)):
            one = made.setdefault(id(shared), shared.new())
            if one is not shared.old:
                changed[name] = one
        return span._replace(**changed) if changed else span


class Batch:
    """The drafts of a batch. Resources and scopes that spans share stay shared."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._resources: dict[int, _Part] = {}
        self._scopes: dict[int, _Part] = {}
        self.drafts = [Draft(span, _shared(self._resources, span.resource), _shared(self._scopes, span.scope)) for span in spans]

    def places(self) -> Iterator[Place]:
        """Every place of every span once, as it is now; what is done with one must not change another."""
        for draft in self.drafts:
            yield from draft.places()
        for resource in self._resources.values():
            yield from _attributes(resource, "resource")
        for scope in self._scopes.values():
            yield from _attributes(scope, "scope")

    def spans(self) -> list[Span]:
        """What became of them."""
        made: dict[int, Any] = {}
        return [draft.new(made) for draft in self.drafts]


def _shared(parts: dict[int, _Part], part: Resource | Scope) -> _Part:
    found = parts.get(id(part))
    if found is None:
        found = parts[id(part)] = _Part(part)
    return found


def of_value(value: Any, field: str) -> tuple[dict[str, Any], Place]:
    """A value that is on no span, as a place."""
    holder = {field: value}
    return holder, Place(holder, field, "value", value)


def _attributes(part: _Part, where: Where, event: str = "") -> Iterable[Place]:
    return [Place(part.attributes, key, where, value, event) for key, value in part.attributes.items()]
