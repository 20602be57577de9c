"""Corrections that need more than one observation: usage that a batch would count twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from otel_langfuse.model import Observation, Span

RESPONSE_IDS = ("gen_ai.response.id", "llm.response.id")
_EXPLICIT = "langfuse/usage/details"
_REPEATS, _SAME_CALL = "corrections/batch/agent_repeats", "corrections/batch/same_call"
_DUPLICATE = "corrections/batch/same_response"
REASONS = {
    _REPEATS: "an agent, chain or span that repeats the token counts of the calls inside it would double them",
    _DUPLICATE: "two instrumentations that record one call would count and price it twice",
    _SAME_CALL: "a call directly inside a call, of the same model with the same output, is the same call recorded twice",
}
_CALLS = frozenset({"generation", "embedding"})


def counted_once(spans: Sequence[Span], observations: Sequence[Observation]) -> list[Observation]:
    """The observations, with usage and cost left to one of those that tell of the same tokens.

    Of calls with one response id in one trace the one keeps them that is outermost and has content; so does the outer of two
    calls where one stands directly inside the other with the same model and output. An observation that is no call loses them
    to calls inside it, unless it set them explicitly. What was taken away is told in the metadata.
    """
    counted = [place for place, observation in enumerate(observations) if observation.usage_details]
    if len(counted) < 2 or len({observations[place].trace_id for place in counted}) == len(counted):
        return list(observations)
    by_id = {(observation.trace_id, observation.id): place for place, observation in enumerate(observations)}
    result = list(observations)
    for place, keeper in _same_responses(spans, observations, counted):
        result[place] = _without_usage(result[place], _DUPLICATE, "duplicate_of", observations[keeper].id)
    for place in counted:
        observation = observations[place]
        if observation.type not in _CALLS:
            continue
        for above in _ancestors(observation, observations, by_id):
            outer = observations[above]
            if not outer.usage_details or outer.rules.get("usage") == _EXPLICIT:
                continue
            if outer.type not in _CALLS:
                result[above] = _without_usage(result[above], _REPEATS, "repeats_usage_of", observation.id)
            elif observation.parent_id == outer.id and _is_same_call(observation, outer) and result[above].usage_details:
                result[place] = _without_usage(result[place], _SAME_CALL, "duplicate_of", outer.id)
    return result


def _same_responses(
    spans: Sequence[Span], observations: Sequence[Observation], counted: Sequence[int]
) -> Iterable[tuple[int, int]]:
    """Places of calls whose response another call tells of too, each with the place of the one that keeps the usage."""
    groups: dict[tuple[str, Any], list[int]] = {}
    for place in counted:
        response = _response_id(spans[place])
        if observations[place].type in _CALLS and isinstance(response, str):
            groups.setdefault((observations[place].trace_id, response), []).append(place)
    for places in groups.values():
        ids = {observations[place].id for place in places}
        keeper = min(places, key=lambda place: (observations[place].parent_id in ids, not _has_content(observations[place])))
        yield from ((place, keeper) for place in places if place != keeper)


def _has_content(observation: Observation) -> bool:
    return observation.input is not None or observation.output is not None


def _is_same_call(inner: Observation, outer: Observation) -> bool:
    return inner.type == outer.type and inner.model == outer.model and _produced(inner) == _produced(outer) > 0


def _produced(observation: Observation) -> float:
    counts = (observation.usage_details.get(name) for name in ("output", "output_reasoning_tokens"))
    return sum(count for count in counts if isinstance(count, (int, float)))


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
