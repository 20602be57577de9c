"""Characters that texts hold as escapes, of JSON (``\u0040``, at any depth of JSON in JSON) or of URLs (``%40``).

Some writers of JSON escape more than they must, ``+`` or ``/`` or ``&``; in URLs ``@`` and ``+`` are always escapes. No pattern
sees what is behind them, so that texts which hold such are looked through once more as they read.
"""

from __future__ import annotations

import re
from typing import Final

_IN_JSON: Final = re.compile(r"(?<!\\)\\{1,7}u00(?:2[^2\s]|5[^c\sC]|[3467][0-9a-fA-F])")  # neither " nor \, which have a meaning
_IN_URLS: Final = ("%40", "%2B", "%2b", "%3A", "%3a", "%2F", "%2f", "%3D", "%3d", "%2D", "%2d", "%5F", "%5f")
_JSON_SIGN: Final = re.compile(rb"\\(?=u00[2-7])")
_URL_SIGN: Final = re.compile(rb"%(?=40|2[BbDdFf]|3[AaDd]|5[Ff])")
_MAX_ESCAPES: Final = 256
"""Different ones in one text."""


def may_hold_escapes(data: bytes) -> bool:
    """Whether there are any in these texts, as UTF-8. It runs for all that is masked, and looks for single bytes first."""
    return (b"\\" in data and _JSON_SIGN.search(data) is not None) or (b"%" in data and _URL_SIGN.search(data) is not None)


def without_escapes(text: str) -> str | None:
    """The text with its escapes read; None where they are too many."""
    if "u00" in text:
        escapes = set(_IN_JSON.findall(text))
        if len(escapes) > _MAX_ESCAPES:
            return None
        for escape in sorted(escapes, key=len, reverse=True):  # those with more signs before them first
            text = text.replace(escape, _character(escape[-2:]))
    if "%" in text:
        for escape in _IN_URLS:
            text = text.replace(escape, _character(escape[1:]))
    return text


def _character(digits: str) -> str:
    try:
        return chr(int(digits, 16))
    except ValueError:  # \u002x
        return digits
