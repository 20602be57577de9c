"""What it costs, beside OpenTelemetry's own parts: ``make bench``, or ``python -m benchmarks [--quick] [--only PART ...]``.

CPU time, not time on the clock. Those that are compared take turns (A B, B A, A B ...), and a ratio is the median of the
ratios of single rounds: what else the machine does at that time falls on both. Differences under a tenth are noise.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.through import SETUPS
from benchmarks.workloads import sdk_spans
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("RESULTS.md")
PACKAGES = ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http", "protobuf", "orjson", "isal", "urllib3")
ENVIRON = {
    **{key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "LANGFUSE_"))},
    "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH")))),
    "NO_PROXY": "127.0.0.1",
}

Samples = dict[str, list[float]]
Table = tuple[str, list[str]]
"""A heading with a sentence, and the lines of a Markdown table."""


def interleaved(rounds: int, subjects: Mapping[str, Callable[[], float]]) -> Samples:
    """What each subject costs in each round; every other round in reverse order."""
    samples: Samples = {name: [] for name in subjects}
    for i in range(rounds):
        for name in list(subjects)[:: -1 if i % 2 else 1]:
            samples[name].append(subjects[name]())
    return samples


def ratio(samples: Samples, name: str, base: str) -> float:
    return statistics.median(mine / other for mine, other in zip(samples[name], samples[base], strict=True))


def rows(samples: Samples, base: str, prefix: Sequence[str] = (), more: Mapping[str, str] | None = None) -> list[str]:
    """A row of a table for each subject: its median and its ratio to ``base``."""
    cells = {name: f"{statistics.median(values):.1f} | {ratio(samples, name, base):.2f}" for name, values in samples.items()}
    extra = more or {}
    return [f"| {' | '.join((*prefix, name, cell, *filter(None, (extra.get(name),))))} |" for name, cell in cells.items()]


# -- (a) importing -----------------------------------------------------------------------------------------------------

IMPORTS = {
    "stock": "import opentelemetry.sdk.trace, opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "ours, name only": "import otel_langfuse",
    "ours": "import otel_langfuse; otel_langfuse.LangfuseSpanProcessor; otel_langfuse.LangfuseOTLPExporter",
}


def import_ms(statement: str) -> float:
    code = f"import time; t = time.process_time(); {statement}; print(time.process_time() - t)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=ENVIRON, timeout=60)
    return float(done.stdout) * 1000


def importing(rounds: int) -> Table:
    for code in IMPORTS.values():
        import_ms(code)  # once before: Python writes what it has compiled
    samples = interleaved(rounds, {name: lambda code=code: import_ms(code) for name, code in IMPORTS.items()})
    found = ratio(samples, "ours", "stock")
    verdict = "met" if found <= 1.3 else "MISSED"
    heading = (
        f"## Importing\n\nCPU of the import in a new process. Target: at most 1.3 times the stock parts; {verdict} ({found:.2f})."
    )
    return heading, ["| what | CPU ms | ratio |", "|---|--:|--:|", *rows(samples, "stock")]


# -- (b) and (c) encoding ----------------------------------------------------------------------------------------------


def us_each(work: Callable[[], object], count: int) -> Callable[[], float]:
    def measured() -> float:
        start = time.thread_time()
        work()
        return (time.thread_time() - start) / count * 1e6

    return measured


def encoders(stock: list[ReadableSpan]) -> dict[str, Callable[[], object]]:
    """What is timed, from the same finished spans; the first is what the others are compared with."""
    from otel_langfuse.encode import ingestion
    from otel_langfuse.encode.otlp import to_protobuf
    from otel_langfuse.spans import from_sdk
    from otel_langfuse.translate import translate_all

    ours, _ = from_sdk(stock)

    def ingested() -> object:
        made = translate_all(from_sdk(stock)[0])
        return ingestion.requests(made, url="", headers={}, max_request_bytes=10**9, now="2026-01-01T00:00:00.000Z", seen=set())

    return {
        "stock: encode, serialize": lambda: encode_spans(stock).SerializeToString(),
        "ours: read": lambda: from_sdk(stock),
        "ours: encode OTLP": lambda: to_protobuf(ours),
        "ours: read, encode OTLP": lambda: to_protobuf(from_sdk(stock)[0]),
        "ours: read, translate, encode JSON": ingested,
    }


def encoding(rounds: int, count: int) -> Table:
    lines = ["| workload | what | CPU us a span | ratio |", "|---|---|--:|--:|"]
    for workload in ("W1", "W2", "W4"):
        timed = {name: us_each(work, count) for name, work in encoders(sdk_spans(workload, count)).items()}
        lines += rows(interleaved(rounds, timed), next(iter(timed)), (workload,))
    return f"## Encoding\n\nFrom {count} finished SDK spans to the body of a request, uncompressed.", lines


# -- (d) the whole way -------------------------------------------------------------------------------------------------


@contextmanager
def sink() -> Iterator[str]:
    """The URL of a sink in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.sink"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRON) as process:
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1/traces" if process.stdout else ""
        finally:
            process.communicate(timeout=10)


def through(setup: str, workload: str, count: int, url: str) -> dict[str, float]:
    """One run in a process of its own, with what arrived."""
    command = [sys.executable, "-m", "benchmarks.through", setup, workload, str(count), url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRON, timeout=300)
    found: dict[str, float] = json.loads(done.stdout)
    with urllib.request.urlopen(url, timeout=60) as answer:
        arrived = json.load(answer)
    if arrived["spans"] != found["spans"]:
        raise SystemExit(f"{setup}, {workload}: {found['spans']} spans were made and {arrived['spans']} arrived")
    return {**found, "wire": arrived["bytes"] / arrived["spans"]}


def whole_way(rounds: int, counts: Mapping[str, int]) -> Table:
    lines = ["| workload | what | total CPU us a span | ratio | caller CPU us | bytes a span |", "|---|---|--:|--:|--:|--:|"]
    with sink() as url:
        for workload, count in counts.items():
            runs: dict[str, list[dict[str, float]]] = {name: [] for name in SETUPS}

            def once(setup: str, workload: str = workload, count: int = count, runs: dict = runs) -> float:  # type: ignore[type-arg]
                runs[setup].append(through(setup, workload, count, url))
                return float(runs[setup][-1]["total"])

            samples = interleaved(rounds, {name: lambda name=name, once=once: once(name) for name in SETUPS})
            more = {
                name: f"{statistics.median(run['caller'] for run in each):.1f} | {each[-1]['wire']:.0f}"
                for name, each in runs.items()
            }
            lines += rows(samples, "stock", (workload,), more)
    heading = (
        "## The whole way\n\nThe application making spans, processor, exporter, compression and HTTP to a sink on loopback, "
        "all threads of the process; nothing is dropped. The caller is the thread that makes the spans. By default the "
        "stock exporter does not compress, and ours does."
    )
    return heading, lines


# -- all of it ---------------------------------------------------------------------------------------------------------


def machine() -> str:
    def of(package: str) -> str:
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            return f"no {package}"

    date = datetime.now(timezone.utc).date().isoformat()
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    where = f"{os.cpu_count()} cores ({platform.machine()}, {platform.system()}), load {load}"
    return f"{date}, {where}, {platform.python_implementation()} {platform.python_version()}; " + ", ".join(map(of, PACKAGES))


def parts(*, quick: bool) -> dict[str, Callable[[], Table]]:
    counts = {"W1": 1200, "W2": 4000, "W4": 1200} if quick else {"W1": 4000, "W2": 12000, "W4": 4000, "W3": 400}
    return {
        "import": lambda: importing(4 if quick else 11),
        "encode": lambda: encoding(*((6, 250) if quick else (21, 500))),
        "through": lambda: whole_way(2 if quick else 6, counts),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute, and rougher; RESULTS.md stays as it is")
    parser.add_argument("--only", nargs="+", choices=("import", "encode", "through"), help="some parts only, likewise")
    options = parser.parse_args()
    chosen = {name: part for name, part in parts(quick=options.quick).items() if not options.only or name in options.only}
    written = [f"# Results\n\n{' '.join((__doc__ or '').split(chr(10) * 2)[1].split())}\n\n{machine()}."]
    print(written[0], flush=True)
    for part in chosen.values():
        heading, lines = part()
        written.append("\n".join((heading, "", *lines)))
        print("\n" + written[-1], flush=True)
    if not options.quick and not options.only:
        RESULTS.write_text("\n\n".join(written) + "\n")
        print(f"\nwritten: {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
