"""Usage in OpenAI's two shapes, brought to Langfuse's buckets the way its schema does (mapping.md 16; api.md 2.7)."""

from __future__ import annotations

from typing import Any

# shape: the keys of input, output and total, and of the details of each.
SHAPES = (
    ("prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details"),
    ("input_tokens", "output_tokens", "input_tokens_details", "output_tokens_details"),
)


def usage_buckets(usage: Any) -> dict[str, int] | None:
    """Disjoint buckets of a usage object of OpenAI; None where it is of no such shape.

    Details become ``input_<name>`` and ``output_<name>`` and are taken off input and output. Other entries are left out.
    """
    if not isinstance(usage, dict):
        return None
    for given, produced, given_details, produced_details in SHAPES:
        if _count(usage.get(given)) is None and _count(usage.get(produced)) is None:
            continue
        buckets = {
            **_side("input", usage.get(given), usage.get(given_details)),
            **_side("output", usage.get(produced), usage.get(produced_details)),
        }
        total = _count(usage.get("total_tokens"))
        return buckets if total is None else {**buckets, "total": total}
    return None


def is_strict(usage: Any) -> bool:
    """Whether the schema itself would take the object for one of OpenAI's: three counts, details, nothing else."""
    return isinstance(usage, dict) and any(
        all(_count(usage.get(name)) is not None for name in (given, produced, "total_tokens"))
        and usage.keys() <= {given, produced, "total_tokens", given_details, produced_details}
        for given, produced, given_details, produced_details in SHAPES
    )


def _side(name: str, count: Any, details: Any) -> dict[str, int]:
    whole = _count(count)
    if whole is None:
        return {}
    parts = details.items() if isinstance(details, dict) else ()
    known = {f"{name}_{part}": value for part, raw in parts if (value := _count(raw))}
    return {name: max(whole - sum(known.values()), 0), **known}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
