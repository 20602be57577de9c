"""Prompts of Langfuse's prompt management: fetched, kept for a while, compiled, and created.

A prompt that was fetched is used for ``cache_ttl_seconds`` as it is, and after that until a thread in the background has fetched
it anew: who asks waits for the network only the first time. Sources: api.md 7.1.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from . import threads
from .api import Api
from .errors import ApiError

MAX_CACHED: Final = 1_000
"""Prompts that are kept, the latest ones."""

MAX_RETRIES: Final = 2
REFRESH_S: Final = 60.0
"""A refresh in the background that takes longer is taken for lost, as its thread is in a forked child."""

_LOGGER: Final = logging.getLogger("otel_langfuse")


@dataclass(frozen=True)
class Prompt:
    """One version of a prompt. Given as ``prompt=`` to a generation, it is linked to it, unless it is a fallback.

    ``prompt`` is a text, or a list of messages (``{"role": ..., "content": ...}``) and placeholders (``{"type": "placeholder",
    "name": ...}``).
    """

    name: str
    version: int
    prompt: str | list[dict[str, Any]]
    config: Mapping[str, Any] = field(default_factory=dict)
    labels: Sequence[str] = ()
    tags: Sequence[str] = ()
    is_fallback: bool = False
    commit_message: str | None = None

    @property
    def variables(self) -> list[str]:
        """The names of the variables in it, each once, in their order; of a chat prompt in its messages."""
        texts = [self.prompt] if isinstance(self.prompt, str) else [str(part.get("content", "")) for part in self.prompt]
        return list(dict.fromkeys(name for text in texts for name, _, _ in _variables(text)))

    def get_langchain_prompt(self, **variables: Any) -> Any:
        """The prompt as LangChain's templates have it: ``{name}`` for ``{{name}}``, and other braces twice.

        Args:
            **variables: what is replaced now; in a chat prompt also lists of messages for placeholders. Placeholders that are
                not among them become ``MessagesPlaceholder``.

        Returns:
            A text for ``PromptTemplate.from_template``, or a list for ``ChatPromptTemplate.from_messages``.
        """
        if isinstance(self.prompt, str):
            return _as_template(_filled(self.prompt, variables))
        return [_message_template(part) for part in self.compile(**variables)]

    def compile(self, **variables: Any) -> Any:
        """The prompt with ``{{name}}`` replaced by the variable of that name; unknown ones stay as they are.

        In a chat prompt, a placeholder is replaced by the list of messages of its name.

        Returns:
            A text, or a list of messages.
        """
        if isinstance(self.prompt, str):
            return _filled(self.prompt, variables)
        return [message for part in self.prompt for message in _messages(part, variables)]


def _variables(text: str) -> Iterator[tuple[str, int, int]]:
    """Each ``{{name}}``: its name, where it begins and where it has ended."""
    at = 0
    while (begin := text.find("{{", at)) >= 0 and (end := text.find("}}", begin)) >= 0:
        at = end + 2
        yield text[begin + 2 : end].strip(), begin, at


def _filled(text: str, variables: Mapping[str, Any]) -> str:
    """In one pass: what is put in is not looked at again."""
    parts: list[str] = []
    at = 0
    for name, begin, end in _variables(text):
        value = variables.get(name)
        parts += [text[at:begin], text[begin:end] if name not in variables else "" if value is None else str(value)]
        at = end
    return "".join((*parts, text[at:]))


def _as_template(text: str) -> str:
    parts: list[str] = []
    at = 0
    for name, begin, end in _variables(text):
        parts += [_escaped(text[at:begin]), f"{{{name}}}"]
        at = end
    return "".join((*parts, _escaped(text[at:])))


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _message_template(part: Mapping[str, Any]) -> Any:
    if part.get("type") != "placeholder":
        return str(part.get("role", "")), _as_template(str(part.get("content", "")))
    from langchain_core.prompts import MessagesPlaceholder  # noqa: PLC0415 - whoever asks for this has it

    return MessagesPlaceholder(variable_name=str(part.get("name")))


def _messages(part: Mapping[str, Any], variables: Mapping[str, Any]) -> list[dict[str, Any]]:
    if part.get("type") != "placeholder":
        made = {key: value for key, value in part.items() if key != "type"}
        return [{**made, "content": _filled(str(made.get("content", "")), variables)}]
    given = variables.get(str(part.get("name")))
    if not isinstance(given, Sequence) or isinstance(given, (str, bytes)):
        return [dict(part)]
    return [{**one, "content": _filled(str(one.get("content", "")), variables)} for one in given if isinstance(one, Mapping)]


class Prompts:
    """Prompts of one project. Safe to use on any thread."""

    def __init__(self, api: Api, *, cache_ttl_s: float) -> None:
        """Args: ``cache_ttl_s``: for how long a prompt is used without asking again, where ``get`` is not told."""
        self._api = api
        self._cache_ttl_s = cache_ttl_s
        self._cache: OrderedDict[tuple[str, str], tuple[float, Prompt]] = OrderedDict()
        self._refreshing: dict[tuple[str, str], float] = {}
        self._lock = threads.RLock()

    def get(
        self,
        name: str,
        *,
        version: int | None = None,
        label: str | None = None,
        fallback: str | list[dict[str, Any]] | None = None,
        cache_ttl_seconds: float | None = None,
        max_retries: int | None = None,
        fetch_timeout_seconds: float | None = None,
    ) -> Prompt:
        """A prompt; by default the one that is labelled ``production``.

        Args:
            name: of the prompt.
            version: its number; or
            label: what it is labelled.
            fallback: what to use where it cannot be fetched: a text, or messages.
            cache_ttl_seconds: for how long it is used without asking again; by default as configured (60). 0: it is fetched now.
            max_retries: how often fetching is tried again; default 2. What the server refuses is not.
            fetch_timeout_seconds: for one request; by default ``timeout``.

        Raises:
            ApiError: it cannot be fetched, and there is no fallback.
        """
        key = (name, f"version {version}" if version is not None else f"label {label or 'production'}")
        query: dict[str, str | int | None] = {"version": version, "label": None if version is not None else label}
        ttl_s = self._cache_ttl_s if cache_ttl_seconds is None else cache_ttl_seconds
        found = self._cache.get(key) if ttl_s > 0 else None
        if found is not None:
            if time.monotonic() - found[0] > ttl_s:
                self._refresh(key, query, fetch_timeout_seconds)
            return found[1]
        try:
            return self._fetch(key, query, fetch_timeout_seconds, MAX_RETRIES if max_retries is None else max_retries)
        except ApiError as error:
            if not fallback:
                raise
            level = logging.WARNING if self._api.can_be_asked else logging.INFO  # a local store has no prompts, by choice
            _LOGGER.log(level, "otel-langfuse: get_prompt: the fallback is used: %s", error)
            return Prompt(name, version or 0, deepcopy(fallback), is_fallback=True)

    def create(
        self,
        *,
        name: str,
        prompt: str | list[dict[str, Any]],
        labels: Sequence[str] = (),
        tags: Sequence[str] | None = None,
        type: str | None = None,  # noqa: A002 - the API's name for it
        config: Mapping[str, Any] | None = None,
        commit_message: str | None = None,
    ) -> Prompt:
        """Creates a prompt, or a new version of it.

        Raises:
            ApiError: the server refuses, or cannot be reached.
        """
        body: dict[str, Any] = {
            "name": name,
            "prompt": prompt,
            "type": type or ("text" if isinstance(prompt, str) else "chat"),
            "labels": list(labels),
            "config": dict(config or {}),
        }
        body |= {key: value for key, value in (("tags", tags), ("commitMessage", commit_message)) if value is not None}
        made = _prompt(self._api.call("POST", "/v2/prompts", body, max_retries=0))  # twice would be two versions
        self.clear(name)
        return made

    def update(self, *, name: str, version: int, new_labels: Sequence[str] = ()) -> Prompt:
        """Adds labels to a version, which other versions then lose.

        Raises:
            ApiError: the server refuses (there is no such version, or one of them is ``latest``), or cannot be reached.
        """
        path = f"/v2/prompts/{quote(name, safe='')}/versions/{int(version)}"
        made = _prompt(self._api.call("PATCH", path, {"newLabels": list(new_labels)}))
        self.clear(name)
        return made

    def clear(self, name: str | None = None) -> None:
        """Forgets what was fetched of this prompt; None: of all."""
        with self._lock:
            for key in [key for key in self._cache if name is None or key[0] == name]:
                del self._cache[key]

    def _fetch(self, key: tuple[str, str], query: Any, timeout_s: float | None, max_retries: int) -> Prompt:
        path = f"/v2/prompts/{quote(key[0], safe='')}"
        made = _prompt(self._api.call("GET", path, query=query, timeout_s=timeout_s, max_retries=max_retries))
        with self._lock:
            self._cache[key] = (time.monotonic(), made)
            self._cache.move_to_end(key)
            if len(self._cache) > MAX_CACHED:
                self._cache.popitem(last=False)
        return made

    def _refresh(self, key: tuple[str, str], query: Any, timeout_s: float | None) -> None:
        """In the background, once at a time. Where no thread can be started, the next call tries."""
        now = time.monotonic()
        if now - self._refreshing.get(key, -REFRESH_S) < REFRESH_S:
            return
        self._refreshing[key] = now

        def fetch() -> None:
            try:
                self._fetch(key, query, timeout_s, MAX_RETRIES)
            except ApiError as error:
                if error.status == 404:
                    self._cache.pop(key, None)
                _LOGGER.warning("otel-langfuse: get_prompt: what is known is used on: %s", error)
            finally:
                self._refreshing.pop(key, None)

        try:
            threads.Thread(target=fetch, name="otel-langfuse-prompts").start()
        except RuntimeError:  # at the end of the interpreter
            self._refreshing.pop(key, None)


def _prompt(answer: Any) -> Prompt:
    try:
        return Prompt(
            str(answer["name"]),
            int(answer["version"]),
            answer["prompt"],
            answer.get("config") or {},
            tuple(answer.get("labels") or ()),
            tuple(answer.get("tags") or ()),
            commit_message=answer.get("commitMessage"),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ApiError("the answer is no prompt") from None
