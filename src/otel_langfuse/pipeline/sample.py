"""Head sampling: whether a trace is among those that are sent, known when it starts, and alike in every service. Pure.

What OpenTelemetry has not sampled is sent nowhere, and where we sample, neither is what stands below it in services that
record it nevertheless. For the others three things say it, the first that is there wins:

1. The decision of the service that started the trace, in the member ``langfuse`` of W3C's tracestate, which
   ``sampler.LangfuseSampler`` writes. OpenTelemetry hands tracestate on to every child, in this process and in others.
2. Where OpenTelemetry's samplers wrote a threshold or a randomness (``ot=th:...;rv:...``), their rule: the randomness,
   which is ``rv`` or the last 56 bits of the trace id, must reach the threshold of our rate.
   https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/
3. Else the rule of OpenTelemetry's ``TraceIdRatioBased``: the last 64 bits of the trace id must be under a bound.

By 2 and 3 a service with a lower rate keeps a part of the traces that a service with a higher rate keeps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

MEMBER: Final = "langfuse"
"""Our member of tracestate."""

KEPT: Final = "keep:1"
DROPPED: Final = "keep:0"

ALL: Final = 1 << 64
"""The bound under which every trace id is."""

_OPENTELEMETRYS_MEMBER: Final = "ot"
_LOW_64_BITS: Final = ALL - 1
_LOW_56_BITS: Final = (1 << 56) - 1
_THRESHOLD: Final = re.compile(r"(?:^|;)th:[0-9a-fA-F]{1,14}(?:;|$)")
_RANDOMNESS: Final = re.compile(r"(?:^|;)rv:([0-9a-fA-F]{14})(?:;|$)")
_TRACE_ID: Final = re.compile(r"[0-9a-fA-F]{32}")
_NO_STATE: Final[Mapping[str, str]] = {}


def bound(sample_rate: float) -> int:
    """The bound under which a trace id's lower half must be, for a rate from 0.0 (none) to 1.0 (``ALL``).

    The rule is that of OpenTelemetry's ``TraceIdRatioBased``, so that a service that samples with it at the same rate
    keeps the same traces: https://opentelemetry.io/docs/specs/otel/trace/sdk/#traceidratiobased
    """
    return round(sample_rate * ALL)


def keep(trace_id: int, bound: int, trace_state: Mapping[str, str] = _NO_STATE, *, parent_sampled: bool = True) -> bool:
    """Whether the trace is kept under this ``bound``. Nothing is under 0, whatever others have decided.

    Args:
        trace_id: 128 bits.
        bound: as ``bound`` returns it.
        trace_state: its members.
        parent_sampled: False where the span has a parent that OpenTelemetry has not sampled. That parent is sent nowhere, so
            nothing below it is kept; but for ``ALL``, where nobody asked for sampling here.
    """
    if not bound or (not parent_sampled and bound < ALL):
        return False
    if trace_state:
        decided = trace_state.get(MEMBER)
        if decided in (KEPT, DROPPED):
            return decided == KEPT
        drawn = _randomness(trace_state.get(_OPENTELEMETRYS_MEMBER) or "", trace_id)
        if drawn is not None:
            return drawn >= (ALL - bound) >> 8
    return trace_id & _LOW_64_BITS < bound


def _randomness(member: str, trace_id: int) -> int | None:
    """What OpenTelemetry's samplers compare with their thresholds; None where they left nothing."""
    if found := _RANDOMNESS.search(member):
        return int(found[1], 16)
    return trace_id & _LOW_56_BITS if _THRESHOLD.search(member) else None


def trace_is_kept(trace_id: str, sample_rate: float, trace_state: Mapping[str, str] = _NO_STATE) -> bool:
    """Whether what belongs to a trace (a score) is sent, as its spans are by head sampling.

    Args:
        trace_id: 32 hex digits. Other ids are not OpenTelemetry's, so that nothing of theirs is sampled: always kept.
        sample_rate: 0.0 to 1.0.
        trace_state: the members of the span's tracestate, where a span is at hand: without it, what the service that
            started the trace has decided cannot be known here.
    """
    return _TRACE_ID.fullmatch(trace_id) is None or keep(int(trace_id, 16), bound(sample_rate), trace_state)


def members(trace_state: str) -> dict[str, str]:
    """The members of a tracestate as it is on the wire."""
    return {key.strip(): value.strip() for key, _, value in (pair.partition("=") for pair in trace_state.split(",")) if key}
