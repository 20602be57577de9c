"""A program that calls litellm."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import litellm

from programs.openai_client import MESSAGES, TOOL
from programs.weather import FAILING, request_span, weather

MODEL = "openai/gpt-4.1"
ASKED: dict[str, Any] = {"model": MODEL, "num_retries": 0, "max_retries": 0}


def chat() -> None:
    """One question with settings."""
    about = {"generation_name": "ask", "trace_user_id": "customer-42", "session_id": "conversation-7", "tags": ["weather"]}
    litellm.completion(**ASKED, messages=MESSAGES, temperature=0.2, max_tokens=200, user="customer-42", metadata=about)


def stream() -> None:
    """The answer in pieces, with the usage at its end."""
    for _ in litellm.completion(**ASKED, messages=MESSAGES, stream=True, stream_options={"include_usage": True}):
        pass


def tools() -> None:
    """A question, the model's call of a tool, its result, the answer; each a trace of its own."""
    messages: list[Any] = list(MESSAGES)
    asked = {**ASKED, "tools": [{"type": "function", "function": TOOL}]}
    reply = litellm.completion(messages=messages, **asked).choices[0].message
    messages.append(reply.model_dump(exclude_none=True))
    messages += [{"role": "tool", "tool_call_id": call.id, "content": weather("Paris")} for call in reply.tool_calls]
    litellm.completion(messages=messages, **asked)


def nested() -> None:
    """Inside a request, onto whose span litellm writes, too."""
    with request_span():
        litellm.completion(**ASKED, messages=MESSAGES)


def error() -> None:
    """The model is over its rate limit."""
    with suppress(litellm.exceptions.RateLimitError):
        litellm.completion(**ASKED, messages=[{"role": "user", "content": FAILING}])


def embeddings() -> None:
    """Two texts as vectors."""
    litellm.embedding(model="openai/text-embedding-3-small", input=["Paris is sunny.", "London is not."], max_retries=0)


SCENARIOS = {f.__name__: f for f in (chat, stream, tools, nested, error, embeddings)}
