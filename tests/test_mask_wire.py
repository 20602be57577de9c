"""What is masked is in no byte that leaves: not in requests, not in the spool, not in our own logs.

A secret of its own stands in every place of spans of every family, in links, resource and scope, in scores and in media.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import logging
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from otel_langfuse import LangfuseIngestionExporter, LangfuseOTLPExporter, LangfuseSpanProcessor
from otel_langfuse.config import Config
from otel_langfuse.pipeline.mask._content import _KEPT
from otel_langfuse.scores import Scores
from servers import Server, status

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.leaks.__main__ import leaks
from benchmarks.leaks.places import KEYS, Places

TRACE = "1" * 32
EXPORTERS: dict[str, Callable[..., Any]] = {
    "otlp protobuf": lambda url, **settings: LangfuseOTLPExporter(base_url=url, **settings),
    "otlp json": lambda url, **settings: LangfuseOTLPExporter(base_url=url, protocol="http/json", compression="none", **settings),
    "collector": lambda url, **settings: LangfuseOTLPExporter(endpoint=f"{url}/v1/traces", dialect="openinference", **settings),
    "ingestion": lambda url, **settings: LangfuseIngestionExporter(base_url=url, **settings),
}
# Functions are asked about values, not about what names things.
NAMES = {"scope name", "scope version", "attribute key", "trace state"}


def key(number: int) -> str:
    return f"sk{'-lf-'}{number:032x}"


def email(number: int) -> str:
    return f"canary{number}q@mail.example"


def word(number: int) -> str:
    return f"canary{number}word"


def broken(data: Any) -> Any:
    raise ValueError(data)


def nonsense(data: Any) -> Any:
    return object() if "canary" in str(data) else data


MASKS: dict[str, tuple[Any, Callable[[int], str]]] = {
    "secrets": (None, key),
    "pii": ("pii", email),
    "content": ("content", word),
    "raises": (broken, word),
    "nonsense": (nonsense, word),
    "removes": (lambda data: "" if "canary" in str(data) else data, word),
}


def may_stay(mask: str) -> set[str]:
    """Places that this mask does not promise to cover."""
    if mask in ("secrets", "pii"):
        return set()
    if mask == "content":
        structure = {key for key in KEYS if _KEPT.fullmatch(key)}
        assert len(structure) < 15, "most of what families write is no structure"
        assert not structure & {
            key for key in KEYS if key.startswith(("input", "output", "traceloop.entity.input", "llm.openai"))
        }
        return structure | NAMES
    return NAMES


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk-lf-1")
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", "a-key-that-looks-like-none")


def play(exporter: Any, mask: Any, places: Places, timeout_millis: int = 10_000, **settings: Any) -> None:
    """Records the spans and a picture, sends them as far as that goes, and ends."""
    processor = LangfuseSpanProcessor(exporter, mask=mask, release=places.at("release"), **settings)
    provider = TracerProvider(resource=places.resource(), shutdown_on_exit=False)
    provider.add_span_processor(processor)
    places.record(provider)
    media = base64.b64encode(places.at("media file").encode() * 9).decode()
    with provider.get_tracer("tests").start_as_current_span("look") as span:
        span.set_attribute("langfuse.observation.input", f"{places.at('beside media')} data:image/png;base64,{media}")
        span.set_attribute("own", "a-key-that-looks-like-none")
    processor.force_flush(timeout_millis)
    processor.shutdown(min(timeout_millis, 5_000))


def judged(mask: str, places: Places) -> Callable[[bytes], list[str]]:
    stays = may_stay(mask) | {"release"} | ({"media file"} if mask in ("secrets", "pii") else set())

    def leaking(data: bytes) -> list[str]:
        encoded = [base64.b64encode(places.at("media file").encode() * 9)] if "media file" not in stays else []
        found = [place for place in places.leaked(data) if place not in stays]
        return found + [f"as base64: {one!r}" for one in encoded if one in data]

    return leaking


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("mask", MASKS)
def test_nothing_masked_is_on_the_wire_or_in_the_logs(mask: str, exporter: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    given, form = MASKS[mask]
    places = Places(form)
    with Server() as server:
        play(EXPORTERS[exporter](server.url), given, places)
        sent = b"\n".join(one.body + repr(one.headers).encode() for one in server.received)
    assert b"chat" in sent or mask not in ("secrets", "pii"), "the spans were sent"
    assert len(server.received) > 0
    found = judged(mask, places)
    assert len(places.secrets) > 100
    assert found(sent) == []
    assert found(caplog.text.encode()) == []
    assert b"a-key-that-looks-like-none" not in sent.replace(b"authorization", b"")
    if mask in ("raises", "nonsense"):
        assert "values are sent as '<masked: mask failed>'" in caplog.text


@pytest.mark.parametrize("mask", MASKS)
def test_nothing_masked_is_in_the_spool(mask: str, tmp_path: Path) -> None:
    given, form = MASKS[mask]
    places = Places(form)
    with Server(status(503)) as server:
        exporter = LangfuseOTLPExporter(base_url=server.url, spool_path=tmp_path / "spool.db", spool_mode="always", timeout=1)
        play(exporter, given, places, 400)
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    with contextlib.closing(sqlite3.connect(tmp_path / "spool.db")) as connection:
        rows = connection.execute("SELECT body FROM requests").fetchall()
    bodies = b"".join(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body for (body,) in rows)
    assert bodies
    found = judged(mask, places)
    assert found(files + bodies) == []


@pytest.mark.parametrize("mask", MASKS)
def test_nothing_masked_is_in_a_score(mask: str) -> None:
    given, form = MASKS[mask]
    secrets = [form(number) for number in range(1, 7)]
    with Server(status(201)) as server:
        scores = Scores(Config.from_env(base_url=server.url), mask=given)
        metadata = {"note": secrets[1], "deep": [{"a": secrets[2]}]}
        scores.create("quality", secrets[3], trace_id=TRACE, comment=f"because {secrets[0]}", metadata=metadata)
        scores.flush(5)
        scores.shutdown(5)
        sent = b"".join(one.body for one in server.received)
    assert b"quality" in sent
    assert [secret for secret in secrets if secret.encode() in sent] == []


@pytest.mark.parametrize(("setup", "places"), [("ours, as it comes", set()), ("ours, `mask=`", NAMES)])
def test_what_make_leaks_says_of_us(setup: str, places: set[str]) -> None:
    count, leaked, spans = leaks(setup)
    assert count > 100
    assert set(leaked) == places
    assert spans == 4


def test_what_is_looked_for_is_found_where_nothing_is_masked() -> None:
    """The test itself: without a mask every secret is on the wire, so that looking for it says something."""
    places = Places(word)
    with Server() as server:
        exporter = LangfuseOTLPExporter(base_url=server.url, media="keep")
        play(exporter, None, places, mask_secrets=False)
        sent = b"\n".join(one.body for one in server.received)
    assert set(places.leaked(sent)) == places.secrets.keys() - {"media file"}
    assert base64.b64encode(places.at("media file").encode() * 9) in sent
