"""An exporter over the network: one target, one transport."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator, MutableSet, Sequence
from datetime import datetime, timezone
from typing import Any, Final
from urllib.parse import urlsplit

from otel_langfuse.batch import Sending
from otel_langfuse.errors import Drop, DropReason
from otel_langfuse.model import Span
from otel_langfuse.pipeline.mask import Mask
from otel_langfuse.prepare import Target, requests
from otel_langfuse.transport import Transport

from ._base import LangfuseExporter
from ._delivery import Delivery

MAX_SEEN_TRACES: Final = 10_000


class Seen(MutableSet[str]):
    """The latest ids, at most ``MAX_SEEN_TRACES``: forgetting one costs only an event that says what is known."""

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
        missing: what to set before anything can be sent; then everything is dropped, counted as ``send_failed``.
    """

    def __init__(self, target: Target, transport: Transport, *, timeout_s: float, mask: Mask | None, missing: str = "") -> None:
        parts = urlsplit(target.url)
        super().__init__(name=f"{parts.scheme}://{parts.netloc}", timeout_s=timeout_s, mask=mask)
        self.target = target
        self._transport = transport
        self._seen = Seen()
        self._missing = missing
        if missing:
            logging.getLogger("otel_langfuse").warning("otel-langfuse: nothing is sent: %s", missing)

    def deliver(self, spans: Sequence[Span], sending: Sending[Any]) -> None:
        """Encodes and sends; see ``LangfuseExporter.deliver``."""
        if self._missing:
            sending.dropped(Drop(DropReason.SEND_FAILED, len(spans), self._missing))
            return
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        made, drops = requests(spans, self.target, now=now, seen=self._seen)
        for drop in drops:
            sending.dropped(drop)
        Delivery(self.target, self._transport, sending, self._timeout_s, self._ledger).run(made)

    def close(self) -> None:
        """Closes idle connections."""
        self._transport.close()
