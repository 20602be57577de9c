"""JavaScript's ways, checked against a table and, where there is one, against a real engine."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_langfuse.conventions import _javascript as js

NUMBERS = (
    0.0,
    -0.0,
    1.0,
    -2.5,
    0.1,
    1e-6,
    1e-7,
    1.5e-10,
    123456.789,
    1e16,
    1e20,
    1e21,
    1.7976931348623157e308,
    5e-324,
    2**53,
    2**60,
)


def in_node(program: str, values: Any) -> Any:
    """What a real JavaScript engine makes of the values, one by one."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no JavaScript engine on this machine")
    script = f"const v = JSON.parse(require('fs').readFileSync(0)); console.log(JSON.stringify(v.map(x => {program})))"
    done = subprocess.run([node, "-e", script], input=json.dumps(values), capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, False), (False, False), (0, False), (0.0, False), ("", False), ([], True), ({}, True), ("0", True), (-1, True)],
)
def test_truth_is_that_of_javascript(value: Any, expected: bool) -> None:
    assert js.truthy(value) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0, "1"),
        (1e21, "1e+21"),
        (1e20, "100000000000000000000"),
        (1e-7, "1e-7"),
        (0.000001, "0.000001"),
        (2**53 + 1, "9007199254740992"),
        (-0.0, "0"),
    ],
)
def test_numbers_are_written_as_javascript_writes_them(value: float, expected: str) -> None:
    assert js.number_text(value) == expected


def test_numbers_are_written_as_a_real_engine_writes_them() -> None:
    assert [js.number_text(value) for value in NUMBERS] == in_node("String(x)", NUMBERS)


TEXTS = (
    "",
    " ",
    "12",
    " 12\n",
    "1e3",
    "0x10",
    "0X1f",
    "0b11",
    "0o7",
    "1_000",
    "12abc",
    "Infinity",
    "-Infinity",
    "+5",
    ".5",
    "5.",
    ".",
    "NaN",
    "\u0661",
)


def test_number_reads_text_as_a_real_engine_does() -> None:
    engine = in_node("String(Number(x))", TEXTS)
    assert [js.text(js.number(text)) for text in TEXTS] == engine


def test_parse_int_reads_text_as_a_real_engine_does() -> None:
    assert [js.text(js.parse_int(text)) for text in TEXTS if not text.lower().startswith("0x")] == in_node(
        "String(parseInt(x, 10))", [text for text in TEXTS if not text.lower().startswith("0x")]
    )


DATES = (
    "2026-01-31",
    "2026-01-31T10:00:00Z",
    "2026-01-31T10:00:00.123456+02:00",
    "2026-01-31 10:00:00",
    "2026",
    "2026-13-01",
    "hello",
    "",
    "T10:00",
    "2026-01-31T25:00:00Z",
)


def test_dates_are_valid_where_a_real_engine_says_so() -> None:
    assert [js.is_date(text) for text in DATES] == in_node("!isNaN(new Date(x))", DATES)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e15, 1e15) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


def test_values_are_stringified_as_a_real_engine_does() -> None:
    samples = [{"b": 1, "10": [1.0, None], "2": "é\n"}, [1e21, 1e-7, True], "a\u2028b", {"": {}}, [[], {}]]
    assert [js.stringify(sample) for sample in samples] == in_node("JSON.stringify(x)", samples)


@given(values)
@settings(max_examples=200, deadline=None)
def test_what_is_stringified_is_json_of_the_same_value(value: Any) -> None:
    assert json.loads(js.stringify(value)) == value


@pytest.mark.parametrize("text", ["NaN", "[1,]", "{'a': 1}", "", "Infinity", "[" * 100_000])
def test_what_is_not_json_there_is_not_json_here(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is that of whichever parser refused
        js.parse(text)


def test_large_integers_lose_precision_as_they_do_there() -> None:
    assert js.parse("[9007199254740993, 123456789012345678901234567890]") == [9007199254740992.0, 1.2345678901234568e29]


def test_lone_surrogates_survive() -> None:
    assert js.parse('"\\ud800"') == "\ud800"
    assert js.stringify("\ud800x") == '"\\ud800x"'


def test_deep_values_are_cut_not_followed() -> None:
    deep: Any = []
    for _ in range(5_000):
        deep = [deep]
    assert js.stringify(deep).count("[") < 300


def test_objects_list_their_integer_like_keys_first() -> None:
    assert [key for key, _ in js.ordered({"b": 1, "10": 1, "2": 1, "01": 1})] == ["2", "10", "b", "01"]


def test_nan_is_null_in_json_and_not_a_number_as_text() -> None:
    assert js.stringify([math.nan, math.inf]) == "[null,null]"
    assert js.text(math.nan) == "NaN"
