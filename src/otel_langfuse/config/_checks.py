"""What a setting may be: each function takes text or a value of the right type, and returns the value.

Whatever cannot be raises ``ValueError`` or ``TypeError``; which setting it was meant for only the caller knows.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from otel_langfuse.model import MASK_PRESETS

_ENVIRONMENT: Final = re.compile(r"(?!langfuse)[a-z0-9_-]{1,40}")
"""What Langfuse accepts as a tracing environment (api.md 2.6)."""


def text(value: Any) -> str:
    """Text that is not blank and that a terminal can show, without blanks around it."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError
    return value.strip()


def key(value: Any) -> str:
    """ASCII text without spaces."""
    found = text(value)
    if not found.isascii() or " " in found:
        raise ValueError
    return found


def whole(low: int, high: int) -> Callable[[Any], int]:
    """Whole numbers within bounds."""

    def check(value: Any) -> int:
        number = int(value) if isinstance(value, str) else value
        if type(number) is float and number.is_integer():
            number = int(number)
        if type(number) is not int or not low <= number <= high:
            raise ValueError
        return number

    return check


def real(low: float, high: float) -> Callable[[Any], float]:
    """Numbers within bounds."""

    def check(value: Any) -> float:
        if isinstance(value, bool):
            raise TypeError
        number = float(value)
        if not low <= number <= high:  # also for nan
            raise ValueError
        return number

    return check


def truth(value: Any) -> bool:
    """A boolean, or a word for one."""
    if isinstance(value, bool):
        return value
    word = value.strip().lower()
    if word in ("true", "1", "yes", "on"):
        return True
    if word in ("false", "0", "no", "off"):
        return False
    raise ValueError


def one_of(*choices: str) -> Callable[[Any], str]:
    """One of some words, in any case."""

    def check(value: Any) -> str:
        word = str(value).strip().lower()
        if word not in choices:
            raise ValueError
        return word

    return check


def file(value: Any) -> str:
    """A file's path."""
    path = text(os.fspath(value))
    if path.endswith("/"):
        raise ValueError
    return path


def media_way(value: Any) -> str | None:
    """``send``, ``keep``, ``cut`` or ``off`` (Langfuse's switch, false), a folder or a URL; None for Langfuse's switch, true."""
    place = str(value).lower() if isinstance(value, bool) else text(os.fspath(value)).replace(os.sep, "/")
    word = place.lower()
    if word in ("send", "keep", "cut", "off"):
        return word
    if "/" in place and not set(place).intersection("\"'<>@?|\\"):  # it stands in texts, JSON among them
        return place.rstrip("/") or "/"
    return None if truth(place) else "off"


def checked_environment(value: Any) -> str:
    """The one rule for what may be an environment, at every door: settings, ``propagate_attributes``, baggage, trace updates.

    Raises:
        ValueError: Langfuse would not take it, or would store another one.
    """
    if not isinstance(value, str) or not _ENVIRONMENT.fullmatch(value):
        raise ValueError
    return value


def presets(value: Any) -> tuple[str, ...]:
    """Names of mask presets, with commas or in a sequence."""
    names = tuple(name.strip().lower() for name in (value.split(",") if isinstance(value, str) else value))
    if not set(names) <= set(MASK_PRESETS):
        raise ValueError
    return names


def filter_words(value: Any) -> tuple[str, ...]:
    """Words of a filter, with commas or in a sequence."""
    words = tuple(word.strip() for word in (value.split(",") if isinstance(value, str) else value))
    if not words or not all(word.removeprefix("!") and word.isprintable() for word in words):
        raise ValueError
    return words


def web_url(value: Any) -> str:
    """Checks an http(s) URL without credentials, query or fragment, and returns it without a slash at its end.

    Raises:
        ValueError: it is something else.
    """
    url = text(value)
    parts = urlsplit(url)
    plain = not (parts.username or parts.password or "@" in parts.netloc or parts.query or parts.fragment)
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain or " " in url:
        raise ValueError
    _ = parts.port  # raises for a port that is no port
    return url.rstrip("/")


def sqlite_path(base_url: str) -> str | None:
    """The file that a ``sqlite:///...`` URL names, or None for every other URL.

    As SQLAlchemy has it: three slashes before a path relative to the working directory, four before an absolute one.
    """
    prefix = "sqlite:///"
    return base_url[len(prefix) :] if base_url.startswith(prefix) else None


def destination(value: Any) -> str:
    """The URL of a server, or of a local store."""
    path = sqlite_path(text(value))
    if path is None:
        return web_url(value)
    if not path or path.endswith("/") or path == ":memory:":
        raise ValueError
    return text(value)
