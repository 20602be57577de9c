"""Spans of an OpenLLMetry application in a real Phoenix: sent with the openinference dialect they have their meaning there.

Runs where PHOENIX_PYTHON names the interpreter of an environment with arize-phoenix (`make backends` makes one).
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_langfuse import LangfuseOTLPExporter
from otel_langfuse.spans import from_otlp, to_sdk

HERE = Path(__file__).parent
CAPTURED = HERE.parents[1] / "conformance" / "cases" / "captured"
CHAT, WORKFLOW = CAPTURED / "traceloop_openai" / "chat.json", CAPTURED / "traceloop_sdk" / "decorated.json"
PYTHON = os.environ.get("PHOENIX_PYTHON", "")

pytestmark = pytest.mark.skipif(not PYTHON, reason="PHOENIX_PYTHON names no interpreter that has arize-phoenix")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer) if "json" in answer.headers.get("content-type", "") else answer.read()


@pytest.fixture(scope="module")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port, folder = free_port(), tmp_path_factory.mktemp("phoenix")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(free_port()),
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
    }
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([PYTHON, HERE / "phoenix_on_loopback.py"], env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 180
        while not healthy(f"http://127.0.0.1:{port}/healthz"):
            assert process.poll() is None, (folder / "log").read_text()[-2_000:]
            assert time.monotonic() < deadline, "phoenix does not start"
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def healthy(url: str) -> bool:
    try:
        get(url)
    except (urllib.error.URLError, OSError):
        return False
    return True


def stored(phoenix: str, project: str, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            spans = get(f"{phoenix}/v1/projects/{project}/spans?limit=100")["data"]
        except urllib.error.HTTPError:
            spans = []
        if len(spans) >= count:
            return spans
        time.sleep(0.5)
    raise AssertionError(f"{project}: the spans did not arrive")


def sent(phoenix: str, project: str, recorded: Path, **settings: Any) -> list[dict[str, Any]]:
    spans = from_otlp(json.loads(recorded.read_text())["request"])
    resource = spans[0].resource._replace(attributes={"openinference.project.name": project})
    digits = hashlib.sha256(project.encode()).hexdigest()  # Phoenix keeps a span of one id once, in whatever project
    named = [
        span._replace(trace_id=digits[:32], span_id=digits[at : at + 16], resource=resource) for at, span in enumerate(spans)
    ]
    exporter = LangfuseOTLPExporter(endpoint=f"{phoenix}/v1/traces", **settings)
    exporter.export([to_sdk(span) for span in named])
    assert exporter.stats().exported == len(spans)
    return stored(phoenix, project, len(spans))


def test_an_openllmetry_call_has_kind_model_messages_and_tokens_in_phoenix(phoenix: str) -> None:
    (call,) = [span for span in sent(phoenix, "with-dialect", CHAT, dialect="openinference") if span["name"] == "openai.chat"]
    attributes = call["attributes"]
    assert call["span_kind"] == "LLM"
    assert attributes["llm.model_name"].startswith("gpt-4.1")
    assert attributes["llm.token_count.prompt"] > 0
    assert attributes["llm.token_count.completion"] > 0
    assert attributes["llm.input_messages.0.message.role"] == "system"
    assert attributes["llm.output_messages.0.message.content"]


def test_what_phoenix_does_not_know_by_itself_has_its_kind_with_the_dialect(phoenix: str) -> None:
    kinds = {
        project: {span["name"]: span["span_kind"] for span in sent(phoenix, project, WORKFLOW, **settings)}
        for project, settings in (("workflow-as-it-is", {}), ("workflow-with-dialect", {"dialect": "openinference"}))
    }
    (workflow,) = [name for name in kinds["workflow-as-it-is"] if name.endswith(".workflow")]
    assert kinds["workflow-as-it-is"][workflow] == "UNKNOWN"
    assert kinds["workflow-with-dialect"][workflow] == "CHAIN"
