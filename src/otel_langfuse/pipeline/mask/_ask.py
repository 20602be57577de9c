"""Asks functions of the user's: for each text once a batch, in whatever time and with whatever answer. Fails closed.

A text that holds a JSON object or array is asked for as such, and the answer written back as JSON.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

from otel_langfuse.errors import ConfigError
from otel_langfuse.pipeline.mask._draft import Place
from otel_langfuse.pipeline.mask._values import FAILED, NotLookedThroughError, gather, replaced


class Answer(NamedTuple):
    """What a function returned, or why it did not: one line without the value."""

    value: Any = None
    error: str | None = None


Run: TypeAlias = "Callable[[Callable[[Any], Any], Sequence[Any]], list[Answer]]"
"""Calls a function with each of some values, in order; one answer for each. The machinery hands in one that bounds the time."""


def run_each(function: Callable[[Any], Any], values: Sequence[Any]) -> list[Answer]:
    """Calls it here, without a bound. Only the interpreter's exit (``SystemExit``, ``KeyboardInterrupt``) passes through."""
    return [answer(function, value) for value in values]


def answer(function: Callable[[Any], Any], value: Any) -> Answer:
    """The function's answer for one value."""
    try:
        return Answer(function(value))
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a user's mask raises, the value must not leave
        return Answer(error=f"mask raised {type(error).__name__}")


class Work:
    """One batch's masking: how functions are called, and what failed."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.failures = 0
        self.detail = ""

    def failed(self, detail: str) -> str:
        """Counts one value that could not be masked; what stands for it."""
        self.failures += 1
        self.detail = detail
        return FAILED


def callable_with_data(function: Callable[..., Any], setting: str) -> Callable[[Any], Any]:
    """The user's function as one that takes a value by position.

    Raises:
        ConfigError: it cannot be called with one value, neither by position nor as ``data=``.
    """
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # some built-ins have none
        return function
    if _binds(signature, ""):
        return function
    if _binds(signature, data=""):
        return lambda data: function(data=data)
    raise ConfigError(f"{setting}=...: expected a function of one value, mask(data) or mask(data=...)")


def _binds(signature: inspect.Signature, *args: str, **kwargs: str) -> bool:
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def ask(places: Iterable[Place], function: Callable[[Any], Any], work: Work) -> None:
    """Puts the function's answer in the place of every text; ``FAILED`` where there is none."""
    texts: list[str] = []
    looked: list[Place] = []
    for place in places:
        try:
            gather(place.value, texts)
            looked.append(place)
        except NotLookedThroughError as error:  # noqa: PERF203 - each value by itself
            place.holder[place.key] = work.failed(str(error))
    asked = {text: parsed(text) for text in dict.fromkeys(texts)}
    answers = dict(zip(asked, work.run(function, list(asked.values())), strict=True))
    for place in looked:
        new = replaced(place.value, lambda text: _written(text, asked[text], answers[text], work))
        if new is not place.value:
            place.holder[place.key] = new


def parsed(text: str) -> Any:
    """The JSON object or array that a text holds; else the text."""
    if text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, (dict, list)) else text


def as_json(value: Any) -> str:
    """JSON text.

    Raises:
        TypeError, ValueError, RecursionError: it is nothing that JSON can hold.
    """
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a character, as an escape
        return json.dumps(value)
    return text


def _written(text: str, asked: Any, answered: Answer, work: Work) -> str:
    value = answered.value
    if answered.error is not None:
        return work.failed(answered.error)
    if isinstance(value, str):
        return value
    if isinstance(asked, str) or not isinstance(value, (dict, list)):
        return work.failed(f"mask returned {type(value).__name__}" + (", not str" if isinstance(asked, str) else ""))
    try:
        return text if value == parsed(text) else as_json(value)
    except Exception as error:  # noqa: BLE001 - whatever it holds, and however that is compared
        return work.failed(f"{type(error).__name__} while writing the answer as JSON")
