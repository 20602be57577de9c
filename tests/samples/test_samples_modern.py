"""The shapes of Langfuse's SDKs from 3 on."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from opentelemetry import baggage
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_langfuse
from langfuse_server import LangfuseServer
from otel_langfuse import Langfuse, get_client, observe, propagate_attributes


class PromptObject:
    name, version, is_fallback = "qa", 3, False


def test_context_managers_and_updates(server: LangfuseServer) -> None:
    langfuse = get_client()
    assert get_client() is langfuse
    seen: dict[str, Any] = {}
    with langfuse.start_as_current_observation(as_type="span", name="handle-request", input={"q": 1}) as span:
        with (
            propagate_attributes(
                user_id="u",
                session_id="s",
                tags=["a", "b"],
                metadata={"k": "v"},
                version="1",
                trace_name="request",
                environment="prod",
                as_baggage=False,
            ),
            langfuse.start_as_current_observation(
                as_type="generation",
                name="llm",
                model="gpt-4o",
                model_parameters={"temperature": 0},
                input=[{"role": "user", "content": "?"}],
                prompt=PromptObject(),
            ) as gen,
        ):
            gen.update(
                output="!",
                usage_details={"input": 1, "output": 2},
                cost_details={"total": 0.1},
                completion_start_time=datetime.now(timezone.utc),
            )
            langfuse.update_current_generation(metadata={"late": True})
            langfuse.score_current_span(name="current", value=1)
        span.score(name="of the span", value=1)
        span.score_trace(name="of the trace", value="good")
        langfuse.create_event(name="cache-hit", input={"key": "k"})
        langfuse.update_current_span(output="done")
        langfuse.score_current_trace(name="current trace", value=True)
        seen["id"], seen["url"] = langfuse.get_current_trace_id(), langfuse.get_trace_url()
    langfuse.flush()
    root, llm, hit = server.one("handle-request"), server.one("llm"), server.one("cache-hit")
    assert seen == {"id": root.trace_id, "url": f"{server.url}/trace/{root.trace_id}"}
    assert llm.parent_id == hit.parent_id == root.id
    assert (llm.type, llm.model, llm.usage_details, llm.cost_details) == (
        "generation",
        "gpt-4o",
        {"input": 1, "output": 2},
        {"total": 0.1},
    )
    assert (llm.prompt_name, llm.prompt_version, llm.environment) == ("qa", 3, "prod")
    assert (root.output, hit.type, hit.input) == ("done", "event", '{"key":"k"}')
    assert (llm.input, llm.output, llm.model_parameters) == ('[{"role":"user","content":"?"}]', "!", {"temperature": 0})
    assert (llm.version, llm.trace.tags, llm.trace.metadata["k"]) == ("1", ["a", "b"], "v")
    assert (llm.metadata["late"], llm.completion_start_time is None) == (True, False)
    assert (root.input, root.type) == ('{"q":1}', "span")
    assert (root.trace.user_id, root.trace.session_id, root.trace.name) == ("u", "s", "request")
    assert server.score("current")["observationId"] == llm.id
    assert server.score("of the span")["observationId"] == root.id
    for name in ("of the trace", "current trace"):
        assert server.score(name)["traceId"] == root.trace_id
        assert "observationId" not in server.score(name)


def test_observations_by_hand_seeded_ids_and_joining_a_trace(server: LangfuseServer) -> None:
    langfuse = Langfuse()
    obs = langfuse.start_observation(name="manual", as_type="tool")
    child = obs.start_observation(name="inner")
    child.end()
    obs.end()
    trace_id = Langfuse.create_trace_id(seed="order-17")
    with langfuse.start_as_current_observation(
        name="joined", trace_context={"trace_id": trace_id, "parent_span_id": "b7ad6b7169203331"}
    ):
        pass
    langfuse.flush()
    assert server.one("manual").type == "tool"
    assert server.one("inner").parent_id == server.one("manual").id
    assert (server.one("joined").trace_id, server.one("joined").parent_id) == (trace_id, "b7ad6b7169203331")


def test_what_version_3_called_it_on_the_client_and_on_its_handles(server: LangfuseServer) -> None:
    langfuse = get_client()
    with langfuse.start_as_current_span(name="root", input=1) as root:
        with root.start_as_current_generation(name="llm", model="m") as llm:
            llm.update(output="!")
        with root.start_as_current_span(name="step"):
            root.start_generation(name="by hand", model="m").end()
        root.start_span(name="span by hand", metadata={"k": 1}).end()
        root.update_trace(user_id="u", name="request")
    langfuse.start_generation(name="alone", model="m").end()
    langfuse.flush()
    kinds = {one.name: (one.type, one.parent_id == server.one("root").id) for one in server.observations}
    assert kinds == {
        "root": ("span", False),
        "llm": ("generation", True),
        "step": ("span", True),
        "by hand": ("generation", True),
        "span by hand": ("span", True),
        "alone": ("generation", False),
    }
    assert (server.one("root").trace.user_id, server.one("root").trace.name) == ("u", "request")


def test_the_sdks_classes_may_be_named_and_are_what_is_made(server: LangfuseServer) -> None:
    kinds = ("Agent", "Chain", "Embedding", "Evaluator", "Event", "Generation", "Guardrail", "Retriever", "Span", "Tool")
    with get_client().start_as_current_observation(name="one", as_type="tool") as made:
        assert all(isinstance(made, getattr(otel_langfuse, f"Langfuse{kind}")) for kind in kinds)


def test_a_classic_trace_of_the_same_seed_is_the_root_of_what_joins_it(server: LangfuseServer) -> None:
    langfuse = Langfuse()
    trace = langfuse.trace(id="order-17", name="order")
    with langfuse.start_as_current_observation(
        name="joined", trace_context={"trace_id": Langfuse.create_trace_id(seed="order-17")}
    ):
        pass
    trace.end()
    langfuse.flush()
    assert server.one("joined").parent_id == server.one("order").id


def test_a_prompt_around_calls_a_public_trace_and_an_observation_that_is_ended_by_hand(server: LangfuseServer) -> None:
    langfuse = get_client()
    with propagate_attributes(prompt=PromptObject()):
        with langfuse.start_as_current_observation(name="by hand", as_type="generation", end_on_exit=False) as kept:
            langfuse.set_current_trace_as_public()
        with langfuse.start_as_current_observation(name="by itself", end_on_exit=None):
            pass
    langfuse.flush()
    assert [one.name for one in server.observations] == ["by itself"]
    kept.end()
    langfuse.flush()
    stored = server.one("by hand")
    assert (stored.trace.public, stored.prompt_name, stored.prompt_version) == (True, "qa", 3)


def test_the_sdks_own_settings_of_its_machinery_are_taken_or_named(
    server: LangfuseServer, caplog: pytest.LogCaptureFixture
) -> None:
    memory = InMemorySpanExporter()
    langfuse = Langfuse(span_exporter=memory, media_upload_thread_count=3, otel_compression="none", additional_headers={"a": "b"})
    assert langfuse.client.config.media_threads == 3
    assert "no meaning here: additional_headers, otel_compression" in caplog.text
    with langfuse.start_as_current_observation(name="here"):
        pass
    langfuse.flush()
    assert [span.name for span in memory.get_finished_spans()] == ["here"]
    assert not server.observations


def test_scores_of_everything(server: LangfuseServer) -> None:
    langfuse = get_client()
    langfuse.create_score(
        name="quality",
        value="good",
        data_type="CATEGORICAL",
        trace_id="0af7651916cd43dd8448eb211c80319c",
        observation_id="b7ad6b7169203331",
        config_id="c",
        comment="why",
        metadata={"judge": "me"},
    )
    langfuse.create_score(
        name="of both", value="good", trace_id="0af7651916cd43dd8448eb211c80319c", session_id="s", metadata=None, comment=None
    )
    langfuse.create_score(name="of a session", value=1, session_id="s")
    langfuse.create_score(name="of a run", value=0.5, dataset_run_id="r", score_id="mine")
    langfuse.flush()
    assert server.score("quality")["observationId"] == "b7ad6b7169203331"
    assert server.score("quality")["metadata"] == {"judge": "me"}
    assert server.score("quality")["configId"] == "c"
    assert server.score("of both")["traceId"] == "0af7651916cd43dd8448eb211c80319c"
    assert "sessionId" not in server.score("of both"), "the server takes one of them"
    assert server.score("of a session")["sessionId"] == "s"
    assert (server.score("of a run")["datasetRunId"], server.score("of a run")["id"]) == ("r", "mine")


def test_the_decorator_with_its_arguments(server: LangfuseServer) -> None:
    @observe(name="answer", as_type="generation", capture_input=True, capture_output=False, transform_to_string=str)
    async def answer(question: str) -> str:
        return "secret"

    get_client()
    assert asyncio.run(answer("why?")) == "secret"
    get_client().flush()
    stored = server.one("answer")
    assert (stored.type, stored.input, stored.output) == ("generation", '{"question":"why?"}', None)


@pytest.mark.parametrize("wanted", [True, False])
def test_what_is_propagated_is_baggage_only_where_that_is_asked_for(server: LangfuseServer, wanted: bool) -> None:
    with propagate_attributes(user_id="u", tags=["a", "b"], metadata={"k": "v"}, as_baggage=wanted):
        inside = baggage.get_all()
    expected = {"langfuse_user_id": "u", "langfuse_tags": "a,b", "langfuse_metadata_k": "v"}
    assert inside == (expected if wanted else {})
    assert not baggage.get_all()


def test_a_block_is_a_decorator_too(server: LangfuseServer) -> None:
    langfuse = get_client()

    @langfuse.start_as_current_observation(name="plain", as_type="tool", metadata={"k": "v"})
    def plain(n: int) -> str | None:
        return langfuse.get_current_trace_id() if not n else plain(n - 1)

    @langfuse.start_as_current_span(name="coroutine")
    async def coroutine() -> str | None:
        await asyncio.sleep(0)
        return langfuse.get_current_trace_id()

    @langfuse.start_as_current_generation(name="generator", model="m")
    def generator() -> Iterator[str | None]:
        yield langfuse.get_current_trace_id()

    @langfuse.start_as_current_observation(name="async generator")
    async def async_generator() -> AsyncIterator[str | None]:
        yield langfuse.get_current_trace_id()

    @langfuse.start_as_current_observation(name="failing")
    def failing() -> None:
        raise ValueError("It broke.")

    async def parts() -> list[str | None]:
        return [part async for part in async_generator()]

    assert plain.__name__ == "plain"
    assert inspect.iscoroutinefunction(coroutine)
    assert inspect.isgeneratorfunction(generator)
    assert inspect.isasyncgenfunction(async_generator)
    inside = {"plain": plain(1), "coroutine": asyncio.run(coroutine()), "generator": next(generator())}
    inside["async generator"] = asyncio.run(parts())[0]
    with pytest.raises(ValueError, match="It broke"):
        failing()
    assert langfuse.get_current_trace_id() is None
    langfuse.flush()
    found = {one.name: one for one in server.observations}
    assert {name: found[name].trace_id for name in inside} == inside
    outer, inner = (one for one in server.observations if one.name == "plain")
    assert (outer.type, outer.metadata["k"], inner.parent_id) == ("tool", "v", outer.id)
    assert (found["generator"].type, found["generator"].model) == ("generation", "m")
    assert (found["failing"].level, found["failing"].status_message) == ("ERROR", "ValueError: It broke.")
