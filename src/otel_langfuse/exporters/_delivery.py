"""The one loop that all network exporters share: send, decide, then wait, split or give up."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from otel_langfuse import retry
from otel_langfuse.batch import Sending
from otel_langfuse.errors import Drop, DropReason
from otel_langfuse.model import Request
from otel_langfuse.prepare import Target, again, count_spans
from otel_langfuse.stats import Ledger
from otel_langfuse.transport import Transport

LONG_WAIT_S: Final = 2.0
"""The first wait for a request is logged if it is longer than this; each further one is, as far as the log is not full of it."""

MAX_FUTILE_SPLITS: Final = 24
"""Requests refused as a whole, one after the other and none taken, after which the rest is given up: the fault is not in
one span. To isolate the first bad one of 512 takes nine."""

MAX_SPLITS: Final = 200
"""Requests refused as a whole, while others are taken, after which the rest of the batch is given up."""


class Delivery:
    """Delivers one batch's requests, on the thread that calls ``run``.

    Args:
        target: what the requests were made for; halves are encoded for it again.
        transport: sends.
        sending: gets the fate of every span, and says how much time there is.
        timeout_s: seconds for one request.
        ledger: notes that a destination makes us wait.
        clock: seconds since 1970.
        jitter: random numbers from 0.0 to 1.0.
    """

    def __init__(
        self,
        target: Target,
        transport: Transport,
        sending: Sending[Any],
        timeout_s: float,
        ledger: Ledger,
        *,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._target = target
        self._transport = transport
        self._sending = sending
        self._timeout_s = timeout_s
        self._ledger = ledger
        self._clock = clock
        self._jitter = jitter
        self._splits = 0
        self._taken = 0

    def run(self, requests: Sequence[Request]) -> None:
        """Delivers them in order. Every span that they carry is reported to ``sending``."""
        todo = list(reversed(requests))
        while todo:
            todo.extend(reversed(self._deliver(todo.pop())))

    def _deliver(self, request: Request) -> list[Request]:
        """Delivers one request, however often it must be sent, and returns the halves that are to be sent instead."""
        attempt = 0
        last_call = False
        while (left_s := self._sending.time_left_s()) > 0:
            response = self._transport.send(request, min(self._timeout_s, left_s))
            decision = retry.decide(request, response, attempt=attempt, now=self._clock(), jitter=self._jitter())
            if isinstance(decision, retry.Done):
                self._done(request.items, decision)
                return []
            if isinstance(decision, retry.GiveUp):
                self._drop(decision.reason, request.items, decision.detail)
                return []
            if isinstance(decision, retry.Split):
                return self._halves(request.items, decision)
            if isinstance(decision, retry.Partly):
                rest = self._partly(request.items, decision)
                if rest is None:
                    return []
                request = rest
            attempt += 1
            if attempt > 1 or decision.seconds > LONG_WAIT_S:  # what passes at once is no news
                self._note(decision)
            if not self._sending.wait(decision.seconds):
                # Shutdown woke us, or the wait would outlast it: one more try, because there may be no other process.
                if last_call or not self._sending.stopping:
                    self._drop(DropReason.SEND_FAILED, request.items, decision.detail)
                    return []
                last_call = True
        self._drop(DropReason.SEND_FAILED, request.items, "the time is over")
        return []

    def _done(self, items: Sequence[Any], decision: retry.Done) -> None:
        self._taken += 1
        if decision.rejected:
            self._sending.dropped(Drop(DropReason.REJECTED, decision.rejected, decision.detail))
        elif decision.detail:
            self._ledger.note("advice", f"the destination says: {decision.detail}")
        self._sending.exported(count_spans(items) - decision.rejected)

    def _partly(self, items: Sequence[Any], decision: retry.Partly) -> Request | None:
        """Reports what was decided, and returns a request with the rest."""
        self._taken += 1
        if decision.rejected:
            self._drop(DropReason.REJECTED, decision.rejected, decision.detail)
        undecided = count_spans(decision.again)
        self._sending.exported(count_spans(items) - count_spans(decision.rejected) - undecided)
        return again(decision.again, self._target) if decision.again else None

    def _halves(self, items: Sequence[Any], decision: retry.Split) -> list[Request]:
        self._splits += 1
        futile = self._splits > (MAX_SPLITS if self._taken else MAX_FUTILE_SPLITS)
        if len(items) < 2 or (futile and decision.reason is DropReason.REJECTED):
            self._drop(decision.reason, items, decision.detail)
            return []
        middle = len(items) // 2
        return [half for part in (items[:middle], items[middle:]) if (half := again(part, self._target)) is not None]

    def _drop(self, reason: DropReason, items: Sequence[Any], detail: str) -> None:
        self._sending.dropped(Drop(reason, count_spans(items), detail))

    def _note(self, decision: retry.Wait | retry.Partly) -> None:
        self._ledger.note("retry", f"not delivered yet, trying again in {decision.seconds:.1f} s: {decision.detail}")
