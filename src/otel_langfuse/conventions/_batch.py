"""Corrections that need more than one observation: usage that a batch would count twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from otel_langfuse.model import Observation, Span

RESPONSE_IDS = ("gen_ai.response.id", "llm.response.id")
_EXPLICIT = "langfuse/usage/details"
_REPEATS, _DUPLICATE = "corrections/batch/agent_repeats", "corrections/batch/same_response"
REASONS = {
    _REPEATS: "an agent, chain or span that repeats the token counts of the calls inside it would double them",
    _DUPLICATE: "two instrumentations that record one call would count and price it twice",
}
_CALLS = frozenset({"generation", "embedding"})


def counted_once(spans: Sequence[Span], observations: Sequence[Observation]) -> list[Observation]:
    """The observations, with usage and cost left to one of those that tell of the same tokens.

    Of two calls with one response id, one inside the other, the outer keeps them. An observation that is no call loses them
    to calls inside it, unless it set them explicitly. What was taken away is told in the metadata.
    """
    if sum(1 for observation in observations if observation.usage_details) < 2:
        return list(observations)
    by_id = {(observation.trace_id, observation.id): place for place, observation in enumerate(observations)}
    result = list(observations)
    for place, observation in enumerate(observations):
        if not observation.usage_details or observation.type not in _CALLS:
            continue
        response = _response_id(spans[place])
        for above in _ancestors(observation, observations, by_id):
            outer = observations[above]
            if not outer.usage_details or outer.rules.get("usage") == _EXPLICIT:
                continue
            if outer.type not in _CALLS:
                result[above] = _without_usage(result[above], _REPEATS, "repeats_usage_of", observation.id)
            elif response is not None and response == _response_id(spans[above]):
                result[place] = _without_usage(result[place], _DUPLICATE, "duplicate_of", outer.id)
    return result


def _response_id(span: Span) -> Any:
    return next((span.attributes[name] for name in RESPONSE_IDS if span.attributes.get(name)), None)


def _ancestors(observation: Observation, observations: Sequence[Observation], by_id: dict[tuple[str, str], int]) -> Iterable[int]:
    """Places of the observations around it that are in the batch, innermost first."""
    seen = {observation.id}
    parent = observation.parent_id
    while parent is not None and parent not in seen:
        seen.add(parent)
        place = by_id.get((observation.trace_id, parent))
        if place is None:
            return
        yield place
        parent = observations[place].parent_id


def _without_usage(observation: Observation, rule: str, note: str, other: str) -> Observation:
    if not observation.usage_details:
        return observation
    kept = {note: other, "usage_not_counted": dict(observation.usage_details)}
    return observation._replace(
        usage_details={},
        cost_details={},
        metadata={**observation.metadata, **kept},
        rules={**observation.rules, rule.removeprefix("corrections/"): rule},
    )
