"""The scores of a trace, as lines for a terminal: below its tree, one each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text

from otel_langfuse.local.draw import GAP, UNICODE, Glyphs, cut
from otel_langfuse.local.text import plain
from otel_langfuse.model import Observation, Score

MAX_NAME = 32
"""Columns of the names; longer ones are cut."""


def score_lines(scores: Sequence[Score], observations: Sequence[Observation], width: int, glyphs: Glyphs = UNICODE) -> list[Text]:
    """Name and value of each score, the observation that it judges, and the comment; no lines where there are no scores."""
    if not scores:
        return []
    of = {one.id: plain(one.name) for one in observations}
    names = [cut(Text(plain(score.name), "bold"), MAX_NAME, glyphs) for score in scores]
    values = [Text(_value(score)) for score in scores]
    wide, high = max(name.cell_len for name in names), min(max(value.cell_len for value in values), MAX_NAME)
    lines = [Text(), Text("SCORES", "dim")]
    for score, name, value in zip(scores, names, values, strict=True):
        name.pad_right(wide - name.cell_len + GAP)
        value.pad_right(max(high - value.cell_len, 0) + GAP)
        lines.append(cut(Text.assemble(name, value, *_about(score, of, glyphs)), width, glyphs))
        lines[-1].rstrip()
    return lines


def _value(score: Score) -> str:
    if score.data_type == "BOOLEAN":
        return "true" if score.value else "false"
    return f"{score.value:g}" if isinstance(score.value, float) else plain(score.value)


def _about(score: Score, of: Mapping[str, str], glyphs: Glyphs) -> list[Text]:
    where = "" if score.observation_id is None else of.get(score.observation_id) or plain(score.observation_id)
    parts = [Text(where, "dim"), Text(plain(score.comment))]
    return [Text(glyphs.dot).join(part for part in parts if part.plain)]
