"""Texts that are meant to make masking slow: 1 MB each of one piece, again and again."""

from __future__ import annotations

import time
from typing import Final

from benchmarks.measure import Table

from otel_langfuse.pipeline.mask import Masking, masking

SIZE: Final = 1_000_000
BAR_MS: Final = 100.0
"""Milliseconds for each of them, at most."""

HOSTILE: Final = (
    *(
        "a",
        "-",
        "_",
        ":",
        "=",
        "@",
        "0",
        " ",
        '"',
        "\\",
        "/",
        ".",
        "{",
        "B",
        "K",
        "z",
        "\0",
        "é",
        "sk-",
        "sk- ",
        "eyJ",
        "eyJ.",
        "eyJaaaaaaaaaa.",
        "://",
        "://a:",
        "a@",
        "a@a.",
        "@a-",
        "://x@",
        "AKIA",
        "-----BEGIN",
        "password=",
        "password: ",
        '"password":"',
        "password='",
        'token":',
        "api_key=a",
        "Bearer ",
        "Bearer a",
        "authorization:",
        "0 ",
        "00 ",
        "1.1.",
        "1:",
        ":1",
        "::1",
        "a:a ",
        "a::",
        "0-",
        "4111 ",
        "4111-1111-",
        "+1 ",
        "+1",
        "DE89 ",
        "DE89AAAA",
        "01 ",
        "555-",
        "\\u00",
        "%3D",
        "SK0",
        "8Q~",
        "JQQJ99",
        "github_pat_",
        "services/",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----a-",
        "Pwd=",
        "'",
        "sk-a",
        "SG.a.",
    ),
    *("://" + "a" * 128 + ":", "SG." + "a" * 22 + ".", "AB12 ", "12:30:45 ", "1:2:3:4:5:6:7:", "password=", "Pwd=a1b2 "),
    *("4111 1111 1111 1111 ", "4111111111111111 ", "2001:db8::1 ", "ada@example.com ", "192.168.7.1 ", "token:", "token=a1b2"),
    *("://a:b@", "Bearer abcdefgh1234 ", "DE89370400440532013000 ", "+49 30 1234567 ", "sk" + "-lf-0123456789abcdef0123 "),
)


def cpu_s(mask: Masking, piece: str, size: int) -> float:
    """CPU seconds of this thread for the piece, repeated up to the size in characters."""
    text = (piece * (size // len(piece) + 1))[:size]
    began = time.thread_time()
    mask.value(text, "x")
    return time.thread_time() - began


def hostile(rounds: int) -> Table:
    lines = ["| preset | texts | under 100 ms | slowest: CPU ms | which |", "|---|--:|--:|--:|---|"]
    for name in ("secrets", "pii"):
        mask = masking([name], secrets=False)
        assert mask is not None
        took = {piece: min(cpu_s(mask, piece, SIZE) for _ in range(rounds)) * 1000 for piece in HOSTILE}
        worst = sorted(took, key=took.__getitem__)[-3:]
        met = sum(each < BAR_MS for each in took.values())
        lines += [
            f"| {name} | {len(took)} | {met if piece == worst[-1] else ''} | {took[piece]:.0f} | `{ascii(piece)[:40]}` |"
            for piece in reversed(worst)
        ]
    return "## Masking hostile text\n\n1 MB of one piece, again and again; at most 100 ms each. The three slowest.", lines
