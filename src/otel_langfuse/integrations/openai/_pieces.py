"""The pieces of a streamed answer, put together within a bound. One class for each of the three shapes that streams have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from otel_langfuse import picture

from ._answered import answered, part, plain

_WHOLE: Final = frozenset({"id", "type", "role", "name", "call_id", "object"})
"""Texts that come at once; a further one replaces the first. All others come in pieces."""

MAX_CHARACTERS: Final = picture.MAX_CHARACTERS
"""Of all texts of one answer. Sound is one of them, in base64."""


class _Text(list[str]):
    """The pieces of one text."""


class _Merged:
    """Deltas put together: texts joined, objects merged, lists by the ``index`` of their items."""

    def __init__(self) -> None:
        self.value: dict[str, Any] = {}
        self.has_text = False
        self._left = MAX_CHARACTERS
        self._over = 0

    def add(self, delta: Mapping[str, Any]) -> None:
        self._merge(self.value, delta)

    def _merge(self, into: dict[str, Any], delta: Mapping[str, Any]) -> None:
        for key, value in delta.items():
            if isinstance(value, str) and key not in _WHOLE:
                self._append(into, key, value)
            elif isinstance(value, Mapping):
                held = into.setdefault(key, {})
                if isinstance(held, dict):
                    self._merge(held, value)
            elif isinstance(value, list):
                held = into.setdefault(key, {})
                for number, item in enumerate(value):
                    if isinstance(item, Mapping) and isinstance(held, dict):
                        index = item.get("index")
                        self._merge(held.setdefault(number if index is None else index, {}), item)
            elif value is not None and key != "index":
                into[key] = value

    def _append(self, into: dict[str, Any], key: str, text: str) -> None:
        if not text:
            return
        self.has_text = True
        kept = text[: self._left]
        self._left -= len(kept)
        self._over += len(text) - len(kept)
        held = into.setdefault(key, _Text())
        if kept and isinstance(held, _Text):
            held.append(kept)

    def whole(self) -> dict[str, Any]:
        made: dict[str, Any] = {key: _joined(value) for key, value in self.value.items()}
        if self._over:
            made["<cut>"] = f"{self._over:,} more characters"
        return made


def _joined(value: Any) -> Any:
    if isinstance(value, _Text):
        return "".join(value)
    if not isinstance(value, dict):
        return value
    if value and all(type(key) is int for key in value):
        return [_joined(value[key]) for key in sorted(value)]
    return {key: _joined(one) for key, one in value.items()}


class _Choices:
    """Of chat completions."""

    def __init__(self) -> None:
        self._choices: dict[int, _Merged] = {}
        self._reasons: dict[int, Any] = {}
        self._about: dict[str, Any] = {}
        self.has_text = False

    def add(self, chunk: Any) -> None:
        for name in ("model", "service_tier", "usage"):
            if (value := part(chunk, name)) is not None:
                self._about[name] = value
        for choice in part(chunk, "choices") or ():
            index = part(choice, "index") or 0
            merged = self._choices.setdefault(index, _Merged())
            merged.add(self._delta(choice))
            self.has_text = self.has_text or merged.has_text
            if (reason := part(choice, "finish_reason")) is not None:
                self._reasons[index] = reason

    def _delta(self, choice: Any) -> Mapping[str, Any]:
        found = plain(part(choice, "delta"))
        return found if isinstance(found, Mapping) else {}

    def fields(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        choices = [
            {"message": self._choices[index].whole(), "finish_reason": self._reasons.get(index)}
            for index in sorted(self._choices)
        ]
        return answered("chat", {**self._about, "choices": choices}, parameters)


class _Texts(_Choices):
    """Of the old completions, whose choices have a text and no delta."""

    def _delta(self, choice: Any) -> Mapping[str, Any]:
        return {"text": part(choice, "text") or ""}

    def fields(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        choices = [{**self._choices[index].whole(), "finish_reason": self._reasons.get(index)} for index in sorted(self._choices)]
        return answered("completion", {**self._about, "choices": choices}, parameters)


class _Events:
    """Of the Responses API: its last event has the whole answer; until then, the texts as they come."""

    def __init__(self) -> None:
        self._merged = _Merged()
        self._response: Any = None
        self._error: Any = None
        self.has_text = False

    def add(self, event: Any) -> None:
        kind = str(part(event, "type") or "")
        if (response := part(event, "response")) is not None:
            self._response = response
        elif kind.endswith(".delta") and isinstance(delta := part(event, "delta"), str):
            self.has_text = True
            at = part(event, "output_index") or 0
            self._merged.add({"output": [{"index": at, kind.removeprefix("response.").removesuffix(".delta"): delta}]})
        elif kind == "error":
            self._error = part(event, "message") or "error"

    def fields(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        fields = {} if self._response is None else answered("responses", self._response, parameters)
        if not part(self._response, "output"):  # it has not come to its end
            fields["output"] = self._merged.whole().get("output")
        if self._error is not None:
            fields |= {"level": "ERROR", "status_message": str(self._error)}
        return fields


Pieces: TypeAlias = "_Choices | _Events"

_KINDS: Final[Mapping[str, type[_Choices] | type[_Events]]] = {"chat": _Choices, "completion": _Texts, "responses": _Events}


def pieces_of(kind: str) -> Pieces:
    """What puts together the pieces of a stream of this kind."""
    return _KINDS[kind]()
