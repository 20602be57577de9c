"""Metadata of an observation and of its trace, put together in the server's order (mapping.md 8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from otel_langfuse import attributes as key
from otel_langfuse.conventions import _javascript as js
from otel_langfuse.conventions._plan import OLD_METADATA, Plan
from otel_langfuse.conventions._view import ResourceView, ScopeView, View

_OWN_PREFIX = "langfuse."
_OWN_KEYS = frozenset({key.USER_ID, key.SESSION_ID})


def of_both(
    attributes: Mapping[str, Any],
    plan: Plan,
    resource: ResourceView,
    scope: ScopeView,
    shown: Mapping[str, Any],
    *,
    is_root: bool,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metadata of the observation, and what it tells of its trace (mapping.md 8.2).

    ``attributes`` as received; ``shown`` as the function of that name gives them.
    """
    origin = {"resourceAttributes": resource.attributes, "scope": scope.metadata}
    if not plan.has_metadata:
        of_observation = {**resource.metadata, **shown, **origin}
        return of_observation, of_observation.copy() if is_root else {**resource.metadata, **origin}
    own = user_metadata(attributes, plan.metadata, key.OBSERVATION_METADATA)
    of_trace = user_metadata(attributes, plan.metadata, key.TRACE_METADATA)
    of_observation = {**resource.metadata, **own, **shown, **origin}
    if not is_root:
        return of_observation, {**resource.metadata, **of_trace, **origin}
    return of_observation, {**resource.metadata, **of_trace, **own, **shown, **origin}


def shown(view: View, others: Iterable[str], *, corrections: bool) -> dict[str, Any]:
    """The span's other attributes, as text; empty where none are shown. ``others``: keys of what is not text.

    The server leaves them out for Langfuse's own scopes (mapping.md 3). With corrections those that Langfuse does not know are
    kept there too: they would be lost.
    """
    attributes = view.attributes
    names = shown_names(view.plan, view.scope, corrections=corrections)
    if names is None:
        return {}
    texts = {name: attributes[name] for name in names}
    for name in others:
        kind = type(texts.get(name, ""))
        if kind is not str:  # whole numbers are in the range where both languages write them alike (_view.received)
            texts[name] = str(texts[name]) if kind is int else js.stringify(texts[name])
    return {"attributes": texts}


def shown_names(plan: Plan, scope: ScopeView, *, corrections: bool) -> Sequence[str] | None:
    """Keys of the attributes that are shown; None where even that there are none is not."""
    if not scope.is_sdk:
        return plan.shown
    if not corrections:
        return None
    return [name for name in plan.shown if not name.startswith(_OWN_PREFIX) and name not in _OWN_KEYS] or None


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
