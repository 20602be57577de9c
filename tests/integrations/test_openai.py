"""The real openai library against a model server on loopback: each kind of call is recorded, and does what it did."""

from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

openai = pytest.importorskip("openai")

from opentelemetry import trace  # noqa: E402
from opentelemetry.sdk.trace import TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402
from pydantic import BaseModel  # noqa: E402

import otel_langfuse.openai as ours  # noqa: E402
from langfuse_server import PUBLIC, SECRET, LangfuseServer  # noqa: E402
from openai_calls import ANSWER, HI, TOOL, ModelServer, async_client_of, client_of  # noqa: E402
from otel_langfuse import Langfuse, get_client, observe, propagate_attributes, start_as_current_observation  # noqa: E402
from otel_langfuse.classic import observation_id_of, trace_id_of  # noqa: E402
from otel_langfuse.integrations.openai import _MARK, _targets  # noqa: E402
from otel_langfuse.testing import Captured, capture  # noqa: E402
from otel_langfuse.tracing import register  # noqa: E402
from scripted_model import scripted  # noqa: E402

pytest_plugins = ["openai_calls"]


def test_the_import_is_all_that_changes() -> None:
    assert ours.openai is openai
    assert ours.OpenAI is openai.OpenAI
    assert inspect.signature(openai.resources.chat.completions.Completions.create).parameters["messages"]


def test_a_chat_completion_with_all_that_the_drop_in_takes(client: Any, seen: Captured) -> None:
    class PromptObject:
        name, version, is_fallback = "qa", 3, False

    answer = client.chat.completions.create(
        model="gpt-4.1",
        messages=HI,
        temperature=0.5,
        max_tokens=7,
        stop=["\n"],
        seed=openai.NOT_GIVEN,
        name="my-generation",
        trace_id="abc-123",
        session_id="s",
        user_id="u",
        tags=["x"],
        metadata={"interface": "web"},
        langfuse_prompt=PromptObject(),
    )
    assert type(answer).__name__ == "ChatCompletion"
    assert answer.choices[0].message.content == ANSWER
    one = seen.one("my-generation")
    assert (one.type, one.model, one.level) == ("generation", "gpt-4.1-2025-04-14", "DEFAULT")
    assert one.model_parameters == {"temperature": 0.5, "max_tokens": 7, "stop": '["\\n"]', "service_tier": "default"}
    assert one.input == '[{"role":"user","content":"hi"}]'
    assert json.loads(one.output) == {"role": "assistant", "content": ANSWER}
    usage = answer.usage
    assert one.usage_details["input"] == usage.prompt_tokens - 4
    assert (one.usage_details["input_cached_tokens"], one.usage_details["output_reasoning_tokens"]) == (4, 2)
    assert one.usage_details["total"] == usage.total_tokens
    assert (one.trace.user_id, one.trace.session_id, list(one.trace.tags)) == ("u", "s", ["x"])
    assert (one.metadata["interface"], one.metadata["finish_reason"]) == ("web", "stop")
    assert (one.prompt_name, one.prompt_version) == ("qa", 3)
    assert one.trace_id == trace_id_of("abc-123")
    assert one.trace.metadata["external_id"] == "abc-123"
    assert one.completion_start_time is None


def test_newer_versions_say_session_user_and_tags_in_the_metadata(client: Any, seen: Captured) -> None:
    said = {"langfuse_session_id": "s", "langfuse_user_id": "u", "langfuse_tags": ["x"], "mine": 1}
    client.chat.completions.create(model="gpt-4.1", messages=HI, metadata=said)
    one = seen.one("OpenAI-generation")
    assert (one.trace.user_id, one.trace.session_id, list(one.trace.tags)) == ("u", "s", ["x"])
    assert one.metadata["mine"] == 1
    assert not [key for key in one.metadata if key.startswith("langfuse")]
    assert said == {"langfuse_session_id": "s", "langfuse_user_id": "u", "langfuse_tags": ["x"], "mine": 1}


@pytest.mark.parametrize(("store", "told"), [(None, None), (False, None), (True, {"mine": "1"})])
def test_openai_is_told_the_metadata_only_where_it_is_to_store_the_call(store: bool | None, told: Any, seen: Captured) -> None:
    with scripted({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": []}) as server:
        client = client_of(server.url)
        more = {} if store is None else {"store": store}
        client.chat.completions.create(
            model="m", messages=HI, name="n", metadata={"mine": "1", "langfuse_user_id": "u"}, user_id="u", **more
        )
    (asked,) = server.asked
    assert asked.get("metadata") == told
    assert not {"name", "user_id", "langfuse_user_id"} & asked.keys()
    assert seen.one("n").metadata["mine"] == "1"


def test_tools_are_part_of_the_input_and_their_calls_of_the_output(client: Any, seen: Captured) -> None:
    client.chat.completions.create(model="gpt-4.1", messages=HI, tools=[TOOL], name="t")
    one = seen.one("t")
    assert one.input.startswith('{"tools":[{"type":"function"')
    assert '"messages":[{"role":"user","content":"hi"}]' in one.input
    assert '"tool_calls":[{"id":"call_' in one.output
    assert '"name":"weather"' in one.output
    assert one.metadata["finish_reason"] == "tool_calls"


def test_several_choices_and_what_a_server_charges(seen: Captured) -> None:
    choices = [{"index": i, "message": {"role": "assistant", "content": str(i)}, "finish_reason": "stop"} for i in range(2)]
    usage = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5, "cost": 0.25}
    with scripted(
        {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": usage}
    ) as server:
        client_of(server.url).chat.completions.create(model="m", messages=HI, n=2)
    one = seen.one("OpenAI-generation")
    assert json.loads(one.output) == [{"content": str(i), "role": "assistant"} for i in range(2)]
    assert one.cost_details == {"total": 0.25}
    assert one.metadata["finish_reason"] == '["stop","stop"]'


def test_sound_goes_in_and_comes_out_as_media(tmp_path: Path) -> None:
    sound = "UklGRiQAAABXQVZFZm10IBAAAAABAAEA"
    audio = {"id": "a", "data": sound, "expires_at": 1, "transcript": "Hello."}
    message = {"role": "assistant", "content": None, "audio": audio}
    answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0, "message": message}]}
    content = [{"type": "input_audio", "input_audio": {"data": sound, "format": "wav"}}]
    with capture(media=tmp_path.as_uri()) as seen, scripted(answer) as server:
        client = client_of(server.url)
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": content}])
    one = seen.one("OpenAI-generation")
    assert "<media: audio/wav, 24 bytes" in one.input
    assert "<media: audio/wav, 24 bytes" in one.output
    assert '"transcript":"Hello."' in one.output
    assert sound not in one.input + one.output


class Weather(BaseModel):
    city: str
    degrees: int


def test_structured_answers_keep_their_class_and_the_schema_is_metadata(client: Any, seen: Captured) -> None:
    answer = client.chat.completions.parse(model="gpt-4.1", messages=HI, response_format=Weather, name="chat")
    assert answer.choices[0].message.parsed == Weather(city="Paris", degrees=21)
    made = client.responses.parse(model="gpt-4.1", input="hi", text_format=Weather, name="responses")
    assert made.output_parsed == Weather(city="Paris", degrees=21)
    assert '"parsed":{"city":"Paris","degrees":21}' in seen.one("chat").output
    assert '"title":"Weather"' in seen.one("chat").metadata["response_format"]
    assert '"title":"Weather"' in seen.one("responses").metadata["text_format"]
    assert [one.name for one in seen] == ["chat", "responses"]


def test_the_responses_api(client: Any, seen: Captured) -> None:
    client.responses.create(
        model="o4-mini",
        input="hi",
        instructions="Be brief.",
        reasoning={"effort": "low"},
        max_output_tokens=9,
        name="r",
        user_id="u",
    )
    one = seen.one("r")
    assert one.input == '[{"role":"system","content":"Be brief."},{"role":"user","content":"hi"}]'
    assert one.model == "o4-mini-2025-04-16"
    assert one.model_parameters == {"max_output_tokens": 9, "reasoning_effort": "low", "service_tier": "default"}
    assert ANSWER in one.output
    assert '"type":"reasoning"' in one.output
    assert (one.usage_details["input_cached_tokens"], one.usage_details["output_reasoning_tokens"]) == (4, 2)
    assert one.trace.user_id == "u"


@pytest.mark.parametrize(
    ("more", "level", "message"),
    [
        ({"status": "failed", "error": {"code": "server_error", "message": "It broke."}}, "ERROR", "It broke."),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "WARNING", "max_output_tokens"),
        ({"status": "completed"}, "DEFAULT", None),
    ],
)
def test_an_answer_that_failed_says_so(seen: Captured, more: dict[str, Any], level: str, message: str | None) -> None:
    with scripted({"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "output": [], **more}) as server:
        client_of(server.url).responses.create(model="m", input="hi")
    one = seen.one("OpenAI-generation")
    assert (one.level, one.status_message, one.metadata["response_id"]) == (level, message, "resp_1")


def test_embeddings_are_counted_not_copied(client: Any, seen: Captured) -> None:
    assert len(client.embeddings.create(model="embed", input=["a", "b"], dimensions=4).data) == 2
    client.embeddings.create(model="embed", input="a", encoding_format="base64", name="packed")
    one = seen.one("OpenAI-embedding")
    assert (one.type, one.model, one.input, one.output) == ("embedding", "embed", '["a","b"]', '{"dimensions":4,"count":2}')
    assert one.model_parameters == {"dimensions": 4}
    assert one.usage_details["input"] == 2
    assert seen.one("packed").output == '{"dimensions":4,"count":1}'


def test_the_old_completions(seen: Captured) -> None:
    answer = {"id": "1", "object": "text_completion", "created": 1, "model": "m", "choices": [{"text": "there", "index": 0}]}
    with scripted(answer) as server:
        client_of(server.url).completions.create(model="m", prompt="hi", best_of=2)
    one = seen.one("OpenAI-generation")
    assert (one.input, one.output, one.model_parameters) == ("hi", "there", {"best_of": 2})


def test_an_error_is_the_librarys_own_and_recorded(client: Any, seen: Captured) -> None:
    with pytest.raises(openai.RateLimitError) as raised:
        client.chat.completions.create(model="gpt-4.1", messages=[{"role": "user", "content": "fail with 429"}])
    assert raised.value.status_code == 429
    with pytest.raises(TypeError, match="Missing required arguments"):
        client.chat.completions.create(name="called wrongly")
    one = seen.one("OpenAI-generation")
    assert (one.level, one.model) == ("ERROR", "gpt-4.1")
    assert one.status_message.startswith("RateLimitError: Error code: 429")
    assert seen.one("called wrongly").level == "ERROR"


def test_the_asynchronous_client(async_client: Any, seen: Captured) -> None:
    async def program() -> None:
        chat, response, embedding = await asyncio.gather(
            async_client.chat.completions.create(model="gpt-4.1", messages=HI, name="chat", user_id="u"),
            async_client.responses.create(model="gpt-4.1", input="hi", name="responses"),
            async_client.embeddings.create(model="embed", input="hi", name="embedding"),
        )
        assert (chat.choices[0].message.content, response.output_text, len(embedding.data)) == (ANSWER, ANSWER, 1)
        with pytest.raises(openai.BadRequestError):
            await async_client.responses.create(model="gpt-4.1", input="fail with 400", name="failing")

    asyncio.run(program())
    assert {(one.name, one.type, one.level) for one in seen} == {
        ("chat", "generation", "DEFAULT"),
        ("responses", "generation", "DEFAULT"),
        ("embedding", "embedding", "DEFAULT"),
        ("failing", "generation", "ERROR"),
    }
    assert len({one.trace_id for one in seen}) == 4, "nothing is left in the context"
    assert seen.one("chat").trace.user_id == "u"


def test_a_call_that_is_cancelled_is_recorded_as_what_it_is(seen: Captured) -> None:
    async def program() -> None:
        with scripted([{"object": "never"}]) as server:
            server.go_on.clear()
            client = async_client_of(server.url, max_retries=0)
            task = asyncio.ensure_future(client.chat.completions.create(model="m", messages=HI, timeout=20))
            while not server.asked:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(program())
    one = seen.one("OpenAI-generation")
    assert (one.level, one.status_message) == ("WARNING", "CancelledError")


def test_methods_are_of_the_same_kind_as_before() -> None:
    found = _targets()
    assert len(found) >= 12
    for _, owner, name in found:
        method = vars(owner)[name]
        original = getattr(method, _MARK)
        assert inspect.iscoroutinefunction(method) == inspect.iscoroutinefunction(original), (owner, name)
        assert (method.__name__, method.__doc__, method.__module__) == (original.__name__, original.__doc__, original.__module__)
        assert inspect.signature(method) == inspect.signature(original)


# -- raw responses -------------------------------------------------------------------------------------------------------------


def test_raw_responses_are_recorded_and_still_raw(client: Any, async_client: Any, seen: Captured) -> None:
    raw = client.chat.completions.with_raw_response.create(model="gpt-4.1", messages=HI, name="raw")
    assert raw.headers["content-type"] == "application/json"
    assert raw.parse() is raw.parse()
    assert raw.parse().choices[0].message.content == ANSWER

    async def program() -> None:
        raw = await async_client.responses.with_raw_response.create(model="gpt-4.1", input="hi", name="async raw")
        assert raw.status_code == 200
        assert raw.parse().output_text == ANSWER

    asyncio.run(program())
    assert all(ANSWER in one.output and one.usage_details for one in (seen.one("raw"), seen.one("async raw")))


def test_streaming_responses_are_read_by_nobody_but_the_application(client: Any, async_client: Any, seen: Captured) -> None:
    make = client.chat.completions.with_streaming_response.create
    with make(model="gpt-4.1", messages=HI, name="read whole") as response:
        assert not response.is_closed
        assert response.json()["choices"][0]["message"]["content"] == ANSWER
        assert not seen
    with make(model="gpt-4.1", messages=HI, name="read by lines") as response:
        assert any(ANSWER in line for line in response.iter_lines())
    with make(model="gpt-4.1", messages=HI, name="never read"):
        pass

    async def program() -> None:
        make = async_client.chat.completions.with_streaming_response.create
        async with make(model="gpt-4.1", messages=HI, name="async") as response:
            assert (await response.parse()).choices[0].message.content == ANSWER
        async with make(model="gpt-4.1", messages=HI, name="async stream", stream=True) as response:
            assert [chunk async for chunk in await response.parse()]

    asyncio.run(program())
    for name in ("read whole", "async", "async stream"):
        assert ANSWER in seen.one(name).output, name
    for name in ("read by lines", "never read"):
        assert seen.one(name).output is None, name
    assert len(seen) == 5


# -- where it stands ----------------------------------------------------------------------------------------------------------


def test_it_nests_in_what_is_observed(client: Any, seen: Captured) -> None:
    @observe()
    def answer() -> str:
        made = client.chat.completions.create(model="gpt-4.1", messages=HI, user_id="u")
        return str(made.choices[0].message.content)

    with propagate_attributes(session_id="s"):
        assert answer() == ANSWER
    outer, inner = seen.one("answer"), seen.one("OpenAI-generation")
    assert (inner.parent_id, inner.trace_id) == (outer.id, outer.trace_id)
    assert (outer.trace.user_id, outer.trace.session_id, inner.trace.session_id) == ("u", "s", "s")


def test_its_trace_may_be_the_current_one_a_classic_one_or_one_of_another_process(client: Any, server: LangfuseServer) -> None:
    langfuse = Langfuse()

    def call(name: str, **more: Any) -> None:
        client.chat.completions.create(model="gpt-4.1", messages=HI, name=name, **more)

    trace = langfuse.trace(id="order 17", name="order")
    with start_as_current_observation("here") as here:
        call("in the current one", trace_id=here.trace_id)
        call("in the classic one", trace_id="order 17")
        call("below", trace_id="order 17", parent_observation_id="their step")
        call("elsewhere", trace_id="order 18")
        call("without a trace", parent_observation_id="their step")
    trace.end()
    langfuse.flush()
    by_name = {one.name: one for one in server.observations}
    assert by_name["in the current one"].parent_id == by_name["without a trace"].parent_id == by_name["here"].id
    assert by_name["in the classic one"].parent_id == by_name["order"].id
    assert not by_name["in the classic one"].is_root
    assert by_name["below"].parent_id == observation_id_of("their step")
    assert by_name["below"].trace_id == by_name["order"].trace_id
    assert by_name["elsewhere"].trace_id == trace_id_of("order 18")
    assert by_name["elsewhere"].is_root


def test_the_project_is_that_of_the_key(client: Any, server: LangfuseServer) -> None:
    with LangfuseServer() as other:
        Langfuse(default=True)
        Langfuse(public_key="pk-lf-other", secret_key="sk-lf-other", base_url=other.url)
        client.chat.completions.create(model="gpt-4.1", messages=HI, name="theirs", langfuse_public_key="pk-lf-other")
        client.chat.completions.create(model="gpt-4.1", messages=HI, name="ours")
        get_client(public_key="pk-lf-other").flush()
        get_client().flush()
        assert [one.name for one in other.observations] == ["theirs"]
        assert [one.name for one in server.observations] == ["ours"]
        get_client(public_key="pk-lf-other").shutdown()


def test_where_nothing_is_recorded_it_is_the_librarys_own_call(client: Any) -> None:
    register(enabled=False)
    assert (
        client.chat.completions.create(model="gpt-4.1", messages=HI, name="n", user_id="u").choices[0].message.content == ANSWER
    )
    stream = client.chat.completions.create(model="gpt-4.1", messages=HI, stream=True)
    assert type(stream) is openai.Stream
    stream.close()


def test_a_foreign_shape_costs_the_record_not_the_call(seen: Captured, caplog: pytest.LogCaptureFixture) -> None:
    with scripted({"choices": 7, "usage": "much"}) as server, warnings.catch_warnings():
        answer = client_of(server.url).chat.completions.create(model="m", messages=HI)
    assert answer.choices == 7
    assert seen.one("OpenAI-generation").input
    assert "an answer of openai is not recorded: TypeError" in caplog.text


def test_what_we_cannot_use_is_left_out(client: Any, seen: Captured, caplog: pytest.LogCaptureFixture) -> None:
    client.chat.completions.create(
        model="gpt-4.1",
        messages=HI,
        name=17,
        tags="no list",
        metadata="a text",
        user_id=3,
        langfuse_prompt="no prompt",
        trace_id=5,
    )
    one = seen.one("17")
    assert (one.trace.user_id, one.metadata["metadata"], one.trace_id) == ("3", "a text", trace_id_of("5"))
    assert "tags" in caplog.text
    assert "prompt" in caplog.text


def test_uninstrument_takes_it_back_and_instrument_is_done_once(client: Any, seen: Captured) -> None:
    ours.instrument()
    client.chat.completions.create(model="gpt-4.1", messages=HI)
    assert len(seen) == 1
    ours.uninstrument()
    try:
        client.chat.completions.create(model="gpt-4.1", messages=HI)
        with pytest.raises(TypeError):
            client.chat.completions.create(model="gpt-4.1", messages=HI, name="n")
        assert not hasattr(openai, "flush_langfuse")
        assert len(seen) == 1
    finally:
        ours.instrument()


# -- what the classic drop-in has on the module --------------------------------------------------------------------------------


def test_settings_and_functions_of_the_classic_drop_in_are_on_the_module(
    client: Any, models: ModelServer, monkeypatch: pytest.MonkeyPatch, server: LangfuseServer
) -> None:
    for name in ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY", "LANGFUSE_BASE_URL", "LANGFUSE_HOST"):
        monkeypatch.delenv(name, raising=False)
    told = {"public_key": PUBLIC, "secret_key": SECRET, "host": server.url, "environment": "staging", "sample_rate": 1.0}
    for name, value in told.items():
        monkeypatch.setattr(openai, f"langfuse_{name}", value, raising=False)
    assert openai.langfuse_auth_check() is True
    client.chat.completions.create(model="gpt-4.1", messages=HI, name="told")
    openai.flush_langfuse()
    assert server.one("told").environment == "staging"


def test_settings_on_the_module_that_cannot_work_cost_only_a_line(
    client: Any, monkeypatch: pytest.MonkeyPatch, seen: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(openai, "langfuse_sample_rate", 7, raising=False)
    for _ in range(2):
        client.chat.completions.create(model="gpt-4.1", messages=HI, name="told")
    assert len(seen.named("told")) == 2
    assert caplog.text.count("the settings openai.langfuse_... are left out: sample_rate=7") == 1


# -- beside other instrumentations ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["theirs", "ours"])
def test_a_call_that_another_instrumentation_records_is_recorded_once(
    first: str, client: Any, server: LangfuseServer, caplog: pytest.LogCaptureFixture
) -> None:
    instrumentor = pytest.importorskip("opentelemetry.instrumentation.genai.openai").OpenAIInstrumentor()
    Langfuse()
    if first == "theirs":
        ours.uninstrument()
    instrumentor.instrument()
    ours.instrument()
    try:
        for _ in range(2):
            client.chat.completions.create(
                model="gpt-4.1", messages=HI, name="n", user_id="u", session_id="s", trace_id="order 17"
            )
        get_client().flush()
    finally:
        instrumentor.uninstrument()
        ours.uninstrument()
        ours.instrument()
    found = server.observations
    assert [(one.name, one.type) for one in found] == [("chat gpt-4.1", "generation")] * 2
    assert caplog.text.count("are recorded by opentelemetry.instrumentation.genai.openai") == 1
    assert {(one.trace.user_id, one.trace.session_id) for one in found} == {("u", "s")}
    assert ({one.trace_id for one in found} == {trace_id_of("order 17")}) == (first == "theirs"), "theirs had begun elsewhere"


def test_another_instrumentation_that_records_elsewhere_does_not_count(client: Any, seen: Captured) -> None:
    instrumentor = pytest.importorskip("opentelemetry.instrumentation.genai.openai").OpenAIInstrumentor()
    memory, mine = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    mine.add_span_processor(SimpleSpanProcessor(memory))
    register(provider=mine)
    instrumentor.instrument(tracer_provider=trace.get_tracer_provider())
    try:
        client.chat.completions.create(model="gpt-4.1", messages=HI)
    finally:
        instrumentor.uninstrument()
    assert [span.name for span in memory.get_finished_spans()] == ["OpenAI-generation"]


WITHOUT = """
import sys
sys.modules["openai"] = None
try:
    import otel_langfuse.openai
except ImportError as error:
    print(error)
"""


def test_without_the_library_the_message_is_pythons_own() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=60, check=True)
    assert "openai" in done.stdout
