"""What is remembered of spans that are alike, so that the next one is translated without asking every rule again.

An instrumentation's spans carry the same keys with the same kinds of values. Which rules win their fields is then nearly always
the same, and most of what they yield is the same, too, or a text that is only carried through. So for each shape (resource,
scope, keys, kinds of values ...) the rules are tried once (``_trial``), which shows for each group of fields whether its rule

- yields the same for all spans of the shape, or carries a text of theirs, which at most must not begin in a certain way: then no
  rule is asked again;
- goes by values: then it is asked again for every span where one of those has changed, and it must win again;
- sets the type: then spans that differ there are not alike. There are few of these.

Whatever is not so, and every span that has span events, a status message or values of unusual kinds, is not found here, and is
translated in the long way. Nothing here has to be known by who writes a rule. What is remembered of a shape is in ``_recipe``.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias

from otel_langfuse.conventions._plan import Index
from otel_langfuse.conventions._recipe import EMPTY, MAX_SHORT, SCALARS, Division, Found, Recipe, is_usual, learn
from otel_langfuse.conventions._view import ResourceView, ScopeView
from otel_langfuse.model import Resource, Scope, Span

MAX_VALUES: Final = 20_000
"""So many values are remembered in all, at up to a few hundred bytes each: a few MB."""

MAX_CREDIT: Final = 200.0
"""Trying rules takes as long as translating several spans. It has to pay: so many recipes may be made at first, then one more for
every ten spans that are found alike, or for every few hundred that are not."""

MAX_KEYS: Final = 128
MAX_KEY_CHARACTERS: Final = 8_000
"""A span with more, or with longer keys, goes the long way."""

MAX_RECIPES: Final = 32
"""Where spans of one shape differ in more ways, all of them go the long way."""

MAX_FAILURES: Final = 16
"""So many spans of one shape may turn out to be unlike it, and a fifth of all."""

MAX_MISSED: Final = 16
"""Where so many spans with the same keys were not found one after the other, one in ``PASSED`` is looked for."""

PASSED: Final = 16
MAX_SEEN: Final = 5_000

_FOUND: Final = 0.1  # credit
_NOT_FOUND: Final = 0.003

Key: TypeAlias = "tuple[tuple[str, ...], int, str | None, bool]"


class Origin(NamedTuple):
    """Where spans of a batch come from, and what is remembered of those that came from there."""

    resource: ResourceView
    scope: ScopeView
    families: dict[Key, _Family]


class _Shape:
    """Spans of one shape: those with the same keys and kinds of values."""

    __slots__ = ("_read", "division", "failed", "found", "recipes")

    def __init__(self) -> None:
        self.recipes: dict[Any, Recipe] | None = {}  # None: all of them go the long way
        self.found = self.failed = 0
        self.divide(Division())

    def divide(self, division: Division) -> None:
        """Sets which of them are alike."""
        self.division = division
        self._read = itemgetter(*division.names) if division.names else None

    def said(self, span: Span) -> Any:
        """What the span says that others have to say, too, to be like it."""
        said = None if self._read is None else self._read(span.attributes)
        return (said, span.name) if self.division.by_name else said

    def tries_again(self) -> bool:
        """Whether a recipe that was none for a span is to be made anew: seldom, and at last never."""
        self.failed += 1
        if self.failed > MAX_FAILURES + self.found // 4:
            self.recipes = None
        return self.recipes is not None and self.failed & (self.failed - 1) == 0  # powers of two


class _Family:
    """Spans with the same keys: their shapes, by the kinds of their values."""

    __slots__ = ("latest", "missed", "shapes")

    def __init__(self) -> None:
        self.latest = _Shape()  # none of the shapes
        self.shapes: dict[tuple[Any, ...], _Shape] = {}
        self.missed = 0  # spans that were not found, one after the other


class Alike:
    """What is remembered of the spans before, for one thread at a time. Bounded; see ``MAX_VALUES``."""

    def __init__(self, rules: Index) -> None:
        self._rules = rules
        self._origins: dict[Any, dict[Key, _Family]] = {}
        self._seen: set[int] = set()
        self._values = 0
        self._credit = MAX_CREDIT
        self._latest: tuple[Resource, Scope, dict[Key, _Family]] | None = None

    def origin(self, resource: Resource, scope: Scope, views: tuple[ResourceView, ScopeView]) -> Origin | None:
        """What is remembered of spans of an equal resource and scope, for spans of these; None where nothing is to be."""
        latest = self._latest
        if latest is not None and latest[0] is resource and latest[1] is scope:
            return Origin(*views, latest[2])
        try:
            exact = _exact((*resource, *scope))
        except TypeError:
            return None
        if len(repr(exact)) > MAX_KEY_CHARACTERS:
            return None
        families = self._origins.get(exact)
        if families is None:
            self._count(len(resource.attributes) + len(scope.attributes) + 1)
            families = self._origins[exact] = {}
        self._latest = resource, scope, families
        return Origin(*views, families)

    def found(self, span: Span, origin: Origin) -> Found | None:
        """What the rules say of the span; None where they have to be asked, all of them.

        Raises:
            Exception: there is something unusual about it.
        """
        attributes, name = span.attributes, span.name
        if span.events or span.status_message or type(attributes) is not dict or type(name) is not str or not name:
            return None
        alike = (tuple(attributes), span.status_code, span.status_message, not span.parent_span_id)
        family = origin.families.get(alike)
        if family is None:
            self._meet(alike, origin)
            return None
        if family.missed >= MAX_MISSED and family.missed % PASSED:
            family.missed += 1
            return None
        shape = family.latest
        recipe = None if shape.recipes is None else shape.recipes.get(shape.said(span))
        found = None if recipe is None else recipe.found(span, origin)
        if found is None:
            found = self._of_kinds(family, span, origin)
            if found is None:
                family.missed += 1
                self._credit += _NOT_FOUND
                return None
        family.missed = 0
        family.latest.found += 1
        if self._credit < MAX_CREDIT:
            self._credit += _FOUND
        return found

    def _meet(self, alike: Key, origin: Origin) -> None:
        """Remembers keys that come for the second time: where each span has others, remembering would only cost."""
        keys = alike[0]
        if len(keys) > MAX_KEYS or "__proto__" in keys or not self._was_seen(hash((id(origin.families), alike))):
            return
        if sum(map(len, keys)) <= MAX_KEY_CHARACTERS:
            self._count(1 + len(keys) // 4)
            origin.families[alike] = _Family()

    def _of_kinds(self, family: _Family, span: Span, origin: Origin) -> Found | None:
        """The same by the kinds of its values, which may be others than those of the latest with these keys."""
        kinds = _kinds(tuple(span.attributes.values()))
        shape = family.shapes.get(kinds)
        if shape is None:
            if family.shapes and not self._was_seen(hash((id(family), kinds))):
                return None
            shape = family.shapes[kinds] = _Shape()
            self._count(1 + len(kinds) // 4)
        tried, family.latest = family.latest, shape
        if shape.recipes is None:
            return None
        recipe = shape.recipes.get(shape.said(span))
        found = None if recipe is None or shape is tried else recipe.found(span, origin)
        if found is None and self._credit >= 1 and all(map(is_usual, span.attributes.values(), kinds)):
            self._learn(shape, recipe is not None, kinds, span, origin)
        return found

    def _was_seen(self, mark: int) -> bool:
        if mark in self._seen:
            return True
        if len(self._seen) >= MAX_SEEN:
            self._seen.clear()
        self._seen.add(mark)
        return False

    def _count(self, values: int) -> None:
        """Adds to what is remembered; where it becomes too much, all of it is forgotten."""
        self._values += values
        if self._values > MAX_VALUES:
            self._values = values
            for families in self._origins.values():
                families.clear()
            self._origins.clear()
            self._latest = None

    def _learn(self, shape: _Shape, failed: bool, kinds: tuple[Any, ...], span: Span, origin: Origin) -> None:
        """Remembers how spans that are alike are translated, or that those of this shape are not.

        ``failed``: that was remembered already, and is not true of this span.
        """
        if failed and not shape.tries_again():
            return
        self._credit -= 1
        recipes, shape.recipes = shape.recipes, None
        made = learn(self._rules, shape.division, kinds, span, origin)
        if made is None or recipes is None or len(recipes) >= MAX_RECIPES:
            return
        recipe, division = made
        if division != shape.division:
            shape.divide(division)
            recipes.clear()
        shape.recipes = recipes
        said = [span.name if division.by_name else "", *[span.attributes[name] for name in division.names]]
        if len(str(said)) <= MAX_SHORT:
            recipes[shape.said(span)] = recipe
            self._count(len(kinds) + 1)


def _kinds(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The types of values; for an empty text, the empty text."""
    if EMPTY in values:
        return tuple([EMPTY if type(value) is str and not value else type(value) for value in values])
    return tuple(map(type, values))


def _exact(value: Any) -> Any:
    """Something hashable that is equal only for what is the same, kinds included.

    Raises:
        TypeError: this is no plain value.
    """
    kind = type(value)
    if kind is str:
        return value
    if kind is dict:
        return (dict, *[(name, _exact(item)) for name, item in value.items()])
    if kind is tuple or kind is list:
        return (kind, *map(_exact, value))
    if kind in SCALARS:
        return kind, repr(value)
    raise TypeError
