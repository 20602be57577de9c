"""The writing side: observations as spans of the application's own TracerProvider, by hand or by decorator."""

from __future__ import annotations

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
