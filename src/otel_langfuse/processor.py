"""The SpanProcessor door: propagate, filter, sample, queue. Whatever exporter stands behind it, the rest runs on a worker.

Nothing here raises into the application, blocks it or does I/O. ``on_end`` looks at the span's attributes once, to know how many
bytes the span holds; the worker reads the same dict.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from sys import getsizeof
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypedDict

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import TraceFlags, format_trace_id

from . import attributes as names
from . import meters, model
from .batch import SHUTDOWN_TIMEOUT_S, Batch, Sending
from .config import MEDIA_SETTINGS, SPOOL_SETTINGS, Config
from .errors import ConfigError, DropReason
from .exporters import MEDIA_END_S, LangfuseExporter, MediaWay, exporter_for, media_way_for, note_failures, prepared
from .masks import masking_for
from .model import Stats
from .neighbours import Member
from .pipeline import filter as span_filter
from .pipeline import sample
from .pipeline.mask import Mask, Masking
from .pipeline.route import By, Route, checked_route
from .prepare import ready
from .propagation import is_late, note_project, projects, propagated_attributes, set_attributes, stamped
from .spans import from_sdk, to_sdk, with_attributes
from .stats import Ledger
from .transport import suppressed

if TYPE_CHECKING:
    from typing_extensions import Unpack

SPAN_BYTES: Final = 512
"""What a span counts for beside its texts."""

FUNCTIONS: Final = ("mask", "mask_otel_spans", "should_export_span", "project", "default", "route")
"""Settings of a processor that come from no variable, so that they are in no table."""

_SMALL: Final = frozenset({int, float, bool, type(None)})

_Ended: TypeAlias = "tuple[ReadableSpan, Mapping[str, Any]]"
"""A finished span, and its attributes."""


class ProcessorSettings(TypedDict, total=False):
    """The settings of ``LangfuseSpanProcessor``, which says what each is; for functions that hand them on, too."""

    public_key: str | None
    secret_key: str | None
    base_url: str | None
    environment: str | None
    release: str | None
    project: str | None
    default: bool | None
    route: By | None
    mask: Mask | None
    mask_secrets: bool | None
    mask_timeout: float | None
    mask_otel_spans: Callable[..., Any] | None
    sample_rate: float | None
    should_export_span: span_filter.Predicate | None
    flush_at: int | None
    flush_interval: float | None
    max_queue_spans: int | None
    max_queue_bytes: int | None
    queue_policy: str | None
    max_wait_ms: float | None
    threads: int | None
    timeout: float | None
    spool_path: str | os.PathLike[str] | None
    spool_mode: str | None
    spool_after: float | None
    spool_max_bytes: int | None
    spool_max_age: float | None
    media: str | os.PathLike[str] | bool | None
    media_threads: int | None
    media_wait: float | None
    max_media_bytes: int | None
    flush_on_exit: bool | None
    trust_baggage: bool | None
    enabled: bool | None
    debug: bool | None
    max_retries: int | None


class LangfuseSpanProcessor(SpanProcessor):
    """Sends finished spans through an exporter, masked, sampled and filtered for this destination only.

    Every argument but ``exporter`` and those of ``FUNCTIONS`` may come from the environment instead; see
    ``config.settings_table()``. What is given here wins. Where several processors share a TracerProvider, what any of them
    is told is for its own destination alone; ``pipeline.route`` says which of them a span is meant for.

    Args:
        exporter: any ``SpanExporter``; by default the one that the settings describe: OTLP to Langfuse, or the local store
            for a ``sqlite:`` URL. Without one and without keys nothing is sent, and a warning says what to set.
        public_key: of the Langfuse project.
        secret_key: of the Langfuse project.
        base_url: ``http(s)://...`` or ``sqlite:///path.db``.
        environment: set on every span that names none.
        release: set on every span that names none.
        project: name by which ``otel_langfuse.project`` and ``route`` choose it; its public key is one, too. With a name, only
            spans of this project are sent.
        default: True: spans of no project are sent, too. None (default): where it is the only Langfuse project on its
            provider, and has no name. Collectors, stores and foreign exporters without a name get every span.
        route: key of an attribute, of the span or its resource, that names the project of a span whose context names none; or a
            function of a finished span that returns the name, or None. It counts for all processors of the provider.
        mask: what is masked, on the worker, before anything leaves: a function of one value, ``mask(data)`` or
            ``mask(data=...)``, called with every text of a span (parsed, where it holds a JSON object or array) for what may
            leave; a ``MaskRule``; the name of a preset, ``secrets``, ``pii`` or ``content``; or a list of such. See
            ``pipeline.mask``. What ``LANGFUSE_MASK`` names is masked, too.
        mask_secrets: whether keys, tokens and passwords are masked although ``mask`` does not name ``secrets``; default True.
        mask_timeout: seconds that a function in ``mask`` takes for one value, at most; default 5.
        mask_otel_spans: function of a batch of spans, as the official SDK has it: called with
            ``params=MaskOtelSpansParams(...)``, answers with changes of attributes.
        sample_rate: share of traces that are sent, 0.0 to 1.0.
        should_export_span: function of a finished span (``ReadableSpan``), called on the thread that ended it; False, or an
            exception, drops the span.
        flush_at: spans that make a batch.
        flush_interval: seconds that a span waits for its batch to fill, at most.
        max_queue_spans: spans that wait or are being sent, at most.
        max_queue_bytes: the same in bytes, estimated from the texts that the spans hold.
        queue_policy: what happens at these bounds: ``drop_newest`` (default) or ``drop_oldest`` drops spans and counts them,
            ``wait`` makes the thread that ends a span wait for room; not meant for the thread of an event loop.
        max_wait_ms: milliseconds for which ``wait`` waits, at most; then the span is dropped and counted. Default 100.
        threads: requests that are on their way at the same time, at most; through an exporter that is not ours, one.
        timeout: seconds for one request.
        spool_path: file that keeps what cannot be sent, until this process or a later one can send it; in a directory that
            exists, on a local disk. With ``exporter`` these five are to be given there.
        spool_mode: ``outage`` (default), or ``always``: every batch is in the file before it is sent.
        spool_after: seconds for which the destination takes nothing before spans go to the file; default 30.
        spool_max_bytes: size of what the file holds; the oldest is dropped. Default 512 MiB.
        spool_max_age: seconds after which what is in the file is dropped. Default 7 days.
        media: what becomes of images, sounds and documents in the texts of spans, after ``mask``: ``send`` (default towards
            Langfuse: as its media, with a reference in their place), ``keep`` (default elsewhere), ``cut`` (a marker with type,
            size and hash), False (``cut`` towards Langfuse, else ``keep``), or a folder or ``fsspec`` URL where they are written.
            With an ``exporter`` of ours these four are to be given there.
        media_threads: media that are sent at the same time, at most; default 2.
        media_wait: seconds for which spans wait for their media, at most; what was not taken by then is a marker. Default 15.
        max_media_bytes: size of one of them, at most; a larger one is a marker. Default 50 MiB.
        flush_on_exit: whether SIGTERM, ``os._exit`` and their like deliver what is queued; see ``otel_langfuse.ending``.
        trust_baggage: whether incoming baggage may say user, session, tags, metadata, version, trace name and environment.
        enabled: False: nothing is recorded, sent or counted, and no thread is started.
        debug: an invalid score raises ``ScoreError``.
        max_retries: how often ``auth_check`` and the like are tried again. Spans are tried again as long as the queue holds them.

    Raises:
        ConfigError: a setting cannot work.
    """

    def __init__(self, exporter: SpanExporter | None = None, **settings: Unpack[ProcessorSettings]) -> None:
        values: dict[str, Any] = dict(settings)
        functions = {name: values.pop(name, None) for name in FUNCTIONS}
        if exporter is not None and any(values.get(name) is not None for name in SPOOL_SETTINGS):
            raise ConfigError("spool_...=...: expected at the exporter, which is what sends")
        if isinstance(exporter, LangfuseExporter) and any(values.get(name) is not None for name in MEDIA_SETTINGS):
            raise ConfigError("media...=...: expected at the exporter")
        self._init(exporter, Config.from_env(**values), **functions)

    @classmethod
    def off(cls) -> LangfuseSpanProcessor:
        """One that records and sends nothing, whatever the environment says."""
        made = cls.__new__(cls)
        made._init(None, Config(enabled=False), **dict.fromkeys(FUNCTIONS))  # noqa: SLF001 - our own
        return made

    def _init(
        self,
        exporter: SpanExporter | None,
        config: Config,
        *,
        mask: Any,
        mask_otel_spans: Any,
        should_export_span: Any,
        **routing: Any,
    ) -> None:
        if should_export_span is not None and not callable(should_export_span):
            raise ConfigError(f"should_export_span={type(should_export_span).__name__}: expected a function of a span")
        if exporter is not None and not callable(getattr(exporter, "export", None)):
            raise ConfigError(f"exporter={type(exporter).__name__}: expected an opentelemetry SpanExporter")
        has_own_mask = mask is not None or mask_otel_spans is not None
        if has_own_mask and isinstance(exporter, LangfuseExporter) and exporter.has_own_mask:
            raise ConfigError("mask=...: expected either at the processor or at its exporter, not at both")
        of_exporter = exporter.mask if isinstance(exporter, LangfuseExporter) and exporter.has_own_mask else None
        self._masking = of_exporter or masking_for(config, mask, mask_otel_spans)
        self._predicate = should_export_span
        self._bound = None if config.sample_rate >= 1.0 else sample.bound(config.sample_rate)
        self._static = {
            key: value
            for key, value in ((names.ENVIRONMENT, config.environment), (names.RELEASE, config.release))
            if value is not None
        }
        self._exporter = (exporter or exporter_for(config)) if config.enabled else None
        public_key = self._exporter.public_key if isinstance(self._exporter, LangfuseExporter) else ""
        found = checked_route(**routing, destination=self.project if public_key else None, public_key=public_key)
        self._member = Member(found, lambda: self.is_shut_down)
        self._trust_baggage = config.trust_baggage
        self._ledger = Ledger(name=_name(self._exporter))
        if exporter is not None and config.spool_path is not None and not isinstance(exporter, LangfuseExporter):
            self._ledger.note("spool", f"LANGFUSE_SPOOL_PATH is set, but {type(exporter).__name__} does not know of it")
        self._capacity = config.max_queue_spans
        self._batch: Batch[_Ended] | None = None
        self._media: MediaWay | None = None
        if self._exporter is not None:
            self._component = _component(self._exporter, self._account)
            self._batch = self._new_batch(self._exporter, config)

    def _new_batch(self, exporter: SpanExporter, config: Config) -> Batch[_Ended]:
        route = self._member.route
        own = _Own(self._static, None if route.identity is None else route.names)
        parts = (self._masking, own, self._ledger, self._component)
        ours = _Ours(exporter, *parts) if isinstance(exporter, LangfuseExporter) else None
        self._media = exporter.media if isinstance(exporter, LangfuseExporter) else media_way_for(config, _name(exporter))
        keeps = isinstance(exporter, LangfuseExporter) and exporter.keeps
        return Batch(
            ours or _Foreign(exporter, *parts, media=self._media),
            self._ledger,
            max_items=config.max_queue_spans,
            max_bytes=config.max_queue_bytes,
            flush_at=config.flush_at,
            flush_bytes=config.max_request_bytes,
            flush_interval_s=config.flush_interval_s,
            policy=config.queue_policy,
            max_wait_s=config.max_wait_ms / 1000,
            # A foreign exporter's export() is never called twice at the same time (OpenTelemetry's specification); ours, with
            # everything going to the spool, sends from there on threads of its own.
            threads=1 if ours is None or (keeps and config.spool_mode == "always") else config.threads,
            keeper=ours if keeps else None,
            flush_on_exit=config.flush_on_exit,
            name="otel-langfuse",
        )

    # -- the application's thread ------------------------------------------------------------------------------------------------

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Sets what was propagated (user, session, tags ...), unless the span has it, and notes whose span it is."""
        if self._batch is None:
            return
        try:
            member = self._member
            if getattr(span, "_span_processor", None) is not member.key:
                member.meet(span)
            if projects:
                note_project(span, parent_context)
            found = propagated_attributes(parent_context, trust_baggage=self._trust_baggage)
            if found:
                set_attributes(span, found, unless_there=True)
        except Exception as error:  # noqa: BLE001 - nothing is raised into the application
            self._ledger.note("on_start", f"{type(error).__name__} while setting attributes on a span that starts")

    def on_end(self, span: ReadableSpan) -> None:
        """Queues the span, unless it was not sampled, is another project's, or is filtered or sampled out here."""
        self._end(span, span)

    def _end(self, span: ReadableSpan, whose: Any) -> None:
        batch = self._batch
        context = span.context
        if batch is None or context is None or not context.trace_flags & TraceFlags.SAMPLED:
            return
        try:
            reason, detail = (None, "") if self._member.takes_all and not projects else self._member.refusal(whose)
            if reason is None and (self._predicate is not None or self._bound is not None):
                reason, detail = self._choose(span)
            if reason is not None:
                self._ledger.start()
                if detail is None:
                    self._ledger.tally(reason)
                else:
                    self._ledger.drop(reason, 1, detail)
                return
            attributes = _attributes(span)
            size_bytes = _size_bytes(span, attributes)
        except Exception as error:  # noqa: BLE001 - nothing is raised into the application
            self._ledger.start()
            self._ledger.drop(DropReason.UNREADABLE, 1, f"{type(error).__name__} while reading a span")
            return
        batch.put((span, attributes), size_bytes)

    def replace(self, span: model.Span, original: Any) -> bool:
        """Queues a span that ended before, with the same ids and start, to take the place of the first. It counts as one more.

        Args:
            span: what takes its place.
            original: the first one, as the application's tracer made it; it says whose it is.

        Returns:
            False where the exporter cannot replace one (see ``LangfuseExporter.replaces``): then nothing is done.
        """
        exporter = self._exporter
        if not isinstance(exporter, LangfuseExporter) or not exporter.replaces:
            return False
        self._end(to_sdk(span), original)
        return True

    def _choose(self, span: ReadableSpan) -> tuple[DropReason | None, str]:
        """Why the span is not for this destination; None if it is."""
        if self._bound is not None and not sample.keep(span.context.trace_id, self._bound):
            return DropReason.SAMPLED_OUT, ""
        if self._predicate is not None:
            kept, detail = span_filter.keep(span, self._predicate)
            if not kept:
                return DropReason.FILTERED, detail
        return None, ""

    def force_flush(self, timeout_millis: int | None = 30_000) -> bool:
        """Sends everything that has ended, and waits for it, at most ``timeout_millis``.

        Returns:
            True if every span since the previous flush has been delivered (what was filtered or sampled out aside). False if
            any was lost (see ``stats()``), or is still on its way when the time is over.
        """
        if self._batch is None:
            return True
        return self._batch.flush((30_000 if timeout_millis is None else timeout_millis) / 1000)

    def shutdown(self, timeout_millis: float = SHUTDOWN_TIMEOUT_S * 1000) -> bool:  # type: ignore[override]
        """Sends what can be sent within ``timeout_millis``, counts the rest as lost, and ends the exporter.

        Returns:
            True if every span since the previous flush has been delivered.
        """
        return True if self._batch is None else self._batch.shutdown(timeout_millis / 1000)

    @property
    def project(self) -> object:
        """Where observations end up; equal for processors that send to the same place. None where nothing is sent."""
        exporter = self._exporter
        return exporter.project if isinstance(exporter, LangfuseExporter) else exporter

    @property
    def masking(self) -> Masking | None:
        """What is masked, for what goes to the same destination without being on a span: scores, prompts."""
        return self._masking

    @property
    def route(self) -> Route:
        """Which project it sends to, and which spans are meant for it."""
        return self._member.route

    def give_way(self) -> None:
        """Says that from now on another processor gets the spans. What this one has it delivers."""
        self._member.gives_way = True

    @property
    def sends(self) -> bool:
        """Whether there is anything to send to; not where it is disabled, or the keys are missing."""
        return self._batch is not None

    @property
    def is_shut_down(self) -> bool:
        """Whether ``shutdown`` was called; spans that end now are counted as ``after_shutdown``."""
        return self._batch is not None and self._batch.closed

    def stats(self) -> Stats:
        """What ended, what of it arrived, waits, or was dropped, by reason. In a forked child: since the fork."""
        return self._ledger.snapshot() if self._batch is None else self._batch.stats()

    def media_stats(self) -> Stats | None:
        """The same for images, sounds and documents that are sent apart from their spans; None where there are none to be."""
        return None if self._media is None else self._media.stats()

    def _account(self) -> meters.Account:
        """What the metrics say; on the thread of who collects them."""
        if self._batch is None:
            return meters.Account(self._ledger.snapshot())
        waiting, stats = self._batch.waiting_and_stats()
        return meters.Account(stats, waiting, self._capacity)


def _name(exporter: SpanExporter | None) -> str:
    return exporter.name if isinstance(exporter, LangfuseExporter) else "" if exporter is None else type(exporter).__name__


def _component(exporter: SpanExporter, account: Callable[[], meters.Account]) -> meters.Component:
    if isinstance(exporter, LangfuseExporter):
        return meters.Component(account, is_processor=True, address=exporter.name)
    kind = f"{type(exporter).__module__}.{type(exporter).__qualname__}"
    return meters.Component(account, is_processor=True, exporter_type=kind)


# -- how many bytes a span holds -----------------------------------------------------------------------------------------------


def _attributes(span: ReadableSpan) -> Mapping[str, Any]:
    """A dict: the span's own, which nothing changes once it has ended, or, where the SDK keeps it elsewhere, a copy.

    The copy costs the application's thread three times what the rest of ``on_end`` does, mostly as memory that is not at hand.
    """
    try:
        own: Any = span._attributes._dict  # type: ignore[union-attr]  # noqa: SLF001 - in a try, because it costs half of two getattr()
    except AttributeError:
        own = None
    if type(own) is dict:
        return own
    attributes: Any = span.attributes
    try:
        copied: Mapping[str, Any] = attributes.copy()  # one call, where iterating asks the SDK's mapping for key after key
    except AttributeError:
        return dict(attributes or {})
    return copied


def _size_bytes(span: ReadableSpan, attributes: Mapping[str, Any]) -> int:
    """An estimate of the memory that a span holds: its texts, and something for everything else.

    It runs for every span, on the application's thread, so the usual values are measured without a call of our own.
    """
    size = SPAN_BYTES + 40 * len(attributes)
    for value in attributes.values():
        if type(value) is str:
            size += value.__sizeof__()  # what sys.getsizeof says of a text, in a third of the time
        elif type(value) is tuple:  # what the SDK makes of every list
            for item in value:
                size += item.__sizeof__() if type(item) is str else _held_bytes(item)
        elif type(value) not in _SMALL:
            size += _held_bytes(value)
    # Asking the SDK's list whether it is empty costs a sixth of the copy of it that ``events`` makes.
    if getattr(span, "_events", True):
        for event in span.events:
            size += SPAN_BYTES + _held_bytes(event.attributes or {})
    return size


def _held_bytes(value: Any) -> int:
    if isinstance(value, Mapping):
        return sum(map(_held_bytes, value.values()), 40 * len(value))
    if isinstance(value, (tuple, list)):
        return sum(map(_held_bytes, value), 40 * len(value))
    return getsizeof(value)


# -- the worker's thread -------------------------------------------------------------------------------------------------------


class _Own(NamedTuple):
    """What is this destination's alone: ``static`` attributes of all its spans, and its names, where it is a project."""

    static: Mapping[str, str]
    projects: Collection[str] | None


def _completed(items: Sequence[_Ended], static: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """The attributes of each span, with those that every span of this destination gets, and no other one's (environment ...)."""
    if not static:
        return [own for _, own in items]
    return [own if static.keys() <= own.keys() else {**static, **own} for _, own in items]


class _Ours:
    """Behind the queue: one of our exporters, which takes our ``Span``s."""

    def __init__(
        self,
        exporter: LangfuseExporter,
        mask: Masking | None,
        own: _Own,
        ledger: Ledger,
        component: meters.Component,
    ) -> None:
        self._exporter = exporter
        self._mask = mask
        self._own = own
        self._ledger = ledger
        self._component = component
        self._preparing: set[int] = set()

    def send(self, sending: Sending[_Ended]) -> None:
        with suppressed(), self._component.timed(sending):
            self._preparing.add(id(sending))
            try:
                spans = self._prepared(sending)
            finally:
                self._preparing.discard(id(sending))
            media = self._exporter.media
            self._exporter.deliver(spans if media is None else media.settled(spans, sending), sending)

    def _prepared(self, sending: Sending[_Ended]) -> list[Any]:
        spans = [span for span, _ in sending.items]
        attributes = _completed(sending.items, self._own.static)
        return prepared(
            spans, attributes, self._mask, sending, self._ledger, media=self._exporter.media, projects=self._own.projects
        )

    def keep(self, sending: Sending[_Ended]) -> None:
        with suppressed():
            # While a mask does not come to an end on the worker, it would not here either, and nothing is kept unmasked.
            self._exporter.keep(sending, lambda: [] if self._preparing else self._without_media(sending))

    def _without_media(self, sending: Sending[_Ended]) -> Sequence[Any]:
        spans = self._prepared(sending)
        return spans if self._exporter.media is None else self._exporter.media.given_up(spans)

    def arrived(self, timeout_s: float) -> bool:
        return self._exporter.arrived(timeout_s)

    def finish(self, timeout_s: float) -> None:
        self._exporter.finish(timeout_s)

    def flush(self, timeout_s: float) -> bool:
        return self._exporter.media is None or self._exporter.media.flush(timeout_s)

    def close(self) -> None:
        if self._exporter.media is not None:
            self._exporter.media.shutdown(MEDIA_END_S)
        self._exporter.close()


class _Foreign:
    """Behind the queue: anybody's exporter, which takes the SDK's spans. What it does about retries is its own affair."""

    def __init__(
        self,
        exporter: SpanExporter,
        mask: Masking | None,
        own: _Own,
        ledger: Ledger,
        component: meters.Component,
        *,
        media: MediaWay | None,
    ) -> None:
        self._exporter = exporter
        self._mask = mask
        self._own = own
        self._ledger = ledger
        self._component = component
        self._media = media

    def send(self, sending: Sending[_Ended]) -> None:
        with suppressed(), self._component.timed(sending):
            attributes = _completed(sending.items, self._own.static)
            spans = [
                span if mine is own else with_attributes(span, mine)
                for (span, own), mine in zip(sending.items, attributes, strict=True)
            ]
            changes = self._mask is not None or self._media is not None
            if changes or any(is_late(format_trace_id(span.context.trace_id)) for span in spans):
                spans = self._ready(spans, attributes, sending)
            result = self._exporter.export(spans)
            if result is SpanExportResult.FAILURE:
                sending.finish(f"{type(self._exporter).__name__} reports failure")
            else:
                sending.exported(sending.undecided)

    def _ready(
        self, spans: list[ReadableSpan], attributes: Sequence[Mapping[str, Any]], sending: Sending[_Ended]
    ) -> list[ReadableSpan]:
        """What may leave of the spans, media taken out; the original objects where nothing changed."""
        read, drops = from_sdk(spans, attributes)
        for drop in drops:
            sending.dropped(drop)
        masked = ready(stamped(read, self._own.projects), self._mask, None if self._media is None else self._media.lifting)
        note_failures(masked, self._ledger)
        left = masked.spans if self._media is None else self._media.settled(masked.spans, sending)
        made: dict[int, tuple[Any, Any]] = {}
        originals = spans if not drops else [None] * len(read)
        return [
            original if original is not None and new is old else to_sdk(new, made)
            for original, old, new in zip(originals, read, left, strict=True)
        ]

    def flush(self, timeout_s: float) -> bool:
        has_media = self._media is None or self._media.flush(timeout_s)
        return self._exporter.force_flush(int(timeout_s * 1000)) is not False and has_media

    def close(self) -> None:
        if self._media is not None:
            self._media.shutdown(MEDIA_END_S)
        self._exporter.shutdown()
