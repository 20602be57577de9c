"""Who wins, per group of fields: the first rule that claims the group. The only place where families meet.

The order is that of Langfuse's server (mapping.md sections in the comments). Precedence is per group, not per span: a span
may have its type from one family and its input from another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SERVER: Final[Mapping[str, tuple[str, ...]]] = {
    "type": (  # 11
        "langfuse/type/old_sdk",
        "langfuse/type/explicit",
        "openinference/type/kind",
        "genai/type/operation",
        "genkit/type/subtype",
        "vercel/type/model",
        "vercel/type/tool",
        "genai/type/tool",
        "flue/type/tool",
        "flue/type/agent",
        "livekit/type/name",
        "langfuse/type/model",
        "genai/type/model",
        "openinference/type/model",
        "otel/type/model",
        "otel/type/span",
    ),
    "name": (  # 6
        "genai/name/tool",
        "genkit/name/name",
        "logfire/name/message",
        "vercel/name/tool",
        "vercel/name/operation",
        "otel/name/span",
    ),
    "io": (  # 9
        "langfuse/io/observation",
        "genkit/io/scope",
        "vercel/io/scope",
        "flue/io/payload",
        "genai/io/operation_details",
        "genai/io/message_events",
        "genai/io/content_events",
        "adk/io/call",
        "logfire/io/prompt",
        "livekit/io/text",
        "logfire/io/events",
        "mlflow/io/span",
        "traceloop/io/entity",
        "openinference/io/value",
        "otel/io/bare",
        "pydantic_ai/io/agent",
        "pydantic_ai/io/tool",
        "genai/io/flat",
        "openinference/io/messages",
        "genai/io/messages",
    ),
    "trace_io": ("langfuse/trace_io/trace",),  # 9.1; without it the observation's own
    "model": (  # 12
        "langfuse/model/name",
        "genai/model/response",
        "vercel/model/id",
        "genai/model/request",
        "openinference/model/response",
        "openinference/model/name",
        "otel/model/bare",
        "genkit/model/name",
    ),
    "parameters": (  # 12
        "langfuse/parameters/json",
        "genkit/parameters/config",
        "vercel/parameters/scope",
        "openinference/parameters/json",
        "pydantic_ai/parameters/config",
        "genai/parameters/request",
    ),
    "usage": (  # 13
        "langfuse/usage/details",
        "genkit/usage/output",
        "vercel/usage/scope",
        "adk/usage/response",
        "genai/usage/counts",
    ),
    "cost": ("langfuse/cost/details", "genai/cost/total", "openinference/cost/total"),  # 13
    "prompt_name": ("langfuse/prompt_name/attribute", "vercel/prompt_name/metadata"),  # 14
    "prompt_version": ("langfuse/prompt_version/attribute", "vercel/prompt_version/metadata"),  # 14
    "level": ("langfuse/level/attribute", "otel/level/status", "livekit/level/name", "otel/level/default"),  # 5
    "status_message": ("langfuse/status_message/attribute", "otel/status_message/status"),  # 5
    "completion_start_time": (  # 5
        "langfuse/completion_start_time/attribute",
        "vercel/completion_start_time/first_chunk",
    ),
    "version": ("langfuse/version/span", "otel/version/service"),  # 4
    "release": ("langfuse/release/attribute",),  # 4
    "environment": (  # 7
        "langfuse/environment/attribute",
        "otel/environment/name",
        "otel/environment/deployment",
        "openrouter/environment/judge",
    ),
    "trace_name": ("langfuse/trace_name/attribute",),  # 4
    "user_id": (  # 4
        "langfuse/user_id/attribute",
        "otel/user_id/attribute",
        "langfuse/user_id/metadata",
        "vercel/user_id/metadata",
    ),
    "session_id": (  # 4
        "langfuse/session_id/attribute",
        "otel/session_id/attribute",
        "genai/session_id/conversation",
        "langfuse/session_id/metadata",
        "vercel/session_id/metadata",
    ),
    "public": ("langfuse/public/attribute",),  # 4
    "tags": ("langfuse/tags/attribute", "vercel/tags/metadata", "openinference/tags/attribute"),  # 4
}

# Corrections: group -> (rule, the rule that it goes before; None: after all others).
_INSERTED: Final[Mapping[str, tuple[tuple[str, str | None], ...]]] = {
    "type": (
        ("corrections/type/any_case", "openinference/type/kind"),
        ("corrections/type/openinference_kind", "genai/type/operation"),
        ("corrections/type/traceloop_workflow", "genai/type/operation"),
        ("corrections/type/operation", "genkit/type/subtype"),
        ("corrections/type/traceloop_kind", "langfuse/type/model"),
        ("corrections/type/mlflow", "langfuse/type/model"),
        ("haystack/type/component", "langfuse/type/model"),
        ("haystack/type/span", "langfuse/type/model"),
        ("corrections/type/logfire_log", "langfuse/type/model"),
        ("corrections/type/agent_name", "langfuse/type/model"),
        ("corrections/type/stray_model", "otel/type/model"),
    ),
    "name": (
        ("corrections/name/model_call", "genai/name/tool"),
        ("corrections/name/logfire_stream", "logfire/name/message"),
        ("haystack/name/component", "otel/name/span"),
    ),
    "status_message": (
        ("corrections/status_message/exception", "otel/status_message/status"),
        ("corrections/status_message/error_type", "otel/status_message/status"),
    ),
    "level": (
        ("corrections/level/exception", "livekit/level/name"),
        ("corrections/level/logfire", "otel/level/default"),
    ),
    "io": (
        ("corrections/io/mlflow", "mlflow/io/span"),
        ("haystack/io/data", "otel/io/bare"),
        ("corrections/io/messages_over_flat", "genai/io/flat"),
        ("corrections/io/system_instructions", "genai/io/messages"),
    ),
    "model": (
        ("corrections/model/mlflow", "otel/model/bare"),
        ("corrections/model/embedding", "otel/model/bare"),
        ("corrections/model/invocation_parameters", "otel/model/bare"),
        ("haystack/model/reply", "otel/model/bare"),
    ),
    "usage": (
        ("corrections/usage/raw", "genai/usage/counts"),
        ("corrections/usage/openlit", "genai/usage/counts"),
        ("corrections/usage/spellings", "genai/usage/counts"),
        ("corrections/usage/mlflow", None),
        ("haystack/usage/reply", None),
    ),
    "cost": (("corrections/cost/zero", "genai/cost/total"), ("corrections/cost/total", None)),
    "completion_start_time": (("corrections/completion_start_time/first_token", None),),
    "user_id": (("corrections/user_id/scrubbed", "otel/user_id/attribute"), ("corrections/user_id/association", None)),
    "session_id": (
        ("corrections/session_id/scrubbed", "otel/session_id/attribute"),
        ("corrections/session_id/association", None),
    ),
}


def _corrected(group: str, ranked: tuple[str, ...]) -> tuple[str, ...]:
    inserted = _INSERTED.get(group, ())
    before = tuple(name for ranked_name in ranked for name in (*(r for r, at in inserted if at == ranked_name), ranked_name))
    return before + tuple(rule for rule, at in inserted if at is None)


CORRECTED: Final[Mapping[str, tuple[str, ...]]] = {group: _corrected(group, ranked) for group, ranked in SERVER.items()}
"""The server's order with our corrections in their places."""
