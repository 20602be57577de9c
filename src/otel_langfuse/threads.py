"""Threads and locks of the operating system, under the names of ``threading``, whatever gevent has made of that.

After ``gevent.monkey.patch_all()`` a ``threading.Thread`` is a greenlet: it runs when the application lets it, so a worker would
send nothing while the application computes, and its locks hand over to a scheduler in the middle of ``put``. What is here is
never a greenlet. A greenlet that has to wait for a worker does so in gevent's own ``sleep``, in steps of ``STEP_S``, so that
all others go on meanwhile.

Each name decides when it is used, not when this is imported, because a process may be patched after that (gunicorn's gevent
workers are, with an application that was loaded before them). Without gevent these are ``threading``'s own.
"""

from __future__ import annotations

import _thread
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

STEP_S: Final = 0.005
"""How often a greenlet looks whether what it waits for has happened."""

TIMEOUT_MAX: Final = threading.TIMEOUT_MAX


def is_patched() -> bool:
    """Whether gevent has replaced ``threading`` in this process."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def _original(module: str, name: str) -> Any:
    monkey = sys.modules.get("gevent.monkey")
    return getattr(sys.modules[module], name) if monkey is None else monkey.get_original(module, name)


def get_ident() -> int:
    """The running thread's id; all greenlets of a thread have the same."""
    if "gevent.monkey" not in sys.modules:  # the usual case, and this is called for each span that is left out
        return _get_ident()
    ident: int = _original("_thread", "get_ident")()
    return ident


_get_ident: Final = _thread.get_ident


# -- threads -----------------------------------------------------------------------------------------------------------

_running: Final[dict[int, _Native]] = {}


class _Native:
    """A daemon thread that gevent knows nothing of; as much of ``threading.Thread`` as we use."""

    def __init__(self, target: Callable[[], object], name: str) -> None:
        self.name = name
        self._target = target

    def start(self) -> None:
        _original("_thread", "start_new_thread")(self._run, ())

    def _run(self) -> None:
        _running[get_ident()] = self
        try:
            self._target()
        finally:
            _running.pop(get_ident(), None)


def Thread(*, target: Callable[[], object], name: str, daemon: bool = True) -> Any:  # noqa: N802 - threading's name for it
    """A thread with ``start()``, which raises ``RuntimeError`` where none can be started. Under gevent always a daemon."""
    return _Native(target, name) if is_patched() else threading.Thread(target=target, name=name, daemon=daemon)


def current_thread() -> Any:
    """The running thread: the object that ``Thread`` returned, in the threads made by that."""
    return _running.get(get_ident()) or threading.current_thread()


# -- locks -------------------------------------------------------------------------------------------------------------


def Lock() -> Any:  # noqa: N802 - as above
    """A lock. Under gevent, take it only for a moment, or by ``acquire``: whoever waits for it stops all greenlets."""
    return _original("_thread", "allocate_lock")()


def RLock() -> Any:  # noqa: N802 - as above
    """A reentrant lock; the same holds. Greenlets of one thread are one owner."""
    return _original("_thread", "RLock")()


def acquire(lock: Any, timeout_s: float) -> bool:
    """Takes a lock, waiting for it at most ``timeout_s`` seconds (or ``math.inf``), without stopping other greenlets."""
    if _is_greenlet():
        return _poll(lambda: lock.acquire(False), timeout_s)
    return bool(lock.acquire(True, -1 if timeout_s >= TIMEOUT_MAX else max(timeout_s, 0.0)))


class Condition(threading.Condition):
    """``threading.Condition`` for an ``RLock`` of ours. Waiting lets go of it altogether, however often this thread holds it."""

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until notified, at most ``timeout`` seconds. Returns whether it was. The lock is held, before and after."""
        waiter = Lock()
        waiter.acquire()
        self._waiters.append(waiter)
        held = self._release_save()
        try:
            return acquire(waiter, TIMEOUT_MAX if timeout is None else timeout)
        finally:
            self._acquire_restore(held)
            with suppress(ValueError):
                self._waiters.remove(waiter)

    if TYPE_CHECKING:  # what the base class has for this purpose, without saying so
        _waiters: deque[Any]
        _release_save: Callable[[], Any]
        _acquire_restore: Callable[[Any], None]


# -- greenlets ---------------------------------------------------------------------------------------------------------


def _is_greenlet() -> bool:
    return is_patched() and get_ident() not in _running


def _poll(attempt: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not attempt():
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        _pause(min(STEP_S, left_s))
    return True


def _pause(seconds: float) -> None:
    """Lets other greenlets go on; where none can (in a signal handler that interrupted their scheduler), just sleeps."""
    try:
        sys.modules["gevent"].sleep(seconds)
    except AssertionError:  # BlockingSwitchOutError
        _original("time", "sleep")(seconds)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_running.clear)
