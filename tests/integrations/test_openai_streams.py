"""Streams of the real openai library: recorded while they are read, within bounds, and the library's own objects all the way."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

openai = pytest.importorskip("openai")

from openai_calls import ANSWER, HI, TOOL, async_client_of, client_of  # noqa: E402
from otel_langfuse.integrations.openai import _pieces  # noqa: E402
from otel_langfuse.store import Store  # noqa: E402
from otel_langfuse.testing import Captured  # noqa: E402
from scripted_model import scripted  # noqa: E402

pytest_plugins = ["openai_calls"]


def chunk(delta: dict[str, Any], index: int = 0, **more: Any) -> dict[str, Any]:
    choices = [{"index": index, "delta": delta, "finish_reason": None}]
    return {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **more}


def text_of(stream: Any) -> str:
    return "".join(part.choices[0].delta.content or "" for part in stream if part.choices)


def test_a_stream_read_to_its_end(client: Any, seen: Captured) -> None:
    stream = client.chat.completions.create(
        model="gpt-4.1", messages=HI, stream=True, stream_options={"include_usage": True}, temperature=0, name="s"
    )
    assert isinstance(stream, openai.Stream)
    assert type(stream).__name__ == "Stream"
    assert stream.response.status_code == 200
    assert not seen, "it goes on"
    assert text_of(stream) == ANSWER
    one = seen.one("s")
    assert json.loads(one.output) == {"role": "assistant", "content": ANSWER}
    assert one.usage_details["input_cached_tokens"] == 4
    assert one.model == "gpt-4.1-2025-04-14"
    assert one.model_parameters == {"temperature": 0, "service_tier": "default"}
    assert one.metadata["finish_reason"] == "stop"
    assert one.completion_start_time is not None
    stream.close()
    assert len(seen) == 1


def test_tool_calls_come_in_pieces(client: Any, seen: Captured) -> None:
    tools = [TOOL, {"type": "function", "function": {**TOOL["function"], "name": "forecast"}}]
    list(client.chat.completions.create(model="gpt-4.1", messages=HI, tools=tools, stream=True))
    output = seen.one("OpenAI-generation").output
    assert output.count('"arguments":"{\\"city\\": \\"Paris\\"}"') == 2
    assert '"name":"weather"' in output
    assert '"name":"forecast"' in output
    assert output.count('"type":"function"') == 2


def test_several_choices_and_what_only_some_servers_stream(seen: Captured) -> None:
    parts = [
        chunk({"role": "assistant", "content": "a"}),
        chunk({"content": "b"}, index=1),
        chunk({"reasoning_content": "I "}),
        chunk({"reasoning_content": "think"}),
        chunk({"content": "c"}),
        {
            "id": "1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": [],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2, "cost": 0.5},
        },
    ]
    with scripted(parts) as server:
        list(client_of(server.url).chat.completions.create(model="m", messages=HI, stream=True))
    one = seen.one("OpenAI-generation")
    assert json.loads(one.output) == [{"role": "assistant", "content": "ac", "reasoning_content": "I think"}, {"content": "b"}]
    assert (one.usage_details, one.cost_details) == ({"input": 1, "output": 2}, {"total": 0.5})


def test_the_old_completions_stream(seen: Captured) -> None:
    parts = [
        {"id": "1", "object": "text_completion", "created": 1, "model": "m", "choices": [{"text": text, "index": 0}]}
        for text in "abc"
    ]
    with scripted(parts) as server:
        list(client_of(server.url).completions.create(model="m", prompt="hi", stream=True))
    assert seen.one("OpenAI-generation").output == "abc"


def test_the_first_token_is_the_first_text(seen: Captured) -> None:
    with scripted([chunk({"role": "assistant", "content": ""}), chunk({"content": "late"})]) as server:
        server.go_on.clear()
        client = client_of(server.url)
        stream = client.chat.completions.create(model="m", messages=HI, stream=True)
        next(stream)
        empty_at = datetime.now(timezone.utc)
        server.go_on.set()
        list(stream)
    one = seen.one("OpenAI-generation")
    assert json.loads(one.output) == {"role": "assistant", "content": "late"}
    assert datetime.fromisoformat(one.completion_start_time) >= empty_at
    with scripted([chunk({"role": "assistant", "content": ""})]) as server:
        client = client_of(server.url)
        list(client.chat.completions.create(model="m", messages=HI, stream=True, name="empty"))
    assert seen.one("empty").completion_start_time is None


def test_the_responses_api_streams_and_ends_with_the_whole_answer(client: Any, seen: Captured) -> None:
    kinds = [event.type for event in client.responses.create(model="gpt-4.1", input="hi", stream=True, name="r")]
    assert kinds[-1] == "response.completed"
    one = seen.one("r")
    assert ANSWER in one.output
    assert one.usage_details["input_cached_tokens"] == 4
    assert one.completion_start_time is not None


def test_what_was_read_of_a_responses_stream_that_was_left_is_kept(client: Any, seen: Captured) -> None:
    with client.responses.create(model="gpt-4.1", input="hi", stream=True, name="r") as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                break
    one = seen.one("r")
    assert one.output == '[{"output_text":"It "}]'
    assert one.model == "gpt-4.1-2025-04-14"


def test_the_librarys_own_helpers_read_the_same_stream(client: Any, async_client: Any, seen: Captured) -> None:
    with client.chat.completions.stream(model="gpt-4.1", messages=HI) as stream:
        assert {event.type for event in stream} >= {"chunk", "content.done"}
        assert stream.get_final_completion().choices[0].message.content == ANSWER
    with client.responses.stream(model="gpt-4.1", input="hi") as stream:
        assert stream.get_final_response().output_text == ANSWER

    async def program() -> None:
        async with async_client.chat.completions.stream(model="gpt-4.1", messages=HI) as stream:
            assert [event async for event in stream]
        async with async_client.responses.stream(model="gpt-4.1", input="hi") as stream:
            assert (await stream.get_final_response()).output_text == ANSWER

    asyncio.run(program())
    assert [ANSWER in (one.output or "") for one in seen] == [True] * 4


def test_the_asynchronous_stream(async_client: Any, seen: Captured) -> None:
    async def program() -> None:
        stream = await async_client.chat.completions.create(model="gpt-4.1", messages=HI, stream=True, name="whole")
        assert isinstance(stream, openai.AsyncStream)
        assert "".join([part.choices[0].delta.content or "" async for part in stream]) == ANSWER
        stream = await async_client.chat.completions.create(model="gpt-4.1", messages=HI, stream=True, name="by hand")
        await stream.__anext__()
        await stream.__anext__()
        await stream.close()
        async with await async_client.chat.completions.create(model="gpt-4.1", messages=HI, stream=True, name="with") as stream:
            async for part in stream:
                if part.choices[0].delta.content:
                    break
        raw = await async_client.chat.completions.with_raw_response.create(model="gpt-4.1", messages=HI, stream=True, name="raw")
        assert [part async for part in raw.parse()]

    asyncio.run(program())
    assert ANSWER in seen.one("whole").output
    assert ANSWER in seen.one("raw").output
    for name in ("by hand", "with"):
        assert json.loads(seen.one(name).output) == {"role": "assistant", "content": "It "}, name


def test_a_stream_is_read_by_several_loops_and_by_hand(client: Any, seen: Captured) -> None:
    stream = client.chat.completions.create(model="gpt-4.1", messages=HI, stream=True)
    first = next(stream)
    second = next(iter(stream))
    assert not seen, "leaving a loop leaves the stream open"
    rest = list(stream)
    assert first.choices[0].delta.role == "assistant"
    assert second.choices[0].delta.content == "It "
    assert "It " + text_of(rest) == ANSWER
    assert ANSWER in seen.one("OpenAI-generation").output
    with pytest.raises(StopIteration):
        next(stream)


def test_a_stream_that_is_left_ends_with_its_last_piece(seen: Captured) -> None:
    with scripted([chunk({"content": text}) for text in "abc"]) as server:
        client = client_of(server.url)
        for _ in client.chat.completions.create(model="m", messages=HI, stream=True, name="left"):
            break
        left_ns = time.time_ns()
        client.chat.completions.create(model="m", messages=HI, stream=True, name="never read")
        gc.collect()
        client.chat.completions.create(model="m", messages=HI, stream=True, name="next").close()
    assert seen.one("left").output == '{"content":"a"}'
    assert seen.one("left").end_time_unix_nano <= left_ns
    assert seen.one("never read").output is None


def test_an_error_inside_of_a_stream_is_the_librarys_own_and_recorded(seen: Captured) -> None:
    with scripted([chunk({"content": "a"}), {"error": {"message": "It broke."}}]) as server:
        stream = client_of(server.url).chat.completions.create(model="m", messages=HI, stream=True)
        with pytest.raises(openai.APIError, match="It broke"):
            list(stream)
    one = seen.one("OpenAI-generation")
    assert (one.level, one.output) == ("ERROR", '{"content":"a"}')
    assert one.status_message == "APIError: It broke."
    with scripted([chunk({"content": "a"}), None]) as server:
        stream = client_of(server.url).chat.completions.create(model="m", messages=HI, stream=True, name="broken off")
        with pytest.raises(Exception) as raised:  # noqa: PT011 - which one, differs between versions
            list(stream)
    assert seen.one("broken off").status_message.startswith(type(raised.value).__name__)
    assert seen.one("broken off").output == '{"content":"a"}'


def test_a_task_that_is_cancelled_while_it_waits_for_a_piece(seen: Captured) -> None:
    async def program() -> None:
        with scripted([chunk({"content": "a"}), chunk({"content": "b"})]) as server:
            server.go_on.clear()
            client = async_client_of(server.url, max_retries=0)
            stream = await client.chat.completions.create(model="m", messages=HI, stream=True)
            await stream.__anext__()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(stream.__anext__(), 0.1)

    asyncio.run(program())
    one = seen.one("OpenAI-generation")
    assert (one.level, one.status_message, one.output) == ("WARNING", "CancelledError", '{"content":"a"}')


def test_what_is_kept_of_a_stream_is_bounded(seen: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pieces, "MAX_CHARACTERS", 10)
    with scripted([chunk({"content": "four"}) for _ in range(5)]) as server:
        stream = client_of(server.url).chat.completions.create(model="m", messages=HI, stream=True)
        assert text_of(stream) == "four" * 5
    assert seen.one("OpenAI-generation").output == '{"content":"fourfourfo","<cut>":"10 more characters"}'


def test_a_stream_in_another_shape_costs_the_record_not_the_call(seen: Captured, caplog: pytest.LogCaptureFixture) -> None:
    with scripted([{"choices": 7}, chunk({"content": ["no", "text"]}), chunk({"content": "a"})]) as server:
        stream = client_of(server.url).chat.completions.create(model="m", messages=HI, stream=True)
        assert len(list(stream)) == 3
    assert len(seen) == 1
    assert "a piece of a streamed answer is not recorded: TypeError" in caplog.text


PROGRAM = """
import sys
from otel_langfuse import configure, observe
from otel_langfuse.openai import openai

configure()
client = openai.OpenAI(base_url=sys.argv[1], api_key="sk-none")
stream = client.chat.completions.create(model="m", messages=[], stream=True, name="held to the end")
next(stream)
"""


def test_a_stream_that_the_program_ends_with_is_delivered(tmp_path: Path) -> None:
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "LANGFUSE_BASE_URL": f"sqlite:///{tmp_path}/store.db",
    }
    with scripted([chunk({"content": "a"}), chunk({"content": "b"})]) as server:
        subprocess.run([sys.executable, "-c", PROGRAM, server.url], check=True, env=env, timeout=60)
    store = Store(tmp_path / "store.db")
    (one,) = (one for summary in store.traces() for one in store.trace(summary.id))
    store.close()
    assert (one.name, one.output) == ("held to the end", '{"content":"a"}')
