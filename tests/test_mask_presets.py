"""What the presets find and what they leave, on every text alone and among others, in time that grows with the text alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mask_examples import PII, SECRETS, Examples
from otel_langfuse.model import Resource, Scope, Span, SpanEvent, SpanLink
from otel_langfuse.pipeline.mask import Masking, _scan, masking
from otel_langfuse.pipeline.mask._escapes import without_escapes
from otel_langfuse.pipeline.mask._pii import NAMES
from otel_langfuse.pipeline.mask._scan import TOO_MUCH
from otel_langfuse.pipeline.mask._secrets import ROWS, names_a_secret

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.hostile import HOSTILE, SIZE, cpu_s


def made(*names: str, **settings: Any) -> Masking:
    found = masking(list(names), **{"secrets": False, **settings})
    assert found is not None
    return found


OF = {"secrets": made("secrets"), "pii": made("pii")}
ALL = {**{name: ("secrets", one) for name, one in SECRETS.items()}, **{name: ("pii", one) for name, one in PII.items()}}
CAUGHT = [(preset, name, text, gone) for name, (preset, one) in ALL.items() for text, gone in one.caught]
LEFT = [(preset, text) for preset, one in ALL.values() for text in one.left]


def text_of(preset: str, text: str) -> str:
    new, failures = OF[preset].value(text, "comment")
    assert failures == 0
    assert isinstance(new, str)
    return new


def span(**changes: Any) -> Span:
    return Span("1" * 32, "2" * 16, None, "name", 1, 2, {}, Resource(), Scope("scope"))._replace(**changes)


def test_every_pattern_has_examples_of_what_it_catches_and_of_what_it_leaves() -> None:
    assert SECRETS.keys() == {name for row in ROWS for name in row.names}
    assert PII.keys() == NAMES
    for examples in (*SECRETS.values(), *PII.values()):
        assert isinstance(examples, Examples)
        assert examples.caught
        assert examples.left


@pytest.mark.parametrize("name", ALL)
def test_what_is_to_be_caught_is_gone_and_what_stands_there_names_it(name: str) -> None:
    preset, examples = ALL[name]
    for text, gone in examples.caught:
        new = text_of(preset, text)
        assert gone not in new, text
        assert f"<masked: {name}>" in new, text


@pytest.mark.parametrize("name", ALL)
def test_what_is_to_be_left_stays(name: str) -> None:
    preset, examples = ALL[name]
    for text in examples.left:
        assert text_of(preset, text) == text


def test_json_stays_json() -> None:
    texts = [(preset, text) for preset, _, text, _ in CAUGHT if text.startswith(("{", "[")) and is_json(text)]
    assert len(texts) > 60
    for preset, text in texts:
        assert is_json(text_of(preset, text)), text


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def test_texts_are_looked_through_together_as_each_alone() -> None:
    """Neighbours neither hide a secret nor make one; a text may hold the sign that stands between them."""
    texts = [text for _, _, text, _ in CAUGHT] + [text for _, text in LEFT] + ["a\0b password=hunter2 \0", "", "\ud800 sk-"]
    for preset in OF.values():
        alone = [preset.value(text, "x")[0] for text in texts]
        for group in (texts, texts[::-1], texts[:-3]):
            spans = [span(attributes={f"a{i}": text}) for i, text in enumerate(group)]
            together = [one.attributes[f"a{i}"] for i, one in enumerate(preset.spans(spans).spans)]
            assert together == [alone[texts.index(text)] for text in group]


@pytest.mark.parametrize("before", ["", "\x80" * 40, "é" * 40, "x" + "é" * 40])
@pytest.mark.parametrize("after", ["", "𐀀𐀀\x80\x80\x80𐀀", "é" * 40, "x" + "密" * 40])
def test_a_place_ends_where_a_character_does(before: str, after: str) -> None:
    new = text_of("pii", f"{before}jürgen@müller.example{after}")
    assert "<masked: email>" in new
    assert "\ufffd" not in new


PIECES = [*(text for _, _, text, _ in CAUGHT), "\\n", '"', ":", "=", " ", "-", "_", "@", "\0", "é", "x", "0", "\\", "//"]


@settings(max_examples=300, deadline=None)
@example("+49 30 901820 0 030 9018200")
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=8).map("".join))
def test_whatever_stands_around_it_nothing_is_found_in_what_was_masked(text: str) -> None:
    for preset in OF.values():
        once = preset.value(text, "x")[0]
        assert "�" not in once or "�" in text
        assert json.loads(json.dumps(once)) == once


# -- places ------------------------------------------------------------------------------------------------------------------


def everywhere(secret: str) -> Span:
    return span(
        name=secret,
        status_message=secret,
        trace_state=f"vendor={secret}",
        attributes={
            "text": secret,
            "list": ("x", secret),
            "json": json.dumps([{"a": secret}]),
            secret: 1,
            "bytes": secret.encode(),
        },
        events=(SpanEvent(secret, 1, {"exception.message": secret, "exception.stacktrace": f"line\n{secret}\n"}),),
        links=(SpanLink("a" * 32, "b" * 16, f"v={secret}", {"link": secret}),),
        resource=Resource({"resource": secret}, f"https://example.com/{secret}"),
        scope=Scope(f"scope {secret}", f"1 {secret}", {"scope": secret}, f"https://example.com/{secret}"),
    )


@pytest.mark.parametrize("preset", OF)
def test_a_secret_is_found_in_every_place_also_a_second_time(preset: str) -> None:
    secret = "sk-" + "lf-0123456789abcdef0123" if preset == "secrets" else "ada@example.com"
    for _ in range(2):
        (after,) = OF[preset].spans([everywhere(secret)]).spans
        assert secret not in repr(after)
        assert "<masked: " in after.name
        assert after.trace_state == after.links[0].trace_state == ""
        assert len(after.attributes) == 5


def test_the_destinations_own_key_is_a_secret_whatever_it_looks_like() -> None:
    own = made("secrets", own_secrets=("my own key",))
    assert own.value("it is my own key!", "x") == ("it is <masked: own key>!", 0)
    assert own.value("it is my own", "x") == ("it is my own", 0)


@pytest.mark.parametrize(
    "key",
    [
        *("password", "db.password", "http.request.header.authorization", "http.request.header.x-api-key", "apiKey"),
        *("AWS_SECRET_ACCESS_KEY", "session_token", "client.secret", "aws.credentials", "http.response.header.set-cookie"),
        *("userPassword", "auth-token"),
    ],
)
def test_an_attributes_key_says_that_its_value_is_a_secret(key: str) -> None:
    assert names_a_secret(key)
    (after,) = OF["secrets"].spans([span(attributes={key: "hunter2", "x": key})]).spans
    assert after.attributes == {key: "<masked: named secret>", "x": key}
    (after,) = OF["secrets"].spans([span(attributes={"headers": {key: ["hunter2"], "n": 1}, key: ("a", "b")})]).spans
    assert "hunter2" not in repr(after)
    assert after.attributes[key] == ("<masked: named secret>",) * 2


def test_a_value_that_is_what_a_secret_is_called_makes_no_key_harmless() -> None:
    fresh = made("secrets")
    fresh.spans([span(attributes={"field": "password", "x": ("password",)})])
    (after,) = fresh.spans([span(attributes={"password": "hunter2"})]).spans
    assert after.attributes == {"password": "<masked: named secret>"}


@pytest.mark.parametrize(
    "key", ["gen_ai.usage.input_tokens", "max_tokens", "key", "monkey", "tokenizer", "langfuse.user.id", "keyword"]
)
def test_an_attributes_key_that_says_nothing_leaves_its_value(key: str) -> None:
    plain = span(attributes={key: "hunter2"})
    assert OF["secrets"].spans([plain]).spans[0] is plain


# -- escapes -----------------------------------------------------------------------------------------------------------------

SECRET = "sk-" + "lf-0123456789abcdef0123"


def escaped(text: str, depth: int = 1) -> str:
    return "".join("\\" * depth + f"u{ord(sign):04x}" for sign in text)


@pytest.mark.parametrize(
    ("preset", "text", "gone"),
    [
        ("secrets", f'{{"a": "{escaped("s")}{SECRET[1:]}"}}', SECRET),
        ("secrets", f'{{"a": "{escaped(SECRET)}"}}', SECRET),
        ("secrets", json.dumps({"a": f'{{"b": "{escaped(SECRET)}"}}'}), SECRET),
        ("secrets", f'{{"{escaped("password")}": "hunter2"}}', "hunter2"),
        ("secrets", f'{{"a": "password{escaped("=")}hunter2"}}', "hunter2"),
        ("secrets", "https://example.com/?next=https%3A%2F%2Fada%3Ahunter2%40db.example", "hunter2"),
        ("pii", "https://example.com/?email=ada%40example.com&x=1", "ada"),
        ("pii", "tel=%2B493012345678", "12345"),
        ("pii", f'[{{"to": "ada{escaped("@")}example.com"}}]', "ada"),
    ],
)
def test_an_escape_hides_nothing(preset: str, text: str, gone: str) -> None:
    for one in (text, f"{text} and {gone}"):
        new = text_of(preset, one)
        assert "<masked: " in new
        assert gone not in without_escapes(new.removesuffix(f" and {gone}"))  # type: ignore[operator]
        assert escaped(gone)[12:] not in new
        assert not is_json(one) or is_json(new)
    together = OF[preset].spans([span(attributes={"a": text, "b": "plain"})]).spans[0].attributes
    assert together == {"a": text_of(preset, text), "b": "plain"}


@pytest.mark.parametrize(
    "text", [r'{"html": "\u003cb\u003e 100 \u0026 more"}', "https://example.com/a%2Fb?c=%3D&d=%40", r"C:\u0040", "100%"]
)
def test_escapes_of_nothing_stay_escapes(text: str) -> None:
    for preset in OF:
        assert text_of(preset, text) == text


def test_a_text_with_more_kinds_of_escapes_than_anybody_writes_goes_as_a_whole() -> None:
    kinds = [
        f"{slashes}u00{code:02{case}}"
        for slashes in ("\\", "\\" * 2, "\\" * 3, "\\" * 4)
        for code in range(0x3A, 0x7F)
        for case in "xX"
    ]
    assert text_of("secrets", " ".join(kinds)) == TOO_MUCH


# -- time --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", OF)
def test_no_text_makes_it_slow(preset: str) -> None:
    """1 MB: four times the time of a quarter of it, about, and within five times what it may take on a machine of its own."""
    for piece in HOSTILE:
        quarter = cpu_s(OF[preset], piece, SIZE // 4)
        took = cpu_s(OF[preset], piece, SIZE)
        if took > min(0.5, 10 * quarter + 0.03):  # once more: something else may have had the machine
            quarter = max(quarter, cpu_s(OF[preset], piece, SIZE // 4))
            took = cpu_s(OF[preset], piece, SIZE)
        assert took < 10 * quarter + 0.03, (piece, quarter, took)
        assert took < 0.5, (piece, took)


NATURAL = (
    "2026-01-31T12:30:45.123Z 12:30:45 GET /v1/items/4711?page=2 200 0.034s 10.20.30.40 token=none password: no\n",
    '{"token": " international", "logprob": -0.1234, "bytes": [32, 105, 110, 116], "top_logprobs": []}, ',
    "1767225600000, 1767225600000000000, 4711, 4096, 0.1234567, -12.5e-7, 31-12-2026, 01-02-2026 03:04, ",
    'std::vector<std::string> a::b = c::d; // aa:bb:cc:dd:ee:ff 1:2:3 00:11 {"a":1,"b":[2,3]}\n',
    "password: str, secret: bytes, api_key: string | None = None, access_token=get_token(), sk-learn task-force\n",
    "data-test-id=a-b-c-d style=color:red;margin:0 aria-label=x-y_z_w href=https://example.com/a-b_c?d=e&f=g\n",
)


@pytest.mark.parametrize("piece", NATURAL)
def test_large_texts_without_a_secret_stay_whole(piece: str) -> None:
    """1 MB of what programs write: however much of it begins like a secret, nothing but an address is masked."""
    text = (piece * (SIZE // len(piece) + 1))[:SIZE]
    assert OF["secrets"].value(text, "x") == (text, 0)
    masked, _ = OF["pii"].value(text, "x")
    assert masked.replace("<masked: ip address>", "10.20.30.40") == text


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any text is looked through as one is that is full of signs."""
    monkeypatch.setattr(_scan, "_LARGE", 0)
    monkeypatch.setattr(_scan, "_FULL", 1 << 60)


def without_full(preset: str, text: str) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_scan, "_LARGE", 1 << 60)
        return text_of(preset, text)


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("name", ALL)
def test_what_is_found_does_not_depend_on_how_it_is_looked_for(name: str) -> None:
    preset, examples = ALL[name]
    for text in (*(text for text, _ in examples.caught), *examples.left):
        assert text_of(preset, text) == without_full(preset, text), text


@pytest.mark.usefixtures("full")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example("+49 30 901820 0 030 9018200")
@given(st.lists(st.sampled_from(PIECES) | st.text("0123456789 -+.:()aDE", max_size=20), max_size=8).map(" ".join))
def test_nothing_is_found_that_is_not_found_in_the_other_way(text: str) -> None:
    for preset in OF:
        assert text_of(preset, text) == without_full(preset, text)


def test_a_text_that_is_full_of_secrets_goes_as_a_whole_and_alone() -> None:
    for preset, piece in (("pii", "ada@example.com\n"), ("secrets", "password=hunter2\n")):
        full = span(attributes={"full": piece * 50_000, "some": f"and {piece}here"})
        (after,) = OF[preset].spans([full]).spans
        assert after.attributes["full"] == TOO_MUCH
        assert after.attributes["some"].startswith("and <masked: ") or after.attributes["some"].startswith(
            "and password=<masked: "
        )
        assert after.attributes["some"].endswith("\nhere")


def test_letters_of_an_image_that_look_like_a_key_are_none() -> None:
    key = "AI" + "za" + "x1" * 18
    image = "data:image/png;base64,iVBORw0KGgo" + "Q7x" * 40
    masked = masking("secrets")
    assert masked is not None
    assert masked.value(f"{image}/{key}==", "input") == (f"{image}/{key}==", 0)
    assert key not in masked.value(f"{image} https://example.com/v1/projects/{key}", "input")[0]
