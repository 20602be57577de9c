"""LangChain's runs as observations: ``CallbackHandler``, for chains, models, tools, retrievers and agents, and for LangGraph.

Runs nest as LangChain says they do, and what is observed inside of one (``observe``, other libraries) nests into it. A run that
is read piece by piece (``stream``) leaves its reader's context alone: what the reader does between two pieces is not inside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import time_ns
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import Span

from otel_langfuse.classic import Handle, Langfuse, get_client
from otel_langfuse.tracing import Observation, get_trace_url

from ._callbacks import Callbacks
from ._runs import Root

if TYPE_CHECKING:
    from otel_langfuse.tracing import TraceContext


class CallbackHandler(Callbacks):
    """Records what LangChain does: ``chain.invoke(..., config={"callbacks": [CallbackHandler()]})``. May be used again and again.

    A run that is in no other, and in no observation, is a trace, whose id is the run's own (``config={"run_id": ...}``) without
    dashes; not under a sampler that goes by the ids, as ``TraceIdRatioBased`` does. Metadata of a run may say
    ``langfuse_session_id``, ``langfuse_user_id``, ``langfuse_tags``, ``langfuse_trace_name``, and ``langfuse_prompt`` (of a
    prompt template: for the generations that it is for). A model that is called inside of a run is recorded by the run alone,
    also where ``otel_langfuse.openai`` is in use. Another instrumentation of LangChain (OpenInference's, OpenLLMetry's) records
    every run a second time: use one of them; a warning says so.

    What LangGraph resumes after an interrupt is a run, and so a trace, of its own. To have both in one trace, give the handler
    (or two of them, in two processes) the same ``trace_context={"trace_id": create_trace_id(seed=...)}``; in one session, the
    same ``session_id``.

    None of its methods raises. What it cannot use is left out, with a note in the log.

    Args:
        public_key: of the project. With nothing else of what ``Langfuse`` takes: the client of this key.
        secret_key: see ``Langfuse``.
        host: see ``Langfuse``.
        trace_name: of the traces; by default what the root run is called.
        user_id: of the traces, as the following three.
        session_id: groups traces.
        tags: joined with those of the root run.
        metadata: of the traces.
        version: of the application.
        release: of it, too; by default the client's.
        environment: of the observations; by default the client's.
        trace_context: a trace to continue instead of the current one; see ``start_observation``.
        stateful_client: an observation, or a trace or observation of the classic client, that root runs belong in.
        update_stateful_client: whether it gets the input and output of root runs, and what is said here of traces.
        **settings: the other arguments of ``Langfuse``. Without any, and without keys, it is ``get_client()``.

    Raises:
        ConfigError: a setting cannot work.
    """

    def __init__(
        self,
        public_key: str | None = None,
        secret_key: str | None = None,
        host: str | None = None,
        *,
        trace_name: str | None = None,
        user_id: str | None = None,
        session_id: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        version: str | None = None,
        release: str | None = None,
        environment: str | None = None,
        trace_context: TraceContext | None = None,
        stateful_client: Handle | Observation | None = None,
        update_stateful_client: bool = False,
        **settings: Any,
    ) -> None:
        given = {"secret_key": secret_key, "host": host, **settings}
        settings = {key: value for key, value in given.items() if value is not None}
        self._langfuse = Langfuse(public_key, **settings) if settings else None
        self._public_key = public_key
        trace: dict[str, Any] = {"name": trace_name, "user_id": user_id, "session_id": session_id, "tags": tags}
        trace |= {"metadata": metadata, "version": version, "release": release, "environment": environment}
        said = {key: value for key, value in trace.items() if value is not None}
        self._parent = stateful_client  # held, because a classic trace ends when nobody holds it any more
        self._tells_parent = update_stateful_client
        if isinstance(stateful_client, Handle) and update_stateful_client:
            stateful_client.update(**said)
        elif isinstance(stateful_client, Observation) and update_stateful_client:
            stateful_client.update_trace(**said)
        project = None if public_key is None else self.langfuse.client.project
        super().__init__(Root(project, said, trace_context, _span_of(stateful_client)))

    def _root_began(self, fields: Mapping[str, Any]) -> None:
        self._tell_parent(fields, "input")

    def _root_ended(self, fields: Mapping[str, Any]) -> None:
        self._tell_parent(fields, "output")
        if isinstance(self._parent, Handle):
            self._parent._node.child_ended(time_ns())  # noqa: SLF001 - our own; so that it does not end before its children

    def _tell_parent(self, fields: Mapping[str, Any], field: str) -> None:
        if self._parent is not None and self._tells_parent and fields.get(field) is not None:
            self._parent.update(**{field: fields[field]})

    @property
    def langfuse(self) -> Langfuse:
        """The client; without settings of its own it is ``get_client()``."""
        return self._langfuse or get_client(public_key=self._public_key)

    def get_trace_id(self) -> str | None:
        """The id (32 hex digits) of the trace of the root run that began last; None before the first."""
        return self.last_trace_id

    def get_trace_url(self) -> str | None:
        """The page of this trace; see ``otel_langfuse.get_trace_url``."""
        return None if self.last_trace_id is None else get_trace_url(trace_id=self.last_trace_id)

    def auth_check(self) -> bool:
        """See ``Langfuse.auth_check``."""
        return self.langfuse.auth_check()

    def flush(self) -> bool:
        """See ``Langfuse.flush``."""
        return self.langfuse.flush()


def _span_of(observed: Handle | Observation | None) -> Span | None:
    return None if observed is None else observed.span if isinstance(observed, Observation) else observed._node.span  # noqa: SLF001
