"""Input and output by the current GenAI conventions: message lists, system instructions, tool calls (mapping.md 9.20)."""

from __future__ import annotations

from typing import Any

from otel_langfuse.conventions import _javascript as js
from otel_langfuse.conventions._sources import attr

INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS = "gen_ai.system_instructions"
CALL_ARGUMENTS = "gen_ai.tool.call.arguments"
CALL_RESULT = "gen_ai.tool.call.result"
_CONTAINERS = (list, dict)  # which JavaScript calls true, empty ones too


def with_system(messages: Any, instructions: Any) -> Any:
    """The messages with the system instructions as a first message; text stays text (mapping.md 9.20)."""
    if not js.truthy(messages) or not js.truthy(instructions):
        return messages
    listed = js.parse_or_none(messages) if isinstance(messages, str) else messages
    if not isinstance(listed, list) or any(isinstance(item, dict) and item.get("role") == "system" for item in listed):
        return messages
    whole = [system_message(instructions), *listed]
    return js.stringify(whole) if isinstance(messages, str) else whole


def system_message(instructions: Any) -> dict[str, Any]:
    """System instructions, text or a list of parts (or its JSON), as one message."""
    parts = js.parse_or_same(instructions) if isinstance(instructions, str) else instructions
    return {"role": "system", "content": _instruction_text(parts)}


def _instruction_text(parts: Any) -> str:
    if not isinstance(parts, list):
        return js.text(parts)
    return "\n".join(_part_text(part) for part in parts)


def _part_text(part: Any) -> str:
    content = part.get("content") if isinstance(part, dict) else None
    return js.text(content if js.truthy(content) else part)


def messages(attributes: dict[str, Any]) -> tuple[Any, Any]:
    """Input and output by the current conventions: messages, else the tool call (mapping.md 9.20)."""
    given, produced = attributes.get(INPUT_MESSAGES), attributes.get(OUTPUT_MESSAGES)
    if given or produced or type(given) in _CONTAINERS or type(produced) in _CONTAINERS:
        instructions = attributes.get(SYSTEM_INSTRUCTIONS)
        return given if instructions is None else with_system(given, instructions), produced
    return attributes.get(CALL_ARGUMENTS), attributes.get(CALL_RESULT)


_NO_CONTENT = frozenset({"role", "type", "id", "tool_call_id", "finish_reason", "mime_type"})
_MAX_DEPTH = 50


def content_size(value: Any, depth: int = 0) -> int:
    """Characters of what messages say, whatever their form: of texts, names and arguments of calls, also inside JSON text."""
    if isinstance(value, str):
        parsed = js.parse_or_none(value) if value[:1] in ("{", "[") else None
        return len(value) if parsed is None else content_size(parsed, depth + 1)
    if value is None or depth > _MAX_DEPTH:
        return 0
    if isinstance(value, dict):
        return sum(content_size(item, depth + 1) for name, item in value.items() if name not in _NO_CONTENT)
    if isinstance(value, list):
        return sum(content_size(item, depth + 1) for item in value)
    return len(js.text(value))


MESSAGE_SOURCES = tuple(
    attr(name) for name in (INPUT_MESSAGES, OUTPUT_MESSAGES, SYSTEM_INSTRUCTIONS, CALL_ARGUMENTS, CALL_RESULT)
)
