"""LangChain's runs as observations: which belongs in which, and in which context the code inside of one runs."""

from __future__ import annotations

import inspect
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import nullcontext
from contextvars import Token
from datetime import datetime, timezone
from types import FrameType
from typing import Any, Final, NamedTuple
from uuid import UUID

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, set_span_in_context
from opentelemetry.trace.propagation import get_current_span

from otel_langfuse import attributes as names
from otel_langfuse.current import detach
from otel_langfuse.propagation import of_all_spans, set_attributes, with_project, with_propagated
from otel_langfuse.tracing import Observation, ObservationType, _ending
from otel_langfuse.tracing._chosen import chosen
from otel_langfuse.tracing._gone import Open
from otel_langfuse.tracing._origin import NOTES, origin
from otel_langfuse.tracing._spans import begun
from otel_langfuse.tracing.fields import TRACE, added
from otel_langfuse.tracing.ids import root_id_of

from ._current import Current, inside

MAX_RUNS: Final = 10_000
"""Runs of one handler that have not ended; one more ends the oldest, which LangChain has forgotten to."""

_GENERATORS: Final = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


class Run(Open):
    """One run: its observation, and the context that its code runs in, as long as that is attached here."""

    __slots__ = ("_current", "_token", "context", "has_begun", "is_root", "observation", "prompt", "streams")

    def __init__(self, span: Span, current: Current, context: Context, *, prompt: Any, is_root: bool) -> None:
        super().__init__()
        self.observation = Observation(span)
        self.context = context
        self.prompt = prompt  # which the next generation below it is for
        self.is_root = is_root
        self.has_begun = False  # to answer
        self.streams = False  # it is read by whoever started it, who is not to see our context between two pieces
        self._current = current
        self._token: Token[Context] | None = None

    def attach(self) -> None:
        """Makes its context the current one."""
        self._token = otel_context.attach(self.context)

    def detach(self) -> None:
        """Takes it back, where that can be done: see ``_current``."""
        token, self._token = self._token, None
        if token is not None:
            detach(token)

    def leave(self) -> None:
        """From here on what is current is its reader's own, wherever this is called: see ``_current``."""
        self.detach()
        self._current.end_run()

    def become_agent(self, output: Any) -> None:
        """It decides what to do: it is an agent, whatever it was called."""
        set_attributes(self.observation.span, {names.OBSERVATION_TYPE: "agent"})
        self.observation.update(output=output)

    def end(self, fields: Mapping[str, Any], error: BaseException | None = None) -> None:
        """Ends it, once."""
        self.leave()
        if not self.take():
            return
        self.observation.update(**fields)
        if error is not None:
            _record(self.observation, error)
        self.observation.end()

    def settle(self) -> None:
        """Nobody will end it any more."""
        self._current.end_run()
        if self.take() or self.observation.span.is_recording():
            self.observation.end()


def _record(observation: Observation, error: BaseException) -> None:
    """LangGraph says by exceptions, too, that a run waits for somebody, or goes on elsewhere: that is no error."""
    flow = getattr(sys.modules.get("langgraph.errors"), "GraphBubbleUp", None)
    if isinstance(flow, type) and isinstance(error, flow):
        observation.update(status_message=_ending.said(error))
    else:
        _ending.record(observation.span, error)


class Runs:
    """The runs of one handler that go on. Safe to use on any thread."""

    def __init__(self) -> None:
        self._runs: OrderedDict[UUID, Run] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, run_id: UUID | None) -> Run | None:
        """A run that goes on; None if it is not known."""
        return None if run_id is None else self._runs.get(run_id)

    def add(self, run_id: UUID, run: Run) -> None:
        with self._lock:
            self._runs[run_id] = run
            oldest = self._runs.popitem(last=False)[1] if len(self._runs) > MAX_RUNS else None
        if oldest is not None:
            NOTES.note("langchain runs", "a run of LangChain has not ended while thousands more began: it is ended")
            oldest.settle()

    def take(self, run_id: UUID) -> Run | None:
        with self._lock:
            return self._runs.pop(run_id, None)


class Root(NamedTuple):
    """What a handler knows of the root runs that it will see: of their traces, and where they belong."""

    project: str | None
    trace: Mapping[str, Any]  # see ``TraceUpdate``
    trace_context: Any
    parent: Span | None


class Begin(NamedTuple):
    """A run that begins: LangChain's id of it, what the observation says, and what a root run says of its trace."""

    run_id: UUID
    name: str
    as_type: ObservationType
    fields: Mapping[str, Any]
    trace: Mapping[str, Any]


def started(root: Root, above: Run | None, begin: Begin) -> Run | None:
    """A run that begins now, in the one ``above`` or as a root; None where nothing is recorded. Never raises."""
    if origin() is None:
        return None
    context = otel_context.get_current()
    shared: dict[str, Any] = {}
    if above is not None:
        context = _below(above, context)
        span = begun(begin.name, begin.as_type, context, begin.fields)
    else:
        said = added(TRACE, {**root.trace, **begin.trace}, {})
        shared = of_all_spans(said)
        if names.ENVIRONMENT in said:
            shared[names.ENVIRONMENT] = said[names.ENVIRONMENT]
        context = context if root.parent is None else set_span_in_context(root.parent, context)
        span = _root_span(root, with_propagated(shared, context) if shared else context, begin)
    if span is INVALID_SPAN:
        return None
    is_model = begin.as_type == "generation"
    prompt = None if above is None else above.prompt
    run = Run(span, *inside(span, context, shared, is_model=is_model), prompt=prompt, is_root=above is None)
    run.streams = above is None and _is_read_piece_by_piece()
    if not run.streams or is_model:
        run.attach()
    return run


def _below(above: Run, context: Context) -> Context:
    """The context here, if it is one of the same trace, so that what was said in it counts; else that of the run above."""
    span = above.observation.span
    here = get_current_span(context).get_span_context()
    return set_span_in_context(span, context if here.trace_id == span.get_span_context().trace_id else above.context)


def _root_span(root: Root, context: Context, begin: Begin) -> Span:
    if root.project is not None:  # what starts below it is of the same project as its parent is
        context = with_project(root.project, context)
    fields = begin.fields if root.trace_context is None else {**begin.fields, "trace_context": root.trace_context}
    is_new = root.trace_context is None and not get_current_span(context).get_span_context().is_valid
    with _named_by(begin.run_id) if is_new else nullcontext():
        span = begun(begin.name, begin.as_type, context, fields)
    Observation(span).update_trace(**{**root.trace, **begin.trace})
    return span


def _named_by(run_id: UUID) -> Any:
    """The trace gets the run's id, by which the application may know it; not under a sampler that takes all its bits for dice."""
    found = origin()
    if found is None:
        return nullcontext()
    sampler = getattr(found.tracer, "sampler", None)
    if "TraceIdRatioBased" in (sampler.get_description() if sampler is not None else ""):
        return nullcontext()
    return chosen(found.tracer, run_id.hex, root_id_of(run_id.hex))


def _is_read_piece_by_piece() -> bool:
    """Whether a generator of LangChain's has started the run (``stream`` and its like, which run in their reader's context)."""
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if not module.startswith((__package__ or "", "langchain_core.callbacks")):
            return bool(frame.f_code.co_flags & _GENERATORS)
        frame = frame.f_back
    return False


def now() -> datetime:
    """For the time of a first token."""
    return datetime.now(timezone.utc)
