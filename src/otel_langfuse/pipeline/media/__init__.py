"""Lifts images, sounds and documents out of a span's texts, after the mask, with a reference in their place. Pure.

Documents that are text are masked before (``_content``), also where media are kept where they are.

Looked through are the attributes of spans and of span events, at any depth: data URIs in any text, the providers' shapes in JSON
(``_shapes``), and bare bytes. What is no valid base64 stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib import import_module
from typing import Any, Final, Literal, NamedTuple

from otel_langfuse.media import (
    OTHER_TYPE,
    accepted_type,
    decoded,
    media_id_of,
    reference_to,
    sha256_of,
    sniffed_type,
)
from otel_langfuse.model import Attributes, Media, Span, SpanEvent

from ._content import Clean, as_base64, cleaned
from ._shapes import LIST, media_in, part_of
from ._text import MIN_TEXT, may_hold_media, replaced

__all__ = ["KEEP", "Lifting", "lift", "load_fields", "marker", "may_hold_media", "settled"]

_MAX_DEPTH: Final = 64
_MIN_BARE_BYTES: Final = 256
"""Bytes that say neither what they are nor are text are media from here on; shorter ones are ids and the like."""

_PLACED: Final = re.compile(r"@@@langfuseMedia:[^@]+@@@|<media: [^<>]+>")


class Lifting(NamedTuple):
    """How media leave.

    ``send``: as Langfuse media, with a reference. ``cut``: not at all, with a marker that names content type, size and hash.
    ``write``: to ``folder``, with a marker that names the file. ``max_bytes``: what is larger is neither sent nor written, and
    the marker says so. ``keep``: within the texts, where they are. ``clean`` masks media that are text; None: nothing is masked.
    """

    way: Literal["send", "cut", "write", "keep"]
    max_bytes: int
    folder: str = ""
    clean: Clean | None = None


KEEP: Final = Lifting("keep", 1 << 62)
"""For a mask alone: see ``Lifting.clean``."""


def load_fields() -> None:
    """Loads the conventions, which say what is input and output. Who will need it calls this when it is made."""
    import_module("._fields", __package__)


def lift(spans: Sequence[Span], lifting: Lifting) -> list[Span]:
    """The spans with references for media, and the media in ``Span.media``; the same object where there is none.

    Args:
        spans: of one batch, masked.
        lifting: how. Media that several spans hold share their bytes.
    """
    work = _Work(lifting)
    return [work.span(span) for span in spans]


def settled(span: Span, markers: Mapping[str, str]) -> Span:
    """The span without media, and with markers instead of those references (reference -> marker) that would lead nowhere."""
    if not markers:
        return span._replace(media=())

    def value(old: Any, depth: int = 0) -> Any:
        if isinstance(old, str):
            return _PLACED.sub(lambda place: markers.get(place[0], place[0]), old) if len(old) >= MIN_TEXT else old
        if isinstance(old, Mapping) and depth < _MAX_DEPTH:
            return {key: value(item, depth + 1) for key, item in old.items()}
        if isinstance(old, Sequence) and not isinstance(old, bytes) and depth < _MAX_DEPTH:
            return tuple(value(item, depth + 1) for item in old)
        return old

    events = tuple(event._replace(attributes=value(event.attributes)) for event in span.events)
    return span._replace(attributes=value(span.attributes), events=events, media=())


def marker(media: Media, why: str) -> str:
    """What stands in a text for media that could not be sent; ``why`` is a ``DropReason``."""
    return _described(media.content_type, media.size_bytes, media.sha256, f"media not sent: {why}")


def _described(content_type: str, size_bytes: int, sha256_base64: str, what: str, where: str = "") -> str:
    parts = [f"{what}: {content_type}", f"{size_bytes:,} bytes"]
    if sha256_base64:
        parts.append(f"sha256 {sha256_base64}")
    return f"<{', '.join(parts)}{where and f', in {where}'}>"


class _Work:
    """One batch's lifting: what was found, and where we are just now."""

    def __init__(self, lifting: Lifting) -> None:
        self._lifting = lifting
        self._contents: dict[str, bytes] = {}
        self._found: dict[tuple[str, str, str | None], Media] = {}
        self._span: Any = None
        self._key = ""
        self._event: str | None = None

    def span(self, span: Span) -> Span:
        self._span, self._event, self._found = span, None, {}
        attributes = self._attributes(span.attributes)
        events = tuple(self._in_event(event) for event in span.events) if span.events else span.events
        if attributes is span.attributes and all(new is old for new, old in zip(events, span.events, strict=True)):
            return span
        return span._replace(attributes=attributes, events=events, media=tuple(self._found.values()))

    def _in_event(self, event: SpanEvent) -> SpanEvent:
        self._event = event.name
        attributes = self._attributes(event.attributes)
        return event if attributes is event.attributes else event._replace(attributes=attributes)

    def _attributes(self, attributes: Attributes) -> Attributes:
        changed: dict[str, Any] = {}
        for key, value in attributes.items():
            kind = type(value)
            if kind is str:
                if len(value) < MIN_TEXT:
                    continue
            elif kind in _PLAIN:
                continue
            self._key = key
            new = self._value(value, 0)
            if new is not value:
                changed[key] = new
        return {**attributes, **changed} if changed else attributes

    def _value(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return replaced(value, self._take, self._in_uri) if len(value) >= MIN_TEXT else value
        if isinstance(value, bytes):
            return self._bare(value)
        if depth >= _MAX_DEPTH:
            return value
        if isinstance(value, Mapping):
            return self._mapping(value, depth)
        if isinstance(value, Sequence):
            items = tuple(self._value(item, depth + 1) for item in value)
            return value if all(new is old for new, old in zip(items, value, strict=True)) else items
        return value

    def _mapping(self, value: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
        """A mapping that is not JSON text but the attribute itself, as OTLP and newer SDKs have them."""
        done: dict[str, Any] = {
            key: new for key, kind, payload in media_in(value) if (new := self._payload(kind, payload)) is not None
        }
        inner: dict[str, Any] = {}
        for key, item in value.items():
            if key in done:
                inner[key] = done[key]
            elif key == LIST and isinstance(item, (list, tuple)):
                items = tuple(self._listed(one, depth + 1) for one in item)
                inner[key] = item if all(new is old for new, old in zip(items, item, strict=True)) else items
            else:
                inner[key] = self._value(item, depth + 1)
        return value if all(inner[key] is value[key] for key in inner) else inner

    def _listed(self, value: Any, depth: int) -> Any:
        if isinstance(value, (str, bytes)):
            for _, kind, payload in media_in(part_of(value)):
                if (new := self._payload(kind, payload)) is not None:
                    return new
        return self._value(value, depth)

    def _payload(self, content_type: str, payload: Any) -> Any:
        if not isinstance(payload, bytes):
            return self._take(content_type, payload)
        if self._lifting.way == "keep":
            return self._cleaned(content_type, payload)
        return self._placed(content_type, self._cleaned(content_type, payload), "bytes")

    def _bare(self, value: bytes) -> Any:
        content_type = sniffed_type(value[:16])
        if content_type is None:
            if len(value) < _MIN_BARE_BYTES or _is_text(value):
                return value
            content_type = OTHER_TYPE
        return self._payload(content_type, value)

    def _in_uri(self, content_type: str, payload: str) -> str | None:
        """What stands for a whole data URI."""
        new = self._take(content_type, payload)
        return new if new is None or self._lifting.way != "keep" else f"data:{content_type};base64,{new}"

    def _cleaned(self, content_type: str, content: bytes) -> bytes:
        return content if self._lifting.clean is None else cleaned(content, content_type, self._lifting.clean)

    def _take(self, content_type: str, payload: str) -> str | None:
        """What stands in a text for base64; None where it is none, and stays."""
        size = len(payload) * 3 // 4
        if size > self._lifting.max_bytes:
            return self._too_large(content_type, size)
        content = decoded(payload)
        if not content:
            return None
        new = self._cleaned(content_type, content)
        if self._lifting.way == "keep":
            return None if new is content else as_base64(new)
        return self._placed(content_type, new, "base64_data_uri")

    def _placed(self, content_type: str, content: bytes, source: str) -> str:
        accepted = accepted_type(content_type)
        if len(content) > self._lifting.max_bytes:
            return self._too_large(content_type, len(content))
        digest = sha256_of(content)
        if self._lifting.way == "cut":
            return _described(accepted, len(content), digest, "media")
        if self._lifting.way == "send":
            reference = reference_to(accepted, media_id_of(digest), source)
        else:
            place = f"{self._lifting.folder}/{file_name(accepted, content)}"
            reference = _described(accepted, len(content), digest, "media", place)
        self._note(reference, accepted, self._contents.setdefault(digest, content), len(content), digest)
        return reference

    def _too_large(self, content_type: str, size: int) -> str:
        accepted = accepted_type(content_type)
        if self._lifting.way == "cut":
            return _described(accepted, size, "", "media")
        text = _described(accepted, size, "", "media not sent: too_large")
        self._note(text, accepted, b"", size, "")
        return text

    def _note(self, reference: str, content_type: str, content: bytes, size: int, digest: str) -> None:
        from ._fields import field_of  # noqa: PLC0415 - loads the conventions, which OTLP as such does without

        field = field_of(self._key, self._event) if self._lifting.way == "send" else ""
        observation = None if self._key.startswith("langfuse.trace.") else self._span.span_id
        self._found.setdefault(
            (reference, field, observation),
            Media(reference, content_type, content, size, digest, field, self._span.trace_id, observation),
        )


_PLAIN: Final = frozenset({int, float, bool, type(None)})

_ENDINGS: Final = {
    "image/jpeg": "jpg",
    "image/svg+xml": "svg",
    "image/tiff": "tif",
    "audio/mpeg": "mp3",
    "audio/mp4": "m4a",
    "text/plain": "txt",
    "text/markdown": "md",
    "text/x-python": "py",
    "text/x-typescript": "ts",
    "video/quicktime": "mov",
    "application/javascript": "js",
    "application/msword": "doc",
    "application/vnd.ms-excel": "xls",
    "application/octet-stream": "bin",
}


def file_name(content_type: str, content: bytes) -> str:
    """The name of the file for a content: its SHA-256 in hexadecimal, with the ending that its type has."""
    subtype = content_type.rpartition("/")[2]
    office = {"sheet": "xlsx", "document": "docx", "presentation": "pptx"}
    ending = _ENDINGS.get(content_type) or office.get(subtype.rpartition(".")[2]) or subtype.rpartition("-")[2].rpartition(".")[2]
    return f"{sha256(content).hexdigest()}.{ending}"


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
