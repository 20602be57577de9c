"""Where in the tuple that an OpenTelemetry ``SpanContext`` is its parts stand: reading them there takes no call.

Its properties are Python functions, and several of them are asked for each span on the application's thread. To be used where
``type(context) is KIND``: of anybody else's class only the properties are known.
"""

from __future__ import annotations

from typing import Any, Final

from opentelemetry.trace import SpanContext, TraceFlags, TraceState

KIND: Final[Any] = SpanContext
"""The class, which to mypy is any: it does not know that its instances are tuples."""

_PROBE: Final = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(4), trace_state=TraceState())

TRACE_ID, SPAN_ID, IS_REMOTE, TRACE_FLAGS, TRACE_STATE = (
    next(place for place, part in enumerate(_PROBE) if part is known)
    for known in (_PROBE.trace_id, _PROBE.span_id, _PROBE.is_remote, _PROBE.trace_flags, _PROBE.trace_state)
)

SAMPLED: Final = int(TraceFlags.SAMPLED)
