"""What a dialect remembers of the spans before one changes nothing of what it says of it, and is bounded."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_langfuse.encode import dialect
from otel_langfuse.encode.dialect import DIALECTS, Dialect, _rows, with_dialect
from otel_langfuse.model import Resource, Scope, Span
from otel_langfuse.translate import translate

RESOURCE = Resource({"service.name": "shop"})
MESSAGES = [
    json.dumps([{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]),
    json.dumps([{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi", "name": "Ann"}]),
    json.dumps({"messages": [{"role": "assistant", "content": "x" * 100, "finish_reason": "stop"}]}),
    json.dumps({"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}),
    '{"tools": [{"name": "t"}], "messages": [{"role": "user", "content": "[1]"}]}',
    *("plain", "", "[]", "{", '["a"]', "0"),
]
NUMBERS: list[Any] = [0, 1, True, 1.0, 0.0, -0.0, 2**53, 0.7, "1", "x", "", float("nan")]
VALUES: dict[str, list[Any]] = {
    **dict.fromkeys(("langfuse.observation.input", "langfuse.observation.output", "input.value", "output.value"), MESSAGES),
    **dict.fromkeys(("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.prompt", "gen_ai.completion"), MESSAGES),
    **dict.fromkeys(("gen_ai.request.temperature", "gen_ai.request.seed", "gen_ai.usage.input_tokens"), NUMBERS),
    **dict.fromkeys(("gen_ai.usage.output_tokens", "gen_ai.usage.cost", "llm.token_count.total", "llm.cost.total"), NUMBERS),
    "gen_ai.operation.name": ["chat", "execute_tool", "invoke_agent", "embeddings", ""],
    "gen_ai.request.model": ["gpt-4o", "gpt-4", ""],
    "gen_ai.provider.name": ["openai", "azure", "Mistral"],
    "gen_ai.system": ["openai", "vertexai"],
    "gen_ai.tool.name": ["search", ""],
    "gen_ai.request.stop_sequences": [("a", "b"), ("a",), (), "a"],
    "gen_ai.response.finish_reasons": [("stop",), ("length", "stop")],
    "langfuse.observation.type": ["generation", "tool", "agent", "retriever", "span"],
    "langfuse.observation.model.parameters": ['{"a": 1}', '{"a": 1.0}', '{"b": 1, "a": 2}', '{"a": 2, "b": 1}', '{"model": "m"}'],
    "langfuse.observation.usage_details": ['{"input": 1}', '{"input": 1, "output": 2}', '{"prompt_tokens": 3}', '{"input": "1"}'],
    "langfuse.observation.cost_details": ['{"total": 0.5}', '{"input": 0.1, "output": 0.2}', "{}"],
    "langfuse.observation.metadata": ['{"a": 1}', '{"b": [1, true]}'],
    "langfuse.trace.tags": [("a", "b"), ("b", "a"), ("a",)],
    "llm.invocation_parameters": ['{"model": "gpt-4"}', '{"temperature": 1}', '{"temperature": 1.0}'],
    "llm.input_messages.0.message.role": ["user", "system"],
    "user.id": ["ann", "bob"],
    "session.id": ["1", "2"],
    "error.type": ["ValueError"],
    "metadata": ['{"a": 1}', '{"a": true}'],
}


@st.composite
def spans(draw: st.DrawFn) -> Span:
    keys = draw(st.lists(st.sampled_from(sorted(VALUES)), max_size=8, unique=True))
    attributes = {key: draw(st.sampled_from(VALUES[key])) for key in keys}
    scope = draw(st.sampled_from([Scope("app"), Scope("ai"), Scope("openlit.x"), Scope("x.anthropic")]))
    name, parent = draw(st.sampled_from(["search", "call"])), draw(st.sampled_from([None, "2" * 16]))
    status = draw(st.sampled_from([(0, None), (2, "no")]))
    return Span("1" * 32, "1" * 16, parent, name, 5, 9, attributes, RESOURCE, scope, 1, *status)


def forget() -> None:
    for by_type in dialect._BY_TYPE.values():
        for rows in by_type.values():
            rows.forget()


def said(span: Span, name: Dialect, *, only: bool) -> str:
    """In order, and with the types: 1, 1.0 and True are equal."""
    made = with_dialect(span, translate(span), name, only=only)
    return repr((list(made.attributes.items()), dialect.write(translate(span), name)))


@pytest.mark.parametrize("only", [False, True])
@pytest.mark.parametrize("name", DIALECTS)
@given(st.lists(spans(), min_size=2, max_size=12))
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_came_before_a_span_the_same_is_said_of_it(name: Dialect, only: bool, stream: list[Span]) -> None:
    alone = []
    for span in stream:
        forget()
        alone.append(said(span, name, only=only))
    forget()
    assert [said(span, name, only=only) for span in (*stream, *stream)] == alone * 2


@pytest.mark.parametrize("name", DIALECTS)
def test_values_that_change_one_at_a_time_are_said_as_they_are(name: Dialect) -> None:
    for key, values in VALUES.items():
        common = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", "user.id": "ann"}
        listed = [
            Span("1" * 32, "1" * 16, None, "call", 5, 9, {**common, key: value}, RESOURCE, Scope("app")) for value in values
        ]
        alone = []
        for span in listed:
            forget()
            alone.append(said(span, name, only=False))
        for first in listed:
            for second, expected in zip(listed, alone, strict=True):
                said(first, name, only=False)
                assert said(second, name, only=False) == expected, (key, first.attributes[key], second.attributes[key])


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_rows, "MAX_SHAPES", 20)
    monkeypatch.setattr(_rows, "MAX_WORDS", 30)
    forget()
    for number in range(200):
        parameters = json.dumps({f"p{number}": number})
        attributes = {"langfuse.observation.type": "generation", "langfuse.observation.model.parameters": parameters}
        for more in ({f"k{number}": "v"}, dict.fromkeys(map(str, range(number, number + 200)), "x")):
            span = Span("1" * 32, "1" * 16, None, "call", 5, 9, {**attributes, **more}, RESOURCE, Scope("app"))
            made = with_dialect(span, translate(span), "gen_ai")
            assert made.attributes[f"gen_ai.request.p{number}"] == number
    for by_type in dialect._BY_TYPE.values():
        for rows in by_type.values():
            assert len(rows._shapes) <= 20
            assert all(len(keys) <= _rows.MAX_KEYS for keys in rows._shapes)
            assert all(len(whole) <= 30 for whole in rows._wholes.values())


def test_several_threads_at_once_say_the_same() -> None:
    listed = [
        Span("1" * 32, "1" * 16, None, "call", 5, 9, {key: value, "user.id": str(number % 5)}, RESOURCE, Scope("app"))
        for key, values in VALUES.items()
        for number, value in enumerate(values)
    ]
    expected = [said(span, "openinference", only=False) for span in listed]
    found: list[bool] = []

    def work() -> None:
        for _ in range(5):
            forget()
            found.append([said(span, "openinference", only=False) for span in listed] == expected)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 20
