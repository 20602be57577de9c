"""The classic decorator's shapes: nested calls become nested observations, the outermost the trace."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from langfuse_server import LangfuseServer
from otel_langfuse import Langfuse, get_client, propagate_attributes
from otel_langfuse.classic import observation_id_of, trace_id_of
from otel_langfuse.decorators import langfuse_context, observe
from otel_langfuse.tracing.ids import root_id_of


def test_nested_calls_are_told_things_from_inside(server: LangfuseServer) -> None:
    seen: dict[str, str | None] = {}

    @observe()
    def call_llm(docs: list[str], question: str) -> str:
        langfuse_context.update_current_observation(
            model="gpt-4o",
            usage={"input": 10, "output": 5},
            metadata={"a": 1},
            level="WARNING",
            status_message="slow",
            name="the call",
        )
        langfuse_context.score_current_observation(name="here", value=1)
        return "answer"

    @observe()
    def generate_answer(docs: list[str], question: str) -> str:
        langfuse_context.update_current_trace(
            user_id="user-42",
            session_id="s-99",
            tags=["rag"],
            metadata={"k": "v"},
            name="qa",
            release="r",
            version="1",
            public=True,
        )
        answer = call_llm(docs, question)
        langfuse_context.score_current_trace(name="completeness", value=0.85, comment="nearly")
        seen["trace"] = langfuse_context.get_current_trace_id()
        seen["observation"] = langfuse_context.get_current_observation_id()
        seen["url"] = langfuse_context.get_current_trace_url()
        return answer

    langfuse_context.configure(environment="staging")
    assert generate_answer(["doc"], question="why?") == "answer"
    langfuse_context.flush()
    outer, inner = server.one("generate_answer"), server.one("the call")
    assert inner.parent_id == outer.id == seen["observation"]
    assert outer.trace_id == seen["trace"]
    assert seen["url"] == f"{server.url}/trace/{outer.trace_id}"
    assert outer.input == '{"docs":["doc"],"question":"why?"}'
    assert (inner.type, inner.model, inner.level, inner.status_message) == ("generation", "gpt-4o", "WARNING", "slow")
    assert inner.usage_details == {"input": 10, "output": 5}
    assert inner.environment == "staging"
    said = outer.trace
    assert (said.name, said.user_id, said.session_id, said.release, said.public) == ("qa", "user-42", "s-99", "r", True)
    assert (said.tags, said.metadata["k"], outer.version) == (["rag"], "v", "1")
    assert (inner.metadata["a"], server.score("completeness")["comment"]) == (1, "nearly")
    assert server.score("completeness")["traceId"] == outer.trace_id
    assert "observationId" not in server.score("completeness")
    assert server.score("here")["observationId"] == inner.id


def test_trace_fields_by_update_current_observation(server: LangfuseServer) -> None:
    @observe()
    def outer() -> None:
        langfuse_context.update_current_observation(user_id="u", session_id="s", input="shown")

    langfuse_context.configure()
    outer()
    langfuse_context.flush()
    stored = server.one("outer")
    assert (stored.trace.user_id, stored.trace.session_id, stored.input) == ("u", "s", "shown")


def test_async_gather_and_generators(server: LangfuseServer) -> None:
    @observe()
    async def step(number: int) -> int:
        await asyncio.sleep(0)
        langfuse_context.update_current_observation(metadata={"number": number})
        return number

    @observe()
    def stream() -> Iterator[str]:
        yield "a"
        yield "b"

    @observe(name="all")
    async def main() -> list[int]:
        assert list(stream()) == ["a", "b"]
        return list(await asyncio.gather(*[step(i) for i in range(3)]))

    langfuse_context.configure()
    assert asyncio.run(main()) == [0, 1, 2]
    langfuse_context.flush()
    steps = [one for one in server.observations if one.name == "step"]
    assert sorted(one.metadata["number"] for one in steps) == [0, 1, 2]
    assert {one.parent_id for one in steps} == {server.one("all").id}
    assert server.one("stream").output == "ab"


def test_outside_of_everything_it_does_nothing_but_say_so(server: LangfuseServer, caplog: pytest.LogCaptureFixture) -> None:
    langfuse_context.configure()
    langfuse_context.update_current_observation(name="x")
    langfuse_context.update_current_trace(name="x")
    assert langfuse_context.score_current_trace(name="x", value=1) is None
    assert langfuse_context.get_current_trace_id() is None
    assert langfuse_context.get_current_trace_url() is None
    assert caplog.text.count("no observation is running") == 3


# -- what is said of a trace when some of its spans have ended -------------------------------------------------------


def test_what_is_said_late_of_a_trace_reaches_spans_that_have_ended_and_are_not_sent(server: LangfuseServer) -> None:
    @observe()
    def early() -> None:
        pass

    @observe()
    def own() -> None:
        langfuse_context.update_current_trace(tags=["own"], metadata={"whose": "its own"})

    @observe()
    def root() -> None:
        early()
        own()
        langfuse_context.update_current_trace(user_id="ada", tags=["late"], metadata={"whose": "late", "long": "x" * 300})
        with propagate_attributes(session_id="s"):
            early()

    langfuse_context.configure(flush_interval=60)
    root()
    langfuse_context.flush()
    assert {one.trace.user_id for one in server.observations} == {"ada"}
    assert {one.trace.session_id for one in server.observations} == {"s"}
    assert all("late" in one.trace.tags for one in server.observations)
    assert server.one("own").trace.tags == ["own", "late"]
    assert server.one("own").trace.metadata["whose"] == "its own"
    first = next(one for one in server.observations if one.name == "early")
    assert first.trace.metadata["whose"] == "late"
    assert "long" not in first.trace.metadata
    assert server.one("root").trace.metadata["long"] == "x" * 300


def test_what_was_sent_already_is_covered_by_the_root(server: LangfuseServer) -> None:
    @observe()
    def early() -> None:
        pass

    @observe()
    def root() -> None:
        early()
        langfuse_context.flush()
        langfuse_context.update_current_trace(user_id="ada")

    langfuse_context.configure()
    root()
    langfuse_context.flush()
    assert (server.one("early").trace.user_id, server.one("root").trace.user_id) == (None, "ada")


def test_a_call_may_be_given_the_callers_own_ids(server: LangfuseServer) -> None:
    @observe()
    def inner(text: str) -> str:
        return text

    @observe()
    def outer(text: str) -> str:
        return inner(text, langfuse_observation_id="step 1")

    langfuse_context.configure()
    outer("a", langfuse_observation_id="order 17")
    inner("b", langfuse_parent_trace_id="order 17", langfuse_parent_observation_id="step 1")
    inner("c", langfuse_parent_trace_id="order 17", langfuse_observation_id="step 2")
    inner("d", langfuse_parent_observation_id="step 1")
    langfuse_context.flush()
    root = server.one("outer")
    by_input = {one.input: one for one in server.observations if one.name == "inner"}
    step, below, beside, alone = (by_input[f'{{"text":"{text}"}}'] for text in "abcd")
    assert (root.trace_id, root.parent_id) == (trace_id_of("order 17"), None)
    assert root.metadata["external_id"] == "order 17"
    assert (step.id, step.parent_id, step.trace_id) == (observation_id_of("step 1"), root.id, root.trace_id)
    assert (below.parent_id, below.trace_id) == (step.id, root.trace_id)
    assert (beside.id, beside.trace_id) == (observation_id_of("step 2"), root.trace_id)
    assert alone.trace_id != root.trace_id
    assert root.id == root_id_of(root.trace_id), "where every process finds it"


def test_a_call_may_name_its_project(server: LangfuseServer) -> None:
    @observe()
    def inner() -> None: ...

    @observe()
    def outer() -> None:
        inner()

    with LangfuseServer() as other:
        Langfuse(default=True)
        Langfuse(public_key="pk-lf-other", secret_key="sk-lf-other", base_url=other.url)
        outer(langfuse_public_key="pk-lf-other")
        outer()
        get_client(public_key="pk-lf-other").shutdown()
        langfuse_context.flush()
        assert [one.name for one in other.observations] == [one.name for one in server.observations] == ["outer", "inner"]
