"""What our exporters share: they take prepared ``Span``s from our processor, and anybody's SDK spans by ``export``."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_langfuse import meters
from otel_langfuse.batch import SHUTDOWN_TIMEOUT_S, Sending, Stop
from otel_langfuse.config import Config
from otel_langfuse.errors import DropReason
from otel_langfuse.masks import masking_for
from otel_langfuse.model import Span, Stats
from otel_langfuse.pipeline.mask import Mask, Masking
from otel_langfuse.prepare import Ready, ready
from otel_langfuse.propagation import stamped
from otel_langfuse.spans import from_sdk
from otel_langfuse.stats import Ledger
from otel_langfuse.transport import suppressed

from ._media import MediaWay

MEDIA_END_S: Final = 0.5
"""For media that nothing waits for any more, when all spans have been delivered."""


class LangfuseExporter(SpanExporter, abc.ABC):
    """An exporter of ours. Behind ``LangfuseSpanProcessor`` only ``deliver`` and ``close`` are called, on its worker.

    Behind any other processor ``export`` does the whole way itself: reads, masks and delivers on the caller's thread, with
    all retries inside ``timeout_s`` seconds.

    Args:
        name: the destination, for logs; without credentials.
        timeout_s: seconds for one request, and for one call of ``export``.
        mask: see ``LangfuseSpanProcessor``.
        media: the way that media go; None: they stay in the texts.
        config: what else it says of masking; by default what the environment says.
    """

    public_key = ""
    """Of the Langfuse project that it sends to; empty for every other destination."""

    beside: Callable[[], None] | None = None
    """Called with each batch by those that have a spool, on the worker: what else is in the file is to be sent from then on."""

    def __init__(
        self,
        *,
        name: str,
        timeout_s: float,
        mask: Mask | None = None,
        media: MediaWay | None = None,
        config: Config | None = None,
    ) -> None:
        self.name = name
        self.media = media
        self.has_own_mask = mask is not None
        self.mask = masking_for(Config.from_env() if config is None else config, mask)
        self._timeout_s = timeout_s
        self._ledger = Ledger(name=name)
        self._stop = Stop()
        self._component: meters.Component | None = None

    @abc.abstractmethod
    def deliver(self, spans: Sequence[Span], sending: Sending[Any]) -> None:
        """Sends prepared spans and reports the fate of each to ``sending``, trying again as long as that has time."""

    def ready(self, spans: Sequence[Span], mask: Masking | None) -> Ready:
        """Masks spans and lifts their media out; see ``prepare.ready``."""
        return ready(spans, mask, None if self.media is None else self.media.lifting)

    def deliver_ready(self, masked: Ready, sending: Sending[Any]) -> None:
        """Waits for the media of what ``ready`` returned, and delivers."""
        self.deliver(masked.spans if self.media is None else self.media.settled(masked.spans, sending), sending)

    @abc.abstractmethod
    def close(self) -> None:
        """Lets go of connections and files."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Sends finished SDK spans, on the caller's thread; never raises.

        Returns:
            SUCCESS only if all of them have arrived, or are in the spool. What was lost, and why, is in ``stats()``.
        """
        self._ledger.start(len(spans))
        if self._stop.is_set():
            self._ledger.drop(DropReason.AFTER_SHUTDOWN, len(spans))
            return SpanExportResult.FAILURE
        sending = Sending(spans, self._ledger, self._stop, self._timeout_s)
        if self._component is None:  # behind our processor, that has one
            self._component = meters.Component(self._account, address=self.name)
        try:
            with suppressed(), self._component.timed(sending):
                read, drops = from_sdk(spans)
                for drop in drops:
                    sending.dropped(drop)
                masked = self.ready(stamped(read), self.mask)
                note_failures(masked, self._ledger)
                self.deliver_ready(masked, sending)
        except Exception as error:  # noqa: BLE001 - nothing is raised into the application
            sending.finish(f"{type(error).__name__} while exporting")
        sending.finish("left undecided")
        return SpanExportResult.FAILURE if sending.lost else SpanExportResult.SUCCESS

    @property
    def project(self) -> object:
        """Where observations end up; equal for exporters that send to the same place, by whatever way."""
        return self.name

    @property
    def replaces(self) -> bool:
        """Whether a span that is sent again, with the same ids and start, takes the place of the first there.

        It does at Langfuse (api.md 2.9, 3.6) and in the local store; a collector passes both on.
        """
        return True

    @property
    def keeps(self) -> bool:
        """Whether there is a spool. Without one, the three methods that follow have nothing to do."""
        return False

    def keep(self, sending: Sending[Any], spans: Callable[[], Sequence[Span]]) -> None:
        """Puts away what is undecided of a batch whose spans ``spans`` prepares; see ``batch.Keeper``."""

    def arrived(self, timeout_s: float) -> bool:  # noqa: ARG002 - nothing is put away
        """Waits until what was put away has been sent; see ``batch.Keeper``."""
        return True

    def finish(self, timeout_s: float) -> None:
        """Sends what was put away, as long as that works; see ``batch.Keeper``."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """True, because ``export`` keeps nothing back; with a spool, whether all that was put there has been sent by then."""
        return self.arrived(timeout_millis / 1000)

    def shutdown(self, timeout_millis: float = 30_000) -> None:
        """Ends it. An ``export`` that waits to try again, on another thread, gives up at once.

        With a spool, what is in it is sent as long as that works, for at most ``SHUTDOWN_TIMEOUT_S`` seconds.
        """
        if not self._stop.is_set():
            self._stop.within(0)
            self.finish(min(timeout_millis / 1000, SHUTDOWN_TIMEOUT_S))
            if self.media is not None:
                self.media.shutdown(MEDIA_END_S)
            self.close()
            self._ledger.report_rest()

    def _account(self) -> meters.Account:
        stats = self.stats()
        on_their_way = stats.started - stats.exported - sum(stats.dropped.values()) - stats.spooled
        return meters.Account(stats._replace(queued=on_their_way))

    def stats(self) -> Stats:
        """What ``export`` was given and what became of it. Behind our processor, its ``stats()`` counts."""
        return self._ledger.snapshot()

    def media_stats(self) -> Stats | None:
        """The same for images, sounds and documents that are sent apart from their spans; None where there are none to be."""
        return None if self.media is None else self.media.stats()


def note_failures(masked: Ready, ledger: Ledger) -> None:
    """Logs, at most once a minute, that the user's mask failed."""
    if masked.failures:
        ledger.note("mask", f"{masked.failures} values are sent as '<masked: mask failed>': {masked.detail}")
