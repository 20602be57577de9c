"""One call of the openai library: how its observation begins, and what its result adds to it. None of this raises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from inspect import isawaitable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, cast

import openai
from opentelemetry import context as otel_context

from otel_langfuse import tracing
from otel_langfuse.classic import get_client
from otel_langfuse.current import detach
from otel_langfuse.integrations._others import is_recorded_around, recorded_by
from otel_langfuse.propagation import propagate_attributes
from otel_langfuse.tracing import Observation, ObservationType, settle_gone
from otel_langfuse.tracing._origin import NOTES, origin
from otel_langfuse.tracing.ids import joined

from ._answered import answered
from ._asked import Asked, asked, taken
from ._module import configure
from ._streams import Body, Recording, record_closing, record_stream

if TYPE_CHECKING:
    from typing_extensions import Self

_INSTRUMENTORS: Final = (
    ("opentelemetry.instrumentation.genai.openai", "OpenAIInstrumentor"),
    ("opentelemetry.instrumentation.openai_v2", "OpenAIInstrumentor"),
    ("opentelemetry.instrumentation.openai", "OpenAIInstrumentor"),
    ("openinference.instrumentation.openai", "OpenAIInstrumentor"),
)
"""OpenTelemetry's own, its predecessor's, OpenLLMetry's and OpenInference's."""

_RAW: Final = "X-Stainless-Raw-Response"
"""The header by which the library says, inside of itself, that a call comes from ``with_raw_response`` (``raw``, ``true``) or
``with_streaming_response`` (``stream``).
"""

_TYPES: Final[Mapping[str, ObservationType]] = {"embedding": "embedding"}
_STREAMS: Final = (openai.Stream, openai.AsyncStream)


def begun(kind: str, kwargs: dict[str, Any], own: frozenset[str]) -> Call:
    """What records a call, as a ``with`` block around it. Takes out of ``kwargs`` what is not meant for OpenAI.

    Args:
        kind: see ``asked``.
        kwargs: of the call.
        own: the names of the arguments that are for us.
    """
    ours = taken(kwargs, own)
    configure()
    settle_gone()  # a stream that somebody has left, and the garbage collector found
    if origin() is None or is_recorded_around():
        return Call(kind, kwargs, None)
    try:
        said = asked(kind, kwargs, ours)
    except Exception as error:  # noqa: BLE001 - somebody's objects
        NOTES.note("openai call", f"a call of openai is not recorded: {type(error).__name__} while looking at what it was given")
        return Call(kind, kwargs, None)
    is_elsewhere = recorded_by("openai", _INSTRUMENTORS) is not None
    return Call(kind, kwargs, said, _said_around(said) if is_elsewhere else None)


class Call:
    """A ``with`` block around one call: its observation is current inside; what is raised there is recorded, and ends it."""

    __slots__ = ("_around", "_generation", "_kind", "_parameters", "_raw", "_said", "_streams")

    def __init__(
        self, kind: str, kwargs: Mapping[str, Any], said: Asked | None, around: AbstractContextManager[Any] | None = None
    ) -> None:
        """Args: ``around``: what stands in for an observation; without it and ``said``, nothing does."""
        self._kind = kind
        self._said = said if around is None else None
        self._around = around or nullcontext()
        self._parameters: Mapping[str, Any] = (said and said.fields["model_parameters"]) or {}
        self._streams = kwargs.get("stream") is True
        headers = kwargs.get("extra_headers")
        self._raw = headers.get(_RAW) if isinstance(headers, Mapping) else None
        self._generation: Observation | None = None

    def __enter__(self) -> Self:
        said = self._said
        if said is None:
            self._around.__enter__()
            return self
        start: Any = tracing if said.public_key is None else get_client(public_key=said.public_key)
        fields = said.fields if said.trace_context is None else {**said.fields, "trace_context": said.trace_context}
        self._around = start.start_as_current_observation(
            name=said.name, as_type=_TYPES.get(self._kind, "generation"), end_on_exit=False, **fields
        )
        self._generation = cast("Observation", self._around.__enter__())
        if said.trace:
            self._generation.update_trace(**said.trace)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._around.__exit__(kind, error, traceback)
        if error is not None and self._generation is not None:
            self._generation.end()

    def returned(self, result: Any) -> Any:
        """The same result, recorded."""
        return self._recorded(result, self._parsed(result)) if self._is_recording() else result

    async def returned_async(self, result: Any) -> Any:
        """The same, of an asynchronous client."""
        if not self._is_recording():
            return result
        parsed = self._parsed(result)
        try:
            return self._recorded(result, await parsed if isawaitable(parsed) else parsed)
        except BaseException:
            self._end()
            raise

    def _is_recording(self) -> bool:
        return self._generation is not None and self._generation.span.is_recording()

    def _parsed(self, result: Any) -> Any:
        """What a raw response will give the application, too, which keeps it; None where that would read the body for it."""
        if self._raw is None:
            return result
        if self._raw == "stream" and not self._streams:
            return None
        try:
            return result.parse()
        except Exception:  # noqa: BLE001 - it will raise for the application, if that asks for it
            return None

    def _recorded(self, result: Any, parsed: Any) -> Any:
        generation = cast("Observation", self._generation)
        try:
            if issubclass(type(parsed), _STREAMS):
                recording = Recording(generation, self._kind, self._parameters)
                record_stream(parsed, recording)
                return result if self._raw != "stream" else record_closing(result, recording)
            if parsed is None and self._raw == "stream":
                return record_closing(result, Body(generation, self._kind, self._parameters))
            if parsed is not None:
                generation.update(**answered(self._kind, parsed, self._parameters))
        except Exception as error:  # noqa: BLE001 - of a server that answers in another shape
            NOTES.note("openai answer", f"an answer of openai is not recorded: {type(error).__name__}")
        generation.end()
        return result

    def _end(self) -> None:
        if self._generation is not None:
            self._generation.end()


@contextmanager
def _said_around(said: Asked) -> Iterator[None]:
    """What the call says of its trace, for the span that another instrumentation makes of it, or has made around this."""
    with propagate_attributes(**said.trace):
        found = None if said.trace_context is None else joined(said.trace_context, otel_context.get_current())
        token = None if found is None else otel_context.attach(found[0])
        try:
            yield
        finally:
            if token is not None:
                detach(token)
