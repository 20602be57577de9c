"""Media as values: an image, a sound, a document that is recorded with an observation, and how texts refer to one. Pure.

Sources: api.md 6 (content types, ids, references), https://langfuse.com/docs/observability/features/multi-modality.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Any, Final

OTHER_TYPE: Final = "application/octet-stream"

_OFFICE: Final = "vnd.openxmlformats-officedocument"
CONTENT_TYPES: Final = frozenset(
    f"{kind}/{name}"
    for kind, names in {
        "image": "png jpeg jpg webp gif svg+xml tiff bmp avif heic",
        "audio": "mpeg mp3 wav ogg oga aac mp4 flac opus webm",
        "video": "mp4 webm ogg mpeg quicktime x-msvideo x-matroska",
        "text": "plain html css csv markdown x-python x-typescript",
        "application": "javascript x-yaml pdf msword vnd.ms-excel zip json xml octet-stream rtf x-ndjson vnd.apache.parquet "
        f"gzip x-tar x-7z-compressed {_OFFICE}.spreadsheetml.sheet {_OFFICE}.wordprocessingml.document "
        f"{_OFFICE}.presentationml.presentation",
    }.items()
    for name in names.split()
)
"""What Langfuse takes; anything else it refuses (api.md 6.2)."""

_ALIASES: Final = {
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/m4a": "audio/mp4",
    "audio/x-m4a": "audio/mp4",
    "audio/x-flac": "audio/flac",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "image/svg": "image/svg+xml",
    "image/heif": "image/heic",
    "text/javascript": "application/javascript",
    "text/xml": "application/xml",
    "text/yaml": "application/x-yaml",
    "application/yaml": "application/x-yaml",
    "application/x-pdf": "application/pdf",
    "application/x-gzip": "application/gzip",
    "application/jsonl": "application/x-ndjson",
    "video/avi": "video/x-msvideo",
}

_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"%PDF-", "application/pdf"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"\x1aE\xdf\xa3", "video/webm"),
)
_MAGIC_INSIDE: Final = (  # container, where its name begins, the name
    (b"RIFF", 8, b"WEBP", "image/webp"),
    (b"RIFF", 8, b"WAVE", "audio/wav"),
    (b"RIFF", 8, b"AVI ", "video/x-msvideo"),
    (b"BM", 6, b"\0\0\0\0", "image/bmp"),
    (b"", 4, b"ftypavif", "image/avif"),
    (b"", 4, b"ftyphei", "image/heic"),
    (b"", 4, b"ftypM4A", "audio/mp4"),
    (b"", 4, b"ftypqt", "video/quicktime"),
    (b"", 4, b"ftyp", "video/mp4"),
)

_DATA_URI: Final = re.compile(r"data:([^;,]*)((?:;[^;,]*)*);base64,", re.IGNORECASE)
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
_WHITE: Final = b" \t\r\n"
_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_REFERENCE: Final = re.compile(r"@@@langfuseMedia:type=([^|@]+)\|id=([^|@]+)\|source=([^|@]+)@@@")


def accepted_type(content_type: str) -> str:
    """The content type as Langfuse takes it: without parameters, under its usual name, or ``OTHER_TYPE``."""
    plain = content_type.partition(";")[0].strip().lower()
    plain = _ALIASES.get(plain, plain)
    if plain in CONTENT_TYPES:
        return plain
    return "text/plain" if plain.startswith("text/") else OTHER_TYPE


def sniffed_type(head: bytes) -> str | None:
    """What the first 16 bytes of an image, a sound, a film or a document say that it is; None where they say nothing."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    for container, at, inner, name in _MAGIC_INSIDE:
        if head.startswith(container) and head.startswith(inner, at):
            return name
    return None


def decoded(payload: str) -> bytes | None:
    """The bytes of base64, of the usual or the URL-safe alphabet, with or without padding; None if it is something else."""
    try:
        raw = payload.encode("ascii").translate(_URL_SAFE, _WHITE).rstrip(b"=")
    except UnicodeEncodeError:
        return None
    if len(raw) % 4 == 1 or raw.translate(None, _ALPHABET):
        return None
    try:
        return binascii.a2b_base64(raw + b"=" * (-len(raw) % 4))
    except binascii.Error:
        return None


def data_uri(content_type: str, content: bytes) -> str:
    """The content as RFC 2397 writes it."""
    return f"data:{content_type};base64,{base64.b64encode(content).decode()}"


def sha256_of(content: bytes) -> str:
    """The hash as Langfuse's API takes it: standard base64, 44 characters."""
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def media_id_of(sha256: str) -> str:
    """The id that Langfuse's server gives to content with this hash (api.md 6.1)."""
    return sha256.replace("+", "-").replace("/", "_")[:22]


def reference_to(content_type: str, media_id: str, source: str) -> str:
    """The text by which Langfuse finds media in inputs, outputs and metadata (api.md 6.3)."""
    return f"@@@langfuseMedia:type={content_type}|id={media_id}|source={source}@@@"


class LangfuseMedia:
    """An image, a sound, a document ... to be recorded in an input, an output or metadata. The same constructor as Langfuse's.

    Recorded, it is its data URI (``str(media)``), which is masked like any text and then, on the worker, sent as media, cut or
    written beside, as the setting ``media`` says. Made in the caller's thread; a file is read there.

    Args:
        obj: anything that it was made of; kept as ``obj``, not sent.
        base64_data_uri: ``data:image/png;base64,...``; or
        content_bytes: the content, with ``content_type``; or
        file_path: a file with the content, with ``content_type``, which may be left out where the content says it.
        content_type: a MIME type.

    It never raises: where nothing usable is given, ``problem`` says why and ``str(media)`` is a marker with that.
    """

    def __init__(
        self,
        *,
        obj: object = None,
        base64_data_uri: str | None = None,
        content_type: str | None = None,
        content_bytes: bytes | None = None,
        file_path: Any = None,
    ) -> None:
        self.obj = obj
        self.source: str | None = None
        self.problem = ""
        content, declared = None, content_type
        if base64_data_uri is not None:
            content, declared = self._parsed(base64_data_uri)
            self.source = "base64_data_uri"
        elif content_bytes is not None:
            content = self._checked(content_bytes)
            self.source = "bytes"
        elif file_path is not None:
            content = self._read(file_path)
            self.source = "file"
        else:
            self.problem = "none of base64_data_uri, content_bytes and file_path was given"
        if content is not None and not isinstance(declared, str):
            declared = sniffed_type(content[:16]) or OTHER_TYPE
        self.content_bytes: bytes | None = content
        self.content_type: str | None = None if content is None else declared

    @property
    def content_length(self) -> int | None:
        """Bytes of the content."""
        return None if self.content_bytes is None else len(self.content_bytes)

    @property
    def content_sha256_hash(self) -> str | None:
        """As the API takes it, see ``sha256_of``."""
        return None if self.content_bytes is None else sha256_of(self.content_bytes)

    @property
    def media_id(self) -> str | None:
        """The id that Langfuse gives to this content."""
        sha256 = self.content_sha256_hash
        return None if sha256 is None else media_id_of(sha256)

    @property
    def reference_string(self) -> str | None:
        """The text by which Langfuse finds it; None where there is no content."""
        if self.media_id is None or self.content_type is None or self.source is None:
            return None
        return reference_to(accepted_type(self.content_type), self.media_id, self.source)

    def __str__(self) -> str:
        if self.content_bytes is None or self.content_type is None:
            return f"<media not read: {self.problem}>"
        return data_uri(self.content_type, self.content_bytes)

    def __repr__(self) -> str:
        if self.content_bytes is None:
            return f"LangfuseMedia(<{self.problem}>)"
        return f"LangfuseMedia({self.content_type}, {len(self.content_bytes):,} bytes)"

    @staticmethod
    def parse_reference_string(reference_string: str) -> dict[str, str]:
        """The parts of a reference: ``media_id``, ``source`` and ``content_type``.

        Raises:
            ValueError: it is no reference.
        """
        match = _REFERENCE.fullmatch(reference_string) if isinstance(reference_string, str) else None
        if match is None:
            raise ValueError("expected @@@langfuseMedia:type=...|id=...|source=...@@@")
        return {"media_id": match[2], "source": match[3], "content_type": match[1]}

    def _parsed(self, uri: Any) -> tuple[bytes | None, str | None]:
        match = _DATA_URI.match(uri) if isinstance(uri, str) else None
        content = None if match is None else decoded(uri[match.end() :])
        if match is None or not content:
            self.problem = "base64_data_uri is no data URI with base64"
            return None, None
        return content, match[1] or "text/plain"

    def _checked(self, content: Any) -> bytes | None:
        if isinstance(content, (bytes, bytearray, memoryview)) and len(content):
            return bytes(content)
        self.problem = "content_bytes is empty" if isinstance(content, bytes) else "content_bytes holds no bytes"
        return None

    def _read(self, path: Any) -> bytes | None:
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - pathlib would be a second way to name a file
                return self._checked(file.read())
        except (OSError, TypeError, ValueError) as error:
            self.problem = f"{type(error).__name__} while reading the file"
            return None
