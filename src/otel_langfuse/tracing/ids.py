"""Ids: made, made from a seed, read from the current context, checked."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final, TypedDict

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from ._origin import NOTES, base_url

_TRACE_ID: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")
_SPAN_ID: Final = re.compile(r"(?!0{16})[0-9a-f]{16}")
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


EXTERNAL_ID: Final = "external_id"
"""The key of metadata under which the caller's own id is kept, where it is none of OpenTelemetry's."""


class TraceContext(TypedDict, total=False):
    """A trace to continue: ``trace_id`` (32 lower-case hex digits) and, if known, ``parent_span_id`` (16)."""

    trace_id: str
    parent_span_id: str | None


def create_trace_id(*, seed: str | None = None) -> str:
    """A trace id: 32 lower-case hex digits.

    Args:
        seed: any text of yours, an order number for instance; the same text gives the same id, here and in Langfuse's own
            SDKs (the first 16 bytes of its SHA-256). None or empty: a random id.
    """
    return sha256(str(seed).encode("utf-8", "backslashreplace")).digest()[:16].hex() if seed else secrets.token_hex(16)


def create_observation_id(*, seed: str | None = None) -> str:
    """An observation (span) id: 16 lower-case hex digits; ``seed`` as for ``create_trace_id``."""
    return sha256(str(seed).encode("utf-8", "backslashreplace")).digest()[:8].hex() if seed else secrets.token_hex(8)


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
    return lower if _SPAN_ID.fullmatch(lower) else create_observation_id(seed=text or " ")


def root_id_of(trace_id: str) -> str:
    """The id of the root span of a classic trace: the second half of the trace's id.

    So every process that knows the trace's id knows its root, too; ``trace_context={"trace_id": ...}`` without a parent leads
    there as well.
    """
    return trace_id[16:] if _SPAN_ID.fullmatch(trace_id[16:]) else trace_id[:16]


def get_current_trace_id() -> str | None:
    """The id of the trace that runs here, whatever library started it: 32 hex digits; None where none does."""
    found = trace.get_current_span().get_span_context()
    return trace.format_trace_id(found.trace_id) if found.is_valid else None


def get_current_observation_id() -> str | None:
    """The id of the current span: 16 hex digits; None where there is none."""
    found = trace.get_current_span().get_span_context()
    return trace.format_span_id(found.span_id) if found.is_valid else None


def get_trace_url(*, trace_id: str | None = None) -> str | None:
    """The page of a trace on the Langfuse server that ``configure()`` was told of.

    Langfuse leads on from this address to the trace in its project, whose id is not known here.

    Args:
        trace_id: of the trace; by default the current one.

    Returns:
        The address; None without a trace, without ``configure()``, and where the destination has no pages.
    """
    found = trace_id or get_current_trace_id()
    base = base_url()
    return f"{base}/trace/{found}" if base and found else None


def joined(given: Any, context: Context) -> tuple[Context, bool] | None:
    """``context`` with the parent that a ``trace_context`` names; None, with a note, if it names none.

    Returns:
        The context, and whether the trace has no parent observation: its spans then need some parent id (OpenTelemetry
        starts no trace with a given id), which no observation has, and count as root (``langfuse.internal.as_root``).
    """
    trace_id = given.get("trace_id") if isinstance(given, Mapping) else None
    if not isinstance(trace_id, str) or not _TRACE_ID.fullmatch(trace_id):
        NOTES.note("trace_context", "trace_context is ignored: its trace_id is not 32 lower-case hex digits")
        return None
    parent = given.get("parent_span_id")
    if parent and not (isinstance(parent, str) and _SPAN_ID.fullmatch(parent)):
        NOTES.note("parent_span_id", "parent_span_id is ignored: it is not 16 lower-case hex digits")
        parent = None
    # The same for all that join without a parent, so that they stand side by side elsewhere too.
    number = int(parent or trace_id[16:], 16) or 1
    remote = SpanContext(int(trace_id, 16), number, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(remote), context), not parent
