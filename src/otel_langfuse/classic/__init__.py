"""The client that Langfuse users know, classic and newer methods, on plain OpenTelemetry spans."""

from __future__ import annotations

from typing import TypeAlias

from otel_langfuse.tracing import Observation
from otel_langfuse.tracing.ids import observation_id_of, trace_id_of

from ._client import Langfuse, flush, get_client
from ._handles import Handle, ObservationHandle, TraceHandle

# What Langfuse's SDKs from 3 on call their handles, for annotations: here all of them are one class.
LangfuseAgent: TypeAlias = Observation
LangfuseChain: TypeAlias = Observation
LangfuseEmbedding: TypeAlias = Observation
LangfuseEvaluator: TypeAlias = Observation
LangfuseEvent: TypeAlias = Observation
LangfuseGeneration: TypeAlias = Observation
LangfuseGuardrail: TypeAlias = Observation
LangfuseRetriever: TypeAlias = Observation
LangfuseSpan: TypeAlias = Observation
LangfuseTool: TypeAlias = Observation

__all__ = [
    "Handle",
    "Langfuse",
    "LangfuseAgent",
    "LangfuseChain",
    "LangfuseEmbedding",
    "LangfuseEvaluator",
    "LangfuseEvent",
    "LangfuseGeneration",
    "LangfuseGuardrail",
    "LangfuseRetriever",
    "LangfuseSpan",
    "LangfuseTool",
    "ObservationHandle",
    "TraceHandle",
    "flush",
    "get_client",
    "observation_id_of",
    "trace_id_of",
]
