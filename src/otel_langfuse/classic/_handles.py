"""The handles of the classic client: a trace, and an observation of any type. Each holds its node, and nothing else."""

from __future__ import annotations

from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context

from otel_langfuse.current import attach, current_context, detach
from otel_langfuse.model import ScoreFields
from otel_langfuse.tracing import _ending, get_trace_url
from otel_langfuse.tracing._origin import within

from ._around import entered
from ._fields import given
from ._known import hold
from ._langchain import langchain_handler
from ._node import Node
from ._start import observation_node

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack


class Handle:
    """What ``Langfuse.trace``, ``span``, ``generation`` and ``event`` return. Safe to use on any thread.

    Keep it as long as there is something to tell: when the last handle of an observation, and of all below it, is gone, it
    ends. A handle may also stand in a ``with``: its span is the current one inside, and ends there; so spans of other libraries
    become its children.
    """

    __slots__ = ("_hold", "_node", "_token")

    def __init__(self, node: Node) -> None:
        self._node = node
        self._hold = hold(node)
        self._token: Token[Context] | None = None

    @property
    def id(self) -> str:
        """The caller's own id, if there is one; else 16 hex digits, of a trace 32."""
        return self._node.own_id

    @property
    def trace_id(self) -> str:
        """The caller's own id of the trace, if there is one; else 32 hex digits."""
        return self._node.trace_own_id

    @property
    def span_context(self) -> tuple[str, str]:
        """The ids by which OpenTelemetry knows it: of the trace (32 hex digits) and of the span (16)."""
        return self._node.trace_id, self._node.id

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id!r}, trace_id={self.trace_id!r})"

    def span(self, **fields: Any) -> ObservationHandle:
        """Starts a span below this; see ``Langfuse.span``."""
        return self._begin("span", fields)

    def generation(self, **fields: Any) -> ObservationHandle:
        """Starts a generation below this; see ``Langfuse.generation``."""
        return self._begin("generation", fields)

    def event(self, **fields: Any) -> ObservationHandle:
        """Records an event below this; see ``Langfuse.event``."""
        return self._begin("event", fields)

    def _begin(self, as_type: str, fields: dict[str, Any]) -> ObservationHandle:
        return ObservationHandle(observation_node(self._node.client, given(fields), as_type, self._node))

    def update(self, **fields: Any) -> Self:
        """Adds to what it says or replaces it; metadata is merged, tags are joined. Also after its end."""
        said = given(fields, of_trace=self._node.is_trace)
        self._node.tell(said)
        if said.end_ns is not None:
            self._node.end(said.end_ns)
        return self

    def end(self, **fields: Any) -> Self:
        """Ends it, after an ``update`` with what is given. What has ended already is only updated."""
        said = given(fields, of_trace=self._node.is_trace)
        self._node.tell(said)
        self._node.end(said.end_ns)
        return self

    def score(self, *, name: str, value: float | str, **fields: Unpack[ScoreFields]) -> str | None:
        """Scores this trace or observation; see ``ScoreFields``, and ``Langfuse.score``."""
        node = self._node
        target: dict[str, Any] = {"trace_id": node.trace_id, "span": node.span}
        if not node.is_trace:
            target["observation_id"] = node.id
        return node.client.score(name, value, **{**fields, **target})

    def get_langchain_handler(self, update_parent: bool = False) -> Any:
        """A handler for LangChain whose runs belong in this: ``config={"callbacks": [trace.get_langchain_handler()]}``.

        Args:
            update_parent: whether this gets the input and output of the chain.

        Returns:
            An ``otel_langfuse.callback.CallbackHandler``; as long as it is held, this goes on as if its own handle were held.

        Raises:
            ModuleNotFoundError: langchain-core is not installed.
        """
        return langchain_handler(stateful_client=self, update_stateful_client=update_parent)

    def get_trace_url(self) -> str | None:
        """The page of its trace; see ``otel_langfuse.get_trace_url``."""
        return get_trace_url(trace_id=self._node.trace_id)

    def __enter__(self) -> Self:
        node = self._node
        self._token = attach(within(node.span, entered((node.root or node).shared, node.trace_id, current_context())))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._token is not None:
            detach(self._token)
            self._token = None
        if error is not None:
            _ending.record(self._node.span, error)
        self._node.end()


class TraceHandle(Handle):
    """A trace: a root span, which ends as ``Handle`` says, at ``end()``, or at a flush when nothing below it is running."""

    __slots__ = ()


class ObservationHandle(Handle):
    """A span, a generation or an event."""

    __slots__ = ()

    @property
    def parent_observation_id(self) -> str | None:
        """The id of the observation that it is in; None directly under the trace."""
        up = self._node.up
        return None if up is None or up.is_trace else up.own_id
