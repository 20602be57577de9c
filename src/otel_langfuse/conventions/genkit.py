"""Genkit (scope ``genkit-tracer``).

https://genkit.dev/docs/observability/
"""

from __future__ import annotations

from typing import Any

from otel_langfuse.conventions import _javascript as js
from otel_langfuse.conventions._rule import Convention, Rule, always
from otel_langfuse.conventions._sources import attr, computed, filled, first, json_at, lookup, seen
from otel_langfuse.conventions._view import View

SCOPE = "genkit-tracer"
SUBTYPE = "genkit:metadata:subtype"
TYPES = {
    "background-model": "generation",
    "model": "generation",
    "embedder": "embedding",
    "tool": "tool",
    "tool.v2": "tool",
    "retriever": "retriever",
    "evaluator": "evaluator",
}


def _side(key: str, part: str) -> Any:
    """``part`` of the attribute's JSON, or the JSON whole, or the text that is not JSON."""

    def read(view: View) -> Any:
        value = view.attributes.get(key)
        if value is None:
            return None
        parsed = view.json(key)
        whole = value if parsed is None else parsed
        inner = whole.get(part) if isinstance(whole, dict) else None
        return whole if inner is None else inner

    return seen(read, attr(key))


def _usage(counts: Any) -> dict[str, Any] | None:
    if not isinstance(counts, dict):
        return None
    thoughts = counts.get("thoughtsTokens")
    produced = counts.get("outputTokens")
    buckets = {
        "input": counts.get("inputTokens"),
        "output": max(js.number(produced) - js.number(thoughts), 0) if js.truthy(produced) else None,
        "total": counts.get("totalTokens"),
        "output_reasoning": thoughts,
    }
    return {name: value for name, value in buckets.items() if js.truthy(value)}


CONVENTION = Convention(
    name="genkit",
    scopes=(SCOPE,),
    rules=(
        Rule("genkit/type/subtype", sets={"type": lookup(attr(SUBTYPE), TYPES)}, spec="mapping.md 11.4"),
        Rule("genkit/name/name", sets={"name": attr("genkit:name")}, spec="mapping.md 6"),
        Rule(
            "genkit/io/scope",
            scope=SCOPE,
            sets={"input": _side("genkit:input", "messages"), "output": _side("genkit:output", "message")},
            claims=always,
            spec="mapping.md 9.2",
        ),
        Rule(
            "genkit/model/name",
            when=seen(lambda view: view.attributes.get(SUBTYPE) == "model"),
            sets={"model": filled("genkit:name")},
            spec="mapping.md 12",
        ),
        Rule(
            "genkit/parameters/config",
            scope=SCOPE,
            sets={"model_parameters": first(json_at("genkit:input", "config"), json_at("genkit:output", "request", "config"))},
            spec="mapping.md 12.2",
        ),
        Rule(
            "genkit/usage/output",
            scope=SCOPE,
            sets={"usage_details": computed(_usage, json_at("genkit:output", "usage"))},
            spec="mapping.md 13.2",
        ),
    ),
)
