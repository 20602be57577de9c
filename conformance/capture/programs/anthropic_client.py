"""A program that calls Anthropic's client."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import anthropic

from programs.weather import FAILING, QUESTION, SCHEMA, SYSTEM, request_span, weather

MODEL = "claude-sonnet-4-5"
ASKED: dict[str, Any] = {"model": MODEL, "max_tokens": 2000, "system": SYSTEM}
MESSAGES: list[Any] = [{"role": "user", "content": QUESTION}]


def client() -> Any:
    """A client that tries once."""
    return anthropic.Anthropic(max_retries=0)


def chat() -> None:
    """One question with settings and a cached system prompt."""
    system = [{"type": "text", "text": SYSTEM, "cache_control": {"type": "ephemeral"}}]
    client().messages.create(**{**ASKED, "system": system}, messages=MESSAGES, stop_sequences=["END"])


def stream() -> None:
    """The answer in pieces."""
    for _ in client().messages.create(**ASKED, messages=MESSAGES, stream=True):
        pass


def tools() -> None:
    """A question, the model's call of a tool, its result, the answer; inside a request."""
    messages = list(MESSAGES)
    tool = {"name": "get_weather", "description": "The weather in a city, now.", "input_schema": SCHEMA}
    with request_span():
        reply = client().messages.create(**ASKED, messages=messages, tools=[tool])
        messages.append({"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in reply.content]})
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": weather("Paris")}
            for block in reply.content
            if block.type == "tool_use"
        ]
        messages.append({"role": "user", "content": results})
        client().messages.create(**ASKED, messages=messages, tools=[tool])


def thinking() -> None:
    """The model thinks first."""
    client().messages.create(**ASKED, messages=MESSAGES, thinking={"type": "enabled", "budget_tokens": 1024})


def error() -> None:
    """The model is over its rate limit."""
    with suppress(anthropic.RateLimitError):
        client().messages.create(**ASKED, messages=[{"role": "user", "content": FAILING}])


SCENARIOS = {f.__name__: f for f in (chat, stream, tools, thinking, error)}
