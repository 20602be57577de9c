"""Ids by hand: any text of the caller's -> ids that OpenTelemetry takes, and spans that start with them."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from otel_langfuse.tracing.ids import create_observation_id, create_trace_id

_TRACE_ID: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")
_OBSERVATION_ID: Final = re.compile(r"(?!0{16})[0-9a-f]{16}")
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def trace_id_of(text: str) -> str:
    """The trace id that stands for a caller's own: 32 lower-case hex digits, for the same text always the same.

    32 hex digits are taken as they are, in lower case; a UUID without its dashes; for any other text it is
    ``create_trace_id(seed=text)``, which Langfuse's own SDKs make the same way.
    """
    lower = text.strip().lower()
    if _UUID.fullmatch(lower):
        lower = lower.replace("-", "")
    return lower if _TRACE_ID.fullmatch(lower) else create_trace_id(seed=text or " ")


def observation_id_of(text: str) -> str:
    """The observation id that stands for a caller's own: 16 lower-case hex digits as they are, else by the text's SHA-256."""
    lower = text.strip().lower()
    return lower if _OBSERVATION_ID.fullmatch(lower) else create_observation_id(seed=text or " ")


def root_id_of(trace_id: str) -> str:
    """The id of the root span of a classic trace: the second half of the trace's id.

    So every process that knows the trace's id knows its root, too; ``trace_context={"trace_id": ...}`` without a parent leads
    there as well.
    """
    return trace_id[16:] if _OBSERVATION_ID.fullmatch(trace_id[16:]) else trace_id[:16]


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
