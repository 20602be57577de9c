from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from otel_langfuse import retry
from otel_langfuse.encode.ingestion import Event
from otel_langfuse.errors import DropReason
from otel_langfuse.model import Request, Response
from otel_langfuse.retry import Decision, Done, GiveUp, Partly, Split, Wait, decide

NOW = 1_790_000_000.0  # 2026-09-21T14:13:20Z
TO_LANGFUSE = {"x-langfuse-sdk-name": "otel-langfuse"}


def otlp(
    status: int | None, body: bytes = b"", *, attempt: int = 0, to: dict[str, str] = TO_LANGFUSE, **headers: str
) -> Decision:
    request = Request("otlp", "https://host/v1/traces", to, b"...", ("a", "b", "c", "d"))
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    response = Response(status, named, body, None if status else "connection refused")
    return decide(request, response, attempt=attempt, now=NOW, jitter=0.5)


def ingestion(answer: Any, *, status: int = 207, attempt: int = 0) -> Decision:
    items = (Event("t1", None, b"{}"), Event("o1", "1", b"{}"), Event("o2", "2", b"{}"))
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    response = Response(status, {}, body)
    return decide(Request("ingestion", "u", {}, b"", items), response, attempt=attempt, now=NOW, jitter=0.5)


# -- statuses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_only_2xx_is_success(status: int) -> None:
    assert otlp(status) == Done()


@pytest.mark.parametrize("status", [301, 302, 307, 308, 304])
def test_a_redirect_is_no_success_and_says_what_to_set(status: int) -> None:
    decision = otlp(status)
    assert isinstance(decision, GiveUp)
    assert decision.reason is DropReason.REJECTED
    assert "redirects are not followed" in decision.detail


@pytest.mark.parametrize("status", [None, 408, 429, 500, 502, 503, 504, 507, 599])
def test_what_may_pass_is_waited_for(status: int | None) -> None:
    assert isinstance(otlp(status), Wait)
    assert status == 500 or isinstance(otlp(status, attempt=1000), Wait), "however often"


def test_a_server_that_stumbles_again_and_again_over_a_request_gets_it_in_halves() -> None:
    assert isinstance(otlp(500, attempt=retry.MAX_SERVER_ERRORS - 1), Wait)
    split = otlp(500, attempt=retry.MAX_SERVER_ERRORS)
    assert isinstance(split, Split)
    assert split.reason is DropReason.SEND_FAILED
    assert isinstance(otlp(503, attempt=1000), Wait), "who says that it is down is waited for"


def test_a_single_span_is_waited_for_unless_it_is_to_blame() -> None:
    def single(*, to_blame: bool) -> Decision:
        request = Request("otlp", "u", {}, b"", ("a",))
        return decide(request, Response(500, {}, b""), attempt=1000, now=NOW, jitter=0.5, to_blame=to_blame)

    assert isinstance(single(to_blame=False), Wait)
    assert isinstance(single(to_blame=True), Split)


def test_whoever_waits_knows_whether_the_server_asked_for_it() -> None:
    for headers, asked in (({}, False), ({"retry_after": "3"}, True)):
        decision = otlp(503, **headers)
        assert isinstance(decision, Wait)
        assert decision.asked is asked


def test_what_is_too_large_and_what_holds_something_bad_is_split() -> None:
    assert isinstance(too_large := otlp(413), Split)
    assert too_large.reason is DropReason.TOO_LARGE
    assert isinstance(bad := otlp(400, b'{"error":"Invalid OTLP trace export"}'), Split)
    assert bad.reason is DropReason.REJECTED
    assert "Invalid OTLP trace export" in bad.detail


@pytest.mark.parametrize("status", [404, 405, 410, 415, 422])
def test_what_will_not_pass_is_given_up(status: int) -> None:
    decision = otlp(status)
    assert isinstance(decision, GiveUp)
    assert decision.reason is DropReason.REJECTED


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_tried_again_rarely_however_often_and_whatever_the_server_asks_for(status: int) -> None:
    for attempt in (0, 1, 1000):
        for asked in ({}, {"retry_after": "0"}, {"retry_after": "5"}):
            decision = otlp(status, attempt=attempt, **asked)
            assert isinstance(decision, Wait)
            assert decision.seconds >= retry.REFUSED_WAIT_S
            assert decision.reason is DropReason.REJECTED, "for which they are dropped in the end"
    assert isinstance(later := otlp(503), Wait)
    assert later.reason is DropReason.SEND_FAILED


def test_refused_credentials_name_the_settings_of_this_destination() -> None:
    for status in (401, 403):
        decision = otlp(status)
        assert isinstance(decision, Wait)
        assert "LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY" in decision.detail
        decision = otlp(status, to={})
        assert isinstance(decision, Wait)
        assert "LANGFUSE" not in decision.detail
        assert "headers=" in decision.detail


# -- waiting -----------------------------------------------------------------------------------------------------------


def seconds(decision: Decision) -> float:
    assert isinstance(decision, Wait)
    return decision.seconds


def test_waits_double_up_to_a_limit_with_jitter_below_them() -> None:
    assert [retry.backoff_s(n, 1.0) for n in range(4)] == [0.5, 1.0, 2.0, 4.0]
    assert [retry.backoff_s(n, 0.0) for n in range(4)] == [0.25, 0.5, 1.0, 2.0]
    assert retry.backoff_s(100, 1.0) == retry.MAX_WAIT_S <= 10.0, "so that spans arrive soon after an outage"
    assert seconds(otlp(503, attempt=1)) == 0.75


def test_retry_after_in_seconds_is_obeyed_and_not_shortened_by_jitter() -> None:
    assert 10.0 <= seconds(otlp(429, retry_after="10")) <= 11.0
    assert 10.0 <= seconds(otlp(503, retry_after=" 10 ")) <= 11.0


def test_a_server_that_asks_for_no_wait_again_and_again_is_not_asked_without_end() -> None:
    assert seconds(otlp(503, retry_after="0")) == 0.0
    assert seconds(otlp(503, retry_after="0", attempt=1)) == retry.backoff_s(1, 0.5)
    assert seconds(otlp(503, retry_after="3", attempt=10)) >= 3.0


def test_retry_after_as_a_date_is_obeyed() -> None:
    assert 30.0 <= seconds(otlp(503, retry_after="Mon, 21 Sep 2026 14:13:50 GMT")) <= 33.0
    assert seconds(otlp(503, retry_after="Mon, 21 Sep 2026 14:13:10 GMT")) == 0.0


@pytest.mark.parametrize("value", ["soon", "-5", "1e9", "Mon, 99 Sep 2026 14:13:50 GMT", "Mon, 21 Foo 2026 14:13:50 GMT", "٣"])
def test_a_retry_after_that_means_nothing_is_as_none(value: str) -> None:
    assert seconds(otlp(503, retry_after=value)) == retry.backoff_s(0, 0.5)


def test_no_server_parks_our_spans_for_days() -> None:
    assert seconds(otlp(503, retry_after="999999999")) <= retry.MAX_RETRY_AFTER_S * 1.1


# -- OTLP's partial success --------------------------------------------------------------------------------------------


def test_partial_success_is_read_from_protobuf_and_from_json() -> None:
    partial = ExportTracePartialSuccess(rejected_spans=3, error_message="too old")
    assert otlp(200, ExportTraceServiceResponse(partial_success=partial).SerializeToString()) == Done(3, "too old")
    assert otlp(200, b'{"partialSuccess":{"rejectedSpans":"2","errorMessage":"no"}}') == Done(2, "no")


def test_a_success_without_rejected_spans_may_carry_advice() -> None:
    assert otlp(200, b'{"partialSuccess":{"errorMessage":"slow down"}}') == Done(0, "slow down")


@pytest.mark.parametrize(
    "body", [b"{}", b'{"id":"7","name":"job"}', b"<html>", b"\xff\xfe", b"[1]", b"{broken", b'{"partialSuccess":7}']
)
def test_a_2xx_body_that_says_nothing_about_spans_is_success(body: bytes) -> None:
    assert otlp(200, body) == Done()


@pytest.mark.parametrize(("said", "count"), [("-3", 0), ("99", 4), ('"x"', 0), ("null", 0)])
def test_a_count_that_cannot_be_is_held_within_what_was_sent(said: str, count: int) -> None:
    assert otlp(200, b'{"partialSuccess":{"rejectedSpans":%s}}' % said.encode()) == Done(count)


# -- ingestion's 207 ---------------------------------------------------------------------------------------------------


def test_a_207_is_read_entry_by_entry() -> None:
    wrong = {"id": "o1", "status": 400, "message": "Invalid request data", "error": "expected string"}
    decision = ingestion({"successes": [{"id": "t1", "status": 201}], "errors": [wrong, {"id": "o2", "status": 500}]})
    assert isinstance(decision, Partly)
    assert [item.id for item in decision.again] == ["o2"]
    assert [item.id for item in decision.rejected] == ["o1"]
    assert "Invalid request data expected string" in decision.detail


def test_an_entry_that_fails_for_now_again_and_again_is_given_up() -> None:
    answer = {"successes": [], "errors": [{"id": "o2", "status": 500}]}
    decision = ingestion(answer, attempt=retry.MAX_SERVER_ERRORS)
    assert isinstance(decision, Partly)
    assert [item.id for item in decision.rejected] == ["o2"]


def test_a_207_without_errors_is_done() -> None:
    assert ingestion({"successes": [{"id": i, "status": 201} for i in ("t1", "o1", "o2")], "errors": []}) == Done()
    assert ingestion({"successes": [], "errors": []}) == Done()
    assert ingestion(b"OK", status=200) == Done()


def test_errors_of_unknown_events_are_charged_to_those_that_nobody_named() -> None:
    decision = ingestion({"successes": [{"id": "t1", "status": 201}], "errors": [{"id": "unknown", "status": 400}]})
    assert isinstance(decision, Partly)
    assert len(decision.rejected) == 1
    assert decision.rejected[0].id != "t1"


def test_a_server_that_takes_only_otlp_is_named_with_the_way_out() -> None:
    errors = [{"id": i, "status": 400, "message": "Event type not accepted", "error": "..."} for i in ("t1", "o1", "o2")]
    decision = ingestion({"successes": [], "errors": errors})
    assert isinstance(decision, Partly)
    assert len(decision.rejected) == 3
    assert "LangfuseOTLPExporter" in decision.detail


def test_a_207_that_cannot_be_read_is_sent_again_but_not_for_ever() -> None:
    assert isinstance(ingestion(b"<html>"), Wait)
    assert isinstance(ingestion(b"<html>", attempt=retry.MAX_UNREADABLE), GiveUp)


@pytest.mark.parametrize(
    "answer", [{"errors": [None, 7, []]}, {"errors": [{"id": "o1", "status": "x"}]}, {"errors": [{}], "successes": [None]}]
)
def test_a_strange_207_raises_nothing(answer: Any) -> None:
    assert isinstance(ingestion(answer), Partly)


# -- what a server says ------------------------------------------------------------------------------------------------


def test_what_a_server_says_is_one_short_line_without_control_characters() -> None:
    decision = otlp(400, json.dumps({"message": "line\n\x1b[31mred\x00 " + "x" * 5000}).encode())
    assert isinstance(decision, Split)
    assert decision.detail.isprintable()
    assert len(decision.detail) <= 200
    assert "line [31mred" in decision.detail


def test_a_proxys_page_is_not_quoted() -> None:
    decision = otlp(502, b"<html><body>Bad Gateway</body></html>")
    assert isinstance(decision, Wait)
    assert decision.detail == "HTTP 502"
