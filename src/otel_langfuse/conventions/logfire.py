"""logfire's own attributes; the rest of what it sends is GenAI conventions.

https://logfire.pydantic.dev/docs/
"""

from __future__ import annotations

from typing import Any

from otel_langfuse.conventions import _javascript as js
from otel_langfuse.conventions._rule import Convention, Rule, truthy
from otel_langfuse.conventions._sources import as_text, attr, computed, filled

CHOICE = "gen_ai.choice"


def event_list(value: Any) -> list[Any] | None:
    """The ``events`` attribute as a list. Text that is JSON but not a list makes the server fail (mapping.md 9.11)."""
    if value is None:
        return None
    if isinstance(value, str):
        value = js.parse_or_none(value)
        if value is None:
            return []
    return value if isinstance(value, list) else []


def _given(value: Any) -> Any:
    events = [event for event in event_list(value) or () if not _is_choice(event)]
    return events or None


def _chosen(value: Any) -> Any:
    return next((event for event in event_list(value) or () if _is_choice(event)), None)


def _is_choice(event: Any) -> bool:
    return isinstance(event, dict) and event.get("event.name") == CHOICE


CONVENTION = Convention(
    name="logfire",
    scopes=("logfire", "logfire.*"),
    is_general=True,
    rules=(
        Rule("logfire/name/message", sets={"name": as_text(filled("logfire.msg"))}, spec="mapping.md 6"),
        Rule(
            "logfire/io/prompt",
            sets={"input": attr("prompt"), "output": attr("all_messages_events")},
            claims=truthy,
            spec="mapping.md 9.9",
        ),
        Rule(
            "logfire/io/events",
            sets={"input": computed(_given, attr("events")), "output": computed(_chosen, attr("events"))},
            claims=truthy,
            spec="mapping.md 9.11",
        ),
    ),
)
