"""``python -m benchmarks [--quick]``; see ``run``."""

from __future__ import annotations

from benchmarks.run import main

main()
