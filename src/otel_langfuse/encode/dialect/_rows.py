"""The rows of a dialect put together: what spans of one shape (their keys) need not be asked is found out once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from otel_langfuse.model import OBSERVATION_TYPES, Attributes

from ._row import Row, Subject, Written

MAX_SHAPES, MAX_KEYS = 500, 128
MAX_WORDS, MAX_WORD = 1_000, 100
"""What is remembered is bounded: so many shapes of so many keys, and rests of keys of so many characters."""

NOTHING: Final[Written] = {}


class _Step(NamedTuple):
    """A row that may have something to say on spans of one shape."""

    field: str
    key: str
    value: Callable[[Subject], Any]
    beside: Callable[[Subject], bool] | None
    whole: _Whole | None  # of a row for several keys
    taken: frozenset[str]  # those of them that the span has


class _Whole(dict[str, str]):
    """Rests of keys -> the whole keys. Those that are short are remembered."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def __missing__(self, rest: str) -> str:
        made = self._prefix + rest
        if len(self) < MAX_WORDS and len(rest) <= MAX_WORD:
            self[rest] = made
        return made


class Rows:
    """The rows for one type of observation. Safe on several threads."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = tuple(rows)
        self.forget()

    def forget(self) -> None:
        """Forgets what is remembered of spans."""
        self._wholes = {row.key: _Whole(row.key[:-1]) for row in self._rows if row.key[-2] == "."}
        self._shapes: dict[tuple[str, ...], tuple[_Step, ...]] = {}
        self._alone = tuple(self._step(row, ()) for row in self._rows)

    def alone(self, subject: Subject) -> tuple[Written, set[str]]:
        """The attributes that they give where there are no others, and the fields that these are for."""
        written: Written = {}
        fields: set[str] = set()
        for step in self._alone:
            if _ask(step, (subject,), (written,)):
                fields.add(step.field)
        return written, fields

    def beside(self, subjects: Sequence[Subject], given: Attributes) -> list[Written]:
        """The attributes that they give beside those that the spans have, all of which have the keys of ``given``.

        Row by row: of one span after the other it takes a third longer.
        """
        keys = tuple(given)
        written: list[Written] = [{} for _ in subjects]
        for step in self._shapes.get(keys) or self._shape(keys, given):
            _ask(step, subjects, written)
        return written

    def _shape(self, keys: tuple[str, ...], given: Attributes) -> tuple[_Step, ...]:
        steps = tuple(self._step(row, keys) for row in self._rows if not _is_taken(row.key, given))
        if len(keys) <= MAX_KEYS and sum(map(len, keys)) <= MAX_KEYS * MAX_WORD:
            if len(self._shapes) >= MAX_SHAPES:
                self._shapes.clear()
            self._shapes[keys] = steps
        return steps

    def _step(self, row: Row, keys: Iterable[str]) -> _Step:
        whole = self._wholes.get(row.key)
        taken = frozenset(key for key in keys if key.startswith(row.key[:-1])) if whole is not None else frozenset[str]()
        return _Step(row.field, row.key, row.value, row.beside, whole, taken)


def _is_taken(key: str, given: Attributes) -> bool:
    """Whether the span says it already: it has the key, or one of a list's items."""
    return key in given or (key[-2:] == ".N" and any(name.startswith(key[:-1]) for name in given))


def by_type(rows: Iterable[Row]) -> dict[str, Rows]:
    """The rows for each type of observation, so that none pays for those of other types."""
    listed = tuple(rows)
    return {kind: Rows(row for row in listed if not row.types or kind in row.types) for kind in OBSERVATION_TYPES}


def _ask(step: _Step, subjects: Sequence[Subject], written: Sequence[Written]) -> bool:
    """Adds what a row gives, without what the spans have. Whether that is anything."""
    _, key, value, beside, whole, taken = step
    says = False
    for subject, one in zip(subjects, written, strict=True):
        if beside is not None and subject.given is not None and not subject.allows(beside):
            continue
        item = value(subject)
        if item is None:
            continue
        if whole is None:
            one[key] = item
            says = True
        else:
            more = {whole[rest]: each for rest, each in item.items()}
            if taken:
                more = {name: each for name, each in more.items() if name not in taken}
            one.update(more)
            says = says or bool(more)
    return says
