"""What may stand for a value: a text, nothing, its last four characters, or a keyed hash of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from otel_langfuse.errors import ConfigError

Action: TypeAlias = Literal["replace", "remove", "last4", "hash"]

_MIN_KEY: Final = 8
_HASH_DIGITS: Final = 32  # 128 bits: no two values of one project alike by accident


def text_action(action: Action, text: str, hash_key: str | bytes | None) -> Callable[[str], str]:
    """What an action makes of a text ("" for ``remove``).

    Raises:
        ConfigError: there is no such action, or it lacks its key.
    """
    if action == "replace":
        return lambda _: text
    if action == "remove":
        return lambda _: ""
    if action == "last4":
        return _last_four
    if action != "hash":
        raise ConfigError(f"MaskRule(action={action!r}): expected replace, remove, last4 or hash")
    key = hash_key.encode() if isinstance(hash_key, str) else hash_key
    if not isinstance(key, bytes) or len(key) < _MIN_KEY:
        raise ConfigError(f"MaskRule(action='hash'): expected hash_key=, text or bytes, of {_MIN_KEY} bytes at least")
    import hmac  # noqa: PLC0415 - it loads OpenSSL

    return lambda value: f"hash:{hmac.digest(key, value.encode('utf-8', 'surrogatepass'), 'sha256').hex()[:_HASH_DIGITS]}"


def _last_four(value: str) -> str:
    """The last four characters, where that is at most a third of them."""
    return "****" + (value[-4:] if len(value) >= 12 else "")
