"""Where each field of an observation comes from: its rule, the attributes it was read from, and what the server would read.

Values only; ``explain.py`` shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from otel_langfuse.conventions import by_id
from otel_langfuse.conventions._batch import REASONS
from otel_langfuse.conventions._repairs import REPAIRS
from otel_langfuse.conventions._rule import Rule
from otel_langfuse.model import Json, Observation, Span
from otel_langfuse.translate import UntranslatableError, translate, translate_all

MAX_TRIALS = 64
"""Attributes of one field that are tried one by one. Where a rule looks at more of them, all are named."""

TRACE = "trace."
_METADATA = ("metadata", "trace.metadata")
_OF_BOTH = ("name", "input", "output")  # a trace may have them of its own, or from its root observation
_SHOWN = "attributes"
_OF_EVERY_SPAN = frozenset({_SHOWN, "resourceAttributes", "scope"})


class Field(NamedTuple):
    """One field of an observation, and why it is as it is.

    ``name`` is a field of ``model.Observation``, or ``trace.`` and one of ``model.TraceFields``; of the metadata, what Langfuse
    shows of every span is left out. ``rule`` is None where no rule set it (metadata; and fields that only the server sets).
    ``corrections`` changed what the rule read: repairs, and what needs the whole batch. ``sources`` are attribute keys, or
    "resource attribute k", "span event e", "span name", "span status". ``server`` and ``server_rule`` are what Langfuse's server
    alone would have; ``differs`` says whether that is something else.
    """

    name: str
    value: Json
    rule: str | None
    corrections: tuple[str, ...]
    sources: tuple[str, ...]
    differs: bool
    server: Json
    server_rule: str | None

    @property
    def spec(self) -> str:
        """Where the rule is written down; "" without one."""
        rule = _RULES.get(self.rule or "")
        return rule.spec if rule else ""

    @property
    def reason(self) -> str:
        """Why it was corrected; "" where it was not, or where that follows from another field."""
        told = "; ".join(filter(None, (_REASONS.get(rule, "") for rule in (self.rule or "", *self.corrections))))
        return told or (_WITHOUT_A_RULE.get(self.name, "") if self.differs else "")


class Explained(NamedTuple):
    """A span with the fields of its observation: those that say something, here or on the server.

    ``server_fails``: Langfuse's server would fail on it, and drop the whole request; there is no reading of the server's then.
    """

    span: Span
    observation: Observation
    fields: tuple[Field, ...]
    server_fails: bool


_RULES = by_id()
_REASONS = {rule.id: rule.reason for rule in _RULES.values()} | {repair.id: repair.reason for repair in REPAIRS} | REASONS
_REASONS["corrections/repair/trace_name"] = "a trace name of more than 1,000 characters, or that is not text, loses the trace"
_LOST = "attributes of Langfuse's own scopes that it does not know are lost on the server"
_WITHOUT_A_RULE = {
    "metadata": _LOST,
    "trace.metadata": _LOST,
    "trace.tags": 'an empty list sent by protobuf becomes the tag {"arrayValue":{}} on the server',
}

# What a correction of a finished observation may change.
_CHANGED_BY: dict[str, tuple[str, ...]] = {
    **{repair.id: (*repair.fields, "metadata") if repair.keeps else repair.fields for repair in REPAIRS},
    **dict.fromkeys(REASONS, ("usage_details", "cost_details", "metadata")),
    "corrections/repair/trace_name": ("trace.name",),
}

_FIELDS = (
    *("type", "name", "model", "model_parameters", "input", "output", "usage_details", "cost_details", "level", "status_message"),
    *("completion_start_time", "prompt_name", "prompt_version", "version", "environment", "metadata"),
    *(f"{TRACE}{name}" for name in ("name", "user_id", "session_id", "tags", "release", "public", "input", "output", "metadata")),
)


def explained(spans: Sequence[Span]) -> list[Explained]:
    """Each span of one request with its fields. Pure; costs some dozens of translations a span."""
    return [_explained(span, observation) for span, observation in zip(spans, translate_all(spans), strict=True)]


def _explained(span: Span, observation: Observation) -> Explained:
    try:
        server = translate(span, corrections=False)
    except UntranslatableError:
        server = None
    alone = translate(span)
    found = (_field(name, span, observation, alone, server) for name in _FIELDS)
    return Explained(span, observation, tuple(field for field in found if field is not None), server is None)


def _field(name: str, span: Span, observation: Observation, alone: Observation, server: Observation | None) -> Field | None:
    """One field; None where neither we nor the server have anything. ``alone`` is the span's, were it alone in its batch."""
    value = _value(observation, name)
    theirs = value if server is None else _value(server, name)
    if server is not None and name in _METADATA:
        shown, shown_there = (_held(one, name).get(_SHOWN) for one in (observation, server))
        if shown != shown_there:  # attributes that the server would lose
            value, theirs = {**value, _SHOWN: shown}, {**theirs, _SHOWN: shown_there}
    if is_empty(value) and is_empty(theirs):
        return None
    rule = _rule_of(observation, name)
    server_rule = None if server is None else _rule_of(server, name)
    return Field(
        name=name,
        value=value,
        rule=rule.id if rule else None,
        corrections=tuple(id_ for id_ in observation.rules.values() if name in _CHANGED_BY.get(id_, ())),
        sources=_sources(span, alone, rule, name) if rule or name in _METADATA else (),
        differs=repr(value) != repr(theirs),  # 1.0 is not 1 (the server's schema drops one of them), and NaN is NaN
        server=theirs,
        server_rule=server_rule.id if server_rule else None,
    )


def _value(observation: Observation, name: str) -> Json:
    value = _held(observation, name)
    return {key: item for key, item in value.items() if key not in _OF_EVERY_SPAN} if name in _METADATA else value


def _held(observation: Observation, name: str) -> Any:
    return getattr(observation.trace if name.startswith(TRACE) else observation, name.removeprefix(TRACE))


def is_empty(value: Json) -> bool:
    """Whether there is nothing to show."""
    return value is None or value in ({}, (), [], "")


def _rule_of(observation: Observation, name: str) -> Rule | None:
    """The rule that set the field. What a trace has no rule of its own for, it has from the observation."""
    set_by = {field: _RULES[id_] for id_ in observation.rules.values() if id_ in _RULES for field in _RULES[id_].sets}
    part = name.removeprefix(TRACE)
    if part == name:
        return set_by.get(name)
    of_observation = None if part in _OF_BOTH and is_empty(_value(observation, name)) else set_by.get(part)
    return set_by.get(f"trace_{part}") or of_observation


def _sources(span: Span, alone: Observation, rule: Rule | None, name: str) -> tuple[str, ...]:
    """What the field would be another without. Where each alone would do, all of them."""
    found = _candidates(span, rule)
    if len(found) > MAX_TRIALS:
        return tuple(found)
    value = repr(_value(alone, name))
    needed = tuple(label for label, without in found.items() if repr(_value(translate(without()), name)) != value)
    return needed or (tuple(found) if rule is not None and _looks(rule) else ())


def _looks(rule: Rule) -> bool:
    """Whether the rule says where it looks. One that does not may look anywhere."""
    return all(source.looks for source in rule.sets.values())


def _candidates(span: Span, rule: Rule | None) -> dict[str, Callable[[], Span]]:
    """What the rule (None: the metadata) may have read: a name for it -> the span without it."""
    sources = () if rule is None else tuple(rule.sets.values())
    keys = frozenset(key for source in sources for key in source.keys)
    prefixes = tuple(prefix for source in sources for group in source.prefixes for prefix in group)
    of_resource = span.resource.attributes if rule is None else {key for source in sources for key in source.resource_keys}
    of_events = {event for source in sources for event in source.events}
    anywhere = rule is None or not _looks(rule)
    found: dict[str, Callable[[], Span]] = {}
    if anywhere:
        found["span name"] = partial(span._replace, name="")
        found["span status"] = partial(span._replace, status_code=0, status_message=None)
    if not anywhere or len(span.attributes) + len(found) <= MAX_TRIALS:
        for key, value in span.attributes.items():
            if value is not None and (anywhere or key in keys or (prefixes and key.startswith(prefixes))):
                found[key] = partial(_without_attribute, span, key)
    for key in span.resource.attributes:
        if key in of_resource:
            found[f"resource attribute {key}"] = partial(_without_resource_attribute, span, key)
    for event in span.events:
        if event.name in of_events:
            found[f"span event {event.name}"] = partial(_without_events, span, event.name)
    return found


def _without(attributes: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if name != key}


def _without_attribute(span: Span, key: str) -> Span:
    return span._replace(attributes=_without(span.attributes, key))


def _without_resource_attribute(span: Span, key: str) -> Span:
    return span._replace(resource=span.resource._replace(attributes=_without(span.resource.attributes, key)))


def _without_events(span: Span, name: str) -> Span:
    return span._replace(events=tuple(event for event in span.events if event.name != name))
