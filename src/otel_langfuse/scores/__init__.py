"""Scores: what somebody thinks of a trace, an observation, a session or a dataset run.

They pass through a queue like that of spans (same bounds, fork, exit, flush and account) and reach Langfuse by the first way that
the server knows. On a running observation a score is also OpenTelemetry's event ``gen_ai.evaluation.result`` on its span, so that
it survives wherever the span goes: https://github.com/open-telemetry/semantic-conventions-genai (docs/gen-ai/gen-ai-events.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from opentelemetry.trace import Span

from otel_langfuse import attributes as names
from otel_langfuse.batch import SHUTDOWN_TIMEOUT_S, Batch
from otel_langfuse.config import Config
from otel_langfuse.errors import DropReason, ScoreError
from otel_langfuse.masks import masking_for
from otel_langfuse.model import Score, ScoreFields, Stats
from otel_langfuse.pipeline.mask import Mask, Masking
from otel_langfuse.propagation import propagated_attributes
from otel_langfuse.retry import one_line
from otel_langfuse.stats import Ledger

from ._checked import checked
from ._event import EVENT, evaluation_event
from ._senders import MAX_REQUEST_BYTES, ToServer, destination_of, sender_for
from ._undecided import Undecided

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._senders import Sender

__all__ = ["Scores", "destination_of", "evaluation_event"]

FLUSH_AT: Final = 100
FLUSH_INTERVAL_S: Final = 1.0
"""Scores wait for their batch no longer than in Langfuse's own SDK (api.md 5.6)."""

_NOWHERE: Final = (
    "without LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY a score goes nowhere but onto its observation, as long as that runs"
)

SCORE_BYTES: Final = 512
"""What a score counts for in the queue, beside its texts."""


class Scores:
    """Sends scores to one destination. Safe to use on any thread; nothing is started before the first score.

    Args:
        config: where to (a Langfuse server, or a local SQLite file), the bounds of the queue (``max_queue_spans`` scores,
            ``max_queue_bytes``), ``timeout``, ``environment``, and the spool (``spool_path`` and its relatives).
        mask: as ``LangfuseSpanProcessor`` takes it, or a processor's ``masking``; applied on the worker to comments, metadata
            and values that are texts. Names and ids are sent as they are.
        keeps: whether the trace of this id is sent, by ``sample_rate`` and ``tail``: a score of one that is not is dropped, as
            ``sampled_out``; answers None as long as that is not decided, for which the score waits. None: all are.
        debug: an invalid score raises ``ScoreError``; otherwise it is logged, and counted as ``invalid``.
        goes_elsewhere: spans go to something that is no Langfuse. Then a score that has no server, and no running span to be on,
            is counted as ``send_failed``.

    What cannot be sent is tried again as long as the queue holds it; with a spool it is kept there, as spans are, in the same
    file. Without keys for Langfuse nothing is sent or counted.
    """

    def __init__(
        self,
        config: Config,
        *,
        mask: Mask | Masking | None = None,
        keeps: Callable[[str], bool | None] | None = None,
        debug: bool = False,
        goes_elsewhere: bool = False,
    ) -> None:
        self._environment = config.environment
        self._keeps = keeps
        self._goes_elsewhere = goes_elsewhere and config.enabled
        self._debug = debug
        self._ledger = Ledger(name=config.base_url, noun="score")
        self._sender = sender = sender_for(config, masking_for(config, mask), self._ledger)
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
        is_told = span is not None and span.is_recording() and self._tell(score, span)
        if self._batch is None:
            if self._goes_elsewhere and not is_told:
                self._ledger.start()
                self._ledger.drop(DropReason.SEND_FAILED, 1, _NOWHERE)
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

    def _tell(self, score: Score, span: Span) -> bool:
        try:
            span.add_event(EVENT, evaluation_event(score))
        except Exception as error:  # noqa: BLE001 - of a foreign span
            self._ledger.note("event", f"a score is not on its span: {type(error).__name__}")
            return False
        return True

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

    def begin(self) -> None:
        """Starts to send what ended processes left in the spool; otherwise the first score does. Any number of times."""
        if isinstance(self._sender, ToServer):
            self._sender.outgoing.begin(self._ledger)

    def send_kept(self, timeout_s: float) -> Stats:
        """Sends what ended processes left in the spool, until nothing is left or it does not work; then it is ended.

        Returns:
            What became of it.
        """
        if isinstance(self._sender, ToServer):
            self._sender.outgoing.send_kept(timeout_s)
        return self.stats()

    def stats(self) -> Stats:
        """What became of the scores, as of spans."""
        return self._ledger.snapshot() if self._batch is None else self._batch.stats()


def _batch(sender: Sender, ledger: Ledger, config: Config, undecided: Undecided | None) -> Batch[Score]:
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
        keeper=sender if isinstance(sender, ToServer) and sender.outgoing.keeps else None,
    )


def _size_bytes(score: Score) -> int:
    return SCORE_BYTES + len(score.comment or "") + len(str(score.value)) + len(str(score.metadata or ""))
