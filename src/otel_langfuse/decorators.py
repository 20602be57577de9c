"""The classic decorator's module: ``observe``, and ``langfuse_context`` for what happens inside of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace.propagation import get_current_span

from otel_langfuse import tracing
from otel_langfuse.classic import Langfuse, flush, get_client
from otel_langfuse.classic._fields import given
from otel_langfuse.classic._langchain import langchain_handler
from otel_langfuse.model import ScoreFields
from otel_langfuse.tracing import TraceUpdate, observe

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["LangfuseContext", "langfuse_context", "observe"]


class LangfuseContext:
    """What the classic decorator's programs call inside of observed functions. Only the two that say so raise."""

    def configure(self, **settings: Any) -> Langfuse:
        """Sets up the client; see ``Langfuse``.

        Raises:
            ConfigError: a setting cannot work.
        """
        return Langfuse(**settings)

    @property
    def client_instance(self) -> Langfuse:
        """The client; see ``get_client``."""
        return get_client()

    def update_current_observation(self, **fields: Any) -> None:
        """Tells something about the current observation; user, session, ``release`` and ``public`` are of its trace.

        Args:
            **fields: ``name`` and ``ObservationFields``; ``usage`` in any shape that the classic client took, ``level`` in any
                case. One that says a model or usage is a generation.
        """
        said = given(fields)
        update = tracing.update_current_generation if said.is_generation else tracing.update_current_span
        if said.fields or said.name:
            update(name=said.name, **said.fields)
        if said.trace:
            tracing.update_current_trace(**said.trace)

    def update_current_trace(self, **fields: Unpack[TraceUpdate]) -> None:
        """Tells something about the current trace; see ``otel_langfuse.update_current_trace``."""
        tracing.update_current_trace(**fields)

    def score_current_observation(self, *, name: str, value: float | str, **fields: Unpack[ScoreFields]) -> str | None:
        """Scores the current observation; see ``Langfuse.score_current_span``."""
        return get_client().score_current_span(name=name, value=value, **fields)

    def score_current_trace(self, *, name: str, value: float | str, **fields: Unpack[ScoreFields]) -> str | None:
        """Scores the current trace; see ``Langfuse.score_current_trace``."""
        return get_client().score_current_trace(name=name, value=value, **fields)

    def get_current_trace_id(self) -> str | None:
        """See ``otel_langfuse.get_current_trace_id``."""
        return tracing.get_current_trace_id()

    def get_current_observation_id(self) -> str | None:
        """See ``otel_langfuse.get_current_observation_id``."""
        return tracing.get_current_observation_id()

    def get_current_trace_url(self) -> str | None:
        """See ``otel_langfuse.get_trace_url``."""
        return tracing.get_trace_url()

    def get_current_langchain_handler(self) -> Any:
        """A handler for LangChain whose runs belong in the observation that runs here, on whatever thread they are.

        Returns:
            An ``otel_langfuse.callback.CallbackHandler``; where nothing runs, one whose runs are traces of their own.

        Raises:
            ModuleNotFoundError: langchain-core is not installed.
        """
        current = get_current_span()
        is_running = current.get_span_context().is_valid
        return langchain_handler(stateful_client=tracing.Observation(current) if is_running else None)

    def auth_check(self) -> bool:
        """See ``Langfuse.auth_check``."""
        return get_client().auth_check()

    def flush(self) -> None:
        """``Langfuse.flush`` of all clients."""
        flush()


langfuse_context: Final = LangfuseContext()
