"""Google's Agent Development Kit and Vertex agents (scope ``gcp.vertex.agent``).

https://google.github.io/adk-docs/observability/
"""

from __future__ import annotations

from typing import Any

from otel_langfuse.conventions import _javascript as js
from otel_langfuse.conventions._rule import Convention, Rule, truthy
from otel_langfuse.conventions._sources import attr, computed, json_at, under
from otel_langfuse.conventions._usage import usage

SCOPE = "gcp.vertex.agent"


def _call_or_tool(call: Any, tool: Any) -> Any:
    """The model's side, or, where that is empty, the tool's."""
    if js.truthy(call) and call != "{}":
        return call
    return tool


def _with_cached(counts: dict[str, Any] | None, cached: Any) -> dict[str, Any] | None:
    buckets = usage(counts)
    number = js.number(cached) if isinstance(cached, (int, float)) and not isinstance(cached, bool) else 0
    if number <= 0:
        return buckets
    buckets = buckets or {}
    if "input_cached_tokens" in buckets:
        return buckets
    cut = {"input": max(buckets["input"] - number, 0)} if "input" in buckets else {}
    return buckets | cut | {"input_cached_tokens": number}


CONVENTION = Convention(
    name="adk",
    scopes=(SCOPE,),
    rules=(
        Rule(
            "adk/io/call",
            sets={
                "input": computed(_call_or_tool, attr("gcp.vertex.agent.llm_request"), attr("gcp.vertex.agent.tool_call_args")),
                "output": computed(_call_or_tool, attr("gcp.vertex.agent.llm_response"), attr("gcp.vertex.agent.tool_response")),
            },
            claims=truthy,
            spec="mapping.md 9.8",
        ),
        Rule(
            "adk/usage/response",
            scope=SCOPE,
            when=json_at("gcp.vertex.agent.llm_response"),
            sets={
                "usage_details": computed(
                    _with_cached,
                    under("gen_ai.usage.", "llm.token_count.", but=("gen_ai.usage.cost",)),
                    json_at("gcp.vertex.agent.llm_response", "usage_metadata", "cached_content_token_count"),
                )
            },
            spec="mapping.md 13.4",
        ),
    ),
)
