"""The client that Langfuse users know, classic and newer methods, on plain OpenTelemetry spans."""

from __future__ import annotations

from ._client import Langfuse, flush, get_client
from ._handles import Handle, ObservationHandle, TraceHandle
from ._ids import observation_id_of, trace_id_of

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
