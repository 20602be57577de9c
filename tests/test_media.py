"""Media are found wherever instrumentations put them, and nothing else is; in linear time."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_langfuse.media import LangfuseMedia, accepted_type, decoded, media_id_of, sha256_of, sniffed_type
from otel_langfuse.model import Resource, Scope, Span, SpanEvent
from otel_langfuse.pipeline import media as lifting_module
from otel_langfuse.pipeline.mask import masking
from otel_langfuse.pipeline.media import Lifting, file_name, lift, marker, settled
from otel_langfuse.pipeline.media._fields import field_of
from otel_langfuse.pipeline.media._text import replaced
from otel_langfuse.prepare import ready
from otel_langfuse.spans import from_otlp

ROOT = Path(__file__).parents[1]
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(range(64))
PDF = b"%PDF-1.7\n" + bytes(range(200))
SEND = Lifting("send", 1 << 20)


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def span(attributes: dict[str, Any], **changes: Any) -> Span:
    plain = Span("0" * 31 + "1", "0" * 15 + "2", None, "name", 1, 2, attributes, Resource(), Scope("scope"))
    return plain._replace(**changes)


def reference(content: bytes, content_type: str, source: str = "base64_data_uri") -> str:
    return f"@@@langfuseMedia:type={content_type}|id={media_id_of(sha256_of(content))}|source={source}@@@"


def lifted(text: Any, lifting: Lifting = SEND) -> Span:
    return lift([span({"input.value": text})], lifting)[0]


# -- where it is found -------------------------------------------------------------------------------------------------------

BLOB = {"type": "blob", "mime_type": "image/png"}
LINES = base64.encodebytes(PNG * 4).decode()
SHAPES: dict[str, tuple[Any, bytes, str]] = {
    "OpenAI image_url": ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{b64(PNG)}"}}, PNG, "image/png"),
    "OpenAI Responses input_image": ({"type": "input_image", "image_url": f"data:image/png;base64,{b64(PNG)}"}, PNG, "image/png"),
    "OpenAI input_audio": ({"type": "input_audio", "input_audio": {"data": b64(WAV), "format": "wav"}}, WAV, "audio/wav"),
    "OpenAI audio of an answer": ({"audio": {"id": "a", "data": b64(WAV), "transcript": "hello"}}, WAV, "audio/wav"),
    "OpenAI file, a data URI": (
        {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{b64(PDF)}"}},
        PDF,
        "application/pdf",
    ),
    "OpenAI file, bare": ({"type": "file", "file": {"filename": "a.pdf", "file_data": b64(PDF)}}, PDF, "application/pdf"),
    "OpenAI generated image": ({"created": 1, "data": [{"b64_json": b64(PNG)}]}, PNG, "image/png"),
    "OpenAI Responses generated image": ({"type": "image_generation_call", "id": "ig_1", "result": b64(PNG)}, PNG, "image/png"),
    "Anthropic": ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": b64(PNG)}}, PNG, "image/png"),
    "Anthropic document": (
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": b64(PDF)}},
        PDF,
        "application/pdf",
    ),
    "Vertex": ({"type": "media", "mime_type": "image/png", "data": b64(PNG)}, PNG, "image/png"),
    "Gemini inline_data": ({"inline_data": {"mime_type": "image/png", "data": b64(PNG)}}, PNG, "image/png"),
    "Gemini inlineData": ({"inlineData": {"mimeType": "image/png", "data": b64(PNG)}}, PNG, "image/png"),
    "Gemini, the URL-safe alphabet": (
        {"inline_data": {"mime_type": "image/png", "data": base64.urlsafe_b64encode(PNG).decode().rstrip("=")}},
        PNG,
        "image/png",
    ),
    "Vercel file": ({"type": "file", "mediaType": "application/pdf", "data": b64(PDF)}, PDF, "application/pdf"),
    "Vercel file of version 4": ({"type": "file", "mimeType": "audio/wav", "data": b64(WAV)}, WAV, "audio/wav"),
    "Vercel image": ({"type": "image", "image": b64(PNG)}, PNG, "image/png"),
    "Vercel image, a data URI": ({"type": "image", "image": f"data:image/png;base64,{b64(PNG)}"}, PNG, "image/png"),
    "OpenTelemetry blob": ({**BLOB, "modality": "image", "content": b64(PNG)}, PNG, "image/png"),
    "OpenTelemetry blob that names no type": ({"type": "blob", "modality": "image", "content": b64(PNG)}, PNG, "image/png"),
    "OpenTelemetry uri": ({"type": "uri", "modality": "image", "uri": f"data:image/png;base64,{b64(PNG)}"}, PNG, "image/png"),
    "Pydantic AI binary": ({"type": "binary", "media_type": "image/png", "content": b64(PNG)}, PNG, "image/png"),
    "LangChain": ({"type": "image", "source_type": "base64", "mime_type": "image/png", "data": b64(PNG)}, PNG, "image/png"),
    "LangChain 1": ({"type": "image", "base64": b64(PNG), "mime_type": "image/png"}, PNG, "image/png"),
    "Bedrock": ({"image": {"format": "png", "source": {"bytes": b64(PNG)}}}, PNG, "image/png"),
    "Ollama": ({"role": "user", "content": "what?", "images": [b64(PNG)]}, PNG, "image/png"),
    "MCP": ({"type": "image", "data": b64(PNG), "mimeType": "image/png"}, PNG, "image/png"),
    "MCP resource": ({"uri": "file:///a", "mimeType": "application/pdf", "blob": b64(PDF)}, PDF, "application/pdf"),
    "base64 in lines": ({"inline_data": {"mime_type": "image/png", "data": LINES}}, PNG * 4, "image/png"),
    "a data URI in lines": ({"url": "data:image/png;base64," + LINES}, PNG * 4, "image/png"),
}  # fmt: skip

FORMS: dict[str, Callable[[Any], Any]] = {
    "JSON": lambda part: json.dumps([{"role": "user", "content": [part, {"type": "text", "text": "what?"}]}]),
    "compact JSON": lambda part: json.dumps([{"content": part}], separators=(",", ":")),
    "JSON in JSON": lambda part: json.dumps({"messages": json.dumps([{"content": [part]}])}),
    "JSON in JSON in JSON": lambda part: json.dumps([json.dumps({"a": json.dumps([part])})]),
    "JSON with slashes escaped": lambda part: json.dumps([part]).replace("/", "\\/"),
    "JSON with what only Python writes": lambda part: json.dumps([part, {"x": float("nan"), "y": "\ud83d"}]),
    "an attribute that is a mapping": lambda part: {"messages": [part]},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_media_of_every_shape_is_found_in_every_form(shape: str, form: str) -> None:
    part, content, content_type = SHAPES[shape]
    found = lifted(FORMS[form](part))
    (media,) = found.media
    assert (media.content, media.content_type, media.field) == (content, content_type, "input")
    assert (media.trace_id, media.observation_id) == ("0" * 31 + "1", "0" * 15 + "2")
    assert media.reference == reference(content, content_type)
    text = json.dumps(found.attributes)
    assert media.reference in text
    assert not any(content_text in text for content_text in (b64(content)[:40], b64(content).replace("/", "\\\\/")[:40]))


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if "lines" not in shape])
def test_what_is_left_is_the_same_text_with_a_reference_for_the_base64(shape: str) -> None:
    part, content, content_type = SHAPES[shape]
    text = json.dumps({"big": 12345678901234567890123, "x": 1.50, "part": part, "é": "\u00e9"}, indent=3, ensure_ascii=False)
    forms = (f"data:{content_type};base64,{b64(content)}", b64(content), base64.urlsafe_b64encode(content).decode().rstrip("="))
    token = next(form for form in forms if form in text)
    assert lifted(text).attributes["input.value"] == text.replace(token, reference(content, content_type))


@pytest.mark.parametrize(
    "text",
    [
        f"data:image/png;base64,{b64(PNG)}",
        f"look: ![it](data:image/png;base64,{b64(PNG)}) there",
        f"<img src='data:image/png;charset=utf-8;base64,{b64(PNG)}'>",
        f"[{{'type': 'image_url', 'image_url': {{'url': 'data:image/png;base64,{b64(PNG)}'}}}}]",  # litellm: a Python repr
        f'"data:image/png;base64,{b64(PNG)}"',
        [f"data:image/png;base64,{b64(PNG)}", "other"],
    ],
)
def test_a_data_uri_is_found_in_any_text(text: Any) -> None:
    found = lifted(text)
    assert [media.content for media in found.media] == [PNG]
    assert reference(PNG, "image/png") in str(found.attributes)
    assert "base64," not in str(found.attributes)


def test_bytes_are_media_where_they_say_what_they_are_or_are_no_text() -> None:
    found = lift([span({"input": PNG, "unknown": bytes(range(256)), "id": b"\xff" * 16, "text": b"text" * 100})], SEND)[0]
    assert [(media.content, media.content_type, media.field) for media in found.media] == [
        (PNG, "image/png", "input"),
        (bytes(range(256)), "application/octet-stream", "metadata"),
    ]
    assert found.attributes["input"] == reference(PNG, "image/png", "bytes")
    assert found.attributes["id"] == b"\xff" * 16
    assert found.attributes["text"] == b"text" * 100


def test_bytes_in_a_shape_are_media() -> None:
    part = {"type": "blob", "mime_type": "image/png", "content": PNG}
    found = lift([span({"gen_ai.input.messages": ({"parts": (part,)},)})], SEND)[0]
    assert [media.content for media in found.media] == [PNG]
    assert found.attributes["gen_ai.input.messages"][0]["parts"][0]["content"] == reference(PNG, "image/png", "bytes")


def test_span_events_are_looked_through() -> None:
    events = (
        SpanEvent("gen_ai.user.message", 1, {"content": f"data:image/png;base64,{b64(PNG)}"}),
        SpanEvent("gen_ai.choice", 1, {"message": f"data:audio/wav;base64,{b64(WAV)}"}),
        SpanEvent("log", 1, {"text": f"data:application/pdf;base64,{b64(PDF)}"}),
    )
    found = lift([span({}, events=events)], SEND)[0]
    assert [(media.content, media.field) for media in found.media] == [(PNG, "input"), (WAV, "output"), (PDF, "metadata")]
    assert found.events[0].attributes["content"] == reference(PNG, "image/png")


@pytest.mark.parametrize(
    "text",
    [
        "data:image/png;base64,",
        "data:image/png;base64,...",
        "data:image/png;base64,A",
        "see ;base64, and data: and data:image/png",
        "data:image/png,notbase64;base64,iVBORw0KGgoAAAANSUhEUg==",
        json.dumps({"media_type": "text/plain", "type": "text", "data": "internationalization"}),
        json.dumps({"mime_type": "text/plain", "content": "internationalization"}),
        json.dumps({"mime_type": "image/png", "data": "this is not base64 but prose"}),
        json.dumps({"format": "json", "data": "internationalization"}),
        json.dumps({"type": "image", "image": "https://example.com/a.png?" + "a" * 40}),
        json.dumps({"type": "base64", "media_type": "image/png", "data": reference(PNG, "image/png")}),
        json.dumps([{"type": "tool_call", "id": "call_0123456789abcdefghijklmn", "arguments": "{}"}]),
        json.dumps({"images": [None, 7, "text of a caption that is long"]}),
        "[" * 5000 + '"0123456789abcdef0123456789abcdef',
        '["' + "\\" * 5000 + '"',
        reference(PNG, "image/png"),
    ],
)  # fmt: skip
def test_what_is_no_media_stays_as_it_is(text: str) -> None:
    before = span({"input.value": text})
    assert lift([before], SEND)[0] is before


def test_recorded_spans_of_instrumentations_lose_their_images() -> None:
    shared = ROOT.parent / "shared/cases/corpus"
    paths = [*ROOT.glob("conformance/cases/captured/*/image.json"), *shared.glob("*/*vision.json")]
    told = 0
    for path in paths:
        case = json.loads(path.read_text())
        before = from_otlp(json.dumps(case.get("request") or case["otlp"]).encode())
        if "iVBORw0KGgo" not in repr(before):
            continue
        told += 1
        after = lift(before, SEND)
        assert "iVBORw0KGgo" not in repr([one._replace(media=()) for one in after]), path
        assert all(media.content.startswith(b"\x89PNG") for one in after for media in one.media), path
    assert told >= 2


# -- what it becomes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "field"),
    [
        ("langfuse.observation.input", "input"),
        ("langfuse.observation.output", "output"),
        ("langfuse.observation.metadata.picture", "metadata"),
        ("langfuse.trace.metadata.picture", "metadata"),
        ("gen_ai.input.messages", "input"),
        ("gen_ai.output.messages", "output"),
        ("gen_ai.tool.call.result", "output"),
        ("gen_ai.tool.call.arguments", "input"),
        ("gen_ai.prompt.0.content", "input"),
        ("gen_ai.completion.0.content", "output"),
        ("llm.input_messages.0.message.contents.0.message_content.image.image.url", "input"),
        ("llm.output_messages.0.message.content", "output"),
        ("traceloop.entity.output", "output"),
        ("mlflow.spanInputs", "input"),
        ("ai.prompt.messages", "input"),
        ("ai.response.text", "output"),
        ("ai.telemetry.metadata.picture", "metadata"),
        ("haystack.component.output", "output"),
        ("whatever", "metadata"),
    ],
)
def test_the_field_is_told_by_the_conventions(key: str, field: str) -> None:
    assert field_of(key) == field
    assert lift([span({key: f"data:image/png;base64,{b64(PNG)}"})], SEND)[0].media[0].field == field


def test_media_of_a_trace_belong_to_no_observation() -> None:
    (media,) = lift([span({"langfuse.trace.input": f"data:image/png;base64,{b64(PNG)}"})], SEND)[0].media
    assert (media.field, media.observation_id) == ("input", None)


def test_the_same_content_is_one_media_per_span_and_field_and_shares_its_bytes() -> None:
    uri = f"data:image/png;base64,{b64(PNG)}"
    first, second = lift([span({"input": f"{uri} {uri}", "output": uri}), span({"input.value": uri})], SEND)
    assert sorted(media.field for media in first.media) == ["input", "output"]
    assert len(second.media) == 1
    assert len({id(media.content) for media in (*first.media, *second.media)}) == 1


def test_cut_leaves_a_marker_with_type_size_and_hash_and_no_bytes() -> None:
    cut = lifted(json.dumps([SHAPES["Anthropic"][0]]), Lifting("cut", 1 << 20))
    assert cut.media == ()
    digest = sha256_of(PNG)
    assert f'"data": "<media: image/png, {len(PNG)} bytes, sha256 {digest}>"' in cut.attributes["input.value"]


def test_write_names_the_file() -> None:
    written = lifted(f"data:image/jpeg;base64,{b64(PNG)}", Lifting("write", 1 << 20, "s3://bucket/media"))
    name = file_name("image/jpeg", PNG)
    assert name.endswith(".jpg")
    assert len(name) == 64 + 4
    assert written.attributes["input.value"].endswith(f", in s3://bucket/media/{name}>")
    assert written.media[0].reference == written.attributes["input.value"]


@pytest.mark.parametrize("way", ["send", "cut", "write"])
def test_what_is_too_large_is_not_even_decoded_and_says_so(way: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifting_module, "decoded", None)
    found = lifted(f"data:image/png;base64,{'A' * 4000}", Lifting(way, 1000))
    said = "<media: image/png, 3,000 bytes>" if way == "cut" else "<media not sent: too_large: image/png, 3,000 bytes>"
    assert found.attributes["input.value"] == said
    assert [(media.content, media.size_bytes) for media in found.media] == ([] if way == "cut" else [(b"", 3000)])


def test_references_that_would_lead_nowhere_become_markers_and_others_stay() -> None:
    found = lift(
        [span({"input": f"data:image/png;base64,{b64(PNG)}", "output": f"data:audio/wav;base64,{b64(WAV)}", "n": 7})], SEND
    )[0]
    bad, good = found.media
    after = settled(found, {bad.reference: marker(bad, "queue_full")})
    assert after.media == ()
    assert after.attributes == {
        "input": f"<media not sent: queue_full: image/png, {len(PNG)} bytes, sha256 {sha256_of(PNG)}>",
        "output": good.reference,
        "n": 7,
    }


def test_the_mask_comes_first_and_what_it_removes_is_no_media() -> None:
    spans = [span({"input": f"data:image/png;base64,{b64(PNG)}", "output": f"data:audio/wav;base64,{b64(WAV)}"})]
    (after,) = ready(spans, masking(lambda text: "gone" if "image/png" in text else text), SEND).spans
    assert after.attributes["input"] == "gone"
    assert [media.content for media in after.media] == [WAV]


def test_without_lifting_all_stays_where_it_is() -> None:
    spans = [span({"input": f"data:image/png;base64,{b64(PNG)}"})]
    assert ready(spans, None).spans[0] is spans[0]


# -- what it costs -----------------------------------------------------------------------------------------------------------


def cpu(function: Callable[[], Any], number: int = 5) -> float:
    samples = []
    for _ in range(7):
        begin = time.thread_time()
        for _ in range(number):
            function()
        samples.append((time.thread_time() - begin) / number)
    return min(samples)


WORDS = ("The quick brown fox jumps over the lazy dog and types away, " * 3400)[:200_000]


def test_200_kb_of_text_without_media_cost_one_search_for_a_substring() -> None:
    assert cpu(lambda: replaced(WORDS, None), 20) < 1.5 * cpu(lambda: ";base64," in WORDS, 20)  # type: ignore[arg-type]


def test_200_kb_of_json_without_media_cost_a_second_search() -> None:
    text = json.dumps([{"role": "user", "content": [{"type": "text", "text": WORDS}]}])
    assert cpu(lambda: replaced(text, None), 20) < 3.5 * cpu(lambda: ";base64," in text, 20)  # type: ignore[arg-type]


HOSTILE: dict[str, Callable[[int], str]] = {
    "URIs": lambda n: " ".join(f"data:image/png;base64,{b64(b'%08d' % i * 3)}" for i in range(n // 60)),
    "one URI": lambda n: "data:image/png;base64," + "A" * n,
    "invalid base64": lambda n: "data:image/png;base64," + "A" * n + "*",
    "marks without a scheme": lambda n: ";base64," * (n // 8),
    "schemes without a mark": lambda n: "data:" * (n // 5) + ";base64,AAAA",
    "headers": lambda n: "data:image/png;base64,;base64," * (n // 30),
    "parameters": lambda n: "data:a/b" + ";c=d" * (n // 4) + ";base64,AAAA",
    "backslashes": lambda n: '["' + "\\" * n + 'x"]',
    "backslashes in a URI": lambda n: "data:image/png;base64,AAAA" + "\\" * n + "x",
    "quotes": lambda n: '["' + '"' * n,
    "quotes and words": lambda n: '["' + '"AAAAAAAAAAAAAAAAAAAAAAAA\\' * (n // 26),
    "brackets": lambda n: "[" * n + '"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"',
    "parts": lambda n: json.dumps([{**BLOB, "content": b64(b"%08d" % i * 3)} for i in range(n // 90)]),
    "invalid parts": lambda n: json.dumps([{"mime_type": "image/png", "data": f"{'A' * 61} {i}"} for i in range(n // 110)]),
    "the same part": lambda n: json.dumps([{**BLOB, "content": b64(PNG)}] * (n // 160)),
    "lines": lambda n: "data:image/png;base64," + ("A" * 76 + "\n") * (n // 77),
    "JSON in JSON": lambda n: json.dumps([json.dumps([json.dumps(["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" * (n // 64)])])] * 2),
    "lists in lists": lambda n: '{"images":[' * 40 + '"%s"' % ("A" * n) + "]}" * 40,
    "equals": lambda n: "data:image/png;base64,AAAA" + "=" * n,
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_texts_cost_linear_time(kind: str) -> None:
    """Eight times the text costs about eight times as much; quadratic work would cost sixty-four times as much."""
    small, large = HOSTILE[kind](40_000), HOSTILE[kind](320_000)
    lifting = Lifting("send", 1 << 30)
    factor = cpu(lambda: lifted(large, lifting), 1) / max(cpu(lambda: lifted(small, lifting), 1), 100e-6)
    assert factor < 8 * len(large) / len(small) / 8 * 3


def test_ten_thousand_uris_in_one_text_are_all_found() -> None:
    text = " ".join(f"data:image/png;base64,{b64(b'%08d' % i * 3)}" for i in range(10_000))
    found = lifted(text)
    assert len(found.media) == 10_000
    assert "base64," not in found.attributes["input.value"]


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.one_of(
            st.none(), st.booleans(), st.floats(), st.binary(max_size=60), st.text(max_size=80),
            st.sampled_from([b64(PNG), f"data:image/png;base64,{b64(PNG)}", "data:;base64,", '{"type":"blob","content":"', PNG]),
        ),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.dictionaries(st.sampled_from(["type", "data", "mime_type", "content", "images", "format", "filename"]), inner),
            st.lists(inner, max_size=3).map(lambda value: json.dumps(value, default=repr)),
        ),
        max_leaves=12,
    )
)  # fmt: skip
def test_whatever_stands_in_an_attribute_it_does_not_raise(value: Any) -> None:
    for way in ("send", "cut"):
        (found,) = lift([span({"input": value}, events=(SpanEvent("e", 1, {"a": value}),))], Lifting(way, 60))  # type: ignore[arg-type]
        settled(found, {media.reference: "gone" for media in found.media})


# -- the value that users record ----------------------------------------------------------------------------------------------


def test_media_given_as_bytes_as_a_data_uri_and_as_a_file_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    uri = f"data:image/png;base64,{b64(PNG)}"
    made = [
        LangfuseMedia(content_bytes=PNG, content_type="image/png"),
        LangfuseMedia(base64_data_uri=uri),
        LangfuseMedia(file_path=str(tmp_path / "a.png"), content_type="image/png"),
        LangfuseMedia(file_path=tmp_path / "a.png"),  # the content says what it is
    ]
    for media, source in zip(made, ("bytes", "base64_data_uri", "file", "file"), strict=True):
        assert str(media) == uri
        assert json.dumps({"picture": media}, default=str) == json.dumps({"picture": uri})
        assert (media.content_length, media.content_sha256_hash) == (len(PNG), sha256_of(PNG))
        assert media.reference_string == reference(PNG, "image/png", source)
        assert LangfuseMedia.parse_reference_string(media.reference_string or "") == {
            "media_id": media.media_id,
            "source": source,
            "content_type": "image/png",
        }
        assert b64(PNG) not in repr(media)


def test_media_recorded_by_opentelemetry_itself_are_lifted() -> None:
    media = LangfuseMedia(content_bytes=PNG, content_type="image/png", obj="kept")
    assert media.obj == "kept"
    assert [found.content for found in lifted(str(media)).media] == [PNG]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"base64_data_uri": "data:image/png;base64,"},
        {"base64_data_uri": "data:image/png;base64,***"},
        {"base64_data_uri": "https://example.com/a.png"},
        {"base64_data_uri": 7},
        {"content_bytes": b"", "content_type": "image/png"},
        {"content_bytes": "text", "content_type": "image/png"},
        {"file_path": "there/is/no/such/file.png", "content_type": "image/png"},
        {"file_path": "with\0zero"},
        {"file_path": 3.5},
    ],
)
def test_media_that_cannot_be_read_say_so_and_raise_nothing(arguments: dict[str, Any]) -> None:
    media = LangfuseMedia(**arguments)
    assert media.problem
    assert str(media) == f"<media not read: {media.problem}>"
    assert (media.content_bytes, media.content_type, media.reference_string, media.media_id) == (None, None, None, None)
    assert media.problem in repr(media)


@pytest.mark.parametrize("text", ["", "text", "@@@langfuseMedia:type=a|id=b@@@", "@@@langfuseMedia:type=a|id=b|source=c", None])
def test_what_is_no_reference_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="expected @@@langfuseMedia"):
        LangfuseMedia.parse_reference_string(text)


@pytest.mark.parametrize(
    ("given", "accepted"),
    [
        ("image/png", "image/png"),
        ("IMAGE/PNG; charset=x", "image/png"),
        ("audio/x-wav", "audio/wav"),
        ("image/jxl", "application/octet-stream"),
        ("text/x-rust", "text/plain"),
        ("nonsense", "application/octet-stream"),
        ("", "application/octet-stream"),
    ],
)
def test_content_types_are_those_that_langfuse_takes(given: str, accepted: str) -> None:
    assert accepted_type(given) == accepted


@pytest.mark.parametrize(
    ("head", "content_type"),
    [
        (PNG, "image/png"),
        (WAV, "audio/wav"),
        (PDF, "application/pdf"),
        (b"\0\0\0 ftypisom", "video/mp4"),
        (b"text", None),
        (b"", None),
    ],
)
def test_content_says_what_it_is(head: bytes, content_type: str | None) -> None:
    assert sniffed_type(head[:16]) == content_type


@given(st.binary(min_size=1))
def test_base64_is_read_in_both_alphabets_with_and_without_padding(content: bytes) -> None:
    for text in (base64.b64encode(content), base64.urlsafe_b64encode(content), base64.encodebytes(content)):
        assert decoded(text.decode()) == content
        assert decoded(text.decode().rstrip("=\n")) == content


@pytest.mark.parametrize("text", ["A", "AA*A", "ÄÄÄÄ", "AAAAA", "=AAA", "AA=A"])
def test_what_is_no_base64_is_refused(text: str) -> None:
    assert decoded(text) is None


# -- media that are text -----------------------------------------------------------------------------------------------------

KEY = "sk-" + "lf-0123456789abcdef0123"
DOCUMENTS: dict[str, tuple[str, bytes]] = {
    "text/plain": ("text/plain", f"my key is {KEY}, dear".encode()),
    "UTF-16": ("text/plain", f"my key is {KEY}".encode("utf-16")),
    "latin-1": ("text/csv", f"name,key\nJos\xe9,{KEY}\n".encode("latin-1")),
    "JSON": ("application/json", json.dumps({"password": KEY}).encode()),
    "XML": ("application/atom+xml", f"<a><b>{KEY}</b></a>".encode()),
    "YAML": ("application/x-yaml", f"key: {KEY}".encode()),
    "text that nobody calls so": ("application/octet-stream", f"KEY={KEY}".encode()),
}
WAYS = {"send": SEND, "cut": Lifting("cut", 1 << 20), "write": Lifting("write", 1 << 20, "folder"), "keep": None}


def everything_in(found: Span) -> bytes:
    """All texts of a span, and its media, with all base64 decoded."""
    text = repr(found.attributes)
    given = [value.get("content", b"") for value in found.attributes.values() if isinstance(value, dict)]
    bare = [one for one in given if isinstance(one, bytes)]
    decoded_parts = [decoded(run) or b"" for run in re.findall(r"[A-Za-z0-9+/=_-]{24,}", text)]
    return b"\n".join((text.encode(), *decoded_parts, *bare, *(one.content for one in found.media))).replace(b"\0", b"")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_that_are_text_are_masked(name: str, way: str) -> None:
    content_type, content = DOCUMENTS[name]
    parts = {
        "uri": f"see data:{content_type};base64,{b64(content)} there",
        "json": json.dumps([{"type": "file", "file": {"file_data": f"data:{content_type};base64,{b64(content)}"}}]),
        "blob": json.dumps([{"parts": [{"type": "blob", "mime_type": content_type, "content": b64(content)}]}]),
        "mapping": {"inline_data": {"mime_type": content_type, "data": b64(content)}},
        "bytes": {"type": "blob", "mime_type": content_type, "content": content},
    }
    for key, value in parts.items():
        before = span({f"langfuse.observation.input.{key}": value})
        assert KEY.encode() in everything_in(before)
        for mask in (masking(), masking(lambda data: data.replace(KEY, "") if isinstance(data, str) else data, secrets=False)):
            after = ready([before], mask, WAYS[way])
            assert KEY.encode() not in everything_in(after.spans[0]), key
            assert after.failures == 0
            if way == "keep" and isinstance(value, str):
                (text,) = after.spans[0].attributes.values()
                assert text.partition(b64(content)[:4])[0] == value.partition(b64(content)[:4])[0], "what stands around it stays"


@pytest.mark.parametrize("way", WAYS)
def test_what_is_no_text_stays_and_a_document_without_a_secret_does_too(way: str) -> None:
    uris = [
        f"data:{kind};base64,{b64(one)}"
        for kind, one in (("image/png", PNG), ("application/pdf", PDF), ("text/plain", b"hello " * 9))
    ]
    before = span({"input.value": json.dumps(uris)})
    lifting = WAYS[way]
    assert ready([before], masking("pii"), lifting).spans == ([before] if lifting is None else lift([before], lifting))


def test_a_mask_that_fails_in_a_document_leaves_nothing_of_it() -> None:
    def fails_in_documents(data: Any) -> Any:
        return 1 / 0 if isinstance(data, str) and "data:" not in data else data

    before = span({"input.value": f"data:text/plain;base64,{b64(b'my secret text of the document')}"})
    for lifting in (SEND, None):
        after = ready([before], masking(fails_in_documents, secrets=False), lifting)
        assert b"secret" not in everything_in(after.spans[0])
        assert b"<masked: mask failed>" in everything_in(after.spans[0])
        assert (after.failures, after.detail) != (0, "")
