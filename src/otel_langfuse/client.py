"""The composition root: joins the application's TracerProvider, or makes one, and hands back what to flush and ask."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, replace
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter

from . import neighbours
from .config import Config, sqlite_path, wants_processor
from .errors import ConfigError
from .exporters import LangfuseExporter, entry_points, missing_keys
from .model import Stats
from .neighbours import place_of_caller
from .processor import FUNCTIONS, LangfuseSpanProcessor, ProcessorSettings
from .propagation import current_project, project_of
from .sampler import LangfuseSampler
from .stats import Ledger
from .tracing import begin_by, begin_unless_told, register, settle_gone

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .scores import Scores

_LOGGER: Final = logging.getLogger("otel_langfuse")
_NOTES: Final = Ledger()
_ENVIRONMENT: Final = "LANGFUSE_PUBLIC_KEY"
"""The place of a client that nobody has configured: its settings come from the environment."""

_lock = threading.RLock()
_clients: dict[Any, Client] = {}
_waiting: Client | None = None  # what find() returned before anything was configured


class _Call(NamedTuple):
    """A call of ``configure``: what it was given, and where it stands in the application's code."""

    exporter: SpanExporter | None
    tracer_provider: Any
    settings: ProcessorSettings
    config: Config
    functions: Mapping[str, Any]
    place: str
    is_implicit: bool  # nobody's code said these settings, so whoever does takes its place


class Client:
    """One destination of this process. Made by ``configure`` and ``find``; safe to use on any thread.

    One that ``find`` made before anything was configured joins the TracerProvider when its ``processor`` is first asked
    for, with settings from the environment; ``configure`` takes its place, and it is then what that returns.
    """

    def __init__(self) -> None:
        self._processors: tuple[LangfuseSpanProcessor, ...] = ()  # the last one gets the spans
        self._slot = _Slot()
        self._call: _Call | None = None
        self._provider: Any = None  # kept alive, so that no other one gets its id, which the registry goes by
        self._scores: Scores | None = None

    @property
    def config(self) -> Config:
        """The settings that it was made with."""
        _start(self)
        return Config(enabled=False) if self._call is None else self._call.config

    @property
    def scores(self) -> Scores:
        """Sends scores to the same Langfuse project, or into the same local store."""
        with _lock:
            if self._scores is None:
                self._scores = self._new_scores(self.config)
                if self.is_shut_down:
                    self._scores.shutdown(0)
            return self._scores

    def _new_scores(self, config: Config) -> Scores:
        from .scores import Scores  # noqa: PLC0415 - who gives no scores need not load what encodes them

        try:
            return Scores(
                config,
                mask=self.sender.masking,
                keeps=self._verdict,
                debug=config.debug,
                goes_elsewhere=self._call is not None and self._call.exporter is not None,
            )
        except ConfigError as error:  # the spool's directory is gone by now, or the spans do not need it
            _NOTES.note("scores", f"scores that cannot be sent are not kept: {error}")
            return self._new_scores(replace(config, spool_path=None))

    def _verdict(self, trace_id: str) -> bool | None:
        return self.sender.trace_verdict(trace_id)

    def score(self, name: str, value: float | str, **fields: Any) -> str | None:
        """Gives a score; see ``Scores.create``."""
        try:
            scores = self.scores
        except ImportError:  # at the very end of the interpreter nothing can be loaded
            _NOTES.note("score", "a score is lost: it is the first one, and the interpreter is ending")
            return None
        return scores.create(name, value, **fields)

    @property
    def processor(self) -> LangfuseSpanProcessor:
        """The processor that gets the spans."""
        if not self._processors:
            _start(self)
        return self._processors[-1]

    @property
    def sender(self) -> LangfuseSpanProcessor:
        """The processor that sends the spans: mostly ``processor``, or one of the application's own for the same project."""
        return next(iter(self._slot.by_hand()), None) or self.processor

    def flush(self, timeout: float = 30.0) -> bool:
        """Sends everything that has ended, and all scores, and waits for them, at most ``timeout`` seconds; never raises.

        That holds for the spans of a ``LangfuseSpanProcessor`` for the same project, too, which the application has added itself.

        Returns:
            Whether all of it has been delivered; see ``LangfuseSpanProcessor.force_flush``.
        """
        deadline = time.monotonic() + timeout
        settle_gone()
        self._begin_scores()  # so that they share the time
        by_hand = self._slot.by_hand() if self._processors else _ours(trace.get_tracer_provider())
        flushed = _flushed((*self._processors, *by_hand), timeout)
        return (self._scores is None or self._scores.flush(max(deadline - time.monotonic(), 0.0))) and flushed

    def shutdown(self, timeout: float = 5.0) -> bool:
        """Sends what can be sent within ``timeout`` seconds and ends the processor. ``configure`` then makes a new client."""
        deadline = time.monotonic() + timeout
        self._begin_scores()
        done = [_flushed(tuple(self._slot.by_hand()), timeout)]  # whose end is the application's affair
        done += [p.shutdown(max(deadline - time.monotonic(), 0.0) * 1000) for p in self._processors]
        return (self._scores is None or self._scores.shutdown(max(deadline - time.monotonic(), 0.0))) and all(done)

    def _begin_scores(self) -> None:
        """Begins to send scores, where none waits until the spans have told which traces are kept."""
        if self._scores is not None and not self._scores.is_undecided:
            self._scores.flush(0)

    def stats(self) -> Stats:
        """What ended, what of it arrived, waits, or was dropped, by reason."""
        return _summed([processor.stats() for processor in self._processors])

    def media_stats(self) -> Stats | None:
        """The same for images, sounds and documents that are sent apart from their spans; None where there are none to be."""
        counted = [stats for processor in self._processors if (stats := processor.media_stats()) is not None]
        return _summed(counted) if counted else None

    def _put(self, processor: LangfuseSpanProcessor, call: _Call, provider: Any) -> None:
        if self._scores is not None:  # what was given so far is sent as it was meant to be; the next goes where this one says
            self._scores.flush(0)
            self._scores = None
        self._processors = (*self._processors, processor)
        self._call, self._provider = call, provider
        self._slot.put(processor, provider, call.place if call.is_implicit else "")
        exporter = processor._exporter  # noqa: SLF001 - our own
        if call.config.spool_path is not None and isinstance(exporter, LangfuseExporter) and call.exporter is None:
            exporter.beside = self.scores.begin  # so that scores of ended processes are sent by who gives none himself

    @property
    def project(self) -> str | None:
        """The project that spans recorded by its handles are of; None where nothing needs to be said, because it is alone.

        It is "", which nobody's project is called, where it was asked for by a name that nobody has.
        """
        if self._call is None:
            return "" if self._processors else None
        name = self._call.functions["project"] or next(iter(self.processor.route.names), None)
        return name if len(_clients) > 1 or self._call.functions["project"] else None

    @property
    def is_shut_down(self) -> bool:
        """Whether ``shutdown`` was called, here or by the TracerProvider."""
        return bool(self._processors) and self._processors[-1].is_shut_down


def _summed(counted: list[Stats]) -> Stats:
    if len(counted) == 1:
        return counted[0]
    dropped = Counter[str]()
    for stats in counted:
        dropped.update(stats.dropped)
    started, exported, queued, spooled = (
        sum(getattr(stats, name) for stats in counted) for name in ("started", "exported", "queued", "spooled")
    )
    return Stats(started, exported, queued, dict(dropped), spooled)


def _flushed(processors: tuple[LangfuseSpanProcessor, ...], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    flushed = [p.force_flush(max(math.ceil((deadline - time.monotonic()) * 1000), 0)) for p in processors]
    return all(flushed)


def _new_lock() -> None:
    global _lock  # noqa: PLW0603 - in a forked child another thread of the parent may seem to hold it for ever
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


def configure(
    exporter: SpanExporter | None = None, *, tracer_provider: Any = None, **settings: Unpack[ProcessorSettings]
) -> Client:
    """Adds a ``LangfuseSpanProcessor`` to the application's TracerProvider; where there is none, sets up one.

    Called again for the same destination (server and public key, or the same exporter) on the same provider, with the same
    settings, fewer or none, it changes nothing and returns the same client. Other settings are an error: which of the two masks
    would hold? To change them, shut the client down first. What ``get_client()`` or OpenTelemetry's agent set up from the
    environment alone gives way to the first call of this.

    Args:
        exporter: see ``LangfuseSpanProcessor``.
        tracer_provider: an SDK TracerProvider to join instead of the global one. ``observe`` and the other functions that start
            observations use the provider of the latest call.
        **settings: the other arguments of ``LangfuseSpanProcessor``.

    Returns:
        The client. Where the provider is not the SDK's (ddtrace's, for instance) it is joined to nothing; a warning says so.

    Raises:
        ConfigError: a setting cannot work, or contradicts an earlier call; the message names both places.
    """
    return _configured(_call(exporter, tracer_provider, settings, place_of_caller()))


def find(project: str | None = None) -> Client:
    """The client of a project, or of the current one. Never raises, and never makes one that a typing error names.

    Args:
        project: as given to ``configure(project=...)``, or the public key. None: the one that ``with project(...)`` names,
            else the one made with ``default=True``, else the only one that sends, or that sends to a Langfuse project.

    Returns:
        The client. Where nothing is configured yet, one that ``configure`` will make its own; where there is no such project,
        or several and none is the default, one that sends nothing, and a warning.
    """
    global _waiting  # noqa: PLW0603 - under the lock, like the registry
    name = current_project() if project is None else project
    with _lock:
        known = [client for client in _clients.values() if not client.is_shut_down]
        if name is None and not known:
            if _waiting is None:
                waiting = _waiting = Client()
                begin_by(lambda: _start(waiting))
            return _waiting
        found = _named(known, name) if name is not None else _only(known)
    if found is not None:
        return found
    why = "there are several clients, and none has default=True" if name is None else "there is no client of this name"
    _NOTES.note(f"find {why}", f"{why}: check configure(), project() and public_key=; what was asked for sends nothing")
    nobody = Client()
    nobody._processors = (LangfuseSpanProcessor.off(),)  # noqa: SLF001 - our own
    return nobody


def _named(known: list[Client], name: str) -> Client | None:
    return next((client for client in known if name in client.processor.route.names), None)


def _only(known: list[Client]) -> Client | None:
    """The one that is meant where no project is named: each of these tries says fewer of them, until one is left."""
    sending = [client for client in known if client.processor.sends] or known
    projects = [client for client in sending if client.processor.route.identity is not None]
    defaults = [client for client in projects or sending if client.processor.route.is_default]
    return next((few[0] for few in (defaults[:1], sending, projects) if len(few) == 1), None)


def _score(name: str, value: float | str, **fields: Any) -> str | None:
    """Gives a score, in the project of the span that it is for."""
    span = fields.get("span")
    return find(None if span is None else project_of(span)).score(name, value, **fields)


def flush(timeout: float = 30.0) -> bool:
    """``Client.flush`` of all clients at the same time, so that one whose destination is away costs the others nothing.

    Returns:
        True if every one of them has delivered everything within ``timeout`` seconds.
    """
    with _lock:
        clients = list(_clients.values()) or [find()]
    flushed: list[bool] = []
    workers = [threading.Thread(target=lambda client=client: flushed.append(client.flush(timeout))) for client in clients[1:]]
    try:
        for worker in workers:
            worker.start()
    except RuntimeError:  # no thread can be started any more, at the end of the interpreter
        return all([client.flush(timeout) for client in clients])  # noqa: C419 - each of them
    flushed += [client.flush(timeout) for client in clients[:1]]
    for worker in workers:
        worker.join()
    return all(flushed)


# -- making them -----------------------------------------------------------------------------------------------------------


def _call(
    exporter: SpanExporter | None, tracer_provider: Any, settings: ProcessorSettings, place: str, *, is_implicit: bool = False
) -> _Call:
    values: dict[str, Any] = dict(settings)
    functions = {name: values.pop(name, None) for name in FUNCTIONS}
    return _Call(exporter, tracer_provider, settings, Config.from_env(**values), functions, place, is_implicit)


def _configured(call: _Call) -> Client:
    with _lock:
        provider = _provider(call.tracer_provider, call.config)
        key = (id(provider), (call.config.base_url, call.config.public_key) if call.exporter is None else id(call.exporter))
        known = _clients.get(key)
        if known is not None and not known.is_shut_down and (call.is_implicit or not _gives_way(known)):
            _refuse_differences(known, call)
            return known
        _refuse_same_name(call, key)
        processor = LangfuseSpanProcessor(call.exporter, **call.settings)
        client = known if known is not None and not known.is_shut_down else _take_over(call, key[0]) or Client()
        if known is not None:
            client._slot = known._slot  # noqa: SLF001 - our own
        for other in [other for other, value in _clients.items() if value is client]:
            del _clients[other]
        _clients[key] = client
        client._put(processor, call, provider)  # noqa: SLF001 - our own
        _tell_tracing(call)
        return client


def _tell_tracing(call: _Call) -> None:
    """Where ``observe`` and its relatives record: with the provider of the latest call, unless every client is disabled."""
    enabled = any(client._call is not None and client._call.config.enabled for client in _clients.values())  # noqa: SLF001
    pages = call.config.base_url if sqlite_path(call.config.base_url) is None else None
    register(provider=call.tracer_provider, base_url=pages, enabled=enabled, score=_score)


def _start(client: Client) -> None:
    """Joins a client that ``find`` made, now that it is used, with settings from the environment. Never raises."""
    with _lock:
        if client._processors:  # noqa: SLF001 - our own
            return
        try:
            made = _configured(_call(None, None, {}, _ENVIRONMENT, is_implicit=True))
            if made is not client:  # another one was configured meanwhile
                client._processors = made._processors  # noqa: SLF001 - our own
        except ConfigError as error:
            _LOGGER.error("otel-langfuse: nothing is sent: %s", error)  # noqa: TRY400 - it says all
            client._processors = (LangfuseSpanProcessor.off(),)  # noqa: SLF001 - our own


def begin_from_environment() -> None:
    """What a program that has configured nothing does before its first observation or score, if its environment has keys.

    It joins the TracerProvider, or makes one, as ``get_client()`` does. Nothing happens, and nothing is said, without keys (or a
    local store in ``LANGFUSE_BASE_URL``), where they say that it is disabled, and where any processor or exporter of ours is
    at work already: what it sends would be sent twice.
    """
    try:
        config = Config.from_env()
    except ConfigError as error:
        _LOGGER.error("otel-langfuse: nothing is sent: %s", error)  # noqa: TRY400 - it says all
        return
    if not config.enabled or (missing_keys(config) and sqlite_path(config.base_url) is None):
        return
    with _lock:
        is_set_up = any(client._processors for client in _clients.values())  # noqa: SLF001 - our own
    if is_set_up or neighbours.any_living() or entry_points.any_living():
        return
    _start(find())
    _LOGGER.info("otel-langfuse: nothing was configured: observations go to %s, as the environment says", config.base_url)


begin_unless_told(begin_from_environment)


def _take_over(call: _Call, provider_id: int) -> Client | None:
    """The client that nobody has configured so far, and that this call now does."""
    global _waiting
    if call.functions["project"] is not None and not call.functions["default"]:
        return None  # one of several: not what who asks for no project in particular means
    if _waiting is not None:
        client, _waiting = _waiting, None
        return client
    if call.exporter is not None or call.is_implicit:
        return None
    on_it = (client for key, client in _clients.items() if key[0] == provider_id)
    return next((client for client in on_it if _is_implicit(client) and not client.is_shut_down), None)


def _is_implicit(client: Client) -> bool:
    return client._call is None or client._call.is_implicit  # noqa: SLF001 - our own


def _gives_way(client: Client) -> bool:
    """Whether other settings may take its place: nobody chose them, or they send nothing."""
    return _is_implicit(client) or not client.processor.sends


def _refuse_differences(client: Client, call: _Call) -> None:
    """What a call does not say contradicts nothing: a handler that is given no more than keys joins what the program set up."""
    first = client._call  # noqa: SLF001 - our own
    said = {name for name, value in call.settings.items() if value is not None}
    if first is None or call.is_implicit or not said:
        return
    differ = [name for name, function in call.functions.items() if name in said and not _same(function, first.functions[name])]
    differ += [
        name
        for item in fields(call.config)
        if (name := item.metadata["setting"].argument) in said
        and getattr(first.config, item.name) != getattr(call.config, item.name)
    ]
    if differ:
        raise ConfigError(
            f"configure() at {call.place} has other settings than the one at {first.place} for the same destination: "
            f"{', '.join(differ)}; expected the same, fewer or none, or client.shutdown() before"
        )


def _refuse_same_name(call: _Call, key: Any) -> None:
    """Two projects of one server under one name are a slip of the pen that would mix two tenants."""
    name = call.functions["project"]
    for other, client in _clients.items():
        first = client._call  # noqa: SLF001 - our own
        if name is None or other == key or first is None or other[0] != key[0] or client.is_shut_down:
            continue
        if first.functions["project"] == name and first.config.base_url == call.config.base_url:
            raise ConfigError(
                f"project={name!r}: expected a name of its own at {call.place}; another project has it since {first.place}"
            )


def _same(one: Any, other: Any) -> bool:
    """Whether two settings are the same; functions, if they do the same: a notebook's cell that is run again makes new ones."""
    if one is other or one == other:
        return True
    if not (isinstance(one, FunctionType) and isinstance(other, FunctionType)):
        return False
    parts = ((f.__code__, f.__defaults__, f.__kwdefaults__, [c.cell_contents for c in f.__closure__ or ()]) for f in (one, other))
    return next(parts) == next(parts)


def _provider(given: Any, config: Config) -> Any:
    """The provider to join: the given one, the global one if somebody has set one, or a new one that becomes the global one.

    Where nothing is to be recorded, none is set up: the application's tracers stay what they are.
    """
    provider = trace.get_tracer_provider() if given is None else given
    if config.enabled and given is None and isinstance(provider, trace.ProxyTracerProvider):
        try:
            made = TracerProvider()
            if config.sample_rate < 1.0 and not isinstance(made.sampler, LangfuseSampler):
                made.sampler = LangfuseSampler(config.sample_rate, made.sampler)  # so that services that are called follow
            trace.set_tracer_provider(made)
        except RuntimeError as error:  # in an exit function: the SDK starts threads to find out where it runs
            _LOGGER.warning("otel-langfuse: nothing is sent: no TracerProvider can be set up any more: %s", error)
        provider = trace.get_tracer_provider()
    return provider


class _Slot(SpanProcessor):
    """Where a provider has our processor: it lets go of none, and one that takes another's place is not to stand beside it.

    One that the application adds to the provider by hand is noticed with the next span, where only the agent or the environment
    asked for ours: from then on ours gets none, so that no span is sent twice, and perhaps not masked.
    """

    def __init__(self) -> None:
        self._processors: tuple[LangfuseSpanProcessor, ...] = ()
        self._provider: Any = None
        self._maker = ""  # who asked for it, where that was no code
        self._seen = 0  # processors of the provider
        self._ahead: LangfuseSpanProcessor | None = None  # the application's own, for the same project

    def put(self, processor: LangfuseSpanProcessor, provider: Any, maker: str) -> None:
        """From now on this one gets the spans; those before it deliver what they have."""
        self._maker, self._seen, self._ahead = maker, 0, None
        for earlier in self._processors:
            earlier.give_way()
        self._processors = (*(earlier for earlier in self._processors if not earlier.is_shut_down), processor)
        if self._provider is provider or not processor.sends:
            return
        self._provider = provider
        if hasattr(provider, "add_span_processor"):
            provider.add_span_processor(self)
        elif not isinstance(provider, trace.ProxyTracerProvider):
            _LOGGER.warning(
                "otel-langfuse: nothing is sent: the TracerProvider is %s, which takes no span processors; "
                "use OpenTelemetry's SDK, or pass tracer_provider=",
                f"{type(provider).__module__}.{type(provider).__name__}",
            )

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if self._maker:
            self._look()
        if self._ahead is None or self._ahead.is_shut_down:
            self._processors[-1].on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        if self._maker:
            self._look()
        if self._ahead is None or self._ahead.is_shut_down:
            self._processors[-1].on_end(span)

    def by_hand(self) -> list[LangfuseSpanProcessor]:
        """Those of the application's own that get the spans of this project: earlier ones, or any, if no code asked for ours."""
        project = self._processors[-1].project if self._processors else None
        if project is None:
            return []
        before = None if self._maker else self
        return [other for other in _ours(self._provider, before) if other.project == project]

    def _look(self) -> None:
        if len(_all_of(self._provider)) == self._seen:
            return
        self._seen = len(_all_of(self._provider))
        mine = self._processors[-1]
        if self._ahead is None and (by_hand := self.by_hand()):
            self._ahead = by_hand[0]
            mine.give_way(by_hand[0])
            if self._maker == _ENVIRONMENT:  # who asks for a client beside it has not set up anything twice
                return
            _LOGGER.warning(
                "otel-langfuse: the application adds a LangfuseSpanProcessor for the same project as %s: from now on only the "
                "application's sends; unset %s",
                self._maker,
                self._maker,
            )

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return _flushed(self._processors, timeout_millis / 1000)

    def shutdown(self) -> None:
        for processor in self._processors:
            processor.shutdown()


def _all_of(provider: Any) -> tuple[SpanProcessor, ...]:
    # Without the SDK's own slots, nobody is seen: then both send what two of ours get.
    found: tuple[SpanProcessor, ...] = getattr(getattr(provider, "_active_span_processor", None), "_span_processors", ())
    return found


def _ours(provider: Any, before: SpanProcessor | None = None) -> list[LangfuseSpanProcessor]:
    """The processors that the application has added to a provider by hand, and that are not shut down."""
    found = _all_of(provider)
    if before in found:
        found = found[: found.index(before)]
    return [one for one in found if isinstance(one, LangfuseSpanProcessor) and not one.is_shut_down]


# -- OpenTelemetry's agent -----------------------------------------------------------------------------------------------------


def post_instrument() -> None:
    """Called by ``opentelemetry-instrument`` when all is set up: adds our processor if ``OTEL_LANGFUSE_PROCESSOR`` is true.

    Settings come from the environment. ``configure()`` in the application then takes its place. It never raises: that would end
    the agent's set-up.
    """
    try:
        if wants_processor():
            _configured(_call(None, None, {}, "OTEL_LANGFUSE_PROCESSOR", is_implicit=True))
    except ConfigError as error:
        _LOGGER.error("otel-langfuse: OTEL_LANGFUSE_PROCESSOR: nothing is sent: %s", error)  # noqa: TRY400 - it says all
    except Exception:
        _LOGGER.exception("otel-langfuse: OTEL_LANGFUSE_PROCESSOR: nothing is sent")
