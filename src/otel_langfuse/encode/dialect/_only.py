"""Which attributes a dialect replaces: those that some convention reads what it now says from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from otel_langfuse.conventions import CONVENTIONS, by_id
from otel_langfuse.conventions._rule import Rule, always
from otel_langfuse.conventions._tools import may_hold_tools
from otel_langfuse.model import Observation, Span
from otel_langfuse.translate import AGENT_OPERATIONS

# Field of a row -> the group of rules that sets it. Fields of other groups (user, session, metadata, name ...) are read
# from attributes that mean the same everywhere, or stay because no dialect says all of what they say.
_GROUPS = {
    "type": "type",
    "input": "io",
    "output": "io",
    "model": "model",
    "model_parameters": "parameters",
    "usage_details": "usage",
    "cost_details": "cost",
}
_TOOLS = "tools"
_OPERATION = "gen_ai.operation.name"
_HOLDS_MORE = "model_request_parameters"
# Keys of general meaning, which say something of a model only where the rule that reads them has set the field.
_GENERAL = frozenset({"operation.name"})


def _prefixes(rule: Rule) -> Iterable[str]:
    return (prefix for source in rule.sets.values() for some in source.prefixes for prefix in some)


def _keys(rule: Rule) -> Iterable[str]:
    return (key for source in rule.sets.values() for key in source.keys)


_groups_of_key: dict[str, set[str]] = defaultdict(set)
_groups_of_prefix: dict[str, set[str]] = defaultdict(set)
for _rule in by_id().values():
    for _key in _keys(_rule):
        _groups_of_key[_key].add(_rule.group)
    for _prefix in _prefixes(_rule):
        _groups_of_prefix[_prefix].add(_rule.group)
for _content in (content for convention in CONVENTIONS for content in convention.content if "metadata" not in content):
    (_groups_of_prefix if _content.endswith("*") else _groups_of_key)[_content.removesuffix("*")].add("io")


def without_meaning(span: Span, observation: Observation, fields: set[str]) -> dict[str, Any]:
    """The span's attributes without those that only rules for the written fields read.

    Kept is what Langfuse reads by the span's scope alone (Vercel's, Genkit's ...) or otherwise in that scope (openlit's
    counts), and an operation that also decides something else: it hides usage of agents (mapping.md 12), and says that a
    call's name is not the tool's.
    """
    attributes = span.attributes
    rules = by_id()
    groups = {_GROUPS[field] for field in fields if field in _GROUPS}
    if (span.scope.name or "").startswith("openlit"):
        groups.discard("usage")
    claimed = {group: rules[name] for group in groups if (name := observation.rules.get(group, "")) in rules}
    written = {group for group in groups if group not in claimed or not _by_scope(claimed[group])} | ({_TOOLS} & fields)
    read = {key for rule in claimed.values() for key in _keys(rule)}
    kept = {_OPERATION} if attributes.get(_OPERATION) in AGENT_OPERATIONS or "gen_ai.tool.name" in attributes else set()
    return {key: value for key, value in attributes.items() if key in kept or not _is_replaced(key, written, read)}


def _by_scope(rule: Rule) -> bool:
    """Whether the rule claims its group on every span of its scope, whatever attributes are there."""
    return rule.scope is not None and (rule.claims is always or any(not source.looks for source in rule.sets.values()))


def _is_replaced(key: str, written: set[str], read: set[str]) -> bool:
    if may_hold_tools(key):
        return _TOOLS in written and key != _HOLDS_MORE
    groups = _groups_of_key.get(key)
    if groups is None:
        groups = set().union(*(some for prefix, some in _groups_of_prefix.items() if key.startswith(prefix)))
        return bool(groups) and groups <= written
    if ("." not in key and ":" not in key) or key in _GENERAL:
        return key in read and groups <= written
    return groups <= written
