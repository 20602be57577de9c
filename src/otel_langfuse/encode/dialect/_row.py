"""The shape of a row of a dialect, and what rows read: one observation, in the forms that they want."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from otel_langfuse.conventions import _javascript as js
from otel_langfuse.model import OBSERVATION_TYPES, Attributes, AttributeValue, Observation, Span

from ._json import parsed
from ._messages import Conversation, conversation

Written: TypeAlias = "dict[str, AttributeValue]"

SHOWN = "attributes"
ORIGIN = frozenset({SHOWN, "resourceAttributes", "scope"})
"""Metadata that translating made of the span's own attributes, resource and scope; the rest is the user's."""

MAX_SHAPES, MAX_KEYS = 500, 128
"""What is remembered of keys is bounded: a span may have any."""

MAX_WORDS, MAX_WORD = 1_000, 100

_INPUT = "input"
_TOOLS = '"tools"'
_ROLES = {_INPUT: "user", "output": "assistant"}


class Subject:
    """One observation that is written. ``given``: the attributes beside which it is written; None where there are none."""

    __slots__ = ("_conversations", "_parsed", "_said", "given", "observation", "scope", "shown", "span")

    def __init__(self, observation: Observation, span: Span | None = None, *, beside: bool = False) -> None:
        self.observation = observation
        self.span = span
        self.given = span.attributes if span is not None and beside else None
        shown = observation.metadata.get(SHOWN)
        self.shown: Mapping[str, Any] = shown if isinstance(shown, dict) else {}
        scope = observation.metadata.get("scope")
        name = scope.get("name") if isinstance(scope, dict) else None
        self.scope = name if isinstance(name, str) else ""
        self._conversations: dict[str, Conversation] = {}
        self._parsed: dict[str, Any] = {}
        self._said: dict[Callable[[Subject], Any], Any] = {}

    def once(self, fact: Callable[[Subject], Any]) -> Any:
        """A fact that several rows want, found out once."""
        if fact not in self._said:
            self._said[fact] = fact(self)
        return self._said[fact]

    def rule(self, group: str) -> str | None:
        """The rule that set the fields of a group, if the observation was translated from a span."""
        return self.observation.rules.get(group)

    def conversation(self, side: str) -> Conversation:
        """Input or output as messages."""
        found = self._conversations.get(side)
        if found is None:
            found = self._conversations[side] = conversation(self.own(side), self.parsed(side), _ROLES[side])
        return found

    def own(self, side: str) -> Any:
        """Input or output as the observation has it."""
        return self.observation.input if side == _INPUT else self.observation.output

    def parsed(self, side: str) -> Any:
        """Input or output as the list or object that it is, or that its text holds; else as it is."""
        if side not in self._parsed:
            self._parsed[side] = parsed(self.own(side))
        return self._parsed[side]

    def content(self, side: str) -> Any:
        """Input or output before Langfuse moved tool definitions into it, where that is known.

        What it moves is not in the trace's input, which a root has from the same attributes (mapping.md 9, Tools).
        """
        observation = self.observation
        given = observation.input if side == _INPUT else observation.output
        if type(given) is not str and side == _INPUT and observation.is_root and isinstance(given, dict) and "tools" in given:
            rules = observation.rules
            if rules and "trace_io" not in rules:
                return observation.trace.input
        return given

    def user_metadata(self) -> dict[str, Any]:
        """Metadata that the user gave, or that corrections note."""
        if ORIGIN.issuperset(self.observation.metadata):  # nearly always
            return {}
        return {name: value for name, value in self.observation.metadata.items() if name not in ORIGIN}

    def tools(self) -> list[Any]:
        """Tool definitions inside the input, if each has a name of its own; else none."""
        given = self.observation.input
        if isinstance(given, str) and _INPUT not in self._parsed and _TOOLS not in given:  # then it need not be parsed
            return []
        given = self.parsed(_INPUT)
        tools = given.get("tools") if isinstance(given, dict) else None
        if not isinstance(tools, list):
            return []
        names = [tool_name(tool) for tool in tools]
        return tools if all(names) and len(set(names)) == len(names) else []


def tool_name(tool: Any) -> str:
    """The name in a tool's definition, flat or under ``function``; empty where there is none."""
    inner = tool.get("function") if isinstance(tool, dict) else None
    holder = inner if isinstance(inner, dict) else tool
    name = holder.get("name") if isinstance(holder, dict) else None
    return name if isinstance(name, str) else ""


class Row(NamedTuple):
    """One row: a field of an observation, and the attribute that a dialect has for it.

    ``key`` ends in ``.*`` where the value is a mapping of the rests of several keys, of which those are added that the span
    has not; it ends in ``.N`` where they are the items of a list, which is added only where the span has none.
    ``types``: of observations that it is for; all where it is empty. ``beside``: whether it may stand beside the span's own
    attributes without changing what Langfuse reads of the span; None: always.
    """

    field: str
    key: str
    value: Callable[[Subject], Any]
    spec: str
    types: frozenset[str] = frozenset()
    beside: Callable[[Subject], bool] | None = None
    deprecated: bool = False


class _Step(NamedTuple):
    """A row that may have something to say on spans of one shape."""

    field: str
    key: str
    read: Callable[[Subject], Any]
    beside: Callable[[Subject], bool] | None
    whole: _Whole | None  # of a row for several keys
    taken: frozenset[str]  # those of them that the span has


class _Whole(dict[str, str]):
    """Rests of keys -> the whole keys. Those that are short are remembered, at most ``MAX_WORDS``."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def __missing__(self, rest: str) -> str:
        made = self._prefix + rest
        if len(self) < MAX_WORDS and len(rest) <= MAX_WORD:
            self[rest] = made
        return made


class Rows:
    """The rows for one type of observation. What spans of one shape (their keys) need not ask is found out once.

    Safe on several threads.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = tuple(rows)
        self.forget()

    def forget(self) -> None:
        """Forgets what is remembered of spans."""
        self._wholes = {row.key: _Whole(row.key[:-1]) for row in self._rows if row.key[-2] == "."}
        self._steps: dict[tuple[str, ...], tuple[_Step, ...]] = {}
        self._alone = tuple(self._step(row, ()) for row in self._rows)

    def steps(self, given: Attributes | None) -> tuple[_Step, ...]:
        """What is to be asked, beside the attributes of a span or alone."""
        if given is None:
            return self._alone
        keys = tuple(given)
        found = self._steps.get(keys)
        if found is None:
            found = tuple(self._step(row, keys) for row in self._rows if not _is_taken(row.key, given))
            if len(keys) <= MAX_KEYS:
                if len(self._steps) >= MAX_SHAPES:
                    self._steps.clear()
                self._steps[keys] = found
        return found

    def _step(self, row: Row, keys: Iterable[str]) -> _Step:
        whole = self._wholes.get(row.key)
        taken = frozenset(key for key in keys if key.startswith(row.key[:-1])) if whole is not None else frozenset[str]()
        return _Step(row.field, row.key, row.value, row.beside, whole, taken)


def _is_taken(key: str, given: Attributes) -> bool:
    """Whether the span says it already: it has the key, or one of a list's items."""
    return key in given or (key[-2:] == ".N" and any(name.startswith(key[:-1]) for name in given))


def by_type(rows: Iterable[Row]) -> dict[str, Rows]:
    """The rows for each type of observation, so that none pays for those of other types."""
    listed = tuple(rows)
    return {kind: Rows(row for row in listed if not row.types or kind in row.types) for kind in OBSERVATION_TYPES}


def put(rows: Rows, subject: Subject) -> tuple[Written, list[str]]:
    """The attributes that the rows give, without those that the span has, and the fields that they are for."""
    is_beside = subject.given is not None
    written: Written = {}
    fields: list[str] = []
    asked: Callable[[Subject], bool] | None = None  # rows that stand together often have the same condition
    is_allowed = True
    for field, key, read, beside, whole, taken in rows.steps(subject.given):
        if is_beside and beside is not asked:
            asked, is_allowed = beside, beside is None or beside(subject)
        if is_beside and not is_allowed:
            continue
        value = read(subject)
        if value is None:
            continue
        if whole is None:
            written[key] = value
        elif not _add(written, value, whole, taken):
            continue
        fields.append(field)
    return written, fields


def _add(written: Written, items: Mapping[str, Any], whole: _Whole, taken: frozenset[str]) -> bool:
    """Adds the items of a row for several keys by their whole keys, without those that the span has. Whether it has any."""
    before = len(written)
    if taken:
        written.update({key: item for rest, item in items.items() if (key := whole[rest]) not in taken})
    else:
        for rest, item in items.items():
            written[whole[rest]] = item
    return len(written) > before


def shown_first(subject: Subject, *keys: str) -> str | None:
    """The first filled of the span's own attributes that are shown in the metadata, as text."""
    shown = subject.shown
    for key in keys:
        value = shown.get(key)
        if value:
            return value if isinstance(value, str) else js.text(value)
    return None
