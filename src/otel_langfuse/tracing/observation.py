"""Observations by hand: started, updated, ended. An observation is a span with attributes; nothing else remembers it."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Token
from time import time_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, format_span_id, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation import get_current_span

from otel_langfuse import attributes as names
from otel_langfuse.model import ScoreFields
from otel_langfuse.propagation import _detach as detach
from otel_langfuse.propagation import project_of, set_attributes, tell_late

from . import _ending
from ._origin import NOTES, local_root, origin, scored, unsampled, within
from .fields import (
    OBSERVATION,
    TRACE,
    TYPES,
    Attributes,
    ObservationFields,
    ObservationType,
    TraceUpdate,
    added,
    attribute_of,
    imply_status,
    set_on,
)
from .ids import TraceContext, joined

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

_NO_MORE_THAN_A_SPAN: Final = frozenset({None, "span"})


class Observation:
    """A handle of a running observation: of its span, and nothing more. Safe to use on any thread.

    Made by ``start_observation`` and ``start_as_current_observation``. Where nothing is recorded (no TracerProvider, not
    sampled) its methods do nothing. None of them raises.
    """

    __slots__ = ("_span",)

    def __init__(self, span: Span) -> None:
        self._span = span

    @property
    def span(self) -> Span:
        """The OpenTelemetry span."""
        return self._span

    @property
    def id(self) -> str:
        """The observation's id: 16 hex digits; zeros where nothing is recorded."""
        return format_span_id(self._span.get_span_context().span_id)

    @property
    def trace_id(self) -> str:
        """Its trace's id: 32 hex digits; zeros where nothing is recorded."""
        return format_trace_id(self._span.get_span_context().trace_id)

    def __repr__(self) -> str:
        return f"Observation(id={self.id!r}, trace_id={self.trace_id!r})"

    def update(self, *, name: str | None = None, **fields: Unpack[ObservationFields]) -> Self:
        """Adds to the observation or replaces what it says; see ``ObservationFields``. Does not end it."""
        span = self._span
        try:
            if span.is_recording():
                if name is not None:
                    span.update_name(str(name))
                set_on(span, added(OBSERVATION, fields, {}))
            elif getattr(span, "end_time", None) is not None:
                NOTES.note("update", "an update is lost: the observation had ended")
        except Exception as error:  # noqa: BLE001 - of a foreign span
            NOTES.note("update", f"an update is lost: {type(error).__name__}")
        return self

    def update_trace(self, **fields: Unpack[TraceUpdate]) -> Self:
        """Tells something about the whole trace; see ``TraceUpdate``, and ``update_current_trace`` for how far it goes."""
        _update_trace(self._span, fields)
        return self

    def set_trace_as_public(self) -> Self:
        """Lets everybody who has its address look at the trace."""
        return self.update_trace(public=True)

    def score(self, *, name: str, value: float | str, **fields: Unpack[ScoreFields]) -> str | None:
        """Scores this observation; see ``ScoreFields``.

        While it runs, the score is also on its span, as OpenTelemetry's event ``gen_ai.evaluation.result``.

        Returns:
            The score's id; None if it was dropped, which was counted and logged.

        Raises:
            ScoreError: in debug mode, if Langfuse would not take it.
        """
        return scored(name, value, {**self._target(), **fields})

    def score_trace(self, *, name: str, value: float | str, **fields: Unpack[ScoreFields]) -> str | None:
        """Scores its trace, in the same way."""
        is_root = getattr(self._span, "parent", self) is None
        span = self._span if is_root else local_root(self._span)  # on which it is an event, as far as that is known
        return scored(name, value, {"trace_id": self.trace_id, "span": span, **fields})

    def _target(self) -> dict[str, Any]:
        return {"trace_id": self.trace_id, "observation_id": self.id, "span": self._span}

    def end(self, *, end_time: int | None = None) -> Self:
        """Ends the observation, now or at ``end_time`` (nanoseconds since 1970). A second time does nothing."""
        if self._span.is_recording():
            _ending.end(self._span, end_time)
        return self

    def start_observation(
        self, name: str, *, as_type: ObservationType = "span", **fields: Unpack[ObservationFields]
    ) -> Observation:
        """Starts an observation under this one, wherever the program is now; as the function of this name."""
        return _begin_detached(name, as_type, fields, self._context())

    def start_as_current_observation(
        self, name: str, *, as_type: ObservationType = "span", end_on_exit: bool = True, **fields: Unpack[ObservationFields]
    ) -> start_as_current_observation:
        """Likewise, for a ``with`` block; as the function of this name."""
        made = start_as_current_observation(name, as_type=as_type, end_on_exit=end_on_exit, **fields)
        made._parent = self._span  # noqa: SLF001 - our own
        return made

    def create_event(self, name: str, **fields: Unpack[ObservationFields]) -> Observation:
        """Records an event, which has no duration, under this observation."""
        return _event(name, fields, self._context())

    def _context(self) -> Context:
        return set_span_in_context(self._span)


_NOT_RECORDED: Final = Observation(INVALID_SPAN)


class start_as_current_observation:  # noqa: N801 - called like a function, as contextlib.suppress is
    """An observation for a ``with`` block: it starts there under the current span, is the current span inside, and ends.

    ``with`` gives its ``Observation``. An exception that leaves the block is recorded and goes on. Nothing is raised here.

    Args:
        name: of the observation.
        as_type: one of Langfuse's ten types.
        trace_context: as for ``start_observation``.
        end_on_exit: False: its ``end()`` must be called.
        **fields: see ``ObservationFields``.
    """

    __slots__ = ("_end_on_exit", "_fields", "_name", "_parent", "_span", "_token", "_type")

    def __init__(
        self,
        name: str,
        *,
        as_type: ObservationType = "span",
        trace_context: TraceContext | Mapping[str, Any] | None = None,
        end_on_exit: bool = True,
        **fields: Unpack[ObservationFields],
    ) -> None:
        self._name = name
        self._type = as_type
        self._end_on_exit = end_on_exit
        self._fields: Mapping[str, Any] = fields if trace_context is None else {**fields, "trace_context": trace_context}
        self._parent: Span | None = None
        self._token: Token[Context] | None

    def __enter__(self) -> Observation:
        if origin() is None:
            self._token = None
            return _NOT_RECORDED
        context = otel_context.get_current()
        if self._parent is not None:
            context = set_span_in_context(self._parent, context)
        span = self._span = begun(self._name, self._type, context, self._fields)
        # Not where nothing is recorded, nor where the span that is not sampled is current already.
        if span.is_recording() or (span is not INVALID_SPAN and span is not get_current_span()):
            self._token = otel_context.attach(within(span, context))
        else:
            self._token = None
        return Observation(span)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._token is None:
            return
        detach(self._token)
        span, self._token = self._span, None
        if error is not None:
            _ending.record(span, error)
        if self._end_on_exit:
            try:
                span.end()
            except Exception as trouble:  # noqa: BLE001 - as _ending.end has it, without a further call
                _ending.note_trouble(trouble)


def start_observation(
    name: str,
    *,
    as_type: ObservationType = "span",
    trace_context: TraceContext | Mapping[str, Any] | None = None,
    **fields: Unpack[ObservationFields],
) -> Observation:
    """Starts an observation under the current span, without making it current. Its ``end()`` must be called.

    Never raises: what cannot be used is left out, with a note in the log at most once a minute.

    Args:
        name: of the observation.
        as_type: one of Langfuse's ten types. An ``event`` is ended at once.
        trace_context: a trace to continue instead of the current one: ``{"trace_id": ..., "parent_span_id": ...}``.
        **fields: see ``ObservationFields``.
    """
    return _begin_detached(name, as_type, fields, otel_context.get_current(), trace_context)


def create_event(
    name: str,
    *,
    trace_context: TraceContext | Mapping[str, Any] | None = None,
    **fields: Unpack[ObservationFields],
) -> Observation:
    """Records an event under the current span: an observation without duration. Arguments as for ``start_observation``."""
    return _event(name, fields, otel_context.get_current(), trace_context)


def update_current_span(*, name: str | None = None, **fields: Unpack[ObservationFields]) -> None:
    """Tells something about the current observation, whatever library started its span; see ``ObservationFields``."""
    span = _current("update_current_span")
    if span is not None:
        Observation(span).update(name=name, **fields)


def update_current_generation(*, name: str | None = None, **fields: Unpack[ObservationFields]) -> None:
    """Likewise; and what is no more than a span until now becomes a generation."""
    span = _current("update_current_generation")
    if span is not None:
        if attribute_of(span, names.OBSERVATION_TYPE) in _NO_MORE_THAN_A_SPAN:
            set_attributes(span, {names.OBSERVATION_TYPE: "generation"})
        Observation(span).update(name=name, **fields)


def update_current_trace(**fields: Unpack[TraceUpdate]) -> None:
    """Tells something about the current trace; see ``TraceUpdate``.

    It is set on the current span, and on the topmost span of the trace that this process knows and that still runs. Name,
    user, session, tags, release and short metadata are also stamped on all spans of the trace that are not sent yet, where they
    say nothing else. What was sent already does not get them: Langfuse shows the trace by its root, but filters observations by
    what each of them says. So ``propagate_attributes`` at the beginning is the way for what is known then.
    """
    span = _current("update_current_trace")
    if span is not None:
        _update_trace(span, fields)


def set_current_trace_as_public() -> None:
    """Lets everybody who has its address (``get_trace_url``) look at the current trace."""
    update_current_trace(public=True)


# -- spans -------------------------------------------------------------------------------------------------------------------


def begun(
    name: Any,
    as_type: Any,
    context: Context,
    fields: Mapping[str, Any],
    start_time: int | None = None,
) -> Span:
    """A started span, under the one of ``context``; that one itself where it is not sampled. Never raises.

    ``INVALID_SPAN`` where nothing is recorded in this program.
    ``fields`` may name a ``trace_context`` too. All of them are set in one go when it is known that the span is recorded; only
    a sampler that may look at attributes is given them before.
    """
    found = origin()
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
            set_attributes(span, attributes)
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


def _begin_detached(
    name: str, as_type: str, fields: Mapping[str, Any], context: Context, trace_context: Any = None
) -> Observation:
    if as_type == "event":
        return _event(name, fields, context, trace_context)
    given = fields if trace_context is None else {**fields, "trace_context": trace_context}
    return Observation(begun(name, as_type, context, given))


def _event(name: str, fields: Mapping[str, Any], context: Context, trace_context: Any = None) -> Observation:
    now = time_ns()
    given = fields if trace_context is None else {**fields, "trace_context": trace_context}
    span = begun(name, "event", context, given, now)
    _ending.end(span, now)
    return Observation(span)


# -- updates -----------------------------------------------------------------------------------------------------------------


def _current(what: str) -> Span | None:
    """The current span if it is recording. A note where something is recorded in this program, but not here."""
    span = get_current_span()
    if span.is_recording():
        return span
    if not span.get_span_context().is_valid and origin() is not None:
        NOTES.note(what, f"{what}() did nothing: no observation is running where it was called")
    return None


def _update_trace(span: Span, fields: Mapping[str, Any]) -> None:
    attributes = added(TRACE, fields, {})
    tell_late(format_trace_id(span.get_span_context().trace_id), attributes, project_of(span))
    root = local_root(span)
    for one in (span,) if root is None else (span, root):
        if not one.is_recording():
            continue
        tags = attributes.get(names.TRACE_TAGS)
        if tags:
            had = attribute_of(one, names.TRACE_TAGS)
            tags = list(dict.fromkeys([*(had if isinstance(had, (list, tuple)) else ()), *tags]))
            set_attributes(one, {**attributes, names.TRACE_TAGS: tuple(tags)})
        else:
            set_attributes(one, attributes)
