"""The shapes in which providers and frameworks put base64 beside, not inside of, a data URI. A table, and who reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import orjson

from otel_langfuse.media import OTHER_TYPE, decoded, sniffed_type

MIN_PAYLOAD: Final = 16
"""Characters of base64 in a shape, at least: 12 bytes, which is less than any image, sound or document has."""

_TYPE_KEYS: Final = ("media_type", "mime_type", "mediaType", "mimeType", "content_type", "contentType")

PARTS: Final = frozenset(
    (
        *("audio", "base64", "binary", "blob", "document", "file", "file-data", "image", "image-data", "image_generation_call"),
        *("input_audio", "input_file", "input_image", "media", "video"),
    )
)
"""Values of ``type`` by which a part says that it holds media."""

_MODALITIES: Final = {"image": "image/png", "audio": "audio/wav", "video": "video/mp4", "document": "application/pdf"}

_FORMATS: Final = {
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "opus": "audio/opus",
    "ogg": "audio/ogg",
    "aac": "audio/aac",
    "m4a": "audio/mp4",
    "webm": "video/webm",
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "mkv": "video/x-matroska",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "svg": "image/svg+xml",
    "pdf": "application/pdf",
}
"""A provider's ``format`` -> content type."""

_ENDINGS: Final = {
    **_FORMATS,
    "csv": "text/csv",
    "txt": "text/plain",
    "html": "text/html",
    "md": "text/markdown",
    "json": "application/json",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
"""The ending of a ``filename`` -> content type."""


class Row(NamedTuple):
    """``key`` holds base64 where the item names a content type, or is one of ``PARTS`` if ``in_part`` says that it must be.

    ``sniff``: also where no content type is named, if the content itself tells, or else as ``default``. ``beside``: only where
    this key is there, too.
    """

    key: str
    in_part: bool = False
    sniff: bool = False
    default: str = ""
    beside: str = ""


_ROWS: Final = (
    Row("data", beside="transcript", sniff=True, default="audio/wav"),  # OpenAI: audio of an answer
    Row(
        "data"
    ),  # Anthropic and Vertex {type, media_type}, Gemini inline_data, OpenAI input_audio {format}, LangChain, MCP, Vercel
    Row("data", in_part=True, sniff=True),  # Vercel's file part without a type
    Row("content", in_part=True, sniff=True, default=OTHER_TYPE),  # OpenTelemetry's blob, Pydantic AI's binary
    Row("image", in_part=True, sniff=True),  # Vercel's image part
    Row("result", in_part=True, sniff=True, default="image/png"),  # OpenAI Responses: image_generation_call
    Row("base64"),  # LangChain 1
    Row("base64", in_part=True, sniff=True),
    Row("bytes"),  # A2A
    Row("bytes", sniff=True),  # Bedrock
    Row("blob"),  # MCP: a resource
    Row("file_data", sniff=True),  # OpenAI: a file part that holds bare base64
    Row("b64_json", sniff=True, default="image/png"),  # OpenAI: a generated image
)
KEYS: Final = frozenset(row.key for row in _ROWS)
ONLY_IN_PARTS: Final = KEYS - {row.key for row in _ROWS if not row.in_part}
LIST: Final = "images"
"""The key of a list of bare base64, in Ollama's messages."""


def media_in(item: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Of one mapping: (key, content type, base64 text or bytes) for what of it is media."""
    if KEYS.isdisjoint(item):
        return
    done: set[str] = set()
    for row in _ROWS:
        payload = item.get(row.key)
        if row.key not in done and _may_be(payload) and (content_type := _type_of(item, row, payload)):
            done.add(row.key)
            yield row.key, content_type, payload


def part_of(bare: str | bytes) -> dict[str, Any]:
    """A part, as ``media_in`` takes it, for a bare payload in a list under ``LIST``."""
    return {"type": "image", "image": bare}


def all_media_in(parsed: Any, may_hold: Any) -> Iterator[tuple[str, str]]:
    """(content type, base64 text) of everything in a JSON value that is media, JSON within its texts included.

    Args:
        parsed: what ``orjson`` read.
        may_hold: whether it is worth the while to look into a text, which is then read as JSON.
    """
    todo: list[tuple[Any, int]] = [(parsed, 0)]
    while todo:
        value, depth = todo.pop()
        if type(value) is str:
            if depth < _MAX_INNER and len(value) >= MIN_PAYLOAD and may_hold(value) and (inner := read_json(value)) is not None:
                todo.append((inner, depth + 1))
            continue
        if type(value) is dict:
            yield from ((content_type, payload) for _, content_type, payload in media_in(value) if type(payload) is str)
            listed = value.get(LIST)
            if type(listed) is list:
                todo.extend((part_of(bare), depth) for bare in listed if type(bare) is str)
            value = value.values()
        todo.extend((inner, depth) for inner in value if type(inner) in _LOOKED_INTO)


_LOOKED_INTO: Final = frozenset({str, dict, list})
_MAX_INNER: Final = 4
"""Levels of JSON text within JSON text; each is longer than the one in it, so reading them all is linear."""


def read_json(text: str) -> Any:
    """The list, mapping or text that a JSON text holds; None if it holds none."""
    try:
        inner = orjson.loads(text)
    except ValueError:
        try:  # what Python writes and JSON does not allow: NaN, half of an emoji
            inner = json.loads(text)
        except (ValueError, RecursionError):
            return None
    return inner if type(inner) in _LOOKED_INTO else None


def _may_be(payload: Any) -> bool:
    if isinstance(payload, bytes):
        return bool(payload)
    return isinstance(payload, str) and len(payload) >= MIN_PAYLOAD and not payload.startswith(("data:", "@@@", "http"))


def _type_of(item: Mapping[str, Any], row: Row, payload: Any) -> str | None:
    kind = item.get("type")
    if kind == "text":  # Anthropic: a document's source that is text, with a media type
        return None
    if row.in_part and not (isinstance(kind, str) and kind in PARTS):
        return None
    if row.beside and row.beside not in item:
        return None
    return _declared(item) or (_sniffed(payload) or _by_modality(item) or row.default or None if row.sniff else None)


def _declared(item: Mapping[str, Any]) -> str | None:
    for key in _TYPE_KEYS:
        value = item.get(key)
        if isinstance(value, str) and "/" in value and len(value) < 200:
            return value
    named, file = item.get("format"), item.get("filename") or item.get("file_name")
    if isinstance(named, str) and named.lower() in _FORMATS:
        return _FORMATS[named.lower()]
    return _ENDINGS.get(file[-8:].rpartition(".")[2].lower()) if isinstance(file, str) else None


def _by_modality(item: Mapping[str, Any]) -> str | None:
    modality = item.get("modality")
    return _MODALITIES.get(modality) if isinstance(modality, str) else None


def _sniffed(payload: Any) -> str | None:
    if isinstance(payload, bytes):
        return sniffed_type(payload[:16])
    head = decoded(payload[:24])
    return None if head is None else sniffed_type(head)
