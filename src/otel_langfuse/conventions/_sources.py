"""The words that rows are made of.

Each knows which keys it reads, so that a span pays only for rules whose keys it carries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from otel_langfuse.conventions import _javascript as js
from otel_langfuse.conventions._nested import nested_object
from otel_langfuse.conventions._rule import Source
from otel_langfuse.conventions._view import View

_TEXT = frozenset({str})
_CONTAINERS = frozenset({list, dict})  # which JavaScript calls true, empty ones too


def attr(key: str) -> Source:
    """The attribute, unless it is null (JavaScript's ``a ?? b``)."""
    return Source(lambda view: view.attributes.get(key), keys=frozenset({key}))


def filled(key: str) -> Source:
    """The attribute, if JavaScript calls it true (``a || b``): not ``""``, 0 or false."""

    def read(view: View) -> Any:
        value = view.attributes.get(key)
        return value if value or type(value) in _CONTAINERS else None

    return Source(read, keys=frozenset({key}))


def resource_attr(key: str) -> Source:
    """The resource attribute, unless it is null."""
    return Source(lambda view: view.resource.attributes.get(key), resource_keys=frozenset({key}))


def resource_filled(key: str) -> Source:
    """The resource attribute, if JavaScript calls it true."""

    def read(view: View) -> Any:
        value = view.resource.attributes.get(key)
        return value if js.truthy(value) else None

    return Source(read, resource_keys=frozenset({key}))


def const(value: Any) -> Source:
    """Always the same value."""
    return Source(lambda _view: value)


def first(*sources: Source) -> Source:
    """What the first source gives that gives something."""
    reads = tuple(source.read for source in sources)

    def read(view: View) -> Any:
        for candidate in reads:
            value = candidate(view)
            if value is not None:
                return value
        return None

    return _over(read, sources)


def first_attr(*keys: str) -> Source:
    """``first(attr(a), attr(b) ...)``, in one look."""

    def read(view: View) -> Any:
        attributes = view.attributes
        for key in keys:
            value = attributes.get(key)
            if value is not None:
                return value
        return None

    return Source(read, keys=frozenset(keys))


def first_filled(*keys: str) -> Source:
    """``first(filled(a), filled(b) ...)``, in one look."""

    def read(view: View) -> Any:
        attributes = view.attributes
        for key in keys:
            value = attributes.get(key)
            if value or type(value) in _CONTAINERS:
                return value
        return None

    return Source(read, keys=frozenset(keys))


def filled_or_attr(key: str, other: str) -> Source:
    """``first(filled(key), attr(other))``, in one look."""

    def read(view: View) -> Any:
        value = view.attributes.get(key)
        return value if value or type(value) in _CONTAINERS else view.attributes.get(other)

    return Source(read, keys=frozenset({key, other}))


def json_attr(key: str) -> Source:
    """The attribute parsed as JSON; None where it is not JSON."""
    return Source(lambda view: view.json(key), keys=frozenset({key}))


def json_at(key: str, *path: str) -> Source:
    """A place inside the JSON of an attribute: ``json_at("genkit:input", "config")``."""

    def read(view: View) -> Any:
        value = view.json(key)
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        return value

    return Source(read, keys=frozenset({key}))


def json_object(key: str) -> Source:
    """The attribute parsed as JSON, if that is an object."""

    def read(view: View) -> Any:
        value = view.json(key)
        return value if isinstance(value, dict) else None

    return Source(read, keys=frozenset({key}))


def lookup(source: Source, table: Mapping[str, Any], normal: Callable[[str], str] = str) -> Source:
    """The table's entry for the text that the source gives; None for other texts and for what is not text."""
    read_key = source.read

    def read(view: View) -> Any:
        value = read_key(view)
        return table.get(normal(value)) if isinstance(value, str) else None

    return _over(read, (source,))


def as_text(source: Source) -> Source:
    """The source's value as text: what is not text is stringified (JSON), as the server does for names and ids."""
    read_value = source.read

    def read(view: View) -> Any:
        value = read_value(view)
        return value if value is None or isinstance(value, str) else js.stringify(value)

    return _over(read, (source,))


def nested(prefix: str, missing: Any = None) -> Source:
    """All attributes that start with the prefix, as an object or list (mapping.md 10); ``missing`` where there are none."""

    def read(view: View) -> Any:
        keys = view.starting((prefix,))
        return nested_object({key: view.attributes[key] for key, _ in keys}, prefix) if keys else missing

    return Source(read, prefixes=frozenset({(prefix,)}))


def under(*prefixes: str, but: Iterable[str] = ()) -> Source:
    """All attributes under the prefixes (each ending in a dot), by the rest of their keys; ``but`` names keys left out."""
    left_out = frozenset(but)

    def read(view: View) -> Any:
        attributes = view.attributes
        return {rest: attributes[key] for key, rest in view.starting(prefixes) if key not in left_out} or None

    return Source(read, prefixes=frozenset({prefixes}))


def total_cost(key: str) -> Source:
    """The attribute as a cost in total, unless it is null or empty (mapping.md 13, costDetails)."""

    def read(view: View) -> Any:
        value = view.attributes.get(key)
        return None if value is None or value == "" else {"total": js.number(value)}

    return Source(read, keys=frozenset({key}))


def tags(*keys: str) -> Source:
    """The first filled attribute as a list of tags (mapping.md 4): a list's items as text, or text as one or several tags."""
    return computed(_tag_list, first_filled(*keys))


def _tag_list(value: Any) -> list[str] | None:
    if value is None:
        return None
    if isinstance(value, list):
        return value if _TEXT.issuperset(map(type, value)) else [js.text(item) for item in value]
    if not isinstance(value, str):
        return []
    if value.strip().startswith("["):
        parsed = js.parse_or_none(value)
        if isinstance(parsed, list):
            return [js.text(item) for item in parsed]
    return [part.strip() for part in value.split(",")] if "," in value else [value]


def computed(fn: Callable[..., Any], *sources: Source) -> Source:
    """The escape hatch: a named pure function of what the sources give. It is asked even when they all give None."""
    reads = tuple(source.read for source in sources)
    if len(reads) == 1:
        (only,) = reads
        return _over(lambda view: fn(only(view)), sources)
    return _over(lambda view: fn(*[read(view) for read in reads]), sources)


def seen(fn: Callable[[View], Any], *sources: Source, events: Iterable[str] = ()) -> Source:
    """A named pure function of the whole view, for what no word says. ``sources`` and ``events`` say where it looks."""
    named = frozenset(events)
    return _over(fn, (*sources, Source(fn, events=named)) if named or not sources else sources)


def _over(read: Callable[[View], Any], sources: Iterable[Source]) -> Source:
    """A source that looks wherever the given ones look. If one of them looks at nothing, this one is always worth asking."""
    parts = tuple(sources)
    if any(not part.looks for part in parts):
        return Source(read)

    return Source(
        read,
        keys=frozenset().union(*(part.keys for part in parts)),
        prefixes=frozenset().union(*(part.prefixes for part in parts)),
        resource_keys=frozenset().union(*(part.resource_keys for part in parts)),
        events=frozenset().union(*(part.events for part in parts)),
    )
