"""What it costs, beside OpenTelemetry's own parts: ``make bench``, or ``python -m benchmarks [--quick] [--only PART ...]``.

CPU time, not time on the clock. Those that are compared take turns (A B, B A, A B ...), and a ratio is the median of the
ratios of single rounds: what else the machine does at that time falls on both. Differences under a tenth are noise.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.caller import calling
from benchmarks.choosing import choosing
from benchmarks.hostile import hostile
from benchmarks.masking import masked
from benchmarks.meaning import meaning
from benchmarks.measure import ENVIRON, ROOT, Table, interleaved, ratio, rows, us_each
from benchmarks.whole import latency, scaling, soak, whole_way
from benchmarks.workloads import sdk_spans
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan

RESULTS = Path(__file__).with_name("RESULTS.md")
PACKAGES = ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http", "protobuf", "orjson", "isal", "urllib3")


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


def parts(*, quick: bool) -> dict[str, Callable[[], Table | list[Table]]]:
    counts = {"W1": 800, "W2": 2000, "W4": 800} if quick else {"W1": 2000, "W2": 4000, "W4": 2000, "W3": 200}
    more: dict[str, Callable[[], Table | list[Table]]] = {
        "scaling": lambda: scaling(2, (1000, 100_000, 1_000_000), (1, 4, 16), (10, 512, 5000)),
        "latency": lambda: latency(3, 8),
        "soak": lambda: soak(60),
    }
    return {
        "import": lambda: importing(4 if quick else 11),
        "encode": lambda: encoding(*((6, 250) if quick else (21, 500))),
        "mask": lambda: [masked(*((7, 250) if quick else (21, 500))), hostile(1 if quick else 3)],
        "meaning": lambda: meaning(*((6, 250) if quick else (21, 500))),
        "calls": lambda: calling(*((3, 2000) if quick else (9, 8000)), peers=not quick),
        "choosing": lambda: choosing(6 if quick else 41),
        "through": lambda: whole_way(2 if quick else 3, counts, peers=not quick),
        **({} if quick else more),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute, and rougher; RESULTS.md stays as it is")
    parser.add_argument("--only", nargs="+", choices=tuple(parts(quick=False)), help="some parts only, likewise")
    options = parser.parse_args()
    chosen = {name: part for name, part in parts(quick=options.quick).items() if not options.only or name in options.only}
    written = [f"# Results\n\n{' '.join((__doc__ or '').split(chr(10) * 2)[1].split())}\n\n{machine()}."]
    print(written[0], flush=True)
    for part in chosen.values():
        made = part()
        for heading, lines in made if isinstance(made, list) else [made]:
            written.append("\n".join((heading, "", *lines)))
            print("\n" + written[-1], flush=True)
    if not options.quick and not options.only:
        RESULTS.write_text("\n\n".join(written) + "\n")
        print(f"\nwritten: {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
