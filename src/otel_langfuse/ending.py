"""The ways in which a process ends, and what is still queued then: delivered, within one limit for all of it.

===========================  ==========================================================================================
end                          what is done about it
===========================  ==========================================================================================
the interpreter's            ``atexit``, always.
SIGTERM                      its default action kills without ``atexit``. Where that is what would happen, and from the main
                             thread, a handler is installed that delivers and then lets the default action happen: the exit
                             status stays -15, a second SIGTERM kills at once. A handler of the application's is never
                             replaced; if it installs one later, ours is gone, and the application's decides.
``signal.raise_signal``      uvicorn restores SIG_DFL and raises the signal again: wrapped, for signals that would kill.
``os._exit``                 ends children of ``os.fork``, ``multiprocessing``, Celery's: wrapped.
``multiprocessing``          a finalizer in its children, which run those and no ``atexit``.
===========================  ==========================================================================================

Why the wrappers are safe: where nothing is queued, as in a child that was forked to ``exec``, they do nothing but call the
original. Else they wait for a worker thread, at most what is left of the limit, take no lock that they could wait for longer,
and then call the original whatever happened. ``disarm`` takes all of it back, and the setting ``flush_on_exit`` leaves it out.

Nothing helps against SIGKILL, ``os.exec*`` and a crash; and while the main thread is inside of a long call of C code, Python
runs no signal handler, so SIGTERM waits for the end of that call.

This knows no queue: ``batch`` tells it what to ask and what to call.
"""

from __future__ import annotations

import atexit
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple

from . import threads

_FATAL: Final = frozenset(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT") if hasattr(signal, name))
"""Signals that programs end themselves by, and that kill where nobody handles them."""

_AFTER_ALL_OTHERS: Final = -1000
"""The priority of our finalizer: multiprocessing runs those with a higher one first."""


_HANDLER_S: Final = 1.0
"""How long a signal handler waits for what is done first."""


class Queues(NamedTuple):
    """What is to be asked, and called, in seconds, on the thread that ends the process."""

    hold_items: Callable[[], bool]
    flush: Callable[[float], object]
    shutdown: Callable[[float], object]
    limit_s: Callable[[], float]


class First(NamedTuple):
    """What is to be asked, and done before anything is delivered: ending what would otherwise never end, and never be queued."""

    is_due: Callable[[], bool]
    do: Callable[[], object]


class _State:
    """Of this process."""

    first: list[First] = []

    queues: Queues | None = None
    armed = False
    finalizer = False
    began_at: float | None = None  # when the first of the ends began; all of them share the limit


def watch(queues: Queues) -> None:
    """Says what is to be delivered. Called once, at import, so that it happens after all exit functions registered later."""
    _State.queues = queues
    atexit.register(_at_exit)


def begin_with(first: First) -> None:
    """Adds what is done first, at each of the ends; each once. It may be called, and do its work, more than once."""
    if first not in _State.first:
        _State.first.append(first)
        # Functions registered last run first: before the SDK's providers shut down, which were made before this is called.
        atexit.register(first.do)


def arm() -> None:
    """Sees to it that what is queued in this process survives its end. Cheap, and may be called again, on any thread.

    To be called when a queue is made and with the first item of a process: only the main thread can install a signal handler,
    and a forked child has finalizers of its own.
    """
    _State.armed = True
    _wrap()
    _join_multiprocessing()
    # Not any more when the process has begun to end: then a second SIGTERM is to kill it, as it would without us.
    if _State.began_at is None and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        with suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGTERM, _on_sigterm)


def disarm() -> None:
    """Takes back all that ``arm`` did, as far as nobody has built on it since. From the main thread, also the handler."""
    _State.armed = False
    for module, name, ours in _WRAPPERS:
        if getattr(module, name) is ours:
            setattr(module, name, _originals.pop(name))
    if signal.getsignal(signal.SIGTERM) is _on_sigterm:
        with suppress(ValueError):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


# -- the ends ----------------------------------------------------------------------------------------------------------


def _at_exit() -> None:
    if _State.queues is not None:
        _State.queues.shutdown(_time_left_s(_State.queues))


_originals: Final[dict[str, Any]] = {}
"""What our wrappers call."""


def _exit(status: int) -> None:
    """``os._exit``, after what is queued has been delivered; see ``otel_langfuse.ending``."""
    original = _originals["_exit"]
    try:
        _deliver_last()
    finally:
        original(status)


def _raise_signal(signalnum: int) -> None:
    """``signal.raise_signal``; if that kills, after what is queued has been delivered; see ``otel_langfuse.ending``."""
    original = _originals["raise_signal"]
    try:
        if signalnum in _FATAL and signal.getsignal(signalnum) is signal.SIG_DFL and not _is_init():
            _deliver_last()
    finally:
        original(signalnum)


def _on_sigterm(signum: int, _: Any) -> None:
    if _is_init():
        _deliver_and_go_on(math.inf, in_handler=True)
        return
    signal.signal(signum, signal.SIG_DFL)
    try:
        _deliver_last(in_handler=True)
    finally:
        os.kill(os.getpid(), signum)


def _is_init() -> bool:
    """Whether this is the first process of a container: there the kernel takes no default action, so a signal ends nothing."""
    return os.getpid() == 1


def _wrap() -> None:
    """Once only, until ``disarm``: others may have wrapped what is ours since, and call it."""
    for module, name, ours in _WRAPPERS:
        if name not in _originals:
            _originals[name] = getattr(module, name)
            setattr(module, name, ours)


_WRAPPERS: Final = ((os, "_exit", _exit), (signal, "raise_signal", _raise_signal))


def _join_multiprocessing() -> None:
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None and not _State.finalizer:
        from multiprocessing.util import Finalize  # noqa: PLC0415 - it is loaded

        _State.finalizer = True
        Finalize(None, _finalize, exitpriority=_AFTER_ALL_OTHERS)


def _finalize() -> None:
    """Threads of the child may still be running, so this is not yet the time for a shutdown."""
    if _State.queues is not None:
        _deliver_and_go_on(_time_left_s(_State.queues))


# -- delivering --------------------------------------------------------------------------------------------------------


def _deliver_last(*, in_handler: bool = False) -> None:
    queues = _State.queues
    if queues is not None and _State.armed and _begun(queues, in_handler=in_handler):
        queues.shutdown(_time_left_s(queues))


def _deliver_and_go_on(seconds: float, *, in_handler: bool = False) -> None:
    queues = _State.queues
    if queues is not None and _State.armed and _begun(queues, in_handler=in_handler):
        queues.flush(min(seconds, queues.limit_s()))


def _begun(queues: Queues, *, in_handler: bool) -> bool:
    """Does what is to be done first. Returns whether there is anything to deliver."""
    due = [first for first in _State.first if first.is_due()]
    for first in due:
        _do(first, in_handler=in_handler)
    return bool(due) or queues.hold_items()


def _do(first: First, *, in_handler: bool) -> None:
    """A signal handler may have interrupted somebody who holds the lock that is needed: then it waits on a thread, not here."""
    if in_handler:
        done = threads.Lock()
        done.acquire()

        def do() -> None:
            try:
                first.do()
            finally:
                done.release()

        with suppress(RuntimeError):  # no thread can be started any more
            threads.Thread(target=do, name="otel-langfuse-ending").start()
            threads.acquire(done, _HANDLER_S)
        return
    with suppress(Exception):  # what is queued is to be delivered all the same
        first.do()


def _time_left_s(queues: Queues) -> float:
    """What the ends of this process before this one have left of the limit."""
    now = time.monotonic()
    if _State.began_at is None:
        _State.began_at = now
    return max(queues.limit_s() - (now - _State.began_at), 0.0)


def _start_anew() -> None:
    _State.began_at = None
    _State.finalizer = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
