"""The classic client's shapes, as tutorials teach them: each runs unchanged but for its imports, and arrives as meant."""

from __future__ import annotations

import gc
import logging
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from langfuse_server import PUBLIC, SECRET, LangfuseServer
from otel_langfuse import Langfuse, create_trace_id
from otel_langfuse.classic import observation_id_of, trace_id_of
from otel_langfuse.model import Usage


def masked(data: Any) -> Any:
    return data.replace("secret", "***") if isinstance(data, str) else data


def test_a_client_is_made_with_every_setting_and_checks_its_keys(server: LangfuseServer) -> None:
    langfuse = Langfuse(
        public_key=PUBLIC,
        secret_key=SECRET,
        host=server.url,
        release="ba7816b",
        debug=False,
        threads=1,
        max_retries=3,
        timeout=20,
        flush_at=15,
        flush_interval=0.5,
        sample_rate=1.0,
        mask=masked,
        environment="production",
        enabled=True,
    )
    assert langfuse.auth_check()
    trace = langfuse.trace(name="t", input="a secret")
    trace.score(name="s", value=1, comment="a secret")
    langfuse.flush()
    stored = server.one("t")
    assert (stored.environment, stored.trace.release, stored.input) == ("production", "ba7816b", "a ***")
    assert server.score("s")["environment"] == "production"
    assert server.score("s")["comment"] == "a ***"


def test_a_trace_is_told_things_by_its_handle_and_by_its_id(server: LangfuseServer) -> None:
    langfuse = Langfuse()
    trace = langfuse.trace(
        name="doc-qa",
        user_id="user-42",
        session_id="session-99",
        tags=["rag", "v3"],
        metadata={"email": "user@example.com"},
        release="v2.1.0",
        version="1",
        public=False,
        input={"q": 1},
        id="any string of the caller's",
    )
    trace.update(input="Hi there", metadata={"more": 2}, tags=["rag", "late"])
    again = langfuse.trace(id=trace.id, output="Hi")
    assert again.id == trace.id == "any string of the caller's"
    url = trace.get_trace_url()
    langfuse.flush()
    (stored,) = server.observations
    assert stored.trace_id == trace_id_of("any string of the caller's") == create_trace_id(seed="any string of the caller's")
    assert url == f"{server.url}/trace/{stored.trace_id}"
    assert stored.parent_id is None
    assert (stored.name, stored.input, stored.output, stored.version) == ("doc-qa", "Hi there", "Hi", "1")
    said = stored.trace
    assert (said.name, said.user_id, said.session_id, said.release) == ("doc-qa", "user-42", "session-99", "v2.1.0")
    assert said.tags == ["rag", "v3", "late"]
    expected = {"email": "user@example.com", "more": 2, "external_id": "any string of the caller's"}
    assert {key: said.metadata[key] for key in expected} == expected


def test_a_span_with_all_its_fields(server: LangfuseServer) -> None:
    langfuse = Langfuse()
    trace = langfuse.trace(name="t")
    span = trace.span(
        name="embedding-search",
        metadata={"database": "pinecone"},
        input={"query": "..."},
        tags=["rag"],
        level="info",
        status_message="OK",
        version="1.2.0",
    )
    span.update(metadata={"more": 1})
    assert not server.observations
    span.end(output=["doc"])
    failing = trace.span(name="failing")
    failing.end(output={"error": "boom"}, level="error", status_message="it broke")
    langfuse.flush()
    stored = server.one("embedding-search")
    assert stored.type == "span"
    assert stored.parent_id == server.one("t").id
    assert (stored.input, stored.output) == ('{"query":"..."}', '["doc"]')
    assert (stored.level, stored.status_message, stored.version) == ("DEFAULT", "OK", "1.2.0")
    assert stored.metadata["database"] == "pinecone"
    assert stored.metadata["more"] == 1
    assert stored.metadata["tags"] == '["rag"]'
    broken = server.one("failing")
    assert (broken.level, broken.status_message, broken.output) == ("ERROR", "it broke", '{"error":"boom"}')


def test_a_generation_with_all_its_fields(server: LangfuseServer) -> None:
    class PromptObject:
        name, version, is_fallback = "qa", 3, False

    langfuse = Langfuse()
    trace = langfuse.trace(name="t")
    first_token = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    generation = trace.generation(
        name="final-answer",
        model="gpt-4o",
        model_parameters={"temperature": 0.2, "maxTokens": "1000"},
        input=[{"role": "user", "content": "?"}],
        prompt=PromptObject(),
        completion_start_time=first_token,
        metadata={"interface": "web"},
    )
    generation.end(output="...", usage={"input": 50, "output": 49, "total": 99, "unit": "TOKENS"})
    langfuse.flush()
    stored = server.one("final-answer")
    assert (stored.type, stored.model, stored.prompt_name, stored.prompt_version) == ("generation", "gpt-4o", "qa", 3)
    assert stored.model_parameters == {"temperature": 0.2, "maxTokens": "1000"}
    assert stored.input == '[{"role":"user","content":"?"}]'
    assert stored.usage_details == {"input": 50, "output": 49, "total": 99}
    assert stored.completion_start_time.startswith("2026-01-02T03:04:05")


class OpenAIUsage:
    def __init__(self) -> None:
        self.prompt_tokens, self.completion_tokens, self.total_tokens = 50, 49, 99


@pytest.mark.parametrize(
    ("usage", "counts", "costs"),
    [
        ({"input": 50, "output": 49, "total": 99, "unit": "TOKENS"}, {"input": 50, "output": 49, "total": 99}, {}),
        ({"promptTokens": 50, "completionTokens": 49, "totalTokens": 99}, {"input": 50, "output": 49, "total": 99}, {}),
        ({"prompt_tokens": 50, "completion_tokens": 49}, {"input": 50, "output": 49}, {}),
        (Usage(input=50, output=49), {"input": 50, "output": 49}, {}),
        (OpenAIUsage(), {"input": 50, "output": 49, "total": 99}, {}),
        ({"input": 5, "inputCost": 0.25, "total_cost": 1}, {"input": 5}, {"input": 0.25, "total": 1.0}),
        (
            {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13, "prompt_tokens_details": {"cached_tokens": 6}},
            {"input": 3, "output": 4, "total": 13, "input_cached_tokens": 6},
            {},
        ),
        ({"audio_seconds": 3}, {"audio_seconds": 3}, {}),
    ],
)
def test_every_shape_of_usage(server: LangfuseServer, usage: Any, counts: dict[str, int], costs: dict[str, float]) -> None:
    langfuse = Langfuse()
    langfuse.trace(name="t").generation(name="g").end(output="...", usage=usage)
    langfuse.flush()
    assert server.one("g").usage_details == counts
    assert server.one("g").cost_details == costs


def test_usage_in_another_unit_says_which_and_what_is_no_usage_is_left_out(
    server: LangfuseServer, caplog: pytest.LogCaptureFixture
) -> None:
    langfuse = Langfuse()
    trace = langfuse.trace(name="t")
    trace.generation(name="speech", usage={"input": 12, "unit": "SECONDS"}, metadata={"a": 1}).end()
    trace.generation(name="nonsense", usage=7).end(output="kept")
    langfuse.flush()
    assert server.one("speech").metadata["usage_unit"] == "SECONDS"
    assert server.one("speech").metadata["a"] == 1
    assert server.one("nonsense").output == "kept"
    assert "usage is left out" in caplog.text


def test_a_span_that_is_given_a_model_and_usage_is_a_generation(server: LangfuseServer) -> None:
    langfuse = Langfuse()
    trace = langfuse.trace(name="t")
    span = trace.span(name="llm")
    span.end(output="...", usage={"input": 1, "output": 2}, model="gpt-4o-mini")
    trace.span(name="at once", model="gpt-4o").end()
    langfuse.flush()
    assert server.one("llm").type == server.one("at once").type == "generation"
    assert (server.one("llm").model, server.one("llm").usage_details) == ("gpt-4o-mini", {"input": 1, "output": 2})


def test_events(server: LangfuseServer) -> None:
    langfuse = Langfuse()
    trace = langfuse.trace(name="t")
    span = trace.span(name="s")
    span.event(name="chat-docs-retrieval", metadata={"key": "value"}, input={"q": "?"}, output={"a": "!"})
    trace.event(name="rerank", level="info", data={"candidates_before": 10, "candidates_after": 3})
    span.end()
    langfuse.flush()
    event = server.one("chat-docs-retrieval")
    assert (event.type, event.parent_id, event.input) == ("event", server.one("s").id, '{"q":"?"}')
    assert event.start_time_unix_nano == event.end_time_unix_nano
    rerank = server.one("rerank")
    assert (rerank.metadata["candidates_before"], rerank.metadata["candidates_after"]) == (10, 3)
    assert rerank.parent_id == server.one("t").id


def test_nesting_to_any_depth_from_any_parent(server: LangfuseServer) -> None:
    langfuse = Langfuse()
    trace = langfuse.trace(name="chat-app-session", user_id="u", session_id="s")
    retrieval = trace.span(name="retrieval")
    retrieval.generation(name="query-creation")
    retrieval.span(name="vector-db-search")
    retrieval.event(name="db-summary")
    trace.generation(name="user-output")
    langfuse.flush()
    retrieval.end()
    langfuse.flush()
    parents = {one.name: one.parent_id for one in server.observations}
    root, middle = server.one("chat-app-session").id, server.one("retrieval").id
    assert parents == {
        "chat-app-session": None,
        "retrieval": root,
        "query-creation": middle,
        "vector-db-search": middle,
        "db-summary": middle,
        "user-output": root,
    }
    assert {one.trace_id for one in server.observations} == {server.one("retrieval").trace_id}
    assert {(one.trace.user_id, one.trace.session_id, one.trace.name) for one in server.observations} == {
        ("u", "s", "chat-app-session")
    }, "on every observation, which is where Langfuse 4 looks"


def test_without_objects_by_ids(server: LangfuseServer) -> None:
    langfuse = Langfuse()
    trace = langfuse.trace(name="t", user_id="u")
    span = langfuse.span(trace_id=trace.id, name="initial name")
    langfuse.span(id=span.id, name="updated name")
    langfuse.span(trace_id=trace.id, parent_observation_id=span.id, name="nested span")
    langfuse.generation(name="llm-feature", metadata="test", input="a prompt")
    span.end()
    langfuse.flush()
    nested, updated, own = server.one("nested span"), server.one("updated name"), server.one("llm-feature")
    assert updated.parent_id == server.one("t").id
    assert nested.parent_id == updated.id
    assert nested.trace.user_id == "u"
    assert (own.parent_id, own.trace.name, own.metadata["metadata"]) == (None, "llm-feature", "test")
    assert own.trace_id != nested.trace_id
    assert len(server.observations) == 4


def test_an_update_by_id_reaches_what_nobody_holds_and_what_has_ended(server: LangfuseServer) -> None:
    langfuse = Langfuse()
    langfuse.trace(id="order/17", name="order")
    langfuse.span(id="step one", trace_id="order/17", name="initial name", input="in")
    gc.collect()
    langfuse.flush()
    assert server.one("initial name").id == observation_id_of("step one")
    langfuse.span(id="step one", name="updated name", output="out")
    langfuse.trace(id="order/17", output="done", user_id="u")
    langfuse.flush()
    assert len(server.observations) == 2
    updated = server.one("updated name")
    assert (updated.input, updated.output, updated.metadata["external_id"]) == ("in", "out", "step one")
    assert (server.one("order").output, server.one("order").trace.user_id) == ("done", "u")


def test_by_ids_of_a_trace_that_another_process_has_begun(server: LangfuseServer) -> None:
    langfuse = Langfuse()
    langfuse.span(trace_id="elsewhere", name="a")
    langfuse.span(trace_id="elsewhere", name="b", parent_observation_id="of theirs").end()
    langfuse.flush()
    a, b = server.one("a"), server.one("b")
    assert a.trace_id == b.trace_id == trace_id_of("elsewhere")
    assert a.parent_id == a.trace_id[16:], "where its root is, in every process"
    assert b.parent_id == observation_id_of("of theirs")
    assert a.trace.name is None, "the root's name stays"


def test_below_an_observation_that_only_another_process_knows_what_is_said_of_the_trace_reaches_its_root_here(
    server: LangfuseServer,
) -> None:
    langfuse = Langfuse()
    trace = langfuse.trace(name="t")
    langfuse.span(trace_id=trace.id, parent_observation_id="of theirs", name="s", user_id="u").end()
    langfuse.flush()
    assert server.one("t").trace.user_id == server.one("s").trace.user_id == "u"
    assert server.one("s").parent_id == observation_id_of("of theirs")


def test_scores_on_a_trace_and_by_ids(server: LangfuseServer) -> None:
    langfuse = Langfuse()
    trace = langfuse.trace(name="t", id="my trace")
    span = trace.span(name="s", id="my span")
    trace.score(name="user-explicit-feedback", value=1, comment="I like it")
    langfuse.score(trace_id=trace.id, observation_id=span.id, name="faithfulness", value=0.9, comment="c", data_type="NUMERIC")
    langfuse.score(trace_id=trace.id, name="verdict", value="good", data_type="CATEGORICAL")
    langfuse.score(trace_id=trace.id, name="ok", value=1, data_type="BOOLEAN")
    span.score(name="of the span", value=2)
    langfuse.flush()
    stored = trace_id_of("my trace")
    feedback = server.score("user-explicit-feedback")
    assert (feedback["traceId"], feedback["value"], feedback["comment"]) == (stored, 1.0, "I like it")
    assert "observationId" not in feedback
    assert server.score("faithfulness")["observationId"] == observation_id_of("my span")
    assert server.score("of the span")["observationId"] == observation_id_of("my span")
    assert (server.score("verdict")["dataType"], server.score("ok")["dataType"]) == ("CATEGORICAL", "BOOLEAN")


def test_a_trace_may_be_ended_and_flush_and_shutdown_end_all(server: LangfuseServer) -> None:
    langfuse = Langfuse()
    trace = langfuse.trace(name="t")
    span = trace.span(name="s")
    trace.end()
    span.end()
    langfuse.flush()
    assert {one.name for one in server.observations} == {"t", "s"}
    running = langfuse.trace(name="never ended").span(name="nor this")
    langfuse.shutdown()
    assert {one.name for one in server.observations} == {"t", "s", "never ended", "nor this"}
    running.end(output="too late")
    langfuse.trace(name="after").span(name="shutdown").end()
    langfuse.flush()
    assert langfuse.stats().dropped["after_shutdown"] >= 1


def test_times_by_hand(server: LangfuseServer) -> None:
    langfuse = Langfuse()
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    trace = langfuse.trace(name="t", timestamp=start)
    trace.span(name="s", start_time=start, end_time=start + timedelta(seconds=2))
    trace.generation(name="g", startTime=start).end(endTime=start + timedelta(seconds=3))
    langfuse.flush()
    begin = int(start.timestamp()) * 10**9
    times = {one.name: (one.start_time_unix_nano, one.end_time_unix_nano) for one in server.observations}
    assert times["s"] == (begin, begin + 2 * 10**9)
    assert times["g"] == times["t"] == (begin, begin + 3 * 10**9), "a trace that nobody ended ends with its last observation"


def test_a_start_may_be_said_later_but_not_after_the_end(server: LangfuseServer, caplog: pytest.LogCaptureFixture) -> None:
    langfuse = Langfuse()
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    trace = langfuse.trace(name="t")
    span = trace.span(name="s", start_time=start + timedelta(seconds=1))
    span.update(start_time=start)
    span.end(end_time=start + timedelta(seconds=2))
    assert not caplog.records
    span.update(start_time=start + timedelta(seconds=1))
    assert "start_time is left out" in caplog.text
    langfuse.flush()
    assert server.one("s").start_time_unix_nano == int(start.timestamp()) * 10**9


def test_flush_does_not_throw_and_what_was_not_sent_is_kept(server: LangfuseServer, caplog: pytest.LogCaptureFixture) -> None:
    server.down = True
    langfuse = Langfuse(flush_interval=0.1, timeout=1)
    langfuse.trace(name="t").score(name="s", value=1)
    assert langfuse.flush(timeout=0.5) is False
    assert not server.observations
    server.down = False
    server.wait_for(lambda: bool(server.observations and server.scores))
    assert langfuse.stats().dropped == {}


def test_what_cannot_be_used_is_left_out_with_a_note_and_nothing_is_raised(
    server: LangfuseServer, caplog: pytest.LogCaptureFixture
) -> None:
    langfuse = Langfuse()
    trace = langfuse.trace(name="t", tags="no list", timestamp="yesterday", colour="red", user_id=17)
    trace.span(name="s", level="LOUD", start_time=object(), prompt="a text", model_parameters=3, input="kept").end(usage=object())
    trace.score(name="", value=1)
    langfuse.flush()
    assert server.one("s").input == "kept"
    assert server.one("t").trace.user_id == "17"
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    for word in ("tags", "timestamp", "colour", "level", "start_time", "prompt", "model_parameters", "usage", "invalid"):
        assert word in caplog.text, word
