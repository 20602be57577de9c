"""A program that uses OpenAI's Agents SDK."""

from __future__ import annotations

from contextlib import suppress

import openai
from agents import Agent, RunConfig, Runner, function_tool

from programs.weather import FAILING, QUESTION, SYSTEM, request_span
from programs.weather import weather as look_up

CONFIG = RunConfig(workflow_name="weather desk", group_id="conversation-7")


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city, now."""
    return look_up(city)


def run() -> None:
    """One agent with a tool; inside a request."""
    with request_span():
        Runner.run_sync(Agent(name="weather_agent", instructions=SYSTEM, tools=[get_weather], model="gpt-4.1"), QUESTION)


def handoff() -> None:
    """One agent hands over to another."""
    specialist = Agent(name="specialist", instructions=SYSTEM, model="gpt-4.1")
    Runner.run_sync(
        Agent(name="desk", instructions="Hand over.", handoffs=[specialist], model="gpt-4.1"), QUESTION, run_config=CONFIG
    )


def error() -> None:
    """The model is over its rate limit."""
    with suppress(openai.RateLimitError):
        Runner.run_sync(Agent(name="weather_agent", instructions=SYSTEM, model="gpt-4.1"), FAILING)


SCENARIOS = {f.__name__: f for f in (run, handoff, error)}
