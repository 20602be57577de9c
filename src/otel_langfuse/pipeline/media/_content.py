"""Media that are text: what the mask covers in texts, it covers in these, too. Images, sounds and binary documents stay."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Final

Clean = Callable[[str], str]
"""What may leave of a text; the same text where all of it may."""

_TEXTS: Final = re.compile(
    r"text/.*|.*[/+](?:json|xml|yaml|x-yaml|x-ndjson|jsonl|csv|javascript|x-javascript|rtf|toml|sql)", re.ASCII
)
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")


def cleaned(content: bytes, content_type: str, clean: Clean) -> bytes:
    """The content as the mask leaves it; the same object where it is no text, or all of it may leave.

    Text is what is called so, and whatever is UTF-8 without a NUL.
    """
    is_text = _TEXTS.fullmatch(content_type.partition(";")[0].strip().lower()) is not None
    encoding = _encoding(content, is_text=is_text)
    if encoding is None:
        return content
    text = content.decode(encoding)
    new = clean(text)
    return content if new == text else new.encode(encoding, "replace")


def _encoding(content: bytes, *, is_text: bool) -> str | None:
    if is_text and content.startswith(_UTF_16):
        return "utf-16" if _reads(content, "utf-16") else "latin-1"
    if (is_text or b"\0" not in content) and _reads(content, "utf-8"):
        return "utf-8"
    return "latin-1" if is_text else None


def _reads(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def as_base64(content: bytes) -> str:
    """Standard base64."""
    return base64.b64encode(content).decode()
