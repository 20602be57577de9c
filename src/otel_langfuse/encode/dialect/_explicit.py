"""What was corrected on one span, written out as ``langfuse.*`` attributes.

Nearly always adding them is enough (``_added``). Where it is not, because a value has no plain form in OTLP, the server would
fail on it, or something has to be unsaid, attributes are taken away until the server reads what we do (``_settled``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from otel_langfuse import attributes as key
from otel_langfuse.conventions import CORRECTED_INDEX, SERVER_INDEX, by_id, precedence
from otel_langfuse.conventions import _javascript as js
from otel_langfuse.conventions._corrections import TRACE_UPDATES
from otel_langfuse.conventions._tools import may_hold_tools
from otel_langfuse.conventions._view import received
from otel_langfuse.conventions.corrections import CONVENTION
from otel_langfuse.model import Attributes, Observation, Span
from otel_langfuse.translate import AGENT_OPERATIONS, UntranslatableError, translate

from . import langfuse
from ._json import same
from ._row import ORIGIN, Row, Subject

FULL_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)\Z", re.ASCII)
SERVER_RULES = frozenset(rule for ranked in precedence.SERVER.values() for rule in ranked)
"""Rules that Langfuse's server has; all others are corrections."""

MORE_METADATA = tuple(prefix for prefix, _ in CONVENTION.metadata)
"""Prefixes of keys that hold user metadata only with corrections."""

_IN_OBSERVATION, _IN_TRACE = key.OBSERVATION_METADATA + ".", key.TRACE_METADATA + "."
_ROWS: Mapping[str, Row] = {
    row.field: row for row in langfuse.ROWS if row.key[-2:] != ".*" and not row.field.endswith("metadata")
}

# Group that a correction has won, or repair, or correction of a batch -> the fields to write. What is not here is settled.
_IO = ("input", "output", "trace.input", "trace.output")
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "type": ("type",),
    "level": ("level",),
    "status_message": ("status_message",),
    "io": _IO,
    "model": ("model", "type"),  # a model alone would make a plain span a generation (mapping.md 11.10)
    "parameters": ("model_parameters",),
    "usage": ("usage_details",),
    "cost": ("cost_details",),
    "completion_start_time": ("completion_start_time",),
    "version": ("version",),
    "user_id": ("trace.user_id",),
    "session_id": ("trace.session_id",),
    "tags": ("trace.tags",),
    "repair/version": ("version",),
    "repair/status_message": ("status_message",),
    "repair/model": ("model", "type"),
    "repair/prompt": ("prompt_name", "prompt_version"),
    "repair/completion_start_time": ("completion_start_time",),
    "repair/usage": ("usage_details",),
    "repair/cost": ("cost_details",),
    "repair/trace": ("trace.name",),
    **dict.fromkeys(("batch/agent_repeats", "batch/same_response", "batch/same_call"), ("usage_details", "cost_details")),
}
_GROUPS = {"input": "io", "output": "io", "model_parameters": "parameters", "usage_details": "usage", "cost_details": "cost"}
_EMPTY = {"usage_details": "{}", "cost_details": "{}"}  # as text it is nothing, and says so
_MAY_BE_SILENT = frozenset({*_IO, *_EMPTY})
_HIDDEN = frozenset({"model", "usage_details", "cost_details"})  # of agents (mapping.md 12)

_NAMES = ("genkit:name", "ai.toolCall.name", "ai.operationId", "operation.name")
_EVENTS = "events"
_SCALARS = frozenset({str, bool, int})
_ITEMS = _SCALARS | {float}
_MAX_ROUNDS = 6


def explicit(span: Span, better: Observation) -> Span:
    """The span with every field of ``better`` that the server would read worse; the same object where there is none."""
    made = _added(span, better)
    if made is None:
        made = _settled(span, better)
    return span if made.name == span.name and made.attributes == span.attributes else made


def _added(span: Span, better: Observation) -> Span | None:
    """With the fields that corrections have set; None where adding is not enough."""
    if not all(map(is_common, span.attributes.values())) or _fails(span.attributes):
        return None
    fields: dict[str, None] = {}  # a set that keeps its order
    for group, rule in better.rules.items():
        if rule not in SERVER_RULES:
            if group not in _FIELDS:
                return None
            fields |= dict.fromkeys(_FIELDS[group])
    if not better.is_root and not span.attributes.keys().isdisjoint(TRACE_UPDATES):
        fields |= dict.fromkeys(("trace.user_id", "trace.session_id"))  # whoever set them, the server must see an update
    if _is_own(span) and any(map(may_hold_tools, span.attributes)):
        fields |= dict.fromkeys(_IO)  # the server does not see them there, and leaves them out of the input
    if span.attributes.get("gen_ai.operation.name") in AGENT_OPERATIONS:
        fields = {field: None for field in fields if field not in _HIDDEN}
    written = _written(span, better, fields)
    unsaid = [field for field in fields if field not in _MAY_BE_SILENT and _ROWS[field].key not in written]
    if any(_GROUPS.get(field, field.removeprefix("trace.")) in better.rules for field in unsaid):
        return None
    more = written | _kept(span, better)
    return span._replace(attributes={**span.attributes, **more}) if more else span


def _written(span: Span, better: Observation, fields: Iterable[str]) -> dict[str, Any]:
    # In Langfuse's own scopes the server does not move tool definitions from attributes into the input.
    subject = Subject(better, span, beside=not _is_own(span))
    values = {field: _ROWS[field].value(subject) for field in fields}
    return {
        _ROWS[field].key: _EMPTY[field] if value is None else value
        for field, value in values.items()
        if value is not None or field in _EMPTY
    }


# -- metadata -----------------------------------------------------------------------------------------------------------


def _is_own(span: Span) -> bool:
    """Whether its scope is one of Langfuse's own."""
    return (span.scope.name or "").startswith("langfuse-sdk")


def unknown_to_server(span: Span, shown: Iterable[str]) -> list[str]:
    """Attributes of a span of Langfuse's own scopes that its server drops (mapping.md 3). ``shown``: see ``Plan``."""
    if not _is_own(span):
        return []
    return [name for name in shown if not name.startswith("langfuse.") and name not in (key.USER_ID, key.SESSION_ID)]


def _kept(span: Span, better: Observation) -> dict[str, Any]:
    """Metadata that the server would not show: notes of corrections, other families' entries, what it drops."""
    notes = {name: value for name, value in better.metadata.items() if name.startswith(langfuse.NOTES)}
    shown = better.metadata.get("attributes")
    if _is_own(span) and isinstance(shown, dict):
        notes |= {name: span.attributes[name] for name in unknown_to_server(span, shown) if name in span.attributes}
    more = _of_other_families(span, better)
    entries = {_IN_OBSERVATION + _free_name(name): value for name, value in {**notes, **more}.items()}
    if better.updates_trace and not better.is_root:
        entries |= {_IN_TRACE + _free_name(name): value for name, value in more.items()}
    made = {name: langfuse.value_of_entry(_json(value)) for name, value in entries.items() if name not in span.attributes}
    return {name: value for name, value in made.items() if value is not None}


def _of_other_families(span: Span, better: Observation) -> dict[str, Any]:
    names = [name for name in span.attributes if name.startswith(MORE_METADATA)]
    known = set(SERVER_INDEX.metadata_entries(names))
    return {
        entry: span.attributes[name]
        for name, whole, entry in CORRECTED_INDEX.metadata_entries(names)
        if (name, whole, entry) not in known and entry in better.metadata
    }


def _free_name(name: str) -> str:
    """A name for metadata that the server does not read as anything else."""
    return f"attributes.{name}" if name in langfuse.INSIDE or name in ORIGIN or name == "tools" else name


def _json(value: Any) -> Any:
    return value if type(value) in _SCALARS else received(value, plain=True)


# -- values that OTLP has no plain form for, or that the server cannot take ---------------------------------------------


def is_common(value: Any) -> bool:
    """Whether the server receives the value as it is: text, boolean, finite number, or a list of some."""
    kind = type(value)
    if kind in _SCALARS:
        return True
    if kind is float:
        return bool(value - value == 0)
    return (kind is tuple or kind is list) and len(value) > 0 and _ITEMS.issuperset(map(type, value))


def is_prompt(attributes: Attributes) -> bool:
    """Whether the server's schema takes the prompt link as it is: a name, and a whole number over 0 (mapping.md 16)."""
    name = attributes.get(key.OBSERVATION_PROMPT_NAME, attributes.get("langfuse.prompt.name"))
    version = attributes.get(key.OBSERVATION_PROMPT_VERSION, attributes.get("langfuse.prompt.version"))
    return type(name) is str and name != "" and type(version) is int and version > 0


def is_event_list(value: Any) -> bool:
    """Whether the server can read the attribute ``events``: text that is JSON is a list without nulls (mapping.md 1.2)."""
    listed = js.parse_or_none(value) if isinstance(value, str) else None
    return listed is None or (isinstance(listed, list) and None not in listed)


def _fails(attributes: Attributes) -> bool:
    """Whether the server fails on it, and with it on the whole request, or drops it because its name is no text."""
    return any(name in attributes and not isinstance(attributes[name], str) for name in _NAMES) or (
        _EVENTS in attributes and not is_event_list(attributes[_EVENTS])
    )


def _sendable(attributes: Attributes) -> dict[str, Any]:
    """The attributes such that the server reads of them what we do, as far as the form of values goes.

    An empty list is the text ``[]``, a mapping, bytes or a list with such inside their JSON text; what is None is left out.
    """
    made: dict[str, Any] = {}
    for name, value in attributes.items():
        plain = value if is_common(value) or isinstance(value, float) else received(value, plain=True)
        if plain is not None and not is_common(plain) and not isinstance(plain, float):
            plain = js.stringify(plain)
        if name in _NAMES and plain is not None and not isinstance(plain, str):
            plain = js.stringify(plain) if isinstance(plain, (list, tuple)) else js.text(plain)
        if plain is not None:
            made[name] = plain
    return made if is_event_list(made.get(_EVENTS)) else _without(made, {_EVENTS})


def _without(attributes: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """Without these, which are kept in the metadata unless they are Langfuse's own."""
    left = {name: value for name, value in attributes.items() if name not in names}
    for name in names & attributes.keys():
        if not name.startswith("langfuse."):
            left.setdefault(_IN_OBSERVATION + _free_name(name), attributes[name])
    return left


# -- settling -----------------------------------------------------------------------------------------------------------


def _settled(span: Span, better: Observation) -> Span:
    """The span with attributes from which the server reads what ``better`` says: it is read as by the server until it does."""
    made = span._replace(attributes=_sendable(span.attributes))
    made = made._replace(attributes={**made.attributes, **_kept(made, better)})
    for _ in range(_MAX_ROUNDS):
        try:
            server = translate(made, corrections=False)
        except UntranslatableError:
            break
        differing = [field for field in _ROWS if _differs(field, better, server)]
        is_named = server.name == better.name
        if is_named and not differing:
            break
        made = _nearer(made, better, server, differing)
        made = made if is_named else _renamed(made, better, server)
    return made


def _nearer(span: Span, better: Observation, server: Observation, differing: list[str]) -> Span:
    """Says what differs; where ``better`` has nothing to say, takes away what the server has read instead."""
    written = _written(span, better, _with_partners(differing))
    silent = [field for field in differing if _ROWS[field].key not in written]
    attributes = _without(dict(span.attributes), _read_for(silent, server))
    return span._replace(attributes=attributes | written)


def _renamed(span: Span, better: Observation, server: Observation) -> Span:
    """The name is the span's, where no attribute gives another."""
    if server.rules.get("name") == "otel/name/span":
        return span._replace(name=better.name)
    return span._replace(attributes=_without(dict(span.attributes), _read_for(["name"], server)))


def _with_partners(fields: list[str]) -> list[str]:
    """Both sides of the content, which are read from one family, and the type with a model."""
    found = dict.fromkeys(fields)
    for group in (_IO, _FIELDS["model"]):
        if group[0] in found or (group is _IO and "output" in found):
            found |= dict.fromkeys(group)
    return list(found)


def _read_for(fields: Iterable[str], server: Observation) -> set[str]:
    """Keys of the rules that gave the server these fields."""
    rules = by_id()
    found = (server.rules.get(_GROUPS.get(field, field.removeprefix("trace."))) for field in fields)
    return {name for rule in found if rule in rules for source in rules[rule].sets.values() for name in source.keys}


def _differs(field: str, better: Observation, server: Observation) -> bool:
    if field == "is_root":
        return False
    if field.startswith("trace."):
        if not (better.is_root or better.updates_trace):
            return False
        ours, theirs = getattr(better.trace, field[6:]), getattr(server.trace, field[6:])
    else:
        ours, theirs = getattr(better, field), getattr(server, field)
    if field == "trace.tags":
        ours, theirs = list(ours), list(theirs)
    return not (same(ours, theirs) if field in _IO else ours == theirs)
