"""A virtual environment for each peer, made once: their dependencies do not agree with each other."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.subjects import PEERS

ROOT = Path(__file__).parents[1]


def python_of(subject: str) -> str:
    """The interpreter that runs a subject: this one, or that of the peer's own environment, which is made if need be."""
    packages = PEERS.get(subject)
    if packages is None:
        return sys.executable
    path = ROOT / ".venv-peers" / hashlib.sha256("\n".join(packages).encode()).hexdigest()[:12]
    python, ready = path / "bin" / "python", path / ".ready"
    if not ready.exists():
        print(f"setting up {', '.join(packages)} (once) ...", file=sys.stderr, flush=True)
        uv = shutil.which("uv")
        shutil.rmtree(path, ignore_errors=True)
        _run(uv, "venv", "--quiet", "--python", sys.executable, str(path)) if uv else _run(
            sys.executable, "-m", "venv", str(path)
        )
        installer = (
            (uv, "pip", "install", "--quiet", "--python", str(python)) if uv else (str(python), "-m", "pip", "install", "-q")
        )
        _run(*installer, *packages)
        ready.touch()
    return str(python)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=900)
