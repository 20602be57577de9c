"""JavaScript's ways with values, as far as Langfuse's server shows them.

The server is written in TypeScript, so what it stores depends on JavaScript's truthiness, its number formatting, its JSON
and its ``Number()``. All of that is here and nowhere else. Values are JSON values (str, bool, int, float, None, list,
dict); ``None`` stands for both ``null`` and ``undefined``. Source: ECMA-262 (sections named below) and mapping.md 1.5 and
18.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import orjson

MAX_SAFE_INTEGER = 2**53 - 1
_MAX_DEPTH = 200  # deeper values are cut: a hostile attribute must not exhaust the stack
# Sixteen digits in a row, the shortest integer that may be over 2**53, are looked for as sixteen zeros after every digit became
# one: measured at 1.4 ns a character, where a pattern takes 8 to 23.
_TO_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_SIXTEEN_ZEROS = b"0" * 16
_INDEX = re.compile(r"(?:0|[1-9]\d{0,9})\Z")  # an integer-like key of an object, which JavaScript lists first
_DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\Z", re.ASCII)
_ONLY_TEXT = {str}
_RADIX = {"0x": 16, "0o": 8, "0b": 2}
_RADIX_DIGITS = {16: re.compile(r"[0-9a-fA-F]+\Z"), 8: re.compile(r"[0-7]+\Z"), 2: re.compile(r"[01]+\Z")}
_LEADING_INTEGER = re.compile(r"\s*([+-]?\d+)", re.ASCII)
_WHITE_SPACE = " \t\n\r\v\f\u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(map(chr, range(0x2000, 0x200B)))


def truthy(value: Any) -> bool:
    """ToBoolean (7.1.2): unlike in Python, ``[]`` and ``{}`` are true."""
    return bool(value) or type(value) in (list, dict, tuple)


def number_text(value: float) -> str:
    """Number::toString (6.1.6.1.20): ``1.0`` is ``1``, ``1e21`` is ``1e+21``, ``1e-7`` stays."""
    if value != value:  # noqa: PLR0124 - NaN is the only value unequal to itself
        return "NaN"
    if value in (math.inf, -math.inf):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0:
        return "0"
    if isinstance(value, int) and abs(value) <= MAX_SAFE_INTEGER:
        return str(value)
    python = repr(float(value))
    if "e" not in python:  # then both languages write the same digits
        return python.removesuffix(".0")
    sign, digits, point = _digits(float(value))
    count = len(digits)
    if count <= point <= 21:
        return sign + digits + "0" * (point - count)
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    exponent = point - 1
    fraction = f".{digits[1:]}" if count > 1 else ""
    return f"{sign}{digits[0]}{fraction}e{'+' if exponent >= 0 else '-'}{abs(exponent)}"


_float_text = lru_cache(maxsize=1024)(number_text)  # temperatures and the like come again and again


def _digits(value: float) -> tuple[str, str, int]:
    """Sign, shortest round-trip digits, and the place of the decimal point among them."""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    leading = len(whole + fraction) - len(digits)
    point = len(whole) - leading + int(exponent or 0)
    return ("-" if value < 0 else ""), digits.rstrip("0") or "0", point


def text(value: Any) -> str:
    """String() (22.1.1.1)."""
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return number_text(value)
    if isinstance(value, (list, tuple)):
        return ",".join("" if item is None else text(item) for item in value)
    return "[object Object]"


def number(value: Any) -> float:
    """Number() (21.1.1.1): ``""`` is 0, ``"0x10"`` is 16, ``"1_000"`` is NaN. Whole numbers come back as int."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, (int, float)):
        return value
    if value is None:
        return 0
    stripped = text(value).strip(_WHITE_SPACE)
    if not stripped:
        return 0
    radix = _RADIX.get(stripped[:2].lower())
    if radix is not None:
        return int(stripped[2:], radix) if _RADIX_DIGITS[radix].match(stripped[2:]) else math.nan
    if stripped.lstrip("+-") == "Infinity" and len(stripped) <= len("-Infinity"):
        return -math.inf if stripped[0] == "-" else math.inf
    return whole(float(stripped)) if _DECIMAL.match(stripped) else math.nan


def parse_int(value: Any) -> float:
    """parseInt(value, 10) (19.2.5): the leading digits, or NaN."""
    found = _LEADING_INTEGER.match(text(value).strip(_WHITE_SPACE)[:400])
    return whole(float(found[1])) if found else math.nan


def whole(value: float) -> float:
    """A float that holds an integer exactly, as an int: JavaScript has one number type and writes ``1``."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= MAX_SAFE_INTEGER:
        return int(value)
    return value


def parse(source: Any) -> Any:
    """JSON.parse (25.5.1). Raises ValueError for what is not JSON, or not text.

    Integers beyond 2**53 lose precision as they do there. NaN and Infinity are not JSON.
    """
    if not isinstance(source, str):
        source = text(source)
    try:
        value = orjson.loads(source)
    except (orjson.JSONDecodeError, UnicodeEncodeError, RecursionError):
        value = _parse_slowly(source)
    has_long_number = _SIXTEEN_ZEROS in source.encode("utf-8", "surrogatepass").translate(_TO_ZEROS)
    return _rounded(value) if has_long_number else value


def _parse_slowly(source: str) -> Any:
    """What orjson refuses and JavaScript takes: lone surrogates, integers over 64 bits."""
    try:
        return json.loads(source, parse_constant=_refuse, parse_int=lambda digits: whole(float(digits)))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _rounded(value: Any) -> Any:
    if isinstance(value, int) and abs(value) > MAX_SAFE_INTEGER:
        return float(value)
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return value


def parse_or_none(source: Any) -> Any:
    """``parse``, or None for what is not JSON."""
    try:
        return parse(source)
    except ValueError:
        return None


def parse_or_same(source: Any) -> Any:
    """``parse``, or the value itself for what is not JSON."""
    try:
        return parse(source)
    except ValueError:
        return source


def stringify(value: Any) -> str:
    """JSON.stringify (25.5.2): no spaces, non-ASCII kept, whole floats without ``.0``, NaN as ``null``."""
    kind = type(value)
    if kind is int and -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
        return str(value)
    if kind is float and value - value == 0:  # neither NaN nor infinite
        return _float_text(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is list and set(map(type, value)) == _ONLY_TEXT:
        return _quoted(value)
    return _composite(value, 0)


def _quoted(value: str | list[str]) -> str:
    try:
        return orjson.dumps(value).decode()
    except (orjson.JSONEncodeError, TypeError):  # a lone surrogate, which JSON.stringify escapes
        plain = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return "".join(f"\\u{ord(char):04x}" if "\ud800" <= char <= "\udfff" else char for char in plain)


def _scalar(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "null"
    return text(value)


def _composite(value: Any, depth: int) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if depth > _MAX_DEPTH:
        return "null"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_composite(item, depth + 1) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_quoted(k)}:{_composite(v, depth + 1)}" for k, v in ordered(value)) + "}"
    return _scalar(value)


def ordered(value: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The entries as JavaScript lists an object's own keys (10.1.11.1): integer-like keys first, ascending."""
    entries = list(value.items())
    if not any(_INDEX.match(key) for key, _ in entries):
        return entries
    indexes = sorted((entry for entry in entries if _INDEX.match(entry[0])), key=lambda entry: int(entry[0]))
    return indexes + [entry for entry in entries if not _INDEX.match(entry[0])]


def is_date(value: Any) -> bool:
    """Whether ``new Date(value)`` is a valid date (21.4.2.1), for the forms that instrumentations send.

    Numbers are milliseconds. Text: ISO 8601 in its complete and shortened forms, and what V8 also reads of
    ``2026-01-31 10:00:00``. V8 reads more forms than these; no instrumentation is known to send them.
    """
    if isinstance(value, bool) or value is None:
        return True  # new Date(true) is 1 ms, new Date(null) is 0
    if isinstance(value, (int, float)):
        return abs(value) <= 8.64e15
    return isinstance(value, str) and bool(_DATE.match(value.strip()))


_DATE = re.compile(
    r"[+-]?\d{4,6}(?:[-/](?:0?[1-9]|1[0-2])(?:[-/](?:0?[1-9]|[12]\d|3[01]))?)?"
    r"(?:[T ]\s*(?:[01]?\d|2[0-4]):[0-5]\d(?::[0-5]\d(?:[.,]\d+)?)?\s*(?:Z|z|[+-]\d{2}:?\d{2})?)?\Z",
    re.ASCII,
)


def iso_time(milliseconds: int) -> str:
    """Date.prototype.toISOString (21.4.4.36), for years 1 to 9999; milliseconds since 1970."""
    if not _FIRST_MS <= milliseconds <= _LAST_MS:
        milliseconds = min(max(milliseconds, _FIRST_MS), _LAST_MS)
    return _iso_seconds(milliseconds // 1000) + _ENDINGS[milliseconds % 1000]


_ENDINGS = tuple(f".{milliseconds:03d}Z" for milliseconds in range(1000))


@lru_cache(maxsize=256)  # spans of one batch share their seconds
def _iso_seconds(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat(timespec="seconds")


_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - naive on purpose: pure arithmetic in UTC
_FIRST_MS, _LAST_MS = -62135596800000, 253402300799999


def as_object(value: Any) -> dict[str, Any]:
    """What ``{...value}`` makes of a value: a list's items under "0", "1" ...; nothing of what is neither list nor object."""
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, list):
        return {str(index): item for index, item in enumerate(value)}
    return {}
