"""The Vercel AI SDK (scope ``ai``).

https://ai-sdk.dev/docs/ai-sdk-core/telemetry
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from otel_langfuse.attributes import OBSERVATION_MODEL, OBSERVATION_MODEL_PARAMETERS
from otel_langfuse.conventions import _javascript as js
from otel_langfuse.conventions._messages import messages
from otel_langfuse.conventions._parameters import plain_parameters
from otel_langfuse.conventions._rule import Convention, Rule, always
from otel_langfuse.conventions._sources import as_text, attr, filled, json_at, seen, tags
from otel_langfuse.conventions._usage import usage
from otel_langfuse.conventions._view import View

SCOPE = "ai"
METADATA = "ai.telemetry.metadata."
MODEL_KEYS = (OBSERVATION_MODEL, "ai.model.id", "gen_ai.request.model", "gen_ai.response.model")

MODEL_OPERATIONS = {
    "ai.generateText.doGenerate": "generation",
    "ai.generateObject.doGenerate": "generation",
    "ai.streamText.doStream": "generation",
    "ai.streamObject.doStream": "generation",
    "ai.embed.doEmbed": "embedding",
    "ai.embedMany.doEmbed": "embedding",
}
TOOL_OPERATIONS = {"ai.toolCall": "tool"}

INPUT = ("ai.prompt.messages", "ai.prompt", "ai.toolCall.args")
OUTPUT = (
    "ai.result.text",
    "ai.toolCall.result",
    "ai.response.object",
    "ai.result.object",
    "ai.response.toolCalls",
    "ai.result.toolCalls",
)
TEXT = "ai.response.text"
TOOL_CALLS = "ai.response.toolCalls"
PROVIDER_METADATA = "ai.response.providerMetadata"

# provider -> path of its counts in the provider metadata -> bucket -> its key there (mapping.md 13.3).
PROVIDER_COUNTS: dict[str, tuple[tuple[str, ...], dict[str, tuple[str, ...]]]] = {
    "openai": (
        (),
        {
            "input_cached_tokens": ("cachedPromptTokens",),
            "accepted_prediction_tokens": ("acceptedPredictionTokens",),
            "rejected_prediction_tokens": ("rejectedPredictionTokens",),
            "output_reasoning_tokens": ("reasoningTokens",),
        },
    ),
    "anthropic": (
        ("usage",),
        {
            "input_cache_creation": ("cache_creation_input_tokens",),
            "input_cached_tokens": ("cache_read_input_tokens",),
            "input_cache_creation_5m": ("cache_creation", "ephemeral_5m_input_tokens"),
            "input_cache_creation_1h": ("cache_creation", "ephemeral_1h_input_tokens"),
        },
    ),
    "bedrock": (
        ("usage",),
        {
            "input_cache_read": ("cacheReadInputTokens",),
            "input_cache_write": ("cacheWriteInputTokens",),
            "input_cache_creation": ("cacheCreationInputTokens",),
        },
    ),
}
NOT_IN_INPUT = (
    "input_cached_tokens",
    "input_cache_creation",
    "input_cache_creation_5m",
    "input_cache_creation_1h",
    "input_cache_read",
)


def _operation_type(view: View, table: Mapping[str, str]) -> str | None:
    """``operation.name`` starts with, or ``ai.operationId`` is, an operation of the table."""
    named = view.attributes.get("operation.name")
    for operation, kind in table.items():
        if isinstance(named, str) and named.startswith(operation):
            return kind
    identified = view.attributes.get("ai.operationId")
    return table.get(identified) if isinstance(identified, str) else None


def _model_type(view: View) -> str | None:
    if not any(js.truthy(view.attributes.get(name)) for name in MODEL_KEYS):
        return None
    return _operation_type(view, MODEL_OPERATIONS)


def _content(view: View) -> tuple[Any, Any]:
    attributes = view.attributes
    given = next((attributes[name] for name in INPUT if name in attributes), None)
    produced = _output(attributes)
    if given is None or produced is None:
        other = messages(attributes)
        return other[0] if given is None else given, other[1] if produced is None else produced
    return given, produced


def _output(attributes: Mapping[str, Any]) -> Any:
    text = attributes.get(TEXT)
    if TEXT in attributes and TOOL_CALLS in attributes and js.truthy(text) and js.truthy(attributes[TOOL_CALLS]):
        return js.stringify({"role": "assistant", "content": text, "tool_calls": attributes[TOOL_CALLS]})
    if js.truthy(text):
        return text
    return next((attributes[name] for name in OUTPUT if name in attributes), None)


def _parameters(view: View) -> dict[str, Any]:
    """The nine that Langfuse always stores for this SDK, each as text; explicit ones over them (mapping.md 12.3)."""
    get = view.attributes.get
    reasons = get("gen_ai.response.finish_reasons")
    tier = _at(view.json(PROVIDER_METADATA), ("openai", "serviceTier"))
    found = {
        "maxSteps": get("ai.settings.maxSteps"),
        "toolChoice": get("ai.prompt.toolChoice"),
        "maxTokens": get("gen_ai.request.max_tokens"),
        "finishReason": reasons if reasons is not None else get("gen_ai.finishReason"),
        "system": get("gen_ai.system") if get("gen_ai.system") is not None else get("ai.model.provider"),
        "maxRetries": get("ai.settings.maxRetries"),
        "mode": get("ai.settings.mode"),
        "temperature": get("gen_ai.request.temperature"),
        "service_tier": tier if tier is not None else get("gen_ai.request.service_tier"),
    }
    explicit = view.json(OBSERVATION_MODEL_PARAMETERS)
    texts = {name: None if value is None else js.text(value) for name, value in found.items()}
    return texts | plain_parameters(explicit)


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _usage(view: View) -> dict[str, Any]:
    """mapping.md 13.3. Anything unexpected in the blobs falls back to the generic reading, as the server's catch does."""
    get = view.attributes.get
    try:
        known = {
            "input": _number(first_of(get("gen_ai.usage.prompt_tokens"), get("gen_ai.usage.input_tokens"))),
            "output": _number(first_of(get("gen_ai.usage.completion_tokens"), get("gen_ai.usage.output_tokens"))),
            "total": _total(get("ai.usage.tokens")),
            "input_cached_tokens": _count(get("ai.usage.cachedInputTokens")),
            "output_reasoning_tokens": _count(get("ai.usage.reasoningTokens")),
        }
        counts: dict[str, Any] = {name: value for name, value in known.items() if value is not None}
        blob = get(PROVIDER_METADATA)
        if blob is not None:
            _add_provider_counts(counts, js.parse(blob))
    except ValueError:
        prefix = "gen_ai.usage."
        generic = {k[len(prefix) :]: v for k, v in view.attributes.items() if k.startswith(prefix) and k != prefix + "cost"}
        return usage(generic) or {}
    cached = sum(_finite(counts.get(name)) for name in NOT_IN_INPUT)
    counts["input"] = max(_finite(counts.get("input")) - cached, 0)
    counts["output"] = max(_finite(counts.get("output")) - _finite(counts.get("output_reasoning_tokens")), 0)
    return counts


def _finite(value: Any) -> float:
    number = 0 if value is None else js.number(value)
    return number if math.isfinite(number) else 0


def first_of(*values: Any) -> Any:
    """The first value that is not null."""
    return next((value for value in values if value is not None), None)


def _number(value: Any) -> float | None:
    return None if value is None else js.number(value)


def _total(value: Any) -> float | None:
    return None if value is None else js.parse_int(value)


def _count(value: Any) -> float | None:
    """A JSON number, or the OTLP form ``{"intValue": "12"}``."""
    if value is None:
        return None
    parsed = js.parse(value)
    if isinstance(parsed, dict):
        parsed = parsed.get("intValue")
    number = math.nan if parsed is None else js.number(parsed)
    return None if math.isnan(number) else number


def _add_provider_counts(counts: dict[str, Any], blob: Any) -> None:
    for provider, (path, names) in PROVIDER_COUNTS.items():
        found = _at(_at(blob, (provider,)), path)
        for bucket, place in names.items():
            value = _at(found, place)
            if value is not None and counts.get(bucket) is None:
                counts[bucket] = value
        if provider == "anthropic" and "input_cache_creation" in counts:
            by_age = _finite(counts.get("input_cache_creation_5m")) + _finite(counts.get("input_cache_creation_1h"))
            counts["input_cache_creation"] = max(_finite(counts["input_cache_creation"]) - by_age, 0)


def _operation_name(view: View) -> Any:
    operation = view.attributes.get("ai.operationId")
    if operation is None:
        return None
    function = view.attributes.get("ai.telemetry.functionId")
    return f"{js.text(function)}:{js.text(operation)}" if js.truthy(function) else operation


def _first_token_ms(view: View) -> Any:
    value = first_of(view.attributes.get("ai.response.msToFirstChunk"), view.attributes.get("ai.stream.msToFirstChunk"))
    start = view.span.start_time_unix_nano
    if not js.truthy(value) or start is None:
        return None
    ms = js.number(value)
    return None if not math.isfinite(ms) else js.iso_time(start // 1_000_000 + math.ceil(ms))


CONVENTION = Convention(
    name="vercel",
    scopes=(SCOPE,),
    metadata=((METADATA, ""),),
    not_metadata=tuple(METADATA + part for part in ("userId", "sessionId", "tags", "langfusePrompt")),
    content=(*INPUT, *OUTPUT, TEXT, METADATA.removesuffix(".") + "*"),
    rules=(
        Rule(
            "vercel/type/model",
            sets={
                "type": seen(_model_type, attr("operation.name"), attr("ai.operationId")),
            },
            spec="mapping.md 11.5",
        ),
        Rule(
            "vercel/type/tool",
            sets={
                "type": seen(lambda view: _operation_type(view, TOOL_OPERATIONS), attr("operation.name"), attr("ai.operationId"))
            },
            spec="mapping.md 11.6",
        ),
        Rule("vercel/name/tool", sets={"name": attr("ai.toolCall.name")}, spec="mapping.md 6"),
        Rule("vercel/name/operation", sets={"name": seen(_operation_name, attr("ai.operationId"))}, spec="mapping.md 6"),
        Rule(
            "vercel/io/scope",
            scope=SCOPE,
            sets={"input": seen(lambda view: _content(view)[0]), "output": seen(lambda view: _content(view)[1])},
            claims=always,
            spec="mapping.md 9.3",
        ),
        Rule("vercel/model/id", sets={"model": filled("ai.model.id")}, spec="mapping.md 12"),
        Rule(
            "vercel/parameters/scope",
            scope=SCOPE,
            sets={"model_parameters": seen(_parameters)},
            spec="mapping.md 12.3",
        ),
        Rule("vercel/usage/scope", scope=SCOPE, sets={"usage_details": seen(_usage)}, spec="mapping.md 13.3"),
        Rule(
            "vercel/prompt_name/metadata",
            sets={"prompt_name": json_at(METADATA + "langfusePrompt", "name")},
            spec="mapping.md 14",
        ),
        Rule(
            "vercel/prompt_version/metadata",
            sets={"prompt_version": json_at(METADATA + "langfusePrompt", "version")},
            spec="mapping.md 14",
        ),
        Rule(
            "vercel/completion_start_time/first_chunk",
            sets={
                "completion_start_time": seen(
                    _first_token_ms, attr("ai.response.msToFirstChunk"), attr("ai.stream.msToFirstChunk")
                )
            },
            spec="mapping.md 5, completionStartTime",
        ),
        Rule(
            "vercel/user_id/metadata",
            sets={"user_id": as_text(filled(METADATA + "userId"))},
            spec="mapping.md 4, userId",
        ),
        Rule(
            "vercel/session_id/metadata",
            sets={"session_id": as_text(filled(METADATA + "sessionId"))},
            spec="mapping.md 4, sessionId",
        ),
        Rule("vercel/tags/metadata", sets={"tags": tags(METADATA + "tags")}, spec="mapping.md 4, tags"),
    ),
)
