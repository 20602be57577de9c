"""Writing dialects: what is written reads back, what is added changes nothing, and what we correct reaches Langfuse's server.

The properties run over every recorded request that there is: our own cases always, the shared ones where they are.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_langfuse.conventions import _javascript as js
from otel_langfuse.encode import dialect
from otel_langfuse.encode.dialect import (
    DIALECTS,
    ROWS,
    Dialect,
    corrected,
    gen_ai,
    in_dialect,
    openinference,
    speaks,
    with_dialect,
    write,
)
from otel_langfuse.encode.dialect import _corrected as corrections
from otel_langfuse.encode.dialect._counts import inclusive
from otel_langfuse.encode.dialect._json import parsed, to_json
from otel_langfuse.encode.dialect._messages import conversation
from otel_langfuse.model import OBSERVATION_TYPES, Observation, Resource, Scope, Span, SpanEvent
from otel_langfuse.spans import from_otlp
from otel_langfuse.translate import UntranslatableError, translate, translate_all

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "cases"
ORIGIN = {"attributes", "resourceAttributes", "scope"}
OF_TRACE = ("name", "user_id", "session_id", "release", "public", "tags", "input", "output")
CONTENT = {"input", "output", "trace.input", "trace.output"}
FIELDS = (
    *("type", "name", "environment", "level", "status_message", "version", "model", "model_parameters", "usage_details"),
    *("cost_details", "prompt_name", "prompt_version", "completion_start_time", "input", "output", "is_root"),
)


# -- what the properties run over --------------------------------------------------------------------------------------------


def recorded() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and OTLP request of every case."""
    for path in sorted((ROOT / "conformance" / "cases" / "translate").rglob("*.json")):
        yield path.stem, json.loads(path.read_text())["request"]
    if SHARED.is_dir():
        for path in sorted(SHARED.rglob("*.json")):
            case = json.loads(path.read_text())
            yield case["name"], case["otlp"]
        with gzip.open(SHARED / "fuzz.ndjson.gz", "rt") as lines:
            for case in map(json.loads, lines):
                yield case["name"], case["otlp"]


@cache
def batches() -> list[tuple[str, list[Span], list[Observation]]]:
    """Every case's spans, and what they say with our corrections."""
    made = []
    for name, request in recorded():
        try:
            spans = from_otlp(request)
        except ValueError:  # a request that Langfuse refuses as a whole
            continue
        made.append((name, spans, translate_all(spans)))
    return made


def is_random(name: str) -> bool:
    return name.startswith("fuzz-")


def span(attributes: Mapping[str, Any] | None = None, **changes: Any) -> Span:
    plain = Span("0" * 31 + "1", "0" * 15 + "1", None, "work", 10**18, 10**18 + 5, attributes or {}, Resource({}), Scope("app"))
    return plain._replace(**changes)


def standing_alone(observation: Observation, attributes: Mapping[str, Any]) -> Span:
    """A span that says nothing but the attributes."""
    return span(
        attributes,
        trace_id=observation.trace_id,
        span_id=observation.id,
        parent_span_id=observation.parent_id,
        name=observation.name,
    )


# -- equality of observations ------------------------------------------------------------------------------------------------


def content(value: Any) -> Any:
    """Input and output are equal as JSON: ``[]`` and its text show the same."""
    return list(value) if isinstance(value, tuple) else parsed(value)


def told(observation: Observation, *, metadata: bool = True) -> dict[str, Any]:
    """All fields; of the metadata what the user gave: the rest shows the span's attributes."""
    found: dict[str, Any] = {name: getattr(observation, name) for name in FIELDS}
    if observation.is_root or observation.updates_trace:
        found |= {f"trace.{name}": getattr(observation.trace, name) for name in OF_TRACE}
        found["trace.tags"] = list(observation.trace.tags)
    found |= {name: content(found[name]) for name in CONTENT & found.keys()}
    if metadata:
        found["metadata"] = {name: content(value) for name, value in observation.metadata.items() if name not in ORIGIN}
    return found


def differences(name: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[tuple[str, str, Any, Any]]:
    return [(name, field, value, theirs.get(field)) for field, value in ours.items() if value != theirs.get(field)]


# -- what each dialect holds -------------------------------------------------------------------------------------------------


def number_or_text(value: Any) -> Any:
    """A parameter as Langfuse keeps it, a number in text as the number."""
    if not isinstance(value, str):
        return value
    number = js.number(value) if value.strip() else None
    return js.stringify(js.parse_or_same(value)) if number is None or abs(number) > 1e308 or number != number else number


def parameters(observation: Observation, names: Mapping[str, str], but: Collection[str]) -> dict[str, Any]:
    given = observation.model_parameters
    return {
        names.get(name, name): number_or_text(value)
        for name, value in given.items()
        if value is not None and name not in but and (name not in names or names[name] not in given)
    }


def messages(observation: Observation, side: str) -> list[dict[str, Any]]:
    """Messages in the one form, system instructions first, as one text."""
    value = getattr(observation, side)
    found = conversation(value, parsed(value), "user" if side == "input" else "assistant")
    listed = [{"role": "system", "parts": found.instructions}] if found.instructions else []
    listed += found.messages
    return [
        {**message, "parts": "\n".join(part["content"] for part in message["parts"])}
        if message["role"] == "system" and all(part["type"] == "text" for part in message["parts"])
        else message
        for message in listed
    ]


def with_names_of_tools(value: Any) -> Any:
    """Content in which definitions of tools are their names: dialects write definitions in their own form."""
    if isinstance(value, dict) and isinstance(value.get("tools"), list):
        return {**value, "tools": [tool.get("function", tool).get("name") for tool in value["tools"]]}
    return value


def held_by_langfuse(observation: Observation) -> dict[str, Any]:
    held = told(observation)
    held["model_parameters"] = parameters(observation, {}, ())
    for side in ("input", "output"):
        if observation.is_root and getattr(observation.trace, side) in (None, ""):
            del held[f"trace.{side}"]  # a trace of a root has the root's content where it has none of its own
    return held


def held_by_gen_ai(observation: Observation) -> dict[str, Any]:
    kind = observation.type
    if kind not in gen_ai.OPERATIONS:
        return {}
    held: dict[str, Any] = {"parameters": parameters(observation, gen_ai.PARAMETERS, gen_ai.NO_PARAMETERS)}
    if kind not in ("retriever", "chain"):  # of these Langfuse's server does not know the operation, only we do
        held["type"] = kind
    if kind in ("generation", "embedding"):
        held["model"] = observation.model or None
    if kind != "agent":  # mapping.md 12, agent gate
        held["usage"] = {name: count for name, count in inclusive(observation.usage_details).items() if name != "cost"}
        held["cost"] = observation.cost_details.get("total") or None  # 0 is what openlit says of a model without a price
    if observation.parent_id is None:  # gen_ai.conversation.id alone does not update a trace
        held["session"] = observation.trace.session_id
    if kind == "tool":
        held["input"] = with_names_of_tools(content(observation.input)) or None
        held["output"] = content(observation.output) or None
    elif kind in ("generation", "agent", "chain"):
        held |= {side: messages(observation, side) for side in ("input", "output")}
    return held


def held_by_openinference(observation: Observation) -> dict[str, Any]:
    held: dict[str, Any] = {side: content(getattr(observation, side)) or None for side in ("input", "output")}
    if observation.type in openinference.KINDS:
        held |= {"type": observation.type, "usage": inclusive(observation.usage_details)}
        held["cost"] = observation.cost_details.get("total")
        if observation.type != "embedding":  # embedding.model_name is read by us, not by the server
            held["model"] = observation.model or None
        names_another_model = observation.model is None and "model" in observation.model_parameters
        if observation.type != "generation" or not names_another_model:
            held["parameters"] = parameters(observation, {}, ())
    if observation.parent_id is None or observation.updates_trace:
        trace = observation.trace
        held |= {"user": trace.user_id, "session": trace.session_id, "tags": list(trace.tags)}
    return held


HELD: Mapping[Dialect, Callable[[Observation], dict[str, Any]]] = {
    "langfuse": held_by_langfuse,
    "gen_ai": held_by_gen_ai,
    "openinference": held_by_openinference,
}


def reads_back(name: str, observation: Observation, read: Observation, which: Dialect) -> list[tuple[str, str, Any, Any]]:
    wanted = HELD[which](observation)
    if wanted.get("cost") is None:
        wanted.pop("cost", None)
    # What is held depends on the type and the place in the trace, which are compared by themselves.
    found = HELD[which](
        read._replace(type=observation.type, is_root=observation.is_root, updates_trace=observation.updates_trace)
    )
    if "type" in wanted:
        found["type"] = read.type
    return differences(name, wanted, found)


# -- properties over all cases -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", DIALECTS)
def test_what_is_written_reads_back_without_corrections(which: Dialect) -> None:
    lost = []
    for name, _, observations in batches():
        written = [write(observation, which) for observation in observations]
        alone = [standing_alone(*pair) for pair in zip(observations, written, strict=True)]
        for observation, attributes, read in zip(observations, written, translate_all(alone, corrections=False), strict=True):
            assert not [(name, key, value) for key, value in attributes.items() if not is_plain(value)]
            lost += reads_back(name, observation, read, which)
            if which == "langfuse" and not any(rule.startswith("batch/") for rule in observation.rules):
                assert write(read, which) == attributes, name
    assert lost == []


def is_plain(value: Any) -> bool:
    """Text, a number, a boolean, or a list of some that is not empty: what every collector takes."""
    return isinstance(value, (str, bool, int, float)) or (
        isinstance(value, list) and len(value) > 0 and all(map(is_plain, value))
    )


@pytest.mark.parametrize(("which", "deprecated"), [*((which, False) for which in DIALECTS), ("gen_ai", True)])
def test_a_span_that_gains_a_dialect_keeps_its_observation(which: Dialect, deprecated: bool) -> None:
    changed = []
    for name, spans, observations in batches():
        richer = [with_dialect(*pair, which, deprecated=deprecated) for pair in zip(spans, observations, strict=True)]
        for one, richer_one in zip(spans, richer, strict=True):
            assert all(richer_one.attributes[key] is value for key, value in one.attributes.items())
            assert (richer_one is one) == (len(richer_one.attributes) == len(one.attributes))
        for before, after in zip(observations, translate_all(richer), strict=True):
            notes = which != "gen_ai" or before.type != "agent"  # invoke_agent hides usage, so that nothing is taken away
            ours, theirs = told(before, metadata=notes), told(after, metadata=notes)
            if which == "gen_ai" and before.rules.get("io") == "genai/io/flat":  # then read as current messages: the same ones
                for side in ("input", "output"):
                    ours[side], theirs[side] = messages(before, side), messages(after, side)
                    ours.pop(f"trace.{side}", None)
            changed += differences(name, ours, theirs)
        if not is_random(name):
            assert in_dialect(spans, which, deprecated=deprecated) == richer
            again = in_dialect(richer, which, deprecated=deprecated)
            assert [one.attributes for one in again] == [one.attributes for one in richer], name
    assert changed == []


@pytest.mark.parametrize("which", DIALECTS)
def test_the_dialect_alone_reads_back_what_it_holds(which: Dialect) -> None:
    lost = []
    for name, spans, _ in batches():
        if is_random(name):  # spans of several families at once: what none of them reads stays, and is read then
            continue
        for one in spans:
            observation = translate(one)
            alone = with_dialect(one, observation, which, only=True)
            if alone is not one:
                lost += reads_back(name, observation, translate(alone), which)
    assert lost == []


def cannot_be_said(field: str, better: Observation, server: Observation) -> bool:
    """What no ``langfuse.*`` attribute can say."""
    if field in ("trace.input", "trace.output"):  # that a trace has no content although its root has some
        return not getattr(better.trace, field[6:])
    # That it is a plain span, to a server that takes an old SDK's spans with a model for generations (mapping.md 11.0).
    of_old_sdk = server.rules["type"] == "langfuse/type/old_sdk"
    return of_old_sdk and field in ("type", "prompt_name", "prompt_version")


def test_langfuses_server_reads_of_corrected_spans_what_we_read() -> None:
    worse, same = [], 0
    for name, spans, observations in batches():
        sent = corrected(spans)
        for before, after, better, server in zip(spans, sent, observations, translate_all(sent, corrections=False), strict=True):
            same += before is after
            own_scope = (before.scope.name or "").startswith("langfuse-sdk")
            ours, theirs = (told(seen, metadata=False) for seen in (better, server._replace(updates_trace=better.updates_trace)))
            lost = {
                entry: value
                for entry, value in better.metadata.items()
                if entry not in ORIGIN
                and content(server.metadata.get(entry, server.metadata.get(f"attributes.{entry}"))) != content(value)
            }
            assert lost == {} or own_scope, name
            worse += [found for found in differences(name, ours, theirs) if not cannot_be_said(found[1], better, server)]
            if own_scope:
                shown = better.metadata.get("attributes", {})
                entries = {entry.removeprefix("attributes.") for entry in server.metadata}
                assert {
                    key for key in shown if not key.startswith("langfuse.") and key not in ("user.id", "session.id")
                } <= entries
    assert worse == []
    assert same > 0


def test_a_corrected_batch_needs_no_correction() -> None:
    for name, spans, _ in batches():
        if not is_random(name):
            once = corrected(spans)
            assert [one.attributes for one in corrected(once)] == [one.attributes for one in once], name


# -- the tables --------------------------------------------------------------------------------------------------------------


def test_every_row_cites_its_source_and_no_key_is_written_twice() -> None:
    for rows in ROWS.values():
        keys = [row.key for row in rows]
        assert len(set(keys)) == len(keys)
        for row in rows:
            assert row.spec.startswith(("https://", "mapping.md"))
            assert set(row.types) <= set(OBSERVATION_TYPES)


def test_every_gen_ai_key_is_one_of_opentelemetrys_or_said_to_be_none() -> None:
    incubating = pytest.importorskip("opentelemetry.semconv._incubating.attributes.gen_ai_attributes")
    official = {value for name, value in vars(incubating).items() if name.startswith("GEN_AI") and isinstance(value, str)}
    if "gen_ai.input.messages" not in official:
        pytest.skip("conventions older than the ones that we write")
    ours = {row.key for row in gen_ai.ROWS if not row.key.endswith("*")} | {
        f"gen_ai.usage.{name}" for name in gen_ai.USAGE.values()
    }
    ours |= {f"gen_ai.request.{name}" for name in gen_ai.PARAMETERS.values()}
    of_others = {"error.type", "gen_ai.usage.cost", "gen_ai.usage.total_tokens", "gen_ai.usage.completion_details.audio"}
    assert ours - official == of_others
    assert {"gen_ai.system", "gen_ai.usage.prompt_tokens"} <= {row.key for row in gen_ai.ROWS if row.deprecated}


# -- examples ----------------------------------------------------------------------------------------------------------------

CALL = {
    "langfuse.observation.type": "generation",
    "langfuse.observation.model.name": "gpt-4o",
    "langfuse.observation.model.parameters": '{"temperature":0.5,"max_completion_tokens":9,"stop":"[\\"x\\"]"}',
    "langfuse.observation.input": '[{"role":"system","content":"terse"},{"role":"user","content":"hi"}]',
    "langfuse.observation.output": '{"role":"assistant","content":"hello"}',
    "langfuse.observation.usage_details": '{"input":10,"input_cached_tokens":4,"output":5,"output_reasoning_tokens":2}',
    "langfuse.observation.cost_details": '{"input":0.1,"output":0.2}',
    "langfuse.observation.metadata.ls_provider": '"openai"',
    "session.id": "s",
    "user.id": "u",
    "langfuse.trace.tags": ["a"],
}


def test_a_call_in_opentelemetrys_conventions() -> None:
    assert write(translate(span(CALL)), "gen_ai") == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.conversation.id": "s",
        "gen_ai.input.messages": '[{"role":"system","parts":[{"type":"text","content":"terse"}]},'
        '{"role":"user","parts":[{"type":"text","content":"hi"}]}]',
        "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"hello"}]}]',
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.stop_sequences": ["x"],
        "gen_ai.usage.input_tokens": 14,  # with what was cached, as the conventions count
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.reasoning.output_tokens": 2,
    }


def test_cached_tokens_under_a_providers_name_are_part_of_the_input() -> None:
    details = '{"input":10,"output":5,"cache_read_input_tokens":3,"input_cache_creation_5m":2}'
    found = write(translate(span({**CALL, "langfuse.observation.usage_details": details})), "gen_ai")
    assert found["gen_ai.usage.input_tokens"] == 15
    assert found["gen_ai.usage.cache_read.input_tokens"] == 3
    assert found["gen_ai.usage.cache_creation.input_tokens"] == 2


def test_deprecated_names_only_on_demand() -> None:
    observation = translate(span(CALL))
    plain, old = write(observation, "gen_ai"), write(observation, "gen_ai", deprecated=True)
    assert {key: old[key] for key in old.keys() - plain.keys()} == {
        "gen_ai.system": "openai",
        "gen_ai.usage.prompt_tokens": 14,
        "gen_ai.usage.completion_tokens": 7,
    }


def test_a_call_in_openinference() -> None:
    assert write(translate(span(CALL)), "openinference") == {
        "openinference.span.kind": "LLM",
        "llm.model_name": "gpt-4o",
        "llm.provider": "openai",
        "llm.system": "openai",
        "input.value": CALL["langfuse.observation.input"],
        "input.mime_type": "application/json",
        "output.value": CALL["langfuse.observation.output"],
        "output.mime_type": "application/json",
        "llm.input_messages.0.message.role": "system",
        "llm.input_messages.0.message.content": "terse",
        "llm.input_messages.1.message.role": "user",
        "llm.input_messages.1.message.content": "hi",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": "hello",
        "llm.invocation_parameters": '{"temperature":0.5,"max_completion_tokens":9,"stop":"[\\"x\\"]"}',
        "llm.token_count.prompt": 14,
        "llm.token_count.prompt_details.cache_read": 4,
        "llm.token_count.completion": 7,
        "llm.token_count.completion_details.reasoning": 2,
        "llm.cost.prompt": 0.1,
        "llm.cost.completion": 0.2,
        "llm.cost.total": pytest.approx(0.3),
        "session.id": "s",
        "user.id": "u",
        "tag.tags": ["a"],
        "metadata": '{"ls_provider":"\\"openai\\""}',
    }


def test_plain_spans_are_left_alone_by_gen_ai_and_get_no_kind_in_openinference() -> None:
    plain = span({"http.request.method": "GET", "model": "a car's"})
    assert in_dialect([plain], "gen_ai")[0] is plain
    assert in_dialect([plain], "openinference")[0] is plain
    with_content = span({"input": "a", "output": "b"})
    assert in_dialect([with_content], "openinference")[0].attributes == {
        **with_content.attributes,
        "input.value": "a",
        "input.mime_type": "text/plain",
        "output.value": "b",
        "output.mime_type": "text/plain",
    }


@pytest.mark.parametrize(
    ("which", "attributes", "scope"),
    [
        ("langfuse", {"langfuse.observation.type": "span"}, "app"),
        ("langfuse", {}, "langfuse-sdk.openai"),
        ("gen_ai", {"gen_ai.operation.name": "unknown"}, "app"),
        ("openinference", {"openinference.span.kind": "LLM"}, "app"),
    ],
)
def test_a_span_that_speaks_the_dialect_is_left_alone(which: Dialect, attributes: dict[str, Any], scope: str) -> None:
    one = span({**attributes, "model": "gpt-4o", "input": "x"}, scope=Scope(scope))
    assert speaks(one, which)
    assert in_dialect([one], which, only=True)[0] is one
    assert not speaks(span({"gen_ai.operation.name": "", "openinference.span.kind": 3}), which)


TOOLS = '[{"type":"function","function":{"name":"t","description":"d","parameters":{"type":"object"}}}]'


def test_tool_definitions_move_to_the_place_of_each_dialect() -> None:
    asked = span(
        {
            "gen_ai.request.model": "m",
            "llm.tools.0.tool.json_schema": TOOLS[1:-1],
            "input.value": '[{"role":"user","content":"x"}]',
        }
    )
    observation = translate(asked)
    # Beside the attribute that Langfuse takes it from, in its own form; alone, in the conventions'.
    assert with_dialect(asked, observation, "gen_ai").attributes["gen_ai.tool.definitions"] == TOOLS
    assert json.loads(str(write(observation, "gen_ai")["gen_ai.tool.definitions"])) == [
        {"type": "function", "name": "t", "description": "d", "parameters": {"type": "object"}}
    ]
    assert write(observation, "openinference")["llm.tools.0.tool.json_schema"] == TOOLS[1:-1]


def test_an_agent_whose_usage_langfuse_would_hide_gets_no_operation() -> None:
    hidden = span({"openinference.span.kind": "AGENT", "llm.token_count.prompt": 3})
    bare = span({"openinference.span.kind": "AGENT"})
    assert "gen_ai.operation.name" not in in_dialect([hidden], "gen_ai")[0].attributes
    assert in_dialect([bare], "gen_ai")[0].attributes["gen_ai.operation.name"] == "invoke_agent"


def test_a_tool_keeps_the_name_of_its_span() -> None:
    other = span({"openinference.span.kind": "TOOL", "tool.name": "get_weather"}, name="get_weather.run")
    same = span({"openinference.span.kind": "TOOL", "tool.name": "get_weather"}, name="get_weather")
    assert "gen_ai.tool.name" not in in_dialect([other], "gen_ai")[0].attributes
    assert in_dialect([same], "gen_ai")[0].attributes["gen_ai.tool.name"] == "get_weather"
    assert write(translate(other), "gen_ai")["gen_ai.tool.name"] == "get_weather"


def test_the_dialect_alone_leaves_what_is_no_llms_and_what_it_cannot_say() -> None:
    one = span(
        {
            "http.request.method": "POST",
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "m",
            "gen_ai.request.temperature": 0.5,
            "gen_ai.input.messages": '[{"role":"user","parts":[]}]',
            "gen_ai.usage.input_tokens": 1,
            "gen_ai.response.id": "r",
            "gen_ai.conversation.id": "s",
            "langfuse.observation.level": "WARNING",
        }
    )
    alone = in_dialect([one], "openinference", only=True)[0].attributes
    assert {key for key in alone if key in one.attributes} == {
        *("http.request.method", "gen_ai.response.id", "gen_ai.conversation.id", "langfuse.observation.level")
    }
    assert alone["llm.token_count.prompt"] == 1


ASKED = {"gen_ai.request.model": "m", "gen_ai.input.messages": '[{"role":"user","parts":[]}]'}
AI = Scope("ai")


@pytest.mark.parametrize(
    ("which", "one", "left_out"),
    [
        pytest.param(
            "gen_ai",
            span({"openinference.span.kind": "LLM", "gen_ai.tool.name": "t"}),
            "gen_ai.operation.name",
            id="an operation that says that the name is not the tool's",
        ),
        pytest.param(
            "gen_ai",
            span({"openinference.span.kind": "LLM", "gen_ai.request.max_completion_tokens": 5}),
            "gen_ai.request.max_tokens",
            id="a parameter under two names",
        ),
        pytest.param(
            "gen_ai",
            span(
                {"ai.operationId": "ai.generateText.doGenerate", "ai.model.id": "m", "ai.response.finishReason": "stop"}, scope=AI
            ),
            "gen_ai.response.finish_reasons",
            id="what Vercel's scope takes for a parameter",
        ),
        pytest.param(
            "gen_ai",
            span(
                {"gen_ai.request.model": "m", "llm.token_count.prompt": 5, "llm.token_count.prompt_details.cache_read": 2},
                scope=Scope("openlit.x"),
            ),
            "gen_ai.usage.cache_read.input_tokens",
            id="counts in openlit's scope",
        ),
        pytest.param(
            "gen_ai",
            span({"gen_ai.request.model": "m", "gen_ai.system_instructions": "be terse"}),
            "gen_ai.input.messages",
            id="messages beside instructions that are read alone",
        ),
        pytest.param(
            "gen_ai",
            span({"agent_name": "a", "llm.model_name": "m"}, scope=Scope("logfire")),
            "gen_ai.request.model",
            id="a model that would make an agent a call",
        ),
        pytest.param(
            "gen_ai", span({"openinference.span.kind": "LLM", "llm.cost.total": 0.0}), "gen_ai.usage.cost", id="no cost"
        ),
        pytest.param(
            "gen_ai",
            span({"openinference.span.kind": "LLM", "llm.token_count.cost": 0.5}),
            "gen_ai.usage.cost",
            id="a count called cost",
        ),
        pytest.param(
            "gen_ai",
            span({"openinference.span.kind": "LLM", "llm.invocation_parameters": '{"user":"u"}'}),
            "gen_ai.request.user",
            id="a parameter that would become the user",
        ),
        pytest.param(
            "openinference",
            span({"gen_ai.operation.name": "chat", "llm.invocation_parameters": '{"model":"m"}'}),
            "openinference.span.kind",
            id="a kind that would find a model",
        ),
        pytest.param(
            "openinference",
            span({"gen_ai.operation.name": "chat", "model_config": '{"model":"m"}'}),
            "llm.invocation_parameters",
            id="parameters that would be found a model in",
        ),
        pytest.param("openinference", span({**ASKED, "output.value": ""}), "input.value", id="one side beside an empty other"),
        pytest.param(
            "openinference",
            span({**ASKED, "input.value": ""}),
            "llm.input_messages.0.message.role",
            id="messages beside an empty value",
        ),
        pytest.param(
            "openinference",
            span({"gen_ai.request.model": "m", "llm.input_messages.0.message.content": "x"}),
            "llm.input_messages.0.message.role",
            id="items of a list that is there",
        ),
        pytest.param(
            "openinference",
            span({"gen_ai.request.model": "m", "input.value": '{"messages":[],"tools":[{"name":"t","a":1},{"name":"t","b":2}]}'}),
            "llm.tools.0.tool.json_schema",
            id="tools of one name",
        ),
        pytest.param(
            "openinference",
            span({**ASKED, "gen_ai.tool.definitions": TOOLS}),
            "langfuse.trace.input",
            id="tools in the content of a root",
        ),
        pytest.param("langfuse", span({"session.id": "s"}, parent_span_id="p"), "langfuse.trace.metadata", id="a second update"),
        pytest.param(
            "langfuse",
            span({"langfuse.trace.input": "x", "output": "y"}),
            "langfuse.observation.output",
            id="a side of the trace",
        ),
    ],
)
def test_what_would_change_langfuses_reading_is_left_out(which: Dialect, one: Span, left_out: str) -> None:
    observation = translate(one)
    richer = with_dialect(one, observation, which)
    assert left_out not in richer.attributes
    assert told(translate(richer)) == told(observation)


def test_metadata_that_would_be_read_as_something_else_stays_inside_its_object() -> None:
    observation = translate(span({"langfuse.observation.metadata": '{"langfuse_user_id":"x","k":1}'}))
    attributes = write(observation, "langfuse")
    assert attributes["langfuse.observation.metadata"] == '{"langfuse_user_id":"x"}'
    assert translate(standing_alone(observation, attributes)).trace.user_id is None


def test_an_update_of_a_trace_stays_one() -> None:
    observation = translate(span({"langfuse.trace.metadata": "{}"}, parent_span_id="p"))
    assert observation.updates_trace
    assert translate(standing_alone(observation, write(observation, "langfuse"))).updates_trace


def test_the_dialect_alone_keeps_an_operation_that_hides_usage_and_moves_tools() -> None:
    agent = span({"gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 1})
    assert in_dialect([agent], "openinference", only=True)[0].attributes["gen_ai.operation.name"] == "invoke_agent"
    asked = span({**ASKED, "gen_ai.operation.name": "chat", "gen_ai.tool.definitions": TOOLS})
    alone = in_dialect([asked], "openinference", only=True)[0].attributes
    assert "gen_ai.tool.definitions" not in alone
    assert "llm.tools.0.tool.json_schema" in alone


def test_an_error_has_a_type() -> None:
    failed = {"gen_ai.request.model": "m"}
    event = SpanEvent("exception", 1, {"exception.type": "ValueError", "exception.message": "x"})
    assert in_dialect([span(failed, status_code=2, events=(event,))], "gen_ai")[0].attributes["error.type"] == "ValueError"
    told_why = span(failed, status_code=2, status_message="too many requests")
    assert in_dialect([told_why], "gen_ai")[0].attributes["error.type"] == "_OTHER"
    silent = in_dialect([span(failed, status_code=2)], "gen_ai")[0]
    assert "error.type" not in silent.attributes  # it would become the message
    assert "error.type" not in in_dialect([span(failed)], "gen_ai")[0].attributes


def test_documents_and_texts_of_embeddings() -> None:
    documents = '[{"page_content":"a","id":"1","score":0.5,"metadata":{"k":1}},{"page_content":"b"}]'
    found = write(
        translate(span({"openinference.span.kind": "RETRIEVER", "input.value": "q", "output.value": documents})), "openinference"
    )
    assert {key: value for key, value in found.items() if key.startswith("retrieval.")} == {
        "retrieval.documents.0.document.content": "a",
        "retrieval.documents.0.document.id": "1",
        "retrieval.documents.0.document.score": 0.5,
        "retrieval.documents.0.document.metadata": '{"k":1}',
        "retrieval.documents.1.document.content": "b",
    }
    retrieved = write(
        translate(span({"openinference.span.kind": "RETRIEVER", "input.value": "q", "output.value": documents})), "gen_ai"
    )
    assert retrieved["gen_ai.retrieval.query.text"] == "q"
    embedded = write(translate(span({"openinference.span.kind": "EMBEDDING", "input.value": '["a","b"]'})), "openinference")
    assert [embedded[f"embedding.embeddings.{place}.embedding.text"] for place in (0, 1)] == ["a", "b"]


def text(said_by: str, said: str) -> dict[str, Any]:
    return {"role": said_by, "parts": [{"type": "text", "content": said}]}


def calls(identifier: str | None, name: str, arguments: Any) -> dict[str, Any]:
    return {"type": "tool_call", "id": identifier, "name": name, "arguments": arguments}


def answers(identifier: str | None, response: Any) -> dict[str, Any]:
    return {"type": "tool_call_response", "id": identifier, "response": response}


@pytest.mark.parametrize(
    ("given_content", "wanted"),
    [
        pytest.param("hi", [text("user", "hi")], id="text"),
        pytest.param('{"q":1}', [text("user", '{"q":1}')], id="anything else"),
        pytest.param({}, [], id="nothing"),
        pytest.param([text("user", "hi")], [text("user", "hi")], id="the conventions'"),
        pytest.param(
            {
                "model": "m",
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "http://x/y.png"}}],
                    },
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}],
                    },
                    {"role": "tool", "tool_call_id": "1", "content": "42"},
                ],
            },
            [
                {
                    "role": "user",
                    "parts": [{"type": "text", "content": "a"}, {"type": "uri", "modality": "image", "uri": "http://x/y.png"}],
                },
                {"role": "assistant", "parts": [calls("1", "f", {"a": 1})]},
                {"role": "tool", "parts": [answers("1", "42")]},
            ],
            id="OpenAI, chat",
        ),
        pytest.param(
            {
                "model": "m",
                "instructions": "be terse",
                "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
            },
            [text("system", "be terse"), text("user", "hi")],
            id="OpenAI, responses",
        ),
        pytest.param(
            {
                "system": [{"type": "text", "text": "be terse"}],
                "messages": [
                    {
                        "role": "assistant",
                        "content": [
                            {"type": "thinking", "thinking": "hm"},
                            {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}},
                        ],
                    },
                    {
                        "role": "user",
                        "content": [{"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "42"}]}],
                    },
                    {
                        "role": "user",
                        "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}],
                    },
                ],
            },
            [
                text("system", "be terse"),
                {"role": "assistant", "parts": [{"type": "reasoning", "content": "hm"}, calls("1", "f", {"a": 1})]},
                {"role": "user", "parts": [answers("1", "42")]},
                {"role": "user", "parts": [{"type": "blob", "modality": "image", "mime_type": "image/png", "content": "AA=="}]},
            ],
            id="Anthropic",
        ),
        pytest.param(
            {
                "contents": [
                    {"role": "user", "parts": [{"text": "hi"}]},
                    {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"a": 1}}}]},
                    {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"b": 2}}}]},
                ],
                "config": {"system_instruction": {"parts": [{"text": "be terse"}]}},
            },
            [
                text("system", "be terse"),
                text("user", "hi"),
                {"role": "assistant", "parts": [calls(None, "f", {"a": 1})]},
                {"role": "user", "parts": [answers(None, {"b": 2})]},
            ],
            id="Google",
        ),
        pytest.param(
            [
                {"role": "user", "content": '[{"text": "hi"}]'},
                {"role": "assistant", "content": [{"toolUse": {"toolUseId": "1", "name": "f", "input": {}}}]},
                {"role": "user", "content": [{"toolResult": {"toolUseId": "1", "content": [{"text": "42"}]}}]},
            ],
            [
                text("user", "hi"),
                {"role": "assistant", "parts": [calls("1", "f", {})]},
                {"role": "user", "parts": [answers("1", "42")]},
            ],
            id="Bedrock, strands",
        ),
        pytest.param(
            {
                "messages": [
                    [
                        {
                            "lc": 1,
                            "type": "constructor",
                            "id": ["langchain", "HumanMessage"],
                            "kwargs": {"content": "hi", "type": "human"},
                        }
                    ]
                ]
            },
            [text("user", "hi")],
            id="LangChain, serialized",
        ),
        pytest.param(
            {
                "messages": [
                    {"type": "ai", "content": "", "tool_calls": [{"name": "f", "args": {"a": 1}, "id": "1", "type": "tool_call"}]}
                ]
            },
            [{"role": "assistant", "parts": [calls("1", "f", {"a": 1})]}],
            id="LangChain, messages",
        ),
        pytest.param(
            [
                {
                    "type": "ai",
                    "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}],
                    "tool_calls": [{"name": "f", "args": {}, "id": "1"}],
                }
            ],
            [{"role": "assistant", "parts": [calls("1", "f", {})]}],
            id="LangChain, a call told twice",
        ),
        pytest.param(
            [
                {
                    "message": {
                        "role": "user",
                        "contents": [
                            {"message_content": {"type": "text", "text": "a"}},
                            {"message_content": {"type": "image", "image": {"image": {"url": "data:image/png;base64,AA=="}}}},
                        ],
                    }
                }
            ],
            [
                {
                    "role": "user",
                    "parts": [
                        {"type": "text", "content": "a"},
                        {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "AA=="},
                    ],
                }
            ],
            id="OpenInference, flattened",
        ),
        pytest.param(
            [{"role": "assistant", "content": "x", "tool_calls": [{"id": "1", "name": "f", "arguments": '{"a":1}'}]}],
            [{"role": "assistant", "parts": [{"type": "text", "content": "x"}, calls("1", "f", {"a": 1})]}],
            id="Traceloop, flattened",
        ),
        pytest.param(
            [{"role": "user", "content": [{"type": "tool-call", "toolCallId": "1", "toolName": "f", "args": {}}]}],
            [{"role": "user", "parts": [calls("1", "f", {})]}],
            id="Vercel",
        ),
        pytest.param(
            [
                {
                    "role": "model",
                    "content": [{"toolRequest": {"ref": "1", "name": "f", "input": {}}}, {"media": {"url": "http://x"}}],
                }
            ],
            [{"role": "assistant", "parts": [calls("1", "f", {}), {"type": "uri", "modality": "image", "uri": "http://x"}]}],
            id="Genkit",
        ),
    ],
)
def test_input_of_every_family_becomes_messages(given_content: Any, wanted: list[dict[str, Any]]) -> None:
    for value in (given_content, given_content if isinstance(given_content, str) else json.dumps(given_content)):
        found = conversation(value, parsed(value), "user")
        system = [{"role": "system", "parts": found.instructions}] if found.instructions else []
        assert system + found.messages == wanted


@pytest.mark.parametrize(
    ("given_content", "wanted"),
    [
        pytest.param(
            {
                "choices": [
                    {
                        "finish_reason": "tool_calls",
                        "message": {
                            "role": "assistant",
                            "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}],
                        },
                    }
                ]
            },
            [{"role": "assistant", "parts": [calls("1", "f", {})], "finish_reason": "tool_call"}],
            id="OpenAI, chat",
        ),
        pytest.param(
            {"choices": [{"text": "x", "finish_reason": "stop"}]},
            [{**text("assistant", "x"), "finish_reason": "stop"}],
            id="completions",
        ),
        pytest.param(
            {
                "object": "response",
                "output": [
                    {"type": "reasoning", "summary": [{"text": "hm"}]},
                    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x"}]},
                    {"type": "function_call", "id": "fc", "call_id": "1", "name": "f", "arguments": "{}"},
                ],
            },
            [
                {
                    "role": "assistant",
                    "parts": [{"type": "reasoning", "content": "hm"}, {"type": "text", "content": "x"}, calls("1", "f", {})],
                }
            ],
            id="OpenAI, responses",
        ),
        pytest.param(
            {
                "role": "assistant",
                "content": [{"type": "text", "text": "x"}],
                "stop_reason": "end_turn",
                "id": "msg",
                "model": "m",
            },
            [{**text("assistant", "x"), "finish_reason": "stop"}],
            id="Anthropic",
        ),
        pytest.param(
            {"candidates": [{"content": {"role": "model", "parts": [{"text": "x"}]}, "finish_reason": "STOP"}]},
            [{**text("assistant", "x"), "finish_reason": "stop"}],
            id="Google",
        ),
        pytest.param(
            {"generations": [[{"text": "x", "generation_info": {"finish_reason": "length"}}]]},
            [{**text("assistant", "x"), "finish_reason": "length"}],
            id="LangChain",
        ),
        pytest.param(
            {"finish_reason": "end_turn", "message": '[{"text": "x"}]'},
            [{**text("assistant", "x"), "finish_reason": "stop"}],
            id="strands",
        ),
        pytest.param(
            {"output": "x", "score": 1}, [text("assistant", '{"output":"x","score":1}')], id="a user's own: nothing is lost"
        ),
    ],
)
def test_output_of_every_family_becomes_messages(given_content: Any, wanted: list[dict[str, Any]]) -> None:
    assert conversation(given_content, parsed(given_content), "assistant").messages == wanted


# -- corrections for Langfuse's server ---------------------------------------------------------------------------------------


def added(before: Span, after: Span) -> dict[str, Any]:
    return {key: value for key, value in after.attributes.items() if before.attributes.get(key) != value}


def test_a_span_without_corrections_goes_as_it_is() -> None:
    fine = [
        span({}),
        span({"http.request.method": "GET", "http.response.status_code": 200, "a": 0.5, "b": ("x", "y")}),
        span({"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 1}),
        span({"langfuse.observation.type": "tool", "langfuse.observation.input": "x", "langfuse.trace.tags": ("a",)}),
        span({"events": '[{"event.name":"gen_ai.choice"}]', "langfuse.observation.cost_details": '{"total":0.1}'}),
        span({"langfuse.observation.prompt.name": "p", "langfuse.observation.prompt.version": 2}),
        span({"langfuse.observation.completion_start_time": "2026-01-01T00:00:00Z", "langfuse.trace.name": "t"}),
    ]
    assert all(before is after for before, after in zip(fine, corrected(fine), strict=True))


EXCEPTION = SpanEvent("exception", 1, {"exception.type": "E", "exception.message": "x"})


@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        pytest.param(span({"traceloop.span.kind": "workflow"}), {"langfuse.observation.type": "chain"}, id="type"),
        pytest.param(
            span(events=(EXCEPTION,)),
            {"langfuse.observation.level": "ERROR", "langfuse.observation.status_message": "E: x"},
            id="level and status message",
        ),
        pytest.param(
            span({"mlflow.spanInputs": '"a"', "mlflow.spanOutputs": '"b"'}),
            {"langfuse.observation.input": "a", "langfuse.observation.output": "b"},
            id="both sides of the content",
        ),
        pytest.param(
            span({"embedding.model_name": "e"}),
            {"langfuse.observation.model.name": "e", "langfuse.observation.type": "span"},
            id="a model, and the type that it would change",
        ),
        pytest.param(
            span({"mlflow.chat.tokenUsage": '{"input_tokens":3}'}),
            {"langfuse.observation.usage_details": '{"input":3}'},
            id="usage",
        ),
        pytest.param(span({"llm.user": "u"}, parent_span_id="p"), {"user.id": "u"}, id="user"),
        pytest.param(
            span({"traceloop.association.properties.session_id": "x", "gen_ai.conversation.id": "c"}, parent_span_id="p"),
            {"session.id": "c"},
            id="a session that updates the trace only with corrections",
        ),
        pytest.param(span(resource=Resource({"service.version": 2})), {"langfuse.version": "2"}, id="version"),
        pytest.param(span(name="n" * 1_001), {"langfuse.trace.name": "n" * 1_000}, id="trace name"),
        pytest.param(span({"langfuse.trace.tags": ()}), {"langfuse.trace.tags": "[]"}, id="empty list"),
        pytest.param(
            span({"langfuse.observation.input": {"a": b"x"}}),
            {"langfuse.observation.input": '{"a":"eA=="}'},
            id="mapping and bytes",
        ),
        pytest.param(span({"genkit:name": 5}), {"genkit:name": "5"}, id="name"),
        pytest.param(span({"operation.name": 5}), {"operation.name": "5"}, id="what fails the whole request"),
        pytest.param(
            span({"events": '{"a":1}'}),
            {"langfuse.observation.metadata.events": '{"a":1}'},
            id="events that fail the whole request",
        ),
        pytest.param(
            span({"langfuse.observation.cost_details": '{"total":"0.5"}'}),
            {"langfuse.observation.cost_details": '{"total":0.5}'},
            id="cost",
        ),
        pytest.param(
            span({"langfuse.observation.completion_start_time": "2026-01-31"}),
            {
                "langfuse.observation.completion_start_time": "2026-01-31T00:00:00.000Z",
                "langfuse.observation.metadata.unusable_completion_start_time": "2026-01-31",
            },
            id="completion start",
        ),
        pytest.param(
            span({"langfuse.observation.type": "generation", "langfuse.observation.prompt.name": "p"}),
            {"langfuse.observation.metadata.unusable_prompt_name": "p"},
            id="prompt without version",
        ),
        pytest.param(
            span({"order": 7, "tools": "x", "langfuse_user_id": "no user"}, scope=Scope("langfuse-sdk")),
            {
                "langfuse.observation.metadata.order": 7,
                "langfuse.observation.metadata.attributes.tools": "x",
                "langfuse.observation.metadata.attributes.langfuse_user_id": "no user",
            },
            id="what Langfuse drops of its own scopes",
        ),
    ],
)
def test_a_correction_is_written_and_nothing_else(before: Span, wanted: dict[str, Any]) -> None:
    after = corrected([before])[0]
    assert added(before, after) == wanted
    assert translate(after, corrections=False).type == translate(before).type


def test_what_cannot_be_said_by_adding_is_taken_away() -> None:
    for key, rest in (
        ("langfuse.observation.prompt.name", {"langfuse.observation.metadata.unusable_prompt_name": "p"}),
        (
            "langfuse.observation.completion_start_time",
            {"langfuse.observation.metadata.unusable_completion_start_time": "2026/01/31"},
        ),
    ):
        value = next(iter(rest.values()))
        one = span({"langfuse.observation.type": "generation", key: value})
        assert corrected([one])[0].attributes == {"langfuse.observation.type": "generation", **rest}


def test_tokens_that_a_batch_would_count_twice_are_taken_from_one() -> None:
    call = {"gen_ai.operation.name": "chat", "gen_ai.response.id": "r", "gen_ai.usage.input_tokens": 3, "gen_ai.usage.cost": 0.1}
    outer, between, inner = spans = [
        span(call, span_id="a"),
        span({}, span_id="b", parent_span_id="a"),
        span(call, span_id="c", parent_span_id="b"),
    ]
    first, second, third = corrected(spans)
    assert first is outer
    assert second is between
    assert added(inner, third) == {
        "langfuse.observation.usage_details": "{}",
        "langfuse.observation.cost_details": "{}",
        "langfuse.observation.metadata.duplicate_of": "a",
        "langfuse.observation.metadata.usage_not_counted": '{"input":3}',
    }
    assert [seen.usage_details for seen in translate_all([first, second, third], corrections=False)] == [{"input": 3}, {}, {}]


def test_one_response_told_by_siblings_counts_once() -> None:
    call = {"gen_ai.operation.name": "chat", "gen_ai.response.id": "r", "gen_ai.usage.input_tokens": 3}
    first, second = corrected([span(call, span_id="a", parent_span_id="p"), span(call, span_id="b", parent_span_id="p")])
    assert [seen.usage_details for seen in translate_all([first, second], corrections=False)] == [{"input": 3}, {}]


def test_other_families_metadata_is_langfuses_on_the_observation_and_on_the_trace_that_it_updates() -> None:
    one = span({"traceloop.association.properties.k": "v"}, parent_span_id="p")
    update = one._replace(attributes={**one.attributes, "session.id": "s"})
    assert added(one, corrected([one])[0]) == {"langfuse.observation.metadata.k": "v"}
    assert added(update, corrected([update])[0]) == {"langfuse.observation.metadata.k": "v", "langfuse.trace.metadata.k": "v"}


def test_tools_that_the_server_does_not_see_are_put_into_the_input() -> None:
    asked = '[{"role":"user","content":"x"}]'
    one = span({"langfuse.observation.input": asked, "gen_ai.tool.definitions": TOOLS}, scope=Scope("langfuse-sdk"))
    seen = translate(corrected([one])[0], corrections=False)
    assert json.loads(seen.input) == {"messages": json.loads(asked), "tools": json.loads(TOOLS)}
    assert seen.trace.input == asked


def test_tools_that_the_server_moves_by_itself_are_not_put_into_the_input() -> None:
    one = span({"mlflow.spanOutputs": '"b"', "gen_ai.tool.definitions": TOOLS})
    after = corrected([one])[0]
    assert added(one, after) == {"langfuse.observation.output": "b"}
    assert translate(after, corrections=False).trace == translate(one).trace


def test_an_agent_that_repeats_the_usage_of_a_call_further_inside_gives_it_up() -> None:
    agent = span({"openinference.span.kind": "AGENT", "llm.token_count.prompt": 3}, span_id="a")
    between = span({}, span_id="b", parent_span_id="a")
    call = span({"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 3}, span_id="c", parent_span_id="b")
    sent = corrected([call, between, agent])
    assert [seen.usage_details for seen in translate_all(sent, corrections=False)] == [{"input": 3}, {}, {}]


def test_usage_that_the_server_hides_anyway_is_not_written() -> None:
    raw = '{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}'
    agent = span({"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.raw": raw})
    assert corrected([agent])[0] is agent


def test_calls_that_only_share_a_trace_are_not_even_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corrections, "translate_all", None)
    call = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 3}
    siblings = [span(call, span_id=str(number), parent_span_id="root") for number in range(5)]
    assert corrected([*siblings, span({}, span_id="root")])[0] is siblings[0]


def test_the_memory_of_looks_is_bounded() -> None:
    for number in range(corrections.MAX_LOOKS + 50):
        corrected([span({f"hostile.{number}": 1})])
    assert len(corrections._looks) <= corrections.MAX_LOOKS


def test_a_batch_that_fells_the_server_does_not_once_it_is_corrected() -> None:
    killers = (
        {"operation.name": 5},
        {"ai.operationId": 1.5},
        {"events": '{"a":1}'},
        {"events": "[null]"},
        {"events": (None, "x")},
    )
    sent = corrected([span(attributes) for attributes in killers])
    assert len(translate_all(sent, corrections=False)) == len(killers)


# -- hostile content ---------------------------------------------------------------------------------------------------------

WORDS = (
    *(
        "role",
        "content",
        "parts",
        "contents",
        "type",
        "text",
        "message",
        "messages",
        "tool_calls",
        "tool_call",
        "function",
        "name",
    ),
    *(
        "arguments",
        "args",
        "id",
        "kwargs",
        "lc",
        "data",
        "finish_reason",
        "choices",
        "candidates",
        "generations",
        "output",
        "input",
    ),
    *("inputs", "prompt", "tools", "system", "instructions", "message_content", "image", "image_url", "source", "url", "toolUse"),
    *(
        "toolResult",
        "functionCall",
        "functionResponse",
        "inlineData",
        "thought",
        "reasoning",
        "summary",
        "call_id",
        "tool_call_id",
    ),
    *("response", "result", "toolCallId", "toolName", "media", "documents", "page_content", "score", "metadata"),
)
VALUES = (
    *("user", "assistant", "tool", "model", "human", "text", "tool_use", "tool_result", "image", "image_url", "function_call"),
    *(
        "function_call_output",
        "reasoning",
        "hi",
        "data:image/png;base64,AA",
        '{"a":1}',
        '[{"text":"x"}]',
        "\ud800",
        "[[[",
        "1e400",
    ),
)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(VALUES) | st.text(max_size=5)
contents = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5),
    max_leaves=20,
)
KEYS = (
    *sorted({row.key.replace("*", "x").replace("N", "0.x") for rows in ROWS.values() for row in rows}),
    *("model", "events", "tool.name", "langfuse.observation.metadata.langfuse_tags", "agent_name", "llm.user", "mlflow.spanType"),
    *("operation.name", "ai.operationId", "genkit:name", "gen_ai.tool.definitions", "retrieval.documents", "__proto__"),
)
values = contents | st.binary(max_size=3) | st.lists(leaves, max_size=3).map(tuple) | contents.map(to_json)
attribute_sets = st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), values, max_size=9)
scopes = st.sampled_from(["", "ai", "genkit-tracer", "pydantic-ai", "langfuse-sdk", "openinference.instrumentation.openai"])


@given(attribute_sets, scopes, st.booleans(), st.sampled_from(OBSERVATION_TYPES))
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_content_makes_writing_fail(attributes: dict[str, Any], scope: str, is_root: bool, kind: str) -> None:
    one = span(attributes, scope=Scope(scope), parent_span_id=None if is_root else "p", events=(EXCEPTION,))
    observation = translate(one)._replace(type=kind)
    for which in DIALECTS:
        assert all(value is not None for value in write(observation, which, deprecated=True).values())
        with_dialect(one, observation, which)
        with_dialect(one, observation, which, only=True, deprecated=True)
    sent = corrected([one, one._replace(span_id="other", parent_span_id=one.span_id)])
    try:
        translate_all(sent, corrections=False)
    except UntranslatableError:
        pytest.fail("the server would drop the whole request")


@given(contents, st.sampled_from(["user", "assistant"]))
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_messages_have_the_conventions_form_and_reading_them_again_changes_nothing(value: Any, role: str) -> None:
    found = conversation(value, parsed(value), role)
    for message in found.messages:
        assert isinstance(message["role"], str)
        for part in message["parts"]:
            assert isinstance(part["type"], str)
            assert part["type"] != "text" or isinstance(part["content"], str)
            assert part["type"] != "tool_call" or isinstance(part["name"], str)
        for flat in openinference._flat_messages(message):
            assert all(isinstance(item, str) for item in flat.values())
    if found.messages:
        as_json = to_json(found.messages)
        assert conversation(as_json, parsed(as_json), role).messages == json.loads(as_json)


def test_huge_and_deep_content_takes_bounded_time() -> None:
    began = time.process_time()
    deep = "[" * 900 + "]" * 900
    for value in (
        "x" * 5_000_000,
        deep,
        '{"content":' * 400 + "1" + "}" * 400,
        to_json([{"role": "user", "content": "x"}] * 5_000),
        to_json({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}] * 5_000}]}),
        '[{"message_content":' + '{"message_content":' * 900 + "1" + "}" * 900 + "}]",
        '{"inputs":' * 900 + "1" + "}" * 900,
        '[{"type":"tool_result","content":' * 300 + "1" + "}]" * 300,
    ):
        one = span({"gen_ai.request.model": "m", "input.value": value, "output.value": value})
        observation = translate(one)
        for which in DIALECTS:
            write(observation, which)
            translate(with_dialect(one, observation, which))
        corrected([one])
    many = span({f"k.{number}": number for number in range(10_000)})
    corrected([many])
    for which in DIALECTS:
        in_dialect([many], which)
    assert time.process_time() - began < 10
    flattened = write(
        translate(span({"gen_ai.request.model": "m", "input.value": to_json([{"role": "user", "content": "x"}] * 600)})),
        "openinference",
    )
    assert sum(key.endswith(".message.role") for key in flattened) == openinference.MAX_ITEMS


def test_content_that_is_too_deep_to_compare_is_not_the_same() -> None:
    deep = "[" * 990 + "]" * 990
    one = span({"langfuse.observation.input": deep, "langfuse.trace.input": deep + " "})
    assert write(translate(one), "langfuse")["langfuse.observation.input"] == deep


def test_a_long_chain_of_spans_takes_bounded_time() -> None:
    call = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 3}
    chain = [span(call if number % 2 else {}, span_id=str(number), parent_span_id=str(number - 1)) for number in range(1_000)]
    began = time.process_time()
    assert len(corrected(chain)) == len(chain)
    assert time.process_time() - began < 5


def test_the_module_names_its_dialects() -> None:
    assert set(dialect.ROWS) == set(DIALECTS) == {"langfuse", "gen_ai", "openinference"}
