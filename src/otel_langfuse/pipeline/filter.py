"""Whether a span is for this destination. Pure; runs on the thread that ended the span.

A filter is said in words: ``llm`` (spans of LLM applications and Langfuse's own, as the tables of ``conventions`` know them),
``all``, or a glob of names of instrumentation scopes (``shop.*``); with ``!`` before it a word takes such spans away again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import translate
from typing import Any, Final, TypeAlias

Predicate: TypeAlias = Callable[[Any], bool]
"""``should_export_span``: a finished span as the SDK gives it (``ReadableSpan``) -> whether to keep it."""

LLM: Final = "llm"
ALL: Final = "all"
EXCEPT: Final = "!"

MAX_SCOPES: Final = 2_000
"""Scopes of which is remembered what becomes of their spans; an application has dozens."""


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


class Words:
    """A filter by words, compiled. Called with a span's scope and attributes, it says whether the span is kept.

    Args:
        words: at least one; as above. Where all of them take away, all else is kept.
    """

    def __init__(self, words: Sequence[str]) -> None:
        kept = [word for word in words if not word.startswith(EXCEPT)] or [ALL]
        self._dropped = _globs(word[len(EXCEPT) :] for word in words if word.startswith(EXCEPT))
        self._kept = _globs(word for word in kept if word not in (LLM, ALL))
        self._all = ALL in kept
        self._llm = LLM in kept
        self._llm_dropped = EXCEPT + LLM in words
        self.scopes: dict[str, bool | None] = {}
        """Of the scopes seen so far, whether their spans are kept. None: it depends on a span's attributes."""
        self.keeps_all = self._all and not self._dropped and not self._llm_dropped
        if self._llm or self._llm_dropped:
            from otel_langfuse.pipeline._llm import has_llm_attributes, is_llm_scope  # noqa: PLC0415 - tables

            self._is_llm_scope, self._has_llm_attributes = is_llm_scope, has_llm_attributes

    def __call__(self, scope: str, attributes: Mapping[str, Any]) -> bool:
        """Whether to keep a span with this scope's name and these attributes."""
        try:
            kept = self.scopes[scope]
        except KeyError:
            kept = self._of_scope(scope)
            if len(self.scopes) < MAX_SCOPES:
                self.scopes[scope] = kept
        if kept is None:
            is_llm = self._has_llm_attributes(attributes)
            return is_llm is not self._llm_dropped
        return kept

    def _of_scope(self, scope: str) -> bool | None:
        if any(glob(scope) for glob in self._dropped):
            return False
        named = self._all or any(glob(scope) for glob in self._kept)
        if self._llm_dropped:
            return None if named and not self._is_llm_scope(scope) else False
        if named or not self._llm:
            return named
        return True if self._is_llm_scope(scope) else None


def _globs(words: Iterable[str]) -> list[Callable[[str], object]]:
    return [re.compile(translate(word)).match for word in words if word != LLM]
