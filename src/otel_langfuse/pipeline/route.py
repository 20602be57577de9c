"""Which of several Langfuse projects a span belongs to, where they share a TracerProvider. Pure.

==============================================  ================================================================================
a span                                          goes to
==============================================  ================================================================================
of a project that is named                      the clients of that name, or with that public key; to no other project
of no project                                   the clients with ``default=True``; to the only client, if there is but one and
                                                it has no ``project=``; else to none
any                                             destinations that are no Langfuse project and have no ``project=``: collectors, a
                                                local store, foreign exporters
==============================================  ================================================================================

A project is named by the context that the span starts in (``propagation.project``), else by what ``route=`` finds on the span.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple, TypeAlias

from otel_langfuse.errors import ConfigError, DropReason

By: TypeAlias = "str | Callable[[Any], str | None]"
"""``route=``: the key of an attribute of the span or its resource, or a function of a finished span -> the project or None."""


class Route(NamedTuple):
    """What a processor says about the spans that are meant for it.

    ``identity`` tells its project from others; None where it is none, and gets everything.
    """

    identity: Hashable | None = None
    names: frozenset[str] = frozenset()
    is_named: bool = False
    is_default: bool | None = None
    by: By | None = None


def checked_route(*, project: Any, default: Any, route: Any, destination: Hashable | None, public_key: str) -> Route:
    """Checks the three settings.

    Args:
        project: a name, or None.
        default: whether spans of no project are meant for it; None: if it is alone.
        route: see ``By``, or None.
        destination: the project that it sends to, equal for equal ones; None for any other destination.
        public_key: of the project, which is a name of it; empty for any other destination.

    Raises:
        ConfigError: one of them cannot work.
    """
    if project is not None and not is_name(project):
        raise ConfigError(f"project={type(project).__name__}: expected a name, as a text of 1 to 200 characters")
    if default is not None and not isinstance(default, bool):
        raise ConfigError(f"default={type(default).__name__}: expected True or False")
    if route is not None and not callable(route) and not is_name(route):
        raise ConfigError(f"route={type(route).__name__}: expected the key of an attribute, or a function of a span")
    found = {name for name in (project, public_key) if name}
    return Route(destination or project, frozenset(found), project is not None, default, route)


def is_name(value: Any) -> bool:
    """Whether it can name a project."""
    return isinstance(value, str) and len(value.strip()) > 0 and len(value) <= 200


def named_by(ways: Iterable[By], span: Any) -> str | None:
    """The project that a span names in the first of these ways that finds one; a function's exception passes through.

    What it finds and cannot be a name is "", which no project is called: the span is meant for somebody, and not for all.
    """
    for by in ways:
        found = by(span) if callable(by) else _attribute(span, by)
        if found is not None:
            return found if is_name(found) else ""
    return None


def _attribute(span: Any, key: str) -> Any:
    found = (span.attributes or {}).get(key)
    return span.resource.attributes.get(key) if found is None else found


def reason(mine: Route, routes: Iterable[Route], name: str | None, *, alone: bool) -> DropReason | None:
    """Why a span of the project ``name``, or of none, is not for the processor of the route ``mine``; None if it is.

    Args:
        mine: its route.
        routes: of all processors that share the provider, its own among them.
        name: of the project; None for a span of no project.
        alone: whether no other Langfuse project shares the provider.
    """
    if mine.identity is None:
        return None
    if name is not None:
        if name in mine.names:
            return None
        return DropReason.OTHER_PROJECT if any(name in route.names for route in routes) else DropReason.NO_PROJECT
    if mine.is_default or (mine.is_default is None and alone and not mine.is_named):
        return None
    return DropReason.OTHER_PROJECT if any(route.is_default for route in routes) else DropReason.NO_PROJECT
