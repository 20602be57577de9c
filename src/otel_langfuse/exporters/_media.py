"""How the media of a destination's spans leave: lifted out on the worker, sent through a queue of their own, and waited for.

A batch of spans is held until its media have been taken, so that no reference ever leads nowhere: what could not be sent by then
is a marker in the span that says why. It is held for ``media_wait`` seconds at most, while a process ends for half of the time
that there is, and no longer than until the queue of spans is half full.
"""

from __future__ import annotations

import math
import os
import time
import weakref
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final, Protocol

from otel_langfuse import threads as threading  # the operating system's, also under gevent
from otel_langfuse.batch import Batch, Sending
from otel_langfuse.errors import Drop, DropReason
from otel_langfuse.model import Media, Span, Stats
from otel_langfuse.pipeline.media import Lifting, marker, settled
from otel_langfuse.stats import Ledger
from otel_langfuse.transport import suppressed

MAX_QUEUE_MEDIA: Final = 10_000
MEDIA_BYTES: Final = 512
"""What media count for in the queue beside their content."""

PAUSE_S: Final = 30.0
"""After media could not be sent in time, for so long no others are tried: each would hold its spans in vain."""

STEP_S: Final = 0.1
GRACE_S: Final = 1.0
"""For so long a queue of spans that is half full does not end the wait."""


_MEDIA: Final = itemgetter(Span._fields.index("media"))


class Patience(Protocol):
    """How much time there is to send one of the media."""

    def time_left_s(self) -> float:
        """Seconds; negative when it is over."""

    def wait(self, seconds: float) -> bool:
        """Sleeps before trying again. False: there is not that much time."""


class MediaSender(Protocol):
    """Where media go."""

    def deliver(self, media: Media, patience: Patience) -> Drop | None:
        """Sends them, trying again as long as there is patience; None if they have arrived. On several threads at once."""

    def close(self) -> None:
        """Lets go of connections."""


class _Hold:
    """One batch of spans that waits for its media."""

    def __init__(self, sending: Sending[Any], wait_s: float) -> None:
        self.open = 0  # media whose fate is not known yet
        self._sending = sending
        self._began = time.monotonic()
        self._deadline = self._began + min(wait_s, sending.time_left_s() / 2)
        self._is_stopping = sending.stopping

    def time_left_s(self) -> float:
        now = time.monotonic()
        if self._sending.stopping and not self._is_stopping:
            self._is_stopping = True
            self._deadline = min(self._deadline, now + self._sending.time_left_s() / 2)
        if now - self._began > GRACE_S and self._sending.is_crowded():
            return 0.0
        return self._deadline - now


class _Ticket:
    """One of the media on its way.

    ``is_sent``: somebody tries. ``outcome``: None as long as it is not known, "" if they have arrived, else why not.
    """

    __slots__ = ("hold", "is_sent", "media", "outcome")

    def __init__(self, media: Media, hold: _Hold) -> None:
        self.media = media
        self.hold = hold
        self.is_sent = False
        self.outcome: str | None = None


class MediaWay:
    """How the media of one destination's spans leave.

    Args:
        lifting: what stands in their place.
        sender: where they go; None where they are cut.
        name: of the destination, for logs.
        max_queue_bytes: of content that waits or is being sent, at most, beside ``MAX_QUEUE_MEDIA`` in number.
        threads: media that are sent at the same time, at most.
        wait_s: seconds for which spans wait for their media, at most.
    """

    def __init__(
        self, lifting: Lifting, sender: MediaSender | None, *, name: str, max_queue_bytes: int, threads: int, wait_s: float
    ) -> None:
        self.lifting = lifting
        self._wait_s = wait_s
        self._ledger = Ledger(name=name, noun="media file")
        self._told = 0  # losses that a flush has told of
        self._batch: Batch[_Ticket] | None = None
        self._reset()
        if sender is not None:
            self._worker = _Worker(self, sender)
            self._batch = Batch(
                self._worker,
                self._ledger,
                max_items=MAX_QUEUE_MEDIA,
                max_bytes=max_queue_bytes,
                flush_at=1,
                flush_bytes=1,
                flush_interval_s=0.0,
                threads=threads,
                flush_on_exit=False,
                is_owned=True,
                name="otel-langfuse-media",
            )
        _WAYS.add(self)

    def _reset(self) -> None:
        self.changed = threading.Condition(threading.RLock())

    # -- on the thread that delivers spans -------------------------------------------------------------------------------

    def settled(self, spans: Sequence[Span], sending: Sending[Any]) -> Sequence[Span]:
        """Sends the media of a batch and waits for them. Returns the spans without them, with markers for what was not taken.

        Args:
            spans: lifted.
            sending: of the spans: how much time they have.
        """
        batch = self._batch
        if batch is None or not any(map(_MEDIA, spans)):
            return spans
        hold = _Hold(sending, self._wait_s)
        tickets = [[self._ticket(batch, media, hold) for media in span.media] for span in spans]
        batch.work_if_nobody_can(hold.time_left_s())
        with self.changed:
            while hold.open and (left_s := hold.time_left_s()) > 0:
                self.changed.wait(min(left_s, STEP_S))
            if not sending.stopping and any(one.is_sent and one.outcome is None for some in tickets for one in some):
                self._worker.pause()  # now: whoever tries still has to notice, and spans after these may have media
            return [_told(span, some) if some else span for span, some in zip(spans, tickets, strict=True)]

    def given_up(self, spans: Sequence[Span]) -> Sequence[Span]:
        """The spans with markers for all of their media: there is no time left to send any."""
        return [
            settled(span, {media.reference: marker(media, str(DropReason.AFTER_SHUTDOWN)) for media in span.media})
            if span.media
            else span
            for span in spans
        ]

    def flush(self, timeout_s: float) -> bool:
        """Waits until all media have arrived. False if any was lost since the last call."""
        if self._batch is None:
            return True
        self._batch.flush(timeout_s)
        stats = self._batch.stats()
        lost = sum(stats.dropped.values())
        told, self._told = self._told, lost
        return not stats.queued and lost == told

    def shutdown(self, timeout_s: float) -> None:
        """Ends it, in ``timeout_s`` seconds at most."""
        if self._batch is not None:
            self._batch.shutdown(timeout_s)

    def stats(self) -> Stats | None:
        """The account of the media; None where none are sent."""
        return None if self._batch is None else self._batch.stats()

    def _ticket(self, batch: Batch[_Ticket], media: Media, hold: _Hold) -> _Ticket:
        ticket = _Ticket(media, hold)
        if not media.content:
            self._ledger.start()
            self._ledger.drop(DropReason.TOO_LARGE, 1, f"{media.size_bytes:,} bytes; max_media_bytes allows fewer")
            ticket.outcome = str(DropReason.TOO_LARGE)
            return ticket
        with self.changed:
            hold.open += 1
        if not batch.put(ticket, len(media.content) + MEDIA_BYTES):
            self.decide(ticket, DropReason.AFTER_SHUTDOWN if batch.closed else DropReason.QUEUE_FULL)
        return ticket

    def decide(self, ticket: _Ticket, reason: DropReason | None) -> None:
        """Says what became of one of the media. Called on any thread."""
        with self.changed:
            ticket.outcome = "" if reason is None else str(reason)
            ticket.hold.open -= 1
            if not ticket.hold.open:
                self.changed.notify_all()


def _told(span: Span, tickets: Sequence[_Ticket]) -> Span:
    """The span with a marker for each of its media that has not arrived by now."""
    undecided = str(DropReason.SEND_FAILED)
    whys = ((ticket.media, undecided if ticket.outcome is None else ticket.outcome) for ticket in tickets)
    return settled(span, {media.reference: marker(media, why) for media, why in whys if why and media.content})


class _Worker:
    """Behind the queue: sends one of the media after the other."""

    def __init__(self, way: MediaWay, sender: MediaSender) -> None:
        self._way = way
        self._sender = sender
        self._not_before = -math.inf

    def send(self, sending: Sending[_Ticket]) -> None:
        for ticket in sending.items:
            drop: Drop | None = Drop(DropReason.SEND_FAILED, 1, "left undecided")
            try:
                with suppressed():
                    drop = self._sent(ticket, sending)
            except Exception as error:  # noqa: BLE001 - whatever a sender raises costs only this one
                drop = Drop(DropReason.SEND_FAILED, 1, f"{type(error).__name__} while sending media")
            finally:
                if drop is None:
                    sending.exported(1)
                else:
                    sending.dropped(drop)
                self._way.decide(ticket, None if drop is None else drop.reason)

    def _sent(self, ticket: _Ticket, sending: Sending[_Ticket]) -> Drop | None:
        if time.monotonic() < self._not_before:
            return Drop(DropReason.SEND_FAILED, 1, f"others could not be sent within the last {PAUSE_S:.0f} s")
        patience = _ForOne(ticket.hold, sending)
        if patience.time_left_s() <= 0:
            return Drop(DropReason.SEND_FAILED, 1, "their spans could not wait any longer; media_wait says how long they do")
        ticket.is_sent = True
        drop = self._sender.deliver(ticket.media, patience)
        if drop is None:
            self._not_before = -math.inf
        elif drop.reason is DropReason.SEND_FAILED and not sending.stopping:
            self.pause()
        return drop

    def pause(self) -> None:
        """For a while none are sent, and no spans wait for any. Called on any thread."""
        self._not_before = time.monotonic() + PAUSE_S

    def flush(self, timeout_s: float) -> bool:  # noqa: ARG002 - nothing is kept back
        return True

    def close(self) -> None:
        self._sender.close()


class _ForOne:
    """The patience for one of the media: as long as its spans are held."""

    def __init__(self, hold: _Hold, sending: Sending[Any]) -> None:
        self._hold = hold
        self._sending = sending

    def time_left_s(self) -> float:
        return min(self._hold.time_left_s(), self._sending.time_left_s())

    def wait(self, seconds: float) -> bool:
        if seconds >= self.time_left_s():
            return False
        return self._sending.wait(seconds, lambda: self._hold.time_left_s() <= 0) and self.time_left_s() > 0


# -- forks -------------------------------------------------------------------------------------------------------------

_WAYS: weakref.WeakSet[MediaWay] = weakref.WeakSet()


def _forget_parent() -> None:
    for way in list(_WAYS):
        way._reset()  # noqa: SLF001 - our own
        way._told = 0  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
