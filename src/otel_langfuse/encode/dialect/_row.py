"""The shape of a row of a dialect, and what rows read: one observation, in the forms that they want."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from otel_langfuse.conventions import _javascript as js
from otel_langfuse.model import AttributeValue, Observation, Span

from ._json import parsed
from ._messages import Conversation, conversation

Written: TypeAlias = "dict[str, AttributeValue]"

SHOWN = "attributes"
ORIGIN = frozenset({SHOWN, "resourceAttributes", "scope"})
"""Metadata that translating made of the span's own attributes, resource and scope; the rest is the user's."""

_INPUT = "input"
_TOOLS = '"tools"'
_ROLES = {_INPUT: "user", "output": "assistant"}


class Subject:
    """One observation that is written. ``given``: the attributes beside which it is written; None where there are none."""

    __slots__ = ("_asked", "_conversations", "_is_allowed", "_parsed", "_said", "given", "observation", "scope", "shown", "span")

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
        self._asked: Callable[[Subject], bool] | None = None
        self._is_allowed = True
        self._said: dict[Callable[[Subject], Any], Any] = {}

    def once(self, fact: Callable[[Subject], Any]) -> Any:
        """A fact that several rows want, found out once."""
        if fact not in self._said:
            self._said[fact] = fact(self)
        return self._said[fact]

    def allows(self, beside: Callable[[Subject], bool]) -> bool:
        """What such a condition of rows says; those that stand together often have the same one."""
        if self._asked is not beside:
            self._asked, self._is_allowed = beside, beside(self)
        return self._is_allowed

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


def shown_first(subject: Subject, *keys: str) -> str | None:
    """The first filled of the span's own attributes that are shown in the metadata, as text."""
    shown = subject.shown
    for key in keys:
        value = shown.get(key)
        if value:
            return value if isinstance(value, str) else js.text(value)
    return None
