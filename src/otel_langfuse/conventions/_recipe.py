"""How spans that are alike are translated: what their rules say without being asked, and which have to be asked again.

Values of up to ``MAX_SHORT`` characters are remembered, to know what has changed; longer texts are not, nor what is made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import compress
from operator import is_not
from typing import Any, Final, NamedTuple, Protocol

from otel_langfuse import attributes as key
from otel_langfuse.conventions import _javascript as js
from otel_langfuse.conventions._metadata import shown_names
from otel_langfuse.conventions._parameters import finished_parameters
from otel_langfuse.conventions._plan import NO_FIELDS, Index, Step, claim
from otel_langfuse.conventions._trial import SPAN_NAME, StandIn, Subject, no_content, tried
from otel_langfuse.conventions._view import ResourceView, ScopeView, View
from otel_langfuse.model import Span

MAX_SHORT: Final = 200
"""Longer values are not remembered."""

MIN_CALM: Final = 2
"""After so many spans without a change of what rules go by, what they say is remembered."""

EMPTY: Final = ""
"""Stands for the kind of an empty text."""

SCALARS: Final = frozenset({str, bool, int, float, type(None)})

_NEVER: Final = object()
_ALL: Final = -1  # every bit
_MAX: Final = js.MAX_SAFE_INTEGER
_TEXT: Final = frozenset({str})
_TRACE_IO: Final = (key.TRACE_INPUT, key.TRACE_OUTPUT)
_new: Final = tuple.__new__  # of a named tuple; its own constructor takes thrice as long


class Around(Protocol):
    """Where a span comes from."""

    @property
    def resource(self) -> ResourceView:
        """Its resource."""

    @property
    def scope(self) -> ScopeView:
        """Its scope."""


class Found(NamedTuple):
    """What rules say of a span. ``shown``: its attributes as text, where it shows any."""

    recipe: Recipe
    fields: dict[str, Any]
    shown: dict[str, str]


class _Unit:
    """Rules of a group that have to be asked again: those that have not won but might, and the one that has."""

    __slots__ = ("always", "bit", "calm", "expected", "group", "groups", "result")

    def __init__(self, group: str, steps: tuple[Step, ...], expected: str | None, bit: int) -> None:
        self.group = group
        self.groups = ((group, steps),)
        self.expected = expected
        self.bit = bit
        self.always = False  # found to go by more than attributes
        self.calm = 0  # spans since a value has changed
        self.result: list[tuple[str, Any, Callable[[Any], Any] | None]] | None = None  # of the values that are remembered

    def ask(self, view: View) -> dict[str, Any] | None:
        """The fields, or None if another rule has won."""
        fields: dict[str, Any] = {}
        return fields if claim(view, self.groups, fields).get(self.group) == self.expected else None


class Recipe:
    """How spans that are alike are translated, and the values of the latest one of them. For one thread at a time.

    ``claimed``: group -> rule id. ``is_root``: they have no parent, or say so. ``updates``: they tell of their trace.
    ``has_shown``: some of their attributes are shown.
    """

    __slots__ = (
        *("claimed", "has_shown", "is_root", "plan", "updates"),
        *(
            "_begins",
            "_bits",
            "_built",
            "_carried",
            "_changed",
            "_constants",
            "_keys",
            "_kinds",
            "_last",
            "_listed",
            "_places",
            "_shown",
            "_shows",
        ),
        *("_free", "_name_begins", "_units"),
    )

    def __init__(self, subject: Subject, kinds: tuple[Any, ...], *, is_root: bool, updates: bool) -> None:
        self.updates = updates
        self.plan = subject.plan
        self.is_root = is_root
        self.claimed: dict[str, str] = {}
        self._keys = tuple(subject.attributes)
        self._kinds = kinds
        self._places = range(len(kinds))
        self._listed = tuple(name for name, kind in zip(self._keys, kinds, strict=True) if kind is tuple)
        self._last: list[Any] = [EMPTY if kind is EMPTY else _NEVER for kind in kinds]
        self._free: list[bool] = []  # of each value, whether it is a text that is at most carried
        self._bits = [0] * len(kinds)  # of each value, the units that go by it
        self._changed = _ALL  # units that go by a value that has changed since their result
        self._begins: list[tuple[str, ...]] = [()] * len(kinds)  # how each text must not begin
        self._name_begins: tuple[str, ...] = ()
        self._constants = NO_FIELDS.copy()
        self._carried: list[tuple[str, str | None]] = []  # field, and the attribute that it is; None: the span's name
        self._built: list[tuple[str, Any]] = []  # field, and an object or a list with stand-ins in it
        self._units: list[_Unit] = []
        names = shown_names(subject.plan, subject.scope, corrections=True)
        self.has_shown = names is not None
        self._shown = dict.fromkeys(names or (), "")
        self._shows = [name in self._shown for name in self._keys]

    def close(self) -> None:
        """All groups are there now."""
        self._free = [
            kind is str and not (bits or shows or begins)
            for kind, bits, shows, begins in zip(self._kinds, self._bits, self._shows, self._begins, strict=True)
        ]

    def add(self, group: str, steps: Iterable[Step], subject: Subject) -> None:
        """Tries the rules of a group, best first."""
        asked: list[Step] = []
        keys: set[str] = set()
        beginnings: set[tuple[str | None, str]] = set()
        winner = None
        for step in steps:
            trial = tried(step, subject)
            beginnings |= trial.beginnings
            if trial.keys or trial.parts or (trial.fields is not None and asked):
                asked.append(step)
                keys |= trial.keys
            if trial.fields is not None:
                winner = step.id
                if not asked:
                    self._yield(trial.fields)
                break
        if winner is not None:
            self.claimed[group] = winner
        self.forbid(beginnings)
        if asked:
            bit = 1 << len(self._units)
            self._units.append(_Unit(group, tuple(asked), winner, bit))
            self._note(keys, bit)

    def fix(self, group: str, rule: str, fields: Mapping[str, Any]) -> None:
        """A group that is the same for all spans that are alike."""
        self.claimed[group] = rule
        self._constants.update(fields)

    def _yield(self, fields: Mapping[str, Any]) -> None:
        for field, value in fields.items():
            if type(value) is StandIn:
                self._carried.append((field, value.key))
            elif type(value) in SCALARS:
                self._constants[field] = value
            else:
                self._built.append((field, value))

    def forbid(self, beginnings: Iterable[tuple[str | None, str]]) -> None:
        """Spans of which a text begins so are not alike."""
        for name, beginning in beginnings:
            if name is None:
                self._name_begins += (beginning,)
            else:
                self._begins[self._keys.index(name)] += (beginning,)

    def _note(self, keys: Iterable[str], bit: int) -> None:
        for place, name in enumerate(self._keys):
            if name in keys and not self._bits[place] & bit:
                self._bits[place] |= bit
                if self._free:
                    self._free[place] = False

    def received(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """``_view.received_attributes`` of a span that is alike."""
        if not self._listed and type(attributes) is dict:
            return attributes
        return {**attributes, **{name: list(attributes[name]) for name in self._listed}}

    def found(self, span: Span, origin: Around) -> Found | None:
        """What the rules say of a span; None if it is not alike after all."""
        attributes = span.attributes
        shown = self._shown.copy()
        known, self._changed = self._changed, _ALL  # if this is left before its end, nothing counts as known
        changed = self._compared(tuple(attributes.values()), shown)
        if changed is None or (self._name_begins and span.name.startswith(self._name_begins)):
            return None
        fields = self._constants.copy()
        for field, carried in self._carried:
            fields[field] = span.name if carried is None else attributes[carried]
        for field, pattern in self._built:
            fields[field] = _filled(pattern, attributes)
        if self._units and not self._ask(span, origin, known | changed, fields):
            return None
        self._changed = 0
        return _new(Found, (self, fields, shown))

    def _compared(self, values: tuple[Any, ...], shown: dict[str, str]) -> int | None:
        """The units that go by a value that has changed; None if one is not as it is in all that are alike.

        What has changed is remembered, and told as text in ``shown``.
        """
        last, kinds, begins, free = self._last, self._kinds, self._begins, self._free
        changed = 0
        for place in compress(self._places, map(is_not, values, last)):
            value, kind = values[place], kinds[place]
            if free[place]:
                if type(value) is str and value:
                    continue
                return None
            if type(value) is not kind or (kind is not str and not is_usual(value, kind)):
                return None
            if value == last[place] and value:  # which -0.0 is not
                last[place] = value
                continue
            if kind is str:
                if not value or (begins[place] and value.startswith(begins[place])):
                    return None
                text = value
            elif kind is int:
                text = str(value)
            else:
                text = js.stringify(list(value) if kind is tuple else value)
            changed |= self._bits[place]
            is_short = len(text) <= MAX_SHORT
            last[place] = value if is_short else _NEVER
            if self._shows[place]:
                name = self._keys[place]
                shown[name] = text
                self._shown[name] = text if is_short else ""
        return changed

    def _ask(self, span: Span, origin: Around, changed: int, fields: dict[str, Any]) -> bool:
        """Adds the fields of the rules that have to be asked; False if another one wins."""
        view = None
        for unit in self._units:
            result = unit.result
            if result is not None and not changed & unit.bit:
                for field, value, copy in result:
                    fields[field] = value if copy is None else copy(value)
                continue
            if view is None:
                view = View(span, self.received(span.attributes), origin.resource, origin.scope, no_content)
                view.plan = self.plan
            unit.result = None
            unit.calm = 0 if changed & unit.bit else unit.calm + 1
            made = unit.ask(view) if unit.always or unit.calm < MIN_CALM else self._learn(unit, view)
            if made is None:
                return False
            fields.update(made)
        return True

    def _learn(self, unit: _Unit, view: View) -> dict[str, Any] | None:
        """Asks for values that have come again and again, and remembers the answer, if it goes by short values only."""
        subject = Subject(view.span, view.attributes, self.plan, view.resource, view.scope)
        noting, keys, parts, _ = subject.noted(stands=False)
        made = unit.ask(noting)
        unit.always = unit.always or bool(parts)
        self._note(keys, unit.bit)
        bits, last = self._bits, self._last
        if made is None or unit.always or any(bits[place] & unit.bit and last[place] is _NEVER for place in self._places):
            return made
        if unit.group == "parameters":
            made["model_parameters"] = finished_parameters(made["model_parameters"], unit.expected)
        unit.result = [(field, _copied(value), _copier(value)) for field, value in made.items()]
        return made


def _filled(pattern: Any, attributes: Mapping[Any, Any]) -> Any:
    """A value of JSON with texts of the attributes in place of their stand-ins."""
    kind = type(pattern)
    if kind is dict:
        return {
            name: attributes[item.key] if type(item) is StandIn else _filled(item, attributes) for name, item in pattern.items()
        }
    if kind is list:
        return [_filled(item, attributes) for item in pattern]
    return attributes[pattern.key] if kind is StandIn else pattern


def _copied(value: Any) -> Any:
    """A value of JSON, such that nobody who changes it changes what is remembered."""
    kind = type(value)
    if kind is dict:
        return {name: item if type(item) in SCALARS else _copied(item) for name, item in value.items()}
    return [_copied(item) for item in value] if kind is list else value


def _copier(value: Any) -> Callable[[Any], Any] | None:
    """The cheapest way to copy a value of JSON so; None where it need not be."""
    kind = type(value)
    if kind not in (dict, list):
        return None
    is_flat = SCALARS.issuperset(map(type, value.values() if kind is dict else value))
    return kind.copy if is_flat else _copied


def is_usual(value: Any, kind: Any) -> bool:
    """Whether the server gets the value as it is, or, of a tuple, as a list of texts (``_view.received``)."""
    if kind is tuple:
        return _TEXT.issuperset(map(type, value))
    if kind is int:
        return bool(-_MAX <= value <= _MAX)
    if kind is float:
        return bool(value - value == 0)  # neither NaN nor infinite
    return kind is bool or kind is str or kind is EMPTY


class Division(NamedTuple):
    """What parts spans of one shape: they are alike where they have the same under these keys, and maybe the same name."""

    names: tuple[str, ...] = ()
    by_name: bool = False


def learn(rules: Index, division: Division, kinds: tuple[Any, ...], span: Span, origin: Around) -> tuple[Recipe, Division] | None:
    """How spans like this one are translated, and what ``division`` grows to by it; None if only in the long way."""
    attributes = span.attributes
    received = {name: list(value) if type(value) is tuple else value for name, value in attributes.items()}
    plan = rules.plan(View(span, received, origin.resource, origin.scope, no_content))
    if plan.has_tools or any(type(received.get(name)) is list for name in _TRACE_IO):
        return None
    names = {name for name in (*division.names, key.AS_ROOT) if name in attributes}
    names.update(name for name in plan.trace_updates if type(attributes[name]) is not str)
    recipe = Recipe(
        subject := Subject(span, received, plan, origin.resource, origin.scope),
        kinds,
        is_root=not span.parent_span_id or js.text(received.get(key.AS_ROOT)) == "true",
        updates=plan.has_trace_metadata or any(js.truthy(received[name]) for name in plan.trace_updates),
    )
    by_name = division.by_name
    for group, steps in plan.groups:
        if group != "type":
            recipe.add(group, steps, subject)
            continue
        for step in steps:
            trial = tried(step, subject)
            names |= trial.keys
            recipe.forbid(trial.beginnings)
            by_name = by_name or SPAN_NAME in trial.parts
            if trial.parts - {SPAN_NAME}:
                return None
            if trial.fields is not None:
                if not SCALARS.issuperset(map(type, trial.fields.values())):
                    return None
                recipe.fix(group, step.id, trial.fields)
                break
    if any(type(attributes[name]) is float for name in names):  # -0.0 is equal to 0.0
        return None
    recipe.close()
    return recipe, Division(tuple(sorted(names)), by_name)
