"""What stands behind the queue of scores, on its worker: a Langfuse server, with a spool before it, or the local store."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from otel_langfuse.batch import Sending
from otel_langfuse.config import Config, sqlite_path
from otel_langfuse.encode import scores as encode
from otel_langfuse.errors import Drop, DropReason
from otel_langfuse.exporters import missing_keys
from otel_langfuse.exporters._headers import langfuse_headers
from otel_langfuse.exporters._outgoing import Outgoing
from otel_langfuse.exporters.ingestion import INGESTION_PATH
from otel_langfuse.model import Request, Score
from otel_langfuse.pipeline.mask import Masking
from otel_langfuse.prepare import Target
from otel_langfuse.retry import backoff_s, one_line
from otel_langfuse.stats import Ledger
from otel_langfuse.transport import Tls, basic_authorization, new_transport, suppressed

from ._ladder import SCORES_PATH, Ladder
from ._mask import masked

if TYPE_CHECKING:
    from otel_langfuse.spool import Destination
    from otel_langfuse.store import Store, StoreError

MAX_REQUEST_BYTES: Final = 1_000_000
"""What ``/scores`` takes in one request (api.md 1.4)."""


def sender_for(config: Config, mask: Masking | None, ledger: Ledger) -> Sender | None:
    """What sends where the settings say; None where there is nothing to send to.

    Raises:
        ConfigError: the directory of the spool does not exist.
    """
    if not config.enabled:
        return None
    path = sqlite_path(config.base_url)
    if path is not None:
        from otel_langfuse.store import Store  # noqa: PLC0415 - who sends elsewhere need not load SQLite

        return ToStore(Store(path), mask, ledger)
    return None if missing_keys(config) else ToServer(config, mask, ledger)


def destination_of(config: Config) -> Destination:
    """What scores for a server are kept for in the spool: not what spans are, because they go other ways."""
    from otel_langfuse.spool import Destination, project_of  # noqa: PLC0415 - who has no spool need not load SQLite

    return Destination("scores", config.base_url + SCORES_PATH, project_of(str(config.public_key)))


class ToServer:
    """To a Langfuse server; also the ``batch.Keeper``, where there is a spool."""

    def __init__(self, config: Config, mask: Masking | None, ledger: Ledger) -> None:
        credentials = basic_authorization(str(config.public_key), str(config.secret_key))
        tls = Tls(config.certificate_file, config.client_certificate_file, config.client_key_file)
        headers = langfuse_headers(config)
        limit = min(config.max_request_bytes, MAX_REQUEST_BYTES)
        self._mask = mask
        self._ledger = ledger
        self._preparing: set[int] = set()
        self._target = Target("ingestion", config.base_url + INGESTION_PATH, headers, limit, "none")
        transport = new_transport("http/json", config.base_url, credentials, tls)
        self.outgoing = Outgoing(
            self._target,
            Ladder(transport, config.base_url, headers),
            timeout_s=config.timeout_s,
            ledger=ledger,
            config=config,
            destination=None if config.spool_path is None else destination_of(config),
        )

    def send(self, sending: Sending[Score]) -> None:
        with suppressed():
            made = self._requests(sending)
            self.outgoing.deliver(lambda: made, sending)

    def _requests(self, sending: Sending[Score]) -> list[Request]:
        self._preparing.add(id(sending))
        try:
            made, drops = encode.requests(
                masked(sending.items, self._mask, self._ledger),
                url=self._target.url,
                headers=self._target.headers,
                max_request_bytes=self._target.max_request_bytes,
            )
        finally:
            self._preparing.discard(id(sending))
        for drop in drops:
            sending.dropped(drop)
        return made

    def keep(self, sending: Sending[Score]) -> None:
        with suppressed():
            # While a mask does not come to an end on the worker, it would not here either, and nothing is kept unmasked.
            self.outgoing.keep(sending, lambda: [] if self._preparing else self._requests(sending))

    def arrived(self, timeout_s: float) -> bool:
        return self.outgoing.arrived(timeout_s)

    def finish(self, timeout_s: float) -> None:
        self.outgoing.finish(timeout_s)

    def flush(self, timeout_s: float) -> bool:  # noqa: ARG002 - nothing is kept back here
        return True

    def close(self) -> None:
        self.outgoing.close()


class ToStore:
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


Sender: TypeAlias = "ToServer | ToStore"
