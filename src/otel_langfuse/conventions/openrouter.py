"""OpenRouter's broadcast to Langfuse: one special case, the failed judge (mapping.md 7)."""

from __future__ import annotations

from typing import Any

from otel_langfuse.conventions._rule import Convention, Rule
from otel_langfuse.conventions._sources import attr, seen
from otel_langfuse.conventions._view import View

JUDGE = "langfuse-llm-as-a-judge"


def _failed_judge(view: View) -> str | None:
    if view.resource.attributes.get("service.name") != "openrouter" or view.attributes.get("openrouter.source") != "openrouter":
        return None
    blob: Any = view.json("gen_ai.completion")
    if not isinstance(blob, dict) or blob.get("completion") is not None or "completion" not in blob:
        return None
    for step in ("rawRequest", "trace", "environment"):
        blob = blob.get(step) if isinstance(blob, dict) else None
    return JUDGE if blob == JUDGE else None


CONVENTION = Convention(
    name="openrouter",
    rules=(
        Rule(
            "openrouter/environment/judge",
            sets={"environment": seen(_failed_judge, attr("openrouter.source"))},
            spec="mapping.md 7",
        ),
    ),
)
