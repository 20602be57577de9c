"""gzip, as fast as it comes: isal where it can be had, zlib's fastest level elsewhere."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from hashlib import sha512
from typing import Final

LEVEL: Final = 2
"""The lowest that stays within 1.25 of level 9 also for long texts (W3 of ``benchmarks``: 1.30 at level 1); isal's and zlib's."""


def _zlib_gzip(body: bytes) -> bytes:
    """A fifth of the CPU of zlib's default level for a fifth more bytes (measured on 1.3 MB of chat messages)."""
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, 31)  # 31: gzip's header and checksum around the largest window
    return compressor.compress(body) + compressor.flush()


def _best() -> Callable[[bytes], bytes]:
    try:
        from isal import isal_zlib  # noqa: PLC0415 - there are machines without it
    except ImportError:
        return _zlib_gzip

    def _isal_gzip(body: bytes) -> bytes:
        """5 us for 3.2 KB of a batch, where zlib takes 25."""
        compressed = bytes(isal_zlib.compress(body, LEVEL, 31))
        # isal leaves the upper halves of the vector registers in use. As long as they are, all else that this thread does takes a
        # fifth longer (measured: 17.6 us a span instead of 14.7); OpenSSL's SHA-512 clears them when it ends (vzeroupper).
        sha512(b"", usedforsecurity=False).digest()
        return compressed

    return _isal_gzip


gzip: Callable[[bytes], bytes] = _best()
"""Body -> the same as one gzip member, without name or time: equal bodies give equal bytes."""
