"""What ``OTEL_TRACES_EXPORTER=langfuse`` names: exporters made by OpenTelemetry's agent, from the environment alone.

They stand behind the SDK's own processor, so nothing is propagated onto spans, and the children of a filtered span keep it as
their parent; sampling, filter, environment and release of the settings hold nevertheless. What cannot work is logged and
counted, never raised: an exception would end the agent's set-up, and with it everybody else's telemetry. Sources: protocol.md 3
and 4.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_langfuse import attributes as names
from otel_langfuse import doubles
from otel_langfuse.batch import Sending
from otel_langfuse.config import Config
from otel_langfuse.errors import ConfigError, Drop, DropReason
from otel_langfuse.model import Span
from otel_langfuse.pipeline import sample
from otel_langfuse.pipeline.filter import ALL, LLM, Words

from . import exporter_for, missing_keys
from ._base import LangfuseExporter

_LOGGER: Final = logging.getLogger("otel_langfuse")

_exporters: Final[weakref.WeakSet[LangfuseTracesExporter]] = weakref.WeakSet()
_TAKEN: Final = (
    "OTEL_TRACES_EXPORTER names langfuse, and a LangfuseSpanProcessor sends to the same project: of what both get, only the "
    "processor sends; take langfuse out of OTEL_TRACES_EXPORTER"
)


class LangfuseTracesExporter(LangfuseExporter):
    """To Langfuse by OTLP, or to the local store for a ``sqlite:`` URL, as the settings say.

    Args:
        **settings: settings of ``Config`` by the names that they have at the doors, as a declarative configuration file gives
            them; what is not given comes from the environment.

    Raises:
        TypeError: there is no such setting.
    """

    def __init__(self, **settings: Any) -> None:
        self._inner: LangfuseExporter | None = None
        self._static: dict[str, str] = {}
        self._bound = sample.ALL
        self._keeps: Words | None = None
        self._doubles: doubles.Doubles | None = None
        self._has_said_so = False
        self._why = "LANGFUSE_TRACING_ENABLED is false"
        config = Config()
        try:
            config = Config.from_env(**settings)
            if config.enabled:
                self._init(config)
        except ConfigError as error:
            self._why = str(error)
            _LOGGER.error("otel-langfuse: nothing is sent: %s", error)  # noqa: TRY400 - it says all; no traceback
        super().__init__(name=self._inner.name if self._inner is not None else "", timeout_s=config.timeout_s, config=config)
        _exporters.add(self)

    def _init(self, config: Config) -> None:
        self._inner = self._made(config)
        self._why = missing_keys(config)
        self._bound = sample.bound(config.sample_rate)
        to_langfuse = self._inner is not None and bool(self._inner.public_key)
        words = Words(config.filter or (LLM if to_langfuse else ALL,))
        self._keeps = None if words.keeps_all else words
        static = ((names.ENVIRONMENT, config.environment), (names.RELEASE, config.release))
        self._static = {key: value for key, value in static if value is not None}
        if self._inner is not None and not self._why:
            self._doubles = doubles.for_exporter(self._inner.project)

    def _made(self, config: Config) -> LangfuseExporter | None:
        return exporter_for(config)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See ``LangfuseExporter.export``; what a processor of ours sends to the same project is left out, and counted so."""
        told = self._doubles
        mine = spans if told is None else [span for span in spans if span.context is None or not told.take(span.context)]
        left_out = len(spans) - len(mine)
        if left_out:
            self._ledger.start(left_out)
            self._ledger.drop(DropReason.DOUBLE, left_out)
            if not self._has_said_so:
                self._has_said_so = True
                _LOGGER.warning("otel-langfuse: %s", _TAKEN)
        return super().export(mine) if mine or not left_out else SpanExportResult.SUCCESS

    def deliver(self, spans: Sequence[Span], sending: Sending[Any]) -> None:
        """Delivers by the exporter that the settings describe."""
        if self._inner is None:
            sending.dropped(Drop(DropReason.SEND_FAILED, len(spans), self._why))
            return
        sampled = [span for span in spans if self._is_sampled(span)]
        if len(sampled) < len(spans):
            sending.dropped(Drop(DropReason.SAMPLED_OUT, len(spans) - len(sampled)))
        keeps = self._keeps
        kept = sampled if keeps is None else [span for span in sampled if keeps(span.scope.name or "", span.attributes)]
        if len(kept) < len(sampled):
            sending.dropped(Drop(DropReason.FILTERED, len(sampled) - len(kept)))
        if self._static:
            kept = [span._replace(attributes={**self._static, **span.attributes}) for span in kept]
        if kept:
            self._inner.deliver(kept, sending)

    def _is_sampled(self, span: Span) -> bool:
        if self._bound == sample.ALL and not span.trace_state:
            return True
        return sample.keep(int(span.trace_id, 16), self._bound, sample.members(span.trace_state))

    @property
    def keeps(self) -> bool:
        """Whether there is a spool; see ``LangfuseExporter``, also for the next three."""
        return self._inner is not None and self._inner.keeps

    def keep(self, sending: Sending[Any], spans: Callable[[], Sequence[Span]]) -> None:
        """Puts away what is undecided of a batch."""
        if self._inner is not None:
            self._inner.keep(sending, spans)

    def arrived(self, timeout_s: float) -> bool:
        """Waits until what was put away has been sent."""
        return self._inner is None or self._inner.arrived(timeout_s)

    def finish(self, timeout_s: float) -> None:
        """Sends what was put away, as long as that works."""
        if self._inner is not None:
            self._inner.finish(timeout_s)

    def close(self) -> None:
        """Lets go of connections and files."""
        if self._inner is not None:
            self._inner.close()


class LangfuseIngestionTracesExporter(LangfuseTracesExporter):
    """The same by Langfuse's ingestion API, for older servers: ``OTEL_TRACES_EXPORTER=langfuse_ingestion``."""

    def _made(self, config: Config) -> LangfuseExporter | None:
        from .ingestion import LangfuseIngestionExporter  # noqa: PLC0415 - whoever does not ask for it need not load it

        return LangfuseIngestionExporter.from_config(config)


def any_living() -> bool:
    """Whether OpenTelemetry's agent has made an exporter of ours."""
    return bool(_exporters)
