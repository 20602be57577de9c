"""Haystack's own tracing (scope ``haystack``), which Langfuse's server does not read at all: every row is a correction.

Spans: ``haystack.pipeline.run``, ``haystack.component.run`` and ``haystack.agent.*``; each value is JSON text.
https://docs.haystack.deepset.ai/docs/tracing
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otel_langfuse.conventions._openai import usage_buckets
from otel_langfuse.conventions._rule import Convention, Rule, truthy
from otel_langfuse.conventions._sources import attr, computed, first_attr, lookup, seen
from otel_langfuse.conventions._view import View

# The component's class names what it does: the first of these endings decides.
ENDINGS = (
    ("Generator", "generation"),
    ("Embedder", "embedding"),
    ("Retriever", "retriever"),
    ("Ranker", "retriever"),
    ("ToolInvoker", "tool"),
    ("Agent", "agent"),
    ("Evaluator", "evaluator"),
)
SPAN_TYPES = {
    "haystack.pipeline.run": "chain",
    "haystack.agent.run": "agent",
    "haystack.agent.step": "chain",
    "haystack.agent.step.llm": "generation",
    "haystack.agent.step.tool": "tool",
}
COMPONENT, STEP_LLM, STEP_TOOL = "haystack.component", "haystack.agent.step.llm", "haystack.agent.step.tool"
INPUTS = (f"{COMPONENT}.input", f"{STEP_LLM}.input", f"{STEP_TOOL}.input", "haystack.agent.input", "haystack.pipeline.input_data")
OUTPUTS = (
    *(f"{COMPONENT}.output", f"{STEP_LLM}.output", f"{STEP_TOOL}.output"),
    *("haystack.agent.output", "haystack.pipeline.output_data"),
)
ANSWERS = (f"{COMPONENT}.output", f"{STEP_LLM}.output")
_REASON = "Haystack's own tracing is not read by the server"


def _component_type(component: Any) -> str | None:
    name = component if isinstance(component, str) else ""
    return next((kind for ending, kind in ENDINGS if name.endswith(ending)), None)


def _meta(view: View) -> Mapping[str, Any]:
    """What the model said beside its answer: of the first reply, or of the embedding."""
    for name in ANSWERS:
        answer = view.json(name)
        if not isinstance(answer, dict):
            continue
        replies = answer.get("replies")
        first = replies[0] if isinstance(replies, list) and replies else answer
        meta = first.get("meta") if isinstance(first, dict) else None
        if isinstance(meta, list):
            meta = meta[0] if meta else None
        if isinstance(meta, dict):
            return meta
    return {}


def _model(view: View) -> str | None:
    model = _meta(view).get("model")
    return model if isinstance(model, str) else None


CONVENTION = Convention(
    name="haystack",
    scopes=("haystack", "haystack.*"),
    rules=(
        Rule(
            "haystack/type/component",
            sets={"type": computed(_component_type, attr(f"{COMPONENT}.type"))},
            spec="families.md",
            reason=_REASON,
        ),
        Rule(
            "haystack/type/span",
            scope="haystack",
            sets={"type": lookup(seen(lambda view: view.span.name), SPAN_TYPES)},
            spec="families.md",
            reason=_REASON,
        ),
        Rule(
            "haystack/name/component",
            sets={"name": first_attr(f"{COMPONENT}.name", "haystack.tool.name")},
            spec="families.md",
            reason="every component is called haystack.component.run",
        ),
        Rule(
            "haystack/io/data",
            sets={"input": first_attr(*INPUTS), "output": first_attr(*OUTPUTS)},
            claims=truthy,
            spec="families.md",
            reason=_REASON,
        ),
        Rule(
            "haystack/model/reply",
            sets={"model": seen(_model, *(attr(name) for name in ANSWERS))},
            spec="families.md",
            reason=_REASON,
        ),
        Rule(
            "haystack/usage/reply",
            sets={"usage_details": seen(lambda view: usage_buckets(_meta(view).get("usage")), *(attr(n) for n in ANSWERS))},
            spec="families.md",
            reason=_REASON,
        ),
    ),
)
