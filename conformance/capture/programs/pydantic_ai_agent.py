"""A program that uses pydantic-ai."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelHTTPError

from programs.weather import FAILING, QUESTION, SYSTEM, request_span, weather


class Report(BaseModel):
    """What the structured agent answers."""

    city: str
    degrees: int


def _agent(**more: Any) -> Any:
    return Agent("openai-chat:gpt-4.1", instructions=SYSTEM, name="weather_agent", **more)


def run() -> None:
    """A question without tools."""
    _agent().run_sync(QUESTION)


def tools() -> None:
    """A question, a tool, the answer; inside a request."""
    agent = _agent()
    agent.tool_plain(weather)
    with request_span():
        agent.run_sync(QUESTION, model_settings={"temperature": 0.2, "max_tokens": 200})


def structured() -> None:
    """An answer by a schema."""
    _agent(output_type=Report).run_sync(QUESTION)


def stream() -> None:
    """The answer in pieces."""

    async def ask() -> None:
        async with _agent().run_stream(QUESTION) as result:
            async for _ in result.stream_text():
                pass

    asyncio.run(ask())


def error() -> None:
    """The model is over its rate limit."""
    with suppress(ModelHTTPError):
        _agent().run_sync(FAILING)


SCENARIOS = {f.__name__: f for f in (run, tools, structured, stream, error)}
