"""Which of our processors share a TracerProvider, and so which of them a span is meant for. Nobody tells them of each other.

A span that starts carries its provider's own processor, in a private slot; where that is not there, its resource tells
providers apart. A processor that was added while spans are open, and sees them end, goes by their resource.
"""

from __future__ import annotations

import inspect
import os
import weakref
from collections.abc import Callable
from typing import Any, Final

from . import threads
from .errors import DropReason
from .pipeline.route import By, Route, named_by, reason
from .propagation import project_of


def place_of_caller() -> str:
    """File and line of the application's code that called us."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
        frame = frame.f_back
    return "?" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


class _Neighbours:
    """The processors of one provider. A provider lets go of none of them; so the routes of ended ones stay known."""

    def __init__(self) -> None:
        self.routes: tuple[Route, ...] = ()
        self.ways: tuple[By, ...] = ()  # in which a span may name its project
        self.several = False  # two Langfuse projects were active at the same time; it stays so when one of them ends
        self._members: list[weakref.ref[Member]] = []

    def add(self, member: Member) -> Member | None:
        """Returns another living one that came before and sends to the same project."""
        living = [found for reference in self._members if (found := reference()) is not None]
        if member in living:
            return None
        mine = member.route.identity
        ahead = [one for one in living if mine is not None and one.route.identity == mine]
        member.ahead += tuple(map(weakref.ref, ahead))
        living.append(member)
        member.met = (*member.met, self)
        self._members = [weakref.ref(found) for found in living]
        self.routes = tuple(found.route for found in living)
        self.ways = tuple(dict.fromkeys(route.by for route in self.routes if route.by is not None))
        active = {found.route.identity for found in living if not found.has_ended()}
        self.several = self.several or len(active - {None}) > 1
        for found in living:
            found.look()
        return next((one for one in ahead if not one.has_ended()), None)

    def speaks(self, member: Member) -> bool:
        """Whether it is the first of the living projects: one line for all of them is enough."""
        living = (found for reference in self._members if (found := reference()) is not None)
        return next((found for found in living if found.route.identity is not None and not found.has_ended()), None) is member


class Member:
    """A processor among its neighbours; on the threads that start and end spans.

    Args:
        route: what it says about the spans that are meant for it.
        has_ended: whether it was shut down.
        note: logs a warning, given its topic and a line.
    """

    def __init__(self, route: Route, has_ended: Callable[[], bool], note: Callable[[str, str], None] | None = None) -> None:
        self.route = route
        self.place = place_of_caller()
        self._note = note
        self.gives_way: Callable[[], bool] = lambda: False  # whether another processor has taken its place
        self.ahead: tuple[weakref.ref[Member], ...] = ()  # those for the same project that a provider had before
        self._has_ended = has_ended
        self.met: tuple[_Neighbours, ...] = ()  # mostly one: hardly anybody adds a processor to two providers
        self.key: Any = self  # nothing yet
        self.takes_all = route.identity is None
        """Whether every span that no context gives a project is meant for it; asked for each span, so it is known beforehand."""
        _members.add(self)

    def has_ended(self) -> bool:
        """Whether spans that end now go to it no more."""
        return self.gives_way() or self._has_ended()

    def meet(self, span: Any) -> None:
        """Looks whose neighbour it is. To be called with a span that starts, unless ``key`` is what stands for its provider."""
        key = getattr(span, "_span_processor", None)
        if key is None:
            key = span.resource
        if key is not self.key:
            self._join(_known_by(key, span.resource))
            self.key = key

    def look(self) -> None:
        """Looks at the neighbours anew; called when there is another one."""
        if self.route.identity is not None:
            alone = not any(met.several for met in self.met)
            nobody_else = not any(met.ways for met in self.met)
            self.takes_all = not self.ahead and nobody_else and reason(self.route, (), None, alone=alone) is None

    def refusal(self, span: Any) -> tuple[DropReason | None, str | None]:
        """Why a finished span is not meant for this processor; None if it is. And what went wrong; None: others say so."""
        mine = self.route
        if mine.identity is None:
            return None, ""
        if not self.met:
            self._join(_known_by(span.resource, span.resource))
        name, detail = project_of(span), ""
        if name is None:
            try:
                name = named_by([way for met in self.met for way in met.ways], span)
            except Exception as error:  # noqa: BLE001 - a user's function; nobody can say then whose span it is
                name, detail = "", f"route raised {type(error).__name__}"
        routes = [route for met in self.met for route in met.routes]
        alone = not any(met.several for met in self.met)
        why = reason(mine, routes, name, alone=alone)
        if why is DropReason.NO_PROJECT and not self.met[0].speaks(self):
            return why, None
        if why is None and any(reason(one.route, routes, name, alone=alone) is None for one in self.living_ahead()):
            return DropReason.DOUBLE, ""
        return why, detail

    def living_ahead(self) -> list[Member]:
        """The processors to which this one leaves the spans of its project, as long as they send them."""
        return [one for reference in self.ahead if (one := reference()) is not None and not one.has_ended()]

    def _join(self, found: _Neighbours) -> None:
        with _lock:
            twin = found.add(self)
        if twin is not None and self._note is not None:
            self._note(
                "twin",
                f"two processors of one provider are for the same project: made at {twin.place} and at {self.place}. So that no "
                "span is sent twice, only the first one sends, by its own mask, filter and sampling; take the second one away",
            )


# -- providers, by what their spans carry ----------------------------------------------------------------------------------

_members: Final[weakref.WeakSet[Member]] = weakref.WeakSet()
_lock: Any = threads.Lock()
_known: Final[dict[int, tuple[weakref.ref[Any], _Neighbours]]] = {}


def any_living() -> bool:
    """Whether there is a processor in this process that was not shut down, on whatever provider."""
    return any(not member.has_ended() for member in list(_members))


def _known_by(key: Any, resource: Any) -> _Neighbours:
    """The neighbours under one provider's processor, or under its resource; both then stand for them."""
    with _lock:
        found = _found(key) or _Neighbours()
        for thing in (key, resource):
            if _found(thing) is not found:
                at = id(thing)
                _known[at] = (weakref.ref(thing, lambda reference, at=at: _forget(at, reference)), found)  # type: ignore[misc]
    return found


def _found(key: Any) -> _Neighbours | None:
    reference, found = _known.get(id(key), (None, None))
    return found if reference is not None and reference() is key else None


def _forget(at: int, reference: Any) -> None:
    entry = _known.get(at)
    if entry is not None and entry[0] is reference:
        del _known[at]


def _new_lock() -> None:
    global _lock  # noqa: PLW0603 - in a forked child another thread of the parent may seem to hold it for ever
    _lock = threads.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)
