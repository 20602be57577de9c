"""An exporter over the network: one target, one transport."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, MutableSet, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, Final, TypedDict
from urllib.parse import urlsplit

from otel_langfuse.batch import Sending
from otel_langfuse.config import Config
from otel_langfuse.encode.otlp import NOT_WRITTEN, Quick, Written
from otel_langfuse.errors import Drop, DropReason
from otel_langfuse.model import Request, Span, Stats
from otel_langfuse.pipeline.mask import Mask, Masking
from otel_langfuse.prepare import Ready, Target, quick, ready, requests
from otel_langfuse.spans import load_protobuf
from otel_langfuse.transport import Transport

from ._base import LangfuseExporter
from ._headers import public_key_of
from ._media_way import media_way
from ._outgoing import Outgoing

MAX_SEEN_TRACES: Final = 10_000


class DeliverySettings(TypedDict, total=False):
    """What becomes of what cannot be sent, of media and of secrets; the same for every exporter over the network.

    ``spool_path``: a file that keeps what cannot be sent, until this process or a later one can send it; in a directory that
    exists, on a local disk. Without it nothing is kept. ``spool_mode``: ``outage`` (default), or ``always``: every batch is in
    the file before it is sent. ``spool_after``: seconds for which the destination takes nothing before spans go to the file;
    default 30. ``spool_max_bytes``: size of what the file holds; the oldest is dropped. Default 512 MiB. ``spool_max_age``:
    seconds after which what is in the file is dropped. Default 7 days. A destination may then get a span twice, when a process
    ends at the wrong moment: Langfuse overwrites by id, most others do not.

    ``media``: what becomes of images, sounds and documents in the texts of spans: ``send`` (default towards Langfuse),
    ``keep`` (default elsewhere), ``cut``, False (``cut`` towards Langfuse, else ``keep``), or a folder or ``fsspec`` URL to
    write to; a reference or a marker stands in their place. For a collector, ``send`` needs Langfuse's keys in the
    environment. ``media_threads``: media that are sent at the same time, at most; default 2. ``media_wait``: seconds for
    which spans wait for their media, at most; default 15. ``max_media_bytes``: size of one of them, at most; default 50 MiB.

    ``mask_secrets``: whether keys, tokens and passwords are masked although ``mask`` does not name them; default True.
    ``mask_timeout``: seconds that a function in ``mask`` takes for one value, at most; default 5. Both count only where no
    processor of ours stands before the exporter.
    """

    spool_path: str | os.PathLike[str] | None
    spool_mode: str | None
    spool_after: float | None
    spool_max_bytes: int | None
    spool_max_age: float | None
    media: str | os.PathLike[str] | bool | None
    media_threads: int | None
    media_wait: float | None
    max_media_bytes: int | None
    mask_secrets: bool | None
    mask_timeout: float | None


def config_of(delivery: Mapping[str, Any], **settings: Any) -> Config:
    """A checked configuration of an exporter's settings. ``delivery``: ``DeliverySettings`` as they were given.

    Raises:
        ConfigError: a setting cannot work.
        TypeError: ``delivery`` has something else.
    """
    if unknown := delivery.keys() - DeliverySettings.__annotations__.keys():
        raise TypeError(f"no such setting of an exporter: {', '.join(sorted(unknown))}")
    return Config.from_env(**settings, **delivery)


class Seen(MutableSet[str]):
    """The latest ids, at most ``MAX_SEEN_TRACES``: forgetting one costs only an event that says what is known.

    Several threads may add to it.
    """

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, value: object) -> bool:
        return value in self._ids

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, value: str) -> None:
        """Adds an id, or makes it the latest again."""
        with suppress(KeyError):  # another thread was faster; a lock could be held for ever in a forked child
            self._ids[value] = None
            self._ids.move_to_end(value)
            if len(self._ids) > MAX_SEEN_TRACES:
                self._ids.popitem(last=False)

    def discard(self, value: str) -> None:
        """Forgets an id."""
        self._ids.pop(value, None)


class NetworkExporter(LangfuseExporter):
    """Delivers to ``target`` by ``transport``.

    Args:
        target: what requests look like.
        transport: knows the credentials.
        timeout_s: seconds for one request, and for one call of ``export``.
        mask: see ``LangfuseExporter``.
        config: says where the spool is, if there is one, how it is used, and the way that media go.
        missing: what to set before anything can be sent; then everything is dropped, counted as ``send_failed``.

    Raises:
        ConfigError: the directory of the spool does not exist.
    """

    def __init__(
        self,
        target: Target,
        transport: Transport,
        *,
        timeout_s: float,
        mask: Mask | None,
        config: Config | None = None,
        missing: str = "",
    ) -> None:
        parts = urlsplit(target.url)
        name = f"{parts.scheme}://{parts.netloc}"
        is_langfuse = "x-langfuse-sdk-name" in target.headers
        media = None if config is None or missing else media_way(config, to_langfuse=is_langfuse, name=name)
        super().__init__(name=name, timeout_s=timeout_s, mask=mask, media=media, config=config)
        self.target = target
        self._transport = transport
        self._seen = Seen()
        self._missing = missing
        self._quick: tuple[Masking | None, Quick | None] | None = None
        if not is_langfuse or (config is not None and config.spool_path is not None):
            load_protobuf()  # for a collector's answers, and to read from the spool: not first in a worker or a forked child
        if missing:
            logging.getLogger("otel_langfuse").warning("otel-langfuse: nothing is sent: %s", missing)
        spool = None if missing else config
        self._outgoing = Outgoing(target, transport, timeout_s=timeout_s, ledger=self._ledger, config=spool)

    @property
    def project(self) -> object:
        """See ``LangfuseExporter.project``."""
        return self.name, public_key_of(self.target.headers) or self.target.url

    @property
    def keeps(self) -> bool:
        """Whether there is a spool."""
        return self._outgoing.keeps

    def ready(self, spans: Sequence[Span], mask: Masking | None) -> Ready:
        """See ``LangfuseExporter.ready``; where there is a quick way, the spans are then written, too."""
        lifting = None if self.media is None else self.media.lifting
        if self._quick is None or self._quick[0] is not mask:
            self._quick = mask, quick(self.target, mask, lifting)
        return ready(spans, mask, lifting, self._quick[1])

    def deliver_ready(self, masked: Ready, sending: Sending[Any]) -> None:
        """See ``LangfuseExporter.deliver_ready``."""
        spans = masked.spans if self.media is None else self.media.settled(masked.spans, sending)
        self.deliver(spans, sending, masked.written)

    def deliver(self, spans: Sequence[Span], sending: Sending[Any], written: Written = NOT_WRITTEN) -> None:
        """Encodes and sends, or puts into the spool; see ``LangfuseExporter.deliver``. ``written``: of ``ready``."""
        if self._missing:
            sending.dropped(Drop(DropReason.SEND_FAILED, len(spans), self._missing))
            return
        if self.beside is not None:
            self.beside()
        self._outgoing.deliver(lambda: self._requests(spans, sending, written), sending)

    def keep(self, sending: Sending[Any], spans: Callable[[], Sequence[Span]]) -> None:
        """Puts into the spool what is undecided of a batch, be it on its way just now; see ``batch.Keeper``.

        Args:
            sending: the batch.
            spans: prepares its spans; called only if they were never on their way.
        """
        self._outgoing.keep(sending, lambda: self._requests(spans(), sending))

    def arrived(self, timeout_s: float) -> bool:
        """Waits until what was put into the spool has been sent; see ``batch.Keeper``."""
        return self._outgoing.arrived(timeout_s)

    def finish(self, timeout_s: float) -> None:
        """Sends what is in the spool, as long as that works; see ``batch.Keeper``."""
        self._outgoing.finish(timeout_s)

    def send_kept(self, timeout_s: float) -> Stats:
        """Sends what processes left in the spool that are gone, until nothing is left or it does not work; then it is ended.

        Returns:
            What became of it.
        """
        self._outgoing.send_kept(timeout_s)
        return self.stats()

    def close(self) -> None:
        """Closes idle connections, and the spool."""
        self._outgoing.close()

    def _requests(self, spans: Sequence[Span], sending: Sending[Any], written: Written = NOT_WRITTEN) -> list[Request]:
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        made, drops = requests(spans, self.target, now=now, seen=self._seen, written=written)
        for drop in drops:
            sending.dropped(drop)
        return made
