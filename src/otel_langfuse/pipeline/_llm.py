"""From the tables: whether a span is one of an LLM application, or of Langfuse's own. The default filter towards Langfuse.

It keeps what the official SDK's default filter keeps (api.md 9.4): known scopes and those under them, and every span with a
``gen_ai.*`` attribute. More than that, spans that carry what the other families' rules read as type, content, model,
parameters, usage or cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from otel_langfuse.conventions import CONVENTIONS

_GROUPS: Final = frozenset({"type", "io", "model", "parameters", "usage", "cost"})

_ANYBODYS: Final = frozenset({"operation.name", "operation.cost", "logfire.span_type"})
"""Keys that these rules read, but spans of any kind carry."""

SCOPES: Final = frozenset(
    scope.removesuffix(".*") for convention in CONVENTIONS if not convention.is_general for scope in convention.scopes
)
"""Instrumentation scopes, each of which also stands for those under it (``openinference`` for ``openinference.x``)."""

_SOURCES: Final = [
    source
    for convention in CONVENTIONS
    for rule in convention.rules
    if rule.group in _GROUPS and rule.scope is None
    for source in rule.sets.values()
]

KEYS: Final = frozenset(key for source in _SOURCES for key in source.keys if "." in key or ":" in key) - _ANYBODYS
"""Keys that only such spans carry. Those without a namespace (``input``, ``model``) may be anybody's."""

PREFIXES: Final = tuple(
    sorted({prefix.split(".")[0] + "." for source in _SOURCES for group in source.prefixes for prefix in group if "." in prefix})
)
"""Namespaces of which the same is true: ``gen_ai.`` and ``llm.``."""

MAX_KEYS: Final = 5_000

_marks: set[str] = set(KEYS)
_others: set[str] = set()  # keys that were looked at and say nothing: spans carry the same ones again and again


def is_llm_scope(name: str) -> bool:
    """Whether spans of this instrumentation scope are such, whatever they carry."""
    return any(name[: len(scope)] == scope and name[len(scope) : len(scope) + 1] in ("", ".") for scope in SCOPES)


def has_llm_attributes(attributes: Mapping[str, Any]) -> bool:
    """Whether a span that carries these is such, whatever its scope."""
    keys = attributes.keys()
    if not _marks.isdisjoint(keys):
        return True
    if _others.issuperset(keys):
        return False
    new = [key for key in keys if key not in _others]
    found = [key for key in new if key.startswith(PREFIXES)]
    if len(_others) + len(_marks) < MAX_KEYS:
        _marks.update(found)
        _others.update(set(new).difference(found))
    return bool(found)
