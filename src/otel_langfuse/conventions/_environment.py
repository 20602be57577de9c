"""The one rule for names of environments (mapping.md 7; api.md 2.6)."""

from __future__ import annotations

import re
from typing import Any

MAX_LENGTH = 40
_LEADING_LANGFUSE = re.compile(r"(?:langfuse[-_]?)+")
_VALID = re.compile(r"[a-z0-9_-]+\Z", re.ASCII)


def normal_environment(value: Any) -> str:
    """The name as Langfuse stores it: lower case, no leading ``langfuse``, at most 40 characters; else ``default``."""
    if not isinstance(value, str):
        return "default"
    lower = value.lower()
    leading = _LEADING_LANGFUSE.match(lower)
    name = lower[leading.end() :] if leading else lower
    name = name[:MAX_LENGTH]
    return name if _VALID.match(name) else "default"
