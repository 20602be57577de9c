"""The instrumentations that are recorded: one row each. A new release is a new version here, and ``make capture FAMILY=...``.

Read by ``capture.py`` and, inside a family's environment, by ``record.py``: only the standard library at import.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

OTLP = ("opentelemetry-exporter-otlp-proto-http==1.45.2",)
OPENAI, OPENAI_2, ANTHROPIC = "openai==3.52.0", "openai==2.54.0", "anthropic==2.11.0"
LANGCHAIN = ("langchain==1.4.7", "langchain-openai==1.7.3", "langgraph==1.2.22")


class Family(NamedTuple):
    """One row.

    ``packages`` are what its environment holds, with versions; the first is what is recorded. ``program`` is a module of
    ``programs``, ``scenarios`` those of it that are run (default: all). ``instrument`` is called once, before the program's
    modules are imported. ``settle_s``: how long it may take until a span has ended after the program went on.
    """

    packages: tuple[str, ...]
    program: str
    instrument: Callable[[], None]
    environment: dict[str, str] = {}
    scenarios: tuple[str, ...] = ()
    settle_s: float = 0.0


def stock_provider() -> None:
    """OpenTelemetry's own SDK, set up as its documentation says."""
    trace = import_module("opentelemetry.trace")
    sdk = import_module("opentelemetry.sdk.trace")
    export = import_module("opentelemetry.sdk.trace.export")
    otlp = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    provider = sdk.TracerProvider()
    provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def instrumentor(module: str, name: str) -> Callable[[], None]:
    """The usual way: the stock SDK, and one ``Instrumentor().instrument()``."""

    def instrument() -> None:
        stock_provider()
        getattr(import_module(module), name)().instrument()

    return instrument


def _logfire() -> None:
    logfire = import_module("logfire")
    logfire.configure(send_to_logfire=False, console=False, inspect_arguments=False)
    logfire.instrument_openai()


def _traceloop() -> None:
    url = os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"]
    import_module("traceloop.sdk").Traceloop.init(app_name="shop", api_endpoint=url, api_key="none", telemetry_enabled=False)


def _pydantic_ai() -> None:
    stock_provider()
    import_module("pydantic_ai").Agent.instrument_all()


def _litellm() -> None:
    stock_provider()
    vars(import_module("litellm"))["callbacks"] = ["otel"]


def _openlit() -> None:
    prices = {
        "chat": {"gpt-4.1": {"promptPrice": 0.002, "completionPrice": 0.008}},
        "embeddings": {"text-embedding-3-small": 0.00002},
    }
    Path("prices.json").write_text(json.dumps(prices))  # else it asks the network
    import_module("openlit").init(
        disable_metrics=True, application_name="shop", environment="default", pricing_json="prices.json"
    )


def _mlflow() -> None:
    import_module("mlflow.openai").autolog()


def _haystack() -> None:
    stock_provider()
    tracer = import_module("opentelemetry.trace").get_tracer("haystack")
    ours = import_module("haystack_integrations.tracing.opentelemetry").OpenTelemetryTracer(tracer)
    import_module("haystack.tracing").enable_tracing(ours)


def _nothing() -> None:
    """The program does it itself."""


FAMILIES: dict[str, Family] = {
    "otel_openai_v2": Family(
        ("opentelemetry-instrumentation-openai-v2==2.4b0", "opentelemetry-util-genai==1.1b0", OPENAI_2, *OTLP),
        "openai_client",
        instrumentor("opentelemetry.instrumentation.openai_v2", "OpenAIInstrumentor"),
        {
            "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
            "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "span_only",
        },
        ("chat", "stream", "tools", "error", "embeddings"),  # it does not know the responses API
    ),
    "otel_genai_openai": Family(
        ("opentelemetry-instrumentation-genai-openai==1.3b0", "opentelemetry-util-genai==1.3b0", OPENAI, *OTLP),
        "openai_client",
        instrumentor("opentelemetry.instrumentation.genai.openai", "OpenAIInstrumentor"),
        {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "span_only"},
    ),
    "openinference_openai": Family(
        ("openinference-instrumentation-openai==0.1.66", OPENAI, *OTLP),
        "openinference_app",
        instrumentor("openinference.instrumentation.openai", "OpenAIInstrumentor"),
    ),
    "openinference_anthropic": Family(
        ("openinference-instrumentation-anthropic==3.1.0", ANTHROPIC, *OTLP),
        "anthropic_client",
        instrumentor("openinference.instrumentation.anthropic", "AnthropicInstrumentor"),
    ),
    "traceloop_openai": Family(
        ("opentelemetry-instrumentation-openai==0.62.4", OPENAI, *OTLP),
        "openai_client",
        instrumentor("opentelemetry.instrumentation.openai", "OpenAIInstrumentor"),
    ),
    "traceloop_anthropic": Family(
        ("opentelemetry-instrumentation-anthropic==0.62.4", ANTHROPIC, *OTLP),
        "anthropic_client",
        instrumentor("opentelemetry.instrumentation.anthropic", "AnthropicInstrumentor"),
    ),
    "traceloop_sdk": Family(("traceloop-sdk==0.62.4", OPENAI, "httpx"), "traceloop_app", _traceloop),
    "logfire_openai": Family(("logfire==5.2.0", OPENAI), "logfire_app", _logfire),
    "openlit": Family(
        ("openlit==1.45.0", OPENAI_2),
        "openai_client",
        _openlit,
        {},
        ("chat", "stream", "tools", "error", "embeddings", "responses"),
    ),
    "mlflow": Family(
        ("mlflow==3.17.2", OPENAI, *OTLP),
        "mlflow_app",
        _mlflow,
        {"MLFLOW_TRACKING_URI": "file:./mlruns", "MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_EXPERIMENT_ID": "0"},
        ("chat", "stream", "error", "embeddings", "responses", "decorated"),
        settle_s=0.3,
    ),
    "langfuse_sdk": Family(("langfuse==5.0.4", OPENAI), "langfuse_app", _nothing),
    "pydantic_ai": Family(("pydantic-ai-slim[openai]==2.68.0", OPENAI, *OTLP), "pydantic_ai_agent", _pydantic_ai),
    "litellm": Family(
        ("litellm==1.106.2", OPENAI_2, "mcp", *OTLP),
        "litellm_calls",
        _litellm,
        {},
        ("chat", "stream", "tools", "nested", "error"),
        0.5,
    ),
    "openinference_langchain": Family(
        ("openinference-instrumentation-langchain==0.1.80", *LANGCHAIN, *OTLP),
        "langchain_app",
        instrumentor("openinference.instrumentation.langchain", "LangChainInstrumentor"),
    ),
    "traceloop_langchain": Family(
        ("opentelemetry-instrumentation-langchain==0.62.4", *LANGCHAIN, *OTLP),
        "langchain_app",
        instrumentor("opentelemetry.instrumentation.langchain", "LangchainInstrumentor"),
        scenarios=("chain", "agent", "error"),  # its spans are large
    ),
    "haystack": Family(
        ("opentelemetry-haystack==2.0.0", "haystack-ai==3.4.0", *OTLP),
        "haystack_pipeline",
        _haystack,
        {"HAYSTACK_CONTENT_TRACING_ENABLED": "true"},
    ),
    "openinference_openai_agents": Family(
        ("openinference-instrumentation-openai-agents==2.6.0", "openai-agents==0.24.0", *OTLP),
        "openai_agents_app",
        instrumentor("openinference.instrumentation.openai_agents", "OpenAIAgentsInstrumentor"),
    ),
}
