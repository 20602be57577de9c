"""What of a score goes through the user's mask: comment, metadata, and a value that is a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from otel_langfuse.model import Score
from otel_langfuse.pipeline.mask import mask_value
from otel_langfuse.stats import Ledger


def masked(scores: Sequence[Score], mask: Callable[[str], Any] | None, ledger: Ledger) -> Sequence[Score]:
    """The scores that may leave; a text for which the mask fails is replaced, and that is logged."""
    if mask is None:
        return scores
    failures: list[str] = []
    made = [
        score._replace(
            comment=mask_value(score.comment, mask, failures),
            metadata=mask_value(score.metadata, mask, failures),
            value=mask_value(score.value, mask, failures),
        )
        for score in scores
    ]
    if failures:
        ledger.note("mask", f"{len(failures)} values of scores are sent as '<masked: mask failed>': {failures[-1]}")
    return made
