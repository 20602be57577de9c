"""Content of any family as messages in one form: that of OpenTelemetry's GenAI conventions, ``{role, parts}``.

It knows the forms that instrumentations really send: OpenAI's chat messages and responses, Anthropic's blocks, Google's and
Bedrock's parts, LangChain's messages, OpenInference's and Traceloop's flattened keys, plain text. What it does not know
becomes one message with the content as text, so that nothing is lost.
https://github.com/open-telemetry/semantic-conventions-genai/blob/main/model/gen-ai/gen-ai-input-messages.json
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from ._json import as_text, parsed
from ._parts import Part, is_part, only_text, part, text_part

Message: TypeAlias = "dict[str, Any]"

_MAX_DEPTH = 4  # wrappers inside wrappers

# Google's and LangChain's words for the roles.
ROLES = {"model": "assistant", "ai": "assistant", "AIMessageChunk": "assistant", "human": "user", "function": "tool"}
# What LangChain says in ``type``, or in the name of the class, where others say ``role``.
_TYPES = {
    **dict.fromkeys(("human", "HumanMessage"), "user"),
    **dict.fromkeys(("ai", "AIMessage", "AIMessageChunk"), "assistant"),
    **dict.fromkeys(("system", "SystemMessage"), "system"),
    **dict.fromkeys(("tool", "ToolMessage"), "tool"),
}
# Items of OpenAI's responses that stand beside messages, and who says them.
_ITEMS = {"function_call": "assistant", "function_call_output": "tool", "reasoning": "assistant"}
FINISH_REASONS = {
    **dict.fromkeys(("STOP", "end_turn", "stop_sequence", "completed"), "stop"),
    **dict.fromkeys(("MAX_TOKENS", "max_tokens"), "length"),
    **dict.fromkeys(("tool_calls", "tool_use", "function_call"), "tool_call"),
}
_FINISH_KEYS = ("finish_reason", "stop_reason", "stopReason", "finishReason")
_PLAIN_ROLES = frozenset({"system", "user", "assistant"})
_BESIDE_MESSAGE = frozenset({"message", "id", "index", "tool.result"})
_BODY = ("parts", "content", "contents", "tool_calls", "function_call")


class Conversation(NamedTuple):
    """Messages, and the parts of system instructions that stood apart from them."""

    messages: list[Message]
    instructions: list[Part]


NOTHING = Conversation([], [])


def conversation(content: Any, value: Any, role: str) -> Conversation:
    """Input (``role`` "user") or output ("assistant") as messages. Empty content is no message.

    ``value`` is the content as ``parsed`` gives it.
    """
    if (not value and value in (None, "", {}, [])) or (isinstance(value, dict) and value.keys() == {"tools"}):
        return NOTHING
    found = _conversation(value, role, 0)
    return Conversation([_as_text_message(content, role)], []) if found is None else found


def _as_text_message(content: Any, role: str) -> Message:
    return {"role": role, "parts": [text_part(as_text(content))]}


def _conversation(value: Any, role: str, depth: int) -> Conversation | None:
    """The messages of content that has some; None where it is no message of any form."""
    if isinstance(value, str):
        return Conversation([_as_text_message(value, role)], [])
    if isinstance(value, list):
        messages = _listed(value, role)
        return None if messages is None else Conversation(messages, [])
    if not isinstance(value, dict):
        return None
    if _is_message(value):
        return Conversation([_plain_message(value) or _message(value, role)], [])
    if depth >= _MAX_DEPTH:
        return None
    for key, unwrap in _WRAPPERS:
        inner = value.get(key)
        if inner is not None:
            found = unwrap(inner, value, role, depth)
            if found is not None:
                return found
    return None


# -- lists --------------------------------------------------------------------------------------------------------------


def _listed(items: list[Any], role: str) -> list[Message] | None:
    """A list of messages, or a list of parts, which is one message."""
    if len(items) == 1 and isinstance(items[0], list):  # LangChain: one list for each prompt
        items = items[0]
    if not items:
        return None
    plain = [_plain_message(item) for item in items]
    if None not in plain:
        return plain  # type: ignore[return-value]
    if all(isinstance(item, dict) and not _is_message(item) and is_part(item) for item in items):
        return [{"role": role, "parts": [part(item) for item in items]}]
    if not all(isinstance(item, str) or (isinstance(item, dict) and _is_message(item)) for item in items):
        return None
    return _one_for_each_answer([(_message(item, role), isinstance(item, dict) and _is_item(item)) for item in items])


def _plain_message(item: Any) -> Message | None:
    """What ``_message`` makes of the two forms that are most common, sooner: a role with text, or with parts of text."""
    if type(item) is not dict:
        return None
    role = item.get("role")
    if type(role) is not str or role not in _PLAIN_ROLES:
        return None
    reason = None
    if len(item) != 2:
        reason = item.get("finish_reason")
        if type(reason) is not str or len(item) != 3:
            return None
    content, parts = item.get("content"), item.get("parts")
    if type(content) is str:
        if not content or content[0] in "[{" or content[:40].lstrip()[:1] in ("[", "{"):
            return None
        parts = [{"type": "text", "content": content}]
    elif type(parts) is not list or not all(map(_is_plain_text, parts)):
        return None
    message: Message = {"role": role, "parts": parts}
    if reason:
        message["finish_reason"] = FINISH_REASONS.get(reason, reason)
    return message


def _is_plain_text(block: Any) -> bool:
    return type(block) is dict and len(block) == 2 and block.get("type") == "text" and type(block.get("content")) is str


def _one_for_each_answer(found: Iterable[tuple[Message, bool]]) -> list[Message]:
    """Items of a response that stand beside messages (calls, reasoning) belong to the answer next to them."""
    messages: list[Message] = []
    joins = False
    for message, is_item in found:
        last = messages[-1] if messages else None
        if last is not None and (joins or is_item) and last["role"] == message["role"] == "assistant":
            messages[-1] = {**last, "parts": [*last["parts"], *message["parts"]]}
        else:
            messages.append(message)
        joins = is_item
    return messages


# -- one message --------------------------------------------------------------------------------------------------------


def _is_message(value: Mapping[str, Any]) -> bool:
    if isinstance(value.get("role"), str) and any(key in value for key in _BODY):
        return True
    kind = value.get("type")
    if _is_item(value) or (isinstance(kind, str) and kind in _TYPES and ("content" in value or "data" in value)):
        return True
    return ("kwargs" in value and _class_name(value) in _TYPES) or _is_flattened(value)


def _is_item(value: Mapping[str, Any]) -> bool:
    """Whether it is an item of OpenAI's responses that is no message."""
    kind = value.get("type")
    return isinstance(kind, str) and kind in _ITEMS


def _is_flattened(value: Mapping[str, Any]) -> bool:
    """OpenInference's ``llm.input_messages.N.message.*`` as nested objects, or a choice with its message."""
    inner = value.get("message")
    return isinstance(inner, dict) and ("role" in inner or any(key in inner for key in _BODY))


def _class_name(value: Mapping[str, Any]) -> str:
    """Of LangChain's serialized objects: ``{"lc": 1, "id": [..., "HumanMessage"], "kwargs": {...}}``."""
    path = value.get("id")
    return path[-1] if isinstance(path, list) and path and isinstance(path[-1], str) and "lc" in value else ""


def _message(value: Any, role: str) -> Message:
    if not isinstance(value, dict):
        return _as_text_message(value, role)
    outer = value
    if _is_flattened(value):
        value = value["message"]
    elif isinstance(value.get("kwargs"), dict) and "lc" in value:
        value = {"type": _TYPES.get(_class_name(value), ""), **value["kwargs"]}
    elif isinstance(value.get("data"), dict) and "type" in value:
        value = {**value["data"], "type": value["type"]}
    said_by = _role(value, role)
    message: Message = {"role": said_by, "parts": _parts(value, said_by)}
    name = value.get("name")
    if isinstance(name, str) and name and said_by != "tool" and not _is_item(value):
        message["name"] = name
    reason = _finish_reason(outer) or (None if outer is value else _finish_reason(value))
    if reason is not None:
        message["finish_reason"] = reason
    return message


def _role(value: Mapping[str, Any], role: str) -> str:
    found = value.get("role")
    if isinstance(found, str) and found:
        return ROLES.get(found, found)
    kind = value.get("type")
    return (_TYPES.get(kind) or _ITEMS.get(kind) or role) if isinstance(kind, str) else role


def _finish_reason(value: Mapping[str, Any]) -> str | None:
    for key in _FINISH_KEYS:
        found = value.get(key)
        if isinstance(found, str) and found:
            return FINISH_REASONS.get(found, found)
    return None


def _parts(value: Mapping[str, Any], role: str) -> list[Part]:
    if _is_item(value):
        return [part(value)]
    content = next((value[key] for key in ("parts", "content", "contents") if value.get(key) is not None), None)
    call_id = value.get("tool_call_id")
    if role == "tool" and (call_id is not None or "name" in value) and not _holds_responses(content):
        return [{"type": "tool_call_response", "id": as_text(call_id), "response": only_text(content)}]
    parts = _content_parts(content)
    known = {made["id"] for made in parts if made["type"] == "tool_call"} - {None}
    calls = [part({**call, "type": "tool_call"}) for call in _dicts(value.get("tool_calls"))]
    parts += [call for call in calls if call["id"] not in known]  # LangChain's messages of Anthropic have them twice
    old_call = value.get("function_call")
    return [*parts, part({**old_call, "type": "function_call"})] if isinstance(old_call, dict) else parts


def _dicts(value: Any) -> Iterable[dict[str, Any]]:
    items = parsed(value)
    return (item for item in items if isinstance(item, dict)) if isinstance(items, list) else ()


def _holds_responses(content: Any) -> bool:
    return any(item.get("type") == "tool_call_response" for item in _dicts(content))


def _content_parts(content: Any) -> list[Part]:
    """Text, or JSON text of blocks (strands, Traceloop), or a list of blocks, or one block."""
    blocks = parsed(content)
    if (
        isinstance(blocks, list)
        and blocks
        and all(isinstance(item, str) or (isinstance(item, dict) and is_part(item)) for item in blocks)
    ):
        return [part(item) if isinstance(item, dict) else text_part(item) for item in blocks]
    if isinstance(blocks, dict) and not isinstance(content, str) and is_part(blocks):
        return [part(blocks)]
    return [] if content is None or content in ("", []) else [text_part(as_text(content))]


# -- what messages are wrapped in ---------------------------------------------------------------------------------------

Unwrap: TypeAlias = "Callable[[Any, Mapping[str, Any], str, int], Conversation | None]"


def _in_request(inner: Any, outer: Mapping[str, Any], role: str, depth: int) -> Conversation | None:  # noqa: ARG001
    """A list of messages, with system instructions beside it: Anthropic, OpenAI's responses, Google."""
    if isinstance(inner, str):
        messages: list[Message] | None = [_as_text_message(inner, role)]
    else:
        messages = _listed(inner if isinstance(inner, list) else [inner], role)
    return None if messages is None else Conversation(messages, _instructions(outer))


def _instructions(outer: Mapping[str, Any]) -> list[Part]:
    config = outer.get("config") or outer.get("generation_config")
    for holder in (outer, config if isinstance(config, dict) else {}):
        for key in ("system", "instructions", "system_instruction", "systemInstruction"):
            found = holder.get(key)
            if found:
                inner = found.get("parts", found) if isinstance(found, dict) else found
                return _content_parts(inner)
    return []


def _of_responses(inner: Any, outer: Mapping[str, Any], role: str, depth: int) -> Conversation | None:
    """``input`` of OpenAI's responses. Others call other things so: only a request names a model or instructions."""
    if isinstance(inner, list) or "model" in outer or "instructions" in outer:
        return _in_request(inner, outer, role, depth)
    return _inside(inner, outer, role, depth)


def _prompt(inner: Any, outer: Mapping[str, Any], role: str, depth: int) -> Conversation | None:
    return _in_request(inner, outer, role, depth) if "tools" in outer or "model" in outer else None


def _choices(inner: Any, outer: Mapping[str, Any], role: str, depth: int) -> Conversation | None:  # noqa: ARG001
    """Answers to choose from: each with its message, content or text, and why it ended."""
    messages = []
    for choice in _dicts(inner):
        answer = next((choice[key] for key in ("message", "content", "text", "delta") if choice.get(key) is not None), None)
        if answer is None:
            continue
        message = _plain_message(answer) or _message(answer, role)
        information = choice.get("generation_info")
        reason = _finish_reason(choice) or (_finish_reason(information) if isinstance(information, dict) else None)
        messages.append({**message, "finish_reason": reason} if reason else message)
    return Conversation(messages, []) if messages else None


def _generations(inner: Any, outer: Mapping[str, Any], role: str, depth: int) -> Conversation | None:
    """LangChain's results: a list of choices for each prompt."""
    flat = (
        [choice for some in inner for choice in (some if isinstance(some, list) else [some])] if isinstance(inner, list) else []
    )
    return _choices(flat, outer, role, depth)


def _of_event(inner: Any, outer: Mapping[str, Any], role: str, depth: int) -> Conversation | None:  # noqa: ARG001
    """A choice as a span event: the message is content, maybe as JSON text."""
    if "finish_reason" not in outer and not _BESIDE_MESSAGE.issuperset(outer):
        return None
    value = parsed(inner)
    message = _message(value, role) if isinstance(value, dict) else {"role": role, "parts": _content_parts(inner)}
    reason = _finish_reason(outer)
    return Conversation([{**message, "finish_reason": reason} if reason else message], [])


def _inside(inner: Any, outer: Mapping[str, Any], role: str, depth: int) -> Conversation | None:  # noqa: ARG001
    """What calls of functions are recorded with: only where messages are inside, for else what stands beside is lost."""
    value = parsed(inner)
    return None if isinstance(value, str) else _conversation(value, role, depth + 1)


_WRAPPERS: tuple[tuple[str, Unwrap], ...] = (
    ("messages", _in_request),
    ("contents", _in_request),
    ("choices", _choices),
    ("candidates", _choices),
    ("generations", _generations),
    ("message", _of_event),
    ("replies", _in_request),
    ("input", _of_responses),
    ("output", _inside),
    ("inputs", _inside),
    ("outputs", _inside),
    ("prompt", _prompt),
)
