"""A program that calls OpenAI's client."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import openai

from programs.weather import FAILING, PIXEL, QUESTION, SCHEMA, SYSTEM, request_span, weather

MODEL = "gpt-4.1"
TOOL: dict[str, Any] = {"name": "get_weather", "description": "The weather in a city, now.", "parameters": SCHEMA}
MESSAGES: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]


def client() -> Any:
    """A client that tries once. Looked up late: some instrumentations replace the class."""
    return openai.OpenAI(max_retries=0)


def chat() -> None:
    """One question with settings."""
    client().chat.completions.create(
        model=MODEL, messages=MESSAGES, temperature=0.2, max_tokens=200, top_p=0.9, seed=7, user="customer-42"
    )


def stream() -> None:
    """The answer in pieces, with the usage at its end."""
    for _ in client().chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    ):
        pass


def tools() -> None:
    """A question, the model's call of a tool, its result, the answer; inside a request."""
    messages = list(MESSAGES)
    with request_span():
        asked = {"model": MODEL, "tools": [{"type": "function", "function": TOOL}]}
        reply = client().chat.completions.create(messages=messages, **asked).choices[0].message
        messages.append(reply.model_dump(exclude_none=True))
        messages += [{"role": "tool", "tool_call_id": call.id, "content": weather("Paris")} for call in reply.tool_calls]
        client().chat.completions.create(messages=messages, **asked)


def error() -> None:
    """The model is over its rate limit."""
    with suppress(openai.RateLimitError):
        client().chat.completions.create(model=MODEL, messages=[{"role": "user", "content": FAILING}])


def embeddings() -> None:
    """Two texts as vectors."""
    client().embeddings.create(model="text-embedding-3-small", input=["Paris is sunny.", "London is not."])


def image() -> None:
    """A question about a picture."""
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    ]
    client().chat.completions.create(model=MODEL, messages=[{"role": "user", "content": parts}])


def responses() -> None:
    """The responses API: instructions, a tool, and a model that reasons."""
    client().responses.create(
        model="o4-mini",
        instructions=SYSTEM,
        input=QUESTION,
        reasoning={"effort": "low", "summary": "auto"},
        tools=[{"type": "function", **TOOL}],
        max_output_tokens=200,
    )


SCENARIOS = {f.__name__: f for f in (chat, stream, tools, error, embeddings, image, responses)}
