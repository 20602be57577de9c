"""``otel-langfuse demo``: a real, instrumented OpenAI application on this machine alone, and what a local store has of it.

``app`` is the application, an ordinary program that knows openai and OpenTelemetry; ``server`` is the model that it talks to;
``play`` puts them together. Importing this package imports none of them.
"""

from __future__ import annotations

import sys
from typing import TextIO

ENVIRONMENT = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "span_only"}
"""What must be in ``os.environ`` before ``run_demo``: the instrumentation has no other switch for inputs and outputs."""


def run_demo(db: str | None, keep: bool, out: TextIO) -> int:
    """Run the demo's application, draw its traces, and say what changes in a program to send the same elsewhere.

    Talks to nothing but 127.0.0.1, whatever proxies are set, and needs no keys. Takes about two seconds. It joins the global
    TracerProvider (or makes one), so it wants a process of its own.

    Args:
        db: The store's file, which is kept. None: a temporary one.
        keep: Keep the temporary one, and say where it is.
        out: Where to write; colours only where it is a terminal.

    Returns:
        The exit status: 0; 1 where the spans did not all arrive; 2 where the ``[demo]`` extra is not installed.
    """
    try:
        from otel_langfuse.local.demo.play import play  # noqa: PLC0415 - the packages of the extra
    except ImportError as error:
        if (error.name or "").startswith("otel_langfuse"):
            raise
        sys.stderr.write(f'otel-langfuse demo needs {error.name}: pip install "otel-langfuse[demo]"\n')
        return 2
    return play(db, keep, out)
