"""Whether a trace is among those that are sent: alike in every service, because only the trace id decides. Pure."""

from __future__ import annotations

from typing import Final

_LOW_64_BITS: Final = (1 << 64) - 1


def bound(sample_rate: float) -> int:
    """The bound under which a trace id's lower half must be, for a rate from 0.0 (none) to 1.0 (all).

    The rule is that of OpenTelemetry's ``TraceIdRatioBased``, so that a service that samples with it at the same rate
    keeps the same traces: https://opentelemetry.io/docs/specs/otel/trace/sdk/#traceidratiobased
    """
    return round(sample_rate * (_LOW_64_BITS + 1))


def keep(trace_id: int, bound: int) -> bool:
    """Whether the trace is kept under this ``bound``."""
    return trace_id & _LOW_64_BITS < bound
