"""pydantic-ai, beyond the GenAI conventions that it speaks.

https://ai.pydantic.dev/logfire/
"""

from __future__ import annotations

from otel_langfuse.conventions._messages import SYSTEM_INSTRUCTIONS, with_system
from otel_langfuse.conventions._rule import Convention, Rule, truthy
from otel_langfuse.conventions._sources import attr, computed, json_object

SCOPE = "pydantic-ai"

CONVENTION = Convention(
    name="pydantic_ai",
    scopes=(SCOPE,),
    not_content=("tool_arguments", "tool_response"),
    rules=(
        Rule(
            "pydantic_ai/io/agent",
            scope=SCOPE,
            sets={
                "input": computed(with_system, attr("pydantic_ai.all_messages"), attr(SYSTEM_INSTRUCTIONS)),
                "output": attr("final_result"),
            },
            claims=truthy,
            spec="mapping.md 9.16",
        ),
        Rule(
            "pydantic_ai/io/tool",
            sets={"input": attr("tool_arguments"), "output": attr("tool_response")},
            claims=truthy,
            spec="mapping.md 9.17",
        ),
        Rule(
            "pydantic_ai/parameters/config",
            sets={"model_parameters": json_object("model_config")},
            spec="mapping.md 12.5",
        ),
    ),
)
