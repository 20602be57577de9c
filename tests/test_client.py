from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_langfuse
from otel_langfuse import configure
from servers import Server

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
            from otel_langfuse import configure
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
            from otel_langfuse import configure
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
        from otel_langfuse import configure
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
        third = configure(base_url=server.url, tracer_provider=provider, sample_rate=0.5, mask=str.upper, **KEYS)
        assert third is first
        assert len(caplog.records) == 1
        assert "these settings are ignored: mask, sample_rate" in caplog.text
        provider.get_tracer("t").start_span("a").end()
        assert first.flush(5)
        assert server.names == ["a"]
        first.shutdown()


def test_two_destinations_get_each_span_once() -> None:
    with Server() as one, Server() as two:
        provider = TracerProvider(shutdown_on_exit=False)
        clients = [configure(base_url=server.url, tracer_provider=provider, **KEYS) for server in (one, two)]
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
