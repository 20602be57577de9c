"""Rules of the user's: where (attribute or field), which part of it (path, key name, pattern), and what becomes of that."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from otel_langfuse.errors import ConfigError
from otel_langfuse.pipeline.mask._actions import Action, text_action
from otel_langfuse.pipeline.mask._ask import Work, as_json, parsed
from otel_langfuse.pipeline.mask._draft import Place
from otel_langfuse.pipeline.mask._json_path import REMOVE, changed_at, parsed_path
from otel_langfuse.pipeline.mask._values import MAX_DEPTH, NotLookedThroughError, gather, replaced

_NESTED: Final = re.compile(r"\([^()]*[*+}][^()]*\)[*+{]")
_MAX_JSON_IN_JSON: Final = 4
_ATTRIBUTES: Final = ("attribute", "event attribute", "link", "resource", "scope")


@dataclass(frozen=True, kw_only=True)
class MaskRule:
    r"""What to mask, for ``mask=``. Names without a place or a part of one apply everywhere.

    ``attributes`` and ``fields`` say where (either is enough), ``paths``, ``keys`` and ``pattern`` which part of what stands
    there (all of it without them). Lists may be given as one text.

    Args:
        attributes: keys of attributes of spans, span events, links, resource and scope; ``*`` stands for any characters.
        fields: fields of the observation, whatever attribute the instrumentation keeps them in: ``input``, ``output``,
            ``metadata``, ``model_parameters``, ``tags``, ``user_id``, ``session_id``, ``name``, ``status_message`` ...; of
            scores ``comment`` and ``metadata``; ``variables`` of prompts where an instrumentation records them apart.
        paths: places inside values that hold JSON: ``$.user.email``, ``messages[*].content``, ``..name`` (at any depth).
        keys: names inside values that hold JSON, at any depth, and last segments of attributes' keys: ``card_number``. Case,
            ``-`` and ``_`` do not count.
        pattern: a regular expression; what it matches is masked. Its own run time is nobody's to bound: repetitions of groups
            that hold repetitions are refused.
        allow: the other way round: keys of attributes (``*`` as above) that stay. Every other attribute is removed.
        action: ``replace`` (by ``text``), ``remove`` (the attribute, member or match), ``last4`` (``****1234``; of fewer than
            12 characters nothing), or ``hash`` (HMAC-SHA256 with ``hash_key``: equal values stay equal, nobody without the key
            can tell which).
        text: what stands for it with ``replace``.
        hash_key: at least 8 bytes; keep it as you keep a password.

    Raises:
        ConfigError: the rule masks nothing, or one of its parts cannot work.
    """

    attributes: str | Sequence[str] = ()
    fields: str | Sequence[str] = ()
    paths: str | Sequence[str] = ()
    keys: str | Sequence[str] = ()
    pattern: str | re.Pattern[str] | None = None
    allow: str | Sequence[str] = ()
    action: Action = "replace"
    text: str = "<masked>"
    hash_key: str | bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        chosen = [self.attributes, self.fields, self.paths, self.keys, self.pattern]
        if bool(self.allow) == any(chosen):
            raise ConfigError("MaskRule(): expected either allow=, or at least one of attributes, fields, paths, keys, pattern")
        ready_rule(self)


class ReadyRule:
    """A rule with everything about it worked out."""

    def __init__(self, rule: MaskRule) -> None:
        self._text = text_action(rule.action, rule.text, rule.hash_key)
        self._removes = rule.action == "remove"
        self._replaces = rule.action == "replace"
        self._attributes = globs(rule.attributes)
        self._fields = _fields(rule.fields)
        self._paths = tuple(map(parsed_path, listed(rule.paths)))
        self._keys = frozenset(map(plain_name, listed(rule.keys)))
        self._pattern = _compiled(rule.pattern)
        self._allow = globs(rule.allow)

    def __call__(self, places: Iterable[Place], work: Work) -> None:
        for place in list(places):
            if self._allow is not None:
                if place.where in _ATTRIBUTES and not self._allow.fullmatch(place.key):
                    del place.holder[place.key]
            elif place.value is not None and self._is_here(place):
                try:
                    gather(place.value, [])
                    new = self._of(place)
                except (NotLookedThroughError, RecursionError) as error:
                    new = work.failed(f"{type(error).__name__} in a rule")
                _put(place, new)

    def _is_here(self, place: Place) -> bool:
        if self._attributes is None and not self._fields:
            return True
        if self._attributes is not None and place.where in _ATTRIBUTES and self._attributes.fullmatch(place.key):
            return True
        if not self._fields:
            return False
        from otel_langfuse.pipeline.mask._fields import holds  # noqa: PLC0415 - the conventions' tables, for who needs them

        return any(holds(place, name) for name in self._fields)

    def _of(self, place: Place) -> Any:
        """What becomes of a place's value; ``REMOVE`` if the place goes."""
        if not (self._paths or self._keys):
            return self._part(place.value)
        if self._keys and plain_name(place.key.rpartition(".")[2]) in self._keys and place.where in _ATTRIBUTES:
            return self._part(place.value)
        if place.where == "value" and isinstance(place.value, (dict, list)):
            return self._inside(place.value, 0)
        return replaced(place.value, lambda text: self._inside_text(str(text), 0))

    def _part(self, value: Any) -> Any:
        """What becomes of a value that is meant: of all of it, or of what the pattern matches."""
        if self._pattern is not None:
            pattern = self._pattern
            return replaced(value, lambda text: pattern.sub(lambda match: self._text(match[0]), text))
        if self._removes:
            return REMOVE
        if isinstance(value, (list, tuple)):
            return type(value)(self._part(item) for item in value)
        if isinstance(value, dict):
            return self._text(as_json(value)) if self._replaces else {key: self._part(item) for key, item in value.items()}
        return value if value is None else self._text(value if isinstance(value, str) else str(value))

    def _inside_text(self, text: str, depth: int) -> str:
        value = parsed(text)
        if isinstance(value, str):
            return text
        new = self._inside(value, depth)
        return text if new is value else "" if new is REMOVE else as_json(new)

    def _inside(self, value: Any, depth: int) -> Any:
        for path in self._paths:
            value = changed_at(value, path, self._part)
        return self._named(value, depth, 0) if self._keys else value

    def _named(self, value: Any, depth: int, level: int) -> Any:
        """The value with what stands under the names masked; texts inside that hold JSON themselves are looked into, too."""
        if level > MAX_DEPTH:
            raise NotLookedThroughError("nested too deeply")
        if isinstance(value, str):
            return self._inside_text(value, depth + 1) if depth < _MAX_JSON_IN_JSON else value
        if isinstance(value, list):
            items = [self._named(item, depth, level + 1) for item in value]
            return value if all(one is other for one, other in zip(items, value, strict=True)) else items
        if not isinstance(value, dict):
            return value
        new = {}
        for key, item in value.items():
            after = self._part(item) if plain_name(str(key)) in self._keys else self._named(item, depth, level + 1)
            if after is not REMOVE:
                new[key] = after
        return value if len(new) == len(value) and all(new[key] is value[key] for key in new) else new


def ready_rule(rule: MaskRule) -> ReadyRule:
    """The rule, ready to be applied.

    Raises:
        ConfigError: see ``MaskRule``.
    """
    return ReadyRule(rule)


def _put(place: Place, new: Any) -> None:
    if new is REMOVE:
        if place.where in _ATTRIBUTES:
            del place.holder[place.key]
        else:  # a span and a span event always have a name
            place.holder[place.key] = None if place.key == "status_message" or place.where == "value" else "<masked>"
    elif new is not place.value:
        place.holder[place.key] = new


def listed(names: str | Sequence[str]) -> tuple[str, ...]:
    """One text or several.

    Raises:
        ConfigError: something of it is no text.
    """
    found = (names,) if isinstance(names, str) else tuple(names)
    if not all(isinstance(name, str) and name for name in found):
        raise ConfigError(f"MaskRule(): expected texts, not {found!r}"[:200])
    return found


def globs(names: str | Sequence[str]) -> re.Pattern[str] | None:
    """A pattern for keys; ``*`` stands for any characters. None without names."""
    found = listed(names)
    return re.compile("|".join(re.escape(name).replace(r"\*", ".*") for name in found), re.DOTALL) if found else None


def plain_name(name: str) -> str:
    """A name without case and signs: ``API-Key`` and ``api_key`` are ``apikey``."""
    return "".join(filter(str.isalnum, name)).lower()


def _fields(names: str | Sequence[str]) -> tuple[str, ...]:
    found = listed(names)
    if found:
        from otel_langfuse.pipeline.mask._fields import fields  # noqa: PLC0415 - as above

        if unknown := sorted(set(found) - fields()):
            raise ConfigError(f"MaskRule(fields={unknown[0]!r}): expected some of {', '.join(sorted(fields()))}")
    return found


def _compiled(pattern: str | re.Pattern[str] | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    text = pattern if isinstance(pattern, str) else getattr(pattern, "pattern", None)
    try:
        compiled = re.compile(pattern) if isinstance(text, str) else None
    except re.error as error:
        raise ConfigError(f"MaskRule(pattern={text!r}): {error}"[:200]) from None
    if compiled is None or compiled.match("") is not None:
        raise ConfigError("MaskRule(pattern=...): expected a regular expression of text that does not match nothing")
    if _NESTED.search(re.sub(r"\\.|\[(?:\\.|[^\]\\])*\]", "x", compiled.pattern)):
        raise ConfigError(
            f"MaskRule(pattern={text!r}): expected no repeated group that holds a repetition: it may never end"[:200]
        )
    return compiled
