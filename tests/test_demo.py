"""``otel-langfuse demo`` is what a stranger runs first: a real application, shown right, on this machine alone."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("openai", reason="the [demo] extra")
pytest.importorskip("opentelemetry.instrumentation.genai.openai", reason="the [demo] extra")

import openai

from otel_langfuse.local.demo import ENVIRONMENT
from otel_langfuse.local.demo.play import CONVERSATION, CUSTOMER, GOODBYE, QUESTIONS
from otel_langfuse.local.demo.server import ANSWERS, BUSY_MODEL, embedding, model_server
from otel_langfuse.local.show import trace_json
from otel_langfuse.model import Observation, TraceFields
from otel_langfuse.store import Store

MAIN = "from otel_langfuse.__main__ import main; main()"
# Whatever this process looks up or connects to is written down, by an audit hook: it sees every socket of the interpreter.
WATCHED = f"""
import sys
def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto"): print(event, arguments[1], file=sys.stderr)
    if event in ("socket.getaddrinfo", "socket.gethostbyname"): print(event, arguments[0], file=sys.stderr)
sys.addaudithook(watch)
{MAIN}
"""
WITHOUT = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[-1]: raise ModuleNotFoundError("No module named " + name, name=name)
sys.meta_path.insert(0, Missing())
sys.argv, missing = sys.argv[:2], sys.argv[2]
Missing.find_spec = lambda self, name, path=None, target=None: (
    exec("raise ModuleNotFoundError('No module named ' + name, name=name)", dict(name=name)) if name == missing else None)
{MAIN}
"""


def run(tmp_path: Path, *arguments: str, program: str = MAIN, **environ: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    environ = {**inherited, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path), **environ}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """One run with proxies that lead nowhere, everything that it connects to written down, into a store that has a trace."""
    path = tmp_path_factory.mktemp("demo")
    older = Observation._make([None] * len(Observation._fields))._replace(id="1", trace_id="older", trace=TraceFields())
    kept = Store(path / "kept.db")
    kept.write([older._replace(name="something else", start_time_unix_nano=1)])
    kept.close()
    proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"), "http://192.0.2.1:9")
    return run(path, "demo", "--db", "kept.db", program=WATCHED, **proxies), path / "kept.db"


@pytest.fixture(scope="module")
def traces(demo: tuple[subprocess.CompletedProcess[str], Path]) -> list[dict[str, Any]]:
    """What the store has, in order of time, as ``show --json`` gives it."""
    listed = json.loads(run(demo[1].parent, "show", "--db", str(demo[1]), "--json").stdout)
    store = Store(demo[1], create=False)
    return [trace_json(store.trace(trace["id"])) for trace in reversed(listed) if trace["id"] != "older"]


def test_it_talks_answers_draws_and_says_how_to_go_on(demo: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, path = demo
    assert done.returncode == 0, done.stderr
    text = done.stdout
    for question, (_, answer) in zip(QUESTIONS, ANSWERS, strict=True):
        assert f"customer   {question}\nassistant  {answer}\n" in text
        assert re.search(rf"in   {re.escape(question)}", text)
        assert f"out  {answer}" in text
    assert "└─ chat gpt-4.1-mini " in text
    assert "ERROR  Error code: 429" in text
    assert 'out  → look_up_order(order_id="4711")' in text
    assert GOODBYE.split("\n\n")[2] in text
    assert f"otel-langfuse show --db {path}" in text
    assert "\x1b" not in text


def test_nothing_but_loopback_is_talked_to(demo: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    seen = [line for line in demo[0].stderr.splitlines() if line.startswith("socket.")]
    assert seen
    assert [line for line in seen if "127.0.0.1" not in line] == []


def test_nothing_is_logged(demo: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    assert [line for line in demo[0].stderr.splitlines() if not line.startswith("socket.")] == []


def test_every_call_is_stored_as_what_it_was(traces: list[dict[str, Any]]) -> None:
    drawn = [[(one["type"], one["name"], one["model"], one["level"]) for one in trace["observations"]] for trace in traces]
    embedded = ("embedding", "embeddings text-embedding-3-small", "text-embedding-3-small", "DEFAULT")
    begun = [("agent", "answer customer", None, "DEFAULT"), embedded, ("retriever", "search handbook", None, "DEFAULT")]
    chat = ("generation", "chat gpt-4.1", "gpt-4.1-2025-04-14", "DEFAULT")
    assert drawn == [
        [("chain", "read handbook", None, "DEFAULT"), embedded],
        [*begun, chat],
        [*begun, chat, ("tool", "look_up_order", None, "DEFAULT"), chat],
        [*begun, ("generation", "chat gpt-4.1", "gpt-4.1", "ERROR"),
         ("generation", "chat gpt-4.1-mini", "gpt-4.1-mini-2025-04-14", "DEFAULT")],
    ]  # fmt: skip


def test_every_trace_has_its_user_session_and_tokens(traces: list[dict[str, Any]]) -> None:
    for trace in traces:
        assert (trace["user_id"], trace["session_id"]) == (CUSTOMER, CONVERSATION)
        counted = [one["usage_details"] for one in trace["observations"] if one["usage_details"]]
        assert trace["total_tokens"] == sum(usage.get("input", 0) + usage.get("output", 0) for usage in counted) > 0
        for one in trace["observations"]:
            succeeded = one["type"] == "generation" and one["level"] == "DEFAULT"
            assert (one["usage_details"].get("output", 0) > 0) == succeeded


def test_inputs_and_outputs_are_those_of_the_calls(traces: list[dict[str, Any]]) -> None:
    asked, ordered, failed = traces[1:]
    for trace, question, (_, answer) in zip((asked, ordered, failed), QUESTIONS, ANSWERS, strict=True):
        root, *_, last = trace["observations"]
        assert (root["input"], root["output"]) == (question, answer)
        assert answer in json.dumps(last["output"])
        assert question in json.dumps(last["input"])
    *_, called, tool, streamed = ordered["observations"]
    assert "look_up_order" in json.dumps(called["output"])
    assert json.loads(tool["input"]) == {"order_id": "4711"}
    assert json.loads(tool["output"])["carrier"] == "Blue Parcel"
    assert "Blue Parcel" in json.dumps(streamed["input"])  # the tool's result went back to the model
    assert streamed["model_parameters"]["stream"] in (True, "true")
    refused = failed["observations"][3]
    assert refused["output"] is None
    assert refused["status_message"] == "Error code: 429 - Rate limit reached for gpt-4.1"


def test_parents_are_those_of_the_calls(traces: list[dict[str, Any]]) -> None:
    for trace in traces:
        root, *rest = trace["observations"]
        assert root["parent_id"] is None
        assert {one["parent_id"] for one in rest} == {root["id"]}


def test_of_a_store_that_has_other_traces_only_the_new_ones_are_drawn(
    demo: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    assert "older" not in demo[0].stdout


def test_settings_of_the_machine_do_not_matter_and_the_store_is_kept_where_it_says(tmp_path: Path) -> None:
    (content,) = ENVIRONMENT
    settings = {"LANGFUSE_SAMPLE_RATE": "0", "LANGFUSE_BASE_URL": "https://192.0.2.1", "LANGFUSE_FLUSH_AT": "3"}
    done = run(tmp_path, "demo", "--keep", **settings, **{content: "no_content"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "└─ chat gpt-4.1" in done.stdout
    assert "out  →" not in done.stdout  # whoever has switched content off does not get it from us
    (directory,) = tmp_path.iterdir()
    assert f"otel-langfuse show --db {directory / 'langfuse.db'}\n" in done.stdout
    assert len(Store(directory / "langfuse.db", create=False).traces()) == 4


def test_where_a_setting_keeps_spans_from_arriving_it_says_so(tmp_path: Path) -> None:
    done = run(tmp_path, "demo", OTEL_SDK_DISABLED="true")
    assert done.returncode == 1
    assert "not every span arrived (none were recorded)" in done.stderr
    assert list(tmp_path.iterdir()) == []  # and its store is gone


def test_a_store_that_cannot_be_is_an_error_in_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, "demo", "--db", "missing/x.db")
    assert done.returncode == 1
    assert done.stderr.startswith("otel-langfuse demo: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("package", ["openai", "opentelemetry.instrumentation.genai"])
def test_without_its_extra_it_says_what_to_install(tmp_path: Path, package: str) -> None:
    done = run(tmp_path, "demo", package, program=WITHOUT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f'otel-langfuse demo needs {package}: pip install "otel-langfuse[demo]"\n'


def test_the_lines_at_the_end_work_as_they_are(tmp_path: Path) -> None:
    code = "\n".join(line.strip() for line in GOODBYE.splitlines() if line.startswith("    "))
    done = run(tmp_path, program=f"{code}\nprint('done')")
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


# -- the model server --------------------------------------------------------------------------------------------------


def test_the_model_server_is_gone_when_its_block_ends() -> None:
    with model_server() as url:
        address = ("127.0.0.1", urlsplit(url).port or 0)
        kept = socket.create_connection(address, timeout=5)
    with kept, pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5).close()


def test_the_model_server_answers_the_real_client_in_every_way() -> None:
    with (
        model_server() as url,
        openai.OpenAI(base_url=url, api_key="x", max_retries=0, http_client=openai.DefaultHttpxClient(trust_env=False)) as client,
    ):
        asked: Any = [{"role": "user", "content": "A return, please"}]
        whole = client.chat.completions.create(model="m", messages=asked)
        assert whole.choices[0].message.content == ANSWERS[0][1]
        options: Any = {"include_usage": True}
        chunks = list(client.chat.completions.create(model="m", messages=asked, stream=True, stream_options=options))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ANSWERS[0][1]
        assert chunks[-1].usage == whole.usage
        for encoding in ("float", "base64"):
            given: Any = client.embeddings.create(model="m", input=["one lamp"], encoding_format=encoding)
            assert len(embedding("one lamp")) == 64
            assert given.usage.prompt_tokens > 0
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model=BUSY_MODEL, messages=[{"role": "user", "content": "warranty?"}])
        with pytest.raises(openai.NotFoundError):
            client.completions.create(model="m", prompt="x")
