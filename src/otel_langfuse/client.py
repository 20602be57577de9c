"""The composition root: joins the application's TracerProvider, or makes one, and hands back what to flush and ask."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter

from .config import Config, sqlite_path, wants_processor
from .errors import ConfigError
from .exporters import entry_points, missing_keys
from .model import Stats
from .pipeline import sample
from .pipeline.mask import checked
from .processor import FUNCTIONS, LangfuseSpanProcessor, ProcessorSettings
from .tracing import register

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .scores import Scores

_LOGGER: Final = logging.getLogger("otel_langfuse")
_lock = threading.RLock()
_clients: dict[Any, Client] = {}


class Client:
    """One destination of this process. Made by ``configure``, and safe to use on any thread."""

    def __init__(self, processor: LangfuseSpanProcessor, provider: Any, config: Config, functions: Mapping[str, Any]) -> None:
        self._slot: _Slot | None = None  # only where the agent made it, and nobody's code has asked for it yet
        self._processor = processor
        self._provider = provider  # kept alive, so that no other one gets its id, which the registry goes by
        self._config = config
        self._functions = functions
        self._scores: Scores | None = None

    @property
    def config(self) -> Config:
        """The settings that it was made with."""
        return self._config

    @property
    def scores(self) -> Scores:
        """Sends scores to the same Langfuse project, or into the same local store."""
        with _lock:
            if self._scores is None:
                from .scores import Scores  # noqa: PLC0415 - who gives no scores need not load what encodes them

                config, mask = self._config, self._functions.get("mask")
                self._scores = Scores(
                    config,
                    mask=None if mask is None else checked(mask),
                    keeps=None if config.sample_rate >= 1.0 else _keeps(sample.bound(config.sample_rate)),
                    debug=config.debug,
                )
                if self._processor.is_shut_down:
                    self._scores.shutdown(0)
            return self._scores

    def score(self, name: str, value: float | str, **fields: Any) -> str | None:
        """Gives a score; see ``Scores.create``."""
        return self.scores.create(name, value, **fields)

    @property
    def processor(self) -> LangfuseSpanProcessor:
        """The processor that was added to the TracerProvider."""
        return self._processor

    def flush(self, timeout: float = 30.0) -> bool:
        """Sends everything that has ended, and all scores, and waits for them, at most ``timeout`` seconds; never raises.

        Returns:
            Whether all of it has been delivered; see ``LangfuseSpanProcessor.force_flush``.
        """
        deadline = time.monotonic() + timeout
        if self._scores is not None:
            self._scores.flush(0)  # begins; so that they share the time
        flushed = self._processor.force_flush(int(timeout * 1000))
        return (self._scores is None or self._scores.flush(max(deadline - time.monotonic(), 0.0))) and flushed

    def shutdown(self, timeout: float = 5.0) -> bool:
        """Sends what can be sent within ``timeout`` seconds and ends the processor. ``configure`` then makes a new one."""
        deadline = time.monotonic() + timeout
        if self._scores is not None:
            self._scores.flush(0)
        done = self._processor.shutdown(timeout * 1000)
        return (self._scores is None or self._scores.shutdown(max(deadline - time.monotonic(), 0.0))) and done

    def stats(self) -> Stats:
        """What ended, what of it arrived, waits, or was dropped, by reason."""
        return self._processor.stats()

    def media_stats(self) -> Stats | None:
        """The same for images, sounds and documents that are sent apart from their spans; None where there are none to be."""
        return self._processor.media_stats()


def _keeps(bound: int) -> Callable[[str], bool]:
    """Whether the trace of an id is sent: what is not an id of OpenTelemetry's is."""

    def keeps(trace_id: str) -> bool:
        try:
            return sample.keep(int(trace_id, 16), bound)
        except ValueError:
            return True

    return keeps


def _new_lock() -> None:
    global _lock  # noqa: PLW0603 - in a forked child another thread of the parent may seem to hold it for ever
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


def configure(
    exporter: SpanExporter | None = None, *, tracer_provider: Any = None, **settings: Unpack[ProcessorSettings]
) -> Client:
    """Adds a ``LangfuseSpanProcessor`` to the application's TracerProvider; where there is none, sets up one.

    Called again for the same destination (server and public key, or the same exporter) on the same provider it changes
    nothing and returns the same client, so that nothing is exported twice; other settings are then ignored, with a warning.

    Args:
        exporter: see ``LangfuseSpanProcessor``.
        tracer_provider: an SDK TracerProvider to join instead of the global one. ``observe`` and the other functions that start
            observations use the provider of the latest call.
        **settings: the other arguments of ``LangfuseSpanProcessor``.

    Returns:
        The client. Where the provider is not the SDK's (ddtrace's, for instance) it is joined to nothing; a warning says so.

    Raises:
        ConfigError: a setting cannot work.
    """
    values: dict[str, Any] = dict(settings)
    functions = {name: values.pop(name, None) for name in FUNCTIONS}
    config = Config.from_env(**values)
    client = _configured(exporter, tracer_provider, config, functions, settings)
    pages = config.base_url if sqlite_path(config.base_url) is None else None
    register(provider=tracer_provider, base_url=pages, enabled=config.enabled, score=client.score)
    return client


def _configured(
    exporter: SpanExporter | None,
    tracer_provider: Any,
    config: Config,
    functions: Mapping[str, Any],
    settings: ProcessorSettings,
    *,
    by_agent: bool = False,
) -> Client:
    with _lock:
        provider = _provider(tracer_provider)
        key = (id(provider), (config.base_url, config.public_key) if exporter is None else id(exporter))
        client = _clients.get(key)
        slot = None if client is None or client.processor.is_shut_down else client._slot  # noqa: SLF001 - our own
        if client is not None and (slot is None or by_agent) and not client.processor.is_shut_down:
            _warn_of_differences(client, config, functions)
            return client
        processor = LangfuseSpanProcessor(exporter, **settings)
        client = _clients[key] = Client(processor, provider, config, functions)
        if slot is not None:
            slot.put(processor)
        elif by_agent and hasattr(provider, "add_span_processor"):
            client._slot = slot = _Slot(processor, provider)  # noqa: SLF001 - our own
            provider.add_span_processor(slot)
        elif hasattr(provider, "add_span_processor"):
            provider.add_span_processor(processor)
        if exporter is None and hasattr(provider, "add_span_processor"):
            _replace_exporters(config)
        return client


def _replace_exporters(config: Config) -> None:
    """What ``OTEL_TRACES_EXPORTER`` names is not to send the same spans a second time, and perhaps not masked."""
    sends = config.enabled and (sqlite_path(config.base_url) is not None or not missing_keys(config))
    if sends and entry_points.replace((config.base_url, config.public_key)):
        _LOGGER.warning(
            "otel-langfuse: OTEL_TRACES_EXPORTER names langfuse, and a LangfuseSpanProcessor sends to the same project: from now "
            "on only the processor does; take langfuse out of OTEL_TRACES_EXPORTER"
        )


def _provider(given: Any) -> Any:
    """The provider to join: the given one, the global one if it is the SDK's, or a new one that becomes the global one."""
    provider = trace.get_tracer_provider() if given is None else given
    if given is None and isinstance(provider, trace.ProxyTracerProvider):  # nobody has set one
        trace.set_tracer_provider(TracerProvider())
        provider = trace.get_tracer_provider()
    if not hasattr(provider, "add_span_processor"):
        _LOGGER.warning(
            "otel-langfuse: nothing is sent: the TracerProvider is %s, which takes no span processors; use OpenTelemetry's SDK, "
            "or pass tracer_provider=",
            f"{type(provider).__module__}.{type(provider).__name__}",
        )
    return provider


def _warn_of_differences(client: Client, config: Config, functions: Mapping[str, Any]) -> None:
    old = client._config  # noqa: SLF001 - our own
    differ = [name for name, function in functions.items() if function is not client._functions[name]]  # noqa: SLF001
    differ += [item.name for item in fields(config) if getattr(old, item.name) != getattr(config, item.name)]
    if differ:
        _LOGGER.warning(
            "otel-langfuse: configure() was called before for this destination; of this call these settings are ignored: %s",
            ", ".join(differ),
        )


# -- OpenTelemetry's agent -----------------------------------------------------------------------------------------------------


class _Slot(SpanProcessor):
    """Where the agent's hook puts a processor: a provider lets go of none, and the application's own may mask.

    ``configure`` puts the application's here. One that the application adds to the provider by hand is noticed there with the
    next span: from then on the agent's gets none, so that no span is sent twice, and perhaps not masked.
    """

    def __init__(self, processor: LangfuseSpanProcessor, provider: Any) -> None:
        self._processors = [processor]
        self._provider = provider
        self._seen = 0  # processors of the provider
        self._gives_way = False

    def put(self, processor: LangfuseSpanProcessor) -> None:
        """From now on this one gets the spans; those before it deliver what they have."""
        self._processors.append(processor)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self._look()
        if not self._gives_way:
            self._processors[-1].on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        self._look()
        if not self._gives_way:
            self._processors[-1].on_end(span)

    def _look(self) -> None:
        # Without the SDK's own slots, nobody is seen, and both send.
        others = getattr(getattr(self._provider, "_active_span_processor", None), "_span_processors", ())
        if len(others) == self._seen:
            return
        self._seen = len(others)
        mine = self._processors[-1]
        by_hand = any(isinstance(other, LangfuseSpanProcessor) and other.project == mine.project for other in others)
        if by_hand and mine.project is not None and not self._gives_way:
            self._gives_way = True
            _LOGGER.warning(
                "otel-langfuse: OTEL_LANGFUSE_PROCESSOR is set, and the application adds a LangfuseSpanProcessor for the same "
                "project: from now on only the application's sends; unset OTEL_LANGFUSE_PROCESSOR"
            )

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        deadline = time.monotonic() + timeout_millis / 1000
        flushed = [p.force_flush(max(int((deadline - time.monotonic()) * 1000), 0)) for p in self._processors]
        return all(flushed)

    def shutdown(self) -> None:
        for processor in self._processors:
            processor.shutdown()


def post_instrument() -> None:
    """Called by ``opentelemetry-instrument`` when all is set up: adds our processor if ``OTEL_LANGFUSE_PROCESSOR`` is true.

    Settings come from the environment. ``configure()`` in the application then takes its place. It never raises: that would end
    the agent's set-up.
    """
    try:
        if wants_processor():
            _configured(None, None, Config.from_env(), dict.fromkeys(FUNCTIONS), {}, by_agent=True)
    except ConfigError as error:
        _LOGGER.error("otel-langfuse: OTEL_LANGFUSE_PROCESSOR: nothing is sent: %s", error)  # noqa: TRY400 - it says all
    except Exception:
        _LOGGER.exception("otel-langfuse: OTEL_LANGFUSE_PROCESSOR: nothing is sent")
