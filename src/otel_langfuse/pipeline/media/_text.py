"""Finding media in a text and replacing it there, in linear time, with the rest of the text as it was.

Data URIs are found wherever they stand: in prose, in JSON, in JSON within JSON, in a Python ``repr``; base64 looks the same
in all of them. The shapes of ``_shapes`` are found by reading JSON; then the text itself, not what was read, is changed where the
base64 stands, so that numbers, spaces and the order of keys stay what they were.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Final, TypeAlias

from ._shapes import KEYS, LIST, MIN_PAYLOAD, ONLY_IN_PARTS, PARTS, all_media_in, read_json

Take: TypeAlias = "Callable[[str, str], str | None]"
"""(content type, base64) -> what is to stand in its place; None: it stays."""

MIN_TEXT: Final = 24
"""No shorter text can hold media."""

_MARK: Final = ";base64,"
_MAX_HEADER: Final = 256
_HEADER: Final = re.compile(r"data:([A-Za-z0-9.+-]{1,80}\\*/[A-Za-z0-9.+-]{1,120})?(?:;[A-Za-z0-9._+=-]{1,80}){0,3}", re.ASCII)
_RUN: Final = re.compile(r"[A-Za-z0-9+/_-]+(?:\\+/[A-Za-z0-9+/_-]*)*={0,2}", re.ASCII)
_LINE: Final = re.compile(r"(?:\r?\n|\\+r\\+n|\\+n)([A-Za-z0-9+/_-]{1,76}={0,2})", re.ASCII)
_LINE_LENGTHS: Final = frozenset({60, 64, 72, 76})
_ESCAPES: Final = re.compile(r"\\+[rn]|[\\\s]+")

_JSON: Final = re.compile(r"\s*[\[{\"]")
_TOKEN: Final = re.compile(rf'"[A-Za-z0-9+/_\\-]{{{MIN_PAYLOAD}}}', re.ASCII)
_WHOLE_TOKEN: Final = re.compile(rf'(?<=")[A-Za-z0-9+/_\\-]{{{MIN_PAYLOAD - 2},}}(?:={{1,2}}[\\rn]{{0,16}})?(?=")', re.ASCII)


def replaced(text: str, take: Take, of_uri: Take | None = None) -> str:
    """The text with its media replaced; the same object where there is none.

    Args:
        text: any text. One without media costs one search for a substring, and where it is JSON a second one.
        take: called for everything that looks like media, in no certain order.
        of_uri: the same for data URIs, all of which it replaces, if they are to be taken otherwise.
    """
    if ";" in text and _MARK in text:  # the one sign alone is looked for at ten times the speed
        text = _without_data_uris(text, of_uri or take)
    return _without_shapes(text, take) if may_hold_shapes(text) else text


def may_hold_shapes(text: str) -> bool:
    """Whether the text begins like JSON and holds a text without spaces that is as long as base64 of media."""
    return _JSON.match(text) is not None and _TOKEN.search(text) is not None


_MARK_BYTES: Final = _MARK.encode()
_TOKEN_BYTES: Final = re.compile(_TOKEN.pattern.encode())
_BLANK: Final = b" \t\r\n\\"
_LIST: Final = LIST.encode()
_ALWAYS: Final = tuple(key.encode() for key in KEYS - ONLY_IN_PARTS)
_ONLY_IN_PARTS: Final = tuple(key.encode() for key in ONLY_IN_PARTS)
_TYPE: Final = b"type"
_MAX_BLANK: Final = 64


@cache
def _part() -> re.Pattern[bytes]:
    """What stands behind ``type`` where something is a part with media in it. Few processes need it."""
    escapes, parts = r"(?:\s|\\+[nrt])*", "|".join(map(re.escape, PARTS))
    return re.compile(rf'\\*"{escapes}:{escapes}\\*"(?:{parts})\\*"'.encode())


def may_hold_media(data: bytes) -> bool:
    """Whether ``replaced`` might find anything in these texts, joined by NUL and as UTF-8; wrong only in saying so."""
    # The one sign is looked for alone first: that is done in C at ten times the speed.
    if b";" in data and _MARK_BYTES in data:
        return True
    return any(_may_be_payload(data, token.start()) for token in _TOKEN_BYTES.finditer(data))


def _may_be_payload(data: bytes, at: int) -> bool:
    """Whether the text without spaces whose quote is there stands under a key of media. Ids are such texts, too."""
    before = data[max(at - _MAX_BLANK, 0) : at].rstrip(_BLANK)
    if before.endswith((b"[", b",")):
        return _LIST in data
    if not before.endswith(b":"):
        return not before or before.endswith((b"n", b"r", b"t"))  # perhaps of an escaped end of line
    key = before[:-1].rstrip(_BLANK).rstrip(b'"').rstrip(b"\\")
    return not key or key.endswith(_ALWAYS) or (key.endswith(_ONLY_IN_PARTS) and _has_part(data))


def _has_part(data: bytes) -> bool:
    match = _part().match
    at = data.find(_TYPE)
    while at >= 0:
        if match(data, at + len(_TYPE)):
            return True
        at = data.find(_TYPE, at + len(_TYPE))
    return False


def _without_data_uris(text: str, take: Take) -> str:
    parts: list[str] = []
    begin = 0  # of what is not in ``parts`` yet
    at = text.find(_MARK)
    while at >= 0:
        payload_at = at + len(_MARK)
        start = text.rfind("data:", max(begin, at - _MAX_HEADER), at)
        header = _HEADER.fullmatch(text, start, at) if start >= 0 else None
        run = _RUN.match(text, payload_at) if header else None
        following = payload_at
        if header and run:
            following = _end_of_lines(text, payload_at, run.end())
            payload = text[payload_at:following]
            plain = _ESCAPES.sub("", payload) if following > run.end() or "\\" in payload else payload
            new = take((header[1] or "text/plain").replace("\\", ""), plain)
            if new is not None:
                parts += (text[begin:start], new)
                begin = following
        at = text.find(_MARK, following)
    return "".join((*parts, text[begin:])) if parts else text


def _end_of_lines(text: str, begin: int, end: int) -> int:
    """The end of base64 that is broken into lines of one length, as MIME does."""
    length = end - begin
    if length in _LINE_LENGTHS:
        while line := _LINE.match(text, end):
            end = line.end()
            if line.end() - line.start(1) != length:
                break
    return end


def _without_shapes(text: str, take: Take) -> str:
    parsed = read_json(text)
    if parsed is None:
        return text
    table: dict[str, str] = {}
    for content_type, payload in all_media_in(parsed, may_hold_shapes):
        plain = "".join(payload.split())
        if plain not in table and (new := take(content_type, plain)) is not None:
            table[plain] = new
    if not table:
        return text

    def change(token: re.Match[str]) -> str:
        found = token[0].rstrip("\\")  # those that escape the quote behind it
        new = table.get(_ESCAPES.sub("", found) if "\\" in found else found)
        return token[0] if new is None else new + token[0][len(found) :]

    return _WHOLE_TOKEN.sub(change, text)
