"""What the spans of a trace get beside their own: what is propagated around them, and over it what their trace says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from opentelemetry import context as otel_context
from opentelemetry.context import Context

from otel_langfuse.propagation import propagated_attributes, with_only


class _Entered(NamedTuple):
    """A trace in whose ``with`` the program is: what it says, and what was propagated around that."""

    trace_id: str
    shared: Mapping[str, Any]
    around: Mapping[str, Any]


_KEY: Final = otel_context.create_key("otel-langfuse-entered")


def shared_in(shared: Mapping[str, Any], trace_id: str, context: Context) -> Context:
    """``context`` for what is in a trace: what the trace says wins over what is propagated."""
    apart = apart_from_others(trace_id, context)
    return with_only({**propagated_attributes(apart), **shared}, apart) if shared else apart


def entered(shared: Mapping[str, Any], trace_id: str, context: Context) -> Context:
    """The same, for a ``with``: from there on what is propagated inside wins."""
    apart = apart_from_others(trace_id, context)
    outer: Any = otel_context.get_value(_KEY, apart)  # of the same trace
    if outer is None:
        found = _Entered(trace_id, dict(shared), propagated_attributes(apart))
    else:
        found = _Entered(trace_id, {**outer.shared, **shared}, outer.around)
    return otel_context.set_value(_KEY, found, shared_in(shared, trace_id, apart))


def apart_from_others(trace_id: str, context: Context) -> Context:
    """``context`` without what another trace says, in whose ``with`` it is: that is for the spans of that trace alone."""
    found: Any = otel_context.get_value(_KEY, context)
    if found is None or found.trace_id == trace_id:
        return context
    said = propagated_attributes(context)
    inside = {key: value for key, value in said.items() if key not in found.shared or found.shared[key] != value}
    return with_only({**found.around, **inside}, otel_context.set_value(_KEY, None, context))
