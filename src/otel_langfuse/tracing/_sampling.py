"""What the sampler says of the children of a sampled span of this process: asked once, because it is always the same.

The SDK's ``ParentBased`` looks the parent up in the context three times over to find that out, which is a tenth of what a span
costs. So where the samplers that describe themselves are all known, our own tracer, and nobody else's, asks through this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.trace import DEFAULT_TRACE_STATE, TraceState
from opentelemetry.trace.propagation import get_current_span

from otel_langfuse.span_context import IS_REMOTE, KIND, SAMPLED, TRACE_FLAGS, TRACE_STATE

ALWAYS: Final = "localParentSampled:AlwaysOnSampler"
"""What a sampler says of itself that samples all such children."""


class Asked:
    """A sampler in place of another one, of which it is known that it samples every child of a sampled span of this process.

    Args:
        sampler: the other one.
        key: of the current span in a context.
    """

    def __init__(self, sampler: Any, key: str) -> None:
        self._sampler = sampler
        self._key = key
        self._said: Any = None

    def should_sample(  # noqa: PLR0917 - as the SDK has it
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: Any = None,
        attributes: Any = None,
        links: Sequence[Any] | None = None,
        trace_state: TraceState | None = None,  # noqa: ARG002 - no sampler of the SDK's reads it
    ) -> Any:
        """The SDK's ``SamplingResult``."""
        parent: Any = get_current_span() if parent_context is None else parent_context.get(self._key)
        if parent is not None and not attributes:
            above = parent.get_span_context()
            is_known = type(above) is KIND and above[TRACE_STATE] is DEFAULT_TRACE_STATE
            if is_known and above[TRACE_FLAGS] & SAMPLED and not above[IS_REMOTE]:
                if self._said is None:
                    self._said = self._sampler.should_sample(parent_context, trace_id, name, kind, attributes, links)
                return self._said
        return self._sampler.should_sample(parent_context, trace_id, name, kind, attributes, links)

    def get_description(self) -> str:
        """That of the sampler itself."""
        description: str = self._sampler.get_description()
        return description

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)
