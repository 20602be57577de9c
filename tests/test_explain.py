"""``otel-langfuse explain`` says which rule set which field from what, and shows it so that nothing in a span can act on it."""

from __future__ import annotations

import io
import json
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rich")

from rich.cells import cell_len

from otel_langfuse.conventions import by_id
from otel_langfuse.conventions._batch import REASONS
from otel_langfuse.conventions._repairs import REPAIRS
from otel_langfuse.local.draw import ASCII, UNICODE
from otel_langfuse.local.explain import drawn, explain
from otel_langfuse.local.provenance import MAX_TRIALS, Explained, Field, explained, is_empty
from otel_langfuse.model import Resource, Scope, Span, SpanEvent
from otel_langfuse.spans import from_otlp
from otel_langfuse.translate import UntranslatableError, translate, translate_all

CASES = Path(__file__).parents[1] / "conformance" / "cases"
ALL = {path.relative_to(CASES).as_posix(): json.loads(path.read_text()) for path in sorted(CASES.rglob("*.json"))}
DATED = "gpt-4.1-2025-04-14"
HOSTILE = "\x1b]0;owned\x07\x1b[31mred\x1b[0m [bold red]markup[/] \u202eedud\u200b\x9b2J\r\nsecond \ud800 line"


def span(attributes: dict[str, Any], **more: Any) -> Span:
    fields: dict[str, Any] = {
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "span_id": "00f067aa0ba902b7",
        "parent_span_id": None,
        "name": "step",
        "start_time_unix_nano": 1_760_000_000_000_000_000,
        "end_time_unix_nano": 1_760_000_001_000_000_000,
        "attributes": attributes,
        "resource": Resource({"service.name": "shop"}),
        "scope": Scope("app", "1"),
    }
    return Span(**{**fields, **more})


def fields(one: Span) -> dict[str, Field]:
    (found,) = explained([one])
    return {field.name: field for field in found.fields}


@cache
def of_case(name: str) -> list[Explained]:
    return explained(from_otlp(ALL[name]["request"]))


def request(*attributes: tuple[str, str], name: str = "step") -> bytes:
    pairs = [{"key": key, "value": {"stringValue": value}} for key, value in attributes]
    one = {"traceId": "4bf92f3577b34da6a3ce929d0e0e4736", "spanId": "00f067aa0ba902b7", "name": name, "attributes": pairs}
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [one]}]}]}).encode()


# -- where a field comes from ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "name", "value", "rule", "source", "server"),
    [
        ("captured/mlflow/chat", "model", DATED, "corrections/model/mlflow", "mlflow.llm.model", '"gpt-4.1"'),
        ("captured/mlflow/chat", "type", "generation", "corrections/type/mlflow", "mlflow.spanType", "generation"),
        ("captured/otel_genai_openai/chat", "model", DATED, "genai/model/response", "gen_ai.response.model", DATED),
        ("translate/otel/version_service", "version", ..., "otel/version/service", "resource attribute service.version", ...),
        ("translate/livekit/type_name", "type", "tool", "livekit/type/name", "span name", "tool"),
        ("captured/mlflow/error", "status_message", ..., "corrections/status_message/exception", "span event exception", None),
    ],
)
def test_a_field_names_its_rule_and_what_it_was_read_from(
    case: str, name: str, value: Any, rule: str, source: str, server: Any
) -> None:
    found = next(field for one in of_case(f"{case}.json") for field in one.fields if (field.name, field.rule) == (name, rule))
    assert found.sources == (source,)
    assert found.value == (found.value if value is ... else value)
    assert found.server == (found.server if server is ... else server)


def test_of_two_spellings_only_the_one_that_counts_is_named() -> None:
    both = fields(span({"gen_ai.usage.input_tokens": 3, "gen_ai.usage.prompt_tokens": 4, "gen_ai.operation.name": "chat"}))
    assert both["usage_details"].value == {"input": 4}
    assert both["usage_details"].sources == ("gen_ai.usage.prompt_tokens",)


def test_where_either_of_two_would_do_both_are_named() -> None:
    either = fields(span({"gen_ai.usage.input_tokens": 4, "gen_ai.usage.prompt_tokens": 4, "gen_ai.operation.name": "chat"}))
    assert either["usage_details"].sources == ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")


def test_what_no_rule_read_is_named_by_no_attribute() -> None:
    plain = fields(span({"http.method": "GET"}))
    assert (plain["type"].rule, plain["type"].sources) == ("otel/type/span", ())
    assert (plain["environment"].value, plain["environment"].rule) == ("default", None)


def test_metadata_is_told_with_the_attributes_that_made_it_and_without_what_every_span_has() -> None:
    found = fields(span({"langfuse.observation.metadata.tenant": "north", "http.method": "GET"}))
    assert found["metadata"].value == {"tenant": "north"}
    assert found["metadata"].sources == ("langfuse.observation.metadata.tenant",)


def test_a_trace_has_its_root_s_fields_and_a_child_only_what_it_says_itself() -> None:
    root = fields(span({"user.id": "ada", "input.value": "hi", "openinference.span.kind": "LLM"}))
    assert root["trace.user_id"].sources == ("user.id",)
    assert (root["trace.input"].value, root["trace.input"].rule) == ("hi", "openinference/io/value")
    child = fields(span({"user.id": "ada", "input.value": "hi"}, parent_span_id="b7ad6b7169203331"))
    assert "trace.user_id" in child
    assert "trace.input" not in child


CORRECTIONS = sorted({rule.id for rule in by_id().values() if rule.reason} | {repair.id for repair in REPAIRS} | set(REASONS))


@pytest.mark.parametrize("correction", [*CORRECTIONS, "corrections/repair/trace_name"])
def test_every_correction_is_told_with_its_reason_and_the_server_s_own_reading(correction: str) -> None:
    citing = [of_case(name) for name, case in ALL.items() if correction in case["rules"]]
    told = [
        field
        for of_spans in [*citing, explained([span({"langfuse.observation.type": "GENERATION"})])]
        for one in of_spans
        for field in one.fields
        if correction in (field.rule, *field.corrections) and field.differs
    ]
    assert told
    assert all(field.reason for field in told)


def test_what_differs_is_exactly_what_the_two_translations_differ_in() -> None:
    for name, case in ALL.items():
        spans = from_otlp(case["request"])
        for one, ours in zip(of_case(name), translate_all(spans), strict=True):
            try:
                server = translate(one.span, corrections=False)
            except UntranslatableError:
                assert one.server_fails
                continue
            told = {field.name for field in one.fields if field.differs and "." not in field.name}
            compared = (set(ours._fields) - {"rules", "trace", "is_root", "updates_trace"}) | {"metadata"}
            readings = {key: (getattr(ours, key), getattr(server, key)) for key in compared}
            seen = {key: both for key, both in readings.items() if not all(map(is_empty, both))}  # nothing is nothing
            assert told == {key for key, (our, their) in seen.items() if repr(our) != repr(their)}, name


def test_an_attribute_is_named_only_if_the_span_carries_it() -> None:
    for name in ALL:
        for one in of_case(name):
            carried = {"span name", "span status", *one.span.attributes}
            carried |= {f"resource attribute {key}" for key in one.span.resource.attributes}
            carried |= {f"span event {event.name}" for event in one.span.events}
            assert {source for field in one.fields for source in field.sources} <= carried, name


def test_a_span_with_thousands_of_attributes_is_explained_in_bounded_time() -> None:
    many = {f"gen_ai.prompt.{index}.content": "x" for index in range(3_000)}
    began = time.perf_counter()
    found = fields(span(many))
    assert time.perf_counter() - began < 5
    assert len(found["input"].sources) == 3_000 > MAX_TRIALS


# -- the command -------------------------------------------------------------------------------------------------------


def run(*payloads: bytes, as_json: bool = False, encoding: str = "utf-8") -> tuple[int, str]:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding=encoding, newline="")
    status = explain(((f"line {place}", payload) for place, payload in enumerate(payloads, 1)), as_json, out)
    out.flush()
    return status, raw.getvalue().decode(encoding)


def test_json_has_one_line_for_each_span_with_the_keys_that_are_promised() -> None:
    case = json.dumps(ALL["captured/mlflow/decorated.json"]["request"]).encode()
    status, text = run(case, as_json=True)
    rows = [json.loads(line) for line in text.splitlines()]
    assert status == 0
    assert [row["name"] for row in rows] == ["get_weather", "Completions", "weather agent"]
    keys = {"request", "trace_id", "span_id", "name", "scope", "server_fails", "server_drops_request", "fields"}
    assert all(set(row) == keys for row in rows)
    (model,) = [field for field in rows[1]["fields"] if field["field"] == "model"]
    assert model == {
        "field": "model",
        "value": "gpt-4.1-2025-04-14",
        "rule": "corrections/model/mlflow",
        "corrections": [],
        "from": ["mlflow.llm.model"],
        "spec": by_id()["corrections/model/mlflow"].spec,
        "reason": by_id()["corrections/model/mlflow"].reason,
        "server": {"value": '"gpt-4.1"', "rule": "otel/model/bare"},
    }


def test_a_request_that_cannot_be_read_is_told_and_the_rest_is_still_done(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = run(b'{"resourceSpans": 1\x1b}', b"", request(("gen_ai.operation.name", "chat")))
    assert status == 1
    assert "generation" in text
    told = capsys.readouterr().err
    assert told.startswith("otel-langfuse explain: line 1: ")
    assert told.count("\n") == 1


def test_a_span_on_which_the_server_fails_is_said_to_lose_its_whole_request() -> None:
    bad = span({"operation.name": 7}, span_id="1" * 16)
    good = span({"gen_ai.operation.name": "chat"})
    found = explained([bad, good])
    assert [one.server_fails for one in found] == [True, False]
    assert not any(field.differs for field in found[0].fields)
    text = ["\n".join(line.plain for line in drawn(one, True, 120, UNICODE)) for one in found]
    assert "would drop the whole request because of it" in text[0]
    assert "because of another span in it" in text[1]


def test_what_the_server_reads_otherwise_is_counted_at_the_end() -> None:
    assert run(request(("http.method", "GET")))[1].endswith("1 span; Langfuse's server reads no field otherwise\n")
    case = json.dumps(ALL["captured/mlflow/chat.json"]["request"]).encode()
    assert run(case)[1].endswith("1 span; Langfuse's server reads 2 fields otherwise\n")


def test_nothing_is_written_for_no_requests() -> None:
    assert run() == (0, "")


# -- hostile text, and narrow terminals --------------------------------------------------------------------------------

HOSTILE_SPAN = span(
    {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": HOSTILE,
        "gen_ai.input.messages": HOSTILE * 300,
        "langfuse.observation.metadata." + HOSTILE: HOSTILE,
        "gen_ai.request." + HOSTILE: HOSTILE,
        "user.id": "日本語" * 40,
        "model": "[red]x[/red]",
    },
    name=HOSTILE,
    status_code=2,
    status_message=HOSTILE,
    scope=Scope(HOSTILE, HOSTILE),
    events=(SpanEvent("exception", 1, {"exception.message": HOSTILE}),),
    trace_id=HOSTILE,
)


def harmless(text: str) -> bool:
    return all(character.isprintable() or character in " \n" for character in text)


@pytest.mark.parametrize("width", [20, 46, 79, 100, 120, 240])
@pytest.mark.parametrize("glyphs", [UNICODE, ASCII])
def test_hostile_text_is_harmless_and_no_line_is_wider_than_the_terminal(width: int, glyphs: Any) -> None:
    (one,) = explained([HOSTILE_SPAN])
    lines = drawn(one, True, width, glyphs)
    assert all(harmless(line.plain) and "\n" not in line.plain for line in lines)
    assert max(cell_len(line.plain) for line in lines) <= width


def test_every_case_fits_a_narrow_and_a_wide_terminal() -> None:
    for name in ALL:
        for one in of_case(name):
            for width in (40, 100):
                assert max(cell_len(line.plain) for line in drawn(one, False, width, UNICODE)) <= width, name


def test_markup_in_a_span_is_text_and_not_markup() -> None:
    text = run(request(("gen_ai.request.model", "[bold red]loud[/]"), ("gen_ai.operation.name", "chat")))[1]
    assert "[bold red]loud[/]" in text


def test_json_is_ascii_whatever_a_span_carries() -> None:
    status, text = run(request(("gen_ai.request.model", "\x7f\u202e日"), name="\x1b[2J"), as_json=True)
    assert status == 0
    assert text.isascii()
    assert harmless(text)
    assert json.loads(text)["name"] == "\x1b[2J"


def test_a_terminal_without_unicode_is_written_to() -> None:
    status, text = run(request(("gen_ai.request.model", "日本" * 200), ("gen_ai.operation.name", "chat")), encoding="ascii")
    assert status == 0
    assert "genai/model/request" in text
