"""One measurement of the whole way, in a process of its own: spans made, ended, encoded, compressed and sent.

``python -m benchmarks.through SUBJECT WORKLOAD COUNT URL`` prints CPU microseconds a span, as JSON. Spans come in bursts that
fit into every queue, and each burst is flushed, so that nothing is dropped and no time passes in waiting.
"""

from __future__ import annotations

import json
import os
import sys
import time

from benchmarks.subjects import SUBJECTS

WARM_UP = 20
BURSTS = {"W1": 400, "W2": 400, "W3": 40, "W4": 400}


def measure(subject: str, workload: str, count: int, url: str) -> dict[str, float]:
    """CPU of the thread that makes the spans, and of the whole process until all were sent, in microseconds a span."""
    made = SUBJECTS[subject](url)
    make, burst = made.make[workload], BURSTS[workload]
    make(WARM_UP)
    made.flush()
    caller = 0.0
    began = time.process_time()
    for _ in range(count // burst):
        start = time.thread_time()
        make(burst)
        caller += time.thread_time() - start
        made.flush()
    total = time.process_time() - began
    spans = count // burst * burst
    return {"caller": caller / spans * 1e6, "total": total / spans * 1e6, "spans": spans + WARM_UP}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])), flush=True)
    os._exit(0)  # all was sent; some peers take their time to end
