"""Recorded cases hold what real instrumentations send, and nothing of the machine or the moment they were recorded on."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from otel_langfuse.model import Resource, Scope, Span, SpanEvent
from otel_langfuse.spans import from_otlp

CAPTURE = Path(__file__).parents[1] / "conformance" / "capture"
sys.path.insert(0, str(CAPTURE))

import capture  # noqa: E402
from cases import case, differences, pretty, translated  # noqa: E402
from families import FAMILIES  # noqa: E402
from model_server import ANSWER, ModelServer, model_server  # noqa: E402
from normal import Recorded, normal  # noqa: E402

FILES = {path.relative_to(capture.CASES).as_posix(): path.read_text() for path in sorted(capture.CASES.rglob("*.json"))}
MAX_BYTES = 2_000_000  # both readings of a span are kept where they differ, and corrections make many differ

# -- the cases that are here -------------------------------------------------------------------------------------------


def test_every_family_is_recorded_and_every_recording_has_a_family() -> None:
    assert {name.partition("/")[0] for name in FILES} == set(FAMILIES)
    for name, family in FAMILIES.items():
        recorded = {Path(path).stem for path in FILES if path.startswith(f"{name}/")}
        assert recorded == set(family.scenarios or recorded)
        assert len(recorded) >= 2


@pytest.mark.parametrize("name", FILES)
def test_a_recorded_case_is_what_today_s_tables_make_of_its_request(name: str) -> None:
    recorded = json.loads(FILES[name])
    assert translated(recorded) == recorded
    assert pretty(recorded) + "\n" == FILES[name]
    assert recorded["spec"] == list(FAMILIES[name.partition("/")[0]].packages)


def test_all_cases_together_stay_small_enough_to_be_committed() -> None:
    assert sum(len(text.encode()) for text in FILES.values()) < MAX_BYTES


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        (
            "a UUID of its own",
            r"\b(?!00000000-0000-4000-8000-0000)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b",
        ),
        ("the moment of the recording", r"\b(?!2026-01-01)20(?:2[6-9]|3\d)-\d\d-\d\d[T ]\d\d:\d\d"),
        ("a port of the moment", r"(?:127\.0\.0\.1|localhost):(?!8080\b)\d+"),
        ("an address in memory", r"\b0x[0-9a-f]{6,}"),
        ("a folder of the machine", r"/site-packages/(?!\w)|/tmp/capture-|pyenv"),
    ],
)
def test_no_case_holds_anything_of_the_machine_or_the_moment(what: str, pattern: str) -> None:
    found = [(name, match[0]) for name, text in FILES.items() for match in re.finditer(pattern, text)]
    assert not found, what


# -- recording ---------------------------------------------------------------------------------------------------------


def installed(packages: tuple[str, ...]) -> bool:
    try:
        return all(version(name) == wanted for name, _, wanted in (package.partition("==") for package in packages))
    except PackageNotFoundError:
        return False


@pytest.mark.skipif(
    not installed(FAMILIES["otel_genai_openai"].packages), reason="other versions are installed than were recorded"
)
def test_recording_a_real_instrumentation_again_gives_the_same_cases() -> None:
    again = capture._record("otel_genai_openai", Path(sys.executable))
    assert again == capture.recorded_cases("otel_genai_openai")


def test_what_differs_between_two_recordings_is_told_and_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = capture.recorded_cases("otel_genai_openai")["chat"]
    other = json.loads(json.dumps(one).replace("gpt-4.1-2025-04-14", "gpt-4.1-2026-04-14"))
    recordings = iter([{"chat": one}, {"chat": other}])
    monkeypatch.setattr(capture, "_record", lambda *_: next(recordings))
    monkeypatch.setattr(capture, "environment", lambda *_: Path(sys.executable))
    monkeypatch.setattr(capture, "CASES", tmp_path)
    assert capture.main(["otel_genai_openai"]) == 1
    assert "gpt-4.1-2026-04-14" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json"))


def test_a_program_that_fails_is_told_with_what_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "HERE", CAPTURE / "nowhere")
    with pytest.raises(capture.CaptureError, match=r"(?s)its program failed with status 2:.*nowhere"):
        capture.record_cases("otel_genai_openai", Path(sys.executable))


def test_cases_can_be_translated_anew_without_recording(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(capture.CASES / "mlflow", tmp_path / "mlflow")
    stale = tmp_path / "mlflow" / "chat.json"
    stale.write_text(stale.read_text().replace('"model": "gpt-4.1-2025-04-14"', '"model": "older"'))
    monkeypatch.setattr(capture, "CASES", tmp_path)
    assert capture.main(["mlflow", "--translate", "--check"]) == 0
    assert '- "older"\n      + "gpt-4.1-2025-04-14"' in capsys.readouterr().out
    assert "older" in stale.read_text()
    assert capture.main(["mlflow", "--translate"]) == 0
    assert stale.read_text() == FILES["mlflow/chat.json"]


def test_the_list_names_every_family_and_an_unknown_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert capture.main(["--list"]) == 0
    assert set(FAMILIES) <= set(capsys.readouterr().out.split())
    with pytest.raises(SystemExit):
        capture.main(["otel_genia_openai"])
    assert "there is no otel_genia_openai" in capsys.readouterr().err


# -- what is volatile --------------------------------------------------------------------------------------------------


def recording(seed: int, *, extra: bool = False) -> list[Span]:
    """A request, a call inside it (and perhaps another before that), as one of many recordings of one program."""
    port, at, trace = 40_000 + seed, 1_795_000_000 + seed * 97, f"{seed:032x}"
    uuid = f"9b1deb4d-3b7d-4bad-9bdd-{seed:012x}"
    resource = Resource({"service.name": "shop", "process.pid": seed, "telemetry.sdk.version": f"1.{seed}"})

    def span(number: int, name: str, parent: int | None, begin: float, end: float, **attributes: Any) -> Span:
        times = {"start_time_unix_nano": int((at + begin) * 1e9), "end_time_unix_nano": int((at + end) * 1e9)}
        error = SpanEvent("exception", int((at + begin) * 1e9) + 7, {"exception.stacktrace": STACK.replace("12", str(seed))})
        ids = {"trace_id": trace, "span_id": f"{seed + number:016x}", "parent_span_id": parent and f"{seed + parent:016x}"}
        return Span(**ids, **times, name=name, attributes=attributes, resource=resource, scope=Scope("app"), events=(error,))

    call = {
        "url": f"http://127.0.0.1:{port}/v1",
        "server.port": port,
        "run": f"run-{uuid} again {uuid.upper()}",
        "at": f'{{"created": {at}, "iso": "{"2026-11-18" if seed % 2 else "2026-11-19"}T03:{seed % 60:02}:11.{seed:06}Z"}}',
        "at_ms": at * 1000 + seed % 1000,
        "ttft": seed / 1000,
        "raw": f"{{'latency': 0.{seed}, 'parent': '{seed + 1:016x}'}}",
        "log": f"took {seed / 100:.2f}s in /scratch/u{seed}/x at 0x7f{seed:08x}",
    }
    more = [span(3, "call", 1, 0.1, 0.2)] if extra else []
    return [*more, span(2, "call model", 1, 0.3, 0.5, **call), span(1, "request", None, 0.0, 1.0)]


STACK = 'Traceback (most recent call last):\n  File "/scratch/app.py", line 12, in f\n    g()\nValueError: no\n'


def stable(seed: int, **how: bool) -> list[Span]:
    recorded = Recorded(1_795_000_000 + seed * 97 + 3, 40_000 + seed, {f"/scratch/u{seed}": "/user"})
    return normal(recording(seed, **how), "family/scenario", recorded)


@pytest.mark.parametrize("seed", [12, 333, 998])
def test_two_recordings_of_one_program_become_equal(seed: int) -> None:
    assert case("n", ["p"], stable(seed)) == case("n", ["p"], stable(101))


def test_what_is_normal_keeps_the_shape_of_the_trace_and_of_the_values() -> None:
    call, request = stable(101)
    assert (call.parent_span_id, call.trace_id, request.parent_span_id) == (request.span_id, request.trace_id, None)
    assert request.start_time_unix_nano < call.start_time_unix_nano < call.end_time_unix_nano < request.end_time_unix_nano
    assert request.start_time_unix_nano % 1_000_000 == 0
    assert call.resource is request.resource
    assert call.resource.attributes == {"service.name": "shop", "telemetry.sdk.version": "1"}
    uuid = "00000000-0000-4000-8000-000000000001"
    assert call.attributes == {
        "url": "http://127.0.0.1:8080/v1",
        "server.port": 8080,
        "run": f"run-{uuid} again {uuid}",
        "at": '{"created": 1767225600, "iso": "2026-01-01T00:00:00.000000Z"}',
        "at_ms": 1767225600000,
        "ttft": 0.25,
        "raw": f"{{'latency': 0.25, 'parent': '{request.span_id}'}}",
        "log": "took 0.25s in /user/x at 0x0",
    }
    assert call.events[0].attributes["exception.stacktrace"] == "Traceback (most recent call last):\n  ...\nValueError: no\n"


def test_one_span_more_does_not_change_the_ids_of_the_others() -> None:
    assert [span.span_id for span in stable(101, extra=True)][1:] == [span.span_id for span in stable(101)]


def test_spans_of_one_name_have_their_ids_by_when_they_began() -> None:
    begins_first, ends_first = (recording(1)[0]._replace(attributes={}, span_id=id_ * 16) for id_ in "ab")
    begins_first = begins_first._replace(start_time_unix_nano=1, events=())
    orders = ([ends_first, begins_first], [begins_first, ends_first])
    made = [{span.start_time_unix_nano: span.span_id for span in normal(spans, "n", RECORDED)} for spans in orders]
    assert made[0] == made[1]
    assert len(set(made[0].values())) == 2


RECORDED = Recorded(1_795_000_100, 40_001, {})


def test_dates_and_numbers_that_are_data_stay() -> None:
    kept = {
        "model": "gpt-4.1-2025-04-14",
        "born": "1815-12-10T00:00:00Z",
        "created": 1767225600,
        "cost": 0.25,
        "tokens": 1_795_000,
    }
    (span,) = normal([recording(1)[1]._replace(attributes=kept)], "n", RECORDED)
    assert span.attributes == kept


def test_a_difference_is_told_as_a_line_of_the_request_and_a_field_of_the_observation() -> None:
    old = capture.recorded_cases("otel_genai_openai")["chat"]
    new = translated(json.loads(json.dumps(old).replace("gpt-4.1-2025-04-14", "gpt-4.1-2026-04-14")))
    assert differences(old, old) == []
    lines = differences(old, new)
    assert [line.strip() for line in lines if line.startswith("+ ") and "2026-04-14" in line] == [
        '+        "gen_ai.response.model": {"stringValue": "gpt-4.1-2026-04-14"},'
    ]
    assert lines[-2:] == ['    - "gpt-4.1-2025-04-14"', '    + "gpt-4.1-2026-04-14"']


# -- the scripted models -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with model_server() as running:
        yield running


def ask(server: ModelServer, path: str, body: dict[str, Any] | bytes) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)
    connection.request("POST", path, body if isinstance(body, bytes) else json.dumps(body))
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


CHAT = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "Hello"}]}
TOOL = {"name": "f", "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}}


def test_the_same_question_gets_the_same_answer(server: ModelServer) -> None:
    server.end_scenario("x")
    first = ask(server, "/v1/chat/completions", CHAT)
    server.end_scenario("y")
    assert ask(server, "/v1/chat/completions", CHAT) == first
    assert json.loads(first[1])["choices"][0]["message"]["content"] == ANSWER
    assert json.loads(first[1])["id"] == "chatcmpl-000001"


def test_offered_tools_are_called_once_with_arguments_of_their_schema(server: ModelServer) -> None:
    offered = {**CHAT, "tools": [{"type": "function", "function": TOOL}]}
    reply = json.loads(ask(server, "/v1/chat/completions", offered)[1])["choices"][0]["message"]
    assert json.loads(reply["tool_calls"][0]["function"]["arguments"]) == {"city": "Paris", "days": 21}
    answered = [*CHAT["messages"], reply, {"role": "tool", "tool_call_id": reply["tool_calls"][0]["id"], "content": "x"}]
    again = json.loads(ask(server, "/v1/chat/completions", {**offered, "messages": answered})[1])
    assert again["choices"][0]["message"]["content"] == ANSWER


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages"])
def test_it_fails_as_it_is_asked_to_even_where_it_would_stream(server: ModelServer, path: str) -> None:
    failing = {"model": "m", "max_tokens": 1, "stream": True, "messages": [{"role": "user", "content": "Please fail with 429."}]}
    status, text = ask(server, path, failing if "responses" not in path else {**failing, "input": failing["messages"]})
    assert status == 429
    assert "rate_limit_error" in text


@pytest.mark.parametrize(
    ("path", "body", "end"),
    [
        ("/v1/chat/completions", {**CHAT, "stream_options": {"include_usage": True}}, "data: [DONE]"),
        ("/v1/responses", {"model": "m", "input": "Hello"}, '"type": "response.completed"'),
        ("/v1/messages", {**CHAT, "max_tokens": 9}, 'data: {"type": "message_stop"}'),
    ],
)
def test_a_streamed_answer_is_the_whole_one_in_pieces(server: ModelServer, path: str, body: dict[str, Any], end: str) -> None:
    text = ask(server, path, {**body, "stream": True})[1]
    assert end in text.strip().splitlines()[-1]
    pieces = re.findall(r'"(?:content|text|delta)": "((?:It|is|21|degrees|and|sunny|in|Paris\.) ?)"', text)
    assert "".join(pieces) == ANSWER


def test_the_trace_requests_of_a_scenario_are_kept_until_its_end(server: ModelServer) -> None:
    body = json.dumps({"resourceSpans": []}).encode()
    server.end_scenario("before")
    assert ask(server, "/api/public/otel/v1/traces", body)[0] == 200
    ask(server, "/captured/one", b"")
    ask(server, "/captured/two", b"")
    assert (server.scenarios["one"], server.scenarios["two"]) == ([body], [])
    assert from_otlp(body) == []


def test_a_real_client_understands_every_answer(server: ModelServer) -> None:
    openai = pytest.importorskip("openai")
    http_client = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0, http_client=http_client) as client:
        assert client.embeddings.create(model="m", input="x").data[0].embedding == [0.5, -0.5, 0.5, 0.5]
        assert client.responses.create(model="m", input="Hello").output_text == ANSWER
        with client.responses.stream(model="m", input="Hello") as stream:
            assert [event.delta for event in stream if event.type == "response.output_text.delta"][:2] == ["It ", "is "]
        with pytest.raises(openai.RateLimitError):
            client.responses.create(model="m", input="Please fail with 429.")
