"""Scores: what somebody thinks of a trace, an observation, a session or a dataset run.

They pass through a queue like that of spans (same bounds, fork, exit, flush and account) and reach Langfuse by the first way that
the server knows. On a running observation a score is also OpenTelemetry's event ``gen_ai.evaluation.result`` on its span, so that
it survives wherever the span goes: https://github.com/open-telemetry/semantic-conventions-genai (docs/gen-ai/gen-ai-events.md).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from opentelemetry.trace import Span

from otel_langfuse import attributes as names
from otel_langfuse.batch import SHUTDOWN_TIMEOUT_S, Batch, Sender, Sending
from otel_langfuse.config import Config, sqlite_path
from otel_langfuse.encode import scores as encode
from otel_langfuse.errors import Drop, DropReason, ScoreError
from otel_langfuse.exporters import missing_keys
from otel_langfuse.exporters._delivery import Delivery
from otel_langfuse.exporters._headers import langfuse_headers
from otel_langfuse.exporters._health import Health
from otel_langfuse.exporters._patience import InMemory
from otel_langfuse.exporters.ingestion import INGESTION_PATH
from otel_langfuse.masks import masking_for
from otel_langfuse.model import Score, ScoreFields, Stats
from otel_langfuse.pipeline.mask import Mask, Masking
from otel_langfuse.prepare import Target
from otel_langfuse.propagation import propagated_attributes
from otel_langfuse.retry import backoff_s, one_line
from otel_langfuse.stats import Ledger
from otel_langfuse.transport import Tls, basic_authorization, new_transport, suppressed

from ._checked import checked
from ._event import EVENT, evaluation_event
from ._ladder import Ladder
from ._mask import masked
from ._undecided import Undecided

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from otel_langfuse.store import Store, StoreError

__all__ = ["Scores", "evaluation_event"]

MAX_REQUEST_BYTES: Final = 1_000_000
"""What ``/scores`` takes in one request (api.md 1.4)."""

FLUSH_AT: Final = 100
FLUSH_INTERVAL_S: Final = 1.0
"""Scores wait for their batch no longer than in Langfuse's own SDK (api.md 5.6)."""

SCORE_BYTES: Final = 512
"""What a score counts for in the queue, beside its texts."""


class Scores:
    """Sends scores to one destination. Safe to use on any thread; nothing is started before the first score.

    Args:
        config: where to (a Langfuse server, or a local SQLite file), the bounds of the queue (``max_queue_spans`` scores,
            ``max_queue_bytes``), ``timeout`` and ``environment``.
        mask: as ``LangfuseSpanProcessor`` takes it, or a processor's ``masking``; applied on the worker to comments, metadata
            and values that are texts. Names and ids are sent as they are.
        keeps: whether the trace of this id is sent, by ``sample_rate`` and ``tail``: a score of one that is not is dropped, as
            ``sampled_out``; answers None as long as that is not decided, for which the score waits. None: all are.
        debug: an invalid score raises ``ScoreError``; otherwise it is logged, and counted as ``invalid``.

    What cannot be sent is tried again as long as the queue holds it; there is no spool for scores. Without keys for Langfuse
    nothing is sent or counted.
    """

    def __init__(
        self,
        config: Config,
        *,
        mask: Mask | Masking | None = None,
        keeps: Callable[[str], bool | None] | None = None,
        debug: bool = False,
    ) -> None:
        self._environment = config.environment
        self._keeps = keeps
        self._debug = debug
        self._ledger = Ledger(name=config.base_url, noun="score")
        sender = _sender(config, masking_for(config, mask), self._ledger)
        self._undecided = None if keeps is None else Undecided(keeps)
        self._batch: Batch[Score] | None = None if sender is None else _batch(sender, self._ledger, config, self._undecided)

    def create(self, name: str, value: float | str, *, span: Span | None = None, **fields: Unpack[ScoreFields]) -> str | None:
        """Queues a score, on the caller's thread, without I/O.

        Args:
            name: what is scored.
            value: number, True or False, or text.
            span: that is judged; while it is recording it gets the event, whether or not there is anything to send to.
            **fields: see ``ScoreFields``.

        Returns:
            Its id; None if it was dropped, which was counted and logged, and where there is nothing to send it to.

        Raises:
            ScoreError: in debug mode, if Langfuse would not take it.
        """
        try:
            score = checked(name, value, fields)
        except ScoreError as error:
            self._refuse(error)
            return None
        except Exception as error:  # noqa: BLE001 - somebody's __str__ or __float__
            self._refuse(ScoreError(f"{type(error).__name__} while reading it"))
            return None
        return score.id if self._put(score, span) else None

    def _put(self, score: Score, span: Span | None) -> bool:
        kept = True if self._keeps is None or score.trace_id is None else self._keeps(score.trace_id)
        if kept is False:
            self._ledger.start()
            self._ledger.drop(DropReason.SAMPLED_OUT)
            return False
        if span is not None and span.is_recording():
            self._tell(score, span)
        if self._batch is None:
            return False
        if score.environment is None:
            score = score._replace(environment=propagated_attributes().get(names.ENVIRONMENT, self._environment))
        undecided = self._undecided
        if kept is None and undecided is not None:
            self._batch.hold(lambda now: undecided.hold(score, _size_bytes(score), now))
            return True
        return self._batch.put(score, _size_bytes(score))

    @property
    def is_undecided(self) -> bool:
        """Whether any score waits until its trace is judged: then the spans are to be flushed first."""
        return self._undecided is not None and self._undecided.count > 0

    def _tell(self, score: Score, span: Span) -> None:
        try:
            span.add_event(EVENT, evaluation_event(score))
        except Exception as error:  # noqa: BLE001 - of a foreign span
            self._ledger.note("event", f"a score is not on its span: {type(error).__name__}")

    def _refuse(self, error: ScoreError) -> None:
        if self._debug:
            raise error
        self._ledger.start()
        self._ledger.drop(DropReason.INVALID, 1, one_line(str(error)))

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Sends what was queued, and waits for it, at most ``timeout_s`` seconds. Returns whether all of it has arrived."""
        return self._batch is None or self._batch.flush(timeout_s)

    def shutdown(self, timeout_s: float = SHUTDOWN_TIMEOUT_S) -> bool:
        """Sends what can be sent in ``timeout_s`` seconds, and ends it. Returns whether all has arrived."""
        return self._batch is None or self._batch.shutdown(timeout_s)

    def stats(self) -> Stats:
        """What became of the scores, as of spans."""
        return self._ledger.snapshot() if self._batch is None else self._batch.stats()


def _batch(sender: Sender[Score], ledger: Ledger, config: Config, undecided: Undecided | None) -> Batch[Score]:
    return Batch(
        sender,
        ledger,
        max_items=config.max_queue_spans,
        max_bytes=config.max_queue_bytes,
        flush_at=FLUSH_AT,
        flush_bytes=MAX_REQUEST_BYTES // 2,
        flush_interval_s=min(FLUSH_INTERVAL_S, config.flush_interval_s),
        policy=config.queue_policy,
        max_wait_s=config.max_wait_ms / 1000,
        flush_on_exit=config.flush_on_exit,
        name="otel-langfuse-scores",
        waiting=undecided,
    )


def _size_bytes(score: Score) -> int:
    return SCORE_BYTES + len(score.comment or "") + len(str(score.value)) + len(str(score.metadata or ""))


# -- the worker's thread ----------------------------------------------------------------------------------------


def _sender(config: Config, mask: Masking | None, ledger: Ledger) -> Sender[Score] | None:
    if not config.enabled:
        return None
    path = sqlite_path(config.base_url)
    if path is not None:
        from otel_langfuse.store import Store  # noqa: PLC0415 - who sends elsewhere need not load SQLite

        return _Kept(Store(path), mask, ledger)
    return None if missing_keys(config) else _Sent(config, mask, ledger)


class _Sent:
    """To a Langfuse server."""

    def __init__(self, config: Config, mask: Masking | None, ledger: Ledger) -> None:
        credentials = basic_authorization(str(config.public_key), str(config.secret_key))
        tls = Tls(config.certificate_file, config.client_certificate_file, config.client_key_file)
        headers = langfuse_headers(config)
        limit = min(config.max_request_bytes, MAX_REQUEST_BYTES)
        self._mask = mask
        self._ledger = ledger
        self._timeout_s = config.timeout_s
        self._target = Target("ingestion", config.base_url + INGESTION_PATH, headers, limit, "none")
        transport = new_transport("http/json", config.base_url, credentials, tls)
        self._ladder = Ladder(transport, config.base_url, headers)
        self._health = Health()

    def send(self, sending: Sending[Score]) -> None:
        with suppressed():
            target = self._target
            made, drops = encode.requests(
                masked(sending.items, self._mask, self._ledger),
                url=target.url,
                headers=target.headers,
                max_request_bytes=target.max_request_bytes,
            )
            for drop in drops:
                sending.dropped(drop)
            delivery = Delivery(
                target,
                self._ladder,
                sending,
                InMemory(sending, self._health),
                timeout_s=self._timeout_s,
                ledger=self._ledger,
                health=self._health,
            )
            delivery.run(made)
            while (left := delivery.pop_left()) is not None:
                sending.dropped(Drop(left.reason, len(left.request.items), left.detail))

    def flush(self, timeout_s: float) -> bool:  # noqa: ARG002 - nothing is kept back
        return True

    def close(self) -> None:
        self._ladder.close()


class _Kept:
    """Into the local store."""

    def __init__(self, store: Store, mask: Masking | None, ledger: Ledger) -> None:
        self._store = store
        self._mask = mask
        self._ledger = ledger

    def send(self, sending: Sending[Score]) -> None:
        scores = masked(sending.items, self._mask, self._ledger)
        attempt = 0
        while (error := self._write(scores)) is not None:
            if not error.retryable or not sending.wait(backoff_s(attempt, random.SystemRandom().random())):
                sending.dropped(Drop(DropReason.SEND_FAILED, len(scores), one_line(str(error))))
                return
            attempt += 1
        sending.exported(len(scores))

    def _write(self, scores: Sequence[Score]) -> StoreError | None:
        from otel_langfuse.store import StoreError  # noqa: PLC0415 - as above

        try:
            self._store.write_scores(scores)
        except StoreError as error:
            return error
        return None

    def flush(self, timeout_s: float) -> bool:  # noqa: ARG002 - nothing is kept back
        return True

    def close(self) -> None:
        self._store.close()
