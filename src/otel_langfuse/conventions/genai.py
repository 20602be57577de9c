"""OpenTelemetry's GenAI semantic conventions, old and new: flat ``gen_ai.prompt.N``, message events, ``gen_ai.*.messages``.

Written by OpenTelemetry's own instrumentations, openlit, Traceloop, pydantic-ai, logfire, litellm, strands and many more.
https://opentelemetry.io/docs/specs/semconv/gen-ai/
"""

from __future__ import annotations

from typing import Any

from otel_langfuse.conventions import _javascript as js
from otel_langfuse.conventions._messages import MESSAGE_SOURCES, SYSTEM_INSTRUCTIONS, messages
from otel_langfuse.conventions._rule import Convention, Rule, Source, truthy
from otel_langfuse.conventions._sources import (
    as_text,
    attr,
    computed,
    filled,
    first_filled,
    lookup,
    nested,
    seen,
    total_cost,
    under,
)
from otel_langfuse.conventions._usage import usage
from otel_langfuse.conventions._view import View

OPERATIONS = {
    **dict.fromkeys(("chat", "completion", "text_completion", "generate_content", "generate"), "generation"),
    "embeddings": "embedding",
    **dict.fromkeys(("invoke_agent", "create_agent"), "agent"),
    "execute_tool": "tool",
}

OPERATION_DETAILS = "gen_ai.client.inference.operation.details"
ROLES = {f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")}
CHOICE = "gen_ai.choice"
CONTENT_PROMPT = "gen_ai.content.prompt"
CONTENT_COMPLETION = "gen_ai.content.completion"


def _message_events(view: View) -> tuple[list[Any], list[Any]]:
    given, chosen = [], []
    for event in view.span.events:
        if event.name == CHOICE:
            chosen.append(view.inside(event).attributes)
        elif event.name in ROLES:
            given.append({"role": ROLES[event.name], **view.inside(event).attributes})
    return given, chosen


def _given_messages(view: View) -> Any:
    return _message_events(view)[0] or None


def _chosen_messages(view: View) -> Any:
    chosen = _message_events(view)[1]
    return chosen[0] if len(chosen) == 1 else chosen or None


def _side_of_event(name: str, side: int) -> Source:
    """Input or output of the first span event of that name, read as if it were a span; else its attributes."""

    def read(view: View) -> Any:
        event = next((event for event in view.span.events if event.name == name), None)
        if event is None:
            return {} if any(e.name in (CONTENT_PROMPT, CONTENT_COMPLETION) for e in view.span.events) else None
        inner = view.inside(event)
        found = view.content(inner)[side]
        return found if js.truthy(found) else inner.attributes

    return seen(read, events=(CONTENT_PROMPT, CONTENT_COMPLETION))


def _operation_details(side: int) -> Source:
    def read(view: View) -> Any:
        for event in view.span.events:
            if event.name == OPERATION_DETAILS:
                found = messages(view.inside(event).attributes)
                if js.truthy(found[0]) or js.truthy(found[1]):
                    return found[side]
        return None

    return seen(read, events=(OPERATION_DETAILS,))


_LIBRARIES = ("openai_v2", "google_generativeai", "vertexai", "bedrock", "openai_agents")

CONVENTION = Convention(
    name="genai",
    scopes=(
        *(f"opentelemetry.instrumentation.{library}" for library in _LIBRARIES),
        *("strands-agents", "agent_framework", "autogen-core", "vllm", "litellm", "langsmith"),
    ),
    content=("gen_ai.prompt*", "gen_ai.completion*", SYSTEM_INSTRUCTIONS),
    rules=(
        Rule(
            "genai/type/operation",
            sets={"type": lookup(attr("gen_ai.operation.name"), OPERATIONS)},
            spec="mapping.md 11.3",
        ),
        Rule(
            "genai/type/tool",
            sets={
                "type": computed(
                    lambda found: None if found is None else "tool",
                    first_filled("gen_ai.tool.name", "gen_ai.tool.call.id"),
                )
            },
            spec="mapping.md 11.7",
        ),
        Rule(
            "genai/type/model",
            sets={
                "type": computed(
                    lambda found: None if found is None else "generation",
                    first_filled("gen_ai.request.model", "gen_ai.response.model"),
                )
            },
            spec="mapping.md 11.10",
        ),
        Rule("genai/name/tool", sets={"name": as_text(filled("gen_ai.tool.name"))}, spec="mapping.md 6"),
        Rule(
            "genai/io/operation_details",
            sets={"input": _operation_details(0), "output": _operation_details(1)},
            claims=truthy,
            spec="mapping.md 9.5",
        ),
        Rule(
            "genai/io/message_events",
            sets={
                "input": seen(_given_messages, events=(*ROLES, CHOICE)),
                "output": seen(_chosen_messages, events=(*ROLES, CHOICE)),
            },
            claims=truthy,
            spec="mapping.md 9.6",
        ),
        Rule(
            "genai/io/content_events",
            sets={"input": _side_of_event(CONTENT_PROMPT, 0), "output": _side_of_event(CONTENT_COMPLETION, 1)},
            claims=truthy,
            spec="mapping.md 9.7",
        ),
        Rule(
            "genai/io/flat",
            sets={
                "input": nested("gen_ai.prompt", missing={}),
                "output": nested("gen_ai.completion", missing={}),
            },
            claims=truthy,
            spec="mapping.md 9.18",
        ),
        Rule(
            "genai/io/messages",
            sets={
                "input": seen(lambda view: messages(view.attributes)[0], *MESSAGE_SOURCES),
                "output": seen(lambda view: messages(view.attributes)[1], *MESSAGE_SOURCES),
            },
            claims=truthy,
            spec="mapping.md 9.20",
        ),
        Rule("genai/model/response", sets={"model": filled("gen_ai.response.model")}, spec="mapping.md 12"),
        Rule("genai/model/request", sets={"model": filled("gen_ai.request.model")}, spec="mapping.md 12"),
        Rule(
            "genai/parameters/request",
            sets={
                "model_parameters": under(
                    "gen_ai.request.",
                    "llm.invocation_parameters.",
                    but=("gen_ai.request.model", "llm.invocation_parameters.model"),
                )
            },
            spec="mapping.md 12.6",
        ),
        Rule(
            "genai/usage/counts",
            sets={"usage_details": computed(usage, under("gen_ai.usage.", "llm.token_count.", but=("gen_ai.usage.cost",)))},
            spec="mapping.md 13.5",
        ),
        Rule(
            "genai/cost/total",
            sets={"cost_details": total_cost("gen_ai.usage.cost")},
            spec="mapping.md 13, costDetails",
        ),
        Rule(
            "genai/session_id/conversation",
            sets={"session_id": as_text(filled("gen_ai.conversation.id"))},
            spec="mapping.md 4, sessionId",
        ),
    ),
)
