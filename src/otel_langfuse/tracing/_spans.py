"""How the span of an observation starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span

from otel_langfuse import attributes as names
from otel_langfuse.propagation import set_first

from ._origin import NOTES, Origin, origin, unsampled
from .fields import OBSERVATION, TYPES, Attributes, added, imply_status
from .ids import joined


def begun(  # noqa: PLR0917 - positional, because it is called for every observation
    name: Any,
    as_type: Any,
    context: Context,
    fields: Mapping[str, Any],
    start_time: int | None = None,
    found: Origin | None = None,
) -> Span:
    """A started span, under the one of ``context``; that one itself where it is not sampled. Never raises.

    ``INVALID_SPAN`` where nothing is recorded in this program.
    ``fields`` may name a ``trace_context`` too. All of them are set in one go when it is known that the span is recorded; only
    a sampler that may look at attributes is given them before. ``found`` is the ``origin()``, where that is known.
    """
    found = found or origin()
    if found is None:
        return INVALID_SPAN
    try:
        attributes: Attributes = {names.OBSERVATION_TYPE: as_type if as_type in TYPES else _type(as_type)}
        if "trace_context" in fields:
            context, fields = _joined(context, fields, attributes)
        elif found.inherits and (above := unsampled(context)) is not None:
            return above
        if found.looks:
            added(OBSERVATION, fields, attributes)
            span = found.tracer.start_span(str(name), context=context, attributes=attributes, start_time=start_time)
        else:
            span = found.tracer.start_span(str(name), context=context, start_time=start_time)
            if not span.is_recording():
                return span
            if fields:
                added(OBSERVATION, fields, attributes)
            set_first(span, attributes)
        if names.OBSERVATION_LEVEL in attributes:
            imply_status(span, attributes)
    except Exception as error:  # noqa: BLE001 - a foreign sampler or processor must not break the application
        NOTES.note("start", f"an observation is not recorded: {type(error).__name__} while starting its span")
        return INVALID_SPAN
    return span


def _joined(context: Context, fields: Mapping[str, Any], attributes: Attributes) -> tuple[Context, Mapping[str, Any]]:
    rest = dict(fields)
    found = joined(rest.pop("trace_context"), context)
    if found is None:
        return context, rest
    if found[1]:
        attributes[names.AS_ROOT] = True
    return found[0], rest


def _type(given: Any) -> str:
    known = str(given).strip().lower()
    if known in TYPES:
        return known
    NOTES.note("as_type", f"as_type {str(given)[:40]!r} is none of {', '.join(sorted(TYPES))}: span is taken")
    return "span"
