"""What the presets find and what they leave, on every text alone and among others, in time that grows with the text alone."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mask_examples import PII, SECRETS, Examples
from otel_langfuse.model import Resource, Scope, Span, SpanEvent, SpanLink
from otel_langfuse.pipeline.mask import Masking, masking
from otel_langfuse.pipeline.mask._pii import NAMES
from otel_langfuse.pipeline.mask._secrets import ROWS, names_a_secret


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


PIECES = [*(text for _, _, text, _ in CAUGHT), "\\n", '"', ":", "=", " ", "-", "_", "@", "\0", "é", "x", "0", "\\", "//"]


@settings(max_examples=300, deadline=None)
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
        resource=Resource({"resource": secret}),
        scope=Scope(f"scope {secret}", f"1 {secret}", {"scope": secret}),
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


# -- time --------------------------------------------------------------------------------------------------------------------

HOSTILE = [
    *("a", "-", "_", ":", "=", "@", "0", " ", '"', "\\", "/", ".", "{", "B", "K", "z", "\0", "é"),
    *(
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
    ),
    *(
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
    ),
    *(
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
    ),
    *(
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----a-",
        "://" + "a" * 128 + ":",
        "Pwd=",
        "'",
        "sk-a",
        "SG.a.",
        "SG." + "a" * 22 + ".",
    ),
]


def cpu_s(preset: Masking, text: str) -> float:
    began = time.thread_time()
    preset.value(text, "x")
    return time.thread_time() - began


@pytest.mark.parametrize("preset", OF)
def test_no_text_makes_it_slow(preset: str) -> None:
    """Four times the text, about four times the time; and a bound that only a pattern that backtracks could miss."""
    for piece in HOSTILE:
        short, long = ((piece * (size // len(piece) + 1))[:size] for size in (25_000, 100_000))
        once = min(cpu_s(OF[preset], short) for _ in range(2))
        took = min(cpu_s(OF[preset], long) for _ in range(2))
        assert took < 12 * once + 0.005, (piece, once, took)
        assert took < 0.25, (piece, took)
