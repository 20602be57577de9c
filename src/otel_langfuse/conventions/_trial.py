"""A rule tried with stand-ins for the span's texts: what it only carries through, and what it goes by.

A stand-in is not empty, is a text to ``isinstance``, may be handed on, and may be asked whether it begins with something, which
is noted if it does not. Whatever else a rule does with it ends the trial: then the rule is tried once more with the texts
themselves, and it is noted which it reads. So nothing about a rule has to be said for this, and what is said nowhere cannot be
wrong. One thing a rule must not do with a value is ask whether ``type(value) is str``, to which a stand-in answers no;
``tests/test_alike.py`` finds rules that do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from otel_langfuse.conventions._plan import Plan, Step, claim
from otel_langfuse.conventions._view import ResourceView, ScopeView, View
from otel_langfuse.model import Span

SPAN_NAME = "name"
_SAME_FOR_ALL = frozenset({"status_code", "status_message", "events"})
"""Fields of a span that all that are alike share: those have no span events, and no status message but maybe an empty one."""


class ExaminedError(BaseException):
    """A rule asked what a stand-in says. No ``Exception``, which rules may catch."""


class StandIn:
    """Stands for a text that is not empty: that of an attribute, or, where ``key`` is None, the span's name.

    ``beginnings`` collects, by key, what it was found not to begin with.
    """

    __slots__ = ("_beginnings", "_text", "key")

    def __init__(self, key: str | None, text: str, beginnings: set[tuple[str | None, str]]) -> None:
        self.key = key
        self._text = text
        self._beginnings = beginnings

    __class__: Any = property(lambda _: str)

    def __bool__(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        raise ExaminedError

    def startswith(self, beginning: Any) -> bool:
        """Whether it begins so. Where it does, that is a reason to try the rule with the text itself."""
        if type(beginning) is not str or self._text.startswith(beginning):
            raise ExaminedError
        self._beginnings.add((self.key, beginning))
        return False

    def _examined(self, *_: Any) -> Any:
        raise ExaminedError

    __str__ = __repr__ = __format__ = __hash__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _examined
    __len__ = __iter__ = __contains__ = __getitem__ = __add__ = __radd__ = __mul__ = __rmul__ = __mod__ = __rmod__ = _examined


class Noted(Mapping[str, Any]):
    """Attributes, and which of them somebody has read. It is no ``dict``, so that nobody gets at a value unnoted.

    With ``stands`` a text that is not empty is stood in for, and an empty one is what spans that are alike share: neither is
    noted.
    """

    def __init__(self, attributes: Mapping[str, Any], *, stands: bool) -> None:
        self._attributes = attributes
        self._stands = stands
        self.read: set[str] = set()
        self.beginnings: set[tuple[str | None, str]] = set()

    def __getitem__(self, name: str) -> Any:
        value = self._attributes[name]
        if self._stands and type(value) is str:
            return value and StandIn(name, value, self.beginnings)
        self.read.add(name)
        return value

    def __contains__(self, name: object) -> bool:
        return name in self._attributes

    def __iter__(self) -> Iterator[str]:
        return iter(self._attributes)

    def __len__(self) -> int:
        return len(self._attributes)


class _NotedSpan:
    """The same for the fields of a span."""

    def __init__(self, span: Span, beginnings: set[tuple[str | None, str]], *, stands: bool) -> None:
        self._span = span
        self._beginnings = beginnings
        self._stands = stands
        self.read: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        if self._stands and name == SPAN_NAME:
            return StandIn(None, self._span.name, self._beginnings)
        if name not in _SAME_FOR_ALL:
            self.read.add(name)
        return getattr(self._span, name)


class Noting(NamedTuple):
    """A span to be read, and what was read of it: see ``Trial``."""

    view: View
    keys: set[str]
    parts: set[str]
    beginnings: set[tuple[str | None, str]]


class Subject(NamedTuple):
    """A span to try rules on, which has a name and no span events, with its attributes as received."""

    span: Span
    attributes: dict[str, Any]
    plan: Plan
    resource: ResourceView
    scope: ScopeView

    def view(self) -> View:
        """As rules see it."""
        return self._view(self.span, self.attributes)

    def noted(self, *, stands: bool) -> Noting:
        """The same, and what is noted while it is read."""
        attributes = Noted(self.attributes, stands=stands)
        span = _NotedSpan(self.span, attributes.beginnings, stands=stands)
        return Noting(self._view(span, attributes), attributes.read, span.read, attributes.beginnings)

    def _view(self, span: Any, attributes: Any) -> View:
        view = View(span, attributes, self.resource, self.scope, no_content)
        view.plan = self.plan
        return view


def no_content(_view: View) -> tuple[Any, Any]:
    """Read only of span events."""
    return None, None


class Trial(NamedTuple):
    """What a rule said.

    ``fields``: what it sets, with stand-ins where it only carries texts; None where it does not claim its group. ``keys``
    and ``parts``: of which attributes and fields of the span the values were looked at. ``beginnings``: how texts that are only
    carried do not begin, by key. The same is said of every span of this shape of which these are true, too.
    """

    fields: Mapping[str, Any] | None
    keys: set[str]
    parts: set[str]
    beginnings: set[tuple[str | None, str]]


def tried(step: Step, subject: Subject) -> Trial:
    """Tries a rule.

    Raises:
        Exception: the rule does.
    """
    try:
        trial = _tried(step, subject, stands=True)
    except (ExaminedError, Exception):  # noqa: BLE001 - whatever it is, a stand-in is no text for it
        return _tried(step, subject, stands=False)
    if trial.fields is None or all(map(_is_json, trial.fields.values())):
        return trial
    return _tried(step, subject, stands=False)  # it may have put stand-ins into something


def _tried(step: Step, subject: Subject, *, stands: bool) -> Trial:
    noting = subject.noted(stands=stands)
    fields: dict[str, Any] = {}
    claimed = claim(noting.view, (("", (step,)),), fields)
    return Trial(fields if claimed else None, *noting[1:])


def _is_json(value: Any, depth: int = 0) -> bool:
    """Whether it is a value of JSON, which stand-ins for attributes may be part of."""
    kind = type(value)
    if kind in _PLAIN:
        return kind is not StandIn or value.key is not None or depth == 0
    if depth > _MAX_DEPTH or kind not in (dict, list):
        return False
    return all(_is_json(item, depth + 1) for item in (value.values() if kind is dict else value))


_PLAIN = frozenset({StandIn, str, bool, int, float, type(None)})
_MAX_DEPTH = 20
