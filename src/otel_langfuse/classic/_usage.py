"""What a generation used, in all the shapes in which the classic client took it, as counts and costs of today."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

_COUNTS: Final = {
    "input": ("input", "promptTokens", "prompt_tokens", "inputTokens", "input_tokens"),
    "output": ("output", "completionTokens", "completion_tokens", "outputTokens", "output_tokens"),
    "total": ("total", "totalTokens", "total_tokens"),
}
_COSTS: Final = {
    "input": ("input_cost", "inputCost"),
    "output": ("output_cost", "outputCost"),
    "total": ("total_cost", "totalCost"),
}
_TOKENS: Final = "TOKENS"


class Used(NamedTuple):
    """``usage_details`` and ``cost_details``; and the unit of the counts, where that is not tokens."""

    counts: Mapping[str, int]
    costs: Mapping[str, float]
    unit: str | None


def used(usage: Any) -> Used:
    """Reads ``usage=``: a mapping, ``model.Usage``, or an object with such fields (OpenAI's ``usage``, a pydantic model).

    A mapping without any of the names that the classic client knew counts by names of its own, as ``usage_details`` does;
    OpenAI's details of tokens are subtracted from what they are part of, as Langfuse does (api.md 2.7).

    Raises:
        TypeError: It is nothing of that.
    """
    given = _mapping(usage)
    counts = {name: number for name, keys in _COUNTS.items() if (number := _whole(_first(given, keys))) is not None}
    costs = {name: cost for name, keys in _COSTS.items() if (cost := _real(_first(given, keys))) is not None}
    for part, keys in (("input", ("prompt_tokens_details", "input_tokens_details", "input_token_details")),
                       ("output", ("completion_tokens_details", "output_tokens_details", "output_token_details"))):  # fmt: skip
        for name, number in _details(_first(given, keys)):
            counts[f"{part}_{name}"] = number
            if part in counts:
                counts[part] = max(counts[part] - number, 0)
    if not counts and not costs:
        counts = {str(name): number for name, value in given.items() if (number := _whole(value)) is not None}
    unit = str(given.get("unit") or _TOKENS).upper()
    return Used(counts, costs, None if unit == _TOKENS else unit)


def _mapping(usage: Any) -> Mapping[str, Any]:
    if isinstance(usage, Mapping):
        return usage
    for method in ("_asdict", "model_dump", "dict"):  # a named tuple; pydantic's models, new and old
        made = getattr(usage, method, None)
        if callable(made):
            found: Mapping[str, Any] = made()
            return found
    fields: Mapping[str, Any] = vars(usage)  # TypeError for what has no fields
    return fields


def _first(given: Mapping[str, Any], keys: Iterable[str]) -> Any:
    return next((given[key] for key in keys if given.get(key) is not None), None)


def _details(value: Any) -> list[tuple[str, int]]:
    if value is None:
        return []
    return [(str(name), number) for name, one in _mapping(value).items() if (number := _whole(one)) is not None]


def _whole(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return int(value)
    except (ValueError, OverflowError):
        return None


def _real(value: Any) -> float | None:
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
