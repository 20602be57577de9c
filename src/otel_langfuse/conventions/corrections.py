"""Where we knowingly read more than Langfuse's server does: on by default, off with ``corrections=False`` (``--as-server``).

Rules here are rows like any other, with the reason for each; ``precedence.CORRECTED`` says whom they overrule. What concerns a
finished observation (``repairs.py``) or several of a batch (``_batch.py``) is not a row. Each has an entry in
``conformance/known.toml``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from otel_langfuse import attributes as key
from otel_langfuse.conventions import _javascript as js
from otel_langfuse.conventions._messages import (
    INPUT_MESSAGES,
    OUTPUT_MESSAGES,
    SYSTEM_INSTRUCTIONS,
    content_size,
    messages,
    system_message,
)
from otel_langfuse.conventions._openai import usage_buckets
from otel_langfuse.conventions._rule import Convention, Rule, Source, always, truthy
from otel_langfuse.conventions._sources import (
    as_text,
    attr,
    computed,
    filled,
    first,
    first_filled,
    json_at,
    json_attr,
    lookup,
    nested,
    seen,
    total_cost,
    under,
)
from otel_langfuse.conventions._usage import CACHE_CREATION, CACHE_READ, first_count, usage
from otel_langfuse.conventions._view import View
from otel_langfuse.model import OBSERVATION_TYPES

STATUS_UNSET, STATUS_ERROR = 0, 2
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
OPENINFERENCE_KINDS = {"RERANKER": "retriever", "PROMPT": "chain"}
OPERATIONS = {
    **dict.fromkeys(("acompletion", "atext_completion", "responses", "aresponses", "response"), "generation"),
    **dict.fromkeys(("embedding", "aembedding"), "embedding"),
    **dict.fromkeys(("retrieval", "vector_db_retrieve", "rerank", "arerank"), "retriever"),
    **dict.fromkeys(("invoke_workflow", "invoke_graph", "invoke_swarm", "execute_task", "chain"), "chain"),
    "guardrail": "guardrail",
    "evaluate": "evaluator",
}
MODEL_OPERATIONS = ("chat", "completion", "text_completion", "generate_content", "generate", "embeddings")
# A span with an attribute named "model" is about a language model only if something else says so too.
LLM_PREFIXES = (
    *("gen_ai.", "llm.", "ai.", "langfuse.", "openinference.", "mlflow.", "traceloop."),
    *("genkit:", "lk.", "flue."),
)


# Other names for counts that the server leaves where they are, beside the whole that they are part of.
SPELLINGS = {
    "cache_write.input_tokens": "cache_creation.input_tokens",
    "reasoning_tokens": "reasoning.output_tokens",
    "details.reasoning_tokens": "reasoning.output_tokens",
}
# Attributes that tell how long the first token took, in seconds, and span events that mark it.
FIRST_TOKEN_SECONDS = (
    "gen_ai.response.time_to_first_chunk",
    "gen_ai.client.operation.time_to_first_chunk",
    "gen_ai.server.time_to_first_token",
)
FIRST_TOKEN_EVENTS = ("First Token Stream Event", "gen_ai.content.completion.chunk", "mlflow.chunk.item.0")
LOGFIRE_ERROR, LOGFIRE_WARNING, LOGFIRE_DEBUG = 17, 13, 5  # logfire's level numbers, which are OpenTelemetry's severities
SCRUBBED = "[Scrubbed due to"

# Traceloop's properties are named by the application, and by its LangChain instrumentation after the metadata of a run: who
# sends to Langfuse uses Langfuse's names (mapping.md 4). https://www.traceloop.com/docs/openllmetry/tracing/association
ASSOCIATIONS = "traceloop.association.properties."
USER_ASSOCIATIONS = tuple(ASSOCIATIONS + name for name in ("user_id", "userId", "langfuse_user_id", "langfuse.user.id"))
SESSION_ASSOCIATIONS = tuple(
    ASSOCIATIONS + name for name in ("session_id", "sessionId", "langfuse_session_id", "langfuse.session.id")
)

# With corrections these, too, make a span update its trace (mapping.md 2.3).
TRACE_UPDATES = (
    *USER_ASSOCIATIONS,
    *SESSION_ASSOCIATIONS,
    *("llm.user", "enduser.id", "gen_ai.user", "gen_ai.request.user"),
)


def _unquoted(value: Any) -> Any:
    """A text that MLflow put into JSON quotes, without them."""
    parsed = js.parse_or_none(value) if isinstance(value, str) and value.startswith('"') else None
    return parsed if isinstance(parsed, str) else value


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


def _fuller(side: int) -> Callable[[View], Any]:
    """Input (0) or output (1) from messages or flat keys, whichever says more; None where no messages say more.

    That there are flat keys is the rule's condition, so the span's plan has their places.
    """

    def read(view: View) -> Any:
        flat = [source.read(view) for source in _FLAT]
        listed = messages(view.attributes)
        says_more = [content_size(new) > content_size(old) for new, old in zip(listed, flat, strict=True)]
        return (listed[side] if says_more[side] else flat[side]) if any(says_more) else None

    return read


_FLAT = (nested("gen_ai.prompt"), nested("gen_ai.completion"))


def _spelled(view: View) -> dict[str, Any] | None:
    """Counts under names that the server knows."""
    return usage(_known_names(_COUNTS.read(view) or {}))


def _known_names(counts: dict[str, Any]) -> dict[str, Any]:
    return {
        SPELLINGS.get(name, name): value
        for name, value in counts.items()
        if SPELLINGS.get(name, name) not in counts or name not in SPELLINGS
    }


def _with_cached(view: View) -> dict[str, Any] | None:
    """Counts with what was cached in the input too."""
    counts = _known_names(_COUNTS.read(view) or {})
    given = js.number(counts.get("input_tokens"))
    if "input_tokens" not in counts or not math.isfinite(given):
        return None
    cached = sum(count for names in (CACHE_READ, CACHE_CREATION) if (count := first_count(counts, names)) is not None)
    return usage({**counts, "input_tokens": given + cached}) if cached else None


def _first_token(view: View) -> str | None:
    start = view.span.start_time_unix_nano
    seconds = next((found for name in FIRST_TOKEN_SECONDS if isinstance(found := view.attributes.get(name), (int, float))), None)
    if seconds is not None and start is not None and 0 <= seconds < _LONGEST_S:
        return js.iso_time((start + int(seconds * 1e9)) // 1_000_000)
    marked = next((event.time_unix_nano for event in view.span.events if event.name in FIRST_TOKEN_EVENTS), None)
    return None if marked is None else js.iso_time(marked // 1_000_000)


_LONGEST_S = 86_400


def _logfire_level(number: Any) -> str | None:
    if not isinstance(number, (int, float)):
        return None
    if number >= LOGFIRE_WARNING:
        return "ERROR" if number >= LOGFIRE_ERROR else "WARNING"
    return "DEBUG" if number <= LOGFIRE_DEBUG else None


def _logfire_name(view: View) -> str | None:
    """The name of a stream's second span, whose message tells the time that it took, a new name for every call."""
    template = view.attributes.get("logfire.msg_template")
    if not isinstance(template, str) or "{duration" not in template:
        return None
    message = js.text(view.attributes.get("logfire.msg", ""))
    return message.split(" took ")[0] or None


def _not_the_tools_name(view: View) -> str | None:
    """A model's call that also names the tool it chose keeps its own name."""
    if view.attributes.get("gen_ai.operation.name") not in MODEL_OPERATIONS:
        return None
    return view.span.name


def _scrubbed(name: str) -> Source:
    def read(view: View) -> bool:
        value = view.attributes.get(name)
        return isinstance(value, str) and value.startswith(SCRUBBED)

    return seen(read)


def _mlflow_usage(counts: Any) -> dict[str, Any] | None:
    return usage(counts) if isinstance(counts, dict) else None


COUNTS = ("gen_ai.usage.", "llm.token_count.")
"""Prefixes of keys that tell of tokens."""

_COUNTS = under(*COUNTS, but=("gen_ai.usage.cost", "gen_ai.usage.raw"))

CONVENTION = Convention(
    name="corrections",
    metadata=((ASSOCIATIONS, ""),),
    not_metadata=(*USER_ASSOCIATIONS, *SESSION_ASSOCIATIONS),
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
            "corrections/type/traceloop_workflow",
            sets={"type": lookup(attr("traceloop.span.kind"), {"workflow": "chain"})},
            spec="families.md",
            reason="Traceloop's LangChain workflows call themselves agents, whatever they run",
        ),
        Rule(
            "corrections/type/logfire_log",
            sets={"type": lookup(attr("logfire.span_type"), {"log": "event"})},
            spec="https://logfire.pydantic.dev/docs/",
            reason="a log record of logfire is a moment, not a span",
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
            "corrections/status_message/error_type",
            when=seen(lambda view: view.span.status_code == STATUS_ERROR and not view.span.status_message),
            sets={"status_message": as_text(filled("error.type"))},
            spec="https://opentelemetry.io/docs/specs/semconv/registry/attributes/error/",
            reason="a failed span that names only its error.type would not say why",
        ),
        Rule(
            "corrections/level/logfire",
            sets={"level": computed(_logfire_level, attr("logfire.level_num"))},
            spec="https://logfire.pydantic.dev/docs/",
            reason="logfire's levels are not read by the server",
        ),
        Rule(
            "corrections/name/logfire_stream",
            sets={"name": seen(_logfire_name, attr("logfire.msg_template"))},
            spec="families.md 6",
            reason="a message with the time that a stream took is a new name for every call",
        ),
        Rule(
            "corrections/name/model_call",
            sets={"name": seen(_not_the_tools_name, attr("gen_ai.tool.name"))},
            spec="mapping.md 6",
            reason="a model's call that names the tool it chose would be called like the tool",
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
            "corrections/io/messages_over_flat",
            when=under("gen_ai.prompt.", "gen_ai.completion."),
            sets={
                "input": seen(_fuller(0), attr(INPUT_MESSAGES), attr(OUTPUT_MESSAGES)),
                "output": seen(_fuller(1), attr(INPUT_MESSAGES), attr(OUTPUT_MESSAGES)),
            },
            spec="mapping.md 9.18",
            reason="a few flat keys left beside messages that say more make the server show the few",
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
            "corrections/usage/openlit",
            scope="openlit*",
            sets={"usage_details": seen(_with_cached, _COUNTS)},
            spec="mapping.md 13.5; families.md 5",
            reason="openlit does not count cached tokens in the input, from which the server takes them",
        ),
        Rule(
            "corrections/usage/spellings",
            when=seen(lambda _view: True, *(attr(prefix + name) for prefix in COUNTS for name in SPELLINGS)),
            sets={"usage_details": seen(_spelled, _COUNTS)},
            spec="mapping.md 13.5; families.md 5",
            reason="cached and reasoning tokens under other names would count twice",
        ),
        Rule(
            "corrections/usage/raw",
            sets={"usage_details": computed(usage_buckets, json_attr("gen_ai.usage.raw"))},
            spec="https://logfire.pydantic.dev/docs/",
            reason="logfire's plain counts leave out cached and reasoning tokens, which its raw usage tells",
        ),
        Rule(
            "corrections/cost/zero",
            when=seen(lambda view: js.number(view.attributes["gen_ai.usage.cost"]) == 0),
            sets={"cost_details": seen(lambda _view: None, attr("gen_ai.usage.cost"))},
            claims=always,
            spec="mapping.md 13, costDetails",
            reason="openlit says 0 for models that it has no price of, and then Langfuse would not price them either",
        ),
        Rule(
            "corrections/cost/total",
            sets={"cost_details": first(total_cost("gen_ai.cost.total_cost"), total_cost("operation.cost"))},
            spec="families.md",
            reason="litellm's and pydantic-ai's names for the cost are not read by the server",
        ),
        Rule(
            "corrections/completion_start_time/first_token",
            sets={
                "completion_start_time": seen(
                    _first_token, *(attr(name) for name in FIRST_TOKEN_SECONDS), events=FIRST_TOKEN_EVENTS
                )
            },
            spec="https://opentelemetry.io/docs/specs/semconv/gen-ai/",
            reason="the server reads the time of the first token only of Langfuse's and Vercel's attributes",
        ),
        Rule(
            "corrections/user_id/scrubbed",
            when=_scrubbed(key.USER_ID),
            sets={"user_id": seen(lambda _view: None, attr(key.USER_ID))},
            claims=always,
            spec="https://logfire.pydantic.dev/docs/how-to-guides/scrubbing/",
            reason="a user that logfire scrubbed is nobody, not one user of everything",
        ),
        Rule(
            "corrections/session_id/scrubbed",
            when=_scrubbed(key.SESSION_ID),
            sets={"session_id": seen(lambda _view: None, attr(key.SESSION_ID))},
            claims=always,
            spec="https://logfire.pydantic.dev/docs/how-to-guides/scrubbing/",
            reason="a session that logfire scrubbed (its default for the word) is not one session of everybody",
        ),
        Rule(
            "corrections/user_id/association",
            sets={
                "user_id": as_text(
                    first_filled(*USER_ASSOCIATIONS, *("llm.user", "enduser.id", "gen_ai.user", "gen_ai.request.user"))
                )
            },
            spec="families.md 11; https://opentelemetry.io/docs/specs/semconv/registry/attributes/enduser/",
            reason="Traceloop's and OpenTelemetry's own names for the user are not read by the server",
        ),
        Rule(
            "corrections/session_id/association",
            sets={"session_id": as_text(first_filled(*SESSION_ASSOCIATIONS))},
            spec="families.md 11",
            reason="Traceloop's name for the session is not read by the server",
        ),
    ),
)
