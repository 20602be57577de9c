"""LiveKit agents (scope ``livekit-agents``).

https://docs.livekit.io/agents/build/metrics/
"""

from __future__ import annotations

from otel_langfuse.conventions._rule import Convention, Rule, truthy
from otel_langfuse.conventions._sources import attr, filled, first, first_attr, lookup, seen

SCOPE = "livekit-agents"
TYPES = {"agent_turn": "agent", "start_agent_activity": "agent", "function_tool": "tool"}

# Spans of the machinery, which Langfuse shows as DEBUG (mapping.md 5).
DEBUG_NAMES = (
    "user_speaking eou_detection llm_request_run tts_node tts_request tts_request_run tts_stream_adapter agent_speaking "
    "drain_agent_activity on_exit on_enter llm_fallback_adapter tts_fallback_adapter start_agent_activity"
)

CONVENTION = Convention(
    name="livekit",
    scopes=(SCOPE,),
    content=("lk.user_input",),
    rules=(
        Rule(
            "livekit/type/name",
            scope=SCOPE,
            sets={"type": lookup(seen(lambda view: view.span.name), TYPES)},
            spec="mapping.md 11.9",
        ),
        Rule(
            "livekit/level/name",
            scope=SCOPE,
            sets={"level": lookup(seen(lambda view: view.span.name), dict.fromkeys(DEBUG_NAMES.split(), "DEBUG"))},
            spec="mapping.md 5, level",
        ),
        Rule(
            "livekit/io/text",
            sets={
                "input": first_attr("lk.input_text", "lk.user_transcript", "lk.chat_ctx"),
                "output": first(filled("lk.function_tool.output"), attr("lk.response.text")),
            },
            claims=truthy,
            spec="mapping.md 9.10",
        ),
    ),
)
