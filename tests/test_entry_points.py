"""Zero code: what OpenTelemetry's agent finds of us by name, run by the real ``opentelemetry-instrument``."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult

from otel_langfuse import LangfuseSpanProcessor, configure, doubles, project
from otel_langfuse import client as client_module
from otel_langfuse.client import post_instrument
from otel_langfuse.exporters.entry_points import LangfuseIngestionTracesExporter, LangfuseTracesExporter
from otel_langfuse.store import Store
from servers import Server, multi_status, sdk_spans

pytestmark = pytest.mark.usefixtures("every_span")

SUCCESS, FAILURE = SpanExportResult.SUCCESS, SpanExportResult.FAILURE
AGENT = shutil.which("opentelemetry-instrument", path=str(Path(sys.executable).parent))
KEYS = {"LANGFUSE_PUBLIC_KEY": "pk-lf-1", "LANGFUSE_SECRET_KEY": "sk-lf-SECRET"}

# The SDK's own configurator by its entry point, as opentelemetry-distro has it (whose releases are pinned to one SDK each).
CONFIGURATOR = "[opentelemetry_configurator]\nsdk = opentelemetry.sdk._configuration:_OTelSDKConfigurator\n"

PLAIN = """
from opentelemetry import trace
with trace.get_tracer("app").start_as_current_span("hello"):
    print("the application runs")
"""

PROPAGATING = """
import otel_langfuse
from opentelemetry import trace
with otel_langfuse.propagate_attributes(user_id="ada"), trace.get_tracer("app").start_as_current_span("hello"):
    print("the application runs")
"""

CONFIGURING = """
import otel_langfuse
from opentelemetry import trace
tracer = trace.get_tracer("app")
tracer.start_span("before").end()
client = otel_langfuse.configure(mask=lambda data: data.replace("TOPSECRET", "***"))
assert otel_langfuse.configure() is client
tracer.start_span("TOPSECRET after").end()
assert client.flush(5)
assert client.stats().exported == 2, client.stats()  # that of the processor whose place it took among them
print("the application runs")
"""

# A processor of the application's own, added beside whatever the agent has set up, while a span is open.
BY_HAND = """
from opentelemetry import trace
from otel_langfuse import LangfuseSpanProcessor
provider = trace.get_tracer_provider()
tracer = provider.get_tracer("app")
tracer.start_span("before").end()
with tracer.start_as_current_span("TOPSECRET, begun before"):
    mine = LangfuseSpanProcessor(mask=lambda data: data.replace("TOPSECRET", "***"))
    provider.add_span_processor(mine)
    tracer.start_span("TOPSECRET").end()
mine.shutdown()
tracer.start_span("after it was shut down").end()
print("the application runs")
"""


class Run(NamedTuple):
    """What became of a program under the agent, and what Langfuse got."""

    server: Server
    code: int
    output: str
    errors: str

    @property
    def names(self) -> list[str]:
        return sorted(self.server.names)


RUNS: dict[str, tuple[str, dict[str, str]]] = {
    "exporter": (
        PLAIN,
        {
            "OTEL_TRACES_EXPORTER": "langfuse",
            "LANGFUSE_TRACING_ENVIRONMENT": "staging",
            "OTEL_EXPORTER_OTLP_HEADERS": "x-honeycomb-team=HONEYKEY",
        },
    ),
    "processor": (PROPAGATING, {"OTEL_LANGFUSE_PROCESSOR": "true"}),
    "both": (PLAIN, {"OTEL_TRACES_EXPORTER": "langfuse", "OTEL_LANGFUSE_PROCESSOR": "true"}),
    "exporter, and by hand": (BY_HAND, {"OTEL_TRACES_EXPORTER": "langfuse"}),
    "both, and code": (CONFIGURING, {"OTEL_TRACES_EXPORTER": "langfuse", "OTEL_LANGFUSE_PROCESSOR": "true"}),
    "wrong settings": (
        PLAIN,
        {"OTEL_TRACES_EXPORTER": "console,langfuse", "OTEL_LANGFUSE_PROCESSOR": "perhaps", "LANGFUSE_TIMEOUT": "soon"},
    ),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """All programs, run at the same time: mostly they import."""
    if AGENT is None:
        pytest.skip("no opentelemetry-instrument")
    folder = tmp_path_factory.mktemp("agent")
    info = folder / "configurator-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: configurator\nVersion: 1\n")
    (info / "entry_points.txt").write_text(CONFIGURATOR)
    servers = {which: Server() for which in RUNS}
    processes: dict[str, Any] = {}
    for number, (which, (program, variables)) in enumerate(RUNS.items()):
        (folder / f"program{number}.py").write_text(program)
        others = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
        others |= {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*"}  # the libraries that tests of something else have brought
        path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
        environ = {**os.environ, **others, **KEYS, **variables, "LANGFUSE_BASE_URL": servers[which].url, "PYTHONPATH": path}
        environ["LANGFUSE_FILTER"] = "all"  # of the module, as for the tests: this fixture is made before theirs
        servers[which].__enter__()
        processes[which] = subprocess.Popen(
            [AGENT, sys.executable, f"program{number}.py"],
            cwd=folder,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    found = {}
    for which, process in processes.items():
        output, errors = process.communicate(timeout=60)
        found[which] = Run(servers[which], process.returncode, output, errors)
    yield found
    for server in servers.values():
        server.__exit__()


def attribute(span: Any, key: str) -> str | None:
    return next((item.value.string_value for item in span.attributes if item.key == key), None)


@pytest.mark.parametrize("which", RUNS)
def test_the_application_runs_to_its_end(runs: dict[str, Run], which: str) -> None:
    assert runs[which].code == 0, runs[which].errors
    assert "the application runs" in runs[which].output
    assert "Traceback" not in runs[which].errors, runs[which].errors
    assert "SECRET" not in runs[which].errors


def test_otel_traces_exporter_langfuse_sends_to_langfuse(runs: dict[str, Run]) -> None:
    run = runs["exporter"]
    assert run.names == ["hello"]
    (received,) = run.server.received
    assert received.path == "/api/public/otel/v1/traces"
    assert received.headers["authorization"].startswith("Basic ")
    assert attribute(received.spans[0], "langfuse.environment") == "staging"
    assert "HONEYKEY" not in repr(received)
    assert "otel-langfuse" not in run.errors


def test_otel_langfuse_processor_adds_the_whole_pipeline(runs: dict[str, Run]) -> None:
    run = runs["processor"]
    assert run.names == ["hello"]
    assert attribute(run.server.received[0].spans[0], "user.id") == "ada"
    assert "otel-langfuse" not in run.errors


def test_both_of_them_send_each_span_once_and_say_so_once(runs: dict[str, Run]) -> None:
    run = runs["both"]
    assert run.names == ["hello"]
    assert run.errors.count("take langfuse out of OTEL_TRACES_EXPORTER") == 1


def test_what_the_code_configures_takes_the_place_of_both_and_masks(runs: dict[str, Run]) -> None:
    run = runs["both, and code"]
    assert run.names == ["*** after", "before"]
    assert run.errors.count("take langfuse out of OTEL_TRACES_EXPORTER") == 1
    assert not any(b"TOPSECRET" in received.body for received in run.server.received)


def test_a_processor_added_by_hand_takes_over_from_the_agents_exporter(runs: dict[str, Run]) -> None:
    run = runs["exporter, and by hand"]
    assert [name for name in run.names if name.startswith("***")] == ["***", "***, begun before"], "each once"
    assert {"before", "after it was shut down"} <= set(run.names)
    assert run.errors.count("take langfuse out of OTEL_TRACES_EXPORTER") == 1
    assert not any(b"TOPSECRET" in received.body for received in run.server.received)


def test_wrong_settings_cost_other_exporters_nothing_and_are_named(runs: dict[str, Run]) -> None:
    run = runs["wrong settings"]
    assert '"name": "hello"' in run.output, "the console exporter prints its spans"
    assert "LANGFUSE_TIMEOUT='soon': expected" in run.errors
    assert "OTEL_LANGFUSE_PROCESSOR='perhaps': expected true or false" in run.errors
    assert not run.server.received


# -- the exporters by themselves ---------------------------------------------------------------------------------------


def test_what_is_registered_can_be_loaded_and_is_what_the_sdk_expects() -> None:
    found = {
        point.name: point.load() for point in entry_points(group="opentelemetry_traces_exporter") if "langfuse" in point.name
    }
    assert found == {"langfuse": LangfuseTracesExporter, "langfuse_ingestion": LangfuseIngestionTracesExporter}
    assert all(issubclass(exporter, SpanExporter) for exporter in found.values())
    hooks = {point.name: point.load() for point in entry_points(group="opentelemetry_post_instrument")}
    assert hooks["langfuse"] is post_instrument


@pytest.fixture
def langfuse(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with Server() as server:
        monkeypatch.setenv("LANGFUSE_BASE_URL", server.url)
        yield server


def test_sampling_environment_and_release_hold_without_our_processor(langfuse: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    spans = sdk_spans([f"s{i}" for i in range(40)])
    exporter = LangfuseTracesExporter(sample_rate=0.5, environment="staging", release="v1")
    assert exporter.export(spans) is SUCCESS
    kept = [span.name for span in spans if span.context.trace_id & (2**64 - 1) < 2**63]
    assert langfuse.names == kept
    assert 0 < len(kept) < 40
    assert exporter.stats()[:5] == (40, len(kept), 0, {"sampled_out": 40 - len(kept)}, 0)
    for span in langfuse.received[0].spans:
        assert attribute(span, "langfuse.environment") == "staging"
        assert attribute(span, "langfuse.release") == "v1"


def test_what_a_span_says_itself_wins_over_the_settings(langfuse: Server) -> None:
    exporter = LangfuseTracesExporter(environment="staging")
    exporter.export(sdk_spans(["a"], **{"langfuse.environment": "mine"}))
    assert attribute(langfuse.received[0].spans[0], "langfuse.environment") == "mine"


def test_a_sqlite_url_is_the_local_store(tmp_path: Path) -> None:
    exporter = LangfuseTracesExporter(base_url=f"sqlite:///{tmp_path}/traces.db")
    assert exporter.export(sdk_spans(["a"])) is SUCCESS
    exporter.shutdown()
    store = Store(tmp_path / "traces.db", create=False)
    assert [trace.name for trace in store.traces()] == ["a"]
    store.close()


def test_the_ingestion_exporter_sends_observations(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(multi_status(lambda _: None)) as server:
        settings = {"public_key": "pk", "secret_key": "sk", "base_url": server.url}
        assert LangfuseIngestionTracesExporter(**settings).export(sdk_spans(["a"])) is SUCCESS
        assert server.received[0].path == "/api/public/ingestion"


@pytest.mark.parametrize("exporter", [LangfuseTracesExporter, LangfuseIngestionTracesExporter])
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"base_url": "http://127.0.0.1:9"}, "LANGFUSE_SECRET_KEY"),
        ({"timeout": "soon"}, "timeout='soon'"),
        ({"base_url": "sqlite:////nowhere/at/all.db"}, "nowhere"),
        ({"public_key": "pk", "secret_key": "sk", "certificate_file": "/nowhere.pem", "base_url": "https://x"}, "nowhere.pem"),
    ],
)
def test_what_cannot_work_is_said_and_counted_and_never_raised(
    exporter: Any, settings: dict[str, str], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = exporter(**settings)
    if "sqlite" in settings.get("base_url", "") and exporter is LangfuseIngestionTracesExporter:
        said = "expected http"
    assert said in caplog.text
    assert made.export(sdk_spans(["a", "b"])) is FAILURE
    assert made.stats()[:5] == (2, 0, 0, {"send_failed": 2}, 0)
    made.shutdown()


def test_switched_off_it_sends_nothing(langfuse: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFUSE_TRACING_ENABLED", "false")
    exporter = LangfuseTracesExporter()
    exporter.export(sdk_spans(["a"]))
    exporter.shutdown()
    assert not langfuse.received


# -- beside configure() ------------------------------------------------------------------------------------------------


def behind_the_sdks_own_processor() -> tuple[LangfuseTracesExporter, TracerProvider]:
    """Our exporter as the agent makes and adds it."""
    exporter = LangfuseTracesExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return exporter, provider


def test_configure_for_the_same_project_takes_over_from_the_exporter_without_losing_or_doubling(
    langfuse: Server, caplog: pytest.LogCaptureFixture
) -> None:
    exporter, provider = behind_the_sdks_own_processor()
    tracer = provider.get_tracer("t")
    tracer.start_span("before").end()
    client = configure(tracer_provider=provider, mask=lambda data: data.replace("TOPSECRET", "***"))
    tracer.start_span("TOPSECRET").end()
    provider.force_flush()
    assert sorted(langfuse.names) == ["***", "before"]
    assert exporter.stats()[:5] == (2, 1, 0, {"double": 1}, 0)
    assert client.stats()[:5] == (1, 1, 0, {}, 0)
    assert caplog.text.count("take langfuse out of OTEL_TRACES_EXPORTER") == 1
    provider.shutdown()


def test_configure_for_another_project_leaves_the_exporter_alone(langfuse: Server) -> None:
    _, provider = behind_the_sdks_own_processor()
    with Server() as other:
        configure(tracer_provider=provider, base_url=other.url)
        provider.get_tracer("t").start_span("a").end()
        provider.force_flush()
        assert (langfuse.names, other.names) == (["a"], ["a"])
        provider.shutdown()


def test_a_processor_by_hand_for_the_same_project_sends_in_place_of_the_exporter(
    langfuse: Server, caplog: pytest.LogCaptureFixture
) -> None:
    exporter, provider = behind_the_sdks_own_processor()
    tracer = provider.get_tracer("t")
    tracer.start_span("before").end()
    processor = LangfuseSpanProcessor()
    provider.add_span_processor(processor)
    for name in ("a", "b"):
        tracer.start_span(name).end()
    assert provider.force_flush()
    assert sorted(langfuse.names) == ["a", "b", "before"]
    assert exporter.stats()[:5] == (3, 1, 0, {"double": 2}, 0)
    assert processor.stats()[:5] == (2, 2, 0, {}, 0)
    assert caplog.text.count("take langfuse out of OTEL_TRACES_EXPORTER") == 1
    provider.shutdown()


def test_an_exporter_that_is_asked_before_the_processor_leaves_the_span_to_it_as_well(langfuse: Server) -> None:
    exporter = LangfuseTracesExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.add_span_processor(LangfuseSpanProcessor())
    provider.get_tracer("t").start_span("a").end()
    assert exporter.stats()[:5] == (1, 0, 0, {"double": 1}, 0)
    assert provider.force_flush()
    assert langfuse.names == ["a"]
    provider.shutdown()


def test_a_processor_on_another_provider_takes_nothing_from_the_exporter(langfuse: Server) -> None:
    exporter = LangfuseTracesExporter()
    one, other = (TracerProvider(shutdown_on_exit=False) for _ in range(2))
    one.add_span_processor(BatchSpanProcessor(exporter))
    other.add_span_processor(LangfuseSpanProcessor())
    for provider, name in ((one, "a"), (other, "b")):
        provider.get_tracer("t").start_span(name).end()
        assert provider.force_flush()
    assert sorted(langfuse.names) == ["a", "b"]
    assert exporter.stats()[:5] == (1, 1, 0, {}, 0)
    one.shutdown()
    other.shutdown()


def test_what_is_noted_of_spans_is_bounded_and_forgotten_when_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doubles, "MAX_SPANS", 10)
    told = doubles.for_exporter("a project")
    assert doubles.for_exporter("a project") is told is doubles.for_processor("a project")
    contexts = [span.context for span in sdk_spans([str(number) for number in range(15)])]
    for context in contexts:
        told.note(context)
    assert [told.take(context) for context in contexts] == [False] * 5 + [True] * 10
    assert not any(told.take(context) for context in contexts)
    del told
    assert doubles.for_processor("a project") is None, "when the exporter is gone, nobody notes anything"


def by_agent(provider: TracerProvider) -> Any:
    return client_module._configured(client_module._call(None, provider, {}, "OTEL_LANGFUSE_PROCESSOR", is_implicit=True))


def test_configure_takes_the_place_of_what_the_agent_added_and_both_are_flushed(langfuse: Server) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    first = by_agent(provider)
    replaced = first.processor
    assert by_agent(provider) is first
    tracer = provider.get_tracer("t")
    tracer.start_span("before").end()
    client = configure(tracer_provider=provider, mask=lambda _: "***")
    assert client is first
    assert client.processor is not replaced
    assert configure(tracer_provider=provider) is client
    tracer.start_span("after").end()
    assert provider.force_flush()
    assert sorted(langfuse.names) == ["***", "before"]
    provider.shutdown()
    assert replaced.is_shut_down
    assert client.processor.is_shut_down


def test_a_processor_added_by_hand_takes_the_place_of_what_the_agent_added(
    langfuse: Server, caplog: pytest.LogCaptureFixture
) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    agents = by_agent(provider)
    tracer = provider.get_tracer("t")
    tracer.start_span("before").end()
    running = tracer.start_span("TOPSECRET, begun before")
    mine = LangfuseSpanProcessor(mask=lambda data: data.replace("TOPSECRET", "***"))
    provider.add_span_processor(mine)
    running.end()
    tracer.start_span("TOPSECRET").end()
    assert provider.force_flush()
    assert sorted(langfuse.names) == ["***", "***, begun before", "before"]
    assert (agents.stats().started, mine.stats().started) == (1, 2)
    assert caplog.text.count("unset OTEL_LANGFUSE_PROCESSOR") == 1
    provider.shutdown()


def test_a_processor_for_another_project_leaves_the_agents_alone(langfuse: Server) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    by_agent(provider)
    with Server() as other:
        provider.add_span_processor(LangfuseSpanProcessor(base_url=other.url, default=True))
        provider.add_span_processor(LangfuseSpanProcessor(public_key="pk-lf-2", default=True))
        provider.get_tracer("t").start_span("a").end()
        with project("pk-lf-1"):
            provider.get_tracer("t").start_span("the agent's").end()
        assert provider.force_flush()
        assert sorted(langfuse.names) == ["a", "the agent's"], "of the first project only what names it"
        assert sorted(other.names) == ["a", "the agent's"], "which has the same key on another server"
        provider.shutdown()


def test_the_hook_raises_nothing_whatever_is_wrong(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("OTEL_LANGFUSE_PROCESSOR", "true")
    monkeypatch.setenv("LANGFUSE_SAMPLE_RATE", "7")
    post_instrument()
    assert "LANGFUSE_SAMPLE_RATE='7'" in caplog.text
    monkeypatch.delenv("LANGFUSE_SAMPLE_RATE")

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("whatever")

    monkeypatch.setattr(client_module, "_configured", broken)
    post_instrument()
    assert caplog.records[-1].levelno == logging.ERROR


def test_the_hook_does_nothing_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[object] = []
    monkeypatch.setattr(client_module, "_configured", lambda *_, **__: called.append(1))
    for value in (None, "", "false", "0"):
        if value is not None:
            monkeypatch.setenv("OTEL_LANGFUSE_PROCESSOR", value)
        post_instrument()
    assert not called
