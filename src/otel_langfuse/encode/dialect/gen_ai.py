"""The dialect of OpenTelemetry's GenAI semantic conventions, as they stand in 2026-11.

https://github.com/open-telemetry/semantic-conventions-genai; names as in ``opentelemetry-semantic-conventions``.
Only observations that the conventions have an operation for speak it; plain spans, events, guardrails and evaluators do not.

Beside other attributes these are left out, because Langfuse would read the span otherwise:
the operation of an agent that has a model, usage or cost, which Langfuse hides for ``invoke_agent`` (mapping.md 12);
the operation of a model's call that names a tool, and a failure's type where there is no message, because we would name and
explain the observation by them (``corrections.py``);
a tool's name that is not the observation's, because it would become that (mapping.md 6);
messages and calls where Langfuse already reads the conventions' own keys; parameters where it reads ``gen_ai.request.*``;
what Vercel's scope reads of ``gen_ai.*`` (mapping.md 12.3), and counts in openlit's, where we know that cached tokens are not
in them.
Tool definitions stand there as the provider had them, not in the conventions' form. Content of the old flat keys
(``gen_ai.prompt.N``) then reads in the current form: the same messages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from otel_langfuse.conventions import _javascript as js

from . import _facts as facts
from ._counts import inclusive, told
from ._json import as_text, to_json
from ._row import Row, Subject, shown_first, tool_name

OPERATIONS = {
    "generation": "chat",
    "embedding": "embeddings",
    "agent": "invoke_agent",
    "tool": "execute_tool",
    "retriever": "retrieval",
    "chain": "invoke_workflow",
}
_ALL = frozenset(OPERATIONS)
_GENERATION, _AGENT, _TOOL = frozenset({"generation"}), frozenset({"agent"}), frozenset({"tool"})
_RETRIEVER, _CHAIN = frozenset({"retriever"}), frozenset({"chain"})
_TALKING = frozenset({"generation", "agent", "chain"})
_CALLING = frozenset({"generation", "embedding", "agent"})

# Parameters under other names than the conventions'.
PARAMETERS = {
    **dict.fromkeys(("max_completion_tokens", "max_output_tokens", "maxTokens", "maxOutputTokens"), "max_tokens"),
    **dict.fromkeys(("stop", "stopSequences"), "stop_sequences"),
    "n": "choice.count",
    "topP": "top_p",
    "topK": "top_k",
    "frequencyPenalty": "frequency_penalty",
    "presencePenalty": "presence_penalty",
}
_NUMBERS = frozenset(
    {"temperature", "top_p", "top_k", "max_tokens", "seed", "frequency_penalty", "presence_penalty", "choice.count"}
)
# No parameters in the conventions: the model and the user, and two of Vercel's whose place is elsewhere.
NO_PARAMETERS = frozenset({"model", "user", "system", "finishReason"})

USAGE = {
    "input": "input_tokens",
    "output": "output_tokens",
    "total": "total_tokens",
    "input_cached_tokens": "cache_read.input_tokens",
    "input_cache_creation": "cache_creation.input_tokens",
    "output_reasoning_tokens": "reasoning.output_tokens",
    "output_audio_tokens": "completion_details.audio",
}
"""Bucket -> what stands after ``gen_ai.usage.``. The conventions have no total; audio has the name that Langfuse reads."""

_SPANS = "https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-spans.md"
_AGENTS = "https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-agent-spans.md"
_OLD = "https://github.com/open-telemetry/semantic-conventions/blob/v1.36.0/docs/gen-ai/gen-ai-spans.md"


# -- what may stand beside other attributes -----------------------------------------------------------------------------


def _is_not_hidden(subject: Subject) -> bool:
    told = subject.observation
    if told.type in ("generation", "embedding") and subject.given is not None and subject.given.get("gen_ai.tool.name"):
        return False
    return told.type != "agent" or not (told.model is not None or told.usage_details or told.cost_details)


def _reads_other_content(subject: Subject) -> bool:
    return subject.rule("io") not in ("genai/io/messages", "corrections/io/system_instructions")


def _is_not_vercel(subject: Subject) -> bool:
    return subject.scope != "ai"


def _has_a_message(subject: Subject) -> bool:
    return subject.observation.status_message is not None


def _is_not_openlit(subject: Subject) -> bool:
    """Of openlit's counts we know that cached tokens are not in them."""
    return not subject.scope.startswith("openlit")


def _reads_other_parameters(subject: Subject) -> bool:
    return subject.rule("parameters") not in ("genai/parameters/request", "vercel/parameters/scope")


def _is_the_name(subject: Subject) -> bool:
    return bool(facts.tool(subject) == subject.observation.name)


# -- values -------------------------------------------------------------------------------------------------------------


def _models(subject: Subject) -> tuple[str | None, str | None]:
    """The model asked for and the one that answered: together they read as the observation's model."""
    model = as_text(subject.observation.model)
    if not model:
        return None, None
    answered = shown_first(subject, "gen_ai.response.model", "llm.response.model_name", "llm.response.model", "ai.response.model")
    if answered != model:
        return model, None
    return shown_first(subject, "gen_ai.request.model", "llm.request.model_name") or model, answered


def _messages(subject: Subject, side: str) -> str | None:
    messages = subject.conversation(side).messages
    return to_json(messages) if messages else None


def _instructions(subject: Subject) -> str | None:
    parts = subject.conversation("input").instructions
    return to_json(parts) if parts else None


def _definitions(subject: Subject) -> str | None:
    tools = subject.tools()
    if not tools:
        return None
    # Beside the attributes that Langfuse took them from, another form would become the input's.
    as_they_are = subject.given is not None and not isinstance(subject.observation.input, str)
    return to_json(tools if as_they_are else [_definition(tool) for tool in tools])


_SCHEMAS = ("parameters", "input_schema", "inputSchema", "parameters_json_schema")


def _definition(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A definition of OpenAI's, Anthropic's or Google's form in that of the conventions."""
    inner = tool.get("function")
    holder = inner if isinstance(inner, dict) else tool
    parameters = next((holder[key] for key in _SCHEMAS if key in holder), None)
    kind = tool.get("type")
    made = {
        "type": kind if isinstance(kind, str) and kind else "function",
        "name": tool_name(tool),
        "description": holder.get("description"),
        "parameters": parameters,
    }
    return {name: value for name, value in made.items() if value is not None}


def _is_no_agent(subject: Subject) -> bool:
    return subject.observation.type != "agent"


def _query(subject: Subject) -> str | None:
    given = subject.observation.input
    return given if isinstance(given, str) and given else None


def _documents(subject: Subject) -> str | None:
    found = facts.documents(subject)
    return to_json(found) if found else None


def _parameters(subject: Subject) -> dict[str, Any] | None:
    given = subject.observation.model_parameters
    if not given:
        return None
    made: dict[str, Any] = {}
    for name, value in given.items():
        if value is None or name in NO_PARAMETERS:
            continue
        official = PARAMETERS.get(name, name)
        if official == name or official not in given:
            made[official] = _parameter(official, value)
    return made or None


def _parameter(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value if isinstance(value, (int, float)) else to_json(value)
    if name in _NUMBERS:
        number = js.number(value) if value.strip() else math.nan
        return number if math.isfinite(number) else value
    if name == "stop_sequences":
        listed = js.parse_or_none(value)
        return listed if isinstance(listed, list) and listed and all(isinstance(item, str) for item in listed) else value
    return value


def _usage(subject: Subject) -> dict[str, float] | None:
    counts = told(subject.observation.usage_details, USAGE)
    if counts is not None:
        counts.pop("cost", None)  # no count under this name: it is the cost
    return counts or None


def _count(bucket: str) -> Any:
    return lambda subject: inclusive(subject.observation.usage_details).get(bucket)


def _cost(subject: Subject) -> float | None:
    total = subject.observation.cost_details.get("total")
    is_number = isinstance(total, (int, float)) and not isinstance(total, bool) and math.isfinite(total)
    return total if is_number and total != 0 else None  # 0 is what openlit says of models without a price


def _system(subject: Subject) -> str | None:
    return shown_first(subject, "gen_ai.system") or facts.provider(subject)


ROWS = (
    Row("type", "gen_ai.operation.name", lambda s: OPERATIONS[s.observation.type], _SPANS, _ALL, _is_not_hidden),
    Row("provider", "gen_ai.provider.name", facts.provider, _SPANS, _ALL),
    Row("model", "gen_ai.request.model", lambda s: _models(s)[0], _SPANS, _CALLING, _is_no_agent),
    Row("model", "gen_ai.response.model", lambda s: _models(s)[1], _SPANS, _CALLING, _is_no_agent),
    Row("trace.session_id", "gen_ai.conversation.id", lambda s: as_text(s.observation.trace.session_id), _SPANS, _ALL),
    Row("input", "gen_ai.input.messages", lambda s: _messages(s, "input"), _SPANS, _TALKING, _reads_other_content),
    Row("output", "gen_ai.output.messages", lambda s: _messages(s, "output"), _SPANS, _TALKING, _reads_other_content),
    Row("input", "gen_ai.system_instructions", _instructions, _SPANS, _TALKING, _reads_other_content),
    Row("tools", "gen_ai.tool.definitions", _definitions, _SPANS, _ALL),
    Row("input", "gen_ai.tool.call.arguments", lambda s: as_text(s.content("input")), _SPANS, _TOOL, _reads_other_content),
    Row("output", "gen_ai.tool.call.result", lambda s: as_text(s.content("output")), _SPANS, _TOOL, _reads_other_content),
    Row("tool.name", "gen_ai.tool.name", facts.tool, _SPANS, _TOOL, _is_the_name),
    Row("tool.call_id", "gen_ai.tool.call.id", facts.tool_call_id, _SPANS, _TOOL),
    Row("tool.description", "gen_ai.tool.description", lambda s: shown_first(s, "tool.description"), _SPANS, _TOOL),
    Row("agent.name", "gen_ai.agent.name", facts.agent, _AGENTS, _AGENT),
    Row("workflow.name", "gen_ai.workflow.name", lambda s: as_text(s.observation.name), _AGENTS, _CHAIN),
    Row("query", "gen_ai.retrieval.query.text", _query, _SPANS, _RETRIEVER),
    Row("documents", "gen_ai.retrieval.documents", _documents, _SPANS, _RETRIEVER),
    Row("model_parameters", "gen_ai.request.*", _parameters, _SPANS, _ALL, _reads_other_parameters),
    Row("finish_reasons", "gen_ai.response.finish_reasons", facts.finish_reasons, _SPANS, _GENERATION, _is_not_vercel),
    Row("response.id", "gen_ai.response.id", lambda s: shown_first(s, "llm.response.id"), _SPANS, _CALLING),
    Row("usage_details", "gen_ai.usage.*", _usage, _SPANS, _ALL, _is_not_openlit),
    Row("cost_details", "gen_ai.usage.cost", _cost, "mapping.md 13, costDetails; the conventions have none", _ALL),
    Row("error", "error.type", facts.error_type, _SPANS, _ALL, _has_a_message),
    Row("provider", "gen_ai.system", _system, _OLD, _ALL, _is_not_vercel, deprecated=True),
    Row("usage_details", "gen_ai.usage.prompt_tokens", _count("input"), _OLD, _ALL, _is_not_vercel, deprecated=True),
    Row("usage_details", "gen_ai.usage.completion_tokens", _count("output"), _OLD, _ALL, _is_not_vercel, deprecated=True),
)
