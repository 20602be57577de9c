"""What of a score goes through the user's mask: comment, metadata, and a value that is a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from otel_langfuse.model import Score
from otel_langfuse.pipeline.mask import Masking
from otel_langfuse.stats import Ledger


def masked(scores: Sequence[Score], mask: Masking | None, ledger: Ledger) -> Sequence[Score]:
    """The scores that may leave; a text for which the mask fails is replaced, and that is logged."""
    if mask is None:
        return scores
    failures = 0
    made: list[Score] = []
    for score in scores:
        found: dict[str, Any] = {}
        for field in ("comment", "metadata", "value"):
            old = getattr(score, field)
            if isinstance(old, (str, dict, list)):
                found[field], failed = mask.value(old, field)
                failures += failed
        made.append(score._replace(**found))
    if failures:
        ledger.note("mask", f"{failures} values of scores are sent as '<masked: mask failed>'")
    return made
