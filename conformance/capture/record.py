"""Run one family's program in the family's own environment, while ``capture.py`` listens. Not started by hand.

``python record.py FAMILY URL``: instruments as the family's row says, runs each scenario, waits until its spans are sent, and
says so at ``URL/captured/SCENARIO``.
"""

from __future__ import annotations

import sys
import time
from http.client import HTTPConnection
from importlib import import_module
from urllib.parse import urlsplit

from families import FAMILIES
from opentelemetry import trace

FLUSH_TIMEOUT_MS = 10_000


def main(name: str, url: str) -> None:
    """Run all scenarios of the family."""
    family = FAMILIES[name]
    family.instrument()
    scenarios = import_module(f"programs.{family.program}").SCENARIOS
    for scenario in family.scenarios or scenarios:
        scenarios[scenario]()
        time.sleep(family.settle_s)
        flush = getattr(trace.get_tracer_provider(), "force_flush", None)
        if flush is not None:
            flush(FLUSH_TIMEOUT_MS)
        server = HTTPConnection(urlsplit(url).netloc, timeout=10)  # which nobody instruments
        server.request("POST", f"/captured/{scenario}")
        server.getresponse().read()
        server.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
