"""Several Langfuse projects on one TracerProvider: a span reaches the project that it belongs to, and no other. Real servers."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_langfuse import (
    Client,
    ConfigError,
    Langfuse,
    LangfuseSpanProcessor,
    configure,
    get_client,
    project,
    propagate_attributes,
    propagation,
    start_as_current_observation,
)
from otel_langfuse import flush as flush_all
from otel_langfuse.client import find
from otel_langfuse.pipeline.route import Route, checked_route, named_by, reason
from servers import Server, hang

THIRD_PARTY = "opentelemetry.instrumentation.openai_v2"


class Tenants:
    """One provider, and for each tenant a server, a client and a key of its own."""

    def __init__(self, *names: str, **settings: Any) -> None:
        self.stack = ExitStack()
        self.servers = {name: self.stack.enter_context(Server()) for name in names}
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.tracer = self.provider.get_tracer(THIRD_PARTY)
        self.clients: dict[str, Client] = {}
        for name in names:
            self.add(name, project=name, **settings)

    def add(self, name: str, **settings: Any) -> Client:
        keys = {"public_key": f"pk-{name}", "secret_key": f"sk-{name}", "base_url": self.servers[name].url}
        self.clients[name] = configure(tracer_provider=self.provider, **{**keys, **settings})
        return self.clients[name]

    def span(self, name: str, **options: Any) -> None:
        self.tracer.start_span(name, **options).end()

    def arrived(self) -> dict[str, list[str]]:
        for client in self.clients.values():
            assert client.flush(10)
        return {name: sorted(server.names) for name, server in self.servers.items()}

    def stats(self, name: str) -> dict[str, int]:
        return dict(self.clients[name].stats().dropped)

    def __enter__(self) -> Tenants:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self.clients.values():
            client.shutdown(1)
        self.stack.close()


@pytest.fixture
def two() -> Iterator[Tenants]:
    with Tenants("a", "b") as tenants:
        yield tenants


# -- by context --------------------------------------------------------------------------------------------------------


def test_a_span_goes_to_the_project_that_its_context_names_by_name_or_by_public_key(two: Tenants) -> None:
    with project("a"):
        two.span("first")
    with project("pk-b"):
        two.span("second")
    assert two.arrived() == {"a": ["first"], "b": ["second"]}
    assert two.stats("a") == two.stats("b") == {"other_project": 1}


def test_the_context_that_a_span_starts_in_counts_not_the_one_that_it_ends_in(two: Tenants) -> None:
    with project("a"):
        span = two.tracer.start_span("began in a")
        with project("b"):
            span.end()
    assert two.arrived() == {"a": ["began in a"], "b": []}


def test_the_context_wins_over_the_parents_project_and_the_parents_over_none(two: Tenants) -> None:
    with project("a"):
        parent = two.tracer.start_span("parent")
        within = trace.set_span_in_context(parent)
        with project("b"):
            two.span("child in b", context=trace.set_span_in_context(parent))
    bare = trace.set_span_in_context(parent, otel_context.Context())  # as instrumentations do in threads of their own
    two.span("child of a", context=bare)
    two.span("child in a", context=within)
    parent.end()
    assert two.arrived() == {"a": ["child in a", "child of a", "parent"], "b": ["child in b"]}


def test_a_parent_from_another_service_names_no_project(two: Tenants) -> None:
    with project("a"):
        sent = trace.set_span_in_context(trace.NonRecordingSpan(two.tracer.start_span("a").get_span_context()))
        gc.collect()
    two.span("called", context=trace.set_span_in_context(trace.get_current_span(sent), otel_context.Context()))
    assert two.arrived() == {"a": [], "b": []}
    assert two.stats("a") == two.stats("b") == {"no_project": 1}


def test_no_span_of_one_tenant_reaches_another_under_threads_and_tasks() -> None:
    names = [f"tenant-{number}" for number in range(4)]

    def request(tenants: Tenants, tenant: str, number: int) -> None:
        with (
            project(tenant),
            propagate_attributes(user_id=f"user of {tenant}"),
            tenants.tracer.start_as_current_span(f"{tenant} request"),
        ):
            other = names[(names.index(tenant) + 1) % 4]
            with project(other):
                tenants.span(f"{other} call {number}")
            tenants.span(f"{tenant} call {number}")

    async def task(tenants: Tenants, tenant: str, number: int) -> None:
        with project(tenant), tenants.tracer.start_as_current_span(f"{tenant} task"):
            await asyncio.sleep(0.0001 * (number % 7))
            await asyncio.gather(*(inner(tenants, tenant, part) for part in range(3)))
            await asyncio.to_thread(tenants.span, f"{tenant} in a thread")

    async def inner(tenants: Tenants, tenant: str, part: int) -> None:
        await asyncio.sleep(0.0001 * part)
        tenants.span(f"{tenant} part {part}")

    async def all_tasks(tenants: Tenants) -> None:
        await asyncio.gather(*(task(tenants, names[number % 4], number) for number in range(100)))

    with Tenants(*names) as tenants:
        loops = threading.Thread(target=lambda: asyncio.run(all_tasks(tenants)))
        loops.start()
        with ThreadPoolExecutor(8) as pool:
            done = [pool.submit(request, tenants, names[number % 4], number) for number in range(400)]
        assert [future.exception() for future in done] == [None] * 400
        loops.join()
        arrived = tenants.arrived()
        for tenant, received in arrived.items():
            assert len(received) == 3 * 100 + 5 * 25
            assert {name.split()[0] for name in received} == {tenant}
        for name in names:
            stats = tenants.clients[name].stats()
            assert stats.started == 1200 + 500
            assert stats.dropped == {"other_project": 1700 - 425}


def test_a_pool_takes_the_project_along_where_it_is_given_the_context(two: Tenants) -> None:
    with ThreadPoolExecutor(1) as pool, project("a"):
        pool.submit(contextvars.copy_context().run, two.span, "handed on").result()
        pool.submit(two.span, "in a bare thread").result()
    assert two.arrived() == {"a": ["handed on"], "b": []}
    assert two.stats("a") == {"no_project": 1}


def test_a_stream_that_is_closed_in_another_context_logs_no_error(two: Tenants, caplog: pytest.LogCaptureFixture) -> None:
    def stream() -> Iterator[int]:
        with project("a"):
            yield 1
            yield 2

    generator = stream()
    contextvars.copy_context().run(next, generator)
    contextvars.copy_context().run(generator.close)  # type: ignore[attr-defined]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("name", [None, 7, "", "  ", "a" * 201, object()])
def test_what_is_no_name_is_nobodys_project_and_never_everybodys(two: Tenants, name: Any) -> None:
    two.add("a", project="a")
    with project("a"), project(name):
        two.span("of nobody")
    assert two.arrived() == {"a": [], "b": []}


def test_a_name_that_nobody_has_is_sent_to_nobody_with_one_line_for_all_clients(
    two: Tenants, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(5):
        with project("tenat-a"):
            two.span(f"slip {number}")
    assert two.arrived() == {"a": [], "b": []}
    assert two.stats("a") == two.stats("b") == {"no_project": 5}
    lines = [record.getMessage() for record in caplog.records if "no_project" in record.getMessage()]
    assert len(lines) == 1
    assert "check project() and route=" in lines[0]


def test_nothing_is_kept_of_spans_that_are_gone(two: Tenants) -> None:
    gc.collect()
    with project("a"):
        before = len(propagation.projects)
        for _ in range(1000):
            two.tracer.start_span("never ended")
        held = two.tracer.start_span("held")
    gc.collect()
    assert len(propagation.projects) == before + 1
    held.end()
    del held
    gc.collect()
    assert len(propagation.projects) == before


# -- without a project ---------------------------------------------------------------------------------------------------


def test_one_client_without_a_name_gets_everything_and_another_projects_spans_do_not(caplog: pytest.LogCaptureFixture) -> None:
    with Tenants() as tenants, Server() as server:
        tenants.servers["a"] = server
        tenants.add("a")
        tenants.span("plain")
        with project("pk-a"):
            tenants.span("by key")
        with project("somebody else"):
            tenants.span("not mine")
        assert tenants.arrived() == {"a": ["by key", "plain"]}
        assert tenants.stats("a") == {"no_project": 1}


def test_two_clients_without_names_share_nothing_by_accident_and_one_line_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with Tenants() as tenants, Server() as one, Server() as other:
        tenants.servers |= {"a": one, "b": other}
        tenants.add("a")
        tenants.span("alone")
        tenants.add("b")
        tenants.span("whose?")
        with project("pk-b"):
            tenants.span("b's")
        assert tenants.arrived() == {"a": ["alone"], "b": ["b's"]}
        assert tenants.stats("a") == {"no_project": 1, "other_project": 1}
        assert caplog.text.count("give one client default=True") == 1


def test_what_belongs_to_no_project_goes_to_the_client_that_is_the_default() -> None:
    with Tenants("a") as tenants, Server() as rest:
        tenants.servers["rest"] = rest
        tenants.add("rest", default=True)
        tenants.span("startup")
        with project("a"):
            tenants.span("a's")
        assert tenants.arrived() == {"a": ["a's"], "rest": ["startup"]}
        assert tenants.stats("a") == {"other_project": 1}


def test_a_named_client_alone_gets_only_its_own(two: Tenants) -> None:
    with Tenants("only") as tenants:
        tenants.span("of nobody")
        assert tenants.arrived() == {"only": []}
        assert tenants.stats("only") == {"no_project": 1}


def test_processors_that_were_added_by_hand_know_of_each_other_too() -> None:
    with Server() as one, Server() as other:
        provider = TracerProvider(shutdown_on_exit=False)
        processors = [
            LangfuseSpanProcessor(public_key=key, secret_key="sk", base_url=server.url)
            for key, server in (("pk-a", one), ("pk-b", other))
        ]
        for processor in processors:
            provider.add_span_processor(processor)
        tracer = provider.get_tracer(THIRD_PARTY)
        tracer.start_span("whose?").end()
        with project("pk-a"):
            tracer.start_span("a's").end()
        assert provider.force_flush()
        assert (one.names, other.names) == (["a's"], [])
        provider.shutdown()


def test_a_client_that_comes_while_a_span_is_open_does_not_get_it() -> None:
    with Tenants() as tenants, Server() as one, Server() as other:
        tenants.servers |= {"a": one, "b": other}
        tenants.add("a")
        span = tenants.tracer.start_span("open")
        tenants.add("b")
        span.end()
        assert tenants.arrived()["b"] == []


@pytest.mark.parametrize("shared", [True, False], ids=["one resource", "two resources"])
def test_clients_on_providers_of_their_own_do_not_hinder_each_other(shared: bool) -> None:
    resource = Resource({"service.name": "shop"})
    with Server() as one, Server() as other:
        clients = []
        for key, server in (("pk-a", one), ("pk-b", other)):
            provider = TracerProvider(resource=resource if shared else None, shutdown_on_exit=False)
            clients.append(configure(tracer_provider=provider, public_key=key, secret_key="sk", base_url=server.url))
            provider.get_tracer(THIRD_PARTY).start_span(key).end()
        assert all(client.flush(10) for client in clients)
        assert (one.names, other.names) == (["pk-a"], ["pk-b"])
        for client in clients:
            client.shutdown(1)


def test_without_the_private_slot_resources_tell_providers_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    real = TracerProvider(shutdown_on_exit=False)
    seen: list[Any] = []

    class Hidden(LangfuseSpanProcessor):
        """Sees spans as an SDK without that slot would show them."""

        def on_start(self, span: Any, parent_context: Any = None) -> None:
            slot = span.__dict__.pop("_span_processor")
            super().on_start(span, parent_context)
            span._span_processor = slot
            seen.append(span)

    with Server() as one, Server() as other:
        for key, server in (("pk-a", one), ("pk-b", other)):
            real.add_span_processor(Hidden(public_key=key, secret_key="sk", base_url=server.url))
        tracer = real.get_tracer(THIRD_PARTY)
        tracer.start_span("whose?").end()
        with project("pk-b"):
            tracer.start_span("b's").end()
        assert real.force_flush()
        assert len(seen) == 4
        assert (one.names, other.names) == ([], ["b's"])
        real.shutdown()


# -- destinations that are no project ------------------------------------------------------------------------------------


def test_collectors_stores_and_other_exporters_get_everything(two: Tenants, tmp_path: Any) -> None:
    ours, foreign = InMemorySpanExporter(), InMemorySpanExporter()
    collector = configure(ours, tracer_provider=two.provider)
    store = configure(base_url=f"sqlite:///{tmp_path}/all.db", tracer_provider=two.provider)
    two.provider.add_span_processor(SimpleSpanProcessor(foreign))
    with project("a"):
        two.span("a's")
    two.span("nobody's")
    assert two.arrived() == {"a": ["a's"], "b": []}
    assert collector.flush(5)
    assert store.flush(5)
    for exporter in (ours, foreign):
        assert [span.name for span in exporter.get_finished_spans()] == ["a's", "nobody's"]
        assert all(not span.attributes for span in exporter.get_finished_spans()), "nothing tells others of the tenants"
    assert store.stats().exported == 2
    collector.shutdown()
    store.shutdown()


def test_a_store_with_a_name_is_a_project(two: Tenants, tmp_path: Any) -> None:
    store = configure(base_url=f"sqlite:///{tmp_path}/c.db", tracer_provider=two.provider, project="c")
    with project("a"):
        two.span("a's")
    with project("c"):
        two.span("c's")
    assert store.flush(5)
    assert store.stats().exported == 1
    assert two.arrived() == {"a": ["a's"], "b": []}
    store.shutdown()


# -- by what is on the span ----------------------------------------------------------------------------------------------


def test_an_attribute_names_the_project_also_when_it_is_set_late_and_only_one_client_was_told() -> None:
    with Tenants("a", "b", default=False) as tenants, Server() as rest:
        tenants.servers["rest"] = rest
        tenants.add("rest", default=True, route="tenant.id")
        tenants.span("early", attributes={"tenant.id": "a"})
        late = tenants.tracer.start_span("late")
        late.set_attribute("tenant.id", "b")
        late.end()
        tenants.span("unknown", attributes={"tenant.id": "z"})
        tenants.span("odd", attributes={"tenant.id": 7})
        tenants.span("none")
        with project("b"):
            tenants.span("the context wins", attributes={"tenant.id": "a"})
        assert tenants.arrived() == {"a": ["early"], "b": ["late", "the context wins"], "rest": ["none"]}


def test_an_attribute_of_the_resource_names_the_project_of_all_its_spans() -> None:
    with Tenants("a", "b", route="tenant.id") as tenants:
        provider = TracerProvider(resource=Resource({"tenant.id": "b"}), shutdown_on_exit=False)
        for client in tenants.clients.values():
            provider.add_span_processor(client.processor)
        provider.get_tracer(THIRD_PARTY).start_span("b's").end()
        assert tenants.arrived() == {"a": [], "b": ["b's"]}


def test_a_function_names_the_project_and_where_it_raises_nobody_gets_the_span(caplog: pytest.LogCaptureFixture) -> None:
    def by_name(span: Any) -> str | None:
        if span.name == "broken":
            raise RuntimeError("SECRET")
        return span.name.partition(" ")[0]

    with Tenants("a", "b", route=by_name) as tenants, Server() as rest:
        tenants.servers["rest"] = rest
        tenants.add("rest", default=True)
        for name in ("a one", "b two", "broken"):
            tenants.span(name)
        assert tenants.arrived() == {"a": ["a one"], "b": ["b two"], "rest": []}
        assert tenants.stats("a") == {"other_project": 1, "no_project": 1}
        assert "route raised RuntimeError" in caplog.text
        assert "SECRET" not in caplog.text


# -- settings of one client are its own ----------------------------------------------------------------------------------


def test_environment_release_mask_sampling_and_filter_hold_for_one_client_alone() -> None:
    with Tenants() as tenants, Server() as one, Server() as other:
        tenants.servers |= {"a": one, "b": other}
        foreign = InMemorySpanExporter()
        tenants.add("a", default=True, environment="prod-a", release="1", mask=lambda _: "masked")
        tenants.add("b", default=True, environment="prod-b", should_export_span=lambda span: span.name == "kept")
        third = configure(foreign, tracer_provider=tenants.provider, environment="prod-c")
        tenants.span("kept")
        tenants.span("only a's")
        assert tenants.arrived() == {"a": ["masked", "masked"], "b": ["kept"]}
        assert third.flush(5)
        values = {attribute.key: attribute.value.string_value for span in other.taken[0].spans for attribute in span.attributes}
        assert values == {"langfuse.environment": "prod-b", "langfuse.internal.is_app_root": ""}
        assert b"prod-a" not in other.taken[0].body
        assert [dict(span.attributes or {}) for span in foreign.get_finished_spans()] == [{"langfuse.environment": "prod-c"}] * 2
        assert tenants.stats("b") == {"filtered": 1}
        third.shutdown()


# -- their life ----------------------------------------------------------------------------------------------------------


def test_one_of_several_is_shut_down_and_configured_anew_and_the_others_notice_nothing(two: Tenants) -> None:
    old = two.clients["a"]
    assert old.shutdown(5)
    with project("a"):
        two.span("meanwhile")
    new = two.add("a", project="a", flush_at=7)
    assert new is not old
    with project("a"):
        two.span("a's")
    with project("b"):
        two.span("b's")
    two.span("nobody's")
    assert two.arrived() == {"a": ["a's"], "b": ["b's"]}
    assert old.stats().dropped == {"after_shutdown": 1}
    assert len(two.provider._active_span_processor._span_processors) == 2, "it stands where the old one stood"


def test_when_one_of_two_unnamed_ends_the_other_does_not_get_what_is_nobodys() -> None:
    with Tenants() as tenants, Server() as one, Server() as other:
        tenants.servers |= {"a": one, "b": other}
        tenants.add("a")
        tenants.add("b")
        tenants.span("whose?")
        tenants.clients["a"].shutdown(5)
        configure(InMemorySpanExporter(), tracer_provider=tenants.provider)  # somebody who looks around anew
        tenants.span("still")
        assert tenants.clients["b"].flush(5)
        assert other.names == []


def test_a_project_after_another_that_has_ended_gets_everything() -> None:
    with Tenants() as tenants, Server() as one, Server() as other:
        tenants.servers |= {"a": one, "b": other}
        tenants.add("a").shutdown(5)
        tenants.add("b")
        tenants.span("plain")
        assert tenants.clients["b"].flush(5)
        assert other.names == ["plain"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_routes_as_its_parent_does(two: Tenants) -> None:
    with project("a"):
        span = two.tracer.start_span("open at the fork")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            span.end()
            with project("b"):
                two.span("child's")
            code = 0 if all(client.flush(10) for client in two.clients.values()) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with project("b"):
        two.span("parent's")
    assert two.arrived() == {"a": ["open at the fork"], "b": ["child's", "parent's"]}


def test_flush_of_all_delivers_what_it_can_while_one_server_hangs() -> None:
    with Server(hang) as stuck, Server() as fine:
        provider = TracerProvider(shutdown_on_exit=False)
        clients = [
            configure(tracer_provider=provider, public_key=key, secret_key="sk", base_url=server.url, default=True)
            for key, server in (("pk-stuck", stuck), ("pk-fine", fine))
        ]
        provider.get_tracer(THIRD_PARTY).start_span("x").end()
        assert not flush_all(2)
        assert fine.names == ["x"]
        assert clients[1].stats().exported == 1
        for client in clients:
            client.shutdown(0.1)


# -- which client ----------------------------------------------------------------------------------------------------------


def test_the_client_goes_by_name_by_context_by_default_and_never_makes_one_of_a_slip(
    two: Tenants, caplog: pytest.LogCaptureFixture
) -> None:
    assert find("a") is find("pk-a") is two.clients["a"]
    with project("b"):
        assert find() is two.clients["b"]
        assert find("a") is two.clients["a"]
    nobody = find("pk-c")
    assert nobody not in two.clients.values()
    assert nobody.flush(1)
    assert nobody.stats().started == 0
    assert "there is no client of this name" in caplog.text
    with project("a"):
        two.span("still works")
    assert two.arrived()["a"] == ["still works"]


# -- the rule itself -------------------------------------------------------------------------------------------------------

A = Route("A", frozenset({"a"}))
B = Route("B", frozenset({"b"}))
NAMED = Route("A", frozenset({"a"}), is_named=True)
DEFAULT = Route("D", frozenset({"d"}), is_default=True)
NEVER = Route("N", frozenset({"n"}), is_default=False)
COLLECTOR = Route()


@pytest.mark.parametrize(
    ("mine", "others", "name", "alone", "expected"),
    [
        (COLLECTOR, (A, B), "a", False, None),
        (COLLECTOR, (A, B), None, False, None),
        (A, (), None, True, None),
        (A, (COLLECTOR,), None, True, None),
        (A, (B,), None, False, "no_project"),
        (A, (DEFAULT,), None, False, "other_project"),
        (NAMED, (), None, True, "no_project"),
        (NEVER, (), None, True, "no_project"),
        (DEFAULT, (A,), None, False, None),
        (DEFAULT, (A,), "a", False, "other_project"),
        (DEFAULT, (A,), "z", False, "no_project"),
        (A, (B,), "a", False, None),
        (A, (B,), "b", False, "other_project"),
        (A, (), "b", True, "no_project"),
        (A, (), "", True, "no_project"),
    ],
)
def test_the_rule(mine: Route, others: tuple[Route, ...], name: str | None, alone: bool, expected: str | None) -> None:
    found = reason(mine, (mine, *others), name, alone=alone)
    assert (found and found.value) == expected


@pytest.mark.parametrize(
    "settings",
    [{"project": 7}, {"project": ""}, {"project": "x" * 201}, {"default": "yes"}, {"route": 7}, {"route": ""}, {"route": b"k"}],
)
def test_settings_that_cannot_work_are_refused_at_construction(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(ConfigError, match=rf"^{name}="):
        LangfuseSpanProcessor(InMemorySpanExporter(), **settings)


def test_what_an_attribute_says_and_is_no_name_is_nobodys() -> None:
    (span,) = [TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span("s", attributes={"k": 7, "e": "", "n": "a"})]
    ways: list[tuple[tuple[Any, ...], str | None]] = [
        (("k",), ""),
        (("e",), ""),
        (("n",), "a"),
        (("z",), None),
        (("z", "n"), "a"),
    ]
    assert [named_by(keys, span) for keys, _ in ways] == [expected for _, expected in ways]
    nowhere: Callable[[Any], Any] = lambda _: object()  # noqa: E731
    assert named_by((nowhere,), span) == ""
    assert checked_route(project="p", default=None, route=None, destination=None, public_key="").identity == "p"


# -- by the handles of a client ------------------------------------------------------------------------------------------------


@pytest.fixture
def handles(two: Tenants) -> tuple[Langfuse, Langfuse]:
    configure(InMemorySpanExporter(), tracer_provider=two.provider)  # whose provider observations are recorded with
    return get_client(public_key="a"), get_client(public_key="pk-b")


def test_what_a_handle_records_is_of_its_clients_project_whatever_the_context_says(
    two: Tenants, handles: tuple[Langfuse, Langfuse]
) -> None:
    a, b = handles
    with project("b"), a.start_as_current_observation(name="a's current"):
        two.span("a's call")
    with b.start_as_current_generation(name="b's current") as current:
        two.span("b's call")
        current.start_observation("b's child").end()
        trace_a = a.trace(name="a's trace", id="order-17")
        trace_a.span(name="a's span").end()
        a.start_observation(name="a's own").end()
        a.create_event(name="a's event")
        a.start_span(name="a's plain").end()
        trace_a.end()
    two.span("nobody's")
    assert two.arrived() == {
        "a": sorted(["a's current", "a's call", "a's trace", "a's span", "a's own", "a's event", "a's plain"]),
        "b": sorted(["b's current", "b's call", "b's child"]),
    }


def test_two_projects_may_call_different_things_by_one_id(two: Tenants, handles: tuple[Langfuse, Langfuse]) -> None:
    a, b = handles
    one, other = a.trace(id="order-17", name="a's"), b.trace(id="order-17", name="b's")
    a.trace(id="order-17", user_id="of a")
    a.span(trace_id="order-17", name="below a's").end()
    other.end()
    one.end()
    assert two.arrived() == {"a": ["a's", "below a's"], "b": ["b's"]}
    assert all(b"of a" not in received.body for received in two.servers["b"].received)
    assert any(b"of a" in received.body for received in two.servers["a"].received)


def test_a_handle_that_a_slip_asked_for_sends_nothing_and_raises_nothing(
    two: Tenants, handles: tuple[Langfuse, Langfuse]
) -> None:
    nobody = get_client(public_key="pk-tenat")
    rest = configure(InMemorySpanExporter(), tracer_provider=two.provider, project="rest", default=True)
    nobody.trace(name="t").span(name="s").end()
    with nobody.start_as_current_observation(name="o"):
        two.span("call")
    assert nobody.score(name="n", value=1, trace_id="t") is None
    assert nobody.flush(1)
    assert nobody.shutdown(1)
    assert two.arrived() == {"a": [], "b": []}
    assert rest.stats().exported == 0
    rest.shutdown()


def test_a_score_goes_to_the_project_of_what_it_is_for(two: Tenants, handles: tuple[Langfuse, Langfuse]) -> None:
    with project("a"), start_as_current_observation("answer") as observation, project("b"):
        observation.score(name="quality", value=1)
    handles[1].create_score(name="of b", value=1, trace_id="t")
    for client in two.clients.values():
        assert client.flush(10)
    scored = {
        name: [r.body for r in server.received if r.path != "/api/public/otel/v1/traces"] for name, server in two.servers.items()
    }
    assert b"quality" in b"".join(scored["a"])
    assert b"of b" not in b"".join(scored["a"])
    assert b"of b" in b"".join(scored["b"])
    assert b"quality" not in b"".join(scored["b"])
