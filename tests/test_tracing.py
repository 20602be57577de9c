"""Observations by hand: spans of the application's own provider, with attributes; nothing else remembers them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import re
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any, get_args

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, SpanContext, StatusCode, TraceFlags

import otel_langfuse
from conftest import Recorder
from otel_langfuse import (
    LangfuseSpanProcessor,
    Observation,
    configure,
    create_event,
    create_observation_id,
    create_trace_id,
    get_current_observation_id,
    get_current_trace_id,
    get_trace_url,
    observe,
    propagate_attributes,
    set_current_trace_as_public,
    start_as_current_observation,
    start_observation,
    update_current_generation,
    update_current_span,
    update_current_trace,
)
from otel_langfuse.model import OBSERVATION_TYPES
from otel_langfuse.model import Observation as Stored
from otel_langfuse.propagation import set_attributes
from otel_langfuse.spans import from_sdk
from otel_langfuse.tracing import ObservationType, fields, register
from otel_langfuse.translate import translate


def stored(recorder: Recorder, name: str | None = None) -> Stored:
    """What Langfuse stores for the only span (of this name)."""
    (span,), _ = from_sdk([recorder.span(name)])
    return translate(span)


# -- an observation is a span ------------------------------------------------------------------------------------------------


def test_a_block_is_a_span_of_our_scope_that_others_nest_into(recorder: Recorder) -> None:
    tracer = recorder.provider.get_tracer("app")
    with (
        tracer.start_as_current_span("request"),
        start_as_current_observation(name="step") as step,
        tracer.start_as_current_span("library call"),
    ):
        assert isinstance(step, Observation)
        assert step.span is not trace.get_current_span()
    spans = {span.name: span for span in recorder.spans}
    assert spans["step"].instrumentation_scope.name == "otel-langfuse"
    assert spans["step"].parent.span_id == spans["request"].context.span_id
    assert spans["library call"].parent.span_id == spans["step"].context.span_id


@pytest.mark.parametrize("as_type", get_args(ObservationType))
def test_each_of_the_ten_types(as_type: Any, recorder: Recorder) -> None:
    assert set(get_args(ObservationType)) == set(OBSERVATION_TYPES)
    with start_as_current_observation(name="one", as_type=as_type):
        pass
    assert stored(recorder).type == as_type
    recorder.clear()
    start_observation(name="one", as_type=as_type).end()
    assert stored(recorder).type == as_type
    recorder.clear()
    observe(as_type=as_type)(lambda: 1)()
    assert stored(recorder).type == as_type


EVERYTHING: dict[str, Any] = {
    "input": [{"role": "user", "content": "?"}],
    "output": "!",
    "metadata": {"text": "t", "number": 3, "nested": {"a": [1]}},
    "version": "1.2",
    "level": "warning",
    "status_message": "slow",
    "model": "toy-1",
    "model_parameters": {"temperature": 0.5, "stop": ["x"]},
    "usage_details": {"input": 3, "output": 4},
    "cost_details": {"total": 0.25},
    "completion_start_time": datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
    "prompt": type("Prompt", (), {"name": "greeting", "version": 7, "is_fallback": False})(),
}


@pytest.mark.parametrize("way", ["block", "handle", "update", "current", "current generation", "child"])
def test_every_field_arrives_whichever_way_it_is_told(way: str, recorder: Recorder) -> None:
    match way:
        case "block":
            with start_as_current_observation(name="one", as_type="generation", **EVERYTHING):
                pass
        case "handle":
            start_observation("one", as_type="generation", **EVERYTHING).end()
        case "update":
            start_observation("one", as_type="generation").update(**EVERYTHING).end()
        case "current":
            with start_as_current_observation(name="one", as_type="generation"):
                update_current_span(**EVERYTHING)
        case "current generation":
            with start_as_current_observation(name="one"):
                update_current_generation(**EVERYTHING)
        case _:
            start_observation("parent").start_observation("one", as_type="generation", **EVERYTHING).end()
    found = stored(recorder, "one")
    assert (found.type, found.input, found.output) == ("generation", '[{"role":"user","content":"?"}]', "!")
    assert {key: found.metadata[key] for key in ("text", "number")} == {"text": "t", "number": 3}
    assert found.metadata["nested"] in ({"a": [1]}, '{"a":[1]}')
    assert (found.version, found.level, found.status_message) == ("1.2", "WARNING", "slow")
    assert (found.model, found.model_parameters) == ("toy-1", {"temperature": 0.5, "stop": '["x"]'})
    assert (found.usage_details, found.cost_details) == ({"input": 3, "output": 4}, {"total": 0.25})
    assert found.completion_start_time == "2026-01-02T03:04:05+00:00"
    assert (found.prompt_name, found.prompt_version) == ("greeting", 7)


def test_updates_replace_and_metadata_is_merged(recorder: Recorder) -> None:
    one = start_observation("first name", input=1, metadata={"a": 1, "b": 1})
    assert one.update(name="second name", output=2, metadata={"b": 2}) is one
    one.update(output=3, input=None).end()
    found = stored(recorder)
    assert (found.name, found.input, found.output) == ("second name", "1", "3")
    assert {key: found.metadata[key] for key in ("a", "b")} == {"a": 1, "b": 2}


def test_metadata_of_any_shape(recorder: Recorder) -> None:
    start_observation("one", metadata="a text").end()
    assert stored(recorder).metadata["metadata"] == "a text"
    recorder.clear()
    many = {f"k{n}": n for n in range(500)}
    start_observation("one", input="kept", metadata=many).end()
    assert stored(recorder).input == "kept", "a span's 128 attributes hold"
    assert {key: stored(recorder).metadata[key] for key in many} == many


def test_handles_start_children_and_events_wherever_the_program_is(recorder: Recorder) -> None:
    with start_as_current_observation(name="elsewhere"):
        pass
    root = start_observation("root", as_type="agent")
    with start_as_current_observation(name="unrelated"):
        child = root.start_observation("child")
        with root.start_as_current_observation("block") as block:
            assert get_current_observation_id() == block.id
            create_event("in the block", input=1)
        root.create_event("on the root", level="info")
    child.end()
    root.end()
    by_id = {span.context.span_id: span.name for span in recorder.spans}
    parents = {span.name: by_id[span.parent.span_id] for span in recorder.spans if span.parent}
    assert parents == {"child": "root", "block": "root", "in the block": "block", "on the root": "root"}
    event = recorder.span("in the block")
    assert event.start_time == event.end_time
    assert stored(recorder, "in the block").type == "event"


def test_an_event_by_its_type_is_ended_at_once(recorder: Recorder) -> None:
    start_observation("one", as_type="event", input="x")
    assert stored(recorder).input == "x"


def test_a_handle_knows_its_ids(recorder: Recorder) -> None:
    with start_as_current_observation(name="one") as one:
        assert (one.trace_id, one.id) == (get_current_trace_id(), get_current_observation_id())
        assert re.fullmatch(r"Observation\(id='[0-9a-f]{16}', trace_id='[0-9a-f]{32}'\)", repr(one))
    assert (get_current_trace_id(), get_current_observation_id()) == (None, None)


def test_a_block_may_leave_its_end_to_the_program(recorder: Recorder) -> None:
    with start_as_current_observation(name="one", end_on_exit=False) as one:
        pass
    assert recorder.spans == []
    assert get_current_observation_id() is None
    one.update(output="late").end(end_time=one.span.start_time + 5)  # type: ignore[attr-defined]
    assert recorder.fields()["output"] == "late"
    assert recorder.span().end_time - recorder.span().start_time == 5
    one.end()
    assert len(recorder.spans) == 1, "it ends once"


def test_the_same_block_twice_is_two_observations(recorder: Recorder) -> None:
    block = start_as_current_observation(name="one", input=1)
    for _ in range(2):
        with block:
            pass
    assert [span.attributes["langfuse.observation.input"] for span in recorder.spans] == ["1", "1"]


# -- nothing else remembers them ---------------------------------------------------------------------------------------------


def test_observations_that_never_end_are_not_kept(recorder: Recorder) -> None:
    def leave(count: int) -> None:
        for _ in range(count):
            start_observation("never ended", input="x" * 1_000)
            with contextlib.suppress(ZeroDivisionError), start_as_current_observation(name="block"):
                raise ZeroDivisionError
        recorder.clear()
        gc.collect()

    leave(10)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        leave(500)
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert kept < 50_000, f"{kept} bytes are kept for 500 observations"


# -- trace_context, ids and addresses ----------------------------------------------------------------------------------------

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_trace_can_be_joined_under_a_parent(recorder: Recorder) -> None:
    with start_as_current_observation(name="one", trace_context={"trace_id": TRACE, "parent_span_id": PARENT}) as one:
        inner = start_observation("inner")
        inner.end()
    assert one.trace_id == TRACE == inner.trace_id
    assert trace.format_span_id(recorder.span("one").parent.span_id) == PARENT
    assert not stored(recorder, "one").is_root


def test_a_trace_can_be_joined_without_a_parent(recorder: Recorder) -> None:
    for name in ("one", "two"):
        start_observation(name, trace_context={"trace_id": TRACE}).end()
    create_event("three", trace_context={"trace_id": TRACE, "parent_span_id": None})
    assert [trace.format_trace_id(span.context.trace_id) for span in recorder.spans] == [TRACE] * 3
    assert [stored(recorder, name).is_root for name in ("one", "two", "three")] == [True] * 3


@pytest.mark.parametrize(
    "given",
    [
        {"trace_id": "0af76519-16cd-43dd-8448-eb211c80319c"},
        {"trace_id": TRACE.upper()},
        {"trace_id": TRACE[:-1]},
        {"trace_id": "0" * 32},
        {"trace_id": TRACE + "\n"},
        {"trace_id": 17},
        {"trace_id": None},
        {"parent_span_id": PARENT},
        {},
        TRACE,
        17,
    ],
    ids=repr,
)
def test_a_trace_that_cannot_be_joined_is_said_and_a_new_one_begins(
    given: Any, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    start_observation("one", trace_context=given).end()
    with start_as_current_observation(name="two", trace_context=given):
        pass
    assert [span.parent for span in recorder.spans] == [None, None]
    assert caplog.messages == ["otel-langfuse: trace_context is ignored: its trace_id is not 32 lower-case hex digits"], "once"


@pytest.mark.parametrize("parent", ["b7ad6b71-69203331", "0" * 16, PARENT.upper(), 17, "x"])
def test_a_parent_that_cannot_be_is_said_and_the_trace_joined(
    parent: Any, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    start_observation("one", trace_context={"trace_id": TRACE, "parent_span_id": parent}).end()
    assert trace.format_trace_id(recorder.span().context.trace_id) == TRACE
    assert stored(recorder).is_root
    assert caplog.messages == ["otel-langfuse: parent_span_id is ignored: it is not 16 lower-case hex digits"]


def test_seeded_ids_are_those_of_langfuses_own_sdk() -> None:
    """Recorded from langfuse 5.0.4, ``Langfuse.create_trace_id(seed=...)``."""
    assert create_trace_id(seed="order-17") == "72a90ea3da8b5dd01bde2f27314e02e2"
    assert create_trace_id(seed="ключ") == "1de36a32af798da0c1ac9297603a320e"


def test_ids_are_random_without_a_seed() -> None:
    assert len({create_trace_id() for _ in range(100)}) == len({create_observation_id() for _ in range(100)}) == 100
    assert re.fullmatch(r"[0-9a-f]{32}", create_trace_id())
    assert re.fullmatch(r"[0-9a-f]{16}", create_observation_id())
    assert create_observation_id(seed="s") == create_observation_id(seed="s") != create_observation_id(seed="t")
    assert re.fullmatch(r"[0-9a-f]{32}", create_trace_id(seed="lone \ud800"))


def test_the_current_ids_are_those_of_any_librarys_span(recorder: Recorder) -> None:
    with recorder.provider.get_tracer("app").start_as_current_span("theirs") as span:
        assert get_current_observation_id() == trace.format_span_id(span.get_span_context().span_id)
        assert get_current_trace_id() == trace.format_trace_id(span.get_span_context().trace_id)


def test_the_page_of_a_trace() -> None:
    assert get_trace_url(trace_id=TRACE) is None, "before configure()"
    recorder = Recorder()
    configure(
        base_url="https://langfuse.example.com/",
        public_key="pk",
        secret_key="sk",
        sample_rate=0.0,  # nothing is sent there
        tracer_provider=recorder.provider,
    )
    try:
        assert get_trace_url(trace_id=TRACE) == f"https://langfuse.example.com/trace/{TRACE}"
        assert get_trace_url() is None
        with start_as_current_observation(name="one") as one:
            assert get_trace_url() == f"https://langfuse.example.com/trace/{one.trace_id}"
    finally:
        register()
        recorder.provider.shutdown()


# -- what is told of the current observation and trace -----------------------------------------------------------------------


def test_the_current_span_of_any_library_can_be_told_something(recorder: Recorder) -> None:
    with recorder.provider.get_tracer("app").start_as_current_span("theirs"):
        update_current_span(input={"a": 1}, metadata={"k": "v"}, name="renamed")
        update_current_generation(model="toy-1")
    found = stored(recorder, "renamed")
    assert (found.type, found.input, found.model) == ("generation", '{"a":1}', "toy-1")


def test_a_tool_does_not_become_a_generation(recorder: Recorder) -> None:
    with start_as_current_observation(name="one", as_type="embedding"):
        update_current_generation(model="toy-1")
    assert stored(recorder).type == "embedding"


def test_the_trace_is_told_on_the_current_span_and_on_its_root(recorder: Recorder) -> None:
    with start_as_current_observation(name="root"), start_as_current_observation(name="inner"):
        update_current_trace(
            name="t", user_id="ada", session_id="s", tags=["a"], metadata={"k": 1}, version="2", release="r", public=True,
            input={"q": 1}, output="o", environment="staging",
        )  # fmt: skip
        update_current_trace(tags=["b", "a"], metadata={"l": 2})
    for name in ("root", "inner"):
        told = stored(recorder, name).trace
        assert (told.name, told.user_id, told.session_id, told.public, told.release) == ("t", "ada", "s", True, "r")
        assert (list(told.tags), told.input, told.output) == (["a", "b"], '{"q":1}', "o")
        assert {key: told.metadata[key] for key in ("k", "l")} == {"k": 1, "l": 2}
        assert stored(recorder, name).environment == "staging"


def test_a_handle_tells_its_trace(recorder: Recorder) -> None:
    one = start_observation("one")
    assert one.update_trace(user_id=17, tags="no list") is one  # type: ignore[arg-type]
    one.end()
    assert (stored(recorder).trace.user_id, list(stored(recorder).trace.tags)) == ("17", [])


def test_a_trace_is_made_public(recorder: Recorder) -> None:
    with start_as_current_observation(name="one"):
        set_current_trace_as_public()
    start_observation("two").set_trace_as_public().end()
    assert [stored(recorder, name).trace.public for name in ("one", "two")] == [True, True]


def test_without_an_observation_there_is_nothing_to_tell(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        update_current_span(output=1)
        update_current_generation(output=1)
        update_current_trace(user_id="ada")
    assert caplog.messages == [
        f"otel-langfuse: {name}() did nothing: no observation is running where it was called"
        for name in ("update_current_span", "update_current_generation", "update_current_trace")
    ]


def test_what_is_propagated_is_on_observations_and_their_own_word_wins(tmp_path: Any) -> None:
    recorder = Recorder()
    client = configure(base_url=f"sqlite:///{tmp_path}/x.db", tracer_provider=recorder.provider)
    try:
        with propagate_attributes(user_id="ada", version="1", tags=["t"], environment="prod"):
            start_observation("one", version="2").end()
        found = stored(recorder)
        assert (found.trace.user_id, found.version, list(found.trace.tags), found.environment) == ("ada", "2", ["t"], "prod")
        assert client.stats().started == 1
    finally:
        register()
        client.shutdown()


# -- levels and status -------------------------------------------------------------------------------------------------------

LEVELS = {
    "debug": "DEBUG", "DEBUG": "DEBUG", "trace": "DEBUG",
    "default": "DEFAULT", "info": "DEFAULT", "Info": "DEFAULT", "notice": "DEFAULT", "success": "DEFAULT",
    "warn": "WARNING", "warning": "WARNING", " WARNING ": "WARNING",
    "error": "ERROR", "Error": "ERROR", "fatal": "ERROR", "critical": "ERROR",
}  # fmt: skip


@pytest.mark.parametrize("given", LEVELS)
def test_level_texts_of_any_case(given: str, recorder: Recorder) -> None:
    start_observation("at the start", level=given, status_message="why").end()
    start_observation("later").update(level=given, status_message="why").end()
    for name in ("at the start", "later"):
        assert recorder.fields(name)["level"] == LEVELS[given]
        status = recorder.span(name).status
        if LEVELS[given] == "ERROR":
            assert (status.status_code, status.description) == (StatusCode.ERROR, "why")
        else:
            assert status.status_code is StatusCode.UNSET
        assert stored(recorder, name).level == LEVELS[given]
        assert stored(recorder, name).status_message == "why"


def test_an_unknown_level_is_said_and_left_out(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    start_observation("one", level="loud", output=1).end()
    assert "level" not in recorder.fields()
    assert recorder.fields()["output"] == "1"
    assert caplog.messages == ["otel-langfuse: level is left out: expected DEBUG, DEFAULT, WARNING or ERROR"]


def test_a_message_that_comes_later_is_the_statuss_too(recorder: Recorder) -> None:
    start_observation("one", level="ERROR").update(status_message="why").end()
    assert recorder.span().status.description == "why"


def test_the_status_of_opentelemetry_is_the_level(recorder: Recorder) -> None:
    with start_as_current_observation(name="one") as one:
        one.span.set_status(StatusCode.ERROR, "why")
    assert (stored(recorder).level, stored(recorder).status_message) == ("ERROR", "why")


def test_an_exception_that_leaves_a_block_is_recorded_once_and_goes_on(recorder: Recorder) -> None:
    error = ValueError("no")
    with pytest.raises(ValueError, match="no") as raised, start_as_current_observation(name="one"):
        raise error
    assert raised.value is error
    span = recorder.span()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "ValueError: no")
    assert [event.name for event in span.events] == ["exception"]
    assert (stored(recorder).level, stored(recorder).status_message) == ("ERROR", "ValueError: no")


def test_a_message_that_the_program_has_given_stays(recorder: Recorder) -> None:
    with contextlib.suppress(ValueError), start_as_current_observation(name="one") as one:
        one.update(level="ERROR", status_message="the card was declined")
        raise ValueError("no")
    assert stored(recorder).status_message == "the card was declined"
    assert recorder.span().status.description == "the card was declined"


@pytest.mark.parametrize("error", [SystemExit(2), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()], ids=repr)
def test_what_is_no_error_is_named_as_what_it_is(error: BaseException, recorder: Recorder) -> None:
    with pytest.raises(type(error)), start_as_current_observation(name="one"):
        raise error
    assert stored(recorder).status_message.startswith(type(error).__name__)
    assert recorder.span().status.status_code is StatusCode.UNSET
    assert recorder.span().events == ()


# -- what is wrong is said, and harms nobody ---------------------------------------------------------------------------------


def test_a_field_that_does_not_exist_is_said_once(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    one = start_observation("one", inptu=1)  # type: ignore[call-arg]
    for _ in range(3):
        one.update(ouput=1, output=2)  # type: ignore[call-arg]
    with start_as_current_observation(name="two", modle="x"):  # type: ignore[call-arg]
        update_current_trace(usre_id="ada")  # type: ignore[call-arg]
    one.end()
    assert recorder.fields("one")["output"] == "2"
    assert caplog.messages == [
        f"otel-langfuse: there is no field {name!r}: it is left out" for name in ("inptu", "ouput", "modle", "usre_id")
    ]


def test_an_update_after_the_end_is_said_once(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    one = start_observation("one").end()
    for _ in range(3):
        one.update(output=1)
    assert caplog.messages == ["otel-langfuse: an update is lost: the observation had ended"]


WRONG: dict[str, Any] = {
    "level": 3,
    "completion_start_time": 17,
    "model_parameters": "hot",
    "usage_details": 3,
    "cost_details": ["x"],
    "prompt": "greeting",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_value_that_a_field_cannot_have_is_said_and_left_out(
    name: str, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    start_observation("one", **{name: WRONG[name]}, output="kept").end()  # type: ignore[arg-type]
    assert set(recorder.fields()) == {"type", "output"}
    (line,) = caplog.messages
    assert line.startswith(f"otel-langfuse: {name} is left out: expected ")


def test_a_fallback_prompt_is_not_linked(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    start_observation("one", prompt=type("Prompt", (), {"name": "p", "version": 0, "is_fallback": True})()).end()
    assert set(recorder.fields()) == {"type"}
    assert caplog.messages == []


class Wrong:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


def test_names_of_any_type(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    start_observation(17).end()  # type: ignore[arg-type]
    assert recorder.span().name == "17"
    start_observation(Wrong()).update(name=Wrong(), output=1).end()  # type: ignore[arg-type]
    with start_as_current_observation(name=Wrong()) as one:  # type: ignore[arg-type]
        assert not one.span.is_recording()
    assert len(recorder.spans) == 1
    assert "RuntimeError while starting its span" in caplog.text


class Explosive(SpanProcessor):
    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if "start" in span.name:
            raise RuntimeError("on_start")

    def on_end(self, span: Any) -> None:
        if "end" in span.name:
            raise RuntimeError("on_end")


@pytest.mark.parametrize("name", ["fails at its start", "fails at its end"])
def test_a_span_processor_of_somebody_else_that_raises_harms_nobody(
    name: str, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    recorder.provider.add_span_processor(Explosive())
    with start_as_current_observation(name=name):
        pass
    start_observation(name).end()
    create_event(name)
    assert observe(name=name)(lambda: 1)() == 1
    assert list(observe(name=name)(lambda: iter([1]))()) == [1]
    assert get_current_observation_id() is None
    assert len(caplog.messages) == 1
    assert "RuntimeError" in caplog.messages[0]


# -- providers ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def _registered_none() -> Iterator[None]:
    yield
    register()


def everything(one: Any = None) -> None:
    with start_as_current_observation(name="block", input=1) as block:
        block.update(output=1).create_event("e")
        update_current_span(output=2)
        update_current_trace(user_id="u")
    one = start_observation("one")
    one.start_observation("child").end()
    with one.start_as_current_observation("inner"):
        pass
    one.update_trace(tags=["t"]).end()
    create_event("event")
    assert observe(lambda: 1)() == 1


def test_without_a_provider_nothing_happens(caplog: pytest.LogCaptureFixture) -> None:
    everything()
    assert get_current_trace_id() is None
    assert caplog.messages == []


@pytest.mark.usefixtures("_registered_none")
def test_disabled_nothing_happens() -> None:
    recorder = Recorder()
    register(provider=recorder.provider, enabled=False)
    everything()
    assert recorder.spans == []


@pytest.mark.usefixtures("_registered_none")
def test_the_provider_is_the_global_one_whenever_it_is_set() -> None:
    program = """
import otel_langfuse
from otel_langfuse import observe, start_observation
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

f = observe(lambda: 1, name="f") if False else observe(name="f")(lambda: 1)
f()
before = start_observation("before")
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
f()
before.update(output=1).end()
start_observation("after").end()
print([span.name for span in exporter.get_finished_spans()])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "['f', 'after']"
    assert done.stderr == ""


@pytest.mark.usefixtures("_registered_none")
def test_spans_of_a_provider_that_is_not_the_sdks_are_used_as_the_api_has_it() -> None:  # noqa: C901 - an API has many methods
    """As ddtrace does it: spans of its own class, without anything private of the SDK's."""
    made: list[Any] = []

    class TheirSpan(trace.Span):
        def __init__(self, name: str) -> None:
            self.name, self.attributes, self.ended, self.status = name, {}, 0, None

        def end(self, end_time: int | None = None) -> None:
            self.ended += 1

        def get_span_context(self) -> SpanContext:
            return SpanContext(0xABCDEF << 64, 2, is_remote=False, trace_flags=TraceFlags(1))

        def set_attributes(self, attributes: Any) -> None:
            self.attributes.update(attributes)

        def set_attribute(self, key: str, value: Any) -> None:
            self.attributes[key] = value

        def add_event(self, name: str, attributes: Any = None, timestamp: Any = None) -> None: ...

        def update_name(self, name: str) -> None:
            self.name = name

        def is_recording(self) -> bool:
            return not self.ended

        def set_status(self, status: Any, description: str | None = None) -> None:
            self.status = status

        def record_exception(self, exception: Any, *_: Any, **__: Any) -> None: ...

    class TheirTracer(trace.Tracer):
        def start_span(self, name: str, context: Any = None, **given: Any) -> Any:
            made.append(TheirSpan(name))
            made[-1].set_attributes(given.get("attributes") or {})
            return made[-1]

        def start_as_current_span(self, *_: Any, **__: Any) -> Any: ...

    class Theirs(trace.TracerProvider):
        def get_tracer(self, *_: Any, **__: Any) -> trace.Tracer:
            return TheirTracer()

    register(provider=Theirs())
    everything()
    with contextlib.suppress(ValueError), start_as_current_observation(name="fails", input="x"):
        raise ValueError("no")
    assert [span.ended for span in made] == [1] * len(made)
    assert made[0].attributes["langfuse.observation.output"] == "2"
    assert made[-1].attributes["langfuse.observation.level"] == "ERROR"


@pytest.mark.usefixtures("_registered_none")
def test_a_trace_that_is_not_sampled_stays_so_and_is_current_to_those_within() -> None:
    recorder = Recorder()
    provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF))
    provider.add_span_processor(SimpleSpanProcessor(recorder.exporter))
    register(provider=provider)
    with start_as_current_observation(name="root") as root:
        assert not root.span.is_recording()
        assert get_current_trace_id() == root.trace_id != "0" * 32
        with start_as_current_observation(name="inner") as inner:
            assert inner.trace_id == root.trace_id
        observe(lambda: update_current_span(output=1))()
    assert get_current_trace_id() is None
    assert recorder.spans == []


@pytest.mark.usefixtures("_registered_none")
def test_a_remote_parent_that_is_not_sampled_is_the_samplers_to_judge(recorder: Recorder) -> None:
    remote = NonRecordingSpan(SpanContext(int(TRACE, 16), int(PARENT, 16), is_remote=True, trace_flags=TraceFlags(0)))
    for sampler, count in ((ParentBased(TraceIdRatioBased(1.0)), 0), (None, 0)):
        provider = TracerProvider(sampler=sampler)
        provider.add_span_processor(SimpleSpanProcessor(recorder.exporter))
        register(provider=provider)
        token = otel_context.attach(trace.set_span_in_context(remote))
        start_observation("one").end()
        otel_context.detach(token)
        assert len(recorder.spans) == count


class Looks(Sampler):
    """Keeps what says that it is a generation."""

    def should_sample(
        self, parent_context: Any, trace_id: int, name: str, kind: Any = None, attributes: Any = None, *_: Any
    ) -> Any:
        keep = (attributes or {}).get("langfuse.observation.type") == "generation"
        return SamplingResult(Decision.RECORD_AND_SAMPLE if keep else Decision.DROP, attributes)

    def get_description(self) -> str:
        return "Looks"


@pytest.mark.usefixtures("_registered_none")
def test_a_sampler_sees_what_the_observation_starts_with() -> None:
    recorder = Recorder()
    provider = TracerProvider(sampler=Looks())
    provider.add_span_processor(SimpleSpanProcessor(recorder.exporter))
    register(provider=provider)
    with start_as_current_observation(name="span"), start_as_current_observation(name="llm", as_type="generation", input="x"):
        pass
    assert [span.name for span in recorder.spans] == ["llm"]
    assert recorder.fields()["input"] == "x"


# -- attributes set past the SDK's own examination ---------------------------------------------------------------------------


@pytest.mark.usefixtures("_registered_none")
@pytest.mark.parametrize("limits", [SpanLimits(max_attribute_length=10), SpanLimits(max_span_attributes=2)])
def test_limits_of_the_sdk_hold(limits: SpanLimits) -> None:
    recorder = Recorder()
    provider = TracerProvider(span_limits=limits)
    provider.add_span_processor(SimpleSpanProcessor(recorder.exporter))
    register(provider=provider)
    start_observation("one", input="x" * 100, output="y" * 100, metadata={"k": "z" * 100}).end()
    attributes = recorder.span().attributes
    if limits.max_attribute_length:
        assert max(len(value) for value in attributes.values()) == 10
    else:
        assert len(attributes) == 2
        assert recorder.span().dropped_attributes == 2


def test_attributes_cannot_be_set_on_a_span_that_has_ended(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    span = start_observation("one").end().span
    set_attributes(span, {"late": 1})
    assert "late" not in span.attributes  # type: ignore[attr-defined]
    assert any("ended span" in line for line in caplog.messages), "the SDK's own words"


def test_attributes_are_set_by_the_public_method_where_a_span_is_not_the_sdks() -> None:
    class Other(NonRecordingSpan):
        seen: Any = None

        def set_attributes(self, attributes: Any) -> None:
            Other.seen = dict(attributes)

    other = Other(INVALID_SPAN.get_span_context())
    set_attributes(other, {"a": 1})
    assert Other.seen == {"a": 1}
    other._attributes = {"a": 1}  # type: ignore[attr-defined]  # not what the SDK has there
    set_attributes(other, {"b": 1})
    assert Other.seen == {"b": 1}


def test_threads_may_update_one_observation_at_the_same_time(recorder: Recorder) -> None:
    one = start_observation("one")
    threads = [
        threading.Thread(target=lambda n=n: [one.update(metadata={f"k{n}": i}, output=i) for i in range(200)]) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one.end()
    assert [recorder.fields()[f"metadata.k{n}"] for n in range(8)] == [199] * 8


def test_a_block_that_ends_in_another_context_than_it_began_in_is_no_trouble(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """A generator of the user's, not observed, that holds a block and is closed by another task."""

    async def items() -> Any:
        with start_as_current_observation(name="held"):
            yield 1

    async def main() -> None:
        made = items()
        await anext(made)
        await asyncio.create_task(made.aclose())

    asyncio.run(main())
    assert recorder.span("held")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    ("told", "ended"),
    [
        (1_767_225_600_000_000_001, 1_767_225_600_000_000_001),
        (datetime(2026, 1, 1, tzinfo=timezone.utc), 1_767_225_600_000_000_000),
        (1_767_225_600.5, 1_767_225_600_500_000_000),
        ("2026-01-01T00:00:00Z", 1_767_225_600_000_000_000),
    ],
)
def test_an_end_may_be_told_as_any_moment(told: Any, ended: int, recorder: Recorder) -> None:
    start_observation("one").end(end_time=told)
    assert recorder.span().end_time == ended


def test_an_end_that_is_no_moment_is_now(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    started = start_observation("one")
    started.end(end_time=object())  # type: ignore[arg-type]
    assert recorder.span().end_time >= recorder.span().start_time
    assert "end_time is left out: expected a datetime" in caplog.text


# -- metadata, however often and however much ------------------------------------------------------------------------------------


def metadata_of(recorder: Recorder) -> dict[str, Any]:
    found = stored(recorder).metadata
    return {key: value for key, value in found.items() if key not in ("attributes", "resourceAttributes", "scope")}


@pytest.mark.parametrize("sizes", [(1,) * 200, (40, 40, 40, 40), (60, 1, 60), (1, 100, 30, 100), (48, 49, 48)])
def test_metadata_is_merged_however_much_and_costs_the_span_nothing_else(sizes: tuple[int, ...], recorder: Recorder) -> None:
    expected: dict[str, Any] = {}
    with start_as_current_observation("one", as_type="generation", input="in", model="m") as one:
        for step, size in enumerate(sizes):
            new = {f"k{step}_{number}": number for number in range(size)} | {"last": step, "text": f"step {step}"}
            expected |= new
            one.update(metadata=new)
        one.update(output="out", usage_details={"input": 1}, status_message="well")
    found = stored(recorder)
    assert (found.type, found.input, found.output, found.model, found.usage_details) == (
        "generation",
        "in",
        "out",
        "m",
        {"input": 1},
    )
    assert metadata_of(recorder) == expected
    assert len(recorder.span().attributes) < 128
    assert recorder.span().dropped_attributes == 0


def test_metadata_of_the_trace_is_merged_as_well(recorder: Recorder) -> None:
    with start_as_current_observation("one", input="in") as one:
        for step in range(150):
            update_current_trace(metadata={f"k{step}": step, "last": step})
        one.update(output="out")
    found = stored(recorder)
    assert (found.input, found.output) == ("in", "out")
    assert {key: found.trace.metadata[key] for key in ("k0", "k99", "k149", "last")} == {
        "k0": 0,
        "k99": 99,
        "k149": 149,
        "last": 149,
    }


def test_every_public_name_of_the_writing_side_is_at_the_front_door() -> None:
    from otel_langfuse import tracing  # noqa: PLC0415

    internal = {"register", "begin_by", "begin_unless_told", "settle_gone", "ObservationType", "TraceContext"}
    assert {name for name in tracing.__all__ if getattr(otel_langfuse, name, None) is not getattr(tracing, name)} <= internal


def test_the_fields_are_those_of_the_tables() -> None:
    assert set(fields.OBSERVATION) == set(fields.ObservationFields.__annotations__)
    assert set(fields.TRACE) == set(fields.TraceUpdate.__annotations__)


def test_no_span_gets_what_another_thread_propagates(tmp_path: Any) -> None:
    """Between any two lines of ``on_start`` for one user, a span of another user starts."""
    recorder = Recorder()
    client = configure(base_url=f"sqlite:///{tmp_path}/x.db", tracer_provider=recorder.provider, environment="prod")
    between = 0
    with propagate_attributes(user_id="grace"):
        other = otel_context.get_current()

    def line(_: Any, event: str, __: Any) -> Any:
        nonlocal between
        sys.settrace(None)
        token = otel_context.attach(other)
        start_observation("other").end()
        otel_context.detach(token)
        between += 1
        sys.settrace(call)
        return line

    def call(frame: Any, event: str, argument: Any) -> Any:
        return line if frame.f_code is LangfuseSpanProcessor.on_start.__code__ else None

    try:
        with propagate_attributes(user_id="ada"):
            sys.settrace(call)
            start_observation("one").end()
            sys.settrace(None)
    finally:
        sys.settrace(None)
        register()
        client.shutdown()
    users = {(span.name, span.attributes["user.id"]) for span in recorder.spans}
    assert users == {("one", "ada"), ("other", "grace")}
    assert between >= 4
