"""One test observation, by the way that every other one goes."""

from __future__ import annotations

import os
import secrets
import shlex
import time
from pathlib import Path
from typing import Any

from otel_langfuse import attributes as names
from otel_langfuse.batch import Sending, Stop
from otel_langfuse.errors import DropReason
from otel_langfuse.exporters import LangfuseExporter
from otel_langfuse.exporters.sqlite import SqliteExporter
from otel_langfuse.model import Resource, Scope, Span
from otel_langfuse.stats import Ledger
from otel_langfuse.store import Store, StoreError

from .findings import Finding, fail, ok

CHECK = "test observation"
NAME = "otel-langfuse doctor"
ENVIRONMENT = "otel-langfuse-doctor"
"""So that it can be told from others, and left out."""


class _Witness(Ledger):
    """Remembers what was said, instead of logging it."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def drop(self, reason: DropReason, count: int = 1, detail: str = "") -> None:
        self._mine()[reason.value] += count
        self.said.append(detail or str(reason))

    def note(self, topic: str, line: str, every_s: float = 0.0) -> None:  # noqa: ARG002 - as the base class has it
        self.said.append(line)


def send(exporter: LangfuseExporter, timeout_s: float) -> tuple[str, str | None]:
    """Sends a test observation.

    Returns:
        Its trace id, and why it was not taken; None if it was.
    """
    span = _span()
    witness = _Witness()
    sending: Sending[Any] = Sending([span], witness, Stop(), timeout_s)
    exporter.deliver([span], sending)
    sending.finish("it is not known what became of it")
    exporter.close()
    if witness.snapshot().exported:
        return span.trace_id, None
    return span.trace_id, witness.said[-1] if witness.said else "no answer"


def send_over_network(exporter: LangfuseExporter, timeout_s: float, remedy: str, link: str = "") -> Finding:
    """The finding about an observation that was sent. ``link`` is followed by the trace id."""
    trace_id, reason = send(exporter, timeout_s)
    if reason is not None:
        return fail(CHECK, f"not taken: {reason}", remedy)
    where = f"{link}{trace_id}" if link else f"trace {trace_id}, environment {ENVIRONMENT}"
    return ok(CHECK, f"accepted: {where}")


def store_and_read(path: str, timeout_s: float) -> Finding:
    """The finding about an observation that was written into a local store, and read again."""
    trace_id, reason = send(SqliteExporter(path), timeout_s)
    if reason is not None:
        return fail(CHECK, f"not stored: {reason}", "check who may write the file and its directory, and the space on the disk")
    store = Store(path, create=False)
    try:
        found = [observation.name for observation in store.trace(trace_id)]
    except StoreError as error:
        return fail(CHECK, f"stored, but not to be read again: {error}", "the file may be damaged: move it away")
    finally:
        store.close()
    if found != [NAME]:
        return fail(CHECK, "stored, but not to be found again", "the file may be damaged: move it away")
    return ok(CHECK, f"stored, and read again: otel-langfuse show --db {shlex.quote(path)} {trace_id[:8]}")


def directory(path: str) -> Finding:
    """Whether a local store can be made, or written where there is one."""
    file = Path(path).absolute()
    if not file.parent.is_dir():
        remedy = "make it, or change LANGFUSE_BASE_URL; a relative path begins at the working directory"
        return fail("file", f"{file.parent} is no directory", remedy)
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        return fail("file", f"{file} may not be written", "let this user write the file and its directory")
    return ok("file", f"{file}{'' if file.exists() else ', which will be made'}")


def _span() -> Span:
    now = time.time_ns()
    return Span(
        trace_id=secrets.token_hex(16),
        span_id=secrets.token_hex(8),
        parent_span_id=None,
        name=NAME,
        start_time_unix_nano=now - 1_000_000,
        end_time_unix_nano=now,
        attributes={names.ENVIRONMENT: ENVIRONMENT, names.OBSERVATION_INPUT: "Does this arrive?"},
        resource=Resource({"service.name": "otel-langfuse doctor"}),
        scope=Scope("otel-langfuse"),
    )
