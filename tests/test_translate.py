"""Translating: any span gives an observation, and pays only for what it carries."""

from __future__ import annotations

import contextlib
import copy
import json
import time
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_langfuse.conventions import CONVENTIONS, CORRECTED_INDEX, _javascript, _nested, _plan, by_id
from otel_langfuse.conventions._view import ResourceView, ScopeView, View
from otel_langfuse.encode.ingestion import events, requests
from otel_langfuse.model import OBSERVATION_TYPES, Resource, Scope, Span, SpanEvent
from otel_langfuse.translate import UntranslatableError, translate, translate_all

NOW = "2030-01-01T00:00:00.000Z"
KEYS = sorted(
    {key for rule in by_id().values() for source in rule.sets.values() for key in source.keys}
    | {
        prefix + rest
        for rule in by_id().values()
        for source in rule.sets.values()
        for some in source.prefixes
        for prefix in some
        for rest in ("", ".0.role", ".3.x.1.y", "input_tokens")
    }
    | {
        "__proto__",
        "constructor",
        "",
        "ai.prompt.tools",
        "gen_ai.tool.definitions",
        "model_request_parameters",
        "llm.tools.0.tool.json_schema",
        "langfuse.metadata",
        "langfuse.trace.metadata.k",
    }
)
SCOPES = sorted(
    {rule.scope for rule in by_id().values() if rule.scope} | {"", "langfuse-sdk", "openinference.instrumentation.openai"}
)


def span(attributes: dict[str, Any] | None = None, **changes: Any) -> Span:
    plain = Span(
        "0" * 31 + "1", "0" * 15 + "1", None, "work", 1_000_000_000, 2_000_000_001, attributes or {}, Resource({}), Scope("app")
    )
    return plain._replace(**changes)


json_texts = st.sampled_from(
    [
        '{"a":1}',
        "[]",
        "[1,2]",
        '"text"',
        "null",
        "0",
        "bad{",
        '{"usage":{"inputTokens":"x"}}',
        "[null]",
        '[{"name":"t"}]',
        '{"openai":{"cachedPromptTokens":"q"}}',
        '{"anthropic":{"usage":{"cache_creation":5}}}',
    ]
)
hostile = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=30)
    | json_texts
    | st.binary(max_size=8)
    | st.just("\ud800"),
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
attributes_of_any_kind = st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=20), hostile, max_size=12)


@given(
    attributes_of_any_kind,
    attributes_of_any_kind,
    st.sampled_from(SCOPES),
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "exception",
                    "gen_ai.choice",
                    "gen_ai.user.message",
                    "gen_ai.content.prompt",
                    "gen_ai.client.inference.operation.details",
                ]
            ),
            attributes_of_any_kind,
        ),
        max_size=3,
    ),
)
@settings(max_examples=400, deadline=None)
def test_any_attribute_of_any_type_gives_an_observation_with_a_json_form(
    attributes: dict[str, Any], resource: dict[str, Any], scope: str, span_events: list[tuple[str, dict[str, Any]]]
) -> None:
    given_span = span(
        attributes,
        resource=Resource(resource),
        scope=Scope(scope, None, resource),
        events=tuple(SpanEvent(name, 1, inner) for name, inner in span_events),
    )
    observation = translate(given_span)
    assert observation.type in OBSERVATION_TYPES
    made = events([observation], now=NOW)
    encoded, drops = requests([observation], url="http://x", headers={}, max_request_bytes=10_000_000, now=NOW)
    assert drops == []
    assert len(orjson.loads(encoded[0].body)["batch"]) == len(made)
    with contextlib.suppress(UntranslatableError):
        translate(given_span, corrections=False)


SCHEMA = Path(__file__).parents[2] / "shared" / "langfuse" / "ingestion-event.schema.json"


@pytest.mark.skipif(not SCHEMA.is_file(), reason="the server's schema is not here")
def test_whatever_is_written_passes_the_servers_schema() -> None:
    validator = jsonschema_rs.Draft202012Validator(json.loads(SCHEMA.read_text()))

    @given(
        attributes_of_any_kind, attributes_of_any_kind, st.sampled_from(SCOPES), st.sampled_from(["exception", "gen_ai.choice"])
    )
    @settings(max_examples=250, deadline=None)
    def passes(attributes: dict[str, Any], resource: dict[str, Any], scope: str, event: str) -> None:
        given_span = span(attributes, resource=Resource(resource), scope=Scope(scope), events=(SpanEvent(event, 1, attributes),))
        made, _ = requests([translate(given_span)], url="u", headers={}, max_request_bytes=10_000_000, now=NOW)
        for written in orjson.loads(made[0].body)["batch"]:
            assert [error.message for error in validator.iter_errors(written)] == []
            body = written["body"]
            assert (body.get("promptName") is None) == (body.get("promptVersion") is None)  # mapping.md 16

    passes()


def test_ten_megabytes_ten_thousand_keys_and_deep_json_take_bounded_time() -> None:
    began = time.process_time()
    translate(span({"input.value": "x" * 10_000_000, "gen_ai.input.messages": "[" * 200_000}))
    translate(span({f"custom.{number}": number for number in range(10_000)}))
    translate(span({f"gen_ai.prompt.{number}.content": "x" for number in range(5_000)}))
    translate(span({f"llm.input_messages.{number}.message.{number}.x": "x" for number in range(5_000)}))
    translate(span({"gen_ai.prompt." + ".".join(["a"] * 3_000): "x"}))
    assert time.process_time() - began < 5


def test_a_rule_whose_keys_are_absent_is_never_asked() -> None:
    view = View(span({"a": 1}), {"a": 1}, ResourceView(Resource({})), ScopeView(Scope("app")), lambda _view: (None, None))
    asked = {step.id for _, steps in CORRECTED_INDEX.plan(view).groups for step in steps}
    looking = {rule.id for rule in by_id().values() if all(source.looks for source in rule.sets.values()) and rule.scope is None}
    assert asked & looking == set()
    assert len(asked) < 10


def test_the_memory_of_plans_is_bounded() -> None:
    for number in range(_plan.MAX_PLANS + 50):
        translate(span({f"hostile.{number}": 1}))
    assert len(CORRECTED_INDEX._plans) <= _plan.MAX_PLANS


def test_without_corrections_what_fells_the_server_is_an_error_and_with_them_an_observation() -> None:
    for attributes in ({"operation.name": 5}, {"ai.operationId": 1.5}, {"events": '{"a":1}'}, {"events": "[null]"}):
        with pytest.raises(UntranslatableError):
            translate(span(attributes), corrections=False)
        assert translate(span(attributes)).type == "span"


def test_scopes_and_resources_shared_by_a_batch_are_read_once() -> None:
    resource, scope = Resource({"service.name": "shop"}), Scope("app", "1")
    first, second = translate_all([span(resource=resource, scope=scope), span(resource=resource, scope=scope, span_id="2")])
    assert first.metadata["scope"] is second.metadata["scope"]
    assert first.metadata["resourceAttributes"] is second.metadata["resourceAttributes"]


def test_usage_of_a_call_recorded_twice_counts_once_and_says_so() -> None:
    call = {"gen_ai.operation.name": "chat", "gen_ai.response.id": "r", "gen_ai.usage.input_tokens": 3}
    outer, inner, other = translate_all(
        [
            span(call, span_id="a"),
            span(call, span_id="b", parent_span_id="a"),
            span({**call, "gen_ai.response.id": "other"}, span_id="c", parent_span_id="a"),
        ]
    )
    assert outer.usage_details == {"input": 3}
    assert inner.usage_details == {}
    assert inner.metadata["duplicate_of"] == "a"
    assert other.usage_details == {"input": 3}


def test_an_agent_keeps_usage_that_nothing_inside_it_repeats() -> None:
    attributes = {"langfuse.observation.type": "agent", "gen_ai.usage.input_tokens": 3}
    alone, other = translate_all([span(attributes, span_id="a"), span({"gen_ai.usage.input_tokens": 1}, span_id="b")])
    assert alone.usage_details == {"input": 3}
    assert other.usage_details == {"input": 1}


def test_explicit_usage_of_an_agent_is_never_taken_away() -> None:
    explicit = {"langfuse.observation.type": "agent", "langfuse.observation.usage_details": '{"input":3}'}
    agent, _ = translate_all(
        [
            span(explicit, span_id="a"),
            span({"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 3}, span_id="b", parent_span_id="a"),
        ]
    )
    assert agent.usage_details == {"input": 3}


def test_openlits_input_is_made_whole_only_where_it_is_told() -> None:
    scope = Scope("openlit.instrumentation.openai")
    told = {"gen_ai.usage.input_tokens": 10, "gen_ai.usage.cache_read.input_tokens": 4}
    assert translate(span(told, scope=scope)).usage_details == {"input": 10, "input_cached_tokens": 4}
    assert translate(span({"llm.token_count.prompt": 10}, scope=scope)).usage_details == {"input": 10}


def test_parents_in_a_circle_end() -> None:
    call = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 3, "gen_ai.response.id": "r"}
    assert len(translate_all([span(call, span_id="a", parent_span_id="b"), span(call, span_id="b", parent_span_id="a")])) == 2


def test_every_gen_ai_key_that_we_write_down_is_one_of_opentelemetrys_or_known_from_an_instrumentation() -> None:
    incubating = pytest.importorskip("opentelemetry.semconv._incubating.attributes.gen_ai_attributes")
    if not hasattr(incubating, "GEN_AI_CONVERSATION_ID"):
        pytest.skip("these conventions are older than ours")
    official = {value for name, value in vars(incubating).items() if name.startswith("GEN_AI") and isinstance(value, str)}
    ours = {
        key
        for convention in CONVENTIONS
        for rule in convention.rules
        for source in rule.sets.values()
        for key in source.keys
        if key.startswith("gen_ai.")
    }
    from_elsewhere = {
        "gen_ai.prompt",
        "gen_ai.completion",
        "gen_ai.usage.cost",
        "gen_ai.usage.raw",
        "gen_ai.request.user",
        "gen_ai.user",
        "gen_ai.cost.total_cost",
        "gen_ai.server.time_to_first_token",
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.response.time_to_first_chunk",
        "gen_ai.tool.call.arguments",
        "gen_ai.tool.call.result",
        "gen_ai.input.messages",
        "gen_ai.output.messages",
        "gen_ai.system_instructions",
    }
    assert ours - official <= from_elsewhere


segments = st.sampled_from(["role", "content", "0", "1", "3", "007", "12000", "9999999", "x", "", "__proto__", "tool_calls"])
flat_keys = st.lists(segments, min_size=1, max_size=4).map(lambda parts: "p." + ".".join(parts)) | st.sampled_from(
    ["p", "px.0.a"]
)


@given(
    st.dictionaries(flat_keys, st.text(max_size=3) | st.integers() | st.none() | st.lists(st.integers(), max_size=2), max_size=9)
)
@settings(max_examples=300, deadline=None)
def test_flat_keys_nest_alike_by_a_remembered_layout_and_one_by_one(attributes: dict[str, Any]) -> None:
    remembered = [_nested.nested_object(copy.deepcopy(attributes), "p") for _ in range(2)]
    alone = _javascript.truthy(attributes.get("p"))
    one_by_one = attributes["p"] if alone else _nested._built(copy.deepcopy(attributes), "p")[0]
    assert json.dumps(remembered) == json.dumps([one_by_one, one_by_one])


def chat(said: str) -> str:
    return json.dumps([{"role": "user", "parts": [{"type": "text", "content": said}]}])


@pytest.mark.parametrize(
    ("attributes", "wanted", "rule"),
    [
        (
            {"gen_ai.prompt.0.content": "hello", "gen_ai.input.messages": chat("hello")},
            ([{"content": "hello"}], {}),
            "genai/io/flat",
        ),
        (
            {"gen_ai.prompt.0.content": '[{"type": "text", "text": "hello"}]', "gen_ai.input.messages": chat("hello")},
            ([{"content": '[{"type": "text", "text": "hello"}]'}], {}),
            "genai/io/flat",
        ),
        (
            {"gen_ai.prompt.0.content": "hel", "gen_ai.input.messages": chat("hello")},
            (chat("hello"), None),
            "corrections/io/messages_over_flat",
        ),
        (
            {
                "gen_ai.completion.0.function_call.name": "weather",
                "gen_ai.output.messages": '[{"role": "assistant", "parts": []}]',
                "gen_ai.input.messages": chat("hello"),
            },
            (chat("hello"), [{"function_call": {"name": "weather"}}]),
            "corrections/io/messages_over_flat",
        ),
    ],
    ids=["the same", "the same as JSON", "more", "more on one side"],
)
def test_messages_are_read_beside_flat_keys_only_where_they_say_more(
    attributes: dict[str, Any], wanted: tuple[Any, Any], rule: str
) -> None:
    found = translate(span(attributes))
    assert (found.input, found.output) == wanted
    assert found.rules["io"] == rule


@pytest.mark.parametrize("name", ["user_id", "langfuse_user_id", "langfuse.user.id"])
def test_traceloops_properties_name_the_user_and_the_session(name: str) -> None:
    prefix = "traceloop.association.properties."
    found = translate(
        span({prefix + name: "ada", prefix + name.replace("user", "session"): "s-1", prefix + "plan": "pro"}, parent_span_id="2")
    )
    assert found.updates_trace
    assert (found.trace.user_id, found.trace.session_id) == ("ada", "s-1")
    assert {key: value for key, value in found.trace.metadata.items() if key != "scope"} == {
        "plan": "pro",
        "resourceAttributes": {},
    }
