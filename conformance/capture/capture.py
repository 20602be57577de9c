"""Record what real instrumentations put on their spans, and show what changed since the last time.

``python conformance/capture/capture.py FAMILY ...`` (``make capture FAMILY=...``) makes an environment with the packages of the
family's row, runs its program against a scripted model server on loopback, and writes one case for each scenario. Each family is
recorded twice; what differs between the two is told, and nothing is written.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from cases import case, differences, pretty, translated
from families import FAMILIES, Family
from model_server import model_server
from normal import Recorded, normal

from otel_langfuse.spans import from_otlp

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
CASES = HERE.parent / "cases" / "captured"
ENVIRONMENTS = REPOSITORY / ".venv-capture"
TIMEOUT_S = 90

QUIET = {
    **dict.fromkeys(("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY"), "1"),
    **dict.fromkeys(("HAYSTACK_TELEMETRY_ENABLED", "TRACELOOP_TELEMETRY", "ANONYMIZED_TELEMETRY"), "false"),
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}
"""So that nothing calls home."""


Command: TypeAlias = "list[str | Path]"


class CaptureError(Exception):
    """A family could not be recorded; the message is for the user."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit status: 1 where a family could not be recorded."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("families", nargs="*", metavar="FAMILY", help="which to record")
    parser.add_argument("--all", action="store_true", help="all of them")
    parser.add_argument("--list", action="store_true", help="name them, and do nothing")
    parser.add_argument("--check", action="store_true", help="show what changed, and write nothing")
    parser.add_argument("--translate", action="store_true", help="record nothing: translate anew what was recorded")
    chosen = parser.parse_args(arguments)
    if chosen.list:
        for name, family in FAMILIES.items():
            print(f"{name:28} {' '.join(family.packages)}")
        return 0
    names = list(FAMILIES) if chosen.all else chosen.families
    if not names or not set(names) <= set(FAMILIES):
        parser.error(f"which family? --list names them{''.join(f'; there is no {n}' for n in names if n not in FAMILIES)}")
    return max(_capture(name, write=not chosen.check, record=not chosen.translate) for name in names)


def _capture(name: str, *, write: bool, record: bool) -> int:
    try:
        old = recorded_cases(name)
        new = record_cases(name) if record else {scenario: translated(one) for scenario, one in old.items()}
    except CaptureError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    show(name, old, new)
    if write:
        _write(name, new)
    return 0


def show(name: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Print what changed in a family's cases, by scenario."""
    for scenario in sorted({*old, *new}):
        lines = differences(old.get(scenario), new.get(scenario))
        if scenario not in old:
            print(f"{name}/{scenario}: new, {len(new[scenario]['events'])} events")
        elif scenario not in new:
            print(f"{name}/{scenario}: gone")
        elif lines:
            print(f"{name}/{scenario}: changed", *lines, sep="\n  ")
        elif old[scenario] != new[scenario]:
            print(f"{name}/{scenario}: only metadata, rules or the server's reading changed")
        else:
            print(f"{name}/{scenario}: as before")


def recorded_cases(name: str) -> dict[str, Any]:
    """The family's cases as they are on disk, by scenario."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((CASES / name).glob("*.json"))}


def _write(name: str, made: dict[str, Any]) -> None:
    folder = CASES / name
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.json"):
        if path.stem not in made:
            path.unlink()
    for scenario, one in made.items():
        (folder / f"{scenario}.json").write_text(pretty(one) + "\n", encoding="utf-8")


# -- recording ---------------------------------------------------------------------------------------------------------


def record_cases(name: str, python: Path | None = None) -> dict[str, Any]:
    """Record a family twice, with this interpreter or in the family's own environment.

    Raises:
        CaptureError: Its packages cannot be installed, its program fails, or two recordings differ.
    """
    python = python or environment(name, FAMILIES[name])
    first, second = (_record(name, python) for _ in range(2))
    unstable = [scenario for scenario in first if first[scenario] != second.get(scenario)]
    if unstable:
        lines = [line for scenario in unstable for line in differences(first[scenario], second.get(scenario))]
        told = "\n  ".join((f"two recordings differ ({', '.join(unstable)}); teach normal.py what is volatile", *lines))
        raise CaptureError(told)
    return first


def _record(name: str, python: Path) -> dict[str, Any]:
    family = FAMILIES[name]
    with model_server() as server, tempfile.TemporaryDirectory(prefix="capture-") as scratch:
        recorded = Recorded(time.time(), server.server_port, {scratch: "/tmp", **_folders(python)})
        command: Command = [python, HERE / "record.py", name, server.url]
        said = _run("its program failed", command, env=_variables(family, server.url, scratch), cwd=scratch, timeout=TIMEOUT_S)
        arrived = dict(server.scenarios)
    made = {}
    for scenario, payloads in arrived.items():
        spans = [span for payload in payloads for span in from_otlp(payload)]
        if not spans:
            raise CaptureError(f"no spans of {scenario} arrived\n{said[-2000:]}")
        made[scenario] = case(f"{name}: {scenario}", family.packages, normal(spans, f"{name}/{scenario}", recorded))
    return made


def _folders(python: Path) -> dict[str, str]:
    return {
        str(python.parents[1]): "/venv",
        str(REPOSITORY): "/repository",
        sys.base_prefix: "/python",
        str(Path.home()): "/user",
    }


def _variables(family: Family, url: str, home: str) -> dict[str, str]:
    """The environment of a recording: nothing of the user's, and no way but to the scripted server."""
    variables = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONHASHSEED": "0",
        "NO_PROXY": "127.0.0.1",
        "OPENAI_BASE_URL": f"{url}/v1",
        "ANTHROPIC_BASE_URL": url,
        "LANGFUSE_BASE_URL": url,
        "LANGFUSE_PUBLIC_KEY": "pk-lf-none",
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_METRICS_EXPORTER": "none",
    }
    variables |= dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), home)
    variables |= dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "LANGFUSE_SECRET_KEY"), "none")
    return {**variables, **QUIET, **family.environment}


# -- environments ------------------------------------------------------------------------------------------------------


def environment(name: str, family: Family) -> Path:
    """The interpreter of an environment that holds exactly the family's packages; made where there is none.

    Raises:
        CaptureError: The packages cannot be installed.
    """
    folder = ENVIRONMENTS / name
    python, marker = folder / "bin" / "python", folder / "packages.txt"
    wanted = "\n".join(family.packages)
    if marker.exists() and marker.read_text() == wanted:
        return python
    print(f"{name}: setting up {folder.relative_to(REPOSITORY)} ...", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv:
        steps: list[Command] = [[uv, "venv", "--quiet", "--python", sys.executable, folder]]
        steps += [[uv, "pip", "install", "--quiet", "--python", python, *family.packages]]
    else:
        steps = [[sys.executable, "-m", "venv", folder], [python, "-m", "pip", "install", "--quiet", *family.packages]]
    for step in steps:
        _run("its packages cannot be installed", step)
    marker.write_text(wanted)
    return python


def _run(failure: str, command: Command, **how: Any) -> str:
    """Run to the end, and give back what was said on standard error."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, **how)
    except subprocess.TimeoutExpired as error:
        raise CaptureError(f"{failure}: no end after {error.timeout} s") from None
    if done.returncode:
        raise CaptureError(f"{failure} with status {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return str(done.stderr)


if __name__ == "__main__":
    sys.exit(main())
