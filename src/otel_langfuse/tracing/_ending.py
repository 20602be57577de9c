"""How what raised is recorded on its span, once: as an error, or as what it is where it is none."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from opentelemetry.trace import Span, Status, StatusCode

from otel_langfuse import attributes as names

from ._origin import NOTES

MAX_MESSAGE: Final = 10_000
"""Characters of an exception's text in the status message."""

_CONTROL_FLOW: Final = (StopIteration, StopAsyncIteration, GeneratorExit)
"""How Python says that there is nothing more to come, or nothing more wanted."""


def record(span: Span, error: BaseException) -> None:
    """Records what a block or a function has raised. Never raises itself, and leaves ``error`` as it is.

    An ``Exception`` is an error: level ERROR, OpenTelemetry status ERROR, a span event ``exception`` with its stack trace. A
    status message that the program itself has given to a failed observation stays. Everything else (``CancelledError``,
    ``SystemExit``, ``KeyboardInterrupt`` ...) is no error to OpenTelemetry (its ``use_span`` does the same), and gets level
    WARNING and its name as status message; the end of an iteration and ``SystemExit(0)`` only the name.
    """
    try:
        if not span.is_recording():
            return
        message = said(error)
        if not isinstance(error, Exception) or isinstance(error, _CONTROL_FLOW):
            quiet = isinstance(error, _CONTROL_FLOW) or (isinstance(error, SystemExit) and not error.code)
            level = {} if quiet else {names.OBSERVATION_LEVEL: "WARNING"}
            span.set_attributes({names.OBSERVATION_STATUS_MESSAGE: message, **level})
            return
        attributes = {names.OBSERVATION_LEVEL: "ERROR"}
        if not _has_said_why(span):
            attributes[names.OBSERVATION_STATUS_MESSAGE] = message
            span.set_status(Status(StatusCode.ERROR, message))
        span.set_attributes(attributes)
        span.record_exception(error)
    except Exception as trouble:  # noqa: BLE001 - of an exception whose text cannot be had, or of a foreign span
        NOTES.note("exception", f"an exception is recorded only in part: {type(trouble).__name__}")


def end(span: Span, end_time: int | None = None) -> None:
    """Ends the span; what a processor of somebody else raises then does not reach the application."""
    try:
        span.end(end_time=end_time)
    except Exception as trouble:  # noqa: BLE001
        note_trouble(trouble)


def note_trouble(trouble: Exception) -> None:
    """Says that the end of a span raised."""
    NOTES.note("end", f"a span processor raised {type(trouble).__name__} when a span ended")


def said(error: BaseException) -> str:
    """``ValueError: its text``, or the name alone."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - its own __str__
        text = ""
    return f"{name}: {text}"[:MAX_MESSAGE] if text else name


def _has_said_why(span: Span) -> bool:
    status: Any = getattr(span, "status", None)
    return getattr(status, "status_code", None) is StatusCode.ERROR and bool(getattr(status, "description", None))


def nanoseconds(name: str, value: Any) -> int | None:
    """A ``datetime``, local time if it names no zone; seconds since 1970; or nanoseconds, which are whole and larger."""
    try:
        if isinstance(value, datetime):
            return int(value.timestamp() * 1_000_000) * 1_000
        if isinstance(value, str):
            return nanoseconds(name, datetime.fromisoformat(value.replace("Z", "+00:00")))
        return int(value) if value > 1e14 else int(value * 1e9)
    except Exception:  # noqa: BLE001 - somebody's object
        NOTES.note(f"value {name}", f"{name} is left out: expected a datetime")
        return None
