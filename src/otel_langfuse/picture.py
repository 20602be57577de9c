"""A safe picture of any value, as text, at this moment: what is recorded of inputs, outputs and metadata. Pure.

Plain data is one call of ``orjson``. Everything else is walked with bounds. Values that say what they consist of (dataclasses,
pydantic and attrs models, named tuples, enums, arrays, data frames) are JSON; any other object is its type and a short
``repr``, never its ``__dict__``, where keys and connections live. What a class leaves out of its own ``repr`` is left out here
too. Nothing is imported for it, no property is asked that the object's author did not declare as a field, and nothing is raised.
"""

from __future__ import annotations

import gc
import json
import re
import sys
from collections import UserDict, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import fields as dataclass_fields
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import lru_cache, partial
from itertools import islice
from pathlib import PurePath
from types import MappingProxyType, MemberDescriptorType, NoneType
from typing import Any, Final, TypeAlias
from uuid import UUID

import orjson

MAX_CHARACTERS: Final = 1_000_000
"""Of the texts in one picture. A text alone is cut there; in a picture that is too large, each text to a fifth of it."""

MAX_ITEMS: Final = 100_000
"""Items of plain data in one picture, at all levels together."""

MAX_DEPTH: Final = 32
"""Levels of nesting."""

MAX_WALKED_ITEMS: Final = 20_000
"""The same as ``MAX_ITEMS`` where the picture has objects in it, or had to be cut: those are walked, which takes longer."""

MAX_WIDTH: Final = 2_000
"""Items of one list or mapping of a picture that is walked."""

MAX_REPR: Final = 200
"""Characters of the ``repr`` of an object that says nothing about itself."""

MAX_ROWS: Final = 100
"""Rows of a data frame."""

_MAX_TEXT: Final = MAX_CHARACTERS // 5
_MAX_KEY: Final = 1_000
_MAX_DIGITS_BITS: Final = 13_000  # Python refuses to write integers of more than 4300 digits
_ATOMS: Final = frozenset({int, float, bool, NoneType})
_CONTAINERS: Final = frozenset({dict, list, tuple})
_AS_IT_IS: Final = _ATOMS | {datetime, date, UUID}
_FEW: Final = 16
_is_tracked: Final[Callable[[Any], bool]] = getattr(gc, "is_tracked", bool)
"""CPython's collector does not track a mapping that holds no container: one question instead of one for each item."""

_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")
_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"%PDF-", "application/pdf"),
    (b"ID3", "audio/mpeg"),
    (b"OggS", "audio/ogg"),
)
_RIFF: Final = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/avi"}

_Way: TypeAlias = "Callable[[_Walk, Any, int], Any]"
"""How values of a type are walked: (walk, value, depth) -> what ``orjson`` takes."""


def text(value: Any) -> str:
    """The picture of a value: a text as it is, everything else as JSON text, both within the bounds above.

    Never raises (``KeyboardInterrupt`` and the like from a foreign ``repr`` aside). What was left out for its size, depth or
    because it contains itself is named by a text in angle brackets at its place.
    """
    if type(value) is str:
        return _utf8(value if len(value) <= MAX_CHARACTERS else _cut(value, MAX_CHARACTERS))
    try:
        if _is_plain(value):
            return orjson.dumps(value).decode()
    except Exception:  # noqa: BLE001, S110 - integers beyond 64 bits, lone surrogates, a list that another thread changes: walked
        pass
    seen = _Walk().of(value, 0)
    return _utf8(seen) if type(seen) is str else _json(seen)


def json_text(value: Any) -> str:
    """The same, and a text is JSON too: for what becomes a part of other JSON."""
    if type(value) is str:
        return _json(_cut(value, MAX_CHARACTERS))
    with suppress(Exception):
        if _is_plain(value):
            return orjson.dumps(value).decode()
    return _json(_Walk().of(value, 0))


def short(value: Any) -> str:
    """The type and a short ``repr`` of an object, without its address; at most ``MAX_REPR`` characters of it."""
    kind: Any = type(value)
    if kind.__repr__ is object.__repr__:
        return f"<{_name(kind)} object>"
    shown = _ADDRESS.sub("", _cut(repr(value), MAX_REPR))
    return shown if kind.__name__ in shown else f"{_name(kind)}: {shown}"


# -- plain data --------------------------------------------------------------------------------------------------------------


def _is_plain(value: Any) -> bool:
    """Whether ``orjson`` may have the value as it is: plain all through, and within the bounds.

    Level by level, counting what is shared as often as it would be written, so that a few lists that contain each other
    twice cannot fill the memory. It runs for nearly everything that is recorded, so every step of it counts; and what is
    recorded most, a few messages, takes a short way.

    Raises:
        Exception: it is not plain, or another thread changes it just now.
    """
    kind = type(value)
    if kind not in _CONTAINERS:
        return kind in _ATOMS
    if kind is not tuple and 0 < len(value) < _FEW and _is_shallow(value, kind):
        return True
    items = characters = 0
    level = [value]
    for _ in range(MAX_DEPTH):
        below = []
        for outer in level:
            items += len(outer)
            if type(outer) is dict:
                characters += len("".join(outer))  # the keys: raises where they are no texts
                outer = outer.values()  # noqa: PLW2901
            for item in outer:
                kind = type(item)
                if kind is str:
                    characters += len(item)
                elif kind not in _AS_IT_IS:
                    if kind not in _CONTAINERS:
                        return False
                    below.append(item)
            if items > MAX_ITEMS or characters > MAX_CHARACTERS:
                return False
        if not below:
            return True
        level = below
    return False


def _is_shallow(value: Any, kind: type) -> bool:
    """Whether a short list or mapping is surely plain enough for ``orjson``: no containers, or one level of small mappings."""
    if kind is dict:
        return not _is_tracked(value)
    return type(value[0]) is dict and not any(map(_is_tracked, value)) and sum(map(len, value)) < 4 * _FEW


def _json(seen: Any) -> str:
    try:
        return orjson.dumps(seen).decode()
    except TypeError:  # lone surrogates, which the standard library writes as escapes
        return json.dumps(seen)


def _utf8(value: str) -> str:
    """The text without lone surrogates: no wire format takes those."""
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "backslashreplace").decode()
    return value


def _cut(value: str, limit: int) -> str:
    over = len(value) - limit
    return value if over <= 0 else f"{value[:limit]}<cut: {over:,} more characters>"


# -- everything else: walked within bounds -----------------------------------------------------------------------------------


class _Walk:
    """One picture being made: what it may still hold, and the containers that are being looked at just now."""

    def __init__(self) -> None:
        self._items = MAX_WALKED_ITEMS
        self._characters = MAX_CHARACTERS
        self._open: set[int] = set()

    def of(self, value: Any, depth: int) -> Any:
        """What ``orjson`` takes, for any value; never raises."""
        kind: Any = type(value)
        if kind in _AS_IT_IS and kind is not int:
            return value
        try:
            return _way(kind)(self, value, depth)
        except Exception as error:  # noqa: BLE001 - whatever a foreign object does costs only its own place
            return f"<{type(error).__name__} while looking at {_name(kind)}>"

    def text(self, value: str) -> str:
        limit = max(0, min(_MAX_TEXT, self._characters))
        self._characters -= min(len(value), limit)
        return _cut(value, limit)

    def mapping(self, owner: Any, items: Iterable[tuple[Any, Any]], count: int, depth: int) -> Any:
        """A JSON object of ``items``, which are the ``count`` items of ``owner``."""
        if marker := self._enter(owner, depth):
            return marker
        try:
            # Taken in one go before anything foreign runs, which could change it.
            chosen = tuple(islice(items, self._width(count)))
            shown = {self._key(key): self.of(item, depth + 1) for key, item in chosen}
        finally:
            self._open.discard(id(owner))
        if count > len(chosen):
            shown["<cut>"] = f"{count - len(chosen):,} more items"
        return shown

    def sequence(self, owner: Any, items: Iterable[Any], count: int, depth: int) -> Any:
        """A JSON array, likewise."""
        if marker := self._enter(owner, depth):
            return marker
        try:
            chosen = tuple(islice(items, self._width(count)))
            shown = [self.of(item, depth + 1) for item in chosen]
        finally:
            self._open.discard(id(owner))
        if count > len(chosen):
            shown.append(f"<cut: {count - len(chosen):,} more items>")
        return shown

    def _enter(self, owner: Any, depth: int) -> str:
        if id(owner) in self._open:
            return f"<cycle: {_name(type(owner))}>"
        if depth >= MAX_DEPTH:
            return "<cut: nested too deeply>"
        self._open.add(id(owner))
        return ""

    def _width(self, count: int) -> int:
        width = max(0, min(count, MAX_WIDTH, self._items))
        self._items -= width
        return width

    def _key(self, key: Any) -> str:
        kind = type(key)
        if kind is str:
            return self.text(_cut(key, _MAX_KEY))
        if kind is bool or key is None:
            return "null" if key is None else str(key).lower()
        seen = self.of(key, MAX_DEPTH - 1)
        return _cut(seen if type(seen) is str else _json(seen), _MAX_KEY)


def _integer(walk: _Walk, value: Any, depth: int) -> Any:  # noqa: ARG001
    number = int.__index__(value)
    if -(1 << 63) <= number < 1 << 64:
        return number
    bits = number.bit_length()
    return str(number) if bits < _MAX_DIGITS_BITS else f"<int: {bits:,} bits>"


def _dict(walk: _Walk, value: Any, depth: int) -> Any:
    return walk.mapping(value, dict.items(value), dict.__len__(value), depth)


def _proxy(walk: _Walk, value: Any, depth: int) -> Any:
    return walk.mapping(value, value.items(), len(value), depth)


def _user_dict(walk: _Walk, value: Any, depth: int) -> Any:
    return walk.of(_stored(value, "data"), depth)


def _sequence(walk: _Walk, value: Any, depth: int) -> Any:
    return walk.sequence(value, value, len(value), depth)


def _set(walk: _Walk, value: Any, depth: int) -> Any:
    items = sorted(value) if all(type(item) is str for item in value) else value
    return walk.sequence(value, items, len(value), depth)


def _named_tuple(walk: _Walk, value: Any, depth: int) -> Any:
    names = type(value)._fields
    return walk.mapping(value, zip(names, tuple.__iter__(value), strict=False), len(names), depth)


def _as_str(walk: _Walk, value: Any, depth: int) -> Any:  # noqa: ARG001
    return walk.text(str(value))


def _exception(walk: _Walk, value: Any, depth: int) -> Any:  # noqa: ARG001
    return walk.text(f"{_name(type(value))}: {value}")


def _short(walk: _Walk, value: Any, depth: int) -> Any:  # noqa: ARG001
    return walk.text(short(value))


def _bytes(walk: _Walk, value: Any, depth: int) -> str:  # noqa: ARG001
    view = memoryview(value)
    head = bytes(view[:16]) if view.contiguous and view.itemsize == 1 else b""
    return f"<{media_type(head) or type(value).__name__}: {view.nbytes:,} bytes>"


def media_type(head: bytes) -> str | None:
    """What the first 16 bytes of an image, a sound or a document say that it is."""
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    return next((name for magic, name in _MAGIC if head.startswith(magic)), None)


# -- objects that declare their fields ---------------------------------------------------------------------------------------


def _stored(value: Any, name: str) -> Any:
    """An attribute as it is stored, in the object or in a slot, without running code of its class.

    Raises:
        AttributeError: nothing is stored under this name.
    """
    kind = type(value)
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        found = {}
    if name in found:
        return found[name]
    for base in kind.__mro__:
        if name in base.__dict__:
            held = base.__dict__[name]
            if type(held) is MemberDescriptorType:
                return held.__get__(value, kind)
            if not hasattr(type(held), "__get__"):
                return held
            break
    raise AttributeError(name)


def _fields(walk: _Walk, value: Any, depth: int, names: tuple[str, ...]) -> Any:
    shown = []
    for name in names:
        try:
            shown.append((name, _stored(value, name)))
        except AttributeError:  # noqa: PERF203 - not set
            continue
    return walk.mapping(value, shown, len(shown), depth)


def _declared(kind: type) -> tuple[str, ...] | None:
    """The names of the fields that a class shows of itself; None if it declares none."""
    if hasattr(kind, "__dataclass_fields__"):
        return tuple(item.name for item in dataclass_fields(kind) if item.repr)
    if isinstance(attributes := getattr(kind, "__attrs_attrs__", None), tuple):
        return tuple(item.name for item in attributes if item.repr is not False)
    if isinstance(names := getattr(kind, "__struct_fields__", None), tuple):  # msgspec
        return names
    return None


def _model(walk: _Walk, value: Any, depth: int) -> Any:
    """A pydantic model by its fields. Computed fields are properties, and not asked; serializers of its author are."""
    kind: Any = type(value)
    names, own = _model_fields(kind)
    held = object.__getattribute__(value, "__dict__")
    if own is None:
        return walk.of(value.model_dump(mode="json", include={name for name in names if name in held}), depth)
    if getattr(kind, "__pydantic_root_model__", False) and not own:
        return walk.of(held.get("root"), depth)
    shown = {name: held[name] for name in names if name in held}
    with suppress(AttributeError):  # pydantic 1: what is not declared is not shown
        shown.update(object.__getattribute__(value, "__pydantic_extra__") or {})
    if own:
        shown.update(value.model_dump(mode="json", include=own))
    return walk.mapping(value, shown.items(), len(shown), depth)


@lru_cache(maxsize=512)
def _model_fields(kind: Any) -> tuple[tuple[str, ...], set[str] | None]:
    """The fields that a model shows, and those of them that its author has written a serializer for; None: for the whole."""
    fields: Mapping[str, Any] = kind.__fields__ if not hasattr(kind, "model_fields") else kind.model_fields
    infos = {name: getattr(found, "field_info", found) for name, found in fields.items()}
    shown = tuple(
        name for name, info in infos.items() if not getattr(info, "exclude", None) and getattr(info, "repr", True) is not False
    )
    decorators = getattr(kind, "__pydantic_decorators__", None)
    if getattr(decorators, "model_serializers", None):
        return shown, None
    own = {name for found in getattr(decorators, "field_serializers", {}).values() for name in found.info.fields}
    own |= {
        name
        for name, info in infos.items()
        if any(type(part).__name__ in ("PlainSerializer", "WrapSerializer") for part in getattr(info, "metadata", ()))
    }
    return shown, set(shown) if "*" in own else own & set(shown)


# -- arrays and frames -------------------------------------------------------------------------------------------------------


def _array(walk: _Walk, value: Any, depth: int) -> Any:
    if value.size <= MAX_WIDTH:
        return walk.of(value.tolist(), depth)
    return f"<{_name(type(value))}: {value.dtype}, {'x'.join(map(str, value.shape))}>"


def _array_scalar(walk: _Walk, value: Any, depth: int) -> Any:
    item = value.item()
    return str(value) if type(item) is type(value) else walk.of(item, depth)


def _tensor(walk: _Walk, value: Any, depth: int) -> str:  # noqa: ARG001
    return f"<{_name(type(value))}: {value.dtype}, {'x'.join(map(str, value.shape))}>"


def _frame(walk: _Walk, value: Any, depth: int) -> Any:
    rows: list[Any] = [list(row) for row in value.head(MAX_ROWS).itertuples(index=False, name=None)]
    if len(value) > MAX_ROWS:
        rows.append(f"<cut: {len(value) - MAX_ROWS:,} more rows>")
    shown: dict[str, Any] = {"columns": list(value.columns), "rows": rows}
    if type(value.index).__name__ != "RangeIndex":
        shown["index"] = list(value.index[:MAX_ROWS])
    return walk.of(shown, depth)


def _series(walk: _Walk, value: Any, depth: int) -> Any:
    head = value[:MAX_WIDTH] if not hasattr(value, "iloc") else value.iloc[:MAX_WIDTH]
    labels = getattr(value, "index", None)
    if labels is None or type(labels).__name__ == "RangeIndex":
        return walk.sequence(value, list(head), len(value), depth)
    return walk.mapping(value, zip(head.index, head, strict=True), len(value), depth)


def _image(walk: _Walk, value: Any, depth: int) -> str:  # noqa: ARG001
    width, height = value.size
    return f"<image{'/' + value.format.lower() if value.format else ''}: {width}x{height}, {value.mode}>"


def _only_name(walk: _Walk, value: Any, depth: int) -> str:  # noqa: ARG001
    return f"<{_name(type(value))}>"


# -- the tables --------------------------------------------------------------------------------------------------------------

_BUILT_IN: Final[tuple[tuple[tuple[type, ...], _Way], ...]] = (
    ((Enum,), lambda walk, value, depth: walk.of(value.value, depth)),
    ((str,), lambda walk, value, depth: walk.text(str.__str__(value))),  # noqa: ARG005
    ((int,), _integer),
    ((float,), lambda walk, value, depth: float.__float__(value)),  # noqa: ARG005
    ((dict,), _dict),
    ((MappingProxyType,), _proxy),
    ((UserDict,), _user_dict),
    ((list, tuple, deque), _sequence),
    ((set, frozenset), _set),
    ((datetime, date, time), lambda walk, value, depth: value.isoformat()),  # noqa: ARG005
    ((timedelta, UUID, Decimal, Fraction, PurePath, complex), _as_str),
    ((bytes, bytearray, memoryview), _bytes),
    ((BaseException,), _exception),
)
"""The standard library's types and their subclasses, first match wins."""

_FOREIGN: Final[tuple[tuple[str, tuple[str, ...], _Way], ...]] = (
    ("pydantic.types", ("Secret", "SecretStr", "SecretBytes"), lambda walk, value, depth: "**********"),  # noqa: ARG005
    ("pydantic.v1.types", ("SecretStr", "SecretBytes"), lambda walk, value, depth: "**********"),  # noqa: ARG005
    ("pydantic.main", ("BaseModel",), _model),
    ("pydantic.v1.main", ("BaseModel",), _model),
    ("numpy", ("ndarray",), _array),
    ("numpy", ("generic",), _array_scalar),
    ("pandas", ("DataFrame",), _frame),
    ("pandas", ("Series", "Index"), _series),
    ("torch", ("Tensor",), _tensor),
    ("PIL.Image", ("Image",), _image),
    ("django.db.models.query", ("QuerySet",), _only_name),  # its repr asks the database
    ("django.db.models.manager", ("BaseManager",), _only_name),
    ("os", ("_Environ",), _only_name),  # its repr is every secret of the process
)
"""Others', by module and class; looked for among the modules that are loaded, since their objects come from there."""


@lru_cache(maxsize=1024)
def _way(kind: type) -> _Way:
    """How values of this type are walked. By the type alone: to ask an object for its class may run its code."""
    for module, names, way in _FOREIGN:
        loaded = vars(sys.modules[module]) if module in sys.modules else {}
        if any(isinstance(found := loaded.get(name), type) and issubclass(kind, found) for name in names):
            return way
    if issubclass(kind, tuple) and isinstance(getattr(kind, "_fields", None), tuple):
        return _named_tuple
    for types, way in _BUILT_IN:
        if issubclass(kind, types):
            return way
    names_of_fields = _declared(kind)
    return _short if names_of_fields is None else partial(_fields, names=names_of_fields)


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
