"""One part of a message, of any provider, in the form of OpenTelemetry's GenAI conventions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ._json import as_text, parsed, to_json

Part: TypeAlias = "dict[str, Any]"
Block: TypeAlias = "Mapping[str, Any]"


def text_part(content: Any) -> Part:
    return {"type": "text", "content": content if isinstance(content, str) else as_text(content) or ""}


def is_part(block: Block) -> bool:
    """Whether ``part`` knows this form."""
    kind = block.get("type")
    return kind in _BY_TYPE if isinstance(kind, str) else any(key in block for key, _ in _BY_KEY)


def part(block: Block) -> Part:
    """The part, in the conventions' form. What has another ``type`` stays as it is, anything else becomes text."""
    kind = block.get("type")
    if isinstance(kind, str) and kind:
        read = _BY_TYPE.get(kind)
        return dict(block) if read is None else read(block)
    for key, read in _BY_KEY:
        if key in block:
            return read(block)
    return text_part(to_json(block))


# -- text ---------------------------------------------------------------------------------------------------------------


def _text(block: Block) -> Part:
    if block.get("thought") is True:  # Google
        return _reasoning(block)
    return text_part(_first(block, "text", "content", "refusal") or "")


def _reasoning(block: Block) -> Part:
    found = next((block[key] for key in ("content", "thinking", "text", "summary") if block.get(key)), "")
    if isinstance(found, list):
        found = "\n".join(str(item.get("text", "")) if isinstance(item, dict) else str(item) for item in found)
    return {"type": "reasoning", "content": found if isinstance(found, str) else to_json(found)}


def _reasoning_content(block: Block) -> Part:
    inner = block["reasoningContent"]
    text = inner.get("reasoningText", inner) if isinstance(inner, dict) else inner
    return _reasoning(text if isinstance(text, dict) else {"text": text})


# -- tools --------------------------------------------------------------------------------------------------------------


# OpenAI's responses have an id of the item beside the call's.
_IDS = ("call_id", "id", "tool_use_id", "toolUseId", "toolCallId", "ref")


def _first(block: Block, *keys: str) -> Any:
    return next((block[key] for key in keys if block.get(key) is not None), None)


def _tool_call(block: Block) -> Part:
    """A call in any form: its name and arguments beside its id, or under ``function``."""
    inner = block.get("function")
    holder: Block = {**block, **inner} if isinstance(inner, dict) else block
    arguments = _first(holder, "arguments", "args", "input")
    name = as_text(_first(holder, "name", "toolName")) or ""
    return {"type": "tool_call", "id": as_text(_first(block, *_IDS)), "name": name, "arguments": parsed(arguments)}


def _tool_result(block: Block) -> Part:
    result = _first(block, "response", "result", "content", "output")
    return {"type": "tool_call_response", "id": as_text(_first(block, *_IDS)), "response": only_text(result)}


def only_text(result: Any) -> Any:
    """A list of blocks of text as their text; anything else as it is."""
    if isinstance(result, list) and result and all(isinstance(item, dict) and _is_text(item) for item in result):
        return "".join(_text(item)["content"] for item in result)
    return result


def _is_text(block: Block) -> bool:
    kind = block.get("type")
    return _BY_TYPE.get(kind) is _text if isinstance(kind, str) else "text" in block


def _under(key: str, read: Callable[[Block], Part]) -> Callable[[Block], Part]:
    """A part whose content stands under a key of its own: ``{"toolUse": {...}}``."""

    def inner(block: Block) -> Part:
        value = block[key]
        return read(value) if isinstance(value, dict) else text_part(value)

    return inner


def _nested_content(block: Block) -> Part:
    """OpenInference: ``message_content.type``, ``.text``, ``.image.image.url``, and a call beside it."""
    if isinstance(block.get("tool_call"), dict):
        return _tool_call(block["tool_call"])
    inner = block.get("message_content")
    return part(inner) if isinstance(inner, dict) and isinstance(inner.get("type"), str) else text_part(inner)


# -- media --------------------------------------------------------------------------------------------------------------


def _media(modality: str, *keys: str) -> Callable[[Block], Part]:
    """An image, sound or file by its address, which may be a data URI, or by its data."""

    def read(block: Block) -> Part:
        found: Any = block
        for key in keys:
            found = next(
                (found[name] for name in (key, "source") if isinstance(found, dict) and found.get(name) is not None), found
            )
        return _located(found, modality) or _unknown(block)

    return read


def _unknown(block: Block) -> Part:
    return dict(block) if isinstance(block.get("type"), str) else text_part(to_json(block))


def _located(found: Any, modality: str) -> Part | None:
    if isinstance(found, str):
        return _by_address(found, modality)
    if not isinstance(found, dict):
        return None
    for key in ("url", "uri", "fileUri", "file_uri"):
        if isinstance(found.get(key), str):
            return _by_address(found[key], modality)
    mime_type = next((found[key] for key in ("media_type", "mime_type", "mimeType", "format") if found.get(key)), None)
    for key in ("data", "bytes"):
        if isinstance(found.get(key), str):
            return {"type": "blob", "modality": _modality(mime_type, modality), "mime_type": mime_type, "content": found[key]}
    return None


def _by_address(address: str, modality: str) -> Part:
    if address.startswith("data:"):
        head, comma, data = address[5:].partition(",")
        if comma:
            mime_type = head.partition(";")[0] or None
            return {"type": "blob", "modality": _modality(mime_type, modality), "mime_type": mime_type, "content": data}
    return {"type": "uri", "modality": modality, "uri": address}


def _modality(mime_type: Any, otherwise: str) -> str:
    kind = mime_type.partition("/")[0] if isinstance(mime_type, str) else ""
    return kind if kind in ("image", "audio", "video") else otherwise


_same: Callable[[Block], Part] = dict

_BY_TYPE: dict[str, Callable[[Block], Part]] = {
    **dict.fromkeys(("text", "input_text", "output_text", "refusal", "summary_text"), _text),
    **dict.fromkeys(("reasoning", "thinking"), _reasoning),
    **dict.fromkeys(("tool_call", "tool_use", "tool-call", "function_call", "function"), _tool_call),
    **dict.fromkeys(("tool_call_response", "tool_result", "tool-result", "function_call_output"), _tool_result),
    **dict.fromkeys(("image_url", "input_image"), _media("image", "image_url")),
    "image": _media("image", "image", "image"),
    "audio": _media("audio", "audio", "audio"),
    "video": _media("video", "video", "video"),
    "document": _media("document", "source"),
    "image-url": _media("image"),  # pydantic-ai's names for two of the conventions' parts
    "binary": lambda block: (
        _located({"mime_type": block.get("media_type"), "data": block.get("content")}, "document") or dict(block)
    ),
    **dict.fromkeys(("blob", "uri", "file", "server_tool_call", "server_tool_call_response", "compaction"), _same),
    **dict.fromkeys(("server_tool_use", "redacted_thinking", "input_audio", "input_file"), _same),
}
_BY_KEY: tuple[tuple[str, Callable[[Block], Part]], ...] = (
    ("message_content", _nested_content),
    ("tool_call", _nested_content),
    ("text", _text),
    ("toolUse", _under("toolUse", _tool_call)),
    ("toolResult", _under("toolResult", _tool_result)),
    ("functionCall", _under("functionCall", _tool_call)),
    ("function_call", _under("function_call", _tool_call)),
    ("functionResponse", _under("functionResponse", _tool_result)),
    ("function_response", _under("function_response", _tool_result)),
    ("toolRequest", _under("toolRequest", _tool_call)),
    ("toolResponse", _under("toolResponse", _tool_result)),
    ("media", _media("image", "media")),
    ("inlineData", _media("image", "inlineData")),
    ("inline_data", _media("image", "inline_data")),
    ("fileData", _media("document", "fileData")),
    ("file_data", _media("document", "file_data")),
    ("reasoningContent", _reasoning_content),
)
