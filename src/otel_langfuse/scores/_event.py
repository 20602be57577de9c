"""A score as OpenTelemetry's ``gen_ai.evaluation.result`` event, on the span that it judges.

The conventions describe it as an event of the logs; a span event is how an event stands on its span, and what every collector
keeps with it. Langfuse's own server leaves span events like this one out: it has the score itself.
"""

from __future__ import annotations

from typing import Any, Final

from otel_langfuse.model import Score

EVENT: Final = "gen_ai.evaluation.result"
NAME: Final = "gen_ai.evaluation.name"
SCORE_VALUE: Final = "gen_ai.evaluation.score.value"  # float
SCORE_LABEL: Final = "gen_ai.evaluation.score.label"  # str
EXPLANATION: Final = "gen_ai.evaluation.explanation"  # str

_TRUTH: Final = {0.0: "False", 1.0: "True"}  # as Langfuse stores them (api.md 5.2)


def evaluation_event(score: Score) -> dict[str, Any]:
    """The attributes of the event: numbers are values, texts labels, and a truth is both."""
    attributes: dict[str, Any] = {NAME: score.name}
    if isinstance(score.value, str):
        attributes[SCORE_LABEL] = score.value
    else:
        attributes[SCORE_VALUE] = score.value
        if score.data_type == "BOOLEAN":
            attributes[SCORE_LABEL] = _TRUTH[score.value]
    if score.comment:
        attributes[EXPLANATION] = score.comment
    return attributes
