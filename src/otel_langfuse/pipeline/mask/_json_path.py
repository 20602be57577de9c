"""Places inside JSON: the part of JSONPath (RFC 9535) that names them without conditions."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from otel_langfuse.errors import ConfigError

Step: TypeAlias = "str | int | None"
"""A name, an index, or None for every member."""

_STEP: Final = re.compile(r"(\.\.)?(?:\.?([^.\[\]*'\"\s]+)|\.?(\*)|\[(\*|-?\d{1,9}|'[^']*'|\"[^\"]*\")\])")
REMOVE: Final = object()


def parsed_path(path: str) -> tuple[tuple[bool, Step], ...]:
    """``$.messages[*].content`` as steps, each with whether it is looked for at any depth (``..name``).

    Raises:
        ConfigError: it is no such path.
    """
    rest = path.removeprefix("$")
    steps: list[tuple[bool, Step]] = []
    at = 0
    while at < len(rest):
        match = _STEP.match(rest, at)
        if match is None:
            break
        steps.append((match[1] is not None, _step(match[2] or match[3] or match[4])))
        at = match.end()
    if not steps or at < len(rest):
        raise ConfigError(f"MaskRule(paths={path!r}): expected a path such as $.user.email, messages[*].content or ..name")
    return tuple(steps)


def _step(text: str) -> Step:
    if text == "*":
        return None
    if text[0] in "'\"":
        return text[1:-1]
    return int(text) if text.lstrip("-").isdigit() else text


def changed_at(value: Any, steps: tuple[tuple[bool, Step], ...], change: Callable[[Any], Any]) -> Any:
    """The value with ``change`` applied at the path, copied where it differs; ``REMOVE`` as an answer takes the member away."""
    if not steps:
        return change(value)
    (is_deep, step), rest = steps[0], steps[1:]
    members = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    new = []
    for name, item in members:
        after = item
        if step is None or step == name or (isinstance(value, list) and step == name - len(value)):
            after = changed_at(item, rest, change)
        if is_deep and after is not REMOVE:
            after = changed_at(after, steps, change)
        if after is not REMOVE:
            new.append((name, after))
    if len(new) == len(members) and all(one[1] is other[1] for one, other in zip(new, members, strict=True)):
        return value
    return dict(new) if isinstance(value, dict) else [item for _, item in new]
