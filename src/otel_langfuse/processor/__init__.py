"""The SpanProcessor door: propagate, filter, sample, queue. Whatever exporter stands behind it, the rest runs on a worker.

Nothing here raises into the application, blocks it or does I/O. ``on_end`` looks at the span's attributes once, to know how many
bytes the span holds; the worker reads the same dict.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.trace import DEFAULT_TRACE_STATE, TraceFlags

from otel_langfuse import attributes as names
from otel_langfuse import doubles, meters, model
from otel_langfuse.batch import SHUTDOWN_TIMEOUT_S, Batch
from otel_langfuse.choice import KEPT, Choice
from otel_langfuse.config import MEDIA_SETTINGS, SPOOL_SETTINGS, Config
from otel_langfuse.ended import attributes_of, held_bytes
from otel_langfuse.errors import ConfigError, DropReason
from otel_langfuse.exporters import LangfuseExporter, MediaWay, exporter_for, media_way_for
from otel_langfuse.masks import masking_for
from otel_langfuse.model import Stats
from otel_langfuse.neighbours import Member
from otel_langfuse.pipeline import filter as span_filter
from otel_langfuse.pipeline import sample
from otel_langfuse.pipeline.filter import ALL, LLM, Words
from otel_langfuse.pipeline.lineage import Kin
from otel_langfuse.pipeline.mask import Masking
from otel_langfuse.pipeline.route import Route, checked_route
from otel_langfuse.pipeline.tail import Tail, checked
from otel_langfuse.propagation import note_project, projects, propagating, set_propagated
from otel_langfuse.span_context import TRACE_STATE
from otel_langfuse.spans import to_sdk
from otel_langfuse.stats import Ledger

from ._senders import Before, Foreign, Ours
from ._settings import FUNCTIONS, ProcessorSettings

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["FUNCTIONS", "LangfuseSpanProcessor", "ProcessorSettings"]


class LangfuseSpanProcessor(SpanProcessor):
    """Sends finished spans through an exporter, masked, sampled and filtered for this destination only.

    Every argument but ``exporter`` and those of ``FUNCTIONS`` may come from the environment instead; see
    ``config.table.settings_table()``. What is given here wins. Where several processors share a TracerProvider, what any of them
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
        sample_rate: share of traces that are sent, 0.0 to 1.0, chosen by trace id; what ``LangfuseSampler`` wrote where the
            trace started wins. With less than 1.0 nothing is sent below a parent that OpenTelemetry has not sampled.
        tail: rules of tail sampling (``[keep_errors(), keep_slower_than(5), keep_rate(0.1)]``), or a ``Tail`` with its bounds.
        filter: which spans are for this destination, one or more words: ``llm`` (the default towards Langfuse: spans of LLM
            applications, and Langfuse's own), ``all`` (the default towards everything else), globs of instrumentation scopes;
            with ``!`` before it a word takes away. Below a dropped span its children are sent with the nearest kept ancestor
            as their parent, and the first of a trace is marked ``langfuse.internal.is_app_root``.
        should_export_span: function of a finished span (``ReadableSpan``) instead of the default filter; with ``filter`` both
            must agree. Called on the thread that ended the span, and, for a parent that still runs when its child is sent, on
            the worker. False, or an exception, drops the span.
        flush_at: spans that make a batch; of a backlog of eight batches, one holds up to four times as many.
        flush_interval: seconds that a span waits for its batch to fill, at most.
        max_queue_spans: spans that wait or are being sent, at most.
        max_queue_bytes: the same in bytes, estimated from the texts that the spans hold. Up to 16 spans are measured together, so
            that both bounds may be exceeded by so many.
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
        prompt_cache_ttl: seconds for which ``get_prompt`` uses what it has fetched, where it is not told; default 60.

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
        tail: Any,
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
        judged = None if tail is None else checked(tail)
        self._exporter = (exporter or exporter_for(config)) if config.enabled else None
        public_key = self._exporter.public_key if isinstance(self._exporter, LangfuseExporter) else ""
        found = checked_route(**routing, destination=self.project if public_key else None, public_key=public_key)
        me = weakref.ref(self)  # no cycle: a processor that nobody holds is gone at once
        self._ledger = Ledger(name=_name(self._exporter))
        self._member = Member(found, lambda: (one := me()) is None or one.is_shut_down, self._ledger.note)
        self._trust_baggage = config.trust_baggage
        if exporter is not None and config.spool_path is not None and not isinstance(exporter, LangfuseExporter):
            self._ledger.note("spool", f"LANGFUSE_SPOOL_PATH is set, but {type(exporter).__name__} does not know of it")
        self._capacity = config.max_queue_spans
        self._batch: Batch[Any] | None = None
        self._media: MediaWay | None = None
        self._choice = self._new_choice(config, should_export_span, judged)
        self._lineage = self._choice.lineage
        if self._exporter is not None:
            self._component = _component(self._exporter, self._account)
            self._batch = self._new_batch(self._exporter, config)
        takes_arrivals = self._batch is not None and self._batch.takes_arrivals and self._choice.waiting is None
        self._door = self._batch if takes_arrivals else None  # where spans that are kept may be left
        # Where an exporter would send the same spans to the same project (see there), it is told of each.
        self._doubles = None if self._batch is None else doubles.for_processor(self.project)
        # But for what comes of projects and tracestate.
        self._has_short_way = takes_arrivals and self._doubles is None and self._choice.tells_at_end
        if config.trust_baggage:
            propagating.add("baggage")

    def _new_choice(self, config: Config, predicate: span_filter.Predicate | None, tail: Tail | None) -> Choice:
        to_langfuse = isinstance(self._exporter, LangfuseExporter) and bool(self._exporter.public_key)
        words = config.filter or (None if predicate is not None else (LLM if to_langfuse else ALL,))
        self._may_surprise = config.filter is None and words == (LLM,)
        static = {names.ENVIRONMENT: config.environment, names.RELEASE: config.release}
        return Choice(
            bound=sample.bound(config.sample_rate),
            words=None if words is None else Words(words),
            predicate=predicate,
            tail=tail,
            member=self._member,
            static={key: value for key, value in static.items() if value is not None},
            marks=to_langfuse,
            ledger=self._ledger,
        )

    def _new_batch(self, exporter: SpanExporter, config: Config) -> Batch[Any]:
        before = Before(self._masking, self._choice, self._ledger, self._component)
        ours = Ours(exporter, before) if isinstance(exporter, LangfuseExporter) else None
        self._media = exporter.media if isinstance(exporter, LangfuseExporter) else media_way_for(config, _name(exporter))
        keeps = isinstance(exporter, LangfuseExporter) and exporter.keeps
        return Batch(
            ours or Foreign(exporter, before, media=self._media),
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
            waiting=self._choice.waiting,
            measure=held_bytes,
            keeper=ours if keeps else None,
            flush_on_exit=config.flush_on_exit,
            name="otel-langfuse",
        )

    # -- the application's thread ------------------------------------------------------------------------------------------------

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Sets what was propagated (user, session, tags ...), unless the span has it, and notes whose span it is."""
        batch = self._batch
        if batch is None:
            return
        try:
            member = self._member
            if getattr(span, "_span_processor", None) is not member.key:
                member.meet(span)
            if self._doubles is not None:
                self._note_double(span, self._doubles)
            if projects:
                note_project(span, parent_context)
            if self._lineage is not None:
                self._choice.start(span, self._lineage, batch)
            if propagating:
                set_propagated(span, parent_context, trust_baggage=self._trust_baggage)
        except Exception as error:  # noqa: BLE001 - nothing is raised into the application
            self._ledger.note("on_start", f"{type(error).__name__} while setting attributes on a span that starts")

    def on_end(self, span: ReadableSpan) -> None:
        """Queues the span, unless it was not sampled, is another project's, or is filtered or sampled out here."""
        if self._has_short_way and not projects and self._member.takes_all:
            is_sent = self._choice.at_end(span)
            if is_sent:
                batch: Any = self._door
                batch.arrivals.append(span)
                if len(batch.arrivals) >= batch.look_at:
                    batch.take_in()
                return
            if is_sent is False:
                return
        if self._doubles is not None:
            self._note_double(span, self._doubles)
        self._end(span, span)

    def _note_double(self, span: ReadableSpan, told: doubles.Doubles) -> None:
        if span.context is not None and not self.is_shut_down:
            told.note(span.context)

    def _end(self, span: ReadableSpan, whose: Any) -> None:
        batch = self._batch
        context = span.context
        if batch is None or context is None:
            return
        lineage = self._lineage
        if not context.trace_flags & TraceFlags.SAMPLED:
            if lineage is not None:
                lineage.dropped(context.span_id)
            return
        choice = self._choice
        kin = None
        if lineage is not None:
            kin = lineage.running.get(context.span_id) or lineage.unknown(context.span_id, span.parent)
        attributes: Mapping[str, Any] = {}
        try:
            reason, detail = KEPT if self._member.takes_all and not projects else self._member.refusal(whose)
            if reason is None:
                attributes = attributes_of(span)
                if lineage is not None or context[TRACE_STATE] is not DEFAULT_TRACE_STATE:
                    reason, detail = choice.why_not(span, context, attributes, kin)
        except Exception as error:  # noqa: BLE001 - nothing is raised into the application
            reason, detail = DropReason.UNREADABLE, f"{type(error).__name__} while reading a span"
        if reason is not None:
            self._drop(context, kin, batch, reason, detail)
            return
        if kin is not None and lineage is not None:
            lineage.kept(kin)
        if choice.waiting is not None:
            choice.hold(span, attributes, held_bytes((span, attributes)), kin, batch)
            return
        self._queue(span if kin is None else (span, attributes, kin.up, None, None), batch)

    def _queue(self, item: Any, batch: Batch[Any]) -> None:
        if self._door is None:
            batch.put(item, held_bytes(item))
        else:
            batch.leave(item)

    def _drop(self, context: Any, kin: Kin | None, batch: Batch[Any], reason: DropReason, detail: str | None) -> None:
        if self._lineage is not None:
            self._lineage.dropped(context.span_id)
        self._choice.dropped(context, kin, batch)
        if detail is None:
            self._ledger.start()
            self._ledger.tally(reason)
        else:
            self._ledger.refuse(reason, detail)

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

    def trace_is_kept(self, trace_id: str) -> bool:
        """Whether what belongs to a trace (a score) is sent, as its spans are by head and tail sampling.

        Args:
            trace_id: 32 hex digits; what is none is no trace of OpenTelemetry's, and kept. Of a trace of which no span ended
                here (or 10,000 others did since) only the id is known, and not what the service that started it has decided.
        """
        return self._choice.trace_is_kept(trace_id)

    def trace_verdict(self, trace_id: str) -> bool | None:
        """The same; None as long as tail sampling has not judged the trace, of which spans run or wait here."""
        return None if self._choice.is_open(trace_id) else self._choice.trace_is_kept(trace_id)

    def force_flush(self, timeout_millis: int | None = 30_000) -> bool:
        """Sends everything that has ended, and waits for it, at most ``timeout_millis``.

        Returns:
            True if every span since the previous flush has been delivered (what was filtered or sampled out aside). False if
            any was lost (see ``stats()``), or is still on its way when the time is over.
        """
        if self._batch is None:
            return True
        self._say_if_all_is_filtered()
        return self._batch.flush((30_000 if timeout_millis is None else timeout_millis) / 1000)

    def shutdown(self, timeout_millis: float = SHUTDOWN_TIMEOUT_S * 1000) -> bool:  # type: ignore[override]
        """Sends what can be sent within ``timeout_millis``, counts the rest as lost, and ends the exporter.

        Returns:
            True if every span since the previous flush has been delivered.
        """
        if self._batch is None:
            return True
        self._say_if_all_is_filtered()
        return self._batch.shutdown(timeout_millis / 1000)

    def _say_if_all_is_filtered(self) -> None:
        """Once, so that nobody who expects spans of his own in Langfuse has to guess."""
        if self._may_surprise:
            stats = self.stats()
            if stats.started and stats.dropped.get(DropReason.FILTERED.value) == stats.started:
                self._may_surprise = False
                self._ledger.note(
                    "filter",
                    f"all spans so far ({stats.started}) were left out: to Langfuse go those of LLM applications and its own, "
                    "unless filter='all' (LANGFUSE_FILTER=all) says otherwise",
                )

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

    def give_way(self, to: LangfuseSpanProcessor | None = None) -> None:
        """Says that another processor gets the spans: ``to``, as long as it is not shut down. What this one has it delivers."""
        self._member.gives_way = lambda: to is None or not to.is_shut_down

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
