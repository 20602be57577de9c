"""A span to an observation: the rules of ``conventions`` in the order of ``precedence``, and what the server does then."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from otel_langfuse import attributes as key
from otel_langfuse.conventions import CORRECTED_INDEX, SERVER_INDEX
from otel_langfuse.conventions import _javascript as js
from otel_langfuse.conventions._alike import Alike, Origin
from otel_langfuse.conventions._batch import counted_once
from otel_langfuse.conventions._environment import normal_environment
from otel_langfuse.conventions._metadata import of_both, shown, user_metadata
from otel_langfuse.conventions._parameters import finished_parameters
from otel_langfuse.conventions._plan import NO_FIELDS, Index, claim
from otel_langfuse.conventions._repairs import repaired
from otel_langfuse.conventions._tools import lift_tools
from otel_langfuse.conventions._view import ResourceView, ScopeView, View, received_attributes
from otel_langfuse.model import Observation, Resource, Span, TraceFields


class UntranslatableError(ValueError):
    """Langfuse's server would fail on this span, and with it on its whole request (mapping.md 1.2).

    Raised only without corrections.
    """


# Agents repeat their children's usage; the server shows neither model nor usage nor cost for them (mapping.md 12, agent
# gate).
AGENT_OPERATIONS = ("invoke_agent", "agent_step")


def translate(span: Span, *, corrections: bool = True) -> Observation:
    """What Langfuse stores for the span. Pure; worker's thread.

    With ``corrections=False`` exactly what its server would make of it, and ``UntranslatableError`` where the server would
    fail.
    """
    return translate_all((span,), corrections=corrections)[0]


def translate_all(spans: Sequence[Span], *, corrections: bool = True) -> list[Observation]:
    """``translate`` for the spans of one batch, in their order.

    Resources and scopes that they share are read once. With corrections, tokens that several of them tell of are counted
    once, and what spans that are alike have in common is remembered from batch to batch (``conventions._alike``).
    """
    if not corrections:
        return _translated(spans, SERVER_INDEX, None)
    try:
        memory = _memories.pop()
    except IndexError:
        memory = Alike(CORRECTED_INDEX)
    observations = _translated(spans, CORRECTED_INDEX, memory)
    _memories.append(memory)
    return counted_once(spans, observations)


_memories: list[Alike] = []  # those that no thread has just now


def _translated(spans: Sequence[Span], rules: Index, memory: Alike | None) -> list[Observation]:
    """The observations, each for itself. ``memory``: of spans before these, with corrections; or None, without."""
    origins = _Origins(rules, memory)
    observations: list[Observation] = []
    content = _content_by(rules)
    corrections = memory is not None
    origin, resource, scope = None, None, None
    for span in spans:
        if origin is None or span.resource is not resource or span.scope is not scope:
            origin, resource, scope = origins.of(span), span.resource, span.scope
        if memory is not None:
            observation = _of_alike(span, memory, origin)
            if observation is not None:
                observations.append(observation)
                continue
        attributes, others = received_attributes(span.attributes, plain=corrections)
        view = View(span, attributes, origin.resource, origin.scope, content)
        observation = _observation(view, others, rules, corrections=corrections)
        observations.append(repaired(observation) if corrections else observation)
    return observations


class _Origin(NamedTuple):
    """Where spans come from, and what is remembered of others that came from there."""

    resource: ResourceView
    scope: ScopeView
    known: Origin | None


class _Origins:
    """The resources and scopes of a batch, each looked at once."""

    def __init__(self, rules: Index, memory: Alike | None) -> None:
        self._rules = rules
        self._memory = memory
        self._resources: dict[int, ResourceView] = {}
        self._origins: dict[tuple[int, int], _Origin] = {}

    def of(self, span: Span) -> _Origin:
        """Where the span comes from."""
        around = id(span.resource), id(span.scope)
        origin = self._origins.get(around)
        if origin is None:
            resource = self._resources.get(around[0])
            if resource is None:
                resource = self._resources[around[0]] = _resource_view(span.resource, self._rules)
            scope = ScopeView(span.scope)
            known = None if self._memory is None else self._memory.origin(span.resource, span.scope, (resource, scope))
            origin = self._origins[around] = _Origin(resource, scope, known)
        return origin


def _resource_view(resource: Resource, rules: Index) -> ResourceView:
    view = ResourceView(resource)
    view.metadata = user_metadata(view.attributes, rules.metadata_entries(view.attributes), key.TRACE_METADATA)
    return view


@cache
def _content_by(rules: Index) -> Callable[[View], tuple[Any, Any]]:
    """A reader of input and output by the rules of the ``io`` group alone."""

    def content(view: View) -> tuple[Any, Any]:
        view.plan = rules.plan(view)
        fields: dict[str, Any] = {}
        claim(view, [entry for entry in view.plan.groups if entry[0] == "io"], fields)
        return fields.get("input"), fields.get("output")

    return content


def _observation(view: View, others: Iterable[str], rules: Index, *, corrections: bool) -> Observation:
    """``others``: keys of attributes that are not text."""
    span, attributes = view.span, view.attributes
    if not corrections and _server_fails(attributes):
        raise UntranslatableError(f"span {span.span_id}: the server fails on its attributes and drops the request")
    plan = view.plan = rules.plan(view)
    fields = NO_FIELDS.copy()
    claimed = claim(view, plan.groups, fields)
    is_root = not span.parent_span_id or (key.AS_ROOT in attributes and js.text(attributes[key.AS_ROOT]) == "true")
    updates = plan.has_trace_metadata or _updates_trace(attributes, plan.trace_updates)
    texts = shown(view, others, corrections=corrections)
    metadata = of_both(attributes, plan, view.resource, view.scope, texts, is_root=is_root)
    observation = _made(span, attributes, fields, claimed, metadata, is_root=is_root, updates=updates)
    if plan.has_tools or "tools" in metadata[0]:
        given, left = lift_tools(observation.input, metadata[0])
        return observation._replace(input=given, metadata=left)
    return observation


def _of_alike(span: Span, memory: Alike, origin: _Origin) -> Observation | None:
    """The observation of a span that is like one before it; None if it has to be made in the long way."""
    try:
        found = None if origin.known is None else memory.found(span, origin.known)
    except Exception:  # noqa: BLE001 - whatever is unusual about it, the long way knows what to do
        return None
    if found is None:
        return None
    recipe, fields, texts = found
    plan, claimed, is_root, updates = recipe.plan, recipe.claimed.copy(), recipe.is_root, recipe.updates
    attributes = recipe.received(span.attributes) if plan.has_metadata else span.attributes
    listed = {"attributes": texts} if recipe.has_shown else {}
    metadata = of_both(attributes, plan, origin.resource, origin.scope, listed, is_root=is_root)
    if "tools" in metadata[0]:
        return None
    return repaired(_made(span, attributes, fields, claimed, metadata, is_root=is_root, updates=updates))


def _made(
    span: Span,
    attributes: Mapping[str, Any],
    fields: Mapping[str, Any],
    claimed: Mapping[str, str],
    metadata: tuple[Mapping[str, Any], Mapping[str, Any]],
    *,
    is_root: bool,
    updates: bool,
) -> Observation:
    """``fields``: all of ``FIELDS``, in their order. ``metadata``: of the observation and for its trace."""
    (kind, name, environment, level, status_message, version, given, produced, model, parameters, usage, cost, prompt_name,
     prompt_version, completion_start_time, trace_name, user_id, session_id, release, public, tags, trace_given,
     trace_produced) = fields.values()  # fmt: skip
    trace = _NO_TRACE
    if is_root or updates:  # a root tells all of its trace, others only what they do in so many words (mapping.md 2.4)
        if not is_root:
            trace_given, trace_produced = attributes.get(key.TRACE_INPUT), attributes.get(key.TRACE_OUTPUT)
        elif "trace_io" not in claimed:
            trace_given, trace_produced = given, produced
        if trace_name is None and is_root:
            trace_name = name
        said = (trace_name, user_id, session_id, release, public, tags or (), trace_given, trace_produced, metadata[1])
        trace = _new(TraceFields, said)
    if attributes.get("gen_ai.operation.name") in AGENT_OPERATIONS:
        model = usage = cost = None
    if kind != "generation":
        prompt_name = prompt_version = None
    return _new(  # by position, which takes a quarter of the time
        Observation,
        (
            span.span_id,
            span.trace_id,
            span.parent_span_id or None,
            kind,
            name,
            span.start_time_unix_nano,
            span.end_time_unix_nano,
            "default" if environment is None else normal_environment(environment),
            level,
            status_message,
            version,
            given,
            produced,
            metadata[0],
            model,
            finished_parameters(parameters, claimed.get("parameters")) if parameters else {},
            usage or {},
            cost or {},
            prompt_name,
            prompt_version,
            completion_start_time,
            is_root,
            updates,
            trace,
            claimed,
        ),
    )


def _updates_trace(attributes: Mapping[str, Any], names: Iterable[str]) -> bool:
    """Whether one of these is filled (mapping.md 2.3)."""
    for name in names:  # noqa: SIM110 - any() of a generator takes three times as long
        if js.truthy(attributes[name]):
            return True
    return False


_NO_TRACE = TraceFields()
_new = tuple.__new__


def _server_fails(attributes: Mapping[str, Any]) -> bool:
    """Attributes on which the server's mapping throws (mapping.md 1.2, batch killers)."""
    for name in ("operation.name", "ai.operationId"):
        if isinstance(attributes.get(name), (int, float)) and js.truthy(attributes[name]):
            return True
    events = attributes.get("events")
    parsed = js.parse_or_none(events) if isinstance(events, str) else None
    return parsed is not None and (not isinstance(parsed, list) or None in parsed)
