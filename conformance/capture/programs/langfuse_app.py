"""A program that uses Langfuse's own SDK, and its wrapper of OpenAI's client."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

from langfuse import get_client, observe, propagate_attributes
from langfuse.openai import openai

from programs.weather import FAILING, QUESTION, SESSION, SYSTEM, USER, weather

langfuse = get_client()
MODEL = "gpt-4.1"
MESSAGES: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]


@observe(name="get_weather", as_type="tool")
def _tool(city: str) -> dict[str, str]:
    return {"weather": weather(city)}


@observe(as_type="agent")
def answer(question: str) -> str:
    """An agent that calls a tool and a model."""
    _tool("Paris")
    reply = openai.OpenAI(max_retries=0).chat.completions.create(model=MODEL, messages=MESSAGES, temperature=0.2)
    return f"{question} {reply.choices[0].message.content}"


def decorated() -> None:
    """Decorators around the wrapped client, with everything that a trace can be told."""
    about: Any = {
        "user_id": USER,
        "session_id": SESSION,
        "tags": ["weather", "capture"],
        "metadata": {"tenant": "north"},
        "version": "1.2.3",
        "trace_name": "ask about the weather",
    }
    with propagate_attributes(**about):
        answer(QUESTION)


def generation() -> None:
    """A generation with every field, by hand."""
    with langfuse.start_as_current_observation(
        name="summarise",
        as_type="generation",
        model=MODEL,
        model_parameters={"temperature": 0.2, "stop": ["\n"]},
        input=MESSAGES,
        metadata={"attempt": 2},
        completion_start_time=datetime(2026, 1, 1, tzinfo=timezone.utc),
    ) as made:
        made.update(
            output={"role": "assistant", "content": "Sunny."},
            usage_details={"input": 31, "output": 2, "input_cached_tokens": 4},
            cost_details={"input": 0.0001, "output": 0.0002},
            level="WARNING",
            status_message="cut off",
        )


def stream() -> None:
    """The wrapped client, streaming."""
    for _ in openai.OpenAI(max_retries=0).chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    ):
        pass


def error() -> None:
    """The model is over its rate limit, inside an observed function."""

    @observe(name="ask")
    def ask() -> None:
        openai.OpenAI(max_retries=0).chat.completions.create(model=MODEL, messages=[{"role": "user", "content": FAILING}])

    with suppress(openai.RateLimitError):
        ask()


def kinds() -> None:
    """One observation of each type that is left."""
    with langfuse.start_as_current_observation(name="all kinds", as_type="chain", input="in") as chain:
        for kind in ("retriever", "evaluator", "guardrail", "embedding", "span"):
            chain.start_observation(name=kind, as_type=kind, input={"q": kind}, output=[kind]).end()
        chain.create_event(name="clicked", input="button", level="DEBUG")
        chain.update(output="out")


SCENARIOS = {f.__name__: f for f in (decorated, generation, stream, error, kinds)}
