"""The composition root: joins the application's TracerProvider, or makes one, and hands back what to flush and ask."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter

from .config import Config
from .model import Stats
from .processor import LangfuseSpanProcessor, ProcessorSettings

if TYPE_CHECKING:
    from typing_extensions import Unpack

_LOGGER: Final = logging.getLogger("otel_langfuse")
_lock = threading.RLock()
_clients: dict[Any, Client] = {}


class Client:
    """One destination of this process. Made by ``configure``, and safe to use on any thread."""

    def __init__(self, processor: LangfuseSpanProcessor, provider: Any, config: Config, functions: Mapping[str, Any]) -> None:
        self._processor = processor
        self._provider = provider  # kept alive, so that no other one gets its id, which the registry goes by
        self._config = config
        self._functions = functions

    @property
    def processor(self) -> LangfuseSpanProcessor:
        """The processor that was added to the TracerProvider."""
        return self._processor

    def flush(self, timeout: float = 30.0) -> bool:
        """Sends everything that has ended, and waits for it, at most ``timeout`` seconds; see ``force_flush``."""
        return self._processor.force_flush(int(timeout * 1000))

    def shutdown(self, timeout: float = 5.0) -> bool:
        """Sends what can be sent within ``timeout`` seconds and ends the processor. ``configure`` then makes a new one."""
        return self._processor.shutdown(timeout * 1000)

    def stats(self) -> Stats:
        """What ended, what of it arrived, waits, or was dropped, by reason."""
        return self._processor.stats()


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
        tracer_provider: an SDK TracerProvider to join instead of the global one.
        **settings: the other arguments of ``LangfuseSpanProcessor``.

    Returns:
        The client. Where the provider is not the SDK's (ddtrace's, for instance) it is joined to nothing; a warning says so.

    Raises:
        ConfigError: a setting cannot work.
    """
    values: dict[str, Any] = dict(settings)
    functions = {name: values.pop(name, None) for name in ("mask", "should_export_span")}
    config = Config.from_env(**values)
    with _lock:
        provider = _provider(tracer_provider)
        key = (id(provider), (config.base_url, config.public_key) if exporter is None else id(exporter))
        client = _clients.get(key)
        if client is not None and not client.processor.is_shut_down:
            _warn_of_differences(client, config, functions)
            return client
        processor = LangfuseSpanProcessor(exporter, **settings)
        if hasattr(provider, "add_span_processor"):
            provider.add_span_processor(processor)
        client = _clients[key] = Client(processor, provider, config, functions)
        return client


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
