"""Hostile text made harmless for a terminal, and what an input or an output says in one line.

Everything that a span carries may come from a model, a web page or an attacker: no escape sequence, no control character, no
change of direction and no invisible character of it may reach the terminal as itself.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from otel_langfuse.model import Json

MAX_LINE = 1000
"""Characters of a text that are looked at for one line of output; no terminal is as wide."""

_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control, format (bidi, zero width, tags), surrogates, line and paragraph ends
_JOINERS = "\u200c\u200d"  # needed inside words of several scripts and inside emoji; they act on their neighbours only
_MARKS_IN_A_ROW = 4


def plain(value: Json) -> str:
    r"""``value`` as one line of printable text: ``\x1b`` becomes ``␛``, an invisible character ``�``.

    Texts longer than ``MAX_LINE`` characters are cut. Never empty space at either end.
    """
    text = value if isinstance(value, str) else "" if value is None else compact(value)
    text = text[:MAX_LINE]
    return (text if text.isascii() and text.isprintable() else "".join(_seen(text))).strip()


def _seen(text: str) -> Iterator[str]:
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if character == "\t" or category == "Zs":
            yield " "
        elif category in _UNSEEN and character not in _JOINERS:
            yield chr(0x2400 + ord(character)) if character < " " else "\N{REPLACEMENT CHARACTER}"
        elif marks <= _MARKS_IN_A_ROW:  # a tower of accents covers the lines above it
            yield character


def compact(value: Json, limit: int = MAX_LINE) -> str:
    """JSON text without spaces to spare, or its beginning: a large value is not encoded beyond what is shown."""
    written, length = [], 0
    try:
        for part in json.JSONEncoder(ensure_ascii=False, default=str).iterencode(value):
            written.append(part[:limit])
            length += len(part)
            if length > limit:
                break
    except (ValueError, TypeError, RecursionError):
        written.append("…")
    return "".join(written)


def first_line(text: str) -> str:
    """The first line that is not empty, and a mark where others follow."""
    lines = text[: MAX_LINE * 4].lstrip().splitlines()
    if not lines:
        return ""
    return lines[0].rstrip() + (" ⏎ …" if any(line.strip() for line in lines[1:]) else "")


# -- messages ----------------------------------------------------------------------------------------------------------


def of_input(value: Json) -> str:
    """An input in one line: of messages the last one of the user, and what tools answered since; else its first line."""
    messages = _messages(value)
    if messages is None:
        return _anything(value)
    last = next((i for i in reversed(range(len(messages))) if messages[i].get("role") == "user"), None)
    if last is None:
        return _said(messages[-1]) if messages else ""
    answers = sum(1 for message in messages[last + 1 :] if message.get("role") == "tool")
    note = f"  (+ {answers} tool result{'s' * (answers > 1)})" if answers else ""
    return _said(messages[last]) + note


def of_output(value: Json) -> str:
    """An output in one line: of messages what the last one says, and the tools that it calls; else its first line."""
    messages = _messages(value)
    return _said(messages[-1]) if messages else _anything(value)


def _anything(value: Json) -> str:
    if value is None:
        return ""
    return plain(first_line(value)) if isinstance(value, str) else plain(value)


def _messages(value: Json) -> list[Mapping[str, Any]] | None:
    """The messages in a value, in whichever of the usual shapes they are; None where it is something else."""
    value = _parsed(value)
    if isinstance(value, Mapping):
        inner = value.get("messages", value.get("choices"))
        if isinstance(inner, list):
            value = inner
        elif "role" in value or "tool_calls" in value:
            value = [value]
    if not isinstance(value, list):
        return None
    found = [_unwrapped(item) for item in value]
    return found if found and all(_is_message(message) for message in found) else None


def _parsed(value: Json) -> Json:
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _unwrapped(item: Json) -> Any:
    item = _parsed(item)
    inner = item.get("message") if isinstance(item, Mapping) else None  # a choice of OpenAI's, an item of OpenInference's
    return inner if isinstance(inner, Mapping) else item


def _is_message(item: Any) -> bool:
    return isinstance(item, Mapping) and ("role" in item) and any(key in item for key in ("content", "parts", "tool_calls"))


def _said(message: Mapping[str, Any]) -> str:
    """What one message says: its text, then its tool calls as ``→ name(arguments)``."""
    body = message.get("content")
    parts = body if isinstance(body, list) else message.get("parts")
    pieces = [body] if isinstance(body, str) else []
    pieces += [_part(_parsed(part)) for part in (parts if isinstance(parts, list) else [])]
    calls = message.get("tool_calls")
    pieces += [_call(_parsed(call)) for call in (calls if isinstance(calls, list) else [])]
    text = "  ".join(first_line(piece) for piece in pieces if piece)
    return plain(text) if text else plain(body)


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        return compact(part)
    kind = part.get("type")
    if kind in ("tool_call", "tool_use", "function_call", "toolCall"):
        return _call(part)
    said = _first(part, ("text", "content", "response", "result"))
    if said is not None:
        return said if isinstance(said, str) else compact(said)
    return f"[{kind}]" if isinstance(kind, str) else compact(part)


def _call(call: Any) -> str:
    """``→ name(arguments)``, from OpenAI's, Anthropic's or OpenTelemetry's shape of a tool call."""
    if not isinstance(call, Mapping):
        return compact(call)
    inner = call.get("function")
    call = inner if isinstance(inner, Mapping) else call
    arguments = _parsed(_first(call, ("arguments", "input", "args")))
    if isinstance(arguments, Mapping):
        said = ", ".join(f"{key}={compact(value, 200)}" for key, value in arguments.items())
    else:
        said = "" if arguments is None else compact(arguments, 200)
    name = _first(call, ("name", "toolName"))
    return f"→ {name if isinstance(name, str) else '?'}({said})"


def _first(mapping: Mapping[str, Any], keys: Iterable[str]) -> Any:
    return next((mapping[key] for key in keys if mapping.get(key) is not None), None)
