"""What each family of instrumentations means. One file, one table a family; ``precedence.py`` says who wins."""

from __future__ import annotations

from otel_langfuse.conventions import (
    adk,
    corrections,
    flue,
    genai,
    genkit,
    haystack,
    langfuse,
    livekit,
    logfire,
    mlflow,
    openinference,
    openrouter,
    otel,
    precedence,
    pydantic_ai,
    traceloop,
    vercel,
)
from otel_langfuse.conventions._corrections import TRACE_UPDATES
from otel_langfuse.conventions._plan import Index
from otel_langfuse.conventions._rule import Convention, Rule

__all__ = ["CONVENTIONS", "CORRECTED_INDEX", "SERVER_CONVENTIONS", "SERVER_INDEX", "Convention", "Rule", "by_id"]

SERVER_CONVENTIONS: tuple[Convention, ...] = (
    langfuse.CONVENTION,
    otel.CONVENTION,
    genai.CONVENTION,
    openinference.CONVENTION,
    traceloop.CONVENTION,
    vercel.CONVENTION,
    genkit.CONVENTION,
    pydantic_ai.CONVENTION,
    logfire.CONVENTION,
    mlflow.CONVENTION,
    adk.CONVENTION,
    livekit.CONVENTION,
    flue.CONVENTION,
    openrouter.CONVENTION,
)
"""What Langfuse's server reads."""

CONVENTIONS: tuple[Convention, ...] = (*SERVER_CONVENTIONS, haystack.CONVENTION, corrections.CONVENTION)
"""The same, and what we read beside it."""


def by_id() -> dict[str, Rule]:
    """Every rule of every family, by its id."""
    return {rule.id: rule for convention in CONVENTIONS for rule in convention.rules}


SERVER_INDEX = Index(SERVER_CONVENTIONS, precedence.SERVER)
"""The tables in the order of Langfuse's server, ready to plan spans with."""

CORRECTED_INDEX = Index(CONVENTIONS, precedence.CORRECTED, more_trace_updates=TRACE_UPDATES)
"""The same with our corrections."""
