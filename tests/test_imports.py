"""What importing and using the package loads, and when: modules are counted here; `make bench` measures the time that it takes.

A thread that loads a module while the process forks leaves its lock behind: a child that wants the same module waits for ever.
So what a worker needs is loaded by whoever makes it, and nothing on a worker, in a forked child or at exit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTracePartialSuccess, ExportTraceServiceResponse

from grpc_servers import GrpcServer, abort, partly
from media_servers import Langfuse
from servers import Server, Step, status

PARTIAL = ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(rejected_spans=1, error_message="late"))

NOT_NEEDED = {
    "api", "cli", "classic", "client", "conventions", "datasets", "decorators", "encode.dialect", "encode.ingestion",
    "exporters.ingestion", "exporters.sqlite", "integrations", "local", "picture", "pipeline.mask._otel_spans",
    "pipeline.mask._pii", "pipeline.mask._rules", "prompts", "pytest_plugin", "sampler", "scores", "spans._otlp_protobuf",
    "spool", "store", "testing", "tracing", "transport._grpc", "transport._http", "translate",
}  # fmt: skip
"""Rooms that the two names do not need."""

MOST_MODULES_OF_OURS = 81


def run(code: str, *arguments: str, **environ: str) -> Any:
    """What a new process prints as JSON."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "LANGFUSE_FILTER": "all", **environ}
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_processor_and_the_exporter_load_what_they_need_and_nothing_else() -> None:
    loaded = set(
        run("""
import json, sys
import opentelemetry.sdk.trace.export  # whatever this version of it needs
before = set(sys.modules)
from otel_langfuse import LangfuseOTLPExporter, LangfuseSpanProcessor
print(json.dumps([name for name in sys.modules if name not in before]))
""")
    )
    ours = {name for name in loaded if name.startswith("otel_langfuse")}
    assert not {name for name in ours if name.removeprefix("otel_langfuse.") in NOT_NEEDED}
    assert len(ours) <= MOST_MODULES_OF_OURS, sorted(ours)
    others = {name.partition(".")[0] for name in loaded - ours} - sys.stdlib_module_names
    assert others <= {"orjson", "isal", "opentelemetry"}, others


# What a program with a processor of ours loads after that was made, until all is over. Printed are how it ended, and those names.
LIFE = """
import atexit, json, os, sys
made = set()
atexit.register(lambda: made and print(json.dumps(sorted(set(sys.modules) - made))))  # after ours, that are registered later
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import StatusCode
import otel_langfuse
processor = otel_langfuse.LangfuseSpanProcessor({made}, flush_interval=0.05)
provider = TracerProvider()
provider.add_span_processor(processor)
made |= set(sys.modules)
is_parent = {end!r} != "a fork" or os.fork()
if {end!r} == "a fork" and is_parent:
    made.clear()
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(is_parent, 0)[1]))
for name in "ab":
    with provider.get_tracer("app").start_as_current_span(name) as span:
        span.set_attribute("gen_ai.prompt", "data:image/png;base64," + "iVBORw0KGgo" + "A" * 4001)
        span.set_attribute("gen_ai.request.model", "m")
        span.set_attribute("input.value", '{{"password": "hunter22", "messages": [{{"role": "user", "content": "hi"}}]}}')
        span.record_exception(ValueError("no"))
        span.set_status(StatusCode.ERROR, "no")
if {end!r} == "shutdown":
    processor.force_flush(20_000)
    processor.shutdown(20_000)
"""

KEYS = "public_key='pk-lf-1', secret_key='sk-lf-1', base_url=sys.argv[1]"
COLLECTOR = "otel_langfuse.LangfuseOTLPExporter(endpoint=sys.argv[1] + '/v1/traces'{more})"
MASKS = (
    ", mask=['secrets,pii,content', str.upper, otel_langfuse.MaskRule(fields='input', action='hash', hash_key='k' * 32)]"
    ", mask_otel_spans=lambda params: None"
)
TAIL = ", tail=[otel_langfuse.keep_cost_over(1), otel_langfuse.keep_errors()]"
WAYS: dict[str, tuple[str, tuple[Step, ...]]] = {
    "Langfuse": (KEYS + ", media=False", (status(500), status(200, b"{}"))),
    "all that can be asked of it": (KEYS + ", media=False" + MASKS + TAIL, (status(429), status(200, b"{}"))),
    "a spool": (KEYS + ", media=False, spool_path=sys.argv[2], spool_mode='always'", (status(413), status(500), status(200))),
    "ingestion": (f"otel_langfuse.LangfuseIngestionExporter({KEYS}, media=False)", (status(500), status(200))),
    "a collector": (COLLECTOR.format(more="") + TAIL, (status(503), status(200, PARTIAL.SerializeToString()))),
    "JSON": (COLLECTOR.format(more=", protocol='http/json', dialect='gen_ai'"), (status(200, b"{}"),)),
    "media in files": (COLLECTOR.format(more=", media=sys.argv[2]"), (status(200),)),
}


def loaded_late(made: str, url: str, file: Path, end: str = "shutdown") -> list[str]:
    return run(LIFE.format(made=made, end=end), url, str(file))


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_loaded_after_a_processor_was_made(way: str, tmp_path: Path) -> None:
    made, script = WAYS[way]
    with Server(*script) as server:
        late = loaded_late(made, server.url, tmp_path / "file")
        assert len(server.received) >= len(script)
    assert not late, late


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no forks")
@pytest.mark.parametrize("end", ["exit", "a fork"])
def test_nor_at_exit_nor_in_a_forked_child(end: str, tmp_path: Path) -> None:
    made, script = WAYS["Langfuse"]
    with Server(*script) as server:
        late = loaded_late(made, server.url, tmp_path / "file", end)
        assert server.received
    assert not late, late


def test_nor_for_the_local_store(tmp_path: Path) -> None:
    late = loaded_late("base_url='sqlite:///' + sys.argv[2]", "", tmp_path / "file")
    assert (tmp_path / "file").exists()
    assert not late, late


def test_nor_for_media() -> None:
    with Langfuse() as server:
        made = ", ".join(f"{name}={value!r}" for name, value in server.settings.items())
        late = loaded_late(made, "", Path())
        assert server.methods()["PUT"] == 1
    assert not late, late


def test_nor_over_grpc(tmp_path: Path) -> None:
    with GrpcServer(abort(grpc.StatusCode.UNAVAILABLE, details_s=0.01), partly(1, "late")) as server:
        made = f"otel_langfuse.LangfuseOTLPExporter(endpoint={server.url!r}, protocol='grpc')"
        late = loaded_late(made, "", tmp_path)
        assert len(server.received) == 2
    assert not late, late
