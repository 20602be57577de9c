"""How classic traces and observations begin: as spans with the ids that the caller chose, under the parents that it named."""

from __future__ import annotations

import secrets
from time import time_ns
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, Span, SpanContext, TraceFlags, set_span_in_context
from opentelemetry.trace.propagation import get_current_span

from otel_langfuse import attributes as names
from otel_langfuse.propagation import set_attributes, with_project
from otel_langfuse.tracing._chosen import chosen
from otel_langfuse.tracing._origin import NOTES, local_root, origin
from otel_langfuse.tracing._spans import begun
from otel_langfuse.tracing.ids import EXTERNAL_ID, observation_id_of, root_id_of, trace_id_of

from . import _known
from ._around import apart_from_others, shared_in
from ._node import Node

if TYPE_CHECKING:
    from otel_langfuse.client import Client

    from ._fields import Given

_NAMELESS = "trace"


def trace_node(client: Client, said: Given) -> Node:
    """The trace of this id if it is known, told what was said; else a new root span."""
    own_id = said.ids.get("id")
    trace_id = secrets.token_hex(16) if own_id is None else trace_id_of(own_id)
    with _known.turn():
        node = _known.find(client, trace_id) or _around(client, trace_id) or _begun_trace(client, said, trace_id)
        node.own_id = node.trace_own_id = own_id or node.trace_id
        node.tell(said)
    return node


def _begun_trace(client: Client, said: Given, trace_id: str) -> Node:
    context = set_span_in_context(INVALID_SPAN, apart_from_others(trace_id, otel_context.get_current()))
    span_id = root_id_of(trace_id)
    span = _begin(client, said.name or _NAMELESS, "span", context, said, trace_id=trace_id, span_id=span_id, bare=True)
    node = Node(client, span, trace_id, span_id, None)
    node.is_trace = True
    own_id = said.ids.get("id")
    if own_id not in (None, node.trace_id):
        node.tell_trace({f"{names.TRACE_METADATA}.{EXTERNAL_ID}": own_id})
    return node


def observation_node(client: Client, said: Given, as_type: str, parent: Node | None) -> Node:
    """The observation of this id if it is known, told what was said; else a new span, under the parent that was named.

    Without a parent and without a trace it is the root of a trace of its own.
    """
    if "id" not in said.ids:
        return _begun_observation(client, said, as_type, parent, None)
    with _known.turn():
        own_id = said.ids["id"]
        known = _known.find(client, observation_id_of(own_id))
        if known is None:
            return _begun_observation(client, said, as_type, parent, own_id)
        known.tell(said)
    _end_if_said(known, said, as_type)
    return known


def _begun_observation(client: Client, said: Given, as_type: str, parent: Node | None, own_id: str | None) -> Node:
    id = None if own_id is None else observation_id_of(own_id)  # noqa: A001 - its name
    kind = "generation" if as_type == "span" and said.is_generation else as_type
    if kind == "event" and said.start_ns is None:
        said = said._replace(start_ns=time_ns())  # which is its end, too
    node = _started(client, said, kind, parent, id)
    if own_id is not None:
        node.own_id = own_id
        if own_id != node.id and node.span.is_recording():
            set_attributes(node.span, {f"{names.OBSERVATION_METADATA}.{EXTERNAL_ID}": own_id})
    if said.trace:
        node.tell(said._replace(name=None, fields={}))
    _end_if_said(node, said, kind)
    return node


def begin_below(node: Node, name: str) -> Span:
    """A span under one that may have ended."""
    return begun(name, "event", _of(node.client, _within(node.span, node)), {})


def _end_if_said(node: Node, said: Given, as_type: str) -> None:
    if said.end_ns is not None:
        node.end(said.end_ns)
    elif as_type == "event":
        node.end(said.start_ns)


def _started(client: Client, said: Given, kind: str, parent: Node | None, id: str | None) -> Node:  # noqa: A002 - its name
    name = said.name or kind
    own_trace, above = said.ids.get("trace_id"), said.ids.get("parent_observation_id")
    if parent is None and own_trace is None and above is not None:
        parent = _known.find(client, observation_id_of(above))
    if parent is None and own_trace is not None:
        return _by_ids(client, said, kind, own_trace, id or secrets.token_hex(8))
    if parent is None:
        trace_id = secrets.token_hex(16)
        id = id or root_id_of(trace_id)  # noqa: A001
        context = set_span_in_context(INVALID_SPAN, apart_from_others(trace_id, otel_context.get_current()))
        return Node(client, _begin(client, name, kind, context, said, trace_id=trace_id, span_id=id), trace_id, id, None)
    id = id or secrets.token_hex(8)  # noqa: A001
    span = _begin(client, name, kind, _within(parent.span, parent), said, trace_id=parent.trace_id, span_id=id)
    node = Node(client, span, parent.trace_id, id, parent)
    node.trace_own_id = parent.trace_own_id
    return node


def _by_ids(client: Client, said: Given, kind: str, own_trace: str, id: str) -> Node:  # noqa: A002 - its name
    """Under what the ids name, whether this process knows it or not."""
    trace_id = trace_id_of(own_trace)
    root = _known.find(client, trace_id) or _around(client, trace_id)
    above = said.ids.get("parent_observation_id")
    parent = root if above is None else _known.find(client, observation_id_of(above))
    if parent is not None and parent.trace_id == trace_id:
        context = _within(parent.span, parent)
    else:
        parent = None
        parent_id = root_id_of(trace_id) if above is None else observation_id_of(above)
        context = set_span_in_context(
            _somewhere_else(trace_id, parent_id), apart_from_others(trace_id, otel_context.get_current())
        )
    span = _begin(client, said.name or kind, kind, context, said, trace_id=trace_id, span_id=id)
    node = Node(client, span, trace_id, id, parent, root=root, is_apart=parent is None)
    node.trace_own_id = own_trace
    if parent is None and root is None and span.is_recording():
        # The first span of this trace here: so Langfuse 4 lists the trace, and 3 keeps the name that its root gives it.
        set_attributes(span, {names.IS_APP_ROOT: True, **_external(trace_id, own_trace)})
    return node


def _external(trace_id: str, own_trace: str) -> dict[str, Any]:
    return {} if own_trace == trace_id else {f"{names.TRACE_METADATA}.{EXTERNAL_ID}": own_trace}


def _around(client: Client, trace_id: str) -> Node | None:
    """The root of the trace that runs here, if it is the one of this id, whoever began it; it is not ours to end."""
    current = get_current_span()
    context = current.get_span_context()
    if not current.is_recording() or f"{context.trace_id:032x}" != trace_id:
        return None
    return Node(client, local_root(current) or current, trace_id, "", None, is_owned=False)


def _somewhere_else(trace_id: str, span_id: str) -> Span:
    sampled = TraceFlags(TraceFlags.SAMPLED)
    return NonRecordingSpan(SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=sampled))


def _within(span: Span, node: Node) -> Context:
    context = shared_in((node.root or node).shared, node.trace_id, otel_context.get_current())
    return set_span_in_context(span, context)


def _of(client: Client, context: Context) -> Context:
    """``context``, in which spans are of the client's project."""
    return context if client.project is None else with_project(client.project, context)


def _begin(
    client: Client, name: str, kind: str, context: Context, said: Given, *, trace_id: str, span_id: str, bare: bool = False
) -> Span:
    found = origin()
    if found is None:
        return INVALID_SPAN
    try:
        context = _of(client, context)
        with chosen(found.tracer, trace_id, span_id) as can_choose:
            if not can_choose and not get_current_span(context).get_span_context().is_valid:
                context = set_span_in_context(_somewhere_else(trace_id, root_id_of(trace_id)), context)
            return begun(name, kind, context, {} if bare else said.fields, said.start_ns)
    except Exception as error:  # noqa: BLE001 - a foreign tracer
        NOTES.note("start", f"an observation is not recorded: {type(error).__name__} while starting its span")
        return INVALID_SPAN
