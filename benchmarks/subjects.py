"""What is measured: the same workloads, written as a user of each library writes them, sent to one sink.

This file is run in the virtual environment of each peer, so at its head it imports nothing but OpenTelemetry. Bare OpenTelemetry
carries the same payload as the others: its user encodes inputs and outputs with ``json.dumps``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from benchmarks.workloads import APPLICATION, CHATS, LARGE, STEPS, WORKLOADS, Chat, make_spans, messages_of
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

KEYS = {"public_key": "pk-lf-benchmark", "secret_key": "sk-lf-benchmark"}
PARAMETERS = {"temperature": 0.7, "max_tokens": 512}
USAGE = {"input": 512, "output": 230, "total": 742}
TAGS = ["bench", "rag"]


class Subject(NamedTuple):
    """A library that is set up: workload -> what makes so many spans, and what sends all that have ended."""

    make: Mapping[str, Callable[[int], None]]
    flush: Callable[[], object]


def _plain(processor: SpanProcessor) -> Subject:
    """Plain OpenTelemetry calls, as an instrumentation makes them."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)
    return Subject(_by_plain_calls(provider), lambda: processor.force_flush(30_000))


def _by_plain_calls(provider: Any) -> dict[str, Callable[[int], None]]:
    return {name: lambda count, name=name: make_spans(provider, name, count) for name in WORKLOADS}


def output_of(chat: Chat, step: int) -> dict[str, str]:
    return {"role": "assistant", "content": chat.answers[step]}


def _chats(count: int) -> list[Chat]:
    return [CHATS[i % len(CHATS)] for i in range(count // len(STEPS))]


# -- bare OpenTelemetry ----------------------------------------------------------------------------------------------------------


def stock(url: str, *, compressed: bool = False) -> Subject:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    compression = Compression.Gzip if compressed else Compression.NoCompression
    return _plain(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{url}/v1/traces", compression=compression)))


# -- ours ------------------------------------------------------------------------------------------------------------------------


def _ours(url: str, compression: str = "gzip", **more: Any) -> SpanProcessor:
    """To a Langfuse server, with all defaults: corrections, masking of secrets, the filter (told of one scope more)."""
    from otel_langfuse import LangfuseOTLPExporter, LangfuseSpanProcessor

    return LangfuseSpanProcessor(LangfuseOTLPExporter(base_url=url, compression=compression, **KEYS, **more), **_FILTER)


_FILTER: dict[str, Any] = {"filter": ("llm", APPLICATION)}
"""The default, and the spans that the application makes by plain calls: most of them say nothing of models."""


def ours_plain(url: str, compression: str = "gzip") -> Subject:
    return _plain(_ours(url, compression))


def ours_dialect(url: str) -> Subject:
    return _plain(_ours(url, dialect="openinference"))


def ours_plain_ingestion(url: str) -> Subject:
    return _plain(_ingesting(url))


def _ingesting(url: str) -> SpanProcessor:
    """To the ingestion API, with all defaults but the same one."""
    from otel_langfuse import LangfuseIngestionExporter, LangfuseSpanProcessor

    return LangfuseSpanProcessor(LangfuseIngestionExporter(base_url=url, **KEYS), **_FILTER)


def ours_ingestion(url: str) -> Subject:
    """Our own API."""
    plain = ours_plain_ingestion(url)
    return plain._replace(make={**plain.make, "W1": ours_w1})


def ours(url: str) -> Subject:
    """Our own API, beside plain calls for what instrumentations make."""
    from otel_langfuse import start_as_current_observation, start_observation

    plain = _plain(_ours(url))

    def tiny(count: int) -> None:
        for _ in range(count):
            start_observation(name="tiny").end()

    def large(count: int) -> None:
        for i in range(count):
            with start_as_current_observation(name="large", input=LARGE[i % len(LARGE)]):
                pass

    return plain._replace(make={"W1": ours_w1, "W2": tiny, "W3": large, "W4": plain.make["W4"]})


def ours_w1(count: int) -> None:
    from otel_langfuse import propagate_attributes, start_as_current_observation

    start: Any = start_as_current_observation
    for chat in _chats(count):
        with propagate_attributes(user_id=chat.user, session_id=chat.session, tags=TAGS), _observation(start, chat, 0) as root:
            _answer(root, chat, 0)
            for step in range(1, len(STEPS)):
                with _observation(start, chat, step) as span:
                    _answer(span, chat, step)


def _observation(start: Any, chat: Chat, step: int) -> Any:
    name, kind = STEPS[step]
    if kind == "generation":
        return start(name=name, as_type=kind, input=messages_of(chat, step), model="gpt-4o-mini", model_parameters=PARAMETERS)
    return start(name=name, as_type=kind, input=messages_of(chat, step))


def _answer(span: Any, chat: Chat, step: int) -> None:
    if STEPS[step][1] == "generation":
        span.update(output=output_of(chat, step), usage_details=USAGE)
    else:
        span.update(output=output_of(chat, step))


def ours_observe(url: str) -> Subject:
    """Our decorator."""
    from otel_langfuse import observe, propagate_attributes, update_current_generation

    plain = _plain(_ours(url))
    return plain._replace(make={**plain.make, **_decorated(observe, propagate_attributes, update_current_generation)})


def _decorated(observe: Any, propagate_attributes: Any, update_current_generation: Any) -> dict[str, Callable[[int], None]]:
    """W1 and W2 with a decorator of Langfuse's shape, the official one or ours."""

    current = [CHATS[0]]

    def step_of(step: int) -> Callable[[Any], dict[str, str]]:
        name, kind = STEPS[step]

        @observe(name=name, as_type=kind)
        def function(messages: Any) -> dict[str, str]:  # noqa: ARG001 - it is recorded
            if kind == "generation":
                update_current_generation(model="gpt-4o-mini", model_parameters=PARAMETERS, usage_details=USAGE)
            for below, called in enumerate(steps if step == 0 else (), 1):
                called(messages_of(current[0], below))
            return output_of(current[0], step)

        made: Callable[[Any], dict[str, str]] = function
        return made

    steps = [step_of(step) for step in range(1, len(STEPS))]
    rag = step_of(0)

    def w1(count: int) -> None:
        for chat in _chats(count):
            current[0] = chat
            with propagate_attributes(user_id=chat.user, session_id=chat.session, tags=TAGS):
                rag(messages_of(chat, 0))

    @observe(name="tiny")
    def tiny() -> None:
        pass

    def w2(count: int) -> None:
        for _ in range(count):
            tiny()

    return {"W1": w1, "W2": w2}


# -- peers -----------------------------------------------------------------------------------------------------------------------


def _langfuse(url: str) -> tuple[Any, Subject]:
    from langfuse import Langfuse  # type: ignore[import-not-found]

    client = Langfuse(base_url=url, should_export_span=lambda span: True, **KEYS)  # noqa: ARG005
    return client, Subject(_by_plain_calls(trace.get_tracer_provider()), client.flush)


def langfuse(url: str) -> Subject:
    """The official SDK, with its context managers."""
    client, plain = _langfuse(url)
    from langfuse import propagate_attributes

    def observation(chat: Chat, step: int) -> Any:
        name, kind = STEPS[step]
        more = {"model": "gpt-4o-mini", "model_parameters": PARAMETERS} if kind == "generation" else {}
        return client.start_as_current_observation(name=name, as_type=kind, input=messages_of(chat, step), **more)

    def w1(count: int) -> None:
        for chat in _chats(count):
            with propagate_attributes(user_id=chat.user, session_id=chat.session, tags=TAGS), observation(chat, 0) as root:
                _answer(root, chat, 0)
                for step in range(1, len(STEPS)):
                    with observation(chat, step) as span:
                        _answer(span, chat, step)

    def w2(count: int) -> None:
        for _ in range(count):
            client.start_observation(name="tiny").end()

    def w3(count: int) -> None:
        for i in range(count):
            with client.start_as_current_observation(name="large", input=LARGE[i % len(LARGE)]):
                pass

    return plain._replace(make={**plain.make, "W1": w1, "W2": w2, "W3": w3})


def langfuse_observe(url: str) -> Subject:
    """The official SDK, with its decorator."""
    client, plain = _langfuse(url)
    from langfuse import observe, propagate_attributes

    return plain._replace(make={**plain.make, **_decorated(observe, propagate_attributes, client.update_current_generation)})


def logfire(url: str) -> Subject:
    import logfire as library  # type: ignore[import-not-found]

    library.configure(
        token="benchmark",
        send_to_logfire=True,
        console=False,
        metrics=False,
        inspect_arguments=False,
        advanced=library.AdvancedOptions(base_url=url),
    )

    def attributes(chat: Chat, step: int) -> dict[str, Any]:
        more = {"model": "gpt-4o-mini", "model_parameters": PARAMETERS} if STEPS[step][1] == "generation" else {}
        return {"kind": STEPS[step][1], "input": messages_of(chat, step), **more}

    def answer(span: Any, chat: Chat, step: int) -> None:
        span.set_attribute("output", output_of(chat, step))
        if STEPS[step][1] == "generation":
            span.set_attribute("usage", USAGE)

    def w1(count: int) -> None:
        for chat in _chats(count):
            with (
                library.set_baggage(user_id=chat.user, session_id=chat.session),
                library.span("rag", _tags=TAGS, **attributes(chat, 0)) as root,
            ):
                answer(root, chat, 0)
                for step in range(1, len(STEPS)):
                    with library.span(STEPS[step][0], **attributes(chat, step)) as span:
                        answer(span, chat, step)

    def w2(count: int) -> None:
        for _ in range(count):
            with library.span("tiny"):
                pass

    make = {"W1": w1, "W2": w2, "W4": _by_plain_calls(trace.get_tracer_provider())["W4"]}
    return Subject(make, lambda: library.force_flush(30_000))


def traceloop(url: str) -> Subject:
    from traceloop.sdk import Traceloop  # type: ignore[import-not-found]
    from traceloop.sdk.decorators import task, workflow  # type: ignore[import-not-found]

    Traceloop.init(app_name="benchmark", api_endpoint=url, telemetry_enabled=False, instruments=set())

    def step_of(step: int) -> Callable[[Any], dict[str, str]]:
        def function(messages: Any) -> dict[str, str]:  # noqa: ARG001 - it is recorded
            if STEPS[step][1] == "generation":
                span = trace.get_current_span()
                span.set_attributes({"gen_ai.request.model": "gpt-4o-mini", "gen_ai.usage.input_tokens": 512})
            return output_of(current[0], step)

        decorated: Callable[[Any], dict[str, str]] = task(name=STEPS[step][0])(function)
        return decorated

    below = [step_of(step) for step in range(1, len(STEPS))]

    @workflow(name="rag")
    def rag(messages: Any) -> dict[str, str]:  # noqa: ARG001
        for step, function in enumerate(below, 1):
            function(messages_of(current[0], step))
        return output_of(current[0], 0)

    current = [CHATS[0]]

    def w1(count: int) -> None:
        for chat in _chats(count):
            current[0] = chat
            Traceloop.set_association_properties({"user_id": chat.user, "session_id": chat.session})
            rag(messages_of(chat, 0))

    @task(name="tiny")
    def tiny() -> None:
        pass

    def w2(count: int) -> None:
        for _ in range(count):
            tiny()

    provider: Any = trace.get_tracer_provider()
    make = {"W1": w1, "W2": w2, "W4": _by_plain_calls(provider)["W4"]}
    return Subject(make, lambda: provider.force_flush(30_000))


def openinference(url: str) -> Subject:
    from openinference.instrumentation import using_attributes  # type: ignore[import-not-found]
    from phoenix.otel import register  # type: ignore[import-not-found]

    provider = register(endpoint=f"{url}/v1/traces", protocol="http/protobuf", batch=True, verbose=False)
    tracer = provider.get_tracer("benchmark", "1.0")
    kinds = {"chain": "chain", "retriever": "retriever", "tool": "tool", "generation": "llm"}

    def record(span: Any, chat: Chat, step: int) -> None:
        span.set_input(messages_of(chat, step))
        span.set_output(output_of(chat, step))
        if STEPS[step][1] == "generation":
            span.set_attributes(
                {"llm.model_name": "gpt-4o-mini", "llm.token_count.prompt": 512, "llm.token_count.completion": 230}
            )

    def w1(count: int) -> None:
        for chat in _chats(count):
            with (
                using_attributes(user_id=chat.user, session_id=chat.session, tags=TAGS),
                tracer.start_as_current_span("rag", openinference_span_kind="chain") as root,
            ):
                record(root, chat, 0)
                for step in range(1, len(STEPS)):
                    kind = kinds[STEPS[step][1]]
                    with tracer.start_as_current_span(STEPS[step][0], openinference_span_kind=kind) as span:
                        record(span, chat, step)

    return Subject({**_by_plain_calls(provider), "W1": w1}, lambda: provider.force_flush(30_000))


SUBJECTS: Mapping[str, Callable[[str], Subject]] = {
    "OpenTelemetry": stock,
    "OpenTelemetry, gzip": lambda url: stock(url, compressed=True),
    "ours, plain calls": ours_plain,
    "ours, plain calls, uncompressed": lambda url: ours_plain(url, "none"),
    "ours": ours,
    "ours, observe": ours_observe,
    "ours, dialect": ours_dialect,
    "ours, ingestion": ours_ingestion,
    "ours, plain calls, ingestion": ours_plain_ingestion,
    "langfuse": langfuse,
    "langfuse, observe": langfuse_observe,
    "logfire": logfire,
    "traceloop": traceloop,
    "openinference": openinference,
}
"""Name -> what sets it up for a sink at this URL. One of them in a process."""

PEERS: Mapping[str, tuple[str, ...]] = {
    "langfuse": ("langfuse==5.0.4",),
    "langfuse, observe": ("langfuse==5.0.4",),
    "logfire": ("logfire==5.2.0",),
    "traceloop": ("traceloop-sdk==0.62.4", "httpx"),  # which it imports without declaring it
    "openinference": ("openinference-instrumentation==0.1.72", "arize-phoenix-otel==0.17.2"),
}
"""Those that need an environment of their own, with what is installed there."""
