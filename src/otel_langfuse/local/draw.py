"""Traces as lines for a terminal: a list of them, or one as a tree beside its waterfall."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import NamedTuple

from rich.cells import cell_len
from rich.text import Text

from otel_langfuse.local.text import of_input, of_output, plain
from otel_langfuse.local.tree import Branch, arrange
from otel_langfuse.model import Json, Observation
from otel_langfuse.store import TraceSummary, summarize, total_cost, total_tokens

GAP = 2
WIDE = 100
"""Columns of a terminal from which on type, model and tokens have columns of their own."""

TYPE_STYLES = {
    "agent": "magenta",
    "generation": "cyan",
    "embedding": "blue",
    "retriever": "green",
    "tool": "yellow",
    "chain": "bright_magenta",
    "guardrail": "bright_yellow",
    "evaluator": "bright_blue",
    "event": "bright_black",
}
LEVEL_STYLES = {"ERROR": "bold red", "WARNING": "yellow", "DEBUG": "dim"}


class Glyphs(NamedTuple):
    """What lines and bars are drawn with."""

    child: str
    last: str
    through: str
    blank: str
    folded: str
    bar: str
    bar_left: str  # the left half of a cell
    bar_right: str
    more: str
    dot: str


UNICODE = Glyphs("├─ ", "└─ ", "│  ", "   ", "⋯  ", "━", "╸", "╺", "…", " · ")
ASCII = Glyphs("|- ", "`- ", "|  ", "   ", ".. ", "=", "=", "=", "..", " | ")


# -- numbers and times -------------------------------------------------------------------------------------------------


def duration(seconds: float | None) -> str:
    """``420 us``, ``31 ms``, ``1.24 s``, ``2m 03s``, ``5h 07m``, ``3d 04h``; nothing where unknown."""
    if seconds is None:
        return ""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    for unit, part, size in (("m", "s", 60), ("h", "m", 3600)):
        if whole < size * 60 * (1 if unit == "m" else 0.4):
            return f"{whole // size}{unit} {whole % size // (size // 60):02d}{part}"
    return f"{whole // 86400}d {whole % 86400 // 3600:02d}h"


def cost(usd: float | None) -> str:
    """``$0.0012``, to two digits that say something; nothing where unknown."""
    if usd is None:
        return ""
    return f"${usd:,.2f}" if usd >= 1 or usd == 0 else f"${usd:.4f}" if usd >= 0.001 else f"${usd:.2g}"


def moment(time_unix_nano: int | None) -> str:
    """Local time, to the second; nothing where unknown."""
    if time_unix_nano is None:
        return ""
    try:
        local = datetime.fromtimestamp(time_unix_nano // 10**9, timezone.utc).astimezone()
    except (ValueError, OverflowError, OSError):  # further away than calendars go
        return ""
    return local.replace(tzinfo=None).isoformat(" ")


def _seconds(one: Observation) -> float | None:
    start, end = one.start_time_unix_nano, one.end_time_unix_nano
    return None if start is None or end is None else max(end - start, 0) / 1e9


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _tokens(details: Mapping[str, Json]) -> tuple[int, int, int]:
    """Tokens in, out and in total. Langfuse's kinds begin with their side: ``input_cached_tokens`` is a part of the input."""
    sides = [total_tokens({key: value for key, value in details.items() if key.startswith(side)}) for side in ("input", "output")]
    return sides[0], sides[1], total_tokens(details)


# -- the list ----------------------------------------------------------------------------------------------------------


class _Column(NamedTuple):
    title: str
    cells: list[Text]
    right: bool = False
    shrinks: bool = False  # where there is no room for everything
    goes: int = 0  # where there still is none: the highest goes first; 0 stays

    @property
    def width(self) -> int:
        return max([cell_len(self.title), *(cell.cell_len for cell in self.cells)])


def trace_list(traces: Sequence[TraceSummary], width: int, glyphs: Glyphs = UNICODE) -> list[Text]:
    """A table of traces, at most ``width`` columns wide. What no trace has gets no column."""
    digits = enough_digits([trace.id for trace in traces])
    columns = [
        _Column("STARTED", [Text(moment(trace.start_time_unix_nano), "dim") for trace in traces], goes=2),
        _Column("TRACE", [Text(plain(trace.id[:digits]), "cyan") for trace in traces]),
        _Column("NAME", [_trace_name(trace) for trace in traces], shrinks=True),
        _Column("TIME", [Text(duration(trace.duration_s)) for trace in traces], right=True),
        _Column("OBS", [Text(_count(trace.observation_count)) for trace in traces], right=True, goes=5),
        _Column("LEVEL", [_levels(trace.levels) for trace in traces]),
        _Column("TOKENS", [Text(_count(trace.total_tokens)) for trace in traces], right=True, goes=1),
        _Column("COST", [Text(cost(trace.total_cost)) for trace in traces], right=True, goes=3),
        _Column("USER", [Text(plain(trace.user_id)) for trace in traces], shrinks=True, goes=4),
        _Column("SESSION", [Text(plain(trace.session_id)) for trace in traces], shrinks=True, goes=6),
        _Column("TAGS", [Text(plain(", ".join(trace.tags)), "dim") for trace in traces], shrinks=True, goes=8),
        _Column("ENVIRONMENT", [Text(_other(trace.environment), "dim") for trace in traces], shrinks=True, goes=7),
        _Column("RELEASE", [Text(plain(trace.release), "dim") for trace in traces], shrinks=True, goes=9),
    ]
    columns = [column for column in columns if any(cell.plain for cell in column.cells)]
    columns, widths = _squeezed(columns, width)
    titles = [Text(column.title, "dim") for column in columns]
    rows = [titles, *([column.cells[i] for column in columns] for i in range(len(traces)))]
    rights = [column.right for column in columns]
    return [_line([_cell(*cell, glyphs) for cell in zip(row, widths, rights, strict=True)], width, glyphs) for row in rows]


def _trace_name(trace: TraceSummary) -> Text:
    return Text(plain(trace.name), "bold") if trace.name is not None else Text("(no root yet)", "dim italic")


def _levels(levels: Mapping[str, int]) -> Text:
    noted = [(level, levels[level]) for level in ("ERROR", "WARNING") if levels.get(level)]
    return Text(", ").join(Text(_plural(number, level.lower()), LEVEL_STYLES[level]) for level, number in noted)


def _other(environment: str) -> str:
    return "" if environment == "default" else plain(environment)


def enough_digits(ids: Sequence[str], least: int = 8) -> int:
    """How much of each id tells them apart."""
    longest = max([least, *map(len, ids)])
    return next((n for n in range(least, longest) if len({one[:n] for one in ids}) == len(set(ids))), longest)


def _squeezed(columns: list[_Column], width: int, least: int = 12) -> tuple[list[_Column], list[int]]:
    """The columns that fit, and their widths: the widest that may shrink do so first, then columns go."""
    columns = list(columns)
    while True:
        widths = [column.width for column in columns]
        room = width - GAP * (len(columns) - 1)
        while sum(widths) > room:
            may = [i for i, column in enumerate(columns) if column.shrinks and widths[i] > least]
            if not may:
                break
            widths[max(may, key=lambda i: widths[i])] -= 1
        gone = max((column for column in columns if column.goes), key=lambda column: column.goes, default=None)
        if sum(widths) <= room or gone is None:
            return columns, widths
        columns.remove(gone)


def _cell(text: Text, width: int, right: bool, glyphs: Glyphs) -> Text:
    """``text`` in exactly ``width`` columns."""
    kept = cut(text, width, glyphs)
    spaces = " " * (width - kept.cell_len)
    return Text.assemble(spaces, kept) if right else Text.assemble(kept, spaces)


def _line(cells: Sequence[Text], width: int, glyphs: Glyphs) -> Text:
    line = Text(" " * GAP).join(cells)
    line.rstrip()
    return cut(line, width, glyphs)


def cut(text: Text, width: int, glyphs: Glyphs) -> Text:
    """``text``, with a mark at its end where it was cut, in at most ``width`` columns."""
    if text.cell_len <= width:
        return text
    rest = text.copy()
    rest.truncate(max(width - cell_len(glyphs.more), 0))
    return Text.assemble(rest, glyphs.more[:width])


# -- one trace ---------------------------------------------------------------------------------------------------------


def trace_tree(observations: Sequence[Observation], width: int, glyphs: Glyphs = UNICODE) -> list[Text]:
    """One trace: what is known of all of it, then its observations as a tree, each with its bar in the waterfall.

    Args:
        observations: All of one trace (at least one), sorted by start time.
        width: Columns of the terminal. Below ``WIDE`` what has no column of its own stands under the name.
        glyphs: ``ASCII`` where the terminal cannot show others.
    """
    branches = arrange(observations)
    layout = _layout(branches, width)
    lines = [*_header(summarize(observations), width, glyphs), Text()]
    if layout.wide:
        lines.append(_titles(layout))
    span = _Range.of(observations)
    for i, branch in enumerate(branches):
        if i and not branch.lasts and not layout.wide:
            lines.append(Text())
        lines.extend(_branch(branch, layout, span, glyphs))
    return lines


def _header(trace: TraceSummary, width: int, glyphs: Glyphs) -> list[Text]:
    about = [("user", trace.user_id), ("session", trace.session_id), ("tags", ", ".join(trace.tags))]
    about += [("environment", _other(trace.environment)), ("release", trace.release)]
    facts = [
        Text(moment(trace.start_time_unix_nano)),
        Text(duration(trace.duration_s)),
        Text(_plural(trace.observation_count, "observation")),
        Text(_plural(trace.total_tokens, "token") if trace.total_tokens else ""),
        Text(cost(trace.total_cost)),
        _levels(trace.levels),
    ]
    return [
        *_flow([_trace_name(trace), Text(plain(trace.id), "dim")], "  ", width, glyphs),
        *_flow([Text.assemble((f"{label} ", "dim"), plain(value)) for label, value in about if value], None, width, glyphs),
        *_flow(facts, None, width, glyphs),
    ]


def _flow(parts: Sequence[Text], between: str | None, width: int, glyphs: Glyphs) -> list[Text]:
    """The parts side by side, on as many lines as it takes."""
    between = glyphs.dot if between is None else between
    lines: list[Text] = []
    for part in (cut(part, width, glyphs) for part in parts if part.plain):
        if lines and lines[-1].cell_len + len(between) + part.cell_len <= width:
            lines[-1] = Text.assemble(lines[-1], (between, "dim"), part)
        else:
            lines.append(part)
    return lines


class _Range(NamedTuple):
    """From the first start to the last end, in nanoseconds."""

    start: int
    end: int

    @staticmethod
    def of(observations: Sequence[Observation]) -> _Range | None:
        starts = [one.start_time_unix_nano for one in observations if one.start_time_unix_nano is not None]
        ends = [one.end_time_unix_nano for one in observations if one.end_time_unix_nano is not None]
        return _Range(min(starts), max([*starts, *ends])) if starts else None


class _Layout(NamedTuple):
    """Widths of the columns of a tree."""

    width: int
    name: int
    type: int
    model: int
    tokens: tuple[int, int, int]
    cost: int
    time: int
    bar: int

    @property
    def wide(self) -> bool:
        return self.width >= WIDE


def _layout(branches: Sequence[Branch], width: int) -> _Layout:
    all_ = [branch.observation for branch in branches]
    time = _column_width("TIME", (duration(_seconds(one)) for one in all_), 12)
    if width < WIDE:
        bar = max(width // 4, 8) if width >= 60 else 0
        return _Layout(width, max(width - time - bar - GAP * (1 + (bar > 0)), 12), 0, 0, (0, 0, 0), 0, time, bar)
    kind = _column_width("TYPE", (plain(one.type) for one in all_), 10)
    model = _column_width("MODEL", (plain(one.model) for one in all_), 26)
    counts = [[_count(count) for count in _tokens(one.usage_details)] for one in all_]
    given, made, total = (_column_width(title, (row[i] for row in counts), 11) for i, title in enumerate(_TOKEN_TITLES))
    money = _column_width("COST", (cost(total_cost(one.cost_details)) for one in all_), 10)
    fixed = GAP + sum(size + GAP for size in (kind, model, given, made, total, money, time) if size)
    widest = max(3 * branch.depth + cell_len(plain(branch.observation.name)) for branch in branches)
    name = max(min(widest, 48, width - fixed - 18), 20)
    return _Layout(width, name, kind, model, (given, made, total), money, time, min(max(width - fixed - name, 0), 48))


def _column_width(title: str, texts: Iterable[str], most: int) -> int:
    """0 where there is nothing to say."""
    widest = max(map(cell_len, texts), default=0)
    return min(max(widest, len(title)), most) if widest else 0


_TOKEN_TITLES = ("IN", "OUT", "TOTAL")


def _titles(layout: _Layout) -> Text:
    cells = [
        (layout.name, "", False),
        (layout.type, "TYPE", False),
        (layout.model, "MODEL", False),
        *((size, title, True) for size, title in zip(layout.tokens, _TOKEN_TITLES, strict=True)),
        (layout.cost, "COST", True),
        (layout.time, "TIME", True),
    ]
    line = (" " * GAP).join(title.rjust(size) if right else title.ljust(size) for size, title, right in cells if size)
    return Text(line.rstrip(), "dim")


def _branch(branch: Branch, layout: _Layout, span: _Range | None, glyphs: Glyphs) -> list[Text]:
    """The line of one observation, and below it what it was given, what it gave, and what went wrong."""
    one = branch.observation
    style = TYPE_STYLES.get(one.type, "")
    first, below = _guides(branch, layout.name // 2, glyphs)
    name = Text.assemble((first, "dim"), (plain(one.name) or "(no name)", LEVEL_STYLES.get(one.level, "bold")))
    cells = [_cell(name, layout.name, False, glyphs)]
    if layout.wide:
        cells += _columns(one, layout, style, glyphs)
    cells.append(_cell(Text(duration(_seconds(one))), layout.time, True, glyphs))
    if layout.bar:
        cells.append(_bar(one, span, layout.bar, "red" if one.level == "ERROR" else style or "white", glyphs))
    lines = [_line(cells, layout.width, glyphs)]
    details = _details(branch, layout, style, glyphs)
    for label, said in details:
        indent = " " * max(len("out") - label.cell_len, 0)
        lines.append(_line([Text.assemble((below, "dim"), label, indent), said], layout.width, glyphs))
    return lines


def _columns(one: Observation, layout: _Layout, style: str, glyphs: Glyphs) -> list[Text]:
    cells = [_cell(Text(plain(one.type), style), layout.type, False, glyphs)]
    if layout.model:
        cells.append(_cell(Text(plain(one.model)), layout.model, False, glyphs))
    counts = zip(_tokens(one.usage_details), layout.tokens, strict=True)
    cells += [_cell(Text(_count(count)), size, True, glyphs) for count, size in counts if size]
    if layout.cost:
        cells.append(_cell(Text(cost(total_cost(one.cost_details))), layout.cost, True, glyphs))
    return cells


def _details(branch: Branch, layout: _Layout, style: str, glyphs: Glyphs) -> list[tuple[Text, Text]]:
    one = branch.observation
    lines = []
    if not layout.wide:
        lines.append((Text(plain(one.type), style), _in_words(one, glyphs)))
    lines += [(Text("in", "dim"), Text(of_input(one.input))), (Text("out", "dim"), Text(of_output(one.output)))]
    lines = [(label, said) for label, said in lines if said.plain or label.plain == one.type]
    if one.level != "DEFAULT" or one.status_message:
        level = LEVEL_STYLES.get(one.level, "dim")
        lines.append((Text(plain(one.level), level), Text(plain(one.status_message), level)))
    if branch.adrift:
        why = {"missing": f"its parent {plain(one.parent_id)} is not here", "circle": "its parents form a circle"}
        lines.append((Text("adrift", "dim italic"), Text(why[branch.adrift], "dim italic")))
    return lines


def _in_words(one: Observation, glyphs: Glyphs) -> Text:
    """What has columns of its own where there is room."""
    given, made, total = _tokens(one.usage_details)
    tokens = f"{given:,} in, {made:,} out, {total:,} tokens" if given and made else f"{total:,} tokens" if total else ""
    said = [plain(one.model), tokens, cost(total_cost(one.cost_details))]
    return Text(glyphs.dot.join(part for part in said if part), "dim")


def _guides(branch: Branch, room: int, glyphs: Glyphs) -> tuple[str, str]:
    """What stands before the name, and before the lines below it. Of a deep one only the nearest ancestors are drawn."""
    fits = max(room // 3, 1)
    lasts = branch.lasts[-fits:]
    folded = glyphs.folded if branch.depth > len(lasts) else ""
    before = folded + "".join(glyphs.blank if last else glyphs.through for last in lasts[:-1])
    first = before + ((glyphs.last if lasts[-1] else glyphs.child) if lasts else "")
    below = before + ((glyphs.blank if lasts[-1] else glyphs.through) if lasts else "")
    return first, below + (glyphs.through if branch.has_children else glyphs.blank)


def _bar(one: Observation, span: _Range | None, width: int, style: str, glyphs: Glyphs) -> Text:
    """When the observation was, within the trace, to half a column; at least one half of a column long."""
    if span is None or one.start_time_unix_nano is None:
        return Text()
    halves = 2 * width / max(span.end - span.start, 1)
    end = one.end_time_unix_nano if one.end_time_unix_nano is not None else one.start_time_unix_nano
    left = min(round((one.start_time_unix_nano - span.start) * halves), 2 * width - 1)
    right = min(max(round((end - span.start) * halves), left + 1), 2 * width)
    bar = glyphs.bar_right if left % 2 else ""
    bar += glyphs.bar * ((right - right % 2 - left - left % 2) // 2)
    bar += glyphs.bar_left if right % 2 else ""
    return Text.assemble(" " * (left // 2), (bar, style))
