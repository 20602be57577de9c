"""What stands behind a processor's queue: an exporter, ours or anybody's. It runs on the queue's worker threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import format_trace_id

from otel_langfuse import meters
from otel_langfuse.batch import Sending
from otel_langfuse.choice import Choice
from otel_langfuse.ended import span_of
from otel_langfuse.exporters import MEDIA_END_S, LangfuseExporter, MediaWay, note_failures
from otel_langfuse.pipeline.mask import Masking
from otel_langfuse.prepare import Ready, ready
from otel_langfuse.propagation import is_late
from otel_langfuse.spans import to_sdk
from otel_langfuse.stats import Ledger
from otel_langfuse.transport import suppressed


class Before(NamedTuple):
    """What spans pass before an exporter has them, whosever it is; and who counts and measures."""

    mask: Masking | None
    choice: Choice
    ledger: Ledger
    component: meters.Component


class Ours:
    """Behind the queue: one of our exporters, which takes our ``Span``s."""

    def __init__(self, exporter: LangfuseExporter, before: Before) -> None:
        self._exporter = exporter
        self._mask, self._choice, self._ledger, self._component = before
        self._preparing: set[int] = set()

    def send(self, sending: Sending[Any]) -> None:
        with suppressed(), self._component.timed(sending):
            self._preparing.add(id(sending))
            try:
                masked = self._ready(sending)
            finally:
                self._preparing.discard(id(sending))
            self._exporter.deliver_ready(masked, sending)

    def _ready(self, sending: Sending[Any]) -> Ready:
        masked = self._exporter.ready(self._choice.chosen(sending).spans, self._mask)
        note_failures(masked, self._ledger)
        return masked

    def keep(self, sending: Sending[Any]) -> None:
        with suppressed():
            # While a mask does not come to an end on the worker, it would not here either, and nothing is kept unmasked.
            self._exporter.keep(sending, lambda: [] if self._preparing else self._without_media(sending))

    def _without_media(self, sending: Sending[Any]) -> Sequence[Any]:
        spans = self._ready(sending).spans
        return spans if self._exporter.media is None else self._exporter.media.given_up(spans)

    def arrived(self, timeout_s: float) -> bool:
        return self._exporter.arrived(timeout_s)

    def finish(self, timeout_s: float) -> None:
        self._exporter.finish(timeout_s)

    def flush(self, timeout_s: float) -> bool:
        return self._exporter.media is None or self._exporter.media.flush(timeout_s)

    def close(self) -> None:
        if self._exporter.media is not None:
            self._exporter.media.shutdown(MEDIA_END_S)
        self._exporter.close()


class Foreign:
    """Behind the queue: anybody's exporter, which takes the SDK's spans. What it does about retries is its own affair."""

    def __init__(self, exporter: SpanExporter, before: Before, *, media: MediaWay | None) -> None:
        self._exporter = exporter
        self._mask, self._choice, self._ledger, self._component = before
        self._media = media

    def send(self, sending: Sending[Any]) -> None:
        with suppressed(), self._component.timed(sending):
            spans: list[ReadableSpan] = [span_of(item) for item in sending.items]
            changes = self._mask is not None or self._media is not None or self._choice.changes
            if changes or any(is_late(format_trace_id(span.context.trace_id)) for span in spans):
                spans = self._ready(sending)
            if not spans:
                return
            result = self._exporter.export(spans)
            if result is SpanExportResult.FAILURE:
                sending.finish(f"{type(self._exporter).__name__} reports failure")
            else:
                sending.exported(sending.undecided)

    def _ready(self, sending: Sending[Any]) -> list[ReadableSpan]:
        """What may leave of the spans, media taken out; the original objects where nothing changed."""
        chosen = self._choice.chosen(sending)
        masked = ready(chosen.spans, self._mask, None if self._media is None else self._media.lifting)
        note_failures(masked, self._ledger)
        left = masked.spans if self._media is None else self._media.settled(masked.spans, sending)
        made: dict[int, tuple[Any, Any]] = {}
        return [
            original if original is not None and new is old else to_sdk(new, made)
            for original, old, new in zip(chosen.originals(), chosen.spans, left, strict=True)
        ]

    def flush(self, timeout_s: float) -> bool:
        has_media = self._media is None or self._media.flush(timeout_s)
        return self._exporter.force_flush(int(timeout_s * 1000)) is not False and has_media

    def close(self) -> None:
        if self._media is not None:
            self._media.shutdown(MEDIA_END_S)
        self._exporter.shutdown()
