"""What Langfuse's classic drop-in has on the openai module: its settings, ``langfuse_auth_check`` and ``flush_langfuse``."""

from __future__ import annotations

from typing import Any, Final

import openai

from otel_langfuse.classic import Langfuse, flush, get_client
from otel_langfuse.errors import ConfigError
from otel_langfuse.tracing._origin import NOTES

_SETTINGS: Final = {
    "langfuse_public_key": "public_key",
    "langfuse_secret_key": "secret_key",
    "langfuse_host": "host",
    "langfuse_debug": "debug",
    "langfuse_enabled": "enabled",
    "langfuse_sample_rate": "sample_rate",
    "langfuse_environment": "environment",
    "langfuse_mask": "mask",
}
"""Attribute of the module -> argument of ``Langfuse``."""

_NOTHING: Final = (None,) * len(_SETTINGS)
_done: list[Any] = list(_NOTHING)
"""What ``Langfuse`` was made with."""


def configure() -> None:
    """Makes the client that the module's attributes say, if any says something new. Never raises."""
    attributes = vars(openai)
    said = [attributes.get(name) for name in _SETTINGS]
    if said == _done:
        return
    _done[:] = said
    given = {argument: value for argument, value in zip(_SETTINGS.values(), said, strict=True) if value is not None}
    if not given:
        return
    try:
        Langfuse(**given)
    except ConfigError as error:
        NOTES.note("openai settings", f"the settings openai.langfuse_... are left out: {error}")


def langfuse_auth_check() -> bool:
    """See ``Langfuse.auth_check``."""
    configure()
    return get_client().auth_check()


def flush_langfuse() -> None:
    """``Langfuse.flush`` of all clients."""
    flush()


_FUNCTIONS: Final = {"langfuse_auth_check": langfuse_auth_check, "flush_langfuse": flush_langfuse}


def add_functions() -> None:
    """Puts the two functions on the module."""
    for name, function in _FUNCTIONS.items():
        setattr(openai, name, function)


def remove_functions() -> None:
    """Takes them off again."""
    for name, function in _FUNCTIONS.items():
        if vars(openai).get(name) is function:
            delattr(openai, name)
