"""The real langchain-core, with its own fake models: every kind of run is recorded, nested, and does what it did."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_core")

from langchain_core.agents import AgentAction, AgentFinish
from langchain_core.callbacks import CallbackManagerForRetrieverRun, adispatch_custom_event
from langchain_core.documents import Document
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, LLMResult
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import ToolException, tool
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from langfuse_server import PUBLIC, SECRET, LangfuseServer
from otel_langfuse import (
    ConfigError,
    Langfuse,
    create_trace_id,
    get_client,
    observe,
    propagate_attributes,
    propagation,
    start_as_current_observation,
)
from otel_langfuse.callback import CallbackHandler
from otel_langfuse.decorators import langfuse_context
from otel_langfuse.integrations._others import is_recorded_around
from otel_langfuse.integrations.langchain import _runs
from otel_langfuse.integrations.langchain._current import Current
from otel_langfuse.langchain import CallbackHandler as NewerHandler
from otel_langfuse.testing import Captured, capture
from otel_langfuse.tracing import register

USAGE = {
    "input_tokens": 9,
    "output_tokens": 5,
    "total_tokens": 14,
    "input_token_details": {"cache_read": 4, "audio": 1},
    "output_token_details": {"reasoning": 2},
}


@pytest.fixture
def seen() -> Iterator[Captured]:
    with capture(fixed=False) as observations:
        yield observations


class Model(GenericFakeChatModel):
    """Says ``hello world`` always, in pieces if asked to, and names its model as providers' classes do."""

    model: str = "toy-1"
    temperature: float = 0.5

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model, "temperature": self.temperature}


def model(*answers: Any) -> Model:
    given = (
        answers
        or [
            AIMessage(
                "hello world", usage_metadata=USAGE, response_metadata={"model_name": "toy-1-2026", "finish_reason": "stop"}
            )
        ]
        * 9
    )
    return Model(messages=iter(given))


def chain_of(llm: Any) -> Any:
    return ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{input}")]) | llm | StrOutputParser()


def outside() -> bool:
    """Whether nothing is current here."""
    return not trace.get_current_span().get_span_context().is_valid


def test_the_sample_a_chain_with_everything_that_the_handler_is_told(server: LangfuseServer) -> None:
    handler = CallbackHandler(
        public_key=PUBLIC,
        secret_key=SECRET,
        host=server.url,
        trace_name="langchain-run",
        user_id="u",
        session_id="s",
        tags=["x"],
        metadata={"kind": "faq"},
        version="1",
        release="r",
        environment="staging",
        mask=lambda data: json.loads(json.dumps(data).replace("secret", "***")),
    )
    predefined_run_id = uuid.uuid4()
    assert (
        chain_of(model()).invoke({"input": "a secret"}, config={"callbacks": [handler], "run_id": predefined_run_id})
        == "hello world"
    )
    handler.langfuse.score(trace_id=str(predefined_run_id), name="liked", value=1)
    handler.flush()
    root = server.one("RunnableSequence")
    assert root.trace_id == predefined_run_id.hex == handler.get_trace_id() == server.score("liked")["traceId"]
    assert handler.get_trace_url() == f"{server.url}/trace/{root.trace_id}"
    assert handler.auth_check()
    assert (root.type, root.parent_id, root.output) == ("chain", None, "hello world")
    assert json.loads(root.input) == {"input": "a ***"}
    assert root.trace.name == "langchain-run"
    assert (root.trace.release, root.environment, root.version) == ("r", "staging", "1")
    assert root.trace.metadata["kind"] == "faq"
    for one in server.observations:
        assert (one.trace.user_id, one.trace.session_id, one.trace.tags) == ("u", "s", ["x"]), one.name
        assert one.parent_id == (None if one is root else root.id)
        assert "secret" not in repr(one)
    generation = server.one("Model")
    assert (generation.type, generation.model) == ("generation", "toy-1-2026")
    assert generation.model_parameters["temperature"] == 0.5
    assert generation.usage_details == {
        "input": 4,
        "input_cache_read": 4,
        "input_audio": 1,
        "output": 3,
        "output_reasoning": 2,
        "total": 14,
    }
    assert json.loads(generation.input) == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a ***"}]
    assert json.loads(generation.output) == {"role": "assistant", "content": "hello world"}
    assert generation.metadata["finish_reason"] == "stop"
    assert server.one("StrOutputParser").type == "chain"


def test_without_settings_it_is_the_client_that_is_there_and_settings_are_checked(server: LangfuseServer) -> None:
    langfuse = Langfuse()
    assert NewerHandler is CallbackHandler
    assert CallbackHandler().langfuse is langfuse
    assert CallbackHandler(public_key=PUBLIC).langfuse is langfuse
    with pytest.raises(ConfigError, match="sample_rate"):
        CallbackHandler(sample_rate=7)


def test_metadata_of_the_run_may_say_what_is_of_the_trace(seen: Captured) -> None:
    said = {
        "langfuse_session_id": "s",
        "langfuse_user_id": "u",
        "langfuse_tags": ["x"],
        "langfuse_trace_name": "named",
        "mine": 1,
    }
    chain_of(model()).invoke(
        {"input": "hi"}, config={"callbacks": [CallbackHandler(tags=["all"])], "metadata": said, "tags": ["cfg"]}
    )
    root = seen.one("RunnableSequence")
    assert (root.trace.session_id, root.trace.user_id, root.trace.name) == ("s", "u", "named")
    assert set(root.trace.tags) == {"all", "x", "cfg"}
    assert root.metadata["mine"] == 1
    assert not [key for one in seen for key in one.metadata if key.startswith("langfuse_")]


def test_it_nests_both_ways(seen: Captured) -> None:
    @observe
    def work(text: str) -> str:
        return text.upper()

    @observe
    def answer() -> str:
        with propagate_attributes(session_id="s"):
            return str(
                (chain_of(model()) | RunnableLambda(work)).invoke({"input": "hi"}, config={"callbacks": [CallbackHandler()]})
            )

    assert answer() == "HELLO WORLD"
    outer, root, inner = seen.one("answer"), seen.one("RunnableSequence"), [one for one in seen if one.name == "work"]
    assert (root.parent_id, root.trace_id) == (outer.id, outer.trace_id)
    assert [one.type for one in inner] == ["chain", "span"]
    assert inner[1].parent_id == inner[0].id
    assert {one.trace.session_id for one in seen} == {"s"}
    assert outside()


def test_a_trace_context_and_a_classic_trace_lead_elsewhere(server: LangfuseServer) -> None:
    langfuse = Langfuse()
    trace_id = langfuse.create_trace_id(seed="order-17")
    classic = langfuse.trace(name="classic", id="order 18")
    chain = RunnableLambda(lambda text: text)
    chain.invoke("a", config={"callbacks": [CallbackHandler(trace_context={"trace_id": trace_id})], "run_name": "joined"})
    handler = CallbackHandler(stateful_client=classic, update_stateful_client=True, user_id="u")
    chain.invoke("b", config={"callbacks": [handler], "run_name": "below"})
    classic.end()
    langfuse.flush()
    assert server.one("joined").trace_id == trace_id
    assert server.one("below").parent_id == server.one("classic").id
    assert server.one("classic").trace.user_id == "u"


def echo(text: str) -> str:
    return text + "!"


def test_a_handler_of_a_classic_trace_puts_runs_into_it_and_holds_it(server: LangfuseServer) -> None:
    langfuse = Langfuse()
    handler = langfuse.trace(name="classic", id="order 18", user_id="u", session_id="s").get_langchain_handler()
    gc.collect()
    runs = [threading.Thread(target=RunnableLambda(echo).invoke, args=("a", {"callbacks": [handler]})) for _ in range(2)]
    for run in runs:  # in threads, which know nothing of what is current here
        run.start()
        run.join()
    held = handler.get_trace_id()
    del handler, runs, run
    gc.collect()
    assert langfuse.flush()
    trace, runs_seen = server.one("classic"), [one for one in server.observations if one.name == "echo"]
    assert held == trace.trace_id == create_trace_id(seed="order 18")
    assert [one.parent_id for one in runs_seen] == [trace.id, trace.id]
    assert {(one.trace.user_id, one.trace.session_id) for one in runs_seen} == {("u", "s")}
    assert trace.end_time_unix_nano >= max(one.end_time_unix_nano for one in runs_seen), "it ends with the last run in it"
    assert (trace.input, trace.output) == (None, None)


@pytest.mark.parametrize("kind", ["trace", "span"])
def test_with_update_parent_it_gets_the_chains_input_and_output(server: LangfuseServer, kind: str) -> None:
    langfuse = Langfuse()
    trace = langfuse.trace(name="classic")
    handle = trace if kind == "trace" else trace.span(name="inner")
    handler = handle.get_langchain_handler(update_parent=True)
    (RunnableLambda(echo) | RunnableLambda(echo)).invoke("a", config={"callbacks": [handler]})
    handle.end()
    trace.end()
    assert langfuse.flush()
    seen = server.one("classic" if kind == "trace" else "inner")
    assert (seen.input, seen.output) == ("a", "a!!")
    assert server.one("RunnableSequence").parent_id == seen.id


def test_the_current_handler_leads_to_what_ran_where_it_was_made_also_from_a_thread(seen: Captured) -> None:
    handlers: list[Any] = []

    @observe()
    def inner() -> None:
        handlers.append(langfuse_context.get_current_langchain_handler())
        thread = threading.Thread(target=RunnableLambda(echo).invoke, args=("a", {"callbacks": handlers}))
        thread.start()
        thread.join()

    @observe()
    async def outer() -> None:
        with propagate_attributes(user_id="u"):
            inner()
            handler = langfuse_context.get_current_langchain_handler()
            await RunnableLambda(echo).ainvoke("b", config={"callbacks": [handler], "run_name": "second"})

    asyncio.run(outer())
    assert seen.one("echo").parent_id == seen.one("inner").id
    assert seen.one("second").parent_id == seen.one("outer").id
    assert seen.one("second").trace.user_id == "u"
    RunnableLambda(echo).invoke(
        "c", config={"callbacks": [langfuse_context.get_current_langchain_handler()], "run_name": "alone"}
    )
    assert seen.one("alone").parent_id is None
    assert seen.one("alone").trace_id != seen.one("outer").trace_id


def test_disabled_a_handler_records_nothing_and_the_chain_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    langfuse = Langfuse(PUBLIC, SECRET, "http://127.0.0.1:9", enabled=False)
    for handler in (langfuse.trace(name="x").get_langchain_handler(True), langfuse_context.get_current_langchain_handler()):
        assert RunnableLambda(echo).invoke("a", config={"callbacks": [handler]}) == "a!"
    assert langfuse.stats().started == 0
    monkeypatch.setitem(sys.modules, "langchain_core", None)
    monkeypatch.delitem(sys.modules, "otel_langfuse.callback")
    for name in [name for name in sys.modules if name.startswith(("langchain_core.", "otel_langfuse.integrations.langchain"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "otel_langfuse.langchain")
    with pytest.raises(ModuleNotFoundError, match="langchain"):
        langfuse.trace(name="y").get_langchain_handler()


def test_a_sampler_that_goes_by_the_ids_gets_ids_that_are_dice() -> None:
    register(provider=TracerProvider(sampler=TraceIdRatioBased(0.5), shutdown_on_exit=False))
    handler, found = CallbackHandler(), set()
    for _ in range(40):
        run_id = uuid.uuid4()
        RunnableLambda(lambda text: text).invoke("a", config={"callbacks": [handler], "run_id": run_id})
        found.add(handler.last_trace_id == run_id.hex)
    assert found == {False}


def test_parallel_branches_batches_and_threads_stay_apart(seen: Captured) -> None:
    handler = CallbackHandler()
    both = RunnableParallel(left=RunnableLambda(lambda text: text + "l"), right=RunnableLambda(lambda text: text + "r"))
    assert both.invoke("a", config={"callbacks": [handler]}) == {"left": "al", "right": "ar"}
    (root,) = (one for one in seen if one.parent_id is None)
    assert [one.parent_id for one in seen if one is not root] == [root.id, root.id]
    RunnableLambda(lambda text: text).batch(["a", "b", "c"], config={"callbacks": [handler], "run_name": "batched"})
    threads = [threading.Thread(target=both.invoke, args=("t",), kwargs={"config": {"callbacks": [handler]}}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.trace_id for one in seen if one.name == "batched"}) == 3
    assert len(seen) == 3 + 3 + 4 * 3
    assert len(handler._runs._runs) == 0


# -- models --------------------------------------------------------------------------------------------------------------------


def test_a_text_model(seen: Captured) -> None:
    chain = PromptTemplate.from_template("Say {it}.") | FakeListLLM(responses=["there"])
    assert chain.invoke({"it": "hi"}, config={"callbacks": [CallbackHandler()]}) == "there"
    one = seen.one("FakeListLLM")
    assert (one.type, one.input, one.output) == ("generation", "Say hi.", "there")


def test_tools_and_their_calls_are_in_openais_shape(seen: Captured) -> None:
    @tool
    def weather(city: str) -> str:
        """The weather."""
        return city

    call = {"name": "weather", "args": {"city": "Paris"}, "id": "call_1", "type": "tool_call"}
    said = [HumanMessage("hi"), AIMessage("", tool_calls=[call]), ToolMessage("sunny", tool_call_id="call_1", name="weather")]
    answering = model(AIMessage("", tool_calls=[call]))
    answering.invoke(said, config={"callbacks": [CallbackHandler()]}, tools=[weather], temperature=0.1)
    one = seen.one("Model")
    given = json.loads(one.input)
    (offered,) = given["tools"]
    assert (offered["type"], offered["function"]["name"]) == ("function", "weather")
    called = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    assert given["messages"][1:] == [
        {"role": "assistant", "content": "", "tool_calls": [called]},
        {"role": "tool", "content": "sunny", "name": "weather", "tool_call_id": "call_1"},
    ]
    assert json.loads(one.output)["tool_calls"] == [called]


@pytest.mark.parametrize(
    ("message", "llm_output", "counts"),
    [
        (
            {},
            {"token_usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}},
            {"input": 3, "output": 2, "total": 5},
        ),
        ({}, {"usage": {"input_tokens": 3, "output_tokens": 2}}, {"input": 3, "output": 2}),
        ({"response_metadata": {"usage": {"prompt_tokens": 3}}}, None, {"input": 3}),
        (
            {"response_metadata": {"usage_metadata": {"prompt_token_count": 3, "candidates_token_count": 2}}},
            None,
            {"input": 3, "output": 2},
        ),
        (
            {"response_metadata": {"amazon-bedrock-invocationMetrics": {"inputTokenCount": [3, 1], "outputTokenCount": 2}}},
            None,
            {"input": 4, "output": 2},
        ),
        ({}, None, {}),
    ],
)
def test_tokens_are_counted_wherever_a_provider_says_them(seen: Captured, message: Any, llm_output: Any, counts: Any) -> None:
    class Provider(Model):
        def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
            return ChatResult(generations=[ChatGeneration(message=AIMessage("hi", **message))], llm_output=llm_output)

    Provider(messages=iter(())).invoke("hi", config={"callbacks": [CallbackHandler()]})
    assert seen.one("Provider").usage_details == counts


def test_a_prompt_is_linked_to_the_generation_that_it_is_for(seen: Captured) -> None:
    class PromptObject:
        name, version, is_fallback = "qa", 3, False

    template = PromptTemplate.from_template("{input}", metadata={"langfuse_prompt": PromptObject()})
    chain = template | model() | StrOutputParser() | RunnableLambda(lambda text: text)
    chain.invoke({"input": "hi"}, config={"callbacks": [CallbackHandler()]})
    assert (seen.one("Model").prompt_name, seen.one("Model").prompt_version) == ("qa", 3)
    assert seen.one("RunnableSequence").prompt_name is None
    assert not [key for one in seen for key in one.metadata if "langfuse_prompt" in key]


class Failing(Model):
    def _stream(self, messages: Any, *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        yield ChatGenerationChunk(message=AIMessageChunk("hello"))
        raise ValueError("It broke.")

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        raise ValueError("It broke.")


def test_errors_are_the_programs_own_and_recorded_where_they_happen(seen: Captured) -> None:
    chain = chain_of(Failing(messages=iter(())))
    with pytest.raises(ValueError, match=r"^It broke\.$"):
        chain.invoke({"input": "hi"}, config={"callbacks": [CallbackHandler()]})
    assert {one.name: (one.level, one.status_message) for one in seen} == {
        "RunnableSequence": ("ERROR", "ValueError: It broke."),
        "ChatPromptTemplate": ("DEFAULT", None),
        "Failing": ("ERROR", "ValueError: It broke."),
    }
    with pytest.raises(ValueError, match="It broke"):
        list(Failing(messages=iter(())).stream("hi", config={"callbacks": [CallbackHandler()], "run_name": "streamed"}))
    streamed = seen.one("streamed")
    assert streamed.level == "ERROR"
    assert json.loads(streamed.output) == {"role": "assistant", "content": "hello"}
    assert outside()


# -- streams -------------------------------------------------------------------------------------------------------------------


def test_a_stream_leaves_its_readers_context_alone(seen: Captured) -> None:
    handler = CallbackHandler()
    for streamed, given in ((chain_of(model()), {"input": "hi"}), (model(), "hi")):
        pieces = []
        for piece in streamed.stream(given, config={"callbacks": [handler]}):
            assert outside()
            pieces.append(piece if isinstance(piece, str) else piece.content)
        assert "".join(pieces) == "hello world"
        assert outside()
    generations = [one for one in seen if one.type == "generation"]
    assert len(generations) == 2
    for one in generations:
        assert json.loads(one.output)["content"] == "hello world"
        assert one.completion_start_time is not None
    root = seen.one("RunnableSequence")
    assert (root.input, root.output) == ('{"input":"hi"}', "hello world")


def test_an_asynchronous_stream_too_whoever_closes_it(seen: Captured, caplog: pytest.LogCaptureFixture) -> None:
    handler = CallbackHandler()

    async def read(stream: AsyncIterator[Any], count: int) -> None:
        async for _ in stream:
            assert outside()
            count -= 1
            if not count:
                break

    async def program() -> None:
        await read(chain_of(model()).astream({"input": "hi"}, config={"callbacks": [handler]}), 99)
        await read(chain_of(model()).astream({"input": "hi"}, config={"callbacks": [handler], "run_name": "left"}), 1)
        await read(model().astream("hi", config={"callbacks": [handler], "run_name": "model left"}), 1)
        stream = model().astream("hi", config={"callbacks": [handler], "run_name": "closed elsewhere"})
        await stream.__anext__()
        await asyncio.ensure_future(stream.aclose())
        assert outside()
        gc.collect()
        await asyncio.sleep(0.05)
        with start_as_current_observation("after"):
            pass

    asyncio.run(program())
    gc.collect()
    assert seen.one("after").parent_id is None
    assert {"RunnableSequence", "left", "model left", "closed elsewhere"} <= {one.name for one in seen}
    assert "Failed to detach" not in caplog.text
    assert len(handler._runs._runs) == 0


def test_what_is_observed_inside_of_a_streamed_chain_nests_into_its_step(seen: Captured) -> None:
    @observe
    def work(text: str) -> str:
        return text

    chain = chain_of(model()) | RunnableLambda(work).with_config(run_name="step")
    assert "".join(chain.stream({"input": "hi"}, config={"callbacks": [CallbackHandler()]})) == "hello world"
    assert seen.one("work").parent_id == seen.one("step").id
    assert seen.one("step").parent_id == seen.one("RunnableSequence").id


def test_asynchronous_runs(seen: Captured) -> None:
    @observe
    async def work(text: str) -> str:
        await asyncio.sleep(0)
        return text

    async def sleep(_: str) -> None:
        await asyncio.sleep(20)

    async def program() -> None:
        handler = CallbackHandler()
        chain = chain_of(model()) | RunnableLambda(work).with_config(run_name="step")
        config = {"callbacks": [handler]}
        assert await asyncio.gather(*(chain.ainvoke({"input": "hi"}, config=config) for _ in range(3))) == ["hello world"] * 3
        assert await chain.ainvoke({"input": "hi"}, config={**config, "run_name": "awaited here"}) == "hello world"
        assert outside()
        with start_as_current_observation("after"):
            pass
        task = asyncio.ensure_future(RunnableLambda(sleep).ainvoke("hi", config={**config, "run_name": "slow"}))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(program())
    steps = {one.id: one for one in seen if one.name == "step"}
    inner = [one for one in seen if one.name == "work"]
    assert len(inner) == 4
    assert seen.one("after").parent_id is None
    assert all(one.parent_id in steps and one.trace_id == steps[one.parent_id].trace_id for one in inner)
    assert (seen.one("slow").level, seen.one("slow").status_message) == ("WARNING", "CancelledError")


# -- tools, retrievers, agents, events -----------------------------------------------------------------------------------------


def test_tools(seen: Captured) -> None:
    @observe
    def look_up(city: str) -> str:
        return f"{city}: sunny"

    @tool
    def weather(city: str, days: int = 1) -> str:
        """The weather."""
        return look_up(city)

    @tool
    def broken() -> str:
        """Fails."""
        raise ToolException("No.")

    @tool
    def handled() -> str:
        """Fails, and says so to the model."""
        raise ToolException("No.")

    handled.handle_tool_error = True
    config = {"callbacks": [CallbackHandler()]}
    assert weather.invoke({"city": "Paris", "days": 2}, config=config) == "Paris: sunny"
    with pytest.raises(ToolException):
        broken.invoke({}, config=config)
    handled.invoke({"type": "tool_call", "id": "call_1", "name": "handled", "args": {}}, config=config)
    one = seen.one("weather")
    assert (one.type, one.input, one.output) == ("tool", '{"city":"Paris","days":2}', "Paris: sunny")
    assert seen.one("look_up").parent_id == one.id
    assert (seen.one("broken").level, seen.one("broken").status_message) == ("ERROR", "ToolException: No.")
    assert (seen.one("handled").level, seen.one("handled").status_message) == ("ERROR", "No.")


class Shelf(BaseRetriever):
    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        if query == "fail":
            raise LookupError("empty")
        return [Document("a page", metadata={"source": "shelf"})]


def test_retrievers(seen: Captured) -> None:
    config = {"callbacks": [CallbackHandler()]}
    Shelf().invoke("why?", config=config)
    with pytest.raises(LookupError):
        Shelf().invoke("fail", config={**config, "run_name": "failing"})
    one = seen.one("Shelf")
    assert (one.type, one.input) == ("retriever", "why?")
    (document,) = json.loads(one.output)
    assert (document["page_content"], document["metadata"]) == ("a page", {"source": "shelf"})
    assert seen.one("failing").level == "ERROR"


def test_agents_of_the_classic_kind(seen: Captured) -> None:
    handler, run_id = CallbackHandler(), uuid.uuid4()
    handler.on_chain_start(None, {"input": "hi"}, run_id=run_id, name="Executor")
    handler.on_agent_action(AgentAction("weather", {"city": "Paris"}, "I look."), run_id=run_id)
    assert handler._runs.get(run_id) is not None
    handler.on_agent_finish(AgentFinish({"output": "sunny"}, "I know."), run_id=run_id)
    handler.on_chain_end({"output": "sunny"}, run_id=run_id)
    assert (seen.one("Executor").type, seen.one("Executor").output) == ("agent", '{"output":"sunny"}')
    assert outside()


def test_events_of_the_applications_own(seen: Captured) -> None:
    async def step(text: str, config: Any) -> str:
        await adispatch_custom_event("cache-hit", {"key": text}, config=config)
        return text

    asyncio.run(RunnableLambda(step).ainvoke("a", config={"callbacks": [CallbackHandler()]}))
    assert (seen.one("cache-hit").type, seen.one("cache-hit").input) == ("event", '{"key":"a"}')
    assert seen.one("cache-hit").parent_id == seen.one("step").id


def test_callbacks_that_come_alone_twice_or_never_do_no_harm(seen: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    handler, run_id = CallbackHandler(), uuid.uuid4()
    handler.on_chain_end({}, run_id=run_id)
    handler.on_llm_new_token("a", run_id=run_id)
    handler.on_llm_error(ValueError(), run_id=run_id)
    handler.on_chain_start({}, {}, run_id=run_id, parent_run_id=uuid.uuid4())
    handler.on_chain_end({}, run_id=run_id)
    handler.on_chain_end({}, run_id=run_id)
    assert [one.name for one in seen] == ["chain"]
    handler.on_llm_start(None, [], run_id=run_id)
    handler.on_llm_end(LLMResult(generations=[]), run_id=run_id)
    monkeypatch.setattr(_runs, "MAX_RUNS", 3)
    elsewhere = contextvars.copy_context()  # where they stay current
    for _ in range(5):
        elsewhere.run(handler.on_chain_start, {}, {}, run_id=uuid.uuid4(), name="never ended")
    assert len(handler._runs._runs) == 3
    assert len([one for one in seen if one.name == "never ended"]) == 2
    del handler, elsewhere
    gc.collect()
    assert len([one for one in seen if one.name == "never ended"]) == 5


def test_what_an_asynchronous_run_leaves_behind_is_nothing(seen: Captured) -> None:
    """LangChain reports its end from another task, so what it attached stays in the context; see ``_current``."""
    handler = CallbackHandler(user_id="u", session_id="s")

    async def program() -> None:
        for _ in range(50):
            await RunnableLambda(lambda text: text).ainvoke("a", config={"callbacks": [handler]})
            await model().ainvoke("a", config={"callbacks": [handler]})
            assert outside()
        around = trace.get_current_span()
        assert not isinstance(getattr(around, "_around", None), Current), "it does not grow"
        assert not propagation.propagated_attributes()
        assert not is_recorded_around()
        with start_as_current_observation("alone"):
            pass
        with start_as_current_observation("after") as after:
            await RunnableLambda(lambda text: text).ainvoke("a", config={"callbacks": [handler], "run_name": "below"})
            assert trace.get_current_span().get_span_context() is after.span.get_span_context()
            trace.get_current_span().set_attribute("langfuse.observation.output", "mine")

    asyncio.run(program())
    assert (seen.one("alone").parent_id, seen.one("alone").trace.user_id) == (None, None)
    assert (seen.one("after").parent_id, seen.one("after").output) == (None, "mine")
    assert seen.one("below").parent_id == seen.one("after").id
    assert seen.one("below").trace.user_id == "u"


def test_where_nothing_is_recorded_nothing_is_kept() -> None:
    register(enabled=False)
    handler = CallbackHandler()
    assert chain_of(model()).invoke({"input": "hi"}, config={"callbacks": [handler]}) == "hello world"
    assert (handler.last_trace_id, handler.get_trace_url()) == (None, None)
    assert "".join(chain_of(model()).stream({"input": "hi"}, config={"callbacks": [handler]})) == "hello world"


# -- beside the openai library, and in LangGraph -------------------------------------------------------------------------------


def test_a_model_that_calls_openai_is_recorded_once(seen: Captured) -> None:
    pytest.importorskip("openai")
    sys.path.insert(0, str(Path(__file__).parents[2] / "conformance" / "capture"))
    from model_server import ANSWER, model_server  # noqa: PLC0415

    from otel_langfuse.openai import openai  # noqa: PLC0415

    with model_server() as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="sk-none")

        class Calling(Model):
            def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
                made = client.chat.completions.create(model="gpt-4.1", messages=[{"role": "user", "content": "hi"}])
                return ChatResult(generations=[ChatGeneration(message=AIMessage(made.choices[0].message.content))])

            def _stream(self, messages: Any, *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
                asked = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "hi"}]}
                for chunk in client.chat.completions.create(stream=True, **asked):
                    yield ChatGenerationChunk(message=AIMessageChunk(chunk.choices[0].delta.content or ""))

        config = {"callbacks": [CallbackHandler()]}
        calling = Calling(messages=iter(()))
        assert calling.invoke("hi", config=config).content == ANSWER
        assert "".join(str(piece.content) for piece in calling.stream("hi", config=config)) == ANSWER
        assert "".join(chain_of(calling).stream({"input": "hi"}, config=config)) == ANSWER
        assert [one.name for one in seen if one.type == "generation"] == ["Calling"] * 3
        client.chat.completions.create(model="gpt-4.1", messages=[{"role": "user", "content": "hi"}])
        assert seen.one("OpenAI-generation").parent_id is None


def graph() -> Any:
    langgraph = pytest.importorskip("langgraph.graph")
    from langgraph.prebuilt import ToolNode  # noqa: PLC0415

    @observe
    def look_up(city: str) -> str:
        return f"{city}: sunny"

    @tool
    def weather(city: str) -> str:
        """The weather."""
        return look_up(city)

    call = {"name": "weather", "args": {"city": "Paris"}, "id": "call_1", "type": "tool_call"}
    answering = model(AIMessage("", tool_calls=[call]), AIMessage("It is sunny."))

    def ask(state: Any) -> Any:
        return {"messages": [answering.invoke(state["messages"])]}

    def more(state: Any) -> str:
        return "tools" if state["messages"][-1].tool_calls else langgraph.END

    made = langgraph.StateGraph(langgraph.MessagesState)
    made.add_node("ask", ask)
    made.add_node("tools", ToolNode([weather]))
    made.add_edge(langgraph.START, "ask")
    made.add_conditional_edges("ask", more)
    made.add_edge("tools", "ask")
    return made.compile()


@pytest.mark.parametrize("way", ["invoke", "stream", "ainvoke", "astream"])
def test_a_graph_of_langgraph_is_one_trace(way: str, seen: Captured) -> None:
    compiled, given = graph(), {"messages": [("user", "The weather in Paris?")]}
    handler = CallbackHandler(user_id="u")
    config = {"callbacks": [handler], "run_name": "graph"}

    async def program() -> None:
        if way == "ainvoke":
            await compiled.ainvoke(given, config=config)
        else:
            async for _ in compiled.astream(given, config=config):
                assert outside()

    if way == "invoke":
        compiled.invoke(given, config=config)
    elif way == "stream":
        for _ in compiled.stream(given, config=config):
            assert outside()
    else:
        asyncio.run(program())
    by_id = {one.id: one for one in seen}
    root, tool_run, inner = seen.one("graph"), seen.one("weather"), seen.one("look_up")
    assert {one.trace_id for one in seen} == {root.trace_id}
    assert {one.trace.user_id for one in seen} == {"u"}
    assert (root.type, tool_run.type) == ("chain", "tool")
    assert inner.parent_id == tool_run.id
    asks = [one for one in seen if one.name == "ask"]
    assert [one.parent_id for one in asks] == [root.id] * 2
    assert [by_id[one.parent_id].name for one in seen if one.type == "generation"] == ["ask", "ask"]
    assert json.loads(asks[1].output) == {"messages": [{"role": "assistant", "content": "It is sunny."}]}
    assert outside()
    assert len(handler._runs._runs) == 0


def test_each_handler_has_its_own_release_and_environment_beside_one_client(server: LangfuseServer) -> None:
    Langfuse(environment="prod", flush_at=15)
    keys = {"public_key": PUBLIC, "secret_key": SECRET, "host": server.url}
    for said in ({"environment": "staging", "release": "r2"}, {"environment": "Not allowed!"}, {}):
        chain_of(model()).invoke({"input": "hi"}, config={"callbacks": [CallbackHandler(**keys, user_id="u", **said)]})
    get_client().flush()
    roots = [one for one in server.observations if one.parent_id is None]
    found = [{(one.environment, one.trace.release) for one in server.observations if one.trace_id == r.trace_id} for r in roots]
    assert found[0] == {("staging", "r2")}
    assert {environment for environment, _ in found[1] | found[2]} == {"prod"}


def test_an_interrupt_of_langgraph_is_no_error(seen: Captured) -> None:
    langgraph = pytest.importorskip("langgraph.graph")
    from langgraph.checkpoint.memory import InMemorySaver  # noqa: PLC0415
    from langgraph.types import Command, interrupt  # noqa: PLC0415

    def ask(state: Any) -> Any:
        return {"messages": [AIMessage(f"You said {interrupt('Go on?')}.")]}

    made = langgraph.StateGraph(langgraph.MessagesState)
    made.add_node("ask", ask)
    made.add_edge(langgraph.START, "ask")
    compiled = made.compile(checkpointer=InMemorySaver())
    config = {"callbacks": [CallbackHandler()], "configurable": {"thread_id": "1"}}
    compiled.invoke({"messages": [("user", "hi")]}, config=config)
    assert {one.level for one in seen} <= {"DEFAULT", "DEBUG"}
    assert any("GraphInterrupt" in (one.status_message or "") for one in seen)
    compiled.invoke(Command(resume="yes"), config=config)
    assert {one.level for one in seen} <= {"DEFAULT", "DEBUG"}
    assert get_client() is not None


def test_what_langgraph_resumes_is_in_the_same_trace_where_both_handlers_name_it(seen: Captured) -> None:
    langgraph = pytest.importorskip("langgraph.graph")
    from langgraph.checkpoint.memory import InMemorySaver  # noqa: PLC0415
    from langgraph.types import Command, interrupt  # noqa: PLC0415

    made = langgraph.StateGraph(langgraph.MessagesState)
    made.add_node("ask", lambda _: {"messages": [AIMessage(f"You said {interrupt('Go on?')}.")]})
    made.add_edge(langgraph.START, "ask")
    compiled = made.compile(checkpointer=InMemorySaver())

    def run(given: Any, thread: str, **said: Any) -> None:
        config = {"callbacks": [CallbackHandler(**said)], "configurable": {"thread_id": thread}, "run_name": thread}
        compiled.invoke(given, config=config)

    asked = {"messages": [("user", "hi")]}
    for thread, said in (("alone", {}), ("named", {"trace_context": {"trace_id": create_trace_id(seed="thread 2")}})):
        run(asked, thread, **said)
        run(Command(resume="yes"), thread, **said)
    traces = {name: [one.trace_id for one in seen.named(name)] for name in ("alone", "named")}
    assert len(set(traces["alone"])) == 2
    assert traces["named"] == [create_trace_id(seed="thread 2")] * 2


def test_beside_another_instrumentation_of_langchain_one_line_says_that_all_is_recorded_twice(
    server: LangfuseServer, caplog: pytest.LogCaptureFixture
) -> None:
    instrumentor = pytest.importorskip("openinference.instrumentation.langchain").LangChainInstrumentor()
    Langfuse()
    chain = chain_of(model())
    chain.invoke({"input": "hi"}, config={"callbacks": [CallbackHandler()]})
    assert not caplog.records
    instrumentor.instrument()
    try:
        for _ in range(2):
            chain.invoke({"input": "hi"}, config={"callbacks": [CallbackHandler()]})
    finally:
        instrumentor.uninstrument()
    get_client().flush()
    scopes = [one.metadata["scope"]["name"] for one in server.observations if one.type == "generation"]
    assert sorted(scopes) == ["openinference.instrumentation.langchain"] * 2 + ["otel-langfuse"] * 3
    said = [record.getMessage() for record in caplog.records if record.name == "otel_langfuse"]
    assert len(said) == 1
    assert "recorded twice" in said[0]
    assert "openinference.instrumentation.langchain; leave one of them out" in said[0]
