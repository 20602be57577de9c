"""Media reach Langfuse by its three calls, or a folder; and no span ever refers to what did not arrive."""

from __future__ import annotations

import base64
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_langfuse
from media_servers import Fault, Langfuse, hang, late, status
from otel_langfuse import (
    Config,
    ConfigError,
    LangfuseIngestionExporter,
    LangfuseMedia,
    LangfuseOTLPExporter,
    LangfuseSpanProcessor,
    SqliteExporter,
    retry,
)
from otel_langfuse.batch import Sending, Stop
from otel_langfuse.exporters import _media
from otel_langfuse.media import media_id_of, sha256_of
from otel_langfuse.model import Stats
from otel_langfuse.stats import Ledger
from otel_langfuse.store import Store
from servers import Server, multi_status, provider_with, sdk_spans

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(200))
URI = "data:image/png;base64," + base64.b64encode(PNG).decode()
INPUT = "langfuse.observation.input"
REFERENCE = f"@@@langfuseMedia:type=image/png|id={media_id_of(sha256_of(PNG))}|source=base64_data_uri@@@"


@pytest.fixture
def langfuse() -> Iterator[Langfuse]:
    with Langfuse() as server:
        yield server
        assert server.problems == []
        assert server.dangling() == []


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first wait before a retry is a tenth of production's."""
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.05)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    caplog.set_level(logging.DEBUG, "otel_langfuse")
    return lambda: caplog.text


def picture(number: int) -> str:
    return "data:image/png;base64," + base64.b64encode(PNG + b"%d" % number).decode()


def record(processor: Any, *texts: str, key: str = INPUT, name: str = "span") -> None:
    tracer = provider_with(processor).get_tracer("tests")
    for text in texts:
        tracer.start_span(name, attributes={key: text}).end()


def balanced(stats: Stats | None) -> Stats:
    assert stats is not None
    assert stats.started == stats.exported + stats.queued + sum(stats.dropped.values())
    return stats


def marker(why: str) -> str:
    return f"<media not sent: {why}: image/png, {len(PNG)} bytes, sha256 {sha256_of(PNG)}>"


# -- all is well -------------------------------------------------------------------------------------------------------------


def test_media_arrive_by_three_calls_before_the_span_that_refers_to_them(langfuse: Langfuse) -> None:
    processor = LangfuseSpanProcessor(**langfuse.settings)
    record(processor, json.dumps([{"type": "image_url", "image_url": {"url": URI}}]))
    assert processor.force_flush()
    assert json.loads(langfuse.text(INPUT)) == [{"type": "image_url", "image_url": {"url": REFERENCE}}]
    assert list(langfuse.stored.values()) == [PNG]
    (span,) = langfuse.spans
    assert langfuse.links == [(media_id_of(sha256_of(PNG)), span.trace_id.hex(), span.span_id.hex(), "input")]
    assert base64.b64encode(PNG)[:40] not in langfuse.wire
    assert [call.path for call in langfuse.api.calls][-1] == "/api/public/otel/v1/traces"
    (concluded,) = langfuse.concluded.values()
    assert (concluded["uploadHttpStatus"], concluded["uploadHttpError"]) == (200, None)
    assert balanced(processor.media_stats()) == balanced(processor.stats()) == Stats(1, 1, 0, {})
    processor.shutdown()


def test_a_storage_behind_the_same_origin_gets_no_keys_either(langfuse: Langfuse) -> None:
    langfuse.is_one_origin = True
    processor = LangfuseSpanProcessor(**langfuse.settings)
    record(processor, URI)
    assert processor.force_flush()
    (put,) = [call for call in langfuse.api.calls if call.method == "PUT"]
    assert "authorization" not in put.headers
    assert langfuse.text(INPUT) == REFERENCE
    processor.shutdown()


def test_the_same_content_is_sent_once_and_linked_to_every_observation_and_field(langfuse: Langfuse) -> None:
    processor = LangfuseSpanProcessor(**langfuse.settings, media_threads=8)
    tracer = provider_with(processor).get_tracer("tests")
    for _ in range(30):
        tracer.start_span("a", attributes={"input.value": URI + " " + URI, "output.value": URI, "x": URI}).end()
    assert processor.force_flush()
    assert langfuse.methods() == {"POST": 90, "PUT": 1, "PATCH": 1}
    assert len(set(langfuse.links)) == 90
    assert balanced(processor.media_stats()).exported == 90
    processor.shutdown()


def test_what_the_mask_removed_is_not_sent(langfuse: Langfuse) -> None:
    processor = LangfuseSpanProcessor(**langfuse.settings, mask=lambda data: "<masked>" if "base64" in data else data)
    record(processor, URI)
    assert processor.force_flush()
    assert langfuse.text(INPUT) == "<masked>"
    assert langfuse.methods() == {}
    assert processor.media_stats() == Stats(0, 0, 0, {})
    processor.shutdown()


def test_a_mask_that_raises_sends_nothing_either(langfuse: Langfuse) -> None:
    def broken(data: str) -> str:
        raise ValueError(data)

    processor = LangfuseSpanProcessor(**langfuse.settings, mask=broken)
    record(processor, URI)
    assert processor.force_flush()
    assert langfuse.methods() == {}
    assert b"iVBOR" not in langfuse.wire
    processor.shutdown()


def test_filtered_spans_send_no_media(langfuse: Langfuse) -> None:
    processor = LangfuseSpanProcessor(**langfuse.settings, should_export_span=lambda span: False)
    record(processor, URI)
    assert processor.force_flush()
    assert langfuse.methods() == {}
    processor.shutdown()


def test_media_of_ones_own_are_recorded_and_sent(langfuse: Langfuse) -> None:
    processor = LangfuseSpanProcessor(**langfuse.settings)
    record(processor, json.dumps({"picture": LangfuseMedia(content_bytes=PNG, content_type="image/png")}, default=str))
    assert processor.force_flush()
    assert json.loads(langfuse.text(INPUT)) == {"picture": REFERENCE}
    processor.shutdown()


def test_media_in_arguments_and_results_of_what_is_observed_are_sent(langfuse: Langfuse) -> None:
    large = PNG + os.urandom(2_000_000)
    uri = "data:image/png;base64," + base64.b64encode(large).decode()

    @otel_langfuse.observe
    def look(message: Any, again: bytes, media: LangfuseMedia, bare: Any, text: str) -> bytes:
        return PNG

    client = otel_langfuse.configure(LangfuseOTLPExporter(**langfuse.settings))
    bare = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(large[:-1]).decode()}
    look({"url": uri}, PNG, LangfuseMedia(content_bytes=PNG + b"1", content_type="image/png"), bare, uri)
    assert client.flush()
    assert sorted(langfuse.stored.values(), key=len) == [PNG, PNG + b"1", large[:-1], large]
    assert langfuse.text("langfuse.observation.output") == REFERENCE
    given = json.loads(langfuse.text(INPUT))
    assert given["message"]["url"] == given["text"]
    assert given["bare"]["data"].startswith("@@@langfuseMedia:type=image/png")
    client.shutdown()


def test_large_media_arrive_whole(langfuse: Langfuse) -> None:
    content = b"\x89PNG\r\n\x1a\n" + os.urandom(1 << 20) * 10
    processor = LangfuseSpanProcessor(**langfuse.settings)
    record(processor, "data:image/png;base64," + base64.b64encode(content).decode())
    assert processor.force_flush()
    assert list(langfuse.stored.values()) == [content]
    assert len(langfuse.wire) < 2000
    processor.shutdown()


def test_the_other_processors_of_the_application_see_the_span_as_it_was(langfuse: Langfuse) -> None:
    other = InMemorySpanExporter()
    processor = LangfuseSpanProcessor(**langfuse.settings)
    provider = provider_with(processor)
    provider.add_span_processor(SimpleSpanProcessor(other))
    provider.get_tracer("tests").start_span("a", attributes={INPUT: URI}).end()
    assert processor.force_flush()
    assert (other.get_finished_spans()[0].attributes or {})[INPUT] == URI
    processor.shutdown()


# -- what passes -------------------------------------------------------------------------------------------------------------

PASSING: dict[str, tuple[str, list[Fault]]] = {
    "the announcement fails for a while": ("api", [status(500), status(503)]),
    "too many requests": ("api", [status(429, {"message": "Rate limit exceeded"}, Retry_After="1")]),
    "the storage fails for a while": ("storage", [status(500, b"<Error/>"), status(503, b"")]),
    "the URL is too old": ("storage", [status(403, b"<Error><Code>AccessDenied</Code>Request has expired</Error>")]),
    "the conclusion fails for a while": ("api", [late(0), status(502, b"<html>")]),
    "an answer comes late": ("api", [late(0.5)]),
}


@pytest.mark.parametrize("what", PASSING)
def test_trouble_that_passes_costs_nothing_but_time(langfuse: Langfuse, what: str) -> None:
    server, faults = PASSING[what]
    getattr(langfuse, server).faults += faults
    processor = LangfuseSpanProcessor(**langfuse.settings)
    record(processor, URI)
    assert processor.force_flush()
    assert langfuse.text(INPUT) == REFERENCE
    assert list(langfuse.stored.values()) == [PNG]
    assert balanced(processor.media_stats()) == Stats(1, 1, 0, {})
    processor.shutdown()


# -- what does not pass ------------------------------------------------------------------------------------------------------

NO_BUCKET = {"message": "Media upload to blob storage not enabled or no bucket configured"}
SECRET = b"<Error><StringToSign>AWS4 SIGNATURE0</StringToSign></Error>"

LASTING: dict[str, tuple[str, list[Fault], str, str]] = {
    "the announcement is invalid": ("api", [status(400, {"message": "Invalid request data"})], "rejected", "HTTP 400"),
    "the keys are wrong": ("api", [status(401, {"message": "Invalid credentials"})], "rejected", "LANGFUSE_PUBLIC_KEY"),
    "ingestion is suspended": ("api", [status(403, {"message": "Ingestion suspended"})], "rejected", "suspended"),
    "there is no such route": ("api", [status(404, b"<html>")], "rejected", "HTTP 404"),
    "there is no storage": ("api", [status(500, NO_BUCKET)], "rejected", "LANGFUSE_S3_MEDIA_UPLOAD_BUCKET"),
    "the answer is no JSON": ("api", [status(201, b"<html>")], "rejected", "cannot be read"),
    "the answer lacks what matters": ("api", [status(201, {"mediaId": "x"})], "rejected", "cannot be read"),
    "the answer is of another shape": ("api", [status(201, [1])], "rejected", "cannot be read"),
    "the id is another": ("api", [status(201, {"mediaId": "A" * 22, "uploadUrl": None})], "rejected", "another id"),
    "the URL is none": (
        "api",
        [status(201, {"mediaId": media_id_of(sha256_of(PNG)), "uploadUrl": "file:///etc/passwd"})],
        "rejected",
        "no http(s) URL",
    ),
    "the storage refuses every URL": ("storage", [status(403, SECRET)] * 9, "rejected", "storage of Langfuse's server: HTTP 403"),
    "the storage finds it too large": ("storage", [status(413, SECRET)], "too_large", "HTTP 413"),
    "the storage is not there": ("storage", [status(404, SECRET)], "rejected", "HTTP 404"),
    "the conclusion is refused": ("api", [late(0), status(404, {"message": "not found"})], "rejected", "HTTP 404"),
}


@pytest.mark.parametrize("what", LASTING)
def test_media_that_are_refused_leave_a_marker_and_are_counted_and_the_span_arrives(
    langfuse: Langfuse, lines: Callable[[], str], what: str
) -> None:
    server, faults, reason, said = LASTING[what]
    getattr(langfuse, server).faults += faults
    processor = LangfuseSpanProcessor(**langfuse.settings)
    record(processor, f"look: {URI}!")
    assert not processor.force_flush()
    assert langfuse.text(INPUT) == f"look: {marker(reason)}!"
    stats = processor.stats()
    assert balanced(processor.media_stats()) == Stats(1, 0, 0, {reason: 1})
    assert (stats.exported, stats.dropped) == (1, {})
    assert f"1 media file dropped ({reason})" in lines()
    assert said in lines()
    for hidden in ("SIGNATURE", "sk-lf-test", langfuse.authorization[6:], base64.b64encode(PNG).decode()[:30]):
        assert hidden not in lines()
    assert processor.force_flush(), "it was told once"
    processor.shutdown()


def test_a_refusal_of_the_storage_is_told_to_the_server(langfuse: Langfuse) -> None:
    langfuse.storage.faults += [status(404, SECRET)]
    processor = LangfuseSpanProcessor(**langfuse.settings)
    record(processor, URI)
    processor.force_flush()
    (concluded,) = langfuse.concluded.values()
    assert (concluded["uploadHttpStatus"], concluded["uploadHttpError"]) == (404, "HTTP 404")
    processor.shutdown()


@pytest.mark.parametrize("server", ["api", "storage"])
@pytest.mark.parametrize("fault", [hang, status(500, b"")])
def test_spans_wait_no_longer_than_media_wait_and_those_after_them_not_at_all(
    langfuse: Langfuse, server: str, fault: Fault
) -> None:
    getattr(langfuse, server).faults += [fault] * 100
    processor = LangfuseSpanProcessor(**langfuse.settings, media_wait=2.0, flush_interval=0.05)
    record(processor, URI)
    langfuse.wait_for(lambda: len(langfuse.spans) == 1, 8)
    assert langfuse.text(INPUT) == marker("send_failed")
    begin = time.monotonic()
    record(processor, picture(1), picture(2), name="later")
    langfuse.wait_for(lambda: len(langfuse.spans) == 3, 8)
    assert time.monotonic() - begin < 1.8, "they were not tried, and not waited for"
    langfuse.wait_for(lambda: balanced(processor.media_stats()).queued == 0)
    assert balanced(processor.media_stats()) == Stats(3, 0, 0, {"send_failed": 3})
    processor.shutdown()


def test_after_a_pause_media_are_tried_again(langfuse: Langfuse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_media, "PAUSE_S", 0.3)
    langfuse.api.faults += [hang]
    processor = LangfuseSpanProcessor(**langfuse.settings, media_wait=0.2)
    record(processor, URI)
    assert not processor.force_flush()
    time.sleep(0.4)
    record(processor, URI, name="later")
    assert processor.force_flush()
    assert langfuse.text(INPUT, "later") == REFERENCE
    processor.shutdown()


def test_one_of_many_media_of_a_span_that_fails_costs_only_itself(langfuse: Langfuse) -> None:
    langfuse.api.faults += [status(400)]
    processor = LangfuseSpanProcessor(**langfuse.settings, media_threads=1)
    record(processor, f"{URI} {picture(1)} {picture(2)}")
    assert not processor.force_flush()
    text = langfuse.text(INPUT)
    assert text.startswith(marker("rejected"))
    assert text.count("@@@langfuseMedia:") == 2
    assert balanced(processor.media_stats()) == Stats(3, 2, 0, {"rejected": 1})
    processor.shutdown()


def test_what_is_too_large_is_a_marker_and_counted(langfuse: Langfuse, lines: Callable[[], str]) -> None:
    processor = LangfuseSpanProcessor(**langfuse.settings, max_media_bytes=100)
    record(processor, URI)
    assert not processor.force_flush()
    assert langfuse.text(INPUT).startswith("<media not sent: too_large: image/png, ")
    assert balanced(processor.media_stats()) == Stats(1, 0, 0, {"too_large": 1})
    assert "max_media_bytes" in lines()
    assert langfuse.methods() == {}
    processor.shutdown()


def test_without_room_in_the_queue_they_are_markers_and_counted(langfuse: Langfuse) -> None:
    langfuse.api.faults += [late(0.3)] * 2
    processor = LangfuseSpanProcessor(**langfuse.settings, max_queue_bytes=4096, media_threads=1)
    record(processor, " ".join(map(picture, range(8))))
    assert not processor.force_flush()
    text = langfuse.text(INPUT)
    stats = balanced(processor.media_stats())
    assert stats.dropped == {"queue_full": 8 - stats.exported}
    assert 0 < stats.exported < 8
    assert text.count("<media not sent: queue_full: ") == 8 - stats.exported
    processor.shutdown()


def test_a_queue_of_spans_that_fills_up_ends_the_wait(langfuse: Langfuse) -> None:
    langfuse.api.faults += [hang]
    processor = LangfuseSpanProcessor(**langfuse.settings, media_wait=60, max_queue_spans=20, flush_at=1)
    record(processor, URI)
    langfuse.wait_for(lambda: len(langfuse.api.calls) == 1)
    record(processor, *["plain"] * 15, name="plain")
    langfuse.wait_for(lambda: len(langfuse.spans) == 16, 8)
    assert langfuse.text(INPUT, "span") == marker("send_failed")
    assert processor.stats().dropped == {}
    processor.shutdown()


# -- the end -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", ["api", "storage"])
def test_shutdown_in_the_middle_keeps_its_deadline_and_the_span_arrives_with_a_marker(langfuse: Langfuse, server: str) -> None:
    getattr(langfuse, server).faults += [hang] * 10
    processor = LangfuseSpanProcessor(**langfuse.settings, flush_interval=0.01)
    record(processor, URI)
    langfuse.wait_for(lambda: bool(getattr(langfuse, server).calls))
    begin = time.monotonic()
    assert processor.shutdown(2000)
    assert time.monotonic() - begin < 4
    assert langfuse.text(INPUT) == marker("send_failed")
    langfuse.wait_for(lambda: balanced(processor.media_stats()).queued == 0)
    assert sum(balanced(processor.media_stats()).dropped.values()) == 1


def test_shutdown_sends_the_media_of_what_is_still_queued(langfuse: Langfuse) -> None:
    processor = LangfuseSpanProcessor(**langfuse.settings, flush_interval=60)
    record(processor, URI)
    assert processor.shutdown()
    assert langfuse.text(INPUT) == REFERENCE
    assert balanced(processor.media_stats()) == Stats(1, 1, 0, {})


@pytest.mark.parametrize("ending", ["pass", "import os; os._exit(0)", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"])
def test_media_of_the_last_span_of_a_process_arrive(langfuse: Langfuse, ending: str) -> None:
    program = f"""
import otel_langfuse
from opentelemetry import trace
otel_langfuse.configure(public_key="pk-lf-test", secret_key="sk-lf-test-secret", base_url={langfuse.api.url!r})
with trace.get_tracer("t").start_as_current_span("last", attributes={{"{INPUT}": {URI!r}}}):
    pass
{ending}
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, -signal.SIGTERM), done.stderr
    assert not done.stderr
    assert langfuse.text(INPUT) == REFERENCE


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_sends_its_own_media_and_nothing_of_its_parents(langfuse: Langfuse) -> None:
    langfuse.api.faults += [late(1.0)]  # the parent is in the middle of it
    processor = LangfuseSpanProcessor(**langfuse.settings, flush_interval=0.01)
    record(processor, URI, name="parent")
    langfuse.wait_for(lambda: len(langfuse.api.calls) == 1)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            record(processor, URI, name="child")
            sent = processor.force_flush(10_000)
            code = 0 if sent and processor.media_stats() == Stats(1, 1, 0, {}) else 2
        finally:
            os.kill(os.getpid(), signal.SIGKILL) if code else os._exit(0)
    _, state = os.waitpid(child, 0)
    assert state == 0
    assert processor.force_flush()
    assert langfuse.text(INPUT, "child") == langfuse.text(INPUT, "parent") == REFERENCE
    assert sorted(span.name for span in langfuse.spans) == ["child", "parent"]
    assert balanced(processor.media_stats()) == Stats(1, 1, 0, {})
    processor.shutdown()


def test_spans_that_end_in_the_spool_refer_to_nothing_that_was_not_sent(langfuse: Langfuse, tmp_path: Path) -> None:
    langfuse.api.faults += [hang] * 10
    path = tmp_path / "spool.db"
    exporter = LangfuseOTLPExporter(**langfuse.settings, spool_path=path, media_wait=60)
    processor = LangfuseSpanProcessor(exporter, flush_interval=0.01)
    record(processor, URI)
    langfuse.wait_for(lambda: bool(langfuse.api.calls))
    processor.shutdown(1000)
    langfuse.api.faults.clear()
    later = LangfuseSpanProcessor(LangfuseOTLPExporter(**langfuse.settings, spool_path=path))
    record(later, "plain", name="later")
    later.force_flush()
    langfuse.wait_for(lambda: len(langfuse.spans) >= 2)
    later.shutdown()
    assert langfuse.text(INPUT, "span").startswith("<media not sent: ")


def test_what_shutdown_puts_into_the_spool_unsent_has_markers(langfuse: Langfuse, tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    processor = LangfuseSpanProcessor(LangfuseOTLPExporter(**langfuse.settings, spool_path=path))
    (ended,) = sdk_spans(["late"], **{INPUT: URI})
    sending: Any = Sending([(ended, dict(ended.attributes or {}), None, None, None)], Ledger(), Stop())
    assert processor._batch is not None
    processor._batch._sender.keep(sending)  # as Batch.shutdown does when its time is over before this batch had its turn
    assert sending.undecided == 0
    processor.shutdown()
    assert langfuse.spans == []
    after = LangfuseSpanProcessor(LangfuseOTLPExporter(**langfuse.settings, spool_path=path))  # who comes next sends it
    record(after, "plain")
    after.force_flush()
    langfuse.wait_for(lambda: len(langfuse.spans) == 2)
    after.shutdown()
    assert langfuse.text(INPUT, "late") == marker("after_shutdown")
    assert langfuse.methods() == {}


# -- other ways, other doors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("media", "kept"), [("cut", False), (False, False), ("keep", True)])
def test_towards_langfuse_media_may_be_cut_or_kept(langfuse: Langfuse, media: Any, kept: bool) -> None:
    processor = LangfuseSpanProcessor(**langfuse.settings, media=media)
    record(processor, URI)
    assert processor.force_flush()
    cut = f"<media: image/png, {len(PNG)} bytes, sha256 {sha256_of(PNG)}>"
    assert langfuse.text(INPUT) == (URI if kept else cut)
    assert langfuse.methods() == {}
    assert processor.media_stats() is None
    processor.shutdown()


def test_langfuses_own_switch_is_about_langfuse(langfuse: Langfuse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFUSE_MEDIA_UPLOAD_ENABLED", "false")
    exporter = InMemorySpanExporter()
    for processor in (LangfuseSpanProcessor(**langfuse.settings), LangfuseSpanProcessor(exporter)):
        record(processor, URI)
        assert processor.force_flush()
        processor.shutdown()
    assert langfuse.text(INPUT).startswith("<media: image/png")
    assert (exporter.get_finished_spans()[0].attributes or {})[INPUT] == URI
    monkeypatch.setenv("LANGFUSE_MEDIA_UPLOAD_ENABLED", "True")
    assert Config.from_env().media is None


def test_a_collector_gets_spans_as_they_are_unless_told_otherwise(langfuse: Langfuse, tmp_path: Path) -> None:
    url = f"{langfuse.api.url}/api/public/otel/v1/traces"
    for name, media in (("keep", None), ("cut", "cut"), ("write", tmp_path / "media")):
        processor = LangfuseSpanProcessor(LangfuseOTLPExporter(endpoint=url, media=media))
        record(processor, URI, name=name)
        assert processor.force_flush()
        processor.shutdown()
    assert langfuse.text(INPUT, "keep") == URI
    assert langfuse.text(INPUT, "cut") == f"<media: image/png, {len(PNG)} bytes, sha256 {sha256_of(PNG)}>"
    (file,) = (tmp_path / "media").iterdir()
    assert langfuse.text(INPUT, "write") == f"<media: image/png, {len(PNG)} bytes, sha256 {sha256_of(PNG)}, in {file}>"
    assert file.read_bytes() == PNG
    assert file.suffix == ".png"
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_collector_in_between_does_not_keep_media_from_langfuse(langfuse: Langfuse, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in langfuse.settings.items():
        monkeypatch.setenv(f"LANGFUSE_{name.upper()}", value)
    exporter = LangfuseOTLPExporter(endpoint=f"{langfuse.api.url}/api/public/otel/v1/traces", media="send")
    processor = LangfuseSpanProcessor(exporter)
    record(processor, URI)
    assert processor.force_flush()
    assert langfuse.text(INPUT) == REFERENCE
    processor.shutdown()


@pytest.mark.parametrize("way", ["cut", "send", "write"])
def test_a_foreign_exporter_gets_sdk_spans_without_media(langfuse: Langfuse, tmp_path: Path, way: str) -> None:
    stock = OTLPSpanExporter(endpoint=f"{langfuse.api.url}/api/public/otel/v1/traces")
    place = str(tmp_path / "media") if way == "write" else way
    processor = LangfuseSpanProcessor(stock, **langfuse.settings, media=place)
    record(processor, URI)
    assert processor.force_flush()
    assert {"cut": "<media: ", "send": REFERENCE, "write": "<media: "}[way] in langfuse.text(INPUT)
    assert processor.media_stats() == (None if way == "cut" else Stats(1, 1, 0, {}))
    processor.shutdown()


def test_our_exporter_behind_a_foreign_processor_sends_media_itself(langfuse: Langfuse) -> None:
    exporter = LangfuseOTLPExporter(**langfuse.settings)
    processor = BatchSpanProcessor(exporter)
    record(processor, URI)
    assert processor.force_flush()
    assert langfuse.text(INPUT) == REFERENCE
    assert balanced(exporter.media_stats()) == Stats(1, 1, 0, {})
    processor.shutdown()


def test_the_ingestion_api_gets_references_too(langfuse: Langfuse) -> None:
    with Server(multi_status(lambda event: None)) as server:
        exporter = LangfuseIngestionExporter(**{**langfuse.settings, "base_url": server.url})
        assert exporter.media is not None
        langfuse_exporter = LangfuseOTLPExporter(**langfuse.settings)
        exporter.media.shutdown(1)
        exporter.media = langfuse_exporter.media  # the spans go to the one server, the media to the other
        processor = LangfuseSpanProcessor(exporter)
        record(processor, URI)
        assert processor.force_flush()
        assert REFERENCE in server.taken[0].body.decode()
        processor.shutdown()


def test_the_local_store_keeps_cuts_or_writes_beside(tmp_path: Path) -> None:
    found = {}
    for name, media in (("keep", None), ("cut", "cut"), ("write", str(tmp_path / "files"))):
        path = tmp_path / f"{name}.db"
        processor = LangfuseSpanProcessor(SqliteExporter(path, media=media))
        record(processor, URI)
        assert processor.force_flush()
        processor.shutdown()
        store = Store(path, create=False)
        found[name] = next(one.input for trace in store.traces() for one in store.trace(trace.id))
        store.close()
    assert found["keep"] == URI
    assert found["cut"].startswith("<media: image/png")
    assert str(tmp_path / "files") in found["write"]


def test_configure_takes_the_way_for_the_local_store(tmp_path: Path) -> None:
    client = otel_langfuse.configure(base_url=f"sqlite:///{tmp_path}/a.db", media=str(tmp_path / "files"))
    record(client.processor, URI)
    assert client.flush()
    assert balanced(client.media_stats()) == Stats(1, 1, 0, {})
    assert len(list((tmp_path / "files").iterdir())) == 1
    client.shutdown()


def test_files_are_written_wherever_fsspec_leads() -> None:
    exporter = InMemorySpanExporter()
    processor = LangfuseSpanProcessor(exporter, media="memory://bucket/media/")
    record(processor, URI, URI)
    assert processor.force_flush()
    files = fsspec.filesystem("memory")
    (path,) = files.ls("/bucket/media", detail=False)
    assert files.cat_file(path) == PNG
    name = path.rpartition("/")[2]
    text = f"<media: image/png, {len(PNG)} bytes, sha256 {sha256_of(PNG)}, in memory://bucket/media/{name}>"
    assert [(span.attributes or {})[INPUT] for span in exporter.get_finished_spans()] == [text, text]
    processor.shutdown()


def test_a_folder_that_is_gone_leaves_markers(tmp_path: Path, lines: Callable[[], str]) -> None:
    exporter = InMemorySpanExporter()
    processor = LangfuseSpanProcessor(exporter, media=tmp_path / "media", media_wait=0.5)
    (tmp_path / "media").rmdir()
    record(processor, URI)
    assert not processor.force_flush()
    assert (exporter.get_finished_spans()[0].attributes or {})[INPUT] == marker("send_failed")
    assert balanced(processor.media_stats()) == Stats(1, 0, 0, {"send_failed": 1})
    assert "FileNotFoundError while writing a file" in lines()
    processor.shutdown()


@pytest.mark.parametrize("value", ["sned", "a<b/c", 'a"b/c', "s3://key:secret@bucket/x", "s3://bucket/x?token=secret", "", 7])
def test_a_way_that_cannot_be_gone_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^media=") as refused:
        LangfuseSpanProcessor(InMemorySpanExporter(), media=value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("value", ["no-such-scheme://bucket/x", "/proc/no/such/folder"])
def test_a_place_that_cannot_be_written_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="expected a folder"):
        LangfuseSpanProcessor(InMemorySpanExporter(), media=value)


def test_sending_media_needs_langfuse() -> None:
    for exporter in (InMemorySpanExporter(), None):
        with pytest.raises(ConfigError, match="LANGFUSE_SECRET_KEY"):
            LangfuseSpanProcessor(exporter, media="send", base_url="sqlite:///x.db")


def test_media_settings_belong_to_our_exporter_where_there_is_one(langfuse: Langfuse) -> None:
    with pytest.raises(ConfigError, match="expected at the exporter"):
        LangfuseSpanProcessor(LangfuseOTLPExporter(**langfuse.settings), media="cut")
