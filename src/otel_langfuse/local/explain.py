"""``otel-langfuse explain``: which rule set each field of an observation, from which attributes, and where it is a correction.

The JSON has one line for each span, with these keys, which it will keep (new ones may come): ``{"request", "trace_id", "span_id",
"name", "scope", "server_fails", "server_drops_request", "fields": [{"field", "value", "rule", "corrections", "from", "spec",
"reason", "server"}]}``. ``request`` says where in the input it stands. ``rule`` is the id of the rule that set the field, null
where none did; ``corrections`` are the ids of those that changed the value afterwards; ``from`` names what the value would be
another without. ``server`` is null where Langfuse's server reads the same, else ``{"value", "rule"}`` of its reading.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TextIO

from rich.cells import cell_len
from rich.text import Text

from otel_langfuse.local.draw import GAP, LEVEL_STYLES, TYPE_STYLES, WIDE, Glyphs, cut
from otel_langfuse.local.provenance import TRACE, Explained, Field, explained, is_empty
from otel_langfuse.local.show import terminal, write_lines
from otel_langfuse.local.text import first_line, plain
from otel_langfuse.model import Json
from otel_langfuse.spans import Unreadable, from_otlp


def explain(requests: Iterable[tuple[str, bytes]], as_json: bool, out: TextIO) -> int:
    """Explain every span of OTLP requests, in a terminal or as JSON (see the module).

    Args:
        requests: Where each stands in the input ("line 3"), and its bytes: OTLP as JSON or protobuf. Read one by one.
        as_json: Write one line of JSON for each span in place of a drawing.
        out: Where to write. Colours and the width of the terminal are used where it is one, else 120 columns without colour.

    Returns:
        The exit status: 0, or 1 where a request could not be read, which is told on standard error.
    """
    failed, spans, corrected = False, 0, 0
    for place, payload in requests:
        if not payload.strip():
            continue
        try:
            found = explained(from_otlp(payload))
        except Unreadable as error:
            sys.stderr.write(f"otel-langfuse explain: {plain(place)}: {plain(str(error))}\n")
            failed = True
            continue
        dropped = any(one.server_fails for one in found)
        for one in found:
            spans += 1
            corrected += sum(field.differs for field in one.fields)
            if as_json:
                # Only ASCII: nothing in a string can act on a terminal, and nothing fails to be encoded.
                line = json.dumps({"request": place, **as_row(one, dropped)}, default=str)
                out.write(line + "\n")
            else:
                write_lines([*drawn(one, dropped, *_canvas(out)), Text()], out)
    if spans and not as_json:
        write_lines([Text(_summary(spans, corrected), "dim")], out)
    return 1 if failed else 0


def as_row(one: Explained, dropped: bool) -> dict[str, Any]:
    """An explained span as JSON; see the module. ``dropped``: the server would drop the whole request."""
    return {
        "trace_id": one.span.trace_id,
        "span_id": one.span.span_id,
        "name": one.span.name,
        "scope": one.span.scope.name,
        "server_fails": one.server_fails,
        "server_drops_request": dropped,
        "fields": [
            {
                "field": field.name,
                "value": field.value,
                "rule": field.rule,
                "corrections": list(field.corrections),
                "from": list(field.sources),
                "spec": field.spec,
                "reason": field.reason,
                "server": {"value": field.server, "rule": field.server_rule} if field.differs else None,
            }
            for field in one.fields
        ],
    }


def _summary(spans: int, corrected: int) -> str:
    of = f"{spans:,} span{'s' * (spans != 1)}"
    return f"{of}; Langfuse's server reads {f'{corrected:,} field' if corrected else 'no field'}{'s' * (corrected > 1)} otherwise"


# -- drawing -----------------------------------------------------------------------------------------------------------


def _canvas(out: TextIO) -> tuple[int, Glyphs]:
    console, glyphs = terminal(out)
    return console.width, glyphs


def drawn(one: Explained, dropped: bool, width: int, glyphs: Glyphs) -> list[Text]:
    """A span as lines of at most ``width`` columns: a table from ``WIDE`` columns on, else each field in a few lines.

    What a trace has from its root's own fields is not drawn again.
    """
    observation, span = one.observation, one.span
    style = LEVEL_STYLES.get(observation.level) or TYPE_STYLES.get(observation.type, "bold")
    scope = f"{plain(span.scope.name)} {plain(span.scope.version)}".strip()
    title = Text.assemble((plain(span.name) or "(no name)", style), " " * GAP, scope)
    lines = [title, Text(f"span {plain(span.span_id)} of trace {plain(span.trace_id)}", "dim")]
    if dropped:
        because = "of it" if one.server_fails else "of another span in it"
        lines += _prose(f"Langfuse's server would drop the whole request because {because}.", "bold red", width)
    own = {field.name: field for field in one.fields}
    fields = [field for field in one.fields if not _repeats(field, own.get(field.name.removeprefix(TRACE)))]
    draw = _wide if width >= WIDE else _narrow
    return [cut(line, width, glyphs) for line in [*lines, *draw(fields, width, glyphs)]]


def _repeats(field: Field, own: Field | None) -> bool:
    return own is not None and field._replace(name=own.name) == own and field.name.startswith(TRACE)


def _wide(fields: Sequence[Field], width: int, glyphs: Glyphs) -> Iterator[Text]:
    names = max([len("FIELD"), *(len(field.name) for field in fields)])
    rules = min(max([len("RULE"), *(len(rule) for field in fields for rule in _rules(field))]), 44)
    rest = width - names - rules - 3 * GAP
    sources = max([0, *(cell_len(name) for field in fields for name in _shortened(field.sources))])
    sources = max(min(sources, rest - 24), rest // 3)
    sizes = (names, rest - sources, rules, sources)
    yield _row([Text(title, "dim") for title in ("FIELD", "VALUE", "RULE", "FROM")], sizes, glyphs)
    for field in fields:
        read = _flow(_named(field, sizes[3]), sizes[3], glyphs)
        columns = [[Text(field.name, "bold")], [_said(field.value)], [_ruled(rule) for rule in _rules(field)], read]
        for place in range(max(map(len, columns))):
            yield _row([column[place] if place < len(column) else Text() for column in columns], sizes, glyphs)
        yield from _otherwise(field, names + GAP, width)


def _narrow(fields: Sequence[Field], width: int, glyphs: Glyphs) -> Iterator[Text]:
    for field in fields:
        yield Text.assemble((field.name, "bold"), " " * GAP, _said(field.value))
        for line in _flow([*map(_ruled, _rules(field)), *_named(field, width - GAP)], width - GAP, glyphs):
            yield Text.assemble(" " * GAP, line)
        yield from _otherwise(field, GAP, width)


def _rules(field: Field) -> tuple[str, ...]:
    return ((field.rule,) if field.rule else ()) + field.corrections


def _ruled(rule: str) -> Text:
    return Text(rule, "magenta" if rule.startswith("corrections/") else "dim")


def _said(value: Json) -> Text:
    if is_empty(value):
        return Text("(nothing)", "dim italic")
    return Text(plain(first_line(value)) if isinstance(value, str) else plain(value))


def _otherwise(field: Field, indent: int, width: int) -> Iterator[Text]:
    """What the server would have said, and why we say otherwise."""
    if field.differs:
        by = f" ({field.server_rule})" if field.server_rule else ""
        yield Text.assemble(" " * indent, ("server: ", "yellow"), _said(field.server), (by, "dim"))
        for line in _prose(field.reason, "dim italic", width - indent):
            yield Text.assemble(" " * indent, line)


def _named(field: Field, width: int) -> list[Text]:
    """What the field was read from; a name that is wider than a line goes on in the next, for it may have to be copied."""
    return [
        Text(line, "cyan") for name in _shortened(field.sources) for line in textwrap.wrap(name, width, subsequent_indent="  ")
    ]


def _shortened(sources: Sequence[str]) -> list[str]:
    """Names for a reader: of more than three that begin alike only how many there are."""
    groups: dict[str, list[str]] = {}
    for source in sources:
        head, dot, rest = source.partition(".")
        groups.setdefault(f"{head}{dot}{rest.partition('.')[0]}", []).append(source)
    shown = []
    for head, names in groups.items():
        shown += [f"{head}.* ({len(names)})"] if len(names) > 3 else names
    return [plain(name) for name in shown]


def _prose(text: str, style: str, width: int) -> list[Text]:
    return [Text(line, style) for line in textwrap.wrap(text, max(width, 10))]


def _flow(parts: Sequence[Text], width: int, glyphs: Glyphs) -> list[Text]:
    """The parts side by side, on as many lines as it takes; each is cut where it is wider than a line."""
    lines: list[Text] = []
    for part in (cut(part, width, glyphs) for part in parts):
        if lines and lines[-1].cell_len + GAP + part.cell_len <= width:
            lines[-1] = Text.assemble(lines[-1], " " * GAP, part)
        else:
            lines.append(part)
    return lines


def _row(cells: Sequence[Text], sizes: Sequence[int], glyphs: Glyphs) -> Text:
    kept = [cut(cell, size, glyphs) for cell, size in zip(cells, sizes, strict=True)]
    padded = [Text.assemble(cell, " " * (size - cell.cell_len)) for cell, size in zip(kept, sizes, strict=True)]
    line = Text(" " * GAP).join(padded)
    line.rstrip()
    return line
