"""Metadata of an observation and of its trace, put together in the server's order (mapping.md 8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from otel_langfuse import attributes as key
from otel_langfuse.conventions import _javascript as js
from otel_langfuse.conventions._plan import OLD_METADATA
from otel_langfuse.conventions._view import View

_OWN_PREFIX = "langfuse."
_OWN_KEYS = frozenset({key.USER_ID, key.SESSION_ID})


class Metadata:
    """The parts of a span's metadata, read once for both that want them. ``others``: keys of what is not text."""

    __slots__ = ("_origin", "_own", "_shown", "_view")

    def __init__(self, view: View, others: Iterable[str], *, corrections: bool) -> None:
        self._view = view
        self._own = self._of_user(key.OBSERVATION_METADATA)
        self._shown = _shown(view, others, corrections=corrections)
        self._origin = {"resourceAttributes": view.resource.attributes, "scope": view.scope.metadata}

    def of_observation(self) -> dict[str, Any]:
        """mapping.md 8.2, observation."""
        return {**self._view.resource.metadata, **self._own, **self._shown, **self._origin}

    def of_trace(self, *, is_root: bool) -> dict[str, Any]:
        """mapping.md 8.2, trace full (of a root) and trace update."""
        of_trace = self._of_user(key.TRACE_METADATA)
        if not is_root:
            return {**self._view.resource.metadata, **of_trace, **self._origin}
        return {**self._view.resource.metadata, **of_trace, **self._own, **self._shown, **self._origin}

    def _of_user(self, whole: str) -> Mapping[str, Any]:
        view = self._view
        return user_metadata(view.attributes, view.plan.metadata, whole) if view.plan.has_metadata else _NONE


_NONE: Mapping[str, Any] = {}


def _shown(view: View, others: Iterable[str], *, corrections: bool) -> dict[str, Any]:
    """The span's other attributes, as text. The server leaves them out for Langfuse's own scopes (mapping.md 3).

    With corrections those that Langfuse does not know are kept there too: they would be lost.
    """
    attributes = view.attributes
    names: Iterable[str] = view.plan.shown
    if view.scope.is_sdk:
        if not corrections:
            return {}
        names = [name for name in names if not name.startswith(_OWN_PREFIX) and name not in _OWN_KEYS]
        if not names:
            return {}
    shown = {name: attributes[name] for name in names}
    for name in others:
        kind = type(shown.get(name, ""))
        if kind is not str:  # whole numbers are in the range where both languages write them alike (_view.received)
            shown[name] = str(shown[name]) if kind is int else js.stringify(shown[name])
    return {"attributes": shown}


def user_metadata(attributes: Mapping[str, Any], entries: tuple[tuple[str, str, str], ...], whole: str) -> dict[str, Any]:
    """Metadata of one domain: the whole object, then the single entries over it, in the span's order (mapping.md 8.1).

    ``entries`` as ``Index.metadata_entries`` gives them.
    """
    found = attributes.get(whole)
    if found is None and not entries and OLD_METADATA not in attributes:
        return {}
    if not js.truthy(found):
        found = attributes.get(OLD_METADATA)
    if isinstance(found, str):
        found = js.parse_or_none(found)
    metadata = js.as_object(found)
    metadata.update((name, attributes[attribute]) for attribute, domain, name in entries if domain in (whole, ""))
    return metadata
