"""Changes content for privacy, on the worker: what is masked never leaves, on any span of any library, whatever fails. Pure.

Covered: attributes with their keys, at any depth; span name, status message and trace state; names and attributes of span events
(exceptions with their messages and stack traces); attributes of links, resource and scope; and what is not on a span, by
``Masking.value``: comments and metadata of scores, media that are text. Variables of prompts leave on spans alone: as part of an
input, or in attributes of their own.

``mask=`` is a function of one value, a ``MaskRule``, the name of a preset, or a list of such. Applied are, in this order:
functions and rules as they are listed, ``mask_otel_spans=``, ``content``, and at the end, over everything that the others left or
wrote, ``secrets`` and ``pii``.

It fails closed, value by value: where a function raises, does not come to an end, or answers with what it cannot mean, ``FAILED``
is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from otel_langfuse.errors import ConfigError
from otel_langfuse.model import MASK_PRESETS, Span
from otel_langfuse.pipeline.mask._ask import Answer, Run, Work, answer, ask, callable_with_data, run_each
from otel_langfuse.pipeline.mask._draft import Batch, Place, of_value
from otel_langfuse.pipeline.mask._rows import Sweep
from otel_langfuse.pipeline.mask._scan import Scanner
from otel_langfuse.pipeline.mask._secrets import ROWS, names_a_secret, own_rows
from otel_langfuse.pipeline.mask._texts import Texts
from otel_langfuse.pipeline.mask._values import FAILED, NotLookedThroughError

if TYPE_CHECKING:
    from otel_langfuse.pipeline.mask._rules import MaskRule

__all__ = [
    "FAILED",
    "Answer",
    "Mask",
    "Masked",
    "Masking",
    "Run",
    "answer",
    "masking",
    "presets",
    "run_each",
]

Mask: TypeAlias = "Callable[..., Any] | MaskRule | str | Sequence[Callable[..., Any] | MaskRule | str]"
"""What ``mask=`` takes."""

_Step: TypeAlias = Callable[[Iterable[Place], Work], None]


class Masked(NamedTuple):
    """Spans that may leave, one for each that was given, the same object where nothing changed.

    ``failures`` counts the values for which the mask failed; ``detail`` names the error of the last one, not the value.
    """

    spans: list[Span]
    failures: int
    detail: str


class Masking:
    """Everything that is masked for one destination. Made by ``masking``; safe on several threads.

    Args:
        steps: functions and rules, in order.
        mask_otel_spans: as the official SDK has it, or None.
        content: whether prompts and completions go.
        texts: patterns, or None.
        run: calls functions of the user's.
    """

    def __init__(
        self,
        steps: Sequence[_Step],
        mask_otel_spans: Callable[..., Any] | None,
        *,
        content: bool,
        texts: Texts | None,
        run: Run,
    ) -> None:
        self._steps = (*steps, *((_content_step(),) if content else ()))
        self._before_content = len(steps)
        self._of_batch = None if mask_otel_spans is None else _batch_step(mask_otel_spans)
        self._texts = texts
        self._run = run

    def spans(self, spans: Sequence[Span]) -> Masked:
        """Masks a batch; on the worker. Resources and scopes that spans share stay shared.

        The interpreter's exit (``SystemExit``, ``KeyboardInterrupt``), raised by a function of the user's, passes through.
        """
        work = Work(self._run)
        if self._steps or self._of_batch is not None:
            batch = Batch(spans)
            for step in self._steps[: self._before_content]:
                step(batch.places(), work)
            if self._of_batch is not None:
                self._of_batch(batch, work)
            for step in self._steps[self._before_content :]:
                step(batch.places(), work)
            spans = batch.spans()
        made = list(spans) if self._texts is None else self._texts.spans(spans, work.failed)
        return Masked(made, work.failures, work.detail)

    @property
    def only_texts(self) -> Texts | None:
        """The patterns, where nothing but patterns is masked: then it can be told at a glance that spans stay as they are."""
        return None if self._steps or self._of_batch is not None else self._texts

    def value(self, value: Any, field: str) -> tuple[Any, int]:
        """Masks what is on no span: a score's comment or metadata, media that are text.

        Args:
            value: of any JSON type. Functions of the user's are given it as it is, not each text of it.
            field: what it is; rules by field and ``content`` go by it: "comment", "metadata", "media", "input" ...

        Returns:
            What may leave, and how many values could not be masked, of which ``FAILED`` is sent.
        """
        work = Work(self._run)
        for step in self._steps:
            holder, place = of_value(value, field)
            step((place,), work)
            value = holder[field]
        try:
            return (value if self._texts is None else self._texts.value(value)), work.failures
        except (NotLookedThroughError, RecursionError) as error:
            return work.failed(str(error)), work.failures


def masking(
    mask: Any = None,
    *,
    secrets: bool = True,
    more: Sequence[str] = (),
    own_secrets: Sequence[str] = (),
    mask_otel_spans: Any = None,
    run: Run = run_each,
) -> Masking | None:
    """Works out what is to be masked; None if nothing is.

    Args:
        mask: as ``Mask`` says, or None.
        secrets: whether the preset ``secrets`` is on although nobody names it.
        more: further presets.
        own_secrets: texts that are secrets whatever they look like (the destination's own key).
        mask_otel_spans: function of ``params=MaskOtelSpansParams(...)``, or None.
        run: calls functions of the user's; bounds their time, if it does.

    Raises:
        ConfigError: something of it cannot work.
    """
    steps: list[_Step] = []
    named = set(presets(more))
    items = mask if isinstance(mask, (list, tuple)) else () if mask is None else (mask,)
    for item in items:
        if isinstance(item, str):
            named |= set(presets(item.split(",")))
        else:
            steps.append(_step(item))
    if mask_otel_spans is not None and not callable(mask_otel_spans):
        raise ConfigError(f"mask_otel_spans={type(mask_otel_spans).__name__}: expected a function of params=")
    if secrets:
        named.add("secrets")
    if not (steps or named or mask_otel_spans is not None):
        return None
    return Masking(steps, mask_otel_spans, content="content" in named, texts=_texts(named, own_secrets), run=run)


def _step(item: Any) -> _Step:
    from otel_langfuse.pipeline.mask._rules import MaskRule, ready_rule  # noqa: PLC0415 - who has no rule need not load them

    if isinstance(item, MaskRule):
        return ready_rule(item)
    if callable(item):
        return _function(callable_with_data(item, "mask"))
    expected = f"a function of one value, a MaskRule, {' or '.join(MASK_PRESETS)}, or a list of them"
    raise ConfigError(f"mask={type(item).__name__}: expected {expected}")


def presets(names: Iterable[str]) -> tuple[str, ...]:
    """Checks names of presets.

    Raises:
        ConfigError: there is no such preset.
    """
    found = tuple(name.strip() for name in names)
    if unknown := [name for name in found if name not in MASK_PRESETS]:
        raise ConfigError(f"mask={unknown[0]!r}: expected {', '.join(MASK_PRESETS)}, a function or a MaskRule"[:200])
    return found


def _texts(named: set[str], own_secrets: Sequence[str]) -> Texts | None:
    rows = (*own_rows(tuple(own_secrets)), *ROWS) if "secrets" in named else ()
    sweeps: tuple[Sweep, ...] = ()
    if "pii" in named:
        from otel_langfuse.pipeline.mask._pii import SWEEPS  # noqa: PLC0415 - its patterns cost time to compile

        sweeps = SWEEPS
    return Texts(Scanner(rows, sweeps), names_a_secret if rows else None) if rows or sweeps else None


def _content_step() -> _Step:
    from otel_langfuse.pipeline.mask._content import mask_content  # noqa: PLC0415 - as above

    return mask_content


def _batch_step(function: Callable[..., Any]) -> Callable[[Batch, Work], None]:
    from otel_langfuse.pipeline.mask._otel_spans import mask_by_function  # noqa: PLC0415 - few have one

    return lambda batch, work: mask_by_function(batch, function, work)


def _function(function: Callable[[Any], Any]) -> _Step:
    def step(places: Iterable[Place], work: Work) -> None:
        found = list(places)
        values = [place for place in found if place.where == "value"]
        for place in values:
            _ask_whole(place, function, work)
        ask([place for place in found if place.where != "value"], function, work)

    return step


def _ask_whole(place: Place, function: Callable[[Any], Any], work: Work) -> None:
    (answered,) = work.run(function, [place.value])
    good = answered.error is None and isinstance(answered.value, (str, dict, list))
    why = answered.error or f"mask returned {type(answered.value).__name__}"
    place.holder[place.key] = answered.value if good else work.failed(why)
