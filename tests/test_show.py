"""``otel-langfuse show`` tells everything of a trace in a terminal of any width, and nothing in a span can act on it."""

from __future__ import annotations

import io
import json
import os
import re
import struct
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rich")

from otel_langfuse.local.draw import ASCII, UNICODE, cost, duration, trace_list, trace_tree
from otel_langfuse.local.show import show
from otel_langfuse.local.text import MAX_LINE, of_input, of_output, plain
from otel_langfuse.local.tree import MAX_GUIDES, arrange
from otel_langfuse.model import Observation, Score, TraceFields
from otel_langfuse.store import Store, summarize

MS = 1_000_000
START = 1_760_000_000_000 * MS  # 2025-10-09 08:53:20 UTC
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
DEFAULTS: dict[str, Any] = {
    "trace_id": TRACE,
    "type": "span",
    "name": "work",
    "start_time_unix_nano": START,
    "end_time_unix_nano": START + 100 * MS,
    "environment": "default",
    "level": "DEFAULT",
    "metadata": {},
    "model_parameters": {},
    "usage_details": {},
    "cost_details": {},
    "is_root": False,
    "updates_trace": False,
    "trace": TraceFields(),
    "rules": {},
}


def observation(id: str, parent_id: str | None = None, at: int = 0, ms: int = 100, **fields: Any) -> Observation:  # noqa: A002
    times = {"start_time_unix_nano": START + at * MS, "end_time_unix_nano": START + (at + ms) * MS}
    return Observation(**{**dict.fromkeys(Observation._fields), **DEFAULTS, **times, "id": id, "parent_id": parent_id, **fields})


ROOT = observation(
    "r", ms=400, type="agent", name="answer", is_root=True, input="How are you?", output="Fine.\nAnd you?",
    trace=TraceFields(user_id="u-1", session_id="s-1", tags=("x", "y"), release="v2"), environment="production",
)  # fmt: skip
CHAT = observation(
    "c", "r", at=100, ms=200, type="generation", name="chat gpt-4o", model="gpt-4o-2024-08-06",
    input='[{"role":"system","parts":[{"content":"Be nice","type":"text"}]},'
          '{"role":"user","parts":[{"content":"How are you?","type":"text"}]}]',
    output='[{"role":"assistant","parts":[{"content":"Fine.\\nAnd you?","type":"text"}]}]',
    usage_details={"input": 1200, "output": 30, "input_cached_tokens": 34, "total": 1264}, cost_details={"total": 0.0123},
)  # fmt: skip
FAILED = observation("f", "r", at=300, ms=100, type="tool", name="look_up", level="ERROR", status_message="no such order")
SAMPLE = [ROOT, CHAT, FAILED]


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("FORCE_COLOR", "NO_COLOR", "COLUMNS", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "langfuse.db"


def store(db: Path, *observations: Observation) -> str:
    kept = Store(db)
    kept.write(observations)
    kept.close()
    return str(db)


def shown(db: Path, trace_id: str | None = None, *observations: Observation, out: Any = None) -> str:
    """What ``show`` writes for a store of these observations (default: the sample)."""
    out = out or io.StringIO()
    assert show(store(db, *(observations or SAMPLE)), trace_id, False, 20, out) == 0
    return out.getvalue() if isinstance(out, io.StringIO) else ""


# -- the drawing -------------------------------------------------------------------------------------------------------


def test_a_trace_is_drawn_as_a_tree_beside_its_waterfall(db: Path) -> None:
    assert shown(db, "4bf9").splitlines() == [
        "answer  4bf92f3577b34da6a3ce929d0e0e4736",
        "user u-1 · session s-1 · tags x, y · environment production · release v2",
        "2025-10-09 08:53:20 · 400 ms · 3 observations · 1,264 tokens · $0.0123 · 1 error",
        "",
        "                      TYPE        MODEL                 IN  OUT  TOTAL     COST    TIME",
        "answer                agent                                                      400 ms  " + "━" * 31,
        "│  in   How are you?",
        "│  out  Fine. ⏎ …",
        "├─ chat gpt-4o        generation  gpt-4o-2024-08-06  1,234   30  1,264  $0.0123  200 ms  " + " " * 8 + "━" * 15,
        "│     in   How are you?",
        "│     out  Fine. ⏎ …",
        "└─ look_up            tool                                                       100 ms  " + " " * 23 + "━" * 8,
        "      ERROR  no such order",
    ]


def test_traces_are_listed_with_what_they_have(db: Path) -> None:
    lines = shown(db).splitlines()
    assert lines == [
        "STARTED              TRACE     NAME      TIME  OBS  LEVEL    TOKENS     COST  USER  SESSION  TAGS  ENVIRONMENT  RELEASE",
        "2025-10-09 08:53:20  4bf92f35  answer  400 ms    3  1 error   1,264  $0.0123  u-1   s-1      x, y  production   v2",
        "",
        "One of them as a tree:",
        "",
        f"    otel-langfuse show --db {db} 4bf92f35",
    ]


def test_the_latest_come_first_with_as_much_of_their_ids_as_tells_them_apart(db: Path) -> None:
    ids = ["aaaaaaaaaaaa1", "aaaaaaaaaaaa2", "b"]
    lines = shown(db, None, *(observation("r", at=i, trace_id=trace_id) for i, trace_id in enumerate(ids)))
    assert [line.split()[2] for line in lines.splitlines()[1:4]] == ["b", "aaaaaaaaaaaa2", "aaaaaaaaaaaa1"]
    assert "(no root yet)" in lines


def test_a_trace_id_that_a_shell_would_understand_is_not_offered_for_pasting(db: Path) -> None:
    text = shown(db, None, observation("r", trace_id="; rm -rf ~"))
    assert "; rm -rf" in text
    assert "otel-langfuse show" not in text


@pytest.mark.parametrize("width", [1, 5, 20, 30, 59, 60, 80, 99, 100, 101, 120, 200])
@pytest.mark.parametrize("glyphs", [UNICODE, ASCII])
def test_no_line_is_wider_than_the_terminal(width: int, glyphs: Any) -> None:
    wide = [one._replace(name="長い名前 " * 40, model="m" * 300, input="入力" * 900, status_message="s" * 999) for one in SAMPLE]
    huge = [observation("r", type="t" * 99, level="L" * 99, usage_details={"input": 2**62}, cost_details={"a": 1e17}, ms=10**9)]
    for observations in (SAMPLE, wide, huge):
        lines = trace_tree(observations, width, glyphs) + trace_list([summarize(observations)], width, glyphs)
        assert max(line.cell_len for line in lines) <= width


@pytest.mark.parametrize("width", [40, 80, 120])
def test_everything_is_told_at_every_usual_width(width: int) -> None:
    text = "\n".join(line.plain for line in trace_tree(SAMPLE, width))
    for said in ("answer", "generation", "gpt-4o", "200 ms", "u-1", "s-1", "Fine.", "ERROR", "no such order", "1 error"):
        assert said in text
    assert "1,2" in text


def test_levels_are_told_in_words_and_not_by_colour_alone(db: Path) -> None:
    levels = [observation(level, level=level, name="x") for level in ("DEBUG", "WARNING", "ERROR", "DEFAULT")]
    text = shown(db, TRACE, *levels)
    words = [line.split()[0] for line in text.splitlines()[4:]]
    assert words == ["x", "DEBUG", "x", "WARNING", "x", "ERROR", "x"]
    assert "1 error, 1 warning" in text


def test_observations_without_times_or_ends_are_drawn_without_bars(db: Path) -> None:
    nothing: dict[str, Any] = {"start_time_unix_nano": None, "end_time_unix_nano": None}
    text = shown(db, TRACE, observation("a", name="timeless", **nothing))
    assert "timeless" in text
    assert "━" not in text
    text = shown(db, TRACE, ROOT, observation("b", at=200, name="endless", end_time_unix_nano=None))
    (line,) = [line for line in text.splitlines() if "endless" in line]
    assert "ms" not in line
    assert line.rstrip()[-1] in "╺╸"  # half a column, where it began


def test_something_before_1970_or_after_the_end_of_calendars_is_drawn(db: Path) -> None:
    edges = [observation("a", start_time_unix_nano=-(2**62), end_time_unix_nano=2**63 - 1)]
    assert "work" in shown(db, TRACE, *edges)
    assert show(str(db), TRACE, True, 20, io.StringIO()) == 0
    shown(db)


# -- trees that are none -----------------------------------------------------------------------------------------------


def test_an_observation_whose_parent_is_not_there_stands_at_the_top_and_says_so(db: Path) -> None:
    text = shown(db, TRACE, ROOT, observation("o", "lost", name="orphan", at=10), observation("p", "o", name="child"))
    assert "\norphan " in text
    assert "└─ child " in text
    assert "adrift  its parent lost is not here" in text


def test_circles_of_parents_are_cut_open_and_every_observation_is_drawn_once(db: Path) -> None:
    circle = [observation("a", "c"), observation("b", "a"), observation("c", "b"), observation("self", "self")]
    drawn = [(branch.observation.id, branch.depth, branch.adrift) for branch in arrange([ROOT, *circle, FAILED])]
    assert drawn == [
        ("r", 0, ""), ("f", 1, ""), ("a", 0, "circle"), ("b", 1, ""), ("c", 2, ""), ("self", 0, "circle"),
    ]  # fmt: skip
    assert shown(db, TRACE, ROOT, *circle).count("its parents form a circle") == 2


def test_five_thousand_observations_are_all_drawn(db: Path) -> None:
    text = shown(db, TRACE, *(observation(str(i), str((i - 1) // 7) if i else None, name=f"n{i}.") for i in range(5000)))
    assert len(set(re.findall(r"n(\d+)\.", text))) == 5000
    assert max(map(len, text.splitlines())) <= 120


def test_a_chain_of_five_thousand_is_arranged_without_recursion_and_drawn_within_its_column(db: Path) -> None:
    chain = [observation(str(i), str(i - 1) if i else None, name=f"n{i}.") for i in range(5000)]
    assert [branch.depth for branch in arrange(chain)] == list(range(5000))
    assert max(len(branch.lasts) for branch in arrange(chain)) == MAX_GUIDES  # else memory grows with the square
    text = shown(db, TRACE, *chain[:300])
    assert len(set(re.findall(r"n(\d+)\.", text))) == 300
    assert "⋯" in text


# -- hostile text ------------------------------------------------------------------------------------------------------

HOSTILE = {
    "clear screen": "\x1b[2J\x1b[H",
    "window title": "\x1b]0;owned\x07",
    "hyperlink": "\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\",
    "c1": "\x9b2J\x90q\x9c",
    "markup": "[red]not red[/red] [link=http://evil]x[/link] :boom:",
    "bidi": "a\u202eb\u2066c\u200fd\u061c",
    "lines": "one\ntwo\r\nthree\u2028four\u2029five\x85six\x0bseven\x0ceight",
    "back": "secret\b\b\b\b\b\bpublic\rover\x7f",
    "invisible": "a\u200bb\ufeffc\U000e0041d\u00ade",
    "nul and surrogate": "a\x00b\ud800c",
    "tower": "Z" + "\u0301" * 500,
    "tabs": "a\tb",
}
ALLOWED_FORMAT = {"\u200c", "\u200d"}


def printable(text: str) -> bool:
    """Nothing but visible characters, spaces and the ends of our own lines."""
    return all(
        character in ALLOWED_FORMAT or character == "\n" or unicodedata.category(character)[0] not in "CZ" or character == " "
        for character in text
    )


def full_of(hostile: str) -> list[Observation]:
    trace = TraceFields(hostile, hostile, hostile, hostile, True, (hostile,))
    texts: dict[str, Any] = dict.fromkeys(("name", "status_message", "model", "environment", "type", "level"), hostile)
    messages = [{"role": "user", "content": hostile, "tool_calls": [{"function": {"name": hostile, "arguments": hostile}}]}]
    many: list[Any] = [hostile, {hostile: hostile}, messages, json.dumps(messages), [hostile], {"messages": messages}]
    return [
        observation(f"{i}{hostile}", hostile if i else None, trace_id=hostile, input=value, output=value, trace=trace, **texts)
        for i, value in enumerate(many)
    ]


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_shown_and_does_not_act(db: Path, hostile: str) -> None:
    path = store(db, *full_of(hostile))
    for trace_id in (None, hostile):
        out = io.StringIO()
        assert show(path, trace_id, False, 20, out) == 0
        assert printable(out.getvalue())
        assert max(len(line) for line in out.getvalue().splitlines()) < 1000


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_in_a_terminal_the_only_escapes_are_our_own_colours(db: Path, hostile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    text = shown(db, hostile, *full_of(hostile))
    assert "\x1b[" in text
    assert printable(re.sub(r"\x1b\[[\d;]*m", "", text))


def test_hostile_text_stays_readable(db: Path) -> None:
    text = shown(db, TRACE, observation("a", name="\x1b[2J", input="[red]x[/red]", output="a\u202eb"))
    assert "␛[2J" in text
    assert "in   [red]x[/red]" in text
    assert "out  a�b" in text


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_json_is_ascii_without_control_characters_and_holds_the_text_itself(db: Path, hostile: str) -> None:
    path = store(db, *full_of(hostile))
    out = io.StringIO()
    assert show(path, hostile, True, 20, out) == 0
    assert printable(out.getvalue())
    assert out.getvalue().isascii()
    named = json.loads(out.getvalue())["name"]
    assert named == (hostile if "\ud800" not in hostile else "a\x00b\\ud800c")


def test_messages_of_failure_are_printable_too(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = store(db, *SAMPLE)
    assert show(path, "\x1b[2J\u202e", False, 20, io.StringIO()) == 1
    assert show("\x1b[2J.db", None, False, 20, io.StringIO()) == 1
    said = capsys.readouterr().err
    assert printable(said)
    assert len(said.splitlines()) == 2


# -- one line of an input or output ------------------------------------------------------------------------------------

CALL = {"id": "1", "type": "function", "function": {"name": "find", "arguments": '{"q": "x", "n": 2}'}}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, ""),
        ("", ""),
        ("  \n\n plain text \n", "plain text"),
        ("first\nsecond", "first ⏎ …"),
        ({"a": [1, None]}, '{"a": [1, null]}'),
        (["just", "texts"], '["just", "texts"]'),
        (0, "0"),
        (False, "false"),
        ("[not json", "[not json"),
        ("[" * 9000, "[" * MAX_LINE),
        ([], "[]"),
        ([{"role": "user", "content": "old"}, {"role": "user", "content": "new"}], "new"),
        ({"messages": [{"role": "user", "content": "asked"}], "tools": [CALL]}, "asked"),
        ([{"role": "user", "content": "asked"}, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": "5"}],
         "asked  (+ 1 tool result)"),
        ([{"role": "user", "content": [{"type": "text", "text": "what is"}, {"type": "image_url", "image_url": {}}]}],
         "what is  [image_url]"),
        ([{"role": "system", "content": "only this"}], "only this"),
        ([{"message": {"role": "user", "content": "openinference"}}], "openinference"),
        ([{"role": "user", "content": {"odd": 1}}], '{"odd": 1}'),
    ],
)  # fmt: skip
def test_an_input_in_one_line(value: Any, said: str) -> None:
    assert of_input(value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"role": "assistant", "content": "hello\nworld"}, "hello ⏎ …"),
        ({"choices": [{"index": 0, "message": {"role": "assistant", "content": "raw"}}]}, "raw"),
        ([{"role": "assistant", "content": None, "tool_calls": [CALL]}], '→ find(q="x", n=2)'),
        ([{"role": "assistant", "content": "wait", "tool_calls": [CALL, CALL]}], 'wait  → find(q="x", n=2)  → find(q="x", n=2)'),
        ([{"role": "assistant", "parts": [{"type": "tool_call", "name": "find", "arguments": {"q": "x"}}]}], '→ find(q="x")'),
        ([{"role": "assistant", "content": [{"type": "tool_use", "name": "find", "input": {"q": 1}}]}], "→ find(q=1)"),
        ([{"role": "assistant", "tool_calls": [{"function": {"name": None, "arguments": "not json"}}, 7]}], '→ ?("not json")  7'),
        ('{"role": "assistant", "content": "json text"}', "json text"),
        ([0.25] * 3, "[0.25, 0.25, 0.25]"),
        ({"answer": 42}, '{"answer": 42}'),
    ],
)
def test_an_output_in_one_line(value: Any, said: str) -> None:
    assert of_output(value) == said


def test_a_large_value_costs_no_more_than_its_beginning() -> None:
    begun = time.process_time()
    assert len(plain({"a": list(range(3_000_000))})) == MAX_LINE
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, ""), (0, "0 us"), (0.00042, "420 us"), (0.0312, "31 ms"), (0.9994, "999 ms"), (0.9996, "1.00 s"), (12.345, "12.35 s"),
     (59.996, "1m 00s"), (123, "2m 03s"), (3600, "1h 00m"), (18420, "5h 07m"), (86400, "1d 00h"), (273600, "3d 04h")],
)  # fmt: skip
def test_durations_are_said_in_the_unit_that_fits(seconds: float | None, said: str) -> None:
    assert duration(seconds) in (said, said.replace("12.35", "12.34"))


@pytest.mark.parametrize(
    ("usd", "said"),
    [(None, ""), (0, "$0.00"), (1234.5, "$1,234.50"), (0.25, "$0.2500"), (0.0012, "$0.0012"), (0.0000123, "$1.2e-05")],
)
def test_costs_are_said_in_dollars(usd: float | None, said: str) -> None:
    assert cost(usd) == said


# -- where it is written, and what it is asked -------------------------------------------------------------------------


def test_without_a_terminal_there_is_no_colour_and_120_columns(db: Path) -> None:
    text = shown(db, TRACE, observation("a", input="x" * 500))
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) == 120


def test_an_output_that_knows_only_ascii_gets_ascii(db: Path) -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    shown(db, TRACE, ROOT, CHAT, FAILED._replace(name="Grüße"), out=out)
    text = raw.getvalue().decode("ascii")
    assert "|- chat gpt-4o" in text
    assert "`- Gr??e" in text
    assert "====" in text


def test_a_terminal_gets_colour_and_its_own_width(db: Path) -> None:
    pty = pytest.importorskip("pty")
    fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
    path = store(db, *SAMPLE)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 46, 0, 0))
    program = f"import sys; from otel_langfuse.local.show import show; show({path!r}, {TRACE!r}, False, 20, sys.stdout)"
    environ = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], stdout=slave, env=environ, timeout=30, check=True)
    os.close(slave)
    read = b""
    while b"no such order" not in read:
        read += os.read(master, 65536)
    os.close(master)
    text = read.decode()
    assert "\x1b[1;31mlook_up" in text
    lines = re.sub(r"\x1b\[[\d;]*m", "", text).split("\r\n")
    assert max(map(len, lines)) <= 46
    assert "│     generation  gpt-4o-2024-08-06 · 1,234 i…" in lines


def test_json_of_a_list_has_the_documented_keys(db: Path) -> None:
    out = io.StringIO()
    assert show(store(db, *SAMPLE), None, True, 20, out) == 0
    assert json.loads(out.getvalue()) == [
        {
            "id": TRACE,
            "name": "answer",
            "start_time": "2025-10-09T08:53:20.000000+00:00",
            "end_time": "2025-10-09T08:53:20.400000+00:00",
            "duration_ms": 400.0,
            "user_id": "u-1",
            "session_id": "s-1",
            "tags": ["x", "y"],
            "environment": "production",
            "release": "v2",
            "levels": {"DEFAULT": 2, "ERROR": 1},
            "observation_count": 3,
            "total_tokens": 1264,
            "total_cost": 0.0123,
        }
    ]


def test_json_of_a_trace_has_the_documented_keys(db: Path) -> None:
    out = io.StringIO()
    assert show(store(db, *SAMPLE), "4BF92", True, 20, out) == 0
    document = json.loads(out.getvalue())
    assert document["session_id"] == "s-1"
    assert [one["id"] for one in document["observations"]] == ["r", "c", "f"]
    chat = document["observations"][1]
    assert {key for key in chat if not CHAT._asdict().get(key)} - {"start_time", "end_time", "duration_ms"} == {
        "completion_start_time", "metadata", "model_parameters", "prompt_name", "prompt_version", "rules", "status_message",
        "version",
    }  # fmt: skip
    assert (chat["type"], chat["parent_id"], chat["duration_ms"]) == ("generation", "r", 200.0)
    assert chat["input"] == CHAT.input
    assert chat["usage_details"] == CHAT.usage_details


def score(name: str, value: float | str, **fields: Any) -> Score:
    return Score(
        id=f"id of {name}", event_id="e", timestamp="2025-10-09T08:53:20Z", name=name, value=value, trace_id=TRACE, **fields
    )


SCORES = [
    score("helpful", 1.0, data_type="BOOLEAN", comment="says\nwhy"),
    score("faithfulness", 0.9, data_type="NUMERIC", observation_id="c"),
    score("tone", "warm \x1b[31m", data_type="CATEGORICAL", observation_id="unknown"),
    score("n" * 60, 0.0, data_type="BOOLEAN"),
]


def judged(db: Path, as_json: bool) -> str:
    path = store(db, *SAMPLE)
    with_scores = Store(path)
    with_scores.write_scores(SCORES)
    with_scores.close()
    out = io.StringIO()
    assert show(path, TRACE, as_json, 20, out) == 0
    return out.getvalue()


def test_scores_stand_below_the_tree(db: Path) -> None:
    lines = judged(db, as_json=False).splitlines()
    assert [line.split() for line in lines[lines.index("SCORES") + 1 :]] == [
        ["helpful", "true", "says␊why"],
        ["faithfulness", "0.9", "chat", "gpt-4o"],
        ["tone", "warm", "␛[31m", "unknown"],
        ["n" * 31 + "…", "false"],
    ]
    assert max(map(len, lines)) <= 120


def test_scores_are_in_the_json_and_a_trace_without_any_has_no_heading(db: Path, tmp_path: Path) -> None:
    found = json.loads(judged(db, as_json=True))["scores"]
    assert [(one["name"], one["value"], one["observation_id"]) for one in found] == [
        (one.name, one.value, one.observation_id) for one in SCORES
    ]
    out = io.StringIO()
    show(store(tmp_path / "other.db", *SAMPLE), TRACE, False, 20, out)
    assert "SCORES" not in out.getvalue()


def test_an_empty_store_says_that_there_is_nothing_yet(db: Path) -> None:
    db.touch()
    out = io.StringIO()
    assert show(str(db), None, False, 20, out) == 0
    assert out.getvalue().startswith("No traces yet in ")
    out = io.StringIO()
    assert show(str(db), None, True, 20, out) == 0
    assert json.loads(out.getvalue()) == []


def test_a_store_that_is_not_there_is_said_with_how_to_name_one(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(str(db), None, False, 20, io.StringIO()) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"otel-langfuse show: {db}: no such file: name the file with --db")
    assert not db.exists()


@pytest.mark.parametrize(
    ("asked", "said"), [("ff", "no trace whose id begins with 'ff'"), ("a", "several traces begin with 'a'")]
)
def test_a_trace_that_is_not_there_or_not_one_is_an_error(
    db: Path, asked: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = store(db, observation("r", trace_id="a1"), observation("r", trace_id="a2"))
    out = io.StringIO()
    assert show(path, asked, False, 20, out) == 1
    assert said in capsys.readouterr().err
    assert out.getvalue() == ""


def test_the_store_of_the_environment_is_the_default_and_else_langfuse_db_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sub").mkdir()
    store(tmp_path / "sub" / "named.db", observation("r", trace_id="named"))
    store(tmp_path / "langfuse.db", observation("r", trace_id="default"))
    monkeypatch.chdir(tmp_path)

    out = io.StringIO()
    assert show(None, None, False, 20, out) == 0
    assert out.getvalue().endswith("\n    otel-langfuse show default\n")

    def first() -> Any:
        out = io.StringIO()
        assert show(None, None, True, 20, out) == 0
        return json.loads(out.getvalue())[0]["id"]

    assert first() == "default"
    monkeypatch.setenv("LANGFUSE_BASE_URL", "https://cloud.langfuse.com")
    assert first() == "default"
    monkeypatch.setenv("LANGFUSE_BASE_URL", "sqlite:///sub/named.db")
    assert first() == "named"
    monkeypatch.setenv("LANGFUSE_BASE_URL", f"sqlite:///{tmp_path}/sub/named.db")
    assert first() == "named"
    monkeypatch.setenv("LANGFUSE_BASE_URL", "nonsense")
    assert show(None, None, True, 20, io.StringIO()) == 1
    assert "LANGFUSE_BASE_URL" in capsys.readouterr().err
