"""A program that calls OpenAI's client, with logfire's own spans and logs around it."""

from __future__ import annotations

import logfire

from programs import openai_client


def logs() -> None:
    """A span with logs of several levels in it, one of them of an exception."""
    with logfire.span("ask about {city}", city="Paris", attempt=2):
        logfire.debug("about to ask")
        logfire.warn("the model {model} is slow", model="gpt-4.1")
        openai_client.chat()
        try:
            float("no such city")
        except ValueError:
            logfire.exception("could not read the answer")


SCENARIOS = {**openai_client.SCENARIOS, "logs": logs}
