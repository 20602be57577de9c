from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_langfuse import LangfuseSpanProcessor, limits, propagate_attributes
from otel_langfuse.propagation import propagated_attributes
from servers import provider_with

pytestmark = pytest.mark.usefixtures("every_span")


class Spans:
    """A provider with our processor, and the attributes of the spans that it exported, by name."""

    def __init__(self, **settings: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.processor = LangfuseSpanProcessor(self.exporter, **settings)
        self.provider: TracerProvider = provider_with(self.processor)
        self.tracer = self.provider.get_tracer("t")

    def __getitem__(self, name: str) -> dict[str, Any]:
        self.processor.force_flush()
        return next(dict(span.attributes or {}) for span in self.exporter.get_finished_spans() if span.name == name)


@pytest.fixture(autouse=True)
def warnings_of_others_do_not_count() -> None:
    limits._NOTES._reset()


@pytest.fixture
def spans() -> Any:
    made = Spans()
    yield made
    made.processor.shutdown()


def test_every_span_that_starts_inside_gets_the_values_and_none_outside(spans: Spans) -> None:
    with propagate_attributes(
        user_id="u", session_id="s", tags=["a", "b"], version="v", trace_name="n", environment="prod", metadata={"k": "x", "n": 1}
    ):
        spans.tracer.start_span("inside").end()
    spans.tracer.start_span("outside").end()
    assert spans["inside"] == {
        "user.id": "u",
        "session.id": "s",
        "langfuse.trace.tags": ("a", "b"),
        "langfuse.version": "v",
        "langfuse.trace.name": "n",
        "langfuse.environment": "prod",
        "langfuse.trace.metadata.k": "x",
        "langfuse.trace.metadata.n": 1,
    }
    assert spans["outside"] == {}
    assert propagated_attributes() == {}


def test_the_current_span_gets_them_as_well(spans: Spans) -> None:
    with spans.tracer.start_as_current_span("current"), propagate_attributes(user_id="u"):
        pass
    assert spans["current"] == {"user.id": "u"}


def test_inner_values_replace_outer_ones_and_add_to_tags_and_metadata(spans: Spans) -> None:
    with propagate_attributes(user_id="outer", session_id="s", tags=["a", "b"], metadata={"k": 1, "l": 1}):
        with propagate_attributes(user_id="inner", tags=["b", "c"], metadata={"l": 2}):
            spans.tracer.start_span("inner").end()
        spans.tracer.start_span("outer").end()
    assert spans["inner"]["user.id"] == "inner"
    assert spans["inner"]["session.id"] == "s"
    assert spans["inner"]["langfuse.trace.tags"] == ("a", "b", "c")
    assert (spans["inner"]["langfuse.trace.metadata.k"], spans["inner"]["langfuse.trace.metadata.l"]) == (1, 2)
    assert spans["outer"]["user.id"] == "outer"
    assert spans["outer"]["langfuse.trace.tags"] == ("a", "b")


def test_what_a_span_says_itself_when_it_starts_wins() -> None:
    spans = Spans(environment="configured")
    with propagate_attributes(user_id="propagated", environment="propagated"):
        spans.tracer.start_span("own", attributes={"user.id": "own"}).end()
    spans.tracer.start_span("plain").end()
    assert spans["own"] == {"user.id": "own", "langfuse.environment": "propagated"}
    assert spans["plain"] == {"langfuse.environment": "configured"}
    spans.processor.shutdown()


def test_an_explicit_parent_context_counts_and_not_the_current_one(spans: Spans) -> None:
    with propagate_attributes(user_id="u"):
        kept = otel_context.get_current()
    with propagate_attributes(user_id="other"):
        spans.tracer.start_span("child", context=kept).end()
    assert spans["child"] == {"user.id": "u"}


def test_they_follow_tasks_and_context_copies_but_do_not_leak_between_them(spans: Spans) -> None:
    async def request(user: str) -> None:
        with propagate_attributes(user_id=user):
            await asyncio.sleep(0.01)
            await asyncio.create_task(work(user))

    async def work(user: str) -> None:
        spans.tracer.start_span(user).end()

    async def both() -> None:
        await asyncio.gather(request("one"), request("two"))

    asyncio.run(both())
    assert (spans["one"], spans["two"]) == ({"user.id": "one"}, {"user.id": "two"})

    with propagate_attributes(user_id="thread"):
        copied = contextvars.copy_context()
    thread = threading.Thread(target=copied.run, args=(lambda: spans.tracer.start_span("thread").end(),))
    thread.start()
    thread.join()
    assert spans["thread"] == {"user.id": "thread"}


def test_a_generator_that_is_closed_in_another_context_logs_no_error(caplog: pytest.LogCaptureFixture) -> None:
    def stream() -> Any:
        with propagate_attributes(user_id="u"):
            yield 1
            yield 2

    generator = stream()
    contextvars.copy_context().run(next, generator)
    contextvars.copy_context().run(generator.close)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_long_texts_are_cut_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with propagate_attributes(user_id="u" * 201, tags=["t" * 300], metadata={"k": "m" * 500}):
        assert propagated_attributes() == {
            "user.id": "u" * 200,
            "langfuse.trace.tags": ("t" * 200,),
            "langfuse.trace.metadata.k": "m" * 200,
        }
    assert caplog.text.count("is cut to 200 characters") == 3


@pytest.mark.parametrize(
    "values",
    [
        {"user_id": object()},
        {"environment": "Prod Env!"},
        {"environment": "langfuse"},
        {"tags": "one"},
        {"tags": 7},
        {"metadata": [1]},
        {"metadata": {"k": {1: object}}},
    ],
)
def test_what_cannot_be_used_is_left_out_with_a_warning(values: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    with propagate_attributes(session_id="s", **values):
        assert propagated_attributes()["session.id"] == "s"
        assert len(propagated_attributes()) == 1
    assert len(caplog.records) == 1


def test_other_values_take_the_form_that_an_attribute_can_have() -> None:
    with propagate_attributes(user_id=7, metadata={"none": None, "dict": {"a": [1]}, "flag": True}):  # type: ignore[arg-type]
        assert propagated_attributes() == {
            "user.id": "7",
            "langfuse.trace.metadata.dict": '{"a":[1]}',
            "langfuse.trace.metadata.flag": True,
        }


EVERYTHING: dict[str, Any] = {
    "user_id": "u",
    "session_id": "s",
    "tags": ["t"],
    "trace_name": "n",
    "version": "1",
    "metadata": {"k": "v"},
}


def test_everything_reaches_third_party_spans_on_threads_of_pools_and_in_tasks(spans: Spans) -> None:
    """Where Python or the caller takes the context along: what a bare pool or thread does not, propagates in neither SDK."""
    third_party = spans.provider.get_tracer("opentelemetry.instrumentation.redis")

    def work(name: str) -> None:
        third_party.start_span(name).end()

    async def tasks() -> None:
        await asyncio.to_thread(work, "to_thread")
        await asyncio.gather(asyncio.create_task(asyncio.to_thread(work, "task")), *(in_task(f"task {i}") for i in range(3)))
        await asyncio.get_running_loop().run_in_executor(None, contextvars.copy_context().run, work, "executor")

    async def in_task(name: str) -> None:
        await asyncio.sleep(0.001)
        work(name)

    with propagate_attributes(**EVERYTHING), ThreadPoolExecutor(2) as pool:
        asyncio.run(tasks())
        for name in ("pool 1", "pool 2"):
            pool.submit(contextvars.copy_context().run, work, name).result()
    said = {
        "user.id": "u",
        "session.id": "s",
        "langfuse.trace.tags": ("t",),
        "langfuse.trace.name": "n",
        "langfuse.version": "1",
        "langfuse.trace.metadata.k": "v",
    }
    for name in ("to_thread", "task", "task 0", "task 2", "executor", "pool 1", "pool 2"):
        assert spans[name] == said, name


# -- as a decorator ------------------------------------------------------------------------------------------------------------


def test_a_decorated_function_or_coroutine_function_has_the_values_in_each_of_its_calls(spans: Spans) -> None:
    @propagate_attributes(user_id="u")
    def plain(n: int) -> int:
        spans.tracer.start_span(f"plain {n}").end()
        return plain(n - 1) if n else 7

    @propagate_attributes(user_id="u")
    async def coroutine(name: str) -> str | None:
        await asyncio.sleep(0.01)
        spans.tracer.start_span(name).end()
        return coroutine.__doc__

    @propagate_attributes(user_id="u")
    def failing() -> None:
        raise ValueError("It broke.")

    async def both() -> None:
        await asyncio.gather(coroutine("first"), coroutine("second"))
        spans.tracer.start_span("between").end()

    assert plain(1) == 7
    asyncio.run(both())
    with pytest.raises(ValueError, match="It broke"):
        failing()
    for name in ("plain 1", "plain 0", "first", "second"):
        assert spans[name] == {"user.id": "u"}, name
    assert spans["between"] == {}
    assert propagated_attributes() == {}
    assert plain.__name__ == "plain"


def test_a_block_may_be_kept_and_used_again_within_itself_too(spans: Spans) -> None:
    kept = propagate_attributes(user_id="u", tags=["a"])
    for name in ("first", "second"):
        with kept:
            with kept:
                spans.tracer.start_span(f"{name} inner").end()
            spans.tracer.start_span(name).end()
        assert propagated_attributes() == {}
        assert spans[name] == spans[f"{name} inner"] == {"user.id": "u", "langfuse.trace.tags": ("a",)}


# -- prompts -------------------------------------------------------------------------------------------------------------------


class PromptObject:
    name, version, is_fallback = "qa", 3, False


class Fallback:
    name, version, is_fallback = "qa", 0, True


@pytest.mark.parametrize("prompt", [PromptObject(), {"name": "qa", "version": 3}, {"name": "qa", "version": "3"}])
def test_a_prompt_is_linked_to_what_starts_inside_and_to_no_baggage(prompt: Any, spans: Spans) -> None:
    with propagate_attributes(prompt=prompt, as_baggage=True):
        spans.tracer.start_span("inside").end()
        told = baggage.get_all()
        with propagate_attributes(prompt={"name": "other", "version": 1}):
            spans.tracer.start_span("inner").end()
    assert spans["inside"] == {"langfuse.observation.prompt.name": "qa", "langfuse.observation.prompt.version": 3}
    assert spans["inner"] == {"langfuse.observation.prompt.name": "other", "langfuse.observation.prompt.version": 1}
    assert told == {}


@pytest.mark.parametrize(
    ("prompt", "warns"),
    [
        (Fallback(), False),
        ({"name": "qa", "version": 1, "is_fallback": True}, False),
        ({"name": "qa"}, True),
        ({"name": "", "version": 1}, True),
        ({"name": "qa", "version": "latest"}, True),
        ({"name": "qa", "version": 1.5}, True),
        ("qa", True),
    ],
)
def test_what_is_no_version_of_a_prompt_is_not_linked(
    prompt: Any, warns: bool, spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    with propagate_attributes(prompt=prompt, user_id="u"):
        spans.tracer.start_span("inside").end()
    assert spans["inside"] == {"user.id": "u"}
    assert ("prompt is left out" in caplog.text) is warns
