"""What the spool takes and gives: requests, whose they are, and what is kept of them at most."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Final, NamedTuple

from otel_langfuse.errors import DropReason

ROW_BYTES: Final = 256
"""What a row counts for beside its body."""


class SpoolError(Exception):
    """The spool cannot be read or written; nothing of the call was done. The message names the file and SQLite's reason."""


class Destination(NamedTuple):
    """Where a request goes. ``project`` tells two projects on one server apart: see ``project_of``.

    ``endpoint`` says how, and what it carries: ``otlp`` and ``ingestion`` carry spans, ``scores`` scores. Where the fields below
    count spans, they count scores there.
    """

    endpoint: str
    url: str
    project: str = ""


class Limits(NamedTuple):
    """What is kept, at most, in bytes and in seconds."""

    max_bytes: int
    max_age_s: float


class Part(NamedTuple):
    """A request to be kept: the headers that describe its body, the body, and how many spans it carries."""

    headers: Mapping[str, str]
    body: bytes
    spans: int


class Kept(NamedTuple):
    """A request that was kept. ``attempts`` counts how often it could not be sent; ``written_at`` is in seconds since 1970.

    ``generation`` is that of the file that it was taken from; see ``Spool.generation``.
    """

    id: int
    headers: Mapping[str, str]
    body: bytes
    spans: int
    attempts: int
    written_at: float
    generation: int = 0


class Lost(NamedTuple):
    """A request that is not kept any longer, and why."""

    id: int
    spans: int
    reason: DropReason


class Holding(NamedTuple):
    """What is kept for one destination: how much, the oldest in seconds since 1970, and what of it running processes own."""

    destination: Destination
    requests: int
    spans: int
    bytes: int
    oldest_at: float
    owned_requests: int


def project_of(public_key: str) -> str:
    """A digest that tells projects apart, and nothing else; empty without a key."""
    return sha256(public_key.encode()).hexdigest()[:16] if public_key else ""
