"""What is current inside of a run, and only as long as it goes on, in a context that nobody can take it out of.

LangChain reports the end of an asynchronous run from a task of its own, which has a copy of the context: so what was attached at
the beginning stays in the context of the task that the run was awaited in. What we attach there is therefore not the span, but
what stands for it until the run has ended, and from then on for what was current before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, set_span_in_context
from opentelemetry.trace.propagation import get_current_span

from otel_langfuse import propagation
from otel_langfuse.integrations._others import recorded_around
from otel_langfuse.tracing._origin import within


class Current(Span):
    """The span of a run, until ``end_run``; then the one around it, whatever that is."""

    is_open: bool
    _now: Span

    def __init__(self, span: Span, around: Span) -> None:
        while isinstance(around, Current) and not around.is_open:
            around = around._now  # noqa: SLF001 - our own
        self._now = span
        self._around = around
        self.is_open = True

    def end_run(self) -> None:
        """The run has ended."""
        self._now, self.is_open = self._around, False

    def get_span_context(self) -> SpanContext:
        return self._now.get_span_context()

    def is_recording(self) -> bool:
        return self._now.is_recording()

    def end(self, *args: Any, **kwargs: Any) -> None:
        self._now.end(*args, **kwargs)

    def set_attributes(self, *args: Any, **kwargs: Any) -> None:
        self._now.set_attributes(*args, **kwargs)

    def set_attribute(self, *args: Any, **kwargs: Any) -> None:
        self._now.set_attribute(*args, **kwargs)

    def add_event(self, *args: Any, **kwargs: Any) -> None:
        self._now.add_event(*args, **kwargs)

    def update_name(self, *args: Any, **kwargs: Any) -> None:
        self._now.update_name(*args, **kwargs)

    def set_status(self, *args: Any, **kwargs: Any) -> None:
        self._now.set_status(*args, **kwargs)

    def record_exception(self, *args: Any, **kwargs: Any) -> None:
        self._now.record_exception(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._now, name)


class _Said(Mapping[str, Any]):
    """Attributes that spans get as long as the run goes on; then those that they got before."""

    def __init__(self, current: Current, inside: Mapping[str, Any], around: Mapping[str, Any]) -> None:
        self._current, self._inside, self._around = current, inside, around

    def _now(self) -> Mapping[str, Any]:
        return self._inside if self._current.is_open else self._around

    def __getitem__(self, key: str) -> Any:
        return self._now()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())


def inside(span: Span, context: Context, shared: Mapping[str, Any], *, is_model: bool) -> tuple[Current, Context]:
    """What stands for the span, and the context that the run's code runs in.

    Args:
        span: of the run.
        context: around it.
        shared: attributes that spans inside get.
        is_model: what it calls is recorded by it, and by nobody else.
    """
    around = get_current_span(otel_context.get_current())
    current = Current(span, around)
    made = set_span_in_context(current, within(span, context))
    if shared:
        before = dict(propagation.propagated_attributes(context))
        said = MappingProxyType(_Said(current, {**shared, **before}, before))
        made = otel_context.set_value(propagation._KEY, said, made)  # noqa: SLF001 - our own
    return current, recorded_around(current, made) if is_model else made
