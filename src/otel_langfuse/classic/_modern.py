"""The newer half of the client: what Langfuse's SDKs from 3 on call on it. Each is the function of the same name."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any

from opentelemetry.trace.propagation import get_current_span

from otel_langfuse import tracing
from otel_langfuse.model import ScoreFields
from otel_langfuse.propagation import project
from otel_langfuse.tracing import Observation, ObservationFields, ObservationType, TraceContext, TraceUpdate
from otel_langfuse.tracing._origin import NOTES, origin

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from otel_langfuse.client import Client


class _InProject(tracing.start_as_current_observation):
    """One in a project that is not what the context says."""

    __slots__ = ("_project", "_within")
    _project: str

    def __enter__(self) -> Observation:
        self._within = project(self._project)
        self._within.__enter__()
        return super().__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        super().__exit__(kind, error, traceback)
        self._within.__exit__(None, None, None)

    @classmethod
    def of(cls, project: str, name: str, fields: Mapping[str, Any]) -> _InProject:
        made = cls(name, **fields)
        made._project = project
        return made


class Modern:
    """Observations in the current context, of the client's project; see ``otel_langfuse.tracing``."""

    _client: Client

    def _within(self) -> AbstractContextManager[None]:
        return nullcontext() if self._client.project is None else project(self._client.project)

    def _current(self, name: str, fields: Mapping[str, Any]) -> tracing.start_as_current_observation:
        if self._client.project is None:
            return tracing.start_as_current_observation(name, **fields)
        return _InProject.of(self._client.project, name, fields)

    def start_as_current_observation(
        self,
        *,
        name: str,
        as_type: ObservationType = "span",
        trace_context: TraceContext | Mapping[str, Any] | None = None,
        end_on_exit: bool | None = None,
        **fields: Unpack[ObservationFields],
    ) -> tracing.start_as_current_observation:
        """See ``otel_langfuse.start_as_current_observation``."""
        more: dict[str, Any] = {"as_type": as_type, "trace_context": trace_context, "end_on_exit": end_on_exit is not False}
        return self._current(name, {**fields, **more})

    def start_observation(
        self,
        *,
        name: str,
        as_type: ObservationType = "span",
        trace_context: TraceContext | Mapping[str, Any] | None = None,
        **fields: Unpack[ObservationFields],
    ) -> Observation:
        """See ``otel_langfuse.start_observation``."""
        with self._within():
            return tracing.start_observation(name, as_type=as_type, trace_context=trace_context, **fields)

    def start_as_current_span(self, *, name: str, **fields: Any) -> tracing.start_as_current_observation:
        """The same, for a span: the name that version 3 had for it."""
        return self._current(name, {"as_type": "span", **fields})

    def start_as_current_generation(self, *, name: str, **fields: Any) -> tracing.start_as_current_observation:
        """Likewise, for a generation."""
        return self._current(name, {"as_type": "generation", **fields})

    def start_span(self, *, name: str, **fields: Any) -> Observation:
        """Likewise, without making it current."""
        with self._within():
            return tracing.start_observation(name, as_type="span", **fields)

    def start_generation(self, *, name: str, **fields: Any) -> Observation:
        """Likewise."""
        with self._within():
            return tracing.start_observation(name, as_type="generation", **fields)

    def create_event(
        self,
        *,
        name: str,
        trace_context: TraceContext | Mapping[str, Any] | None = None,
        **fields: Unpack[ObservationFields],
    ) -> Observation:
        """See ``otel_langfuse.create_event``."""
        with self._within():
            return tracing.create_event(name, trace_context=trace_context, **fields)

    def update_current_span(self, *, name: str | None = None, **fields: Unpack[ObservationFields]) -> None:
        """See ``otel_langfuse.update_current_span``."""
        tracing.update_current_span(name=name, **fields)

    def update_current_generation(self, *, name: str | None = None, **fields: Unpack[ObservationFields]) -> None:
        """See ``otel_langfuse.update_current_generation``."""
        tracing.update_current_generation(name=name, **fields)

    def update_current_trace(self, **fields: Unpack[TraceUpdate]) -> None:
        """See ``otel_langfuse.update_current_trace``."""
        tracing.update_current_trace(**fields)

    def set_current_trace_as_public(self) -> None:
        """See ``otel_langfuse.set_current_trace_as_public``."""
        tracing.set_current_trace_as_public()

    def score_current_span(self, *, name: str, value: float | str, **fields: Unpack[ScoreFields]) -> str | None:
        """Scores the current observation; see ``Observation.score``. None, with a note in the log, where there is none."""
        return _scored("score_current_span", lambda current: current.score(name=name, value=value, **fields))

    def score_current_trace(self, *, name: str, value: float | str, **fields: Unpack[ScoreFields]) -> str | None:
        """Scores the current trace, in the same way."""
        return _scored("score_current_trace", lambda current: current.score_trace(name=name, value=value, **fields))

    def get_current_trace_id(self) -> str | None:
        """See ``otel_langfuse.get_current_trace_id``."""
        return tracing.get_current_trace_id()

    def get_current_observation_id(self) -> str | None:
        """See ``otel_langfuse.get_current_observation_id``."""
        return tracing.get_current_observation_id()

    @staticmethod
    def create_trace_id(*, seed: str | None = None) -> str:
        """See ``otel_langfuse.create_trace_id``."""
        return tracing.create_trace_id(seed=seed)

    @staticmethod
    def create_observation_id(*, seed: str | None = None) -> str:
        """See ``otel_langfuse.create_observation_id``."""
        return tracing.create_observation_id(seed=seed)


def _scored(what: str, score: Any) -> str | None:
    span = get_current_span()
    if not span.get_span_context().is_valid:
        if origin() is not None:  # where nothing is recorded, nothing is wrong
            NOTES.note(what, f"{what}() did nothing: no observation is running where it was called")
        return None
    made: str | None = score(Observation(span))
    return made
