"""Requests on their way to one target: sent as they come, and by way of the spool, if there is one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from otel_langfuse.batch import Sending
from otel_langfuse.config import Config
from otel_langfuse.errors import Drop
from otel_langfuse.model import Request
from otel_langfuse.prepare import Target, count_spans
from otel_langfuse.stats import Ledger
from otel_langfuse.transport import Transport

from ._delivery import Delivery, Left
from ._health import Health
from ._patience import InMemory, Patience

if TYPE_CHECKING:
    from otel_langfuse.spool import Destination

    from ._outbox import Outbox


class Outgoing:
    """What stands between items that were prepared and the transport. Most of it is what ``batch.Keeper`` asks for.

    Args:
        target: what requests are made for.
        transport: sends.
        timeout_s: seconds for one request.
        ledger: takes the notes, and the counts of what other processes left.
        config: says where the spool is, if there is one, and how it is used. None: there is none.
        destination: what it is called in the spool; by default what the target says.

    Raises:
        ConfigError: the directory of the spool does not exist.
    """

    def __init__(
        self,
        target: Target,
        transport: Transport,
        *,
        timeout_s: float,
        ledger: Ledger,
        config: Config | None = None,
        destination: Destination | None = None,
    ) -> None:
        self._target = target
        self._transport = transport
        self._timeout_s = timeout_s
        self._ledger = ledger
        self._health = Health()
        self._deliveries: dict[int, Delivery] = {}
        self.outbox: Outbox | None = None
        if config is not None and config.spool_path is not None:
            self.outbox = self._outbox(config, destination)

    def _outbox(self, config: Config, destination: Destination | None) -> Outbox:
        from otel_langfuse.spool import Limits  # noqa: PLC0415 - who has no spool need not load SQLite

        from ._outbox import Outbox, Rules  # noqa: PLC0415 - as above

        limits = Limits(config.spool_max_bytes, config.spool_max_age_s)
        return Outbox(
            str(config.spool_path),
            self._target,
            self._transport,
            timeout_s=self._timeout_s,
            ledger=self._ledger,
            health=self._health,
            rules=Rules(config.spool_mode == "always", config.spool_after_s, limits, config.threads),
            destination=destination,
        )

    @property
    def keeps(self) -> bool:
        """Whether there is a spool."""
        return self.outbox is not None

    def begin(self, ledger: Ledger) -> None:
        """Starts to send what processes left in the spool that are gone; their counts are this ledger's. Any number of times."""
        if self.outbox is not None:
            self.outbox.begin(ledger)

    def deliver(self, make: Callable[[], list[Request]], sending: Sending[Any]) -> None:
        """Sends requests, or puts them into the spool, and reports the fate of all that they carry.

        Args:
            make: encodes them; called once.
            sending: the batch that they are made of.
        """
        outbox = self.outbox
        patience: Patience = InMemory(sending, self._health)
        if outbox is not None:
            outbox.begin(sending.ledger)
            patience = outbox.patience(sending)
        back = self._deliver(make, sending, patience)
        while back and not patience.is_over:  # the spool cannot be written, or has no room for any of it
            patience = InMemory(sending, self._health) if outbox is None or outbox.works else outbox.patience(sending)
            back = self._deliver([one.request for one in back].copy, sending, patience)
        for one in back:
            sending.dropped(Drop(one.reason, count_spans(one.request.items), one.detail))

    def _deliver(self, make: Callable[[], list[Request]], sending: Sending[Any], patience: Patience) -> list[Left]:
        """Sends requests, or puts them into the spool. Returns those that are left."""
        delivery = Delivery(
            self._target, self._transport, sending, patience, timeout_s=self._timeout_s, ledger=self._ledger, health=self._health
        )
        self._deliveries[id(sending)] = delivery
        try:
            delivery.run(make())  # which ``keep`` may need to know about before they are made
            back: list[Left] = []
            while (left := delivery.pop_left()) is not None:
                if self.outbox is None or not self.outbox.put(left.request, sending):
                    back.append(left)
        finally:
            del self._deliveries[id(sending)]
        return back

    def keep(self, sending: Sending[Any], make: Callable[[], Sequence[Request]]) -> None:
        """Puts into the spool what is undecided of a batch, be it on its way just now; see ``batch.Keeper``.

        Args:
            sending: the batch.
            make: encodes it; called only if it was never on its way.
        """
        outbox = self.outbox
        if outbox is None or not sending.undecided:
            return
        outbox.leave()
        delivery = self._deliveries.get(id(sending))
        rest = None if delivery is None else delivery.take_away()
        for request in make() if rest is None else rest:
            outbox.put(request, sending)

    def arrived(self, timeout_s: float) -> bool:
        """Waits until what was put into the spool has been sent; see ``batch.Keeper``."""
        return self.outbox is None or self.outbox.arrived(timeout_s)

    def finish(self, timeout_s: float) -> None:
        """Sends what is in the spool, as long as that works; see ``batch.Keeper``."""
        if self.outbox is not None:
            self.outbox.finish(timeout_s)

    def send_kept(self, timeout_s: float) -> None:
        """Sends what processes left in the spool that are gone, until nothing is left or it does not work; then it is ended."""
        self.begin(self._ledger)
        self.finish(timeout_s)

    def close(self) -> None:
        """Closes idle connections, and the spool."""
        if self.outbox is not None:
            self.outbox.close()
        self._transport.close()
