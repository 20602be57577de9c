"""Whether a span is for this destination. Pure; runs on the thread that ended the span."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

Predicate: TypeAlias = Callable[[Any], bool]
"""``should_export_span``: a finished span as the SDK gives it (``ReadableSpan``) -> whether to keep it."""


def keep(span: Any, predicate: Predicate) -> tuple[bool, str]:
    """Asks the predicate.

    Returns:
        Whether to keep the span, and what went wrong: a predicate that raises drops the span, because nobody can say
        then that it was meant to leave.
    """
    try:
        return bool(predicate(span)), ""
    except Exception as error:  # noqa: BLE001 - a user's predicate
        return False, f"should_export_span raised {type(error).__name__}"
