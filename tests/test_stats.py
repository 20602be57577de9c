from __future__ import annotations

import logging
import os
import threading

import pytest

from otel_langfuse.errors import DropReason
from otel_langfuse.stats import Ledger


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_counts_from_many_threads_add_up() -> None:
    ledger = Ledger()

    def count() -> None:
        for _ in range(2000):
            ledger.start()
            ledger.export(1)
            ledger.drop(DropReason.FILTERED)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.snapshot() == (8000, 8000, 0, {"filtered": 8000}, 0)


def test_one_line_per_reason_per_minute_with_the_count_since_the_last(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    ledger = Ledger(name="http://host", clock=clock)
    ledger.drop(DropReason.QUEUE_FULL)
    for _ in range(41):
        ledger.drop(DropReason.QUEUE_FULL)
    ledger.drop(DropReason.SEND_FAILED, 5, "HTTP 503")
    clock.now += 61
    ledger.drop(DropReason.QUEUE_FULL)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    assert "to http://host: 1 span dropped (queue_full)" in lines[0]
    assert "max_queue_spans" in lines[0], "it says what to do"
    assert "5 spans dropped (send_failed)" in lines[1]
    assert "HTTP 503" in lines[1]
    assert "42 spans dropped (queue_full)" in lines[2]


def test_what_the_user_chose_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger()
    with caplog.at_level(logging.INFO):
        ledger.drop(DropReason.FILTERED)
        ledger.drop(DropReason.SAMPLED_OUT)
        ledger.report_rest()
    assert not caplog.records


def test_shutdown_reports_the_losses_that_no_line_has_named_yet(caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger(clock=Clock())
    ledger.drop(DropReason.QUEUE_FULL)
    ledger.drop(DropReason.QUEUE_FULL, 7)
    ledger.report_rest()
    ledger.report_rest()
    assert [r.getMessage() for r in caplog.records][1:] == [
        "otel-langfuse: at shutdown, dropped since last reported: queue_full 7"
    ]


def test_a_log_handler_that_raises_harms_nobody() -> None:
    class Broken(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise RuntimeError

    logger = logging.getLogger("otel_langfuse.tests.broken")
    logger.addFilter(Broken())
    ledger = Ledger(logger=logger)
    ledger.drop(DropReason.REJECTED)
    assert ledger.snapshot().dropped == {"rejected": 1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_counts_from_zero_and_logs_even_if_its_parent_was_just_logging() -> None:
    ledger = Ledger()
    ledger.start(3)
    with ledger._logging:  # as another thread might hold it at the moment of the fork
        pid = os.fork()
        if pid == 0:
            ledger.drop(DropReason.REJECTED)
            os._exit(0 if ledger.snapshot() == (0, 0, 0, {"rejected": 1}, 0) and ledger._logged_at else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert ledger.snapshot().started == 3
