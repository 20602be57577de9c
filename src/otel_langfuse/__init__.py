"""OpenTelemetry spans as Langfuse observations. Importing this loads nothing but names; each loads what it needs when used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .classic import (
        Langfuse,
        LangfuseAgent,
        LangfuseChain,
        LangfuseEmbedding,
        LangfuseEvaluator,
        LangfuseEvent,
        LangfuseGeneration,
        LangfuseGuardrail,
        LangfuseRetriever,
        LangfuseSpan,
        LangfuseTool,
        flush,
        get_client,
    )
    from .client import Client, configure
    from .config import Config
    from .errors import ApiError, ConfigError, DropReason, ScoreError
    from .exporters.ingestion import LangfuseIngestionExporter
    from .exporters.otlp import LangfuseOTLPExporter
    from .exporters.sqlite import SqliteExporter
    from .media import LangfuseMedia
    from .model import Stats
    from .pipeline.mask._otel_spans import MaskOtelSpansParams, MaskOtelSpansResult, OtelSpanIdentifier, OtelSpanPatch
    from .pipeline.mask._rules import MaskRule
    from .pipeline.tail import (
        Tail,
        keep_cost_over,
        keep_errors,
        keep_if,
        keep_level,
        keep_name,
        keep_rate,
        keep_slower_than,
        keep_tag,
        keep_tokens_over,
        keep_type,
    )
    from .processor import LangfuseSpanProcessor
    from .propagation import project, propagate_attributes
    from .sampler import LangfuseSampler
    from .span_filter import is_default_export_span, is_genai_span, is_known_llm_instrumentor, is_langfuse_span
    from .tracing import (
        Observation,
        ObservationFields,
        TraceUpdate,
        create_event,
        create_observation_id,
        create_trace_id,
        get_current_observation_id,
        get_current_trace_id,
        get_trace_url,
        observe,
        set_current_trace_as_public,
        start_as_current_observation,
        start_observation,
        update_current_generation,
        update_current_span,
        update_current_trace,
    )

    __version__: str

__all__ = [
    "ApiError",
    "Client",
    "Config",
    "ConfigError",
    "DropReason",
    "Langfuse",
    "LangfuseAgent",
    "LangfuseChain",
    "LangfuseEmbedding",
    "LangfuseEvaluator",
    "LangfuseEvent",
    "LangfuseGeneration",
    "LangfuseGuardrail",
    "LangfuseIngestionExporter",
    "LangfuseMedia",
    "LangfuseOTLPExporter",
    "LangfuseRetriever",
    "LangfuseSampler",
    "LangfuseSpan",
    "LangfuseSpanProcessor",
    "LangfuseTool",
    "MaskOtelSpansParams",
    "MaskOtelSpansResult",
    "MaskRule",
    "Observation",
    "ObservationFields",
    "OtelSpanIdentifier",
    "OtelSpanPatch",
    "ScoreError",
    "SqliteExporter",
    "Stats",
    "Tail",
    "TraceUpdate",
    "__version__",
    "configure",
    "create_event",
    "create_observation_id",
    "create_trace_id",
    "flush",
    "get_client",
    "get_current_observation_id",
    "get_current_trace_id",
    "get_trace_url",
    "is_default_export_span",
    "is_genai_span",
    "is_known_llm_instrumentor",
    "is_langfuse_span",
    "keep_cost_over",
    "keep_errors",
    "keep_if",
    "keep_level",
    "keep_name",
    "keep_rate",
    "keep_slower_than",
    "keep_tag",
    "keep_tokens_over",
    "keep_type",
    "observe",
    "project",
    "propagate_attributes",
    "set_current_trace_as_public",
    "start_as_current_observation",
    "start_observation",
    "update_current_generation",
    "update_current_span",
    "update_current_trace",
]

_HOMES = {
    "ApiError": ".errors",
    "Client": ".client",
    "Config": ".config",
    "ConfigError": ".errors",
    "DropReason": ".errors",
    "Langfuse": ".classic",
    "LangfuseAgent": ".classic",
    "LangfuseChain": ".classic",
    "LangfuseEmbedding": ".classic",
    "LangfuseEvaluator": ".classic",
    "LangfuseEvent": ".classic",
    "LangfuseGeneration": ".classic",
    "LangfuseGuardrail": ".classic",
    "LangfuseRetriever": ".classic",
    "LangfuseSpan": ".classic",
    "LangfuseTool": ".classic",
    "LangfuseIngestionExporter": ".exporters.ingestion",
    "LangfuseMedia": ".media",
    "LangfuseOTLPExporter": ".exporters.otlp",
    "LangfuseSampler": ".sampler",
    "LangfuseSpanProcessor": ".processor",
    "MaskOtelSpansParams": ".pipeline.mask._otel_spans",
    "MaskOtelSpansResult": ".pipeline.mask._otel_spans",
    "MaskRule": ".pipeline.mask._rules",
    "Observation": ".tracing",
    "ObservationFields": ".tracing",
    "OtelSpanIdentifier": ".pipeline.mask._otel_spans",
    "OtelSpanPatch": ".pipeline.mask._otel_spans",
    "ScoreError": ".errors",
    "SqliteExporter": ".exporters.sqlite",
    "Stats": ".model",
    "Tail": ".pipeline.tail",
    "TraceUpdate": ".tracing",
    "configure": ".client",
    "create_event": ".tracing",
    "create_observation_id": ".tracing",
    "create_trace_id": ".tracing",
    "get_client": ".classic",
    "get_current_observation_id": ".tracing",
    "get_current_trace_id": ".tracing",
    "get_trace_url": ".tracing",
    "is_default_export_span": ".span_filter",
    "is_genai_span": ".span_filter",
    "is_known_llm_instrumentor": ".span_filter",
    "is_langfuse_span": ".span_filter",
    "keep_cost_over": ".pipeline.tail",
    "keep_errors": ".pipeline.tail",
    "keep_if": ".pipeline.tail",
    "keep_level": ".pipeline.tail",
    "keep_name": ".pipeline.tail",
    "keep_rate": ".pipeline.tail",
    "keep_slower_than": ".pipeline.tail",
    "keep_tag": ".pipeline.tail",
    "keep_tokens_over": ".pipeline.tail",
    "keep_type": ".pipeline.tail",
    "observe": ".tracing",
    "flush": ".classic",
    "project": ".propagation",
    "propagate_attributes": ".propagation",
    "set_current_trace_as_public": ".tracing",
    "start_as_current_observation": ".tracing",
    "start_observation": ".tracing",
    "update_current_generation": ".tracing",
    "update_current_span": ".tracing",
    "update_current_trace": ".tracing",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - seldom asked for

        try:
            value: Any = version("otel-langfuse")
        except PackageNotFoundError:  # run from its source without being installed
            value = "0"
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name], __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
