"""Incoming baggage is believed only if it is trusted, and then no more than anything else; it goes out only if asked."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import baggage as otel_baggage
from opentelemetry import context as otel_context
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_langfuse import LangfuseSpanProcessor, baggage, limits, propagate_attributes
from servers import provider_with

W3C = W3CBaggagePropagator()

EVERYTHING: dict[str, Any] = {
    "user_id": "ada",
    "session_id": "s 42",
    "environment": "staging",
    "version": "1.2",
    "trace_name": "Bücher",
    "tags": ["a", "b,c", "d'e"],
    "metadata": {"plan": "pro", "seats": 7},
}

AS_ATTRIBUTES = {
    "user.id": "ada",
    "session.id": "s 42",
    "langfuse.environment": "staging",
    "langfuse.version": "1.2",
    "langfuse.trace.name": "Bücher",
    "langfuse.trace.tags": ("a", "b,c", "d'e"),
    "langfuse.trace.metadata.plan": "pro",
    "langfuse.trace.metadata.seats": "7",
}


@pytest.fixture(autouse=True)
def warnings_of_others_do_not_count() -> None:
    limits._NOTES._reset()
    baggage._NOTES._reset()


def outgoing() -> str:
    """The header that an instrumented client sends from here."""
    carrier: dict[str, str] = {}
    W3C.inject(carrier)
    return carrier.get("baggage", "")


def called_with(header: str) -> Context:
    """The context of a request that came in with this header."""
    return W3C.extract({"baggage": header}, Context())


def attributes(context: Context, **settings: Any) -> dict[str, Any]:
    """What a span gets that starts in this context."""
    exporter = InMemorySpanExporter()
    processor = LangfuseSpanProcessor(exporter, **settings)
    provider_with(processor).get_tracer("t").start_span("s", context=context).end()
    processor.shutdown()
    (span,) = exporter.get_finished_spans()
    return dict(span.attributes or {})


@pytest.fixture
def inside() -> Iterator[str]:
    with propagate_attributes(as_baggage=True, **EVERYTHING):
        yield outgoing()


# -- in ----------------------------------------------------------------------------------------------------------------


def test_incoming_baggage_is_not_believed_by_itself(inside: str) -> None:
    forged = "langfuse_user_id=victim,langfuse_session_id=" + 3000 * "x" + ",langfuse_foo=bar"
    assert attributes(called_with(inside)) == attributes(called_with(forged)) == {}


def test_trusted_it_arrives_whole_in_the_next_service(inside: str) -> None:
    assert attributes(called_with(inside), trust_baggage=True) == AS_ATTRIBUTES


def test_the_environment_may_say_that_it_is_trusted(inside: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFUSE_TRUST_BAGGAGE", "true")
    assert attributes(called_with(inside)) == AS_ATTRIBUTES


def test_trusted_it_is_still_checked_and_cut(caplog: pytest.LogCaptureFixture) -> None:
    entries = {
        "langfuse_user_id": "u" * 3000,
        "langfuse_environment": "Prod Env!",
        "langfuse_metadata_k": "m" * 500,
        "langfuse_foo": "no field of ours",
        "langfuse_metadata_": "no key",
        "langfuse_session_id": "",
        "user_id": "another's",
    }
    header = ",".join(f"{name}={quote_plus(value)}" for name, value in entries.items())
    assert attributes(called_with(header), trust_baggage=True) == {
        "user.id": "u" * 200,
        "langfuse.trace.metadata.k": "m" * 200,
    }
    warned = [record.getMessage() for record in caplog.records if record.name == "otel_langfuse"]
    assert [line for line in warned if "incoming baggage: environment is left out" in line]
    assert not [line for line in warned if "Prod" in line or "uuu" in line], "what a caller sent is not shown"


def test_a_caller_cannot_fill_a_span_with_metadata() -> None:
    header = ",".join(f"langfuse_metadata_k{number}=v" for number in range(179))
    assert len(attributes(called_with(header), trust_baggage=True)) == limits.MAX_METADATA_KEYS


@pytest.mark.parametrize(
    ("written", "tags"),
    [
        ('["a", "b"]', ("a", "b")),
        ("['a', 'b']", ("a", "b")),  # as Langfuse's SDK 5 for Python writes them
        ("['it', \"it's\"]", ("it", "it's")),
        ("a,b , c", ("a", "b", "c")),
        ("one", ("one",)),
        ("[]", None),
        ("[1, null, {}]", ("1",)),
        ("[[[[[[", None),
        ("['a' 'b', __import__('os')]", ("a", "b", "os")),
    ],
)
def test_tags_arrive_as_a_list_however_they_were_written(written: str, tags: tuple[str, ...] | None) -> None:
    found = attributes(called_with(f"langfuse_tags={quote_plus(written)}"), trust_baggage=True)
    assert found.get("langfuse.trace.tags") == tags


def test_a_list_that_was_set_in_this_process_is_a_list() -> None:
    context = otel_baggage.set_baggage("langfuse_tags", ["a", "b"], Context())
    assert attributes(context, trust_baggage=True) == {"langfuse.trace.tags": ("a", "b")}


def test_what_this_process_says_wins_over_what_it_was_called_with() -> None:
    token = otel_context.attach(called_with("langfuse_user_id=caller,langfuse_session_id=s"))
    with propagate_attributes(user_id="ours"):
        found = attributes(otel_context.get_current(), trust_baggage=True)
    otel_context.detach(token)
    assert found == {"user.id": "ours", "session.id": "s"}


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from([*baggage._FIELDS, "langfuse_metadata_k", "langfuse_x"]), st.text(max_size=300)))
def test_no_baggage_whatsoever_breaks_a_span(entries: dict[str, str]) -> None:
    context = Context()
    for name, value in entries.items():
        context = otel_baggage.set_baggage(name, value, context)
    found = baggage.read(context)
    for value in found.values():
        assert isinstance(value, (str, tuple))
        assert all(0 < len(text) <= 200 for text in ([value] if isinstance(value, str) else value))


# -- out -----------------------------------------------------------------------------------------------------------------


def test_nothing_goes_out_unless_it_is_asked_for() -> None:
    with propagate_attributes(**EVERYTHING):
        assert outgoing() == ""
        with propagate_attributes(version="2", as_baggage=True):
            assert outgoing() == "langfuse_version=2", "only what was said with it"
        assert outgoing() == ""


def test_entries_are_named_as_langfuses_sdk_reads_them(inside: str) -> None:
    entries = dict(pair.split("=") for pair in inside.split(","))
    assert set(entries) == {
        *("langfuse_user_id", "langfuse_session_id", "langfuse_environment", "langfuse_version", "langfuse_trace_name"),
        *("langfuse_tags", "langfuse_metadata_plan", "langfuse_metadata_seats"),
    }
    assert otel_baggage.get_baggage("langfuse_tags") == json.dumps(EVERYTHING["tags"], separators=(",", ":"))


def test_tags_without_commas_are_written_as_langfuses_other_sdk_reads_them() -> None:
    with propagate_attributes(tags=["a", "b c"], as_baggage=True):
        assert otel_baggage.get_baggage("langfuse_tags") == "a,b c"


def test_inner_tags_join_the_outer_ones_on_the_way_out_too(inside: str) -> None:
    with propagate_attributes(tags=["z"], as_baggage=True):
        assert otel_baggage.get_baggage("langfuse_tags") == '["a","b,c","d\'e","z"]'


def test_others_entries_stay_and_ours_leave_with_the_block() -> None:
    token = otel_context.attach(otel_baggage.set_baggage("theirs", "1"))
    with propagate_attributes(user_id="ada", as_baggage=True):
        assert outgoing() == "theirs=1,langfuse_user_id=ada"
    assert outgoing() == "theirs=1"
    otel_context.detach(token)


def test_the_header_stays_so_small_that_receivers_read_it(caplog: pytest.LogCaptureFixture) -> None:
    with propagate_attributes(user_id="ada", as_baggage=True):
        for block in range(4):
            metadata = {f"{block}-{number}": "ü" * 200 for number in range(60)}
            with propagate_attributes(metadata=metadata, as_baggage=True):
                header = outgoing()
                assert len(header) <= baggage.MAX_BYTES
                assert "langfuse_user_id=ada" in header
                assert attributes(called_with(header), trust_baggage=True)["user.id"] == "ada"
    lines = [record for record in caplog.records if "outgoing baggage has no room" in record.getMessage()]
    assert len(lines) == 1
    assert lines[0].levelno == logging.WARNING
