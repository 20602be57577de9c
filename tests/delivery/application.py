"""The application of every scenario: it makes spans, with our processor or with the stock SDK's, and tells how long it waited.

``python application.py PLAN`` runs it in a process of its own, as ``make faults`` does: a line of JSON when it begins to
leave, and at its end, when the provider was shut down, its account. ``perform`` runs it inside of a test.
"""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

OURS, STOCK = "ours", "stock"
INTERVAL_S = 0.2  # between batches, where a scenario asks for short ones
WRITING_S = 0.3  # what may pass between the end of an interval and the last byte on disk, on a busy machine


class Plan(NamedTuple):
    """What the application does. Everything has a JSON form.

    ``size`` are characters of text in each span, ``large`` those of the eighth; neither can be compressed much. ``bad`` gives
    the eighth an error message that no UTF-8 holds. ``flush_s`` asks for a flush before it leaves. ``ours`` are settings of our
    processor, ``exporter`` of our exporter and ``stock`` of the stock one: all of them defaults, unless the scenario's scale
    needs others.
    """

    program: str = "plain"
    spans: int = 20
    first: int = 0
    size: int = 10
    large: int = 0
    bad: bool = False
    spread_s: float = 0.0
    flush_s: float | None = None
    protocol: str = "http/protobuf"
    ours: dict[str, Any] = {}
    exporter: dict[str, Any] = {}
    stock: dict[str, Any] = {}
    stock_processor: dict[str, Any] = {}


class Measured(NamedTuple):
    """What an application knows of itself. Times are in seconds; ``stats`` are the five of ``Stats``, None for the stock SDK."""

    ended: int = 0
    raised: int = 0
    longest_end_s: float = 0.0
    flush_s: float | None = None
    flush_said: bool | None = None
    exit_s: float | None = None
    rss_mib: float | None = None
    stats: list[Any] | None = None


# -- the two ways to send ------------------------------------------------------------------------------------------------------


def new_processor(which: str, url: str, plan: Plan) -> Any:
    """Our processor with our exporter, or the stock one with the stock exporter."""
    return _ours(url, plan) if which == OURS else _stock(url, plan)


def _ours(url: str, plan: Plan) -> Any:
    from otel_langfuse import LangfuseIngestionExporter, LangfuseOTLPExporter, LangfuseSpanProcessor

    if plan.protocol == "ingestion":
        keys = {"public_key": "pk-lf-x", "secret_key": "sk-lf-x"}
        return LangfuseSpanProcessor(LangfuseIngestionExporter(base_url=url, **keys, **plan.exporter), filter="all", **plan.ours)
    settings = dict(plan.ours)
    if plan.program == "filter":
        settings["should_export_span"] = _broken_filter
    return LangfuseSpanProcessor(LangfuseOTLPExporter(endpoint=url, protocol=plan.protocol, **plan.exporter), **settings)


def _stock(url: str, plan: Plan) -> Any:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    if plan.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

        exporter: Any = GrpcExporter(endpoint=url, insecure=True, **plan.stock)
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

        exporter = HttpExporter(endpoint=url, **plan.stock)

    class Filtering(BatchSpanProcessor):
        """How one filters with the stock SDK."""

        def on_end(self, span: Any) -> None:
            if _broken_filter(span):
                super().on_end(span)

    return (Filtering if plan.program == "filter" else BatchSpanProcessor)(exporter, **plan.stock_processor)


def _broken_filter(span: Any) -> bool:
    return bool(span.attributes["not there"]) if span.name == "3" else True


# -- what it does --------------------------------------------------------------------------------------------------------------


class Application:
    """Makes the spans of a plan, each named by its number, and measures."""

    def __init__(self, which: str, url: str, plan: Plan, *, ends_with_process: bool) -> None:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.trace import Status, StatusCode

        self.plan = plan
        self.measured = Measured()
        self.processor = new_processor(which, url, plan)
        self.provider = TracerProvider(shutdown_on_exit=ends_with_process)
        self.provider.add_span_processor(self.processor)
        self._tracer = self.provider.get_tracer("faults")
        self._bad_status = Status(StatusCode.ERROR, "no such file: \udcff")  # the name of a file, as Python has it
        self._noise = Random(1).randbytes(1000).hex()
        self._rss_mib = _rss_mib()

    def end(self, number: int) -> None:
        """One span."""
        plan = self.plan
        size = plan.large if plan.large and number == plan.first + 7 else plan.size
        text = self._text(number, size)
        status = self._bad_status if plan.bad and number == plan.first + 7 else None
        begin = time.monotonic()
        try:
            span = self._tracer.start_span(str(number), attributes={"text": text})
            if status is not None:
                span.set_status(status)
            span.end()
        except Exception:  # noqa: BLE001 - whatever is raised into the application is counted
            self.measured = self.measured._replace(raised=self.measured.raised + 1)
        waited_s = time.monotonic() - begin
        longest_s = max(self.measured.longest_end_s, waited_s)
        self.measured = self.measured._replace(ended=self.measured.ended + 1, longest_end_s=longest_s)

    def end_all(self) -> None:
        """All spans of the plan, spread over its time."""
        plan = self.plan
        begin = time.monotonic()
        for i in range(plan.spans):
            if plan.spread_s and i % 100 == 0:
                time.sleep(max(begin + plan.spread_s * i / plan.spans - time.monotonic(), 0.0))
            self.end(plan.first + i)
        if self._rss_mib is not None:
            time.sleep(1.0 if plan.size >= 1_000_000 else 0.0)  # the worker makes its first request meanwhile
            self.measured = self.measured._replace(rss_mib=(_peak_mib() or 0.0) - self._rss_mib)

    def flush(self) -> None:
        """If the plan asks for it."""
        if self.plan.flush_s is not None:
            begin = time.monotonic()
            said = self.processor.force_flush(int(self.plan.flush_s * 1000))
            self.measured = self.measured._replace(flush_s=time.monotonic() - begin, flush_said=said)

    def account(self) -> Measured:
        """With ``stats()``, where there are any."""
        stats = getattr(self.processor, "stats", None)
        return self.measured._replace(stats=None if stats is None else list(stats()))

    def _text(self, number: int, size: int) -> str:
        """No compression makes it small."""
        return self._noise[number % 1000 :][:size] if size < 1000 else Random(number).randbytes(size // 2).hex()


def perform(which: str, url: str, plan: Plan) -> Measured:
    """The plain program inside of this process; leaving is the provider's shutdown."""
    application = Application(which, url, plan, ends_with_process=False)
    application.end_all()
    application.flush()
    begin = time.monotonic()
    application.provider.shutdown()
    exit_s = time.monotonic() - begin
    if which == OURS:
        assert application.processor.is_shut_down
    return application.account()._replace(exit_s=exit_s)


def _rss_mib() -> float | None:
    return _status_mib("VmRSS")


def _peak_mib() -> float | None:
    return _status_mib("VmHWM")


def _status_mib(key: str) -> float | None:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) / 1024
    return None


# -- programs that need a process of their own ---------------------------------------------------------------------------------


def say(**words: Any) -> None:
    """One line to who started this."""
    os.write(1, (json.dumps(words) + "\n").encode())


def plain(application: Application) -> None:
    """Ends its spans and leaves."""
    application.end_all()
    application.flush()


def sigterm(application: Application) -> None:
    """Ends its spans and then waits to be ended."""
    application.end_all()
    say(ended=application.measured._asdict(), at=time.monotonic())
    time.sleep(60)


def go_on(application: Application) -> None:
    """Ends one span after the other, until it is killed, and says when each ended."""
    number = application.plan.first
    while True:
        application.end(number)
        say(number=number, at=time.monotonic())
        number += 1
        time.sleep(0.002)


def fork(application: Application) -> None:
    """A third of the spans each by the parent, by a child that ends with ``os._exit``, and by the parent again."""
    third = application.plan.spans // 3
    for number in range(third):
        application.end(number)
    child = os.fork()
    if child == 0:
        for number in range(third, 2 * third):
            application.end(number)
        os._exit(0)
    os.waitpid(child, 0)
    for number in range(2 * third, 3 * third):
        application.end(number)


_application: Application | None = None


def _end_in_child(number: int) -> None:
    assert _application is not None
    _application.end(number)


def pool(application: Application) -> None:
    """All spans in the children of a ``multiprocessing.Pool``, which its ``with`` ends by SIGTERM."""
    global _application  # noqa: PLW0603 - children of a fork find it there
    _application = application
    with multiprocessing.get_context("fork").Pool(2) as workers:
        workers.map(_end_in_child, range(application.plan.spans))


def compute(application: Application) -> None:
    """Ends its spans, then computes without a pause for two seconds, and is killed (out of memory, say)."""
    application.end_all()
    end = time.monotonic() + 2.0
    while time.monotonic() < end:
        pass
    say(ended=application.measured._asdict(), at=time.monotonic())
    os.kill(os.getpid(), 9)


PROGRAMS = {f.__name__: f for f in (plain, sigterm, go_on, fork, pool, compute)} | {"filter": plain}


def main() -> None:
    """Reads ``[which, url, plan, patch]`` from its argument."""
    which, url, values, patched = json.loads(sys.argv[1])
    if patched:
        import gevent.monkey

        gevent.monkey.patch_all()
    # Registered before the provider's exit function, so it runs after that.
    atexit.register(lambda: say(account=application.account()._asdict()))
    application = Application(which, url, Plan(**values), ends_with_process=True)
    PROGRAMS[application.plan.program](application)
    say(leaving=time.monotonic())


if __name__ == "__main__":
    main()
