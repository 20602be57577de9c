"""Flue (scope ``@flue/opentelemetry``)."""

from __future__ import annotations

from otel_langfuse.conventions import _javascript as js
from otel_langfuse.conventions._rule import Convention, Rule, truthy
from otel_langfuse.conventions._sources import computed, first_attr, first_filled

SCOPE = "@flue/opentelemetry"

CONVENTION = Convention(
    name="flue",
    scopes=(SCOPE,),
    rules=(
        Rule(
            "flue/type/tool",
            sets={
                "type": computed(
                    lambda found: None if found is None else "tool", first_filled("flue.tool.name", "flue.tool.call_id")
                )
            },
            spec="mapping.md 11.8",
        ),
        Rule(
            "flue/type/agent",
            sets={
                "type": computed(
                    lambda found: None if found is None else "agent", first_filled("flue.task.id", "flue.task.agent")
                )
            },
            spec="mapping.md 11.8",
        ),
        Rule(
            "flue/io/payload",
            scope=SCOPE,
            sets={
                "input": computed(
                    js.parse_or_same,
                    first_attr("flue.turn.input", "flue.tool.arguments", "flue.task.prompt", "flue.workflow.payload"),
                ),
                "output": computed(
                    js.parse_or_same,
                    first_attr(
                        "flue.turn.output",
                        "flue.tool.result",
                        "flue.task.result",
                        "flue.operation.result",
                        "flue.workflow.result",
                    ),
                ),
            },
            claims=truthy,
            spec="mapping.md 9.4",
        ),
    ),
)
