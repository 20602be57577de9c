"""A trace, summed up from its observations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from otel_langfuse.model import Json, Observation

_MOST = 2**63 - 1  # tokens or USD that nobody has


class TraceSummary(NamedTuple):
    """One trace, summed up from its observations as Langfuse does (mapping.md 2.5): see ``summarize``.

    Times are nanoseconds since 1970, None where unknown; ``levels`` counts observations by level; ``total_cost`` is in
    USD, None where no observation has a cost.
    """

    id: str
    name: Json
    start_time_unix_nano: int | None
    end_time_unix_nano: int | None
    user_id: str | None
    session_id: str | None
    tags: tuple[str, ...]
    environment: str
    release: str | None
    levels: Mapping[str, int]
    observation_count: int
    total_tokens: int
    total_cost: float | None

    @property
    def duration_s(self) -> float | None:
        """From the first start to the last end, in seconds; None where one of them is unknown."""
        if self.start_time_unix_nano is None or self.end_time_unix_nano is None:
            return None
        return max(self.end_time_unix_nano - self.start_time_unix_nano, 0) / 1e9


def summarize(observations: Sequence[Observation]) -> TraceSummary:
    """One trace from its observations, in order of their start.

    What several of them say about the trace is merged as Langfuse does it (mapping.md 2.5): the latest start wins for
    name, user, session and release; the first for environment; tags are united and sorted. A root's name counts as the
    trace's unless it gives another. Where nothing names the trace (its root is still running), the name is None.

    Args:
        observations: At least one, all of one trace, sorted by start time as ``Store.trace`` does.
    """
    said = [observation.trace for observation in observations]
    starts = [one.start_time_unix_nano for one in observations if one.start_time_unix_nano is not None]
    ends = [one.end_time_unix_nano for one in observations if one.end_time_unix_nano is not None]
    costs = [cost for one in observations if (cost := total_cost(one.cost_details)) is not None]
    names = (one.trace.name if one.trace.name is not None or not one.is_root else one.name for one in observations)
    return TraceSummary(
        id=observations[0].trace_id,
        name=_last(names),
        start_time_unix_nano=min(starts, default=None),
        end_time_unix_nano=max(ends, default=None),
        user_id=_last(one.user_id for one in said),
        session_id=_last(one.session_id for one in said),
        tags=tuple(sorted({str(tag) for one in said for tag in one.tags})),
        environment=observations[0].environment,
        release=_last(one.release for one in said),
        levels=dict(Counter(one.level for one in observations)),
        observation_count=len(observations),
        total_tokens=sum(total_tokens(one.usage_details) for one in observations),
        total_cost=sum(costs) if costs else None,
    )


def total_tokens(usage_details: Mapping[str, Json]) -> int:
    """``total`` where it is given, else the sum of all kinds of tokens: they do not overlap (mapping.md 13)."""
    return int(_total(usage_details) or 0)


def total_cost(cost_details: Mapping[str, Json]) -> float | None:
    """``total`` where it is given, else the sum of all parts, in USD; None where there is none."""
    return _total(cost_details)


def _total(details: Mapping[str, Json]) -> float | None:
    numbers = {key: number for key, value in details.items() if (number := _number(value)) is not None}
    return numbers["total"] if "total" in numbers else sum(numbers.values()) if numbers else None


def _number(value: Json) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _MOST
    return value if is_number else None


def _last(values: Iterable[Json]) -> Any:
    return next((value for value in reversed(list(values)) if value is not None), None)
