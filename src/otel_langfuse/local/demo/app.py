"""A shop's assistant: retrieval-augmented chat with a tool, as an ordinary program does it.

It knows ``openai`` and OpenTelemetry, and nothing of Langfuse. The calls of ``openai`` become spans by themselves (an
instrumentation sees to that); around them it makes a few spans of its own, with the attributes that OpenTelemetry's and
OpenInference's conventions name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import openai
from openai.types.chat import (
    ChatCompletionMessage,
    ChatCompletionMessageFunctionToolCall,
    ChatCompletionMessageFunctionToolCallParam,
    ChatCompletionMessageParam,
    ChatCompletionToolParam,
)
from opentelemetry import trace

tracer = trace.get_tracer("shop.assistant")

EMBEDDING_MODEL = "text-embedding-3-small"
MODEL, SPARE_MODEL = "gpt-4.1", "gpt-4.1-mini"

PASSAGES = (
    "Returns: any lamp can be returned within 30 days if it is unused and in its box. The return label is free.",
    "Delivery: orders leave our warehouse within a day. Every order can be looked up by its number.",
    "Warranty: the Aurora lamp has a five year warranty, its battery two years.",
    "Care: wipe the shade with a dry cloth. Never use solvents.",
)
ORDERS = {"4711": {"status": "shipped", "carrier": "Blue Parcel", "arrives": "Thursday"}}
TOOLS: list[ChatCompletionToolParam] = [
    {
        "type": "function",
        "function": {
            "name": "look_up_order",
            "description": "Where an order is and when it arrives.",
            "parameters": {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]},
        },
    }
]


class Passage(NamedTuple):
    """A piece of the shop's handbook, and where it lies in the space of meanings."""

    text: str
    vector: list[float]


def read_handbook(client: openai.OpenAI) -> list[Passage]:
    """Embed the handbook, once."""
    with tracer.start_as_current_span("read handbook", attributes={"openinference.span.kind": "CHAIN"}) as span:
        span.set_attribute("input.value", f"{len(PASSAGES)} passages")
        return [Passage(*pair) for pair in zip(PASSAGES, embed(client, PASSAGES), strict=True)]


def answer(client: openai.OpenAI, handbook: list[Passage], question: str, say: Callable[[str], object]) -> None:
    """Answer a customer's question: ``say`` is given the answer, in pieces as they come."""
    about = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "shop assistant", "input.value": question}
    with tracer.start_as_current_span("answer customer", attributes=about) as span:
        known = "\n".join(retrieve(client, handbook, question))
        messages: list[ChatCompletionMessageParam] = [
            {"role": "system", "content": f"You help the customers of a lamp shop. You know this:\n{known}"},
            {"role": "user", "content": question},
        ]
        said = []
        for piece in finish(client, messages, ask(client, messages)):
            said.append(piece)
            say(piece)
        span.set_attribute("output.value", "".join(said))


def retrieve(client: openai.OpenAI, handbook: list[Passage], question: str) -> list[str]:
    """The two passages that lie nearest to the question."""
    (vector,) = embed(client, [question])
    about = {"openinference.span.kind": "RETRIEVER", "input.value": question}
    with tracer.start_as_current_span("search handbook", attributes=about) as span:
        nearest = sorted(handbook, key=lambda passage: -similarity(passage.vector, vector))[:2]
        span.set_attribute("output.value", json.dumps([passage.text for passage in nearest]))
    return [passage.text for passage in nearest]


def ask(client: openai.OpenAI, messages: list[ChatCompletionMessageParam]) -> ChatCompletionMessage:
    """Ask the good model; where it has no time, the small one."""
    try:
        completion = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS, temperature=0.2)
    except openai.RateLimitError:
        completion = client.chat.completions.create(model=SPARE_MODEL, messages=messages, tools=TOOLS, temperature=0.2)
    return completion.choices[0].message


def finish(client: openai.OpenAI, messages: list[ChatCompletionMessageParam], reply: ChatCompletionMessage) -> Iterator[str]:
    """What the model said; or, where it called tools, what it says (streamed) to their results."""
    if not reply.tool_calls:
        yield reply.content or ""
        return
    calls = [call for call in reply.tool_calls if call.type == "function"]
    made = [as_param(call) for call in calls]
    messages.append({"role": "assistant", "tool_calls": made})
    messages += [{"role": "tool", "tool_call_id": call.id, "content": look_up_order(call)} for call in calls]
    with client.chat.completions.create(
        model=MODEL, messages=messages, stream=True, stream_options={"include_usage": True}
    ) as stream:
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content


def look_up_order(call: ChatCompletionMessageFunctionToolCall) -> str:
    """The tool: what the shop knows of an order, as JSON."""
    about = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": call.function.name,
        "gen_ai.tool.call.id": call.id,
        "gen_ai.tool.call.arguments": call.function.arguments,
    }
    with tracer.start_as_current_span("execute_tool look_up_order", attributes=about) as span:
        order = ORDERS.get(json.loads(call.function.arguments)["order_id"], {"status": "unknown"})
        result = json.dumps(order)
        span.set_attribute("gen_ai.tool.call.result", result)
    return result


def as_param(call: ChatCompletionMessageFunctionToolCall) -> ChatCompletionMessageFunctionToolCallParam:
    """A tool call of the model's answer, as it is given back to the model."""
    return {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": call.function.arguments}}


def embed(client: openai.OpenAI, texts: Iterable[str]) -> list[list[float]]:
    """One vector for each text."""
    return [item.embedding for item in client.embeddings.create(model=EMBEDDING_MODEL, input=list(texts)).data]


def similarity(one: list[float], other: list[float]) -> float:
    """The cosine of two unit vectors."""
    return sum(a * b for a, b in zip(one, other, strict=True))
