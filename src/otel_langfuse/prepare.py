"""The pure middle. ``ready``: what may leave of a span. ``requests``: how it is said to a destination.

The processor's worker runs ``ready`` for whatever exporter stands behind it; our exporters run ``requests``, and ``ready``
too when they stand behind somebody else's processor. Nothing is masked twice.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, MutableSet, Sequence
from importlib import import_module
from typing import Any, Final, Literal, NamedTuple

from .encode import otlp
from .encode.cut import cut_to
from .errors import Drop, DropReason
from .model import Observation, Request, Span
from .pipeline.mask import FAILED, Masking
from .pipeline.media import KEEP, Lifting, lift, may_hold_media
from .spans import from_otlp

MIN_CUT_BYTES: Final = 16 * 1024
"""An item is not cut to less: a destination that takes no more than that takes no traces."""

_GZIP: Final = 31  # what zlib calls gzip's header around the largest window

# The conventions' tables are loaded only where observations are made (``load_translation``): OTLP carries spans as they are.


class Target(NamedTuple):
    """Where requests go and what they may be. ``headers`` hold no credentials: those are the transport's."""

    endpoint: Literal["otlp", "ingestion"]
    url: str
    headers: Mapping[str, str]
    max_request_bytes: int
    compression: Literal["gzip", "none"] = "gzip"
    protocol: otlp.Protocol = "http/protobuf"
    corrections: bool = False  # written as langfuse.* attributes, for a Langfuse server to store our reading
    dialect: Literal["langfuse", "gen_ai", "openinference"] | None = None  # written beside what spans of other families say
    dialect_only: bool = False  # ... or instead of it


class Ready(NamedTuple):
    """What may leave of some spans, as ``Masked`` has it. ``written``: what ``requests`` may take over for each, if anything."""

    spans: list[Span]
    failures: int
    detail: str
    written: otlp.Written = otlp.NOT_WRITTEN


def load_translation() -> None:
    """Loads what observations are made with. Who will need it calls this when it is made, not first in a worker or a fork."""
    for room in (".translate", ".encode.ingestion"):
        import_module(room, __package__)


def load_dialects() -> None:
    """The same for an exporter whose target wants corrections or a dialect written."""
    import_module(".encode.dialect", __package__)


def worded(spans: Sequence[Span], target: Target) -> Sequence[Span]:
    """The spans with what the target wants written on them: corrections, a dialect; or nothing, then the same objects."""
    corrected = _corrected(spans, target)
    if target.dialect is None:
        return corrected
    from .encode import dialect  # noqa: PLC0415 - see above

    return dialect.in_dialect(corrected, target.dialect, only=target.dialect_only)


def _corrected(spans: Sequence[Span], target: Target, told: Sequence[bool | None] = ()) -> Sequence[Span]:
    if not target.corrections:
        return spans
    from .encode import dialect  # noqa: PLC0415 - see above

    return dialect.corrected(spans, told)


def quick(target: Target, mask: Masking | None, lifting: Lifting | None) -> otlp.Quick | None:
    """The quick way through ``ready`` and ``requests`` together, for the spans that have one; None where none has.

    None has one where a function of the user's masks. Where a dialect is written instead of what spans say, or no protobuf is
    sent, spans are only looked at quickly.
    """
    texts = None if mask is None else mask.only_texts
    if mask and texts is None:
        return None
    is_otlp = target.endpoint == "otlp"
    writes = is_otlp and target.protocol != "http/json" and not target.dialect_only
    corrections: Any = import_module(".encode.dialect", __package__) if is_otlp and target.corrections else None
    looks_for_media = lifting is not None or mask is not None

    def may_change(data: bytes) -> bool:
        return (texts is not None and texts.may_change(data)) or (looks_for_media and may_hold_media(data))

    def may_change_around(span: Span) -> bool:
        is_masked = texts is not None and texts.may_change_around(span)
        return is_masked or (corrections is not None and corrections.needs_around(span))

    def may_change_under(keys: Sequence[str]) -> bool:
        return texts is not None and texts.may_change_under(keys)

    glances = otlp.Glances(may_change, may_change_under, may_change_around, corrections and corrections.glance)
    return otlp.Quick(glances, writes=writes)


def ready(spans: Sequence[Span], mask: Masking | None, lifting: Lifting | None = None, way: otlp.Quick | None = None) -> Ready:
    """What may leave of the spans: one for each, the same object where nothing changed.

    Args:
        spans: of one batch.
        mask: as ``pipeline.mask.masking`` returns it; None: nothing is masked. It masks the texts, and then media that are text.
        lifting: how media leave, or None: within the texts, where they are. What the mask removed is not there any more.
        way: ``quick`` of the same mask and lifting; then ``Ready.written`` is for ``requests`` to the same target.
    """
    if way is not None:
        written = way.written(spans)
        if written.told and None not in written.told:
            return Ready(list(spans), 0, "", written)
        places = [place for place, one in enumerate(written.told) if one is None]
        if len(places) < len(written.told):
            rest = ready([spans[place] for place in places], mask, lifting) if places else Ready([], 0, "")
            made = list(spans)
            for place, span in zip(places, rest.spans, strict=True):
                made[place] = span
            return rest._replace(spans=made, written=written)
    if mask is None:
        return Ready(list(spans) if lifting is None else lift(spans, lifting), 0, "")
    masked = mask.spans(spans)
    failures = masked.failures

    def clean(text: str) -> str:
        nonlocal failures
        new, failed = mask.value(text, "media")
        failures += failed
        return new if isinstance(new, str) else FAILED

    made = lift(masked.spans, (lifting or KEEP)._replace(clean=clean))
    return Ready(made, failures, masked.detail or ("mask failed in media" if failures else ""))


def observations(spans: Sequence[Span]) -> tuple[list[Observation], list[Drop]]:
    """What Langfuse is to store: one observation for each span, in order, or one ``Drop`` where that cannot be told."""
    from .translate import translate_all  # noqa: PLC0415 - see above

    try:
        return list(translate_all(spans)), []
    except Exception:  # noqa: BLE001 - translate raises for no content that we know; one span must not cost the others
        return _one_by_one(spans)


def _one_by_one(spans: Sequence[Span]) -> tuple[list[Observation], list[Drop]]:
    from .translate import translate  # noqa: PLC0415 - see above

    made: list[Observation] = []
    drops: list[Drop] = []
    for span in spans:
        try:
            made.append(translate(span))
        except Exception as error:  # noqa: BLE001, PERF203 - as above
            drops.append(Drop(DropReason.UNREADABLE, 1, f"{type(error).__name__} while translating a span"))
    return made, drops


def requests(
    spans: Sequence[Span], target: Target, *, now: str, seen: MutableSet[str], written: otlp.Written = otlp.NOT_WRITTEN
) -> tuple[list[Request], list[Drop]]:
    """Encodes spans for the target, split to its limit.

    Args:
        spans: what ``ready`` returned.
        target: OTLP requests carry the spans, with what ``worded`` adds, ingestion requests observations translated from them.
        now: ISO 8601 with offset; the time of ingestion events.
        seen: ids of traces that ingestion requests have already named; more are added.
        written: ``Ready.written`` of the same spans.

    Returns:
        The requests in order, and a ``Drop`` for each span that is in none of them.
    """
    if target.endpoint == "otlp":
        if not written.told:
            return _otlp(worded(spans, target), target)
        corrected = _corrected(spans, target, written.told)
        bodies = written.bodies
        if corrected is not spans:
            bodies = [body if right is span else None for body, right, span in zip(bodies, corrected, spans, strict=True)]
        return _otlp(*_beside(corrected, target, bodies))
    from .encode import ingestion  # noqa: PLC0415 - see above

    translated, drops = observations(spans)
    made, more = ingestion.requests(
        translated,
        url=target.url,
        headers=target.headers,
        max_request_bytes=target.max_request_bytes,
        now=now,
        seen=seen,
    )
    return made, drops + more


def _beside(
    spans: Sequence[Span], target: Target, bodies: Sequence[bytes | None]
) -> tuple[Sequence[Span], Target, Sequence[bytes | None]]:
    """The spans with the target's dialect, and what is known of how they are written with it."""
    if target.dialect is None:
        return spans, target, bodies
    if target.dialect_only:
        return worded(spans, target._replace(corrections=False)), target, ()
    from .encode import dialect  # noqa: PLC0415 - see above

    said = dialect.said_beside(spans, target.dialect)
    made = dialect.with_said(spans, said)
    written = [
        body if body is None or not one else otlp.with_more(body, span, one)
        for body, span, one in zip(bodies, made, said, strict=True)
    ]
    return made, target, written


def count_spans(items: Sequence[Any]) -> int:
    """How many spans a request's items stand for: what only tells about a trace is none."""
    known = getattr(items, "spans", None)
    if isinstance(known, int):
        return known
    return sum(1 for item in items if getattr(item, "observation_id", item) is not None)


def again(items: Sequence[Any], target: Target) -> Request | None:
    """One request for some of a request's items, to send a half, or what was refused for now, again.

    None only if none of them can be encoded, which cannot happen to items of a request.
    """
    if target.endpoint == "ingestion":
        from .encode import ingestion  # noqa: PLC0415 - see above

        return ingestion.request(items, url=target.url, headers=target.headers)
    made, _ = _otlp(items, target._replace(max_request_bytes=1 << 62))
    return made[0] if made else None


class Unread(Sequence[Any]):
    """The items of a request of which only the body was kept: read back from it when somebody looks at them.

    Args:
        request: made here, by this or an earlier process.
        spans: how many it carries.
    """

    def __init__(self, request: Request, spans: int) -> None:
        self.spans = spans
        self._request = request
        self._items: list[Any] | None = None

    def __len__(self) -> int:
        return self.spans if self._request.endpoint == "otlp" else len(self._read())

    def __getitem__(self, index: Any) -> Any:
        return self._read()[index]

    def _read(self) -> list[Any]:
        if self._items is None:
            self._items = items_of(self._request)
        return self._items


def items_of(request: Request) -> list[Any]:
    """The items of a request that was made here, read back from its body, as ``again`` takes them.

    Raises:
        Exception: it cannot be read.
    """
    if request.endpoint == "ingestion":
        from .encode import ingestion  # noqa: PLC0415 - see above

        return list(ingestion.items_of(request.body))
    encoding = next((value for name, value in request.headers.items() if name.lower() == "content-encoding"), "")
    return from_otlp(zlib.decompress(request.body, _GZIP) if encoding == "gzip" else request.body)


def smaller(item: Any, target: Target) -> Request | None:
    """A request for one item that was too large alone, with its largest values cut: half of it, within the target's limit.

    None if it is small already, or what makes it large cannot be cut.
    """
    if target.endpoint == "ingestion":
        from .encode import ingestion  # noqa: PLC0415 - see above

        size = len(item.body)
        event = ingestion.smaller(item, _half(size, target)) if _half(size, target) >= MIN_CUT_BYTES else None
        return None if event is None else again([event], target)
    size = len(otlp.to_protobuf([item]))
    if _half(size, target) < MIN_CUT_BYTES:
        return None
    span = cut_to(item, _half(size, target))
    return again([span], target) if len(otlp.to_protobuf([span])) < 0.9 * size else None


def _half(size: int, target: Target) -> int:
    return min(size // 2, target.max_request_bytes)


def _otlp(spans: Sequence[Span], target: Target, written: Sequence[bytes | None] = ()) -> tuple[list[Request], list[Drop]]:
    return otlp.requests(
        spans,
        url=target.url,
        headers=target.headers,
        max_request_bytes=target.max_request_bytes,
        compression=target.compression,
        protocol=target.protocol,
        written=written,
    )
