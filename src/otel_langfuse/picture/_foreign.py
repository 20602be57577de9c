"""Other libraries' types: arrays, frames, images, secrets. None of these libraries is imported here.

What asks a database or a disk to describe itself, or says every secret that it holds, is only named.
"""

from __future__ import annotations

import sys
from io import BytesIO
from typing import Any, Final

from ._fields import model
from ._text import MAX_ROWS, MAX_WIDTH, name_of
from ._walk import Walk, Way

MAX_PIXELS: Final = 4_000_000
"""Of an image that is encoded to be recorded, which takes some 10 ms for each million."""

_LOSSLESS_PIXELS: Final = 250_000
_JPEG_MODES: Final = ("RGB", "L")


def foreign_way(kind: type) -> Way | None:
    """How values of another library's type are walked; None if it is not known here."""
    for module, names, way in _FOREIGN:
        loaded = vars(sys.modules[module]) if module in sys.modules else {}
        if any(isinstance(found := loaded.get(name), type) and issubclass(kind, found) for name in names):
            return way
    return None


def _array(walk: Walk, value: Any, depth: int) -> Any:
    if value.size > MAX_WIDTH:
        return _shape(walk, value, depth)
    return walk.of((value.astype(str) if value.dtype.kind in "mM" else value).tolist(), depth)


def _array_scalar(walk: Walk, value: Any, depth: int) -> Any:
    if value.dtype.kind in "mM":  # as a number it would be nanoseconds
        return str(value)
    item = value.item()
    return str(value) if type(item) is type(value) else walk.of(item, depth)


def _shape(walk: Walk, value: Any, depth: int) -> str:  # noqa: ARG001
    return f"<{name_of(type(value))}: {value.dtype}, {'x'.join(map(str, value.shape))}>"


def _frame(walk: Walk, value: Any, depth: int) -> Any:
    rows: list[Any] = [list(row) for row in value.head(MAX_ROWS).itertuples(index=False, name=None)]
    if len(value) > MAX_ROWS:
        rows.append(f"<cut: {len(value) - MAX_ROWS:,} more rows>")
    shown: dict[str, Any] = {"columns": list(value.columns), "rows": rows}
    if type(value.index).__name__ != "RangeIndex":
        shown["index"] = list(value.index[:MAX_ROWS])
    return walk.of(shown, depth)


def _series(walk: Walk, value: Any, depth: int) -> Any:
    head = value.iloc[:MAX_WIDTH]
    if type(value.index).__name__ == "RangeIndex":
        return walk.sequence(value, list(head), len(value), depth)
    return walk.mapping(value, zip(head.index, head, strict=True), len(value), depth)


def _index(walk: Walk, value: Any, depth: int) -> Any:
    return walk.sequence(value, list(value[:MAX_WIDTH]), len(value), depth)


def _image(walk: Walk, value: Any, depth: int) -> str:  # noqa: ARG001
    """An image of Pillow, small ones without loss. One that is still on disk is not loaded for it."""
    width, height = value.size
    held = vars(value)
    if width * height > MAX_PIXELS or held.get("_im", held.get("im")) is None:
        return f"<image{'/' + value.format.lower() if value.format else ''}: {width}x{height}, {value.mode}>"
    buffer = BytesIO()
    if value.mode in _JPEG_MODES and width * height > _LOSSLESS_PIXELS:
        value.save(buffer, "JPEG", quality=85)
        return walk.media("image/jpeg", buffer.getbuffer(), buffer.tell())
    value.save(buffer, "PNG", compress_level=1)
    return walk.media("image/png", buffer.getbuffer(), buffer.tell())


def _database_row(walk: Walk, value: Any, depth: int) -> str:  # noqa: ARG001
    key = vars(value).get("id")
    return f"<{name_of(type(value))}: id={key}>" if type(key) is int else f"<{name_of(type(value))}>"


def _only_name(walk: Walk, value: Any, depth: int) -> str:  # noqa: ARG001
    return f"<{name_of(type(value))}>"


def _secret(walk: Walk, value: Any, depth: int) -> str:  # noqa: ARG001
    return "**********"


_FOREIGN: Final[tuple[tuple[str, tuple[str, ...], Way], ...]] = (
    ("pydantic.types", ("Secret", "SecretStr", "SecretBytes"), _secret),
    ("pydantic.v1.types", ("SecretStr", "SecretBytes"), _secret),
    ("pydantic.main", ("BaseModel",), model),
    ("pydantic.v1.main", ("BaseModel",), model),
    ("numpy", ("ndarray",), _array),
    ("numpy", ("generic",), _array_scalar),
    ("pandas", ("DataFrame",), _frame),
    ("pandas", ("Series",), _series),
    ("pandas", ("Index",), _index),
    ("torch", ("Tensor",), _shape),
    ("PIL.Image", ("Image",), _image),
    ("django.db.models.base", ("Model",), _database_row),  # its repr may ask the database
    ("django.db.models.query", ("QuerySet",), _only_name),  # its repr does
    ("django.db.models.manager", ("BaseManager",), _only_name),
    ("starlette.datastructures", ("Headers",), _only_name),  # its repr shows Authorization and cookies
    ("os", ("_Environ",), _only_name),  # its repr is every secret of the process
)
"""By module and class; looked for among the modules that are loaded, since their objects come from there."""
