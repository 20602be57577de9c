"""What spans of one shape (scope, keys, kinds of values) have in common, and what is remembered of the latest of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from otel_langfuse.model import Span

MAX_SHAPES: Final = 500
MAX_KEYS: Final = 128
"""A shape holds a short text for each key, so together they hold a few MB at most."""

MAX_WORDS: Final = 4_096

Key: TypeAlias = "tuple[str | None, tuple[str, ...]]"
"""Name of the scope, keys of the attributes."""

Said: TypeAlias = "tuple[bytes | None, bool]"
"""A span as it stands in an OTLP request, or None where it was only looked at; and whether it tells of tokens."""


class Written(NamedTuple):
    """What the quick way makes of some spans, in two lists as long; or none at all, where all have to go the long way.

    ``bodies``: each as it stands in an OTLP request; None where it was only looked at, and as below. ``told``: whether it tells
    of tokens; None where it has to go the long way.
    """

    bodies: Sequence[bytes | None] = ()
    told: Sequence[bool | None] = ()


NOT_WRITTEN: Final = Written()
"""Of spans that the quick way has not seen."""

_NEVER: Final = object()
_KINDS: Final = frozenset({str, int, float, bool, tuple})


class Look(Protocol):
    """What is to be known of spans of one shape before one of them is sent without a correction."""

    @property
    def counts(self) -> bool:
        """Whether they may tell of tokens."""

    @property
    def is_always_fine(self) -> bool:
        """Whether no span of this shape needs a correction."""

    def is_fine(self, span: Span) -> bool:
        """Whether this one needs no correction."""


class Glances(NamedTuple):
    """What the other rooms say of many things at once.

    ``texts``: whether any of these texts, joined by NUL, may have to be changed. ``keys``: whether any of these keys of
    attributes, or what stands under it, has to be. ``shared``: whether anything of a span's resource or scope has to be.
    ``look``: what corrections a span's shape may need; None: it needs one in any case. Where nothing is corrected, ``look`` is
    None itself.
    """

    texts: Callable[[bytes], bool]
    keys: Callable[[Sequence[str]], bool]
    shared: Callable[[Span], bool]
    look: Callable[[Span], Look | None] | None = None


NOTHING: Final = Glances(lambda _: False, lambda _: False, lambda _: False)
"""For spans that were looked at before."""


SETTLES: Final = 8
"""After so many spans of a shape in which something differed, what never did is joined."""


class Shape:
    """What spans of one shape have in common, and what the latest of them said: its short values, and each as it is written."""

    __slots__ = (
        "_varies",
        "counts",
        "keys",
        "kinds",
        "last",
        "look",
        "parts",
        "pieces",
        "places",
        "settles",
        "size_bytes",
        "slots",
    )

    def __init__(self, keys: tuple[str, ...], kinds: tuple[type, ...], look: Look | None) -> None:
        self.keys = keys
        self.kinds = kinds
        self.places = range(len(keys))
        self.last: list[Any] = [_NEVER] * len(keys)
        self.pieces = [b""] * len(keys)
        self.size_bytes = 0  # of the pieces
        self.look = None if look is None or look.is_always_fine else look
        self.counts = look is not None and look.counts
        self.settles = SETTLES
        self._varies: set[int] = set(self.places)
        self._join()

    def _join(self) -> None:
        """Two parts for each place whose value varies, what is before a long text and that; between them one for all others."""
        self.parts: list[bytes] = []
        self.slots: list[int | None] = []  # where the parts of each place begin; None: it is joined with others
        run: list[bytes] = []
        for place, piece in enumerate(self.pieces):
            if place not in self._varies:
                run.append(piece)
                self.slots.append(None)
                continue
            if run:
                self.parts.append(b"".join(run))
                run = []
            self.slots.append(len(self.parts))
            self.parts += piece, b""
        self.parts.append(b"".join(run))

    def settle(self, changes: Sequence[int]) -> None:
        """One more span has come, in which what stands in these places differed from the one before."""
        if self.settles == SETTLES:  # the first of all, in which everything is new
            self._varies.clear()
        else:
            self._varies.update(changes)
        self.settles -= 1
        if not self.settles:
            self._join()

    def part(self, place: int) -> None:
        """This one varies, too."""
        self._varies.add(place)
        self._join()


class Memory:
    """What is remembered, for one thread at a time."""

    def __init__(self, glances: Glances) -> None:
        self._glances = glances
        self._fine_keys: dict[tuple[str, ...], bool] = {}
        self.passed = 0  # groups that were not tried, when there had been something to change in the one before them
        self.passes = 0  # how many are still not to be tried
        self.forget()

    def forget(self) -> None:
        """Forgets everything that holds a text of a span."""
        self._shapes: dict[Any, Shape | None] = {}  # the latest of these keys
        self._kinds: dict[Any, Shape | None] = {}  # all of them

    def written(self, span: Span, texts: list[bytes]) -> Said | None:
        """What can be said of the span, if it is a plain one; what of it nobody has looked at yet is added to ``texts``.

        Raises:
            Exception: it is not, or such as OTLP cannot hold.
        """
        raise NotImplementedError

    def _of_kinds(self, key: tuple[str | None, tuple[str, ...]], span: Span) -> Shape | None:
        """The shape of the span with these kinds of values; None where all such spans go the long way."""
        kinds = tuple(map(type, span.attributes.values()))
        if (key, kinds) not in self._kinds:
            if len(self._kinds) >= MAX_SHAPES:
                self.forget()
            self._kinds[key, kinds] = self._new(key[1], kinds, span)
        shape = self._shapes[key] = self._kinds[key, kinds]
        return shape

    def _new(self, keys: tuple[str, ...], kinds: tuple[type, ...], span: Span) -> Shape | None:
        if len(keys) > MAX_KEYS or not _KINDS.issuperset(kinds) or not self._is_fine_keys(keys):
            return None
        glance = self._glances.look
        look = None if glance is None else glance(span)
        return None if glance is not None and look is None else Shape(keys, kinds, look)

    def _is_fine_keys(self, keys: tuple[str, ...]) -> bool:
        fine = self._fine_keys.get(keys)
        if fine is None:
            if len(self._fine_keys) >= MAX_SHAPES:
                self._fine_keys.clear()
            fine = self._fine_keys[keys] = not self._glances.keys(keys)
        return fine
