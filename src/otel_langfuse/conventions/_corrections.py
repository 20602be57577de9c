"""What the rows of ``corrections.py`` read: the words of instrumentations that Langfuse's server does not know, and readers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from otel_langfuse.conventions import _javascript as js
from otel_langfuse.conventions._messages import INPUT_MESSAGES, SYSTEM_INSTRUCTIONS, content_size, messages, system_message
from otel_langfuse.conventions._rule import Source
from otel_langfuse.conventions._sources import nested, seen, under
from otel_langfuse.conventions._usage import CACHE_CREATION, CACHE_READ, first_count, usage
from otel_langfuse.conventions._view import View

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


def unquoted(value: Any) -> Any:
    """A text that MLflow put into JSON quotes, without them."""
    parsed = js.parse_or_none(value) if isinstance(value, str) and value.startswith('"') else None
    return parsed if isinstance(parsed, str) else value


def agent_without_operation(view: View) -> str | None:
    """pydantic-ai and logfire before they wrote ``gen_ai.operation.name``: an agent's run names its agent."""
    says_more = "gen_ai.operation.name" in view.attributes or "gen_ai.request.model" in view.attributes
    return None if says_more or not view.scope.name.startswith(("pydantic-ai", "logfire")) else "agent"


def stray_model(view: View) -> str | None:
    return None if any(name.startswith(LLM_PREFIXES) for name in view.attributes) else "span"


def _exception(view: View) -> dict[str, Any] | None:
    """Attributes of the last exception span event."""
    found = [event for event in view.span.events if event.name == EXCEPTION]
    return dict(found[-1].attributes) if found else None


def exception_text(view: View) -> str | None:
    if view.span.status_message:
        return None
    found = _exception(view)
    if found is None:
        return None
    parts = [js.text(found[name]) for name in ("exception.type", "exception.message") if js.truthy(found.get(name))]
    return ": ".join(parts) or None


def exception_level(view: View) -> str | None:
    return "ERROR" if view.span.status_code == STATUS_UNSET and _exception(view) is not None else None


def instructions_alone(view: View) -> Any:
    attributes = view.attributes
    if js.truthy(attributes.get(INPUT_MESSAGES)) or not js.truthy(attributes.get(SYSTEM_INSTRUCTIONS)):
        return None
    return js.stringify([system_message(attributes[SYSTEM_INSTRUCTIONS])])


def fuller(side: int) -> Callable[[View], Any]:
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


def spelled(view: View) -> dict[str, Any] | None:
    """Counts under names that the server knows."""
    return usage(_known_names(ALL_COUNTS.read(view) or {}))


def _known_names(counts: dict[str, Any]) -> dict[str, Any]:
    return {
        SPELLINGS.get(name, name): value
        for name, value in counts.items()
        if SPELLINGS.get(name, name) not in counts or name not in SPELLINGS
    }


def with_cached(view: View) -> dict[str, Any] | None:
    """Counts with what was cached in the input too."""
    counts = _known_names(ALL_COUNTS.read(view) or {})
    given = js.number(counts.get("input_tokens"))
    if "input_tokens" not in counts or not math.isfinite(given):
        return None
    cached = sum(count for names in (CACHE_READ, CACHE_CREATION) if (count := first_count(counts, names)) is not None)
    return usage({**counts, "input_tokens": given + cached}) if cached else None


def first_token(view: View) -> str | None:
    start = view.span.start_time_unix_nano
    seconds = next((found for name in FIRST_TOKEN_SECONDS if isinstance(found := view.attributes.get(name), (int, float))), None)
    if seconds is not None and start is not None and 0 <= seconds < _LONGEST_S:
        return js.iso_time((start + int(seconds * 1e9)) // 1_000_000)
    marked = next((event.time_unix_nano for event in view.span.events if event.name in FIRST_TOKEN_EVENTS), None)
    return None if marked is None else js.iso_time(marked // 1_000_000)


_LONGEST_S = 86_400


def logfire_level(number: Any) -> str | None:
    if not isinstance(number, (int, float)):
        return None
    if number >= LOGFIRE_WARNING:
        return "ERROR" if number >= LOGFIRE_ERROR else "WARNING"
    return "DEBUG" if number <= LOGFIRE_DEBUG else None


def logfire_name(view: View) -> str | None:
    """The name of a stream's second span, whose message tells the time that it took, a new name for every call."""
    template = view.attributes.get("logfire.msg_template")
    if not isinstance(template, str) or "{duration" not in template:
        return None
    message = js.text(view.attributes.get("logfire.msg", ""))
    return message.split(" took ")[0] or None


def not_the_tools_name(view: View) -> str | None:
    """A model's call that also names the tool it chose keeps its own name."""
    if view.attributes.get("gen_ai.operation.name") not in MODEL_OPERATIONS:
        return None
    return view.span.name


def scrubbed(name: str) -> Source:
    def read(view: View) -> bool:
        value = view.attributes.get(name)
        return isinstance(value, str) and value.startswith(SCRUBBED)

    return seen(read)


def mlflow_usage(counts: Any) -> dict[str, Any] | None:
    return usage(counts) if isinstance(counts, dict) else None


COUNTS = ("gen_ai.usage.", "llm.token_count.")
"""Prefixes of keys that tell of tokens."""

ALL_COUNTS = under(*COUNTS, but=("gen_ai.usage.cost", "gen_ai.usage.raw"))
