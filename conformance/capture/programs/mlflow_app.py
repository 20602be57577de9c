"""A program that calls OpenAI's client, with MLflow's decorators around it."""

from __future__ import annotations

import mlflow

from programs import openai_client
from programs.weather import QUESTION
from programs.weather import weather as look_up


@mlflow.trace(span_type="TOOL", name="get_weather")
def _get_weather(city: str) -> str:
    return look_up(city)


@mlflow.trace(span_type="AGENT", name="weather agent", attributes={"tenant": "north"})
def _answer(question: str) -> str:
    _get_weather("Paris")
    openai_client.chat()
    return f"{question} It is sunny."


def decorated() -> None:
    """An agent that calls a tool and a model."""
    _answer(QUESTION)


SCENARIOS = {**openai_client.SCENARIOS, "decorated": decorated}
