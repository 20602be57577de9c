"""A program that uses Traceloop's SDK: its decorators around OpenAI's client."""

from __future__ import annotations

from contextlib import suppress

import openai
from traceloop.sdk import Traceloop
from traceloop.sdk.decorators import agent, task, tool, workflow

from programs.openai_client import MESSAGES, MODEL, client
from programs.weather import FAILING, QUESTION, SESSION, USER
from programs.weather import weather as look_up


@tool(name="get_weather")
def _get_weather(city: str) -> str:
    return look_up(city)


@task(name="write answer")
def _write(found: str) -> str:
    return str(client().chat.completions.create(model=MODEL, messages=[*MESSAGES, {"role": "user", "content": found}]).id)


@agent(name="weather agent")
def _answer(question: str) -> str:
    del question
    return _write(_get_weather("Paris"))


@workflow(name="ask about the weather")
def _ask(question: str) -> str:
    return _answer(question)


def decorated() -> None:
    """All decorators, for a user in a session."""
    Traceloop.set_association_properties({"user_id": USER, "session_id": SESSION, "tenant": "north"})
    _ask(QUESTION)


def error() -> None:
    """A workflow in which the model is over its rate limit."""

    @workflow(name="failing")
    def fail() -> None:
        client().chat.completions.create(model=MODEL, messages=[{"role": "user", "content": FAILING}])

    with suppress(openai.RateLimitError):
        fail()


SCENARIOS = {f.__name__: f for f in (decorated, error)}
