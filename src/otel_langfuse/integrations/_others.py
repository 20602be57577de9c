"""Whether another instrumentation records the same calls already: each is to be recorded once."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Final, Protocol, TypeAlias

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context

from otel_langfuse.tracing._origin import NOTES, chosen_provider

Instrumentors: TypeAlias = Iterable[tuple[str, str]]
"""Module and class of each that is known. None is imported or made: the constructors of some change settings."""


def recorded_by(library: str, instrumentors: Instrumentors) -> str | None:
    """The module of an OpenTelemetry instrumentation that is at work and whose spans reach us; None if there is none.

    Its spans come from the global TracerProvider. Where ``configure(tracer_provider=...)`` says that ours come from another
    one, they are none of our observations, so it does not count. A note in the log says who records.

    Args:
        library: whose calls these are, for the note.
        instrumentors: those that would record them.
    """
    module = _at_work(instrumentors)
    if module is not None:
        NOTES.note(
            f"recorded by {module}",
            f"calls of {library} are recorded by {module}, and not a second time: its settings say what is recorded of "
            f"them; to have them recorded by otel_langfuse, leave that out",
        )
    return module


def note_recorded_twice(what: str, by: str, instrumentors: Instrumentors) -> None:
    """Says that ``what`` is recorded by us and by another instrumentation, where the application has asked for both."""
    module = _at_work(instrumentors)
    if module is not None:
        NOTES.note(
            f"twice by {module}",
            f"{what} are recorded twice, and their tokens and costs count twice: by {by} and by {module}; leave one of them out",
        )


def _at_work(instrumentors: Instrumentors) -> str | None:
    for module, name in instrumentors:
        found = getattr(sys.modules.get(module), name, None)
        # Without the slot where BaseInstrumentor keeps its only instance, nobody is seen, and both record.
        instance: Any = getattr(found, "_instance", None)
        if getattr(instance, "is_instrumented_by_opentelemetry", False) and _is_global():
            return module
    return None


def _is_global() -> bool:
    ours = chosen_provider()
    return ours is None or ours is trace.get_tracer_provider()


_AROUND: Final = otel_context.create_key("otel-langfuse-model-call")


class _Run(Protocol):
    @property
    def is_open(self) -> bool:
        """Whether it goes on."""


def recorded_around(run: _Run, context: Context) -> Context:
    """``context``, in which, as long as the run goes on, a model is called by what records that itself."""
    return otel_context.set_value(_AROUND, run, context)


def is_recorded_around() -> bool:
    """Whether the current context is such a one."""
    run: Any = otel_context.get_value(_AROUND)
    return run is not None and run.is_open
