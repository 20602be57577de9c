"""The callbacks: what LangChain calls at the beginning and the end of every run, and in between."""

# ruff: noqa: ARG002 - what they are given, LangChain's own documentation of BaseCallbackHandler says

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage, ToolMessage
from langchain_core.outputs import LLMResult

from otel_langfuse.integrations._others import note_recorded_twice
from otel_langfuse.tracing import ObservationType
from otel_langfuse.tracing._origin import NOTES

from ._runs import Begin, Root, Run, Runs, now, started
from ._said import answered, asked, model_of, name_of, parameters, plain

if TYPE_CHECKING:
    from langchain_core.agents import AgentAction, AgentFinish

_OF_TRACE: Final = {
    "langfuse_session_id": "session_id",
    "langfuse_user_id": "user_id",
    "langfuse_tags": "tags",
    "langfuse_trace_name": "name",
}
"""Keys of a run's metadata by which version 3 and later say what is of the trace."""

_INSTRUMENTORS: Final = (
    ("openinference.instrumentation.langchain", "LangChainInstrumentor"),
    ("opentelemetry.instrumentation.langchain", "LangchainInstrumentor"),
    ("opentelemetry.instrumentation.langchain", "LangChainInstrumentor"),
    ("opentelemetry.instrumentation.genai.langchain", "LangChainInstrumentor"),
)
"""OpenInference's, OpenLLMetry's, OpenTelemetry's own: each adds callbacks of its own to every run."""

_PROMPT: Final = "langfuse_prompt"
_HIDDEN: Final = "langsmith:hidden"
"""LangGraph's tag of the runs of its own machinery."""


class Callbacks(BaseCallbackHandler):
    """Each run that LangChain begins and ends, as an observation."""

    run_inline = True  # asynchronous runs, too, call it where they are: so their context is ours

    def __init__(self, root: Root) -> None:
        super().__init__()
        self.last_trace_id: str | None = None
        self._root = root
        self._runs = Runs()

    def _start(self, about: Mapping[str, Any], name: str, as_type: ObservationType, fields: dict[str, Any]) -> Run | None:
        """Begins a run. ``about``: the keyword arguments of every ``on_..._start``."""
        run_id, above = about["run_id"], self._runs.get(about.get("parent_run_id"))
        metadata, tags = dict(about.get("metadata") or {}), list(about.get("tags") or ())
        prompt = metadata.pop(_PROMPT, None)
        trace = {field: metadata.pop(key) for key, field in _OF_TRACE.items() if key in metadata}
        if above is None and (joined := [*(self._root.trace.get("tags") or ()), *(trace.get("tags") or ()), *tags]):
            trace["tags"] = list(dict.fromkeys(map(str, joined)))
        fields["metadata"] = {**metadata, "tags": tags} if tags else metadata
        if _HIDDEN in tags:
            fields["level"] = "DEBUG"
        if as_type == "generation":
            fields["prompt"] = prompt or (above and above.prompt)
        run = started(self._root, above, Begin(run_id, name, as_type, fields, trace))
        if run is None:
            return None
        if above is None:
            note_recorded_twice("runs of LangChain", "its CallbackHandler", _INSTRUMENTORS)
        if prompt is not None and as_type != "generation":
            (above or run).prompt = prompt
        self._runs.add(run_id, run)
        if above is None:
            self.last_trace_id = run.observation.trace_id
            self._root_began(fields)
        return run

    def _end(self, run_id: UUID, fields: Mapping[str, Any], error: BaseException | None = None) -> None:
        run = self._runs.take(run_id)
        if run is not None:
            run.end(fields, error)
            if run.is_root:
                self._root_ended(fields)

    def _root_began(self, fields: Mapping[str, Any]) -> None:
        """A root run has begun, which says this."""

    def _root_ended(self, fields: Mapping[str, Any]) -> None:
        """A root run has ended, and says this in addition."""

    def on_chain_start(self, serialized: dict[str, Any] | None, inputs: Any, **kwargs: Any) -> None:
        name = name_of(serialized, kwargs.get("name"), "chain")
        path = (serialized or {}).get("id") or ()
        is_agent = any("agent" in str(part).lower() for part in (*path, name))
        self._start(kwargs, name, "agent" if is_agent else "chain", {"input": plain(inputs)})

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        fields = {"output": plain(outputs)}
        if kwargs.get("inputs") is not None:  # of a stream, whose input has come in pieces
            fields["input"] = plain(kwargs["inputs"])
        self._end(run_id, fields)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, {"input": plain(kwargs["inputs"])} if kwargs.get("inputs") is not None else {}, error)

    def on_agent_action(self, action: AgentAction, *, run_id: UUID, **kwargs: Any) -> None:
        self._update_agent(run_id, action)

    def on_agent_finish(self, finish: AgentFinish, *, run_id: UUID, **kwargs: Any) -> None:
        self._update_agent(run_id, finish)

    def on_tool_start(self, serialized: dict[str, Any] | None, input_str: str, **kwargs: Any) -> None:
        given = kwargs.get("inputs")
        name = name_of(serialized, kwargs.get("name"), "tool")
        self._start(kwargs, name, "tool", {"input": input_str if given is None else plain(given)})

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        fields: dict[str, Any] = {"output": plain(output)}
        if isinstance(output, ToolMessage) and output.status == "error":
            fields |= {"level": "ERROR", "status_message": str(output.content)}
        self._end(run_id, fields)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, {}, error)

    def on_retriever_start(self, serialized: dict[str, Any] | None, query: str, **kwargs: Any) -> None:
        self._start(kwargs, name_of(serialized, kwargs.get("name"), "retriever"), "retriever", {"input": query})

    def on_retriever_end(self, documents: Sequence[Document], *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, {"output": list(documents)})

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, {}, error)

    # -- models ------------------------------------------------------------------------------------------------------------

    def on_chat_model_start(self, serialized: dict[str, Any] | None, messages: list[list[BaseMessage]], **kwargs: Any) -> None:
        self._start_generation(serialized, messages, kwargs)

    def on_llm_start(self, serialized: dict[str, Any] | None, prompts: list[str], **kwargs: Any) -> None:
        self._start_generation(serialized, prompts, kwargs)

    def on_llm_new_token(self, token: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._first_token(run_id)

    def on_stream_event(self, event: Any, *, run_id: UUID, **kwargs: Any) -> None:
        if "delta" in str(event.get("event") if isinstance(event, Mapping) else ""):
            self._first_token(run_id)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, self._answered(response))

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, self._answered(kwargs.get("response")), error)

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> None:
        run = self._runs.get(run_id)
        if run is not None:
            run.observation.create_event(name, input=plain(data), metadata=kwargs.get("metadata"))

    def _start_generation(self, serialized: dict[str, Any] | None, said: Sequence[Any], about: Mapping[str, Any]) -> None:
        params, metadata = about.get("invocation_params") or {}, about.get("metadata") or {}
        fields = {
            "input": asked(said, params),
            "model": model_of(params, metadata),
            "model_parameters": parameters(params, metadata),
        }
        self._start(about, name_of(serialized, about.get("name"), "model"), "generation", fields)

    def _first_token(self, run_id: UUID) -> None:
        run = self._runs.get(run_id)
        if run is not None and not run.has_begun:
            run.has_begun = True
            run.observation.update(completion_start_time=now())
            if run.streams:  # from here on its reader goes on between two pieces
                run.leave()

    def _update_agent(self, run_id: UUID, said: Any) -> None:
        run = self._runs.get(run_id)
        if run is not None:
            run.become_agent(plain(said))

    def _answered(self, response: LLMResult | None) -> dict[str, Any]:
        try:
            return answered(response)
        except Exception as error:  # noqa: BLE001 - of a provider that answers in another shape
            NOTES.note("langchain answer", f"an answer of a model is recorded only in part: {type(error).__name__}")
            return {}
