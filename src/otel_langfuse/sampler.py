"""The OTel Sampler door: what tells the services that follow which traces are sent to Langfuse."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from .config import Config
from .pipeline import sample


class LangfuseSampler(Sampler):
    """Decides by ``sample_rate`` which traces go to Langfuse, and writes that into tracestate, for the services that follow.

    It changes nothing about which spans exist: that is what the inner sampler says, so every other exporter of the provider
    gets what it got. ``LangfuseSpanProcessor`` here, and in every service that is called from here, goes by what is written,
    whatever rate of its own it has: each trace is sent whole or not at all. Needed only where traces start; ``configure()``
    adds it to a provider that it makes.

    A trace whose tracestate already says so follows that.

    Args:
        sample_rate: share of traces, 0.0 to 1.0; else ``LANGFUSE_SAMPLE_RATE``.
        inner: what decides about spans; by default the SDK's own default, all but those whose parent was not sampled.

    Raises:
        ConfigError: the rate cannot work.
    """

    def __init__(self, sample_rate: float | None = None, inner: Sampler = DEFAULT_ON) -> None:
        self._rate = Config.from_env(sample_rate=sample_rate).sample_rate
        self._bound = sample.bound(self._rate)
        self._inner = inner

    def should_sample(  # noqa: PLR0917 - the base class's
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """What the inner sampler says, with our member in the tracestate of what is sampled."""
        result = self._inner.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        state = result.trace_state or TraceState()
        if result.decision is Decision.RECORD_AND_SAMPLE and sample.MEMBER not in state:
            parent = trace.get_current_span(parent_context).get_span_context()
            parent_sampled = not parent.is_valid or parent.trace_flags.sampled
            kept = sample.keep(trace_id, self._bound, state, parent_sampled=parent_sampled)
            result.trace_state = state.add(sample.MEMBER, sample.KEPT if kept else sample.DROPPED)
        return result

    def get_description(self) -> str:
        """The rate, and the inner sampler's description."""
        return f"LangfuseSampler{{{self._rate},{self._inner.get_description()}}}"


def from_argument(argument: str | None) -> LangfuseSampler:
    """What ``OTEL_TRACES_SAMPLER=langfuse`` names; ``OTEL_TRACES_SAMPLER_ARG`` is the rate, else ``LANGFUSE_SAMPLE_RATE``."""
    given = (argument or "").strip()
    return LangfuseSampler(float(given) if given else None)
