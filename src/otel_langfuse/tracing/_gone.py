"""What is still open when nobody holds it any more, or when the process ends: ended then, because what never ends is never sent.

The garbage collector may run while somebody holds a lock that a span processor needs; so what it finds is only noted, and is
ended with the next occasion. In a forked child all of it starts anew: what the parent began is the parent's to end.
"""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from otel_langfuse import ending


class _Settling(Protocol):
    def settle(self) -> None:
        """Ends it. Never raises."""


class Open:
    """Something that ends an observation, once; ``settle`` is called when it is gone, and at the end of the process."""

    __slots__ = ("__weakref__", "_is_open", "_pid")

    def __init__(self) -> None:
        self._is_open = True
        self._pid = os.getpid()
        with _State.lock:
            _State.open.add(self)
        watch()
        settle_gone()

    def take(self) -> bool:
        """Whether it is the caller who ends it; True once."""
        was, self._is_open = self._is_open, False
        return was

    def settle(self) -> None:
        """Ends it. Never raises."""
        raise NotImplementedError

    def __del__(self, getpid: Callable[[], int] = os.getpid) -> None:
        if self._is_open and self._pid == getpid():
            settle_later(self)


class _State:
    """Of this process."""

    lock = threading.Lock()
    open: weakref.WeakSet[Open] = weakref.WeakSet()
    gone: deque[_Settling] = deque()
    is_collecting = False
    is_armed = False


def watch() -> None:
    """To be called before there is anything that ``settle_later`` may be called with: from then on it is known who calls."""
    if not _State.is_armed:
        _arm()


def settle_later(one: _Settling) -> None:
    """Ends what nobody holds any more, now; or with the next occasion, where the garbage collector has found it."""
    _State.gone.append(one)
    if not _State.is_collecting:
        settle_gone()


def settle_gone() -> None:
    """Ends what nobody holds any more."""
    while _State.gone:
        with suppress(IndexError):  # another thread was faster
            _State.gone.popleft().settle()


def _settle_all() -> None:
    settle_gone()
    with _State.lock:
        left = [one for one in _State.open if one._is_open]  # noqa: SLF001 - our own
    for one in left:
        one.settle()


def _is_due() -> bool:
    return bool(_State.gone) or any(one._is_open for one in list(_State.open))  # noqa: SLF001 - our own


def _collecting(phase: str, _: Any) -> None:
    _State.is_collecting = phase == "start"


def _arm() -> None:
    _State.is_armed = True
    if _collecting not in gc.callbacks:
        gc.callbacks.append(_collecting)
    ending.begin_with(_FIRST)


def _start_anew() -> None:
    _State.lock = threading.Lock()
    _State.open, _State.gone = weakref.WeakSet(), deque()
    _State.is_collecting = False


_FIRST = ending.First(_is_due, _settle_all)

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
