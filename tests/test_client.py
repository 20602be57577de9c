from __future__ import annotations

import inspect
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_langfuse
from otel_langfuse import ConfigError, LangfuseSpanProcessor, configure, project
from servers import Server

pytestmark = pytest.mark.usefixtures("every_span")

KEYS = {"public_key": "pk-lf-1", "secret_key": "sk-lf-SECRET"}


def run(script: str, *arguments: str) -> list[str]:
    """The lines that a program of its own prints: what is global is set once per process."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=env,
    )
    assert done.returncode == 0, done.stderr
    return (done.stdout + done.stderr).splitlines()


def test_where_there_is_no_provider_it_makes_one() -> None:
    with Server() as server:
        lines = run(
            """
            import sys
            from opentelemetry import trace
            from otel_langfuse import ConfigError, configure
            client = configure(base_url=sys.argv[1], public_key="pk", secret_key="sk")
            with trace.get_tracer("app").start_as_current_span("a"):
                pass
            print(client.flush(5), client.stats())
            print(type(trace.get_tracer_provider()).__name__, client.shutdown())
            """,
            server.url,
        )
        assert lines == ["True Stats(started=1, exported=1, queued=0, dropped={}, spooled=0)", "TracerProvider True"]
        assert server.names == ["a"]


def test_it_joins_the_provider_that_the_application_has_set_and_tracers_that_exist() -> None:
    with Server() as server:
        lines = run(
            """
            import sys
            from opentelemetry import trace
            from opentelemetry.sdk.trace import TracerProvider
            early = trace.get_tracer("early")
            provider = TracerProvider()
            trace.set_tracer_provider(provider)
            from otel_langfuse import ConfigError, configure
            client = configure(base_url=sys.argv[1], public_key="pk", secret_key="sk")
            early.start_span("a").end()
            print(trace.get_tracer_provider() is provider)
            """,
            server.url,
        )
        assert lines == ["True"]
        assert server.names == ["a"], "delivered at the end of the interpreter"


def test_a_provider_that_is_not_the_sdks_gets_one_warning_and_raises_nothing() -> None:
    lines = run("""
        from opentelemetry import trace
        class Foreign(trace.TracerProvider):
            def get_tracer(self, *args, **kwargs): return trace.NoOpTracer()
        trace.set_tracer_provider(Foreign())
        from otel_langfuse import ConfigError, configure
        client = configure(base_url="http://127.0.0.1:1", public_key="pk", secret_key="sk")
        trace.get_tracer("t").start_span("a").end()
        print(client.flush(1), client.shutdown())
    """)
    assert lines[0] == "True True"
    assert len(lines) == 2
    assert "the TracerProvider is __main__.Foreign, which takes no span processors" in lines[1]


def test_twice_for_the_same_destination_is_once(caplog: pytest.LogCaptureFixture) -> None:
    with Server() as server:
        provider = TracerProvider(shutdown_on_exit=False)
        first = configure(base_url=server.url, tracer_provider=provider, **KEYS)
        second = configure(base_url=server.url + "/", tracer_provider=provider, **KEYS)
        assert first is second
        assert not caplog.records
        provider.get_tracer("t").start_span("a").end()
        assert first.flush(5)
        assert server.names == ["a"]
        first.shutdown()


def test_two_destinations_get_each_span_once() -> None:
    with Server() as one, Server() as two:
        provider = TracerProvider(shutdown_on_exit=False)
        clients = [configure(base_url=server.url, tracer_provider=provider, default=True, **KEYS) for server in (one, two)]
        provider.get_tracer("t").start_span("a").end()
        assert all(client.flush(5) for client in clients)
        assert one.names == two.names == ["a"]
        for client in clients:
            client.shutdown()


def test_any_exporter_is_a_destination() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    exporter = InMemorySpanExporter()
    client = configure(exporter, tracer_provider=provider)
    assert configure(exporter, tracer_provider=provider) is client
    provider.get_tracer("t").start_span("a").end()
    assert client.flush(5)
    assert len(exporter.get_finished_spans()) == 1
    client.shutdown()


@pytest.mark.parametrize("by", ["client", "provider"])
def test_after_shutdown_it_makes_a_new_one(by: str) -> None:
    with Server() as server:
        provider = TracerProvider(shutdown_on_exit=False)
        first = configure(base_url=server.url, tracer_provider=provider, **KEYS)
        assert first.shutdown() if by == "client" else provider.shutdown() is None
        second = configure(base_url=server.url, tracer_provider=provider, **KEYS)
        assert second is not first
        provider.get_tracer("t").start_span("a").end()
        assert second.flush(5)
        assert server.names == ["a"]
        second.shutdown()


# -- settings that contradict each other -------------------------------------------------------------------------------


@pytest.fixture
def provider() -> Iterator[TracerProvider]:
    made = TracerProvider(shutdown_on_exit=False)
    yield made
    made.shutdown()


def test_other_settings_for_the_same_destination_are_an_error_that_names_both_places(provider: TracerProvider) -> None:
    with Server() as server:
        here = inspect.currentframe()
        assert here is not None
        first_line = here.f_lineno + 1
        first = configure(base_url=server.url, tracer_provider=provider, flush_interval=2, **KEYS)
        other = {"public_key": KEYS["public_key"], "secret_key": "sk-lf-OTHER", "base_url": server.url}
        with pytest.raises(ConfigError) as raised:
            configure(tracer_provider=provider, sample_rate=0.5, mask=str.upper, project="p", **other)
        text = str(raised.value)
        assert f"{__file__}:{first_line}" in text
        assert f"{__file__}:{first_line + 3}" in text
        assert "mask, project, secret_key, sample_rate; expected" in text
        assert "SECRET" not in text
        assert "OTHER" not in text
        provider.get_tracer("t").start_span("a").end()
        assert first.flush(5)
        assert server.names == ["a"], "the first one goes on"


def test_of_two_processors_by_hand_for_one_project_the_first_sends_and_both_places_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Server() as server, Server() as elsewhere:
        here = inspect.currentframe()
        assert here is not None
        mine = TracerProvider(shutdown_on_exit=False)
        line = here.f_lineno + 1
        first = LangfuseSpanProcessor(base_url=server.url, mask=lambda text: text.replace("TOPSECRET", "***"), **KEYS)
        second = LangfuseSpanProcessor(base_url=server.url, **KEYS)
        other = LangfuseSpanProcessor(base_url=elsewhere.url, public_key="pk-lf-2", secret_key="sk-lf-2", default=True)
        first_default = mine.get_tracer("t")
        mine.add_span_processor(first)
        running = first_default.start_span("begun before")
        mine.add_span_processor(second)
        running.end()
        for name in ("a", "TOPSECRET"):
            mine.get_tracer("t").start_span(name).end()
        (told,) = [one.getMessage() for one in caplog.records if "for the same project" in one.getMessage()]
        assert f"made at {__file__}:{line} and at {__file__}:{line + 1}" in told
        assert first.force_flush()
        assert second.force_flush()
        assert sorted(server.names) == ["***", "a", "begun before"]
        assert second.stats()[:5] == (3, 0, 0, {"double": 3}, 0)

        mine.add_span_processor(other)  # now nothing that names no project is for the first two
        mine.get_tracer("t").start_span("of the default").end()
        with project(KEYS["public_key"]):
            mine.get_tracer("t").start_span("of its own").end()
        assert first.force_flush()
        assert sorted(server.names)[-1] == "of its own"
        assert second.stats().dropped == {"double": 4, "other_project": 1}

        first.shutdown(2_000)
        with project(KEYS["public_key"]):
            mine.get_tracer("t").start_span("when the first has ended").end()
        assert second.force_flush()
        assert server.names[-1] == "when the first has ended"
        for processor in (second, other):
            processor.shutdown(2_000)
        assert sum("for the same project" in one.getMessage() for one in caplog.records) == 1


def test_two_processors_for_one_project_under_two_names_each_get_their_own() -> None:
    with Server() as server:
        mine = TracerProvider(shutdown_on_exit=False)
        both = [LangfuseSpanProcessor(base_url=server.url, project=name, **KEYS) for name in ("a", "b")]
        for processor in both:
            mine.add_span_processor(processor)
        for name in ("a", "b", KEYS["public_key"]):
            with project(name):
                mine.get_tracer("t").start_span(f"of {name}").end()
        assert [processor.force_flush() for processor in both] == [True, True]
        assert sorted(server.names) == ["of a", "of b", f"of {KEYS['public_key']}"]
        for processor in both:
            processor.shutdown(2_000)


@pytest.mark.parametrize("how", ["get_client", "Langfuse"])
def test_a_client_beside_a_processor_by_hand_leads_to_it_also_for_what_is_said_late(how: str) -> None:
    with Server() as server:
        lines = run(
            """
            import os, sys
            from opentelemetry import trace
            from opentelemetry.sdk.trace import TracerProvider
            from otel_langfuse import Langfuse, LangfuseSpanProcessor, get_client

            url, how = sys.argv[1:]
            os.environ |= {"LANGFUSE_PUBLIC_KEY": "pk-lf-1", "LANGFUSE_SECRET_KEY": "sk-lf-1", "LANGFUSE_BASE_URL": url}
            mine = LangfuseSpanProcessor(filter="all", mask=lambda text: text.replace("TOPSECRET", "***"))
            provider = TracerProvider()
            provider.add_span_processor(mine)
            trace.set_tracer_provider(provider)
            trace.get_tracer("t").start_span("by hand").end()
            client = get_client() if how == "get_client" else Langfuse(filter="!by hand")
            assert client.flush(10)
            assert mine.stats().exported == 1, mine.stats()  # although the client was first asked for when all was over
            span = client.span(name="TOPSECRET")
            span.end()
            assert client.flush(10)
            span.update(output="TOPSECRET late")
            span.score(name="helpful", value=1, comment="TOPSECRET")
            assert client.flush(10)
            assert mine.stats()[:5] == (3, 3, 0, {}, 0), mine.stats()
            span.update(output="later")
            client.shutdown()
            assert mine.stats()[:5] == (4, 4, 0, {}, 0), mine.stats()
            assert not mine.is_shut_down
            """,
            server.url,
            how,
        )
        sent = [name for received in server.taken if "/otel/" in received.path for name in received.names]
        assert sent == ["by hand", "***", "***", "***"]
        scores = [received.body for received in server.taken if received.path.endswith("/scores")]
        assert b'"comment":"***"' in b"".join(scores)
    assert [line for line in lines if "for the same project" not in line] == []
    assert len(lines) == (how == "Langfuse"), "who only asks for a client has made nothing twice"


def test_no_settings_at_all_contradict_nothing(provider: TracerProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server() as server:
        for name, value in {**KEYS, "base_url": server.url}.items():
            monkeypatch.setenv(f"LANGFUSE_{name.upper()}", value)
        client = configure(tracer_provider=provider, mask=str.upper)
        assert configure(tracer_provider=provider) is client
        assert configure(tracer_provider=provider, mask=None) is client
        with pytest.raises(ConfigError, match="other settings"):
            configure(tracer_provider=provider, flush_at=3)


def test_fewer_settings_contradict_nothing(provider: TracerProvider) -> None:
    with Server() as server:
        told = {**KEYS, "base_url": server.url, "tracer_provider": provider}
        client = configure(**told, mask=str.upper, flush_at=3, environment="prod")
        assert configure(**told) is client
        assert configure(**told, environment="prod", flush_interval=None) is client
        assert (client.config.environment, client.config.flush_at) == ("prod", 3)
        for other in ({"environment": "dev"}, {"mask": str.lower}, {"release": "r"}, {"flush_at": 512}):
            with pytest.raises(ConfigError, match=f"{next(iter(other))}; expected the same, fewer or none"):
                configure(**told, **other)


def test_a_notebooks_cell_that_is_run_again_makes_the_same_mask(provider: TracerProvider) -> None:
    def cell(word: str) -> Any:
        return configure(InMemory, tracer_provider=provider, mask=lambda data: data.replace(word, "***"))

    InMemory = InMemorySpanExporter()  # noqa: N806 - one exporter for both
    assert cell("secret") is cell("secret")
    with pytest.raises(ConfigError, match=": mask;"):
        cell("other")


def test_after_shutdown_other_settings_are_welcome_and_the_ended_processor_is_gone(
    provider: TracerProvider, caplog: pytest.LogCaptureFixture
) -> None:
    with Server() as server:
        for number in range(1, 6):
            client = configure(base_url=server.url, tracer_provider=provider, flush_at=number, **KEYS)
            provider.get_tracer("t").start_span(f"span {number}").end()
            assert client.shutdown(5)
        assert sorted(server.names) == [f"span {number}" for number in range(1, 6)]
        assert len(provider._active_span_processor._span_processors) == 1
        assert not caplog.records, "no processor that has ended counts what the next one sends"


def test_two_projects_of_one_server_cannot_have_one_name(provider: TracerProvider) -> None:
    with Server() as server, Server() as another:
        configure(base_url=server.url, tracer_provider=provider, project="a", public_key="pk-1", secret_key="sk")
        with pytest.raises(
            ConfigError, match=r"project='a': expected a name of its own at .*py:\d+; another project has it since .*py:\d+$"
        ):
            configure(base_url=server.url, tracer_provider=provider, project="a", public_key="pk-2", secret_key="sk")
        configure(base_url=another.url, tracer_provider=provider, project="a", public_key="pk-2", secret_key="sk")


# -- before anything is configured ---------------------------------------------------------------------------------------


def test_what_an_import_asked_for_does_not_lock_in_defaults() -> None:
    with Server() as server:
        lines = run(
            """
            import os, sys
            import otel_langfuse, otel_langfuse.client
            early = otel_langfuse.client.find()  # while a module is imported
            assert early.flush(1) and early.shutdown(1) and early.stats().started == 0 and not early.is_shut_down
            from opentelemetry import trace
            assert type(trace.get_tracer_provider()).__name__ == "ProxyTracerProvider", "nothing is set up yet"
            client = otel_langfuse.configure(
                base_url=sys.argv[1], public_key="pk", secret_key="sk", mask=lambda data: data.replace("TOPSECRET", "***")
            )
            assert client is early is otel_langfuse.client.find() is otel_langfuse.get_client().client
            trace.get_tracer("t").start_span("TOPSECRET").end()
            print(early.flush(5), early.stats().exported)
            """,
            server.url,
        )
        assert lines == ["True 1"]
        assert server.names == ["***"]


def test_what_an_import_has_used_gives_way_to_what_is_configured_also_with_another_key() -> None:
    with Server() as server, Server() as first:
        lines = run(
            """
            import os, sys
            os.environ.update(LANGFUSE_PUBLIC_KEY="pk-env", LANGFUSE_SECRET_KEY="sk", LANGFUSE_BASE_URL=sys.argv[2])
            import otel_langfuse, otel_langfuse.client
            from opentelemetry import trace
            early = otel_langfuse.client.find()
            assert early.processor.route.names == {"pk-env"}
            trace.get_tracer("t").start_span("before").end()
            client = otel_langfuse.configure(base_url=sys.argv[1], public_key="pk", secret_key="sk", sample_rate=1.0)
            assert client is early
            trace.get_tracer("t").start_span("after").end()
            joined = trace.get_tracer_provider()._active_span_processor._span_processors
            print(early.flush(5), early.stats().exported, len(joined))
            """,
            server.url,
            first.url,
        )
        assert lines == ["True 2 1"]
        assert (first.names, server.names) == (["before"], ["after"])


def test_a_wrong_environment_does_not_raise_out_of_what_is_used_before_configure() -> None:
    lines = run("""
        import os
        os.environ["LANGFUSE_FLUSH_AT"] = "abc"
        import otel_langfuse, otel_langfuse.client
        client = otel_langfuse.client.find()
        print(client.processor.sends, client.flush(1))
        print(client.processor.sends, client.shutdown(1), client.stats().started)
        try:
            otel_langfuse.configure()
        except otel_langfuse.ConfigError as error:
            print(error)
    """)
    assert lines[:2] == ["False True", "False True 0"]
    assert lines[2].startswith("LANGFUSE_FLUSH_AT='abc': expected")
    assert [line for line in lines[3:] if "nothing is sent: LANGFUSE_FLUSH_AT='abc'" in line] == lines[3:]
    assert len(lines) == 4


def test_a_disabled_client_stands_in_nobodys_way(provider: TracerProvider) -> None:
    with Server() as server:
        disabled = configure(base_url=server.url, tracer_provider=provider, enabled=False, **KEYS)
        provider.get_tracer("t").start_span("not recorded").end()
        assert disabled.flush(1)
        assert disabled.stats().started == 0
        enabled = configure(base_url=server.url, tracer_provider=provider, mask=str.upper, **KEYS)
        assert enabled is disabled, "the same handle works from now on"
        provider.get_tracer("t").start_span("recorded").end()
        assert enabled.flush(5)
        assert server.names == ["RECORDED"]


# -- the package's names -----------------------------------------------------------------------------------------------


def test_every_public_name_is_there() -> None:
    for name in otel_langfuse.__all__:
        assert getattr(otel_langfuse, name) is not None
    assert set(otel_langfuse.__all__) <= set(dir(otel_langfuse))
    with pytest.raises(AttributeError, match="nonsense"):
        _: Any = otel_langfuse.nonsense


def test_importing_the_package_loads_nothing_heavy_and_starts_no_thread() -> None:
    lines = run("""
        import sys
        import otel_langfuse
        print(sorted(m for m in sys.modules if m.split(".")[0] in ("opentelemetry", "urllib3", "requests", "orjson")))
        import opentelemetry.sdk.trace.export
        before = set(sys.modules)  # the oldest SDK loads asyncio itself
        from otel_langfuse import LangfuseSpanProcessor, LangfuseOTLPExporter
        heavy = ("requests", "asyncio", "rich", "click", "sqlite3", "urllib3", "ssl", "grpc", "otel_langfuse.translate")
        print([name for name in heavy if name in sys.modules and name not in before])
        import threading
        print(threading.active_count())
    """)
    assert lines == ["[]", "[]", "1"]
