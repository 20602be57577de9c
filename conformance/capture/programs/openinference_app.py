"""A program that calls OpenAI's client and tells OpenInference more about it."""

from __future__ import annotations

from openinference.instrumentation import using_attributes

from programs import openai_client
from programs.weather import SESSION, USER


def session() -> None:
    """For a user in a session, with metadata, tags and the prompt's template."""
    with using_attributes(
        session_id=SESSION,
        user_id=USER,
        metadata={"tenant": "north", "attempt": 2},
        tags=["weather", "capture"],
        prompt_template="What is the weather in {city}?",
        prompt_template_version="3",
        prompt_template_variables={"city": "Paris"},
    ):
        openai_client.chat()


SCENARIOS = {**openai_client.SCENARIOS, "session": session}
