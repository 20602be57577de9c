"""``otel-langfuse`` and ``python -m otel_langfuse``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, or say what it needs: it is the one part of the package that is an extra. Exits."""
    try:
        from otel_langfuse.cli import cli  # noqa: PLC0415 - it may be missing what it is made with
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "click":
            raise
        sys.stderr.write('otel-langfuse: its command line needs more: pip install "otel-langfuse[cli]"\n')
        sys.exit(2)
    cli(prog_name="otel-langfuse")


if __name__ == "__main__":
    main()
