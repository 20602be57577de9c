"""OpenTelemetry's own metrics about an SDK's processors and exporters, for ours, through the application's MeterProvider.

All but one are observable: they are read from the accounts when somebody collects, so that a span costs nothing for them. Where
nobody has set up a MeterProvider, nothing happens at all. Names, units and meanings: OpenTelemetry's semantic conventions
(https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/), in full here because ``opentelemetry.semconv`` has them in an
incubating module only, by names that changed between the versions that are supported.

What they add up to, for one processor: ``started == processed + queue.size``, and of what was processed without an
``error.type`` or a ``otel_langfuse.drop.reason``: ``exported (also with an error.type) + inflight + spooled``.
"""

from __future__ import annotations

import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from .errors import DropReason
from .model import Stats

PROCESSED: Final = "otel.sdk.processor.span.processed"
QUEUE_SIZE: Final = "otel.sdk.processor.span.queue.size"
QUEUE_CAPACITY: Final = "otel.sdk.processor.span.queue.capacity"
EXPORTED: Final = "otel.sdk.exporter.span.exported"
INFLIGHT: Final = "otel.sdk.exporter.span.inflight"
DURATION: Final = "otel.sdk.exporter.operation.duration"
SPOOLED: Final = "otel_langfuse.exporter.span.spooled"
"""Ours: semantic conventions know no spool."""

PROCESSOR_TYPE: Final = "langfuse_batch_span_processor"
EXPORTER_TYPE: Final = "langfuse_span_exporter"

DROP_REASON: Final = "otel_langfuse.drop.reason"
"""Says what the user's own choice left out; such a span was processed without an error."""

_CHOSEN: Final = (DropReason.FILTERED, DropReason.SAMPLED_OUT)
_BY_THE_PROCESSOR: Final = {DropReason.QUEUE_FULL: "queue_full", DropReason.AFTER_SHUTDOWN: "already_shutdown"}
"""Reason -> ``error.type``, in the convention's words. All other reasons are the exporter's, in our words."""


class Account(NamedTuple):
    """What one component has to say. ``waiting`` is the part of ``stats.queued`` that no exporter has yet."""

    stats: Stats
    waiting: int = 0
    capacity: int = 0


_Values = Iterable["tuple[int, dict[str, Any]]"]


class Component:
    """A processor with the exporter behind it, or an exporter by itself.

    Args:
        account: read when somebody collects, on that thread.
        exporter_type: ``EXPORTER_TYPE``, or the name of a foreign exporter's class.
        is_processor: whether there is a processor.
        address: where the exporter sends to; only host and port are told.
    """

    def __init__(
        self, account: Callable[[], Account], *, exporter_type: str = EXPORTER_TYPE, is_processor: bool = False, address: str = ""
    ) -> None:
        self.account = account
        self.processor = _identity(PROCESSOR_TYPE) if is_processor else None
        self.exporter = {**_identity(exporter_type), **_server(address)}
        _components.add(self)
        with suppress(Exception):  # an application's MeterProvider must not harm the application's spans
            _make_instruments()

    @contextmanager
    def timed(self, sending: Any) -> Iterator[None]:
        """Times the export of a batch (``batch.Sending``), from the first try to the end of the last, on the worker."""
        begin = time.perf_counter()
        error = None
        try:
            yield
        except BaseException as raised:
            error = type(raised).__name__
            raise
        finally:
            error = error or sending.failure
            if error != "spooled":  # then it has not come to its end
                with suppress(Exception):
                    _made[DURATION].record(time.perf_counter() - begin, self.exporter | ({"error.type": error} if error else {}))


_components: weakref.WeakSet[Component] = weakref.WeakSet()
_counted: Final[Counter[str]] = Counter()


def _identity(kind: str) -> dict[str, Any]:
    _counted[kind] += 1
    return {"otel.component.type": kind, "otel.component.name": f"{kind}/{_counted[kind] - 1}"}


def _server(address: str) -> dict[str, Any]:
    parts = urlsplit(address)
    if not parts.hostname:
        return {}
    return {"server.address": parts.hostname, "server.port": parts.port or (443 if parts.scheme == "https" else 80)}


# -- what the instruments read -----------------------------------------------------------------------------------------


def _processed(component: Component, account: Account) -> _Values:
    if component.processor is None:
        return
    dropped = account.stats.dropped
    chosen = {reason: dropped[reason] for reason in _CHOSEN if reason in dropped}
    failed = {error: dropped[reason] for reason, error in _BY_THE_PROCESSOR.items() if reason in dropped}
    rest = account.stats.started - account.waiting - sum(chosen.values()) - sum(failed.values())
    yield max(rest, 0), component.processor
    for reason, count in chosen.items():
        yield count, {**component.processor, DROP_REASON: str(reason)}
    for error, count in failed.items():
        yield count, {**component.processor, "error.type": error}


def _queue_size(component: Component, account: Account) -> _Values:
    if component.processor is not None:
        yield account.waiting, component.processor


def _queue_capacity(component: Component, account: Account) -> _Values:
    if component.processor is not None:
        yield account.capacity, component.processor


def _exported(component: Component, account: Account) -> _Values:
    yield account.stats.exported, component.exporter
    for reason, count in account.stats.dropped.items():
        if reason not in _CHOSEN and reason not in _BY_THE_PROCESSOR:
            yield count, {**component.exporter, "error.type": str(reason)}


def _inflight(component: Component, account: Account) -> _Values:
    yield max(account.stats.queued - account.waiting, 0), component.exporter


def _spooled(component: Component, account: Account) -> _Values:
    if account.stats.spooled:
        yield account.stats.spooled, component.exporter


class _Instrument(NamedTuple):
    """An observable instrument; a sum that only grows is a counter."""

    only_grows: bool
    read: Callable[[Component, Account], _Values]
    description: str


_INSTRUMENTS: Final[Mapping[str, _Instrument]] = {
    PROCESSED: _Instrument(
        True, _processed, "The number of spans for which the processing has finished, either successful or failed."
    ),
    QUEUE_SIZE: _Instrument(False, _queue_size, "The number of spans in the queue of a given instance of an SDK span processor."),
    QUEUE_CAPACITY: _Instrument(
        False, _queue_capacity, "The maximum number of spans the queue of a given instance of an SDK span processor can hold."
    ),
    EXPORTED: _Instrument(True, _exported, "The number of spans for which the export has finished, either successful or failed."),
    INFLIGHT: _Instrument(
        False,
        _inflight,
        "The number of spans which were passed to the exporter, but that have not been exported yet "
        "(neither successful, nor failed).",
    ),
    SPOOLED: _Instrument(False, _spooled, "The number of spans that wait on disk until they can be sent."),
}

_made: Final[dict[str, Any]] = {}


def _make_instruments() -> None:
    """Once per process, for all components: a second instrument of the same name would not be asked by the SDK.

    Before the application sets its MeterProvider, the API makes stand-ins, which become real when it does.
    """
    if DURATION in _made:
        return
    from opentelemetry import metrics  # noqa: PLC0415 - the package must be cheap to import

    meter = metrics.get_meter("otel-langfuse")
    _made[DURATION] = meter.create_histogram(DURATION, unit="s", description="The duration of exporting a batch of spans.")
    for name, instrument in _INSTRUMENTS.items():
        create = meter.create_observable_counter if instrument.only_grows else meter.create_observable_up_down_counter
        _made[name] = create(name, callbacks=[_callback(instrument.read)], unit="{span}", description=instrument.description)


def _callback(read: Callable[[Component, Account], _Values]) -> Callable[[Any], Iterable[Any]]:
    def callback(_: Any) -> Iterable[Any]:
        from opentelemetry.metrics import Observation  # noqa: PLC0415 - it is loaded by then

        found = []
        for component in list(_components):
            with suppress(Exception):  # as above
                found += [Observation(value, attributes) for value, attributes in read(component, component.account())]
        return found

    return callback
