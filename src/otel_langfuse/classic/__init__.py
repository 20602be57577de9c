"""The client that Langfuse users know, classic and newer methods, on plain OpenTelemetry spans."""

from __future__ import annotations

from otel_langfuse.tracing.ids import observation_id_of, trace_id_of

from ._client import Langfuse, flush, get_client
from ._handles import Handle, ObservationHandle, TraceHandle

__all__ = [
    "Handle",
    "Langfuse",
    "ObservationHandle",
    "TraceHandle",
    "flush",
    "get_client",
    "observation_id_of",
    "trace_id_of",
]
