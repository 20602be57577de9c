"""Telling the current observation something, and its trace, whatever library started their spans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import Span, format_trace_id
from opentelemetry.trace.propagation import get_current_span

from otel_langfuse import attributes as names
from otel_langfuse.propagation import project_of, set_attributes, tell_late

from ._metadata import merged
from ._origin import NOTES, local_root, origin
from .fields import OBSERVATION, TRACE, Attributes, ObservationFields, TraceUpdate, added, attribute_of, set_on

if TYPE_CHECKING:
    from typing_extensions import Unpack

_NO_MORE_THAN_A_SPAN: Final = frozenset({None, "span"})


def update_current_span(*, name: str | None = None, **fields: Unpack[ObservationFields]) -> None:
    """Tells something about the current observation, whatever library started its span; see ``ObservationFields``."""
    span = _current("update_current_span")
    if span is not None:
        update(span, name, fields)


def update_current_generation(*, name: str | None = None, **fields: Unpack[ObservationFields]) -> None:
    """Likewise; and what is no more than a span until now becomes a generation."""
    span = _current("update_current_generation")
    if span is not None:
        is_span = attribute_of(span, names.OBSERVATION_TYPE) in _NO_MORE_THAN_A_SPAN
        update(span, name, fields, {names.OBSERVATION_TYPE: "generation"} if is_span else None)


def update_current_trace(**fields: Unpack[TraceUpdate]) -> None:
    """Tells something about the current trace; see ``TraceUpdate``.

    It is set on the current span, and on the topmost span of the trace that this process knows and that still runs. Name,
    user, session, tags, release and short metadata are also stamped on all spans of the trace that are not sent yet, where they
    say nothing else. What was sent already does not get them: Langfuse shows the trace by its root, but filters observations by
    what each of them says. So ``propagate_attributes`` at the beginning is the way for what is known then.
    """
    span = _current("update_current_trace")
    if span is not None:
        update_trace(span, fields)


def set_current_trace_as_public() -> None:
    """Lets everybody who has its address (``get_trace_url``) look at the current trace."""
    update_current_trace(public=True)


# -- by their spans ----------------------------------------------------------------------------------------------------------


def update(span: Span, name: str | None, fields: Mapping[str, Any], attributes: Attributes | None = None) -> None:
    """Adds to what a span says, or replaces it; ``attributes``: what is set beside the fields. Never raises."""
    try:
        if span.is_recording():
            if name is not None:
                span.update_name(str(name))
            made = added(OBSERVATION, fields, attributes or {})
            set_on(span, merged(span, names.OBSERVATION_METADATA, made) if "metadata" in fields else made)
        elif getattr(span, "end_time", None) is not None:
            NOTES.note("update", "an update is lost: the observation had ended")
    except Exception as error:  # noqa: BLE001 - of a foreign span
        NOTES.note("update", f"an update is lost: {type(error).__name__}")


def _current(what: str) -> Span | None:
    """The current span if it is recording. A note where something is recorded in this program, but not here."""
    span = get_current_span()
    if span.is_recording():
        return span
    if not span.get_span_context().is_valid and origin() is not None:
        NOTES.note(what, f"{what}() did nothing: no observation is running where it was called")
    return None


def update_trace(span: Span, fields: Mapping[str, Any]) -> None:
    """Tells something about the span's trace: to the span, and as far as ``update_current_trace`` says. Never raises."""
    attributes = added(TRACE, fields, {})
    tell_late(format_trace_id(span.get_span_context().trace_id), attributes, project_of(span))
    root = local_root(span)
    for one in (span,) if root is None else (span, root):
        try:
            _tell(one, attributes)
        except Exception as error:  # noqa: BLE001, PERF203 - of a foreign span
            NOTES.note("update", f"an update is lost: {type(error).__name__}")


def _tell(span: Span, attributes: Attributes) -> None:
    if not span.is_recording():
        return
    if tags := attributes.get(names.TRACE_TAGS):
        had = attribute_of(span, names.TRACE_TAGS)
        tags = tuple(dict.fromkeys([*(had if isinstance(had, (list, tuple)) else ()), *tags]))
        attributes = {**attributes, names.TRACE_TAGS: tags}
    set_attributes(span, merged(span, names.TRACE_METADATA, attributes))
