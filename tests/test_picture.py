"""What is recorded of a value: everything that it says of itself, nothing else, within bounds, and never an exception."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import OrderedDict, UserDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from io import BytesIO
from pathlib import PurePosixPath
from types import MappingProxyType, SimpleNamespace
from typing import Annotated, Any, NamedTuple
from unittest.mock import MagicMock
from uuid import UUID

import attrs
import msgspec
import numpy as np
import orjson
import pandas as pd
import pydantic
import pytest
from fastapi import Request
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.datastructures import Headers

from otel_langfuse import LangfuseMedia, picture
from otel_langfuse.picture import json_text, text

SECRET = "sk-LIVE-SECRET"
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Point(NamedTuple):
    x: int
    y: int


Pair = namedtuple("Pair", "left right")


@dataclass
class Page:
    title: str
    secret: str = field(default=SECRET, repr=False)
    at: datetime = datetime(2026, 1, 2, tzinfo=timezone.utc)

    @property
    def lazy(self) -> str:
        raise AssertionError("a property was asked")


@dataclass(slots=True)
class Slotted:
    a: int
    b: Any = None


@attrs.define
class Defined:
    a: int
    key: str = attrs.field(default=SECRET, repr=False)


class Struct(msgspec.Struct):
    a: int
    b: str = "b"


class Model(pydantic.BaseModel):
    name: str
    key: pydantic.SecretStr = pydantic.SecretStr(SECRET)
    hidden: str = pydantic.Field(default=SECRET, exclude=True)
    quiet: str = pydantic.Field(default=SECRET, repr=False)
    _private: str = pydantic.PrivateAttr(default=SECRET)

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def computed(self) -> str:
        raise AssertionError("a property was asked")


class Open(pydantic.BaseModel, extra="allow"):
    a: int


class Root(pydantic.RootModel[list[int]]):
    pass


class OwnField(pydantic.BaseModel):
    token: str = SECRET
    weight: Annotated[float, pydantic.PlainSerializer(lambda value: f"{value} kg")] = 1.5

    @pydantic.field_serializer("token")
    def _masked(self, value: str) -> str:
        return value[:3]


class OwnModel(pydantic.BaseModel):
    a: int

    @pydantic.model_serializer
    def _said(self) -> dict[str, int]:
        return {"b": self.a}


class Connection:
    """As clients are: keys in its attributes, nothing said about itself."""

    def __init__(self) -> None:
        self.api_key = SECRET
        self._session = {"Authorization": SECRET}


class Said(Connection):
    def __repr__(self) -> str:
        return f"<Said at 0x7f00deadbeef {'long ' * 100}>"


class Raises:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class RaisesInEverything(dict):  # type: ignore[type-arg]
    def _no(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("no")

    __len__ = __iter__ = __getitem__ = items = keys = values = __repr__ = __bool__ = __eq__ = _no  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no")


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("no")


SAID = {
    "none": (None, "null"),
    "text": ("plain ü", "plain ü"),
    "empty text": ("", ""),
    "text of a class of its own": (Text("x"), "x"),
    "numbers": ([1, 2.5, True, None], "[1,2.5,true,null]"),
    "large numbers": ([1 << 63, 1 << 64, -(1 << 64)], '[9223372036854775808,"18446744073709551616","-18446744073709551616"]'),
    "huge number": ([1 << 100_000], '["<int: 100,001 bits>"]'),
    "nested": ({"a": [{"b": (1, 2)}]}, '{"a":[{"b":[1,2]}]}'),
    "unicode": ({"ключ": "значение 🙂"}, '{"ключ":"значение 🙂"}'),
    "datetime": ({"at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)}, '{"at":"2026-01-02T03:04:05+00:00"}'),
    "date alone": (date(2026, 1, 2), "2026-01-02"),
    "time span": ([timedelta(hours=1)], '["1:00:00"]'),
    "uuid": ([UUID(int=1)], '["00000000-0000-0000-0000-000000000001"]'),
    "decimal": ([Decimal("1.10"), Fraction(1, 3)], '["1.10","1/3"]'),
    "path": ({"p": PurePosixPath("/a/b")}, '{"p":"/a/b"}'),
    "enum": ([Colour.RED, Level.HIGH], '["red",3]'),
    "set": ({"b", "a"}, '["a","b"]'),
    "deque": (deque([1, 2]), "[1,2]"),
    "mapping proxy": (MappingProxyType({"a": 1}), '{"a":1}'),
    "user dict": (UserDict(a=1), '{"a":1}'),
    "ordered and default dict": ([OrderedDict(a=1), defaultdict(list, b=[2])], '[{"a":1},{"b":[2]}]'),
    "named tuples": ([Point(1, 2), Pair("l", None)], '[{"x":1,"y":2},{"left":"l","right":null}]'),
    "keys that are no texts": ({1: "a", None: "b", False: "c", (1, 2): "d"}, '{"1":"a","null":"b","false":"c","[1,2]":"d"}'),
    "keys that look alike": ({1: "a", "1": "b"}, '{"1":"a","1\'":"b"}'),
    "dataclass": (Page("t"), '{"title":"t","at":"2026-01-02T00:00:00+00:00"}'),
    "dataclass with slots": (Slotted(1, Slotted(2)), '{"a":1,"b":{"a":2,"b":null}}'),
    "attrs": (Defined(1), '{"a":1}'),
    "msgspec": (Struct(1), '{"a":1,"b":"b"}'),
    "pydantic": (Model(name="n"), '{"name":"n","key":"**********"}'),
    "pydantic extra": (Open(a=1, b=[2]), '{"a":1,"b":[2]}'),  # type: ignore[call-arg]
    "pydantic root": (Root([1, 2]), "[1,2]"),
    "pydantic field serializer": (OwnField(), '{"token":"sk-","weight":"1.5 kg"}'),
    "pydantic model serializer": (OwnModel(a=1), '{"b":1}'),
    "pydantic within": ({"m": [Open(a=1)]}, '{"m":[{"a":1}]}'),
    "secret": ([pydantic.SecretStr(SECRET)], '["**********"]'),
    "exception": ([ValueError("no")], '["ValueError: no"]'),
    "class and function": (
        [Connection, len],
        '["type: <class \'test_picture.Connection\'>","builtin_function_or_method: <built-in function len>"]',
    ),
    "array": (np.array([[1, 2], [3, 4]]), "[[1,2],[3,4]]"),
    "array scalars": ([np.float64(1.5), np.int32(3), np.bool_(True)], "[1.5,3,true]"),
    "array of times": (np.array(["2026-01-02T00:00:00.000000001"], "datetime64[ns]"), '["2026-01-02T00:00:00.000000001"]'),
    "time of an array": ([np.datetime64("2026-01-02T00:00:00.000000001")], '["2026-01-02T00:00:00.000000001"]'),
    "large array": ([np.zeros((100, 30), "float32")], '["<numpy.ndarray: float32, 100x30>"]'),
    "frame": (pd.DataFrame({"a": [1, 2], "b": ["x", None]}), '{"columns":["a","b"],"rows":[[1,"x"],[2,null]]}'),
    "frame with an index": (
        pd.DataFrame({"a": [1]}, index=["i"]),
        '{"columns":["a"],"rows":[[1]],"index":["i"]}',
    ),
    "few bytes of anything": ([b"\xff\x00id"], json.dumps(["b'\\xff\\x00id'"])),
    "series": ([pd.Series([1, 2]), pd.Series([1], index=["k"]), pd.Index([5])], '[[1,2],{"k":1},[5]]'),
    "bytes of text": ({"b": "grün".encode()}, '{"b":"grün"}'),
    "image in bytes": (PNG, "data:image/png;base64," + base64.b64encode(PNG).decode()),
    "media": (
        [LangfuseMedia(content_bytes=b"abc", content_type="audio/wav")],
        '["data:audio/wav;base64,YWJj"]',
    ),
    "object": (Connection(), "<test_picture.Connection object>"),
    "object within": ({"client": Connection(), "n": 1}, '{"client":"<test_picture.Connection object>","n":1}'),
    "namespace": (SimpleNamespace(a=1), "types.SimpleNamespace: namespace(a=1)"),
    "environment": (os.environ, "<os._Environ>"),
    "request's headers": (Headers({"authorization": SECRET}), "<starlette.datastructures.Headers>"),
    "request": (Request({"type": "http", "headers": []}), "<starlette.requests.Request object>"),
    "mock": ([MagicMock(name="m")], None),
    "lone surrogate": ("a\ud800b", "a&#55296;b"),
    "lone surrogate beside a time": ({"a": "\ud800", "t": date(2026, 1, 2)}, '{"a": "&#55296;", "t": "2026-01-02"}'),
    "not a number": ([float("nan"), float("inf")], "[null,null]"),
}


@pytest.mark.parametrize("case", SAID)
def test_what_a_value_says_of_itself_is_recorded(case: str) -> None:
    value, expected = SAID[case]
    made = text(value)
    assert expected is None or made == expected
    assert SECRET not in made
    made.encode()  # every wire format takes it
    within = orjson.loads(json_text(value))
    assert within == (made if isinstance(within, str) else orjson.loads(made))


def test_an_object_is_its_type_and_a_short_repr_without_address() -> None:
    made = text(Said())
    assert made.startswith("<Said long long")
    assert "0x7f00" not in made
    assert len(made) < picture.MAX_REPR + 100


def test_two_pictures_of_equal_objects_are_equal() -> None:
    assert text([object(), lambda: 1]) == text([object(), lambda: 1])


@pytest.mark.parametrize("kind", [Raises, RaisesInEverything])
def test_nothing_is_raised_whatever_a_value_does(kind: Any) -> None:
    for value in (kind(), {"x": kind()}, [kind()], {"y": [kind()] * 3}):
        assert isinstance(text(value), str)
        json.loads(json_text(value))


def test_what_cannot_be_looked_at_costs_only_its_own_place() -> None:
    assert text({"a": 1, "b": Raises(), "c": [2]}) == '{"a":1,"b":"<RuntimeError while looking at test_picture.Raises>","c":[2]}'


PanicException = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})
"""As PyO3 makes it when Rust code panics; it cannot be imported."""


class Broken:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __repr__(self) -> str:
        raise self.error


def test_what_a_library_in_rust_breaks_costs_only_its_own_place_and_the_users_own_end_goes_on() -> None:
    assert text([1, Broken(PanicException())]) == '[1,"<PanicException while looking at test_picture.Broken>"]'
    for error in (KeyboardInterrupt(), SystemExit()):
        with pytest.raises(type(error)):
            text([1, Broken(error)])


class Lazy:
    """As ORMs have it: its class says that asking costs a query."""

    @property
    def rows(self) -> Any:
        raise AssertionError("a property was asked")

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked")


def test_neither_properties_nor_getattr_are_asked() -> None:
    assert text([Lazy()]) == '["<test_picture.Lazy object>"]'


@dataclass
class Row:
    """As an ORM maps a dataclass: what was a field asks a database when it is read."""

    n: int
    rows: Any


Row.rows = property(lambda self: Lazy().rows)  # type: ignore[assignment]


def test_fields_are_read_where_they_are_stored() -> None:
    loaded, not_loaded = Row.__new__(Row), Row.__new__(Row)
    loaded.__dict__.update(n=1, rows=[2])
    not_loaded.__dict__.update(n=1)
    assert text([loaded, not_loaded]) == '[{"n":1,"rows":[2]},{"n":1}]'


# -- bounds ------------------------------------------------------------------------------------------------------------------


def test_a_long_text_is_cut_with_a_marker() -> None:
    made = text("ab " * 1_000_000)
    assert made.endswith("<cut: 2,000,000 more characters>")
    assert len(made) < picture.MAX_CHARACTERS + 100


@pytest.mark.parametrize(
    "wrap", [lambda t: {"a": t}, lambda t: [{"a": t}], lambda t: [t], lambda t: {"a": {"b": [t]}}, lambda t: (t,)]
)
def test_long_texts_within_are_cut_wherever_they_stand(wrap: Any) -> None:
    made = text(wrap("ab " * 1_000_000))
    assert "<cut: 2,800,000 more characters>" in made
    assert len(made) < picture.MAX_CHARACTERS


def test_many_long_texts_together_are_bounded() -> None:
    made = text(["ab " * 60_000 for _ in range(100)])
    assert len(made) < picture.MAX_CHARACTERS + 10_000
    assert made.count("<cut: ") > 90


def test_depth_is_bounded() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    made = text(deep)
    assert "<cut: nested too deeply>" in made
    assert len(made) < 1_000
    while deep:  # else its destruction would be as deep
        deep = deep.pop()


def test_width_is_bounded() -> None:
    made = orjson.loads(text([object()] * 50_000))
    assert len(made) == picture.MAX_WIDTH + 1
    assert made[-1] == "<cut: 48,000 more items>"
    shown = orjson.loads(text({number: object() for number in range(50_000)}))
    assert shown["<cut>"] == "48,000 more items"


def test_plain_data_may_be_wide() -> None:
    assert orjson.loads(text(list(range(50_000)))) == list(range(50_000))


def test_items_at_all_levels_together_are_bounded() -> None:
    wide: Any = [1]
    for _ in range(20):  # a thousand million items, a few hundred of them in memory
        wide = [wide] * 3
    made = text(wide)
    assert len(made) < 3_000_000
    assert "<cut" in made


@pytest.mark.parametrize("kind", ["list", "dict", "object"])
def test_a_cycle_is_named(kind: str) -> None:
    if kind == "list":
        value: Any = [1]
        value.append(value)
        assert text(value) == '[1,"<cycle: list>"]'
    elif kind == "dict":
        value = {"a": 1}
        value["self"] = {"inner": value}
        assert text(value) == '{"a":1,"self":{"inner":"<cycle: dict>"}}'
    else:
        value = Slotted(1)
        value.b = [value]
        assert text(value) == '{"a":1,"b":["<cycle: test_picture.Slotted>"]}'


def test_the_same_value_twice_is_no_cycle() -> None:
    shared = Slotted(1)
    assert text([shared, shared]) == '[{"a":1,"b":null},{"a":1,"b":null}]'


def test_a_frame_shows_its_first_rows() -> None:
    made = orjson.loads(text(pd.DataFrame({"a": range(1_000_000)})))
    assert len(made["rows"]) == picture.MAX_ROWS + 1
    assert made["rows"][-1] == "<cut: 999,900 more rows>"


def test_a_large_input_takes_a_bounded_time() -> None:
    """20,000 messages, for which others take more than a second."""
    messages = [{"role": "user", "content": "word " * 20, "meta": {"n": n, "at": datetime(2026, 1, 1)}} for n in range(20_000)]  # noqa: DTZ001
    objects = [[Page("t")] * 1_000] * 1_000
    best = []
    for value in (messages, objects):
        times = []
        for _ in range(3):
            start = time.thread_time()
            made = text(value)
            times.append(time.thread_time() - start)
        assert "<cut" in made
        best.append(min(times))
    assert max(best) < 1.0, best  # some 0.1 s on a slow machine


# -- media ---------------------------------------------------------------------------------------------------------------------


def content_of(uri: str) -> tuple[str, bytes]:
    head, _, payload = uri.partition(";base64,")
    return head.removeprefix("data:"), base64.b64decode(payload, validate=True)


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_bytes_of_an_image_are_its_data_uri(wrap: Any) -> None:
    assert content_of(orjson.loads(text({"image": wrap(PNG)}))["image"]) == ("image/png", PNG)


def test_bytes_of_no_known_kind_are_media_too() -> None:
    content = bytes(range(256)) * 4
    assert content_of(text(content)) == ("application/octet-stream", content)
    strided = memoryview(content)[::2]
    assert content_of(text(strided)) == ("application/octet-stream", bytes(strided))


def test_media_are_whole_or_not_there() -> None:
    large = PNG + b"\0" * 2_000_000  # larger than any text may be
    uri = f"data:image/png;base64,{base64.b64encode(large).decode()}"
    bare = base64.b64encode(large).decode()
    assert content_of(text(large)) == ("image/png", large)
    assert text(uri) == uri
    shown = orjson.loads(text([{"type": "image_url", "image_url": {"url": uri}}, {"data": bare}, "ab " * 200_000]))
    assert shown[0]["image_url"]["url"] == uri
    assert shown[1]["data"] == bare
    assert shown[2].endswith("more characters>")


def test_media_that_are_too_large_are_named() -> None:
    large = PNG + b"\0" * picture.MAX_MEDIA_BYTES
    size = f"{len(large):,} bytes"
    assert text(large) == f"<cut: image/png, {size}>"
    assert text(f"data:image/png;base64,{base64.b64encode(large).decode()}").startswith("<cut: 33,554,")
    assert f"<cut: image/png, {size}>" in text([LangfuseMedia(content_bytes=large, content_type="image/png")])
    several = orjson.loads(text([PNG + b"\0" * 13_000_000] * 4))
    assert [one[:15] for one in several] == ["data:image/png;"] * 2 + ["<cut: image/png"] * 2


def test_a_media_value_without_content_says_why() -> None:
    assert text([LangfuseMedia(base64_data_uri="nonsense")]) == '["<media not read: base64_data_uri is no data URI with base64>"]'


@pytest.mark.parametrize(
    ("mode", "size", "kind"),
    [("RGBA", (8, 8), "png"), ("RGB", (8, 8), "png"), ("RGB", (800, 600), "jpeg"), ("P", (800, 600), "png")],
)
def test_an_image_is_encoded(mode: str, size: tuple[int, int], kind: str) -> None:
    media_type, content = content_of(text(Image.new(mode, size)))
    assert media_type == f"image/{kind}"
    assert Image.open(BytesIO(content)).size == size


def test_an_image_that_is_still_on_disk_stays_there(tmp_path: Any) -> None:
    path = tmp_path / "x.png"
    Image.new("RGB", (8, 8)).save(path)
    with Image.open(path) as image:
        assert text([image]) == '["<image/png: 8x8, RGB>"]'
        image.load()
        assert text([image]).startswith('["data:image/png;base64,')


def test_an_image_that_is_too_large_is_named() -> None:
    assert text(Image.new("L", (4000, 2000))) == "<image: 4000x2000, L>"


# -- the moment of the call --------------------------------------------------------------------------------------------------


def test_a_picture_does_not_change_with_its_value() -> None:
    value = {"a": [1]}
    made = text(value)
    value["a"].append(2)
    assert made == '{"a":[1]}'


def test_lists_that_other_threads_change_meanwhile_are_no_trouble() -> None:
    shared: list[Any] = [{"n": [n]} for n in range(100)]
    mapping: dict[Any, Any] = {n: object() for n in range(100)}
    stop = threading.Event()

    def change() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            shared.append(object() if n % 2 else {"n": [n]})
            mapping[n] = object()
            if n % 50 == 0:
                del shared[50:]
                mapping.clear()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(300):
            json.loads(json_text([shared, mapping]))
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)


def test_nothing_is_imported_for_it() -> None:
    program = (
        "import sys; from otel_langfuse import picture; picture.text([object(), {1: b'x'}]); "
        "print([m for m in ('numpy', 'pandas', 'PIL', 'pydantic', 'torch', 'django', 'starlette', 'attr') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates() | st.uuids() | st.decimals(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.none(), inner) | st.tuples(inner),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(ANYTHING)
def test_every_value_has_a_picture_that_is_json_or_text(value: Any) -> None:
    made = text(value)
    made.encode()
    orjson.loads(json_text(value))
    if isinstance(value, (list, dict, tuple)):
        assert isinstance(json.loads(made), (list, dict))


def test_the_marker_says_how_much_is_gone() -> None:
    value = "ab " * 1_000_000
    found = re.search(r"<cut: ([\d,]+) more characters>", text(value))
    assert found
    assert len(value) == picture.MAX_CHARACTERS + int(found[1].replace(",", ""))
