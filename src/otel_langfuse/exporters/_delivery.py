"""The one loop that all network exporters share: send, decide, then wait, split, cut or give up."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from otel_langfuse import retry
from otel_langfuse import threads as threading  # the operating system's, also under gevent
from otel_langfuse.errors import Drop, DropReason
from otel_langfuse.model import Request, Response
from otel_langfuse.prepare import Target, again, count_spans, smaller
from otel_langfuse.stats import Ledger
from otel_langfuse.transport import Transport

from ._health import Health, Suspect
from ._patience import Patience, Waiting

LONG_WAIT_S: Final = 2.0
"""The first wait for a request is logged if it is longer than this; each further one is, as far as the log is not full of it."""

REFUSED_LOG_INTERVAL_S: Final = 3600.0
"""That the destination refuses our keys is said this often: it is clear from the first time on."""

MAX_FUTILE_SPLITS: Final = 24
"""Requests refused as a whole, one after the other and none taken, after which the rest is given up: the fault is not in
one span. To isolate the first bad one of 512 takes nine."""

MAX_SPLITS: Final = 200
"""Requests refused as a whole, while others are taken, after which the rest of the batch is given up."""

_OWN_RANDOM = random.SystemRandom()  # not the application's numbers, which it may have seeded


class Account(Protocol):
    """What is told the fate of every span."""

    def exported(self, count: int) -> None:
        """``count`` spans have arrived."""

    def dropped(self, drop: Drop) -> None:
        """``drop.count`` spans will not."""

    def time_left_s(self) -> float:
        """Seconds that there are for all of it."""


class Left(NamedTuple):
    """A request that was not delivered, and its spans not reported; and why, and what its spans are dropped for."""

    request: Request
    detail: str
    reason: DropReason = DropReason.SEND_FAILED


class _Todo(NamedTuple):
    """A request to be sent, and how often it was."""

    request: Request
    attempt: int = 0
    suspect: Suspect | None = None


class Delivery:
    """Delivers one batch's requests, on the thread that calls ``run``.

    Args:
        target: what the requests were made for; halves are encoded for it again.
        transport: sends.
        account: gets the fate of every span but those of what is left, and says how much time there is.
        patience: waits.
        timeout_s: seconds for one request.
        ledger: notes that a destination makes us wait.
        health: of the destination, shared by all that deliver to it; by default nobody else does.
        clock: seconds since 1970.
        jitter: random numbers from 0.0 to 1.0.
    """

    def __init__(
        self,
        target: Target,
        transport: Transport,
        account: Account,
        patience: Patience,
        *,
        timeout_s: float,
        ledger: Ledger,
        health: Health | None = None,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = _OWN_RANDOM.random,
    ) -> None:
        self._target = target
        self._transport = transport
        self._account = account
        self._patience = patience
        self._timeout_s = timeout_s
        self._ledger = ledger
        self._health = health or Health()
        self._clock = clock
        self._jitter = jitter
        self._lock = threading.Lock()  # held while something is decided, so that it is decided once
        self._todo: list[_Todo] = []  # in reverse
        self._current: Request | None = None
        self._left: list[Left] = []
        self._is_running = False
        self._is_taken_away = False
        self._splits = 0
        self._taken = 0

    def run(self, requests: Sequence[Request], attempt: int = 0, suspect: Suspect | None = None) -> None:
        """Delivers them in order. The fate of every span is reported, but for those of what is left.

        Args:
            requests: with all that is to be delivered.
            attempt: how often the first of them was sent before.
            suspect: what is known of that.
        """
        with self._lock:
            self._is_running = True
            self._todo = [_Todo(request) for request in reversed(requests)]
            if self._todo:
                self._todo[-1] = _Todo(requests[0], attempt, suspect)
        while (todo := self._next()) is not None:
            if self._patience.tries(len(self._left)):
                self._deliver(todo)
            else:
                last = self._left[-1] if self._left else None
                self._leave(todo.request, last.detail if last else "", last.reason if last else None)

    def pop_left(self) -> Left | None:
        """The next request that was left, in order; None if there is no more."""
        with self._lock:
            return self._left.pop(0) if self._left else None

    def take_away(self) -> list[Request] | None:
        """What is undecided, from another thread: it is not sent again, reported or left here any more.

        Returns:
            None if ``run`` was not called yet; it will then do nothing.
        """
        with self._lock:
            self._is_taken_away = True
            current = [] if self._current is None else [self._current]
            rest = [*(left.request for left in self._left), *current, *(todo.request for todo in reversed(self._todo))]
            self._left, self._todo = [], []
            return rest if self._is_running else None

    def _next(self) -> _Todo | None:
        with self._lock:
            todo = None if self._is_taken_away or not self._todo else self._todo.pop()
            self._current = None if todo is None else todo.request
            return todo

    def _deliver(self, todo: _Todo) -> None:
        """Delivers a request, however often it must be sent; or leaves it, or puts it behind the others, or its parts first."""
        request, attempt = todo.request, todo.attempt
        suspect = todo.suspect or Suspect()
        while (left_s := self._account.time_left_s()) > 0:
            response = self._transport.send(request, self._patience.request_timeout_s(self._timeout_s, left_s))
            decision = self._decision(request, response, attempt, suspect)
            with self._lock:
                if self._is_taken_away:
                    return
                rest = self._current = self._decided(request, decision)
            if rest is None or not isinstance(decision, (retry.Wait, retry.Partly)):
                return
            request = rest
            attempt += 1
            self._note(decision, attempt)
            if not self._patience.wait(decision):
                self._leave(request, decision.detail, decision.reason if isinstance(decision, retry.Wait) else None)
                return
            if (
                response.status == 500
                and attempt > retry.MAX_SERVER_ERRORS
                and self._put_behind(_Todo(request, attempt, suspect))
            ):
                return
        self._leave(request, "the time is over")

    def _decision(self, request: Request, response: Response, attempt: int, suspect: Suspect) -> retry.Decision:
        decision = retry.decide(
            request,
            response,
            attempt=attempt,
            now=self._clock(),
            jitter=self._jitter(),
            to_blame=suspect.is_to_blame or self._patience.is_over_for(attempt),
        )
        if isinstance(decision, retry.Wait) or (isinstance(decision, retry.Split) and decision.reason is DropReason.SEND_FAILED):
            suspect.failed(self._health)
            self._health.failed()
        else:
            self._health.answered()
            self._patience.answered()
        return decision

    def _put_behind(self, todo: _Todo) -> bool:
        """Lets the others be tried first: if one of them is taken, this one is to blame. False if there are no others."""
        with self._lock:
            if not self._todo or self._is_taken_away:
                return False
            self._todo.insert(0, todo)
            self._current = None
            return True

    def _decided(self, request: Request, decision: retry.Decision) -> Request | None:
        """Reports what is decided, and returns the request with what is not."""
        if isinstance(decision, retry.Done):
            self._done(request.items, decision)
        elif isinstance(decision, retry.GiveUp):
            self._drop(decision.reason, request.items, decision.detail)
        elif isinstance(decision, retry.Split):
            self._todo.extend(_Todo(part) for part in reversed(self._parts(request.items, decision)))
        elif isinstance(decision, retry.Partly):
            return self._partly(request.items, decision)
        else:
            return request
        return None

    def _leave(self, request: Request, detail: str, reason: DropReason | None = None) -> None:
        with self._lock:
            self._current = None
            if not self._is_taken_away:
                self._left.append(Left(request, detail, reason or DropReason.SEND_FAILED))

    def _done(self, items: Sequence[Any], decision: retry.Done) -> None:
        self._taken += 1
        if decision.rejected:
            self._account.dropped(Drop(DropReason.REJECTED, decision.rejected, decision.detail))
        elif decision.detail:
            self._ledger.note("advice", f"the destination says: {decision.detail}")
        self._account.exported(count_spans(items) - decision.rejected)

    def _partly(self, items: Sequence[Any], decision: retry.Partly) -> Request | None:
        """Reports what was decided, and returns a request with the rest."""
        self._taken += 1
        if decision.rejected:
            self._drop(DropReason.REJECTED, decision.rejected, decision.detail)
        undecided = count_spans(decision.again)
        self._account.exported(count_spans(items) - count_spans(decision.rejected) - undecided)
        return again(decision.again, self._target) if decision.again else None

    def _parts(self, items: Sequence[Any], decision: retry.Split) -> list[Request]:
        """Two halves; of a single item that is too large, what remains of it when its largest values are cut."""
        self._splits += 1
        allowed = MAX_FUTILE_SPLITS if not self._taken else MAX_SPLITS if decision.reason is DropReason.REJECTED else math.inf
        futile = self._splits > allowed and decision.reason is not DropReason.SEND_FAILED
        if (
            not futile
            and len(items) < 2
            and decision.reason is DropReason.TOO_LARGE
            and (cut := smaller(items[0], self._target)) is not None
        ):
            detail = f"cut the largest values of a span that was too large for the destination: {decision.detail}"
            self._account.dropped(Drop(DropReason.TOO_LARGE, 0, detail))
            return [cut]
        if futile or len(items) < 2:
            self._drop(decision.reason, items, decision.detail)
            return []
        middle = len(items) // 2
        return [half for part in (items[:middle], items[middle:]) if (half := again(part, self._target)) is not None]

    def _drop(self, reason: DropReason, items: Sequence[Any], detail: str) -> None:
        self._account.dropped(Drop(reason, count_spans(items), detail))

    def _note(self, decision: Waiting, attempt: int) -> None:
        if isinstance(decision, retry.Wait) and decision.reason is DropReason.REJECTED:
            line = f"nothing is taken; what ends is kept as far as it fits, and tried again every {decision.seconds:.0f} s"
            self._ledger.note("refused", f"{line}: {decision.detail}", REFUSED_LOG_INTERVAL_S)
        elif attempt > 1 or decision.seconds > LONG_WAIT_S:  # what passes at once is no news
            self._ledger.note("retry", f"not delivered yet, trying again in {decision.seconds:.1f} s: {decision.detail}")
