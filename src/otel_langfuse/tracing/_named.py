"""Keyword arguments of a call by which it says whose observation it is: for us, not for the observed function.

The newer decorator of Langfuse's SDK has ``langfuse_trace_id`` (32 hex digits), ``langfuse_parent_observation_id`` (16) and
``langfuse_public_key``. The classic one has ``langfuse_observation_id``, ``langfuse_parent_trace_id`` and
``langfuse_parent_observation_id``, which may be any text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.trace import Span
from opentelemetry.trace.propagation import get_current_span

from otel_langfuse.propagation import with_project

from ._chosen import chosen
from ._origin import NOTES, origin
from ._spans import begun
from .ids import EXTERNAL_ID, observation_id_of, root_id_of, trace_id_of

SPECIAL: Final = frozenset(
    {
        "langfuse_trace_id",
        "langfuse_parent_trace_id",
        "langfuse_parent_observation_id",
        "langfuse_observation_id",
        "langfuse_public_key",
    }
)


def taken(kwargs: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """Takes them out of a call's arguments; those that say something."""
    found = {name: kwargs.pop(name) for name in names & kwargs.keys()}
    return {name: value for name, value in found.items() if value}


def begun_as_named(
    name: Any, as_type: str, context: Context, fields: dict[str, Any], said: Mapping[str, Any]
) -> tuple[Span, Context]:
    """The span of a call that says whose it is, and the context around it. ``said``: what ``taken`` took."""
    if key := said.get("langfuse_public_key"):
        context = with_project(str(key), context)
    if (joined := _trace_context(said)) is not None:
        fields["trace_context"] = joined
    own = said.get("langfuse_observation_id")
    found = origin()
    if not own or found is None:
        return begun(name, as_type, context, fields), context
    own = str(own)
    is_root = joined is None and not get_current_span(context).get_span_context().is_valid
    trace_id = trace_id_of(own)
    span_id = root_id_of(trace_id) if is_root else observation_id_of(own)
    if own not in (trace_id, span_id):
        fields["metadata"] = {EXTERNAL_ID: own}
    with chosen(found.tracer, trace_id, span_id):
        return begun(name, as_type, context, fields), context


def _trace_context(said: Mapping[str, Any]) -> dict[str, Any] | None:
    trace_id, parent = said.get("langfuse_trace_id"), said.get("langfuse_parent_observation_id")
    if trace_id:
        return {"trace_id": trace_id, "parent_span_id": parent}
    if classic := said.get("langfuse_parent_trace_id"):
        return {"trace_id": trace_id_of(str(classic)), "parent_span_id": parent and observation_id_of(str(parent))}
    if parent:
        NOTES.note("parent_observation_id", "langfuse_parent_observation_id is ignored: expected the trace's id beside it")
    return None
