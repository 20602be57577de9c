"""Observations by hand: started, updated, ended. An observation is a span with attributes; nothing else remembers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Token
from datetime import datetime
from time import time_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, format_span_id, format_trace_id, set_span_in_context

from otel_langfuse.current import attach, current_context, detach
from otel_langfuse.model import ScoreFields

from . import _ending
from ._around import around_calls
from ._origin import CURRENT, local_root, origin, scored, within
from ._spans import begun
from .fields import ObservationFields, ObservationType, TraceUpdate
from .ids import TraceContext
from .updates import update, update_trace

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

_F = TypeVar("_F", bound="Callable[..., Any]")


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
        update(self._span, name, fields)
        return self

    def update_trace(self, **fields: Unpack[TraceUpdate]) -> Self:
        """Tells something about the whole trace; see ``TraceUpdate``, and ``update_current_trace`` for how far it goes."""
        update_trace(self._span, fields)
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

    def end(self, *, end_time: int | datetime | None = None) -> Self:
        """Ends the observation, now or at ``end_time`` (nanoseconds since 1970, or a ``datetime``). Twice does nothing."""
        if self._span.is_recording():
            moment = end_time if end_time is None or isinstance(end_time, int) else _ending.nanoseconds("end_time", end_time)
            _ending.end(self._span, moment)
        return self

    def start_observation(
        self, name: str, *, as_type: ObservationType = "span", **fields: Unpack[ObservationFields]
    ) -> Observation:
        """Starts an observation under this one, wherever the program is now; as the function of this name."""
        return _begin_detached(name, as_type, fields, self._context())

    def start_span(self, name: str, **fields: Unpack[ObservationFields]) -> Observation:
        """``start_observation`` of a span: what version 3 of Langfuse's SDK called it, as with the next three."""
        return self.start_observation(name, **fields)

    def start_generation(self, name: str, **fields: Unpack[ObservationFields]) -> Observation:
        """Likewise, of a generation."""
        return self.start_observation(name, as_type="generation", **fields)

    def start_as_current_span(self, name: str, **fields: Unpack[ObservationFields]) -> start_as_current_observation:
        """``start_as_current_observation`` of a span."""
        return self.start_as_current_observation(name, **fields)

    def start_as_current_generation(self, name: str, **fields: Unpack[ObservationFields]) -> start_as_current_observation:
        """Likewise, of a generation."""
        return self.start_as_current_observation(name, as_type="generation", **fields)

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
        self._token = None
        found = origin()
        if found is None:
            return _NOT_RECORDED
        outer = context = current_context()
        if self._parent is not None:
            context = set_span_in_context(self._parent, outer)
        span = self._span = begun(self._name, self._type, context, self._fields, None, found)
        # Not where nothing is recorded, nor where the span that is not sampled is current already.
        if span is not INVALID_SPAN and span is not outer.get(CURRENT or ""):
            self._token = attach(within(span, context))
        return Observation(span)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._token is None:
            return
        detach(self._token)
        self._token = None
        span = self._span
        if error is not None:
            _ending.record(span, error)
        if self._end_on_exit:
            try:
                span.end()
            except Exception as trouble:  # noqa: BLE001 - as _ending.end has it, without a further call
                _ending.note_trouble(trouble)

    def __call__(self, function: _F) -> _F:
        """As a decorator: such a block around each call, which records neither arguments nor results; ``observe`` does."""
        return cast("_F", around_calls(self, function))


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
    return _begin_detached(name, as_type, fields, current_context(), trace_context)


def create_event(
    name: str,
    *,
    trace_context: TraceContext | Mapping[str, Any] | None = None,
    **fields: Unpack[ObservationFields],
) -> Observation:
    """Records an event under the current span: an observation without duration. Arguments as for ``start_observation``."""
    return _event(name, fields, current_context(), trace_context)


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
