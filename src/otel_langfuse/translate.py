"""A span to an observation: the rules of ``conventions`` in the order of ``precedence``, and what the server does then."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from otel_langfuse import attributes as key
from otel_langfuse.conventions import CORRECTED_INDEX, SERVER_INDEX
from otel_langfuse.conventions import _javascript as js
from otel_langfuse.conventions._batch import counted_once
from otel_langfuse.conventions._environment import normal_environment
from otel_langfuse.conventions._metadata import Metadata, user_metadata
from otel_langfuse.conventions._parameters import plain_parameters
from otel_langfuse.conventions._plan import Index, Step
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
    once.
    """
    rules = CORRECTED_INDEX if corrections else SERVER_INDEX
    resources: dict[int, ResourceView] = {}
    scopes: dict[int, ScopeView] = {}
    observations = []
    content = _content_by(rules)
    for span in spans:
        resource = resources.get(id(span.resource))
        if resource is None:
            resource = resources[id(span.resource)] = _resource_view(span.resource, rules)
        scope = scopes.get(id(span.scope))
        if scope is None:
            scope = scopes[id(span.scope)] = ScopeView(span.scope)
        attributes, others = received_attributes(span.attributes, plain=corrections)
        view = View(span, attributes, resource, scope, content)
        observation = _observation(view, others, rules, corrections=corrections)
        observations.append(repaired(observation) if corrections else observation)
    return counted_once(spans, observations) if corrections else observations


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
        _claim(view, [entry for entry in view.plan.groups if entry[0] == "io"], fields)
        return fields.get("input"), fields.get("output")

    return content


_CONTAINERS = (list, dict)  # which JavaScript calls true, empty ones too


def _claim(view: View, groups: Iterable[tuple[str, tuple[Step, ...]]], fields: dict[str, Any]) -> dict[str, str]:
    """The first step of each group that claims it sets its fields. Returns group -> rule id."""
    claimed: dict[str, str] = {}
    for group, steps in groups:
        for rule_id, when, only, field, names, reads, claims in steps:
            if when is not None and not (asked := when(view)) and type(asked) not in _CONTAINERS:
                continue
            if only is not None:
                value = only(view)
                if value is None:
                    continue
                fields[field] = value
            else:
                values = tuple([read(view) for read in reads])
                if not claims(values):
                    continue
                fields.update(zip(names, values))  # noqa: B905 - made together, of one length
            claimed[group] = rule_id
            break
    return claimed


def _observation(view: View, others: Iterable[str], rules: Index, *, corrections: bool) -> Observation:
    """``others``: keys of attributes that are not text."""
    span, attributes = view.span, view.attributes
    if not corrections and _server_fails(attributes):
        raise UntranslatableError(f"span {span.span_id}: the server fails on its attributes and drops the request")
    plan = view.plan = rules.plan(view)
    fields: dict[str, Any] = {}
    claimed = _claim(view, plan.groups, fields)
    get = fields.get
    is_root = not span.parent_span_id or (key.AS_ROOT in attributes and js.text(attributes[key.AS_ROOT]) == "true")
    updates = plan.has_trace_metadata or _updates_trace(attributes, plan.trace_updates)
    metadata = Metadata(view, others, corrections=corrections)
    given = get("input")
    trace = _trace(view, fields, claimed, metadata, is_root=is_root) if is_root or updates else _NO_TRACE
    observation_metadata = metadata.of_observation()
    if plan.has_tools or "tools" in observation_metadata:
        given, observation_metadata = lift_tools(given, observation_metadata)
    is_agent_total = attributes.get("gen_ai.operation.name") in AGENT_OPERATIONS
    is_generation = fields["type"] == "generation"
    parameters, environment = get("model_parameters"), get("environment")
    return Observation(  # by position, which takes a third of the time
        span.span_id,
        span.trace_id,
        span.parent_span_id or None,
        fields["type"],
        get("name"),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        "default" if environment is None else normal_environment(environment),
        fields["level"],
        get("status_message"),
        get("version"),
        given,
        get("output"),
        observation_metadata,
        None if is_agent_total else get("model"),
        _parameters(parameters, claimed.get("parameters")) if parameters else {},
        {} if is_agent_total else get("usage_details") or {},
        {} if is_agent_total else get("cost_details") or {},
        get("prompt_name") if is_generation else None,
        get("prompt_version") if is_generation else None,
        get("completion_start_time"),
        is_root,
        updates,
        trace,
        claimed,
    )


def _updates_trace(attributes: Mapping[str, Any], names: Iterable[str]) -> bool:
    """Whether one of these is filled (mapping.md 2.3)."""
    for name in names:  # noqa: SIM110 - any() of a generator takes three times as long
        if js.truthy(attributes[name]):
            return True
    return False


_NO_TRACE = TraceFields()


def _server_fails(attributes: Mapping[str, Any]) -> bool:
    """Attributes on which the server's mapping throws (mapping.md 1.2, batch killers)."""
    for name in ("operation.name", "ai.operationId"):
        if isinstance(attributes.get(name), (int, float)) and js.truthy(attributes[name]):
            return True
    events = attributes.get("events")
    parsed = js.parse_or_none(events) if isinstance(events, str) else None
    return parsed is not None and (not isinstance(parsed, list) or None in parsed)


def _parameters(parameters: Any, rule: str | None) -> Mapping[str, Any]:
    """As text and numbers, except where the Vercel rule made them, which keeps nulls (mapping.md 12)."""
    return parameters if rule == "vercel/parameters/scope" else plain_parameters(parameters)


def _trace(
    view: View, fields: Mapping[str, Any], claimed: Mapping[str, str], metadata: Metadata, *, is_root: bool
) -> TraceFields:
    """What the span says about its trace: all of it for a root, only explicit trace attributes otherwise (mapping.md 2.4)."""
    get = fields.get
    attributes = view.attributes
    if is_root:
        side = ("trace_input", "trace_output") if "trace_io" in claimed else ("input", "output")
        content = get(side[0]), get(side[1])
    else:
        content = attributes.get(key.TRACE_INPUT), attributes.get(key.TRACE_OUTPUT)
    name = get("trace_name")
    return TraceFields(
        get("name") if name is None and is_root else name,
        get("user_id"),
        get("session_id"),
        get("release"),
        get("public"),
        get("tags") or (),
        content[0],
        content[1],
        metadata.of_trace(is_root=is_root),
    )
