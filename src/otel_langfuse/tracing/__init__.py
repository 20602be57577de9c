"""The writing side: observations as spans of the application's own TracerProvider, by hand or by decorator."""

from __future__ import annotations

from importlib import import_module

from ._gone import settle_gone
from ._origin import begin_by, begin_unless_told, register
from .decorator import observe
from .fields import ObservationFields, ObservationType, TraceUpdate
from .ids import (
    TraceContext,
    create_observation_id,
    create_trace_id,
    get_current_observation_id,
    get_current_trace_id,
    get_trace_url,
)
from .observation import (
    Observation,
    create_event,
    start_as_current_observation,
    start_observation,
)
from .updates import (
    set_current_trace_as_public,
    update_current_generation,
    update_current_span,
    update_current_trace,
)

__all__ = [
    "Observation",
    "ObservationFields",
    "ObservationType",
    "TraceContext",
    "TraceUpdate",
    "begin_by",
    "begin_unless_told",
    "create_event",
    "create_observation_id",
    "create_trace_id",
    "get_current_observation_id",
    "get_current_trace_id",
    "get_trace_url",
    "observe",
    "register",
    "set_current_trace_as_public",
    "settle_gone",
    "start_as_current_observation",
    "start_observation",
    "update_current_generation",
    "update_current_span",
    "update_current_trace",
]


def _begin() -> None:
    """Before the first observation of a program that has configured nothing: only then is it asked what the environment says.

    By its name, because the client is a floor above: whoever imports this room alone gets no client before an observation.
    """
    import_module("otel_langfuse.client").begin_from_environment()


begin_unless_told(_begin)
