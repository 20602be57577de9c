"""Headers that say who sends, and the check of those that a user gives."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from otel_langfuse.config import Config
from otel_langfuse.errors import ConfigError

SDK_NAME: Final = "otel-langfuse"
SDK_NAME_HEADER: Final = "x-langfuse-sdk-name"
"""Stands on requests to Langfuse, and on no others."""
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_METADATA_NAME: Final = re.compile(r"(?!grpc-)[0-9a-z_.-]+(?<!-bin)")
_METADATA_VALUE: Final = re.compile(r"[\x20-\x7e]*")
_OURS: Final = frozenset({"content-type", "content-encoding", "content-length", "transfer-encoding", "host"})


@cache
def sdk_version() -> str:
    """Our version, as installed; read once, which takes a millisecond."""
    try:
        return version("otel-langfuse")
    except PackageNotFoundError:
        return "0"


def user_agent() -> str:
    """What we call ourselves to any server."""
    return f"{SDK_NAME}/{sdk_version()}"


def langfuse_headers(config: Config) -> dict[str, str]:
    """Headers for every call to Langfuse (api.md 1.3). None of them is a secret."""
    headers = {
        "user-agent": user_agent(),
        SDK_NAME_HEADER: SDK_NAME,
        "x-langfuse-sdk-version": sdk_version(),
    }
    if config.public_key is not None:
        headers["x-langfuse-public-key"] = config.public_key
    return headers


def public_key_of(headers: Mapping[str, str]) -> str:
    """The public key that a request's headers name; empty where they name none, as to a collector."""
    return next((value for name, value in headers.items() if name.lower() == "x-langfuse-public-key"), "")


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The user's headers with their names in lower case.

    Raises:
        ConfigError: one cannot be sent, or is one that the request itself determines. Values are not shown.
    """
    checked: dict[str, str] = {}
    for name, value in headers.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name.lower() in _OURS:
            raise ConfigError(f"headers={str(name)[:100]!r}: expected the name of a header that is not the request's own")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise ConfigError(f"headers[{name!r}]=***: expected text of one line in Latin-1")
        checked[name.lower()] = value
    return checked


def checked_metadata(headers: Mapping[str, str]) -> dict[str, str]:
    """The user's headers as gRPC's metadata, which may hold less (https://grpc.io/docs/guides/metadata/).

    Raises:
        ConfigError: one cannot be sent by gRPC.
    """
    checked = checked_headers(headers)
    for name, value in checked.items():
        if not _METADATA_NAME.fullmatch(name):
            raise ConfigError(
                f"headers={name[:100]!r}: expected, for gRPC, letters, digits, - _ . and neither grpc-... nor ...-bin"
            )
        if not _METADATA_VALUE.fullmatch(value):
            raise ConfigError(f"headers[{name!r}]=***: expected, for gRPC, printable ASCII")
    return checked
