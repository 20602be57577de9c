"""Spans that start with ids that were chosen."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final


class _Choice(threading.local):
    """What the next span that starts on this thread is to be called, each once."""

    trace_id: int | None = None
    span_id: int | None = None


_choice: Final = _Choice()


class _Generator:
    """Stands before a tracer's own generator of ids, and hands out what was chosen."""

    def __init__(self, own: Any) -> None:
        self._own = own

    def generate_trace_id(self) -> int:
        chosen, _choice.trace_id = _choice.trace_id, None
        return chosen or int(self._own.generate_trace_id())

    def generate_span_id(self) -> int:
        chosen, _choice.span_id = _choice.span_id, None
        return chosen or int(self._own.generate_span_id())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)


@contextmanager
def chosen(tracer: Any, trace_id: str, span_id: str) -> Iterator[bool]:
    """The next span that ``tracer`` starts here has these ids, if it is a root; else the second of them.

    The context says whether the tracer can do that: one that is not the SDK's cannot.
    """
    own = getattr(tracer, "id_generator", None)
    if not hasattr(own, "generate_span_id"):
        yield False
        return
    if not isinstance(own, _Generator):
        tracer.id_generator = _Generator(own)
    _choice.trace_id, _choice.span_id = int(trace_id, 16), int(span_id, 16)
    try:
        yield True
    finally:
        _choice.trace_id = _choice.span_id = None
