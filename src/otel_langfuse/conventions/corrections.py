"""Where we knowingly read more than Langfuse's server does: on by default, off with ``corrections=False`` (``--as-server``).

Rules here are rows like any other, with the reason for each; ``precedence.CORRECTED`` says whom they overrule. What concerns a
finished observation (``repairs.py``) or several of a batch (``_batch.py``) is not a row. Each has an entry in
``conformance/known.toml``.
"""

from __future__ import annotations

from typing import Any

from otel_langfuse import attributes as key
from otel_langfuse.conventions import _javascript as js
from otel_langfuse.conventions._messages import (
    INPUT_MESSAGES,
    OUTPUT_MESSAGES,
    SYSTEM_INSTRUCTIONS,
    system_message,
)
from otel_langfuse.conventions._rule import Convention, Rule, truthy
from otel_langfuse.conventions._sources import (
    as_text,
    attr,
    computed,
    filled,
    first_filled,
    json_at,
    json_attr,
    lookup,
    seen,
)
from otel_langfuse.conventions._usage import usage
from otel_langfuse.conventions._view import View
from otel_langfuse.model import OBSERVATION_TYPES

STATUS_UNSET = 0
EXCEPTION = "exception"

TRACELOOP_KINDS = {"workflow": "chain", "agent": "agent", "tool": "tool"}
MLFLOW_TYPES = {
    "LLM": "generation",
    "CHAT_MODEL": "generation",
    "EMBEDDING": "embedding",
    "AGENT": "agent",
    "TOOL": "tool",
    "CHAIN": "chain",
    "WORKFLOW": "chain",
    "RETRIEVER": "retriever",
    "RERANKER": "retriever",
    "GUARDRAIL": "guardrail",
    "EVALUATOR": "evaluator",
}
# Haystack names the component's class: the first of these words that it ends with decides.
HAYSTACK_ENDINGS = (
    ("Generator", "generation"),
    ("Embedder", "embedding"),
    ("Retriever", "retriever"),
    ("Ranker", "retriever"),
    ("ToolInvoker", "tool"),
    ("Agent", "agent"),
    ("Evaluator", "evaluator"),
)
OPENINFERENCE_KINDS = {"RERANKER": "retriever", "PROMPT": "chain"}
OPERATIONS = {
    **dict.fromkeys(("acompletion", "atext_completion", "responses", "aresponses", "response"), "generation"),
    **dict.fromkeys(("embedding", "aembedding"), "embedding"),
    **dict.fromkeys(("retrieval", "vector_db_retrieve", "rerank", "arerank"), "retriever"),
    **dict.fromkeys(("invoke_workflow", "invoke_graph", "invoke_swarm", "chain"), "chain"),
    "guardrail": "guardrail",
    "evaluate": "evaluator",
}
# A span with an attribute named "model" is about a language model only if something else says so too.
LLM_PREFIXES = (
    *("gen_ai.", "llm.", "ai.", "langfuse.", "openinference.", "mlflow.", "traceloop."),
    *("genkit:", "lk.", "logfire.", "flue."),
)


# With corrections these, too, make a span update its trace (mapping.md 2.3).
TRACE_UPDATES = (
    *(f"traceloop.association.properties.{name}" for name in ("user_id", "userId", "session_id", "sessionId")),
    "llm.user",
    "enduser.id",
)


def _unquoted(value: Any) -> Any:
    """A text that MLflow put into JSON quotes, without them."""
    parsed = js.parse_or_none(value) if isinstance(value, str) and value.startswith('"') else None
    return parsed if isinstance(parsed, str) else value


def _haystack_type(component: Any) -> str | None:
    name = component if isinstance(component, str) else ""
    return next((kind for ending, kind in HAYSTACK_ENDINGS if name.endswith(ending)), None)


def _agent_without_operation(view: View) -> str | None:
    """pydantic-ai and logfire before they wrote ``gen_ai.operation.name``: an agent's run names its agent."""
    says_more = "gen_ai.operation.name" in view.attributes or "gen_ai.request.model" in view.attributes
    return None if says_more or not view.scope.name.startswith(("pydantic-ai", "logfire")) else "agent"


def _stray_model(view: View) -> str | None:
    return None if any(name.startswith(LLM_PREFIXES) for name in view.attributes) else "span"


def _exception(view: View) -> dict[str, Any] | None:
    """Attributes of the last exception span event."""
    found = [event for event in view.span.events if event.name == EXCEPTION]
    return dict(found[-1].attributes) if found else None


def _exception_text(view: View) -> str | None:
    if view.span.status_message:
        return None
    found = _exception(view)
    if found is None:
        return None
    parts = [js.text(found[name]) for name in ("exception.type", "exception.message") if js.truthy(found.get(name))]
    return ": ".join(parts) or None


def _exception_level(view: View) -> str | None:
    return "ERROR" if view.span.status_code == STATUS_UNSET and _exception(view) is not None else None


def _instructions_alone(view: View) -> Any:
    attributes = view.attributes
    if js.truthy(attributes.get(INPUT_MESSAGES)) or not js.truthy(attributes.get(SYSTEM_INSTRUCTIONS)):
        return None
    return js.stringify([system_message(attributes[SYSTEM_INSTRUCTIONS])])


def _mlflow_usage(counts: Any) -> dict[str, Any] | None:
    return usage(counts) if isinstance(counts, dict) else None


CONVENTION = Convention(
    name="corrections",
    rules=(
        Rule(
            "corrections/type/any_case",
            sets={"type": lookup(attr(key.OBSERVATION_TYPE), {name: name for name in OBSERVATION_TYPES}, str.lower)},
            spec="mapping.md 11.1",
            reason="an explicit type in capitals is ignored by the server",
        ),
        Rule(
            "corrections/type/openinference_kind",
            sets={"type": lookup(attr("openinference.span.kind"), {**OPENINFERENCE_KINDS}, str.upper)},
            spec="mapping.md 11.2; https://arize-ai.github.io/openinference/spec/semantic_conventions.html",
            reason="kinds that the server does not know become plain spans",
        ),
        Rule(
            "corrections/type/operation",
            sets={"type": lookup(attr("gen_ai.operation.name"), OPERATIONS, str.lower)},
            spec="mapping.md 11.3; families.md 2",
            reason="operations that instrumentations really send and the server does not know",
        ),
        Rule(
            "corrections/type/traceloop_kind",
            sets={"type": lookup(attr("traceloop.span.kind"), TRACELOOP_KINDS)},
            spec="mapping.md 11, not consulted",
            reason="workflows, agents and tools of Traceloop's decorators are plain spans on the server",
        ),
        Rule(
            "corrections/type/mlflow",
            sets={"type": lookup(computed(_unquoted, attr("mlflow.spanType")), MLFLOW_TYPES)},
            spec="mapping.md 11, not consulted; families.md 1",
            reason="MLflow says the type in so many words; the server guesses from a stray model attribute",
        ),
        Rule(
            "corrections/type/haystack",
            sets={"type": computed(_haystack_type, attr("haystack.component.type"))},
            spec="families.md",
            reason="Haystack's own tracing names the component's class, which the server does not read",
        ),
        Rule(
            "corrections/type/agent_name",
            sets={"type": seen(_agent_without_operation, attr("agent_name"), attr("gen_ai.agent.name"))},
            spec="mapping.md 11, not consulted",
            reason="agent runs of older pydantic-ai and logfire are spans, or generations because they name a model",
        ),
        Rule(
            "corrections/type/stray_model",
            sets={"type": seen(_stray_model, attr("model"))},
            spec="mapping.md 11.10",
            reason="any span with an attribute called model becomes a generation on the server, a car's model too",
        ),
        Rule(
            "corrections/status_message/exception",
            sets={"status_message": seen(_exception_text, events=(EXCEPTION,))},
            spec="mapping.md 8.5",
            reason="the server drops exception span events, so a failed span would not say why",
        ),
        Rule(
            "corrections/level/exception",
            sets={"level": seen(_exception_level, events=(EXCEPTION,))},
            spec="mapping.md 8.5",
            reason="a span that recorded an exception and set no status is shown as if nothing had happened",
        ),
        Rule(
            "corrections/io/system_instructions",
            when=filled(SYSTEM_INSTRUCTIONS),
            sets={
                "input": seen(_instructions_alone, attr(SYSTEM_INSTRUCTIONS)),
                "output": seen(
                    lambda view: view.attributes.get(OUTPUT_MESSAGES) if _instructions_alone(view) else None,
                    attr(OUTPUT_MESSAGES),
                ),
            },
            claims=truthy,
            spec="mapping.md 9.21",
            reason="system instructions without input messages are lost on the server",
        ),
        Rule(
            "corrections/io/mlflow",
            sets={
                "input": computed(_unquoted, attr("mlflow.spanInputs")),
                "output": computed(_unquoted, attr("mlflow.spanOutputs")),
            },
            claims=truthy,
            spec="families.md 1",
            reason="MLflow encodes every value as JSON, plain text too, so that texts would show in quotes",
        ),
        Rule(
            "corrections/model/mlflow",
            when=filled("mlflow.spanType"),
            sets={"model": computed(_unquoted, first_filled("mlflow.llm.model", "model"))},
            spec="families.md 1",
            reason="MLflow's model is JSON-encoded, and the one that answered is not read by the server",
        ),
        Rule(
            "corrections/model/embedding",
            sets={"model": filled("embedding.model_name")},
            spec="https://arize-ai.github.io/openinference/spec/semantic_conventions.html",
            reason="OpenInference's name for an embedding's model is not read, so that its tokens have no price",
        ),
        Rule(
            "corrections/model/invocation_parameters",
            when=seen(lambda view: view.attributes.get("openinference.span.kind") == "LLM"),
            sets={"model": json_at("llm.invocation_parameters", "model")},
            spec="mapping.md 12",
            reason="a failed call of OpenInference names its model only in its parameters",
        ),
        Rule(
            "corrections/usage/mlflow",
            sets={"usage_details": computed(_mlflow_usage, json_attr("mlflow.chat.tokenUsage"))},
            spec="families.md",
            reason="MLflow's token counts are not read by the server",
        ),
        Rule(
            "corrections/user_id/association",
            sets={
                "user_id": as_text(
                    first_filled(
                        "traceloop.association.properties.user_id",
                        "traceloop.association.properties.userId",
                        "llm.user",
                        "enduser.id",
                    )
                )
            },
            spec="families.md 11; https://opentelemetry.io/docs/specs/semconv/registry/attributes/enduser/",
            reason="Traceloop's and OpenTelemetry's own names for the user are not read by the server",
        ),
        Rule(
            "corrections/session_id/association",
            sets={
                "session_id": as_text(
                    first_filled("traceloop.association.properties.session_id", "traceloop.association.properties.sessionId")
                )
            },
            spec="families.md 11",
            reason="Traceloop's name for the session is not read by the server",
        ),
    ),
)
