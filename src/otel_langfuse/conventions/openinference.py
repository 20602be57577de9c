"""OpenInference (Arize): instrumentations for most libraries, also Agno, BeeAI and SmolAgents.

https://arize-ai.github.io/openinference/spec/semantic_conventions.html
"""

from __future__ import annotations

from otel_langfuse.conventions._rule import Convention, Rule, truthy
from otel_langfuse.conventions._sources import attr, computed, filled, json_object, lookup, nested, tags, total_cost

KINDS = {
    "CHAIN": "chain",
    "RETRIEVER": "retriever",
    "LLM": "generation",
    "EMBEDDING": "embedding",
    "AGENT": "agent",
    "TOOL": "tool",
    "GUARDRAIL": "guardrail",
    "EVALUATOR": "evaluator",
}


CONVENTION = Convention(
    name="openinference",
    scopes=("openinference", "openinference.*"),
    content=("llm.input_messages*", "llm.output_messages*"),
    rules=(
        Rule(
            "openinference/type/kind",
            sets={"type": lookup(attr("openinference.span.kind"), KINDS)},
            spec="mapping.md 11.2",
        ),
        Rule(
            "openinference/type/model",
            when=filled("llm.model_name"),
            sets={"type": computed(lambda _: "generation", attr("llm.model_name"))},
            spec="mapping.md 11.10",
        ),
        Rule(
            "openinference/io/value",
            sets={"input": attr("input.value"), "output": attr("output.value")},
            claims=truthy,
            spec="mapping.md 9.14",
        ),
        Rule(
            "openinference/io/messages",
            sets={
                "input": nested("llm.input_messages", missing={}),
                "output": nested("llm.output_messages", missing={}),
            },
            claims=truthy,
            spec="mapping.md 9.19",
        ),
        Rule("openinference/model/response", sets={"model": filled("llm.response.model")}, spec="mapping.md 12"),
        Rule("openinference/model/name", sets={"model": filled("llm.model_name")}, spec="mapping.md 12"),
        Rule(
            "openinference/parameters/json",
            sets={"model_parameters": json_object("llm.invocation_parameters")},
            spec="mapping.md 12.4",
        ),
        Rule(
            "openinference/cost/total",
            sets={"cost_details": total_cost("llm.cost.total")},
            spec="mapping.md 13, costDetails",
        ),
        Rule("openinference/tags/attribute", sets={"tags": tags("tag.tags")}, spec="mapping.md 4, tags"),
    ),
)
