"""The nodes of this process: those that have not ended, and the latest of those that have, for who knows only their ids.

In a forked child all of it starts anew: what the parent began is the parent's to end, unless the child does so by a handle.
"""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from otel_langfuse import ending

if TYPE_CHECKING:
    from ._node import Node

MAX_ENDED: Final = 1_000
"""Nodes that have ended and can still be told something by their id, or by the id of their trace, at most."""

MAX_ENDED_CHARACTERS: Final = 16_000_000
"""Characters of what they say, at most. What one holds by a handle is not bounded here."""

_Key: TypeAlias = "tuple[Any, str]"
"""A client, and the id of an observation or a trace: two projects may call different things by the same id."""


class _State:
    """Of this process."""

    lock = threading.RLock()
    turn = threading.RLock()
    open: dict[_Key, Node] = {}
    ended: OrderedDict[_Key, Node] = OrderedDict()
    sizes: dict[_Key, int] = {}
    size = 0
    orphans: deque[Node] = deque()
    is_collecting = False
    is_armed = False


def add(node: Node) -> None:
    """Remembers a node by its id; a root also by that of its trace."""
    with _State.lock:
        if not _State.is_armed:
            _arm()
        if node.is_open:
            _State.open.update(dict.fromkeys(_keys(node), node))
            for above in node.above():
                above.open_below += 1
    if not node.is_open:
        _remember(node)
    settle_orphans()


def ended(node: Node, end_ns: int) -> None:
    """It has ended: from now on it is remembered only as long as there is room."""
    with _State.lock:
        was_open, node.is_open = node.is_open, False
        for above in node.above():
            above.open_below -= was_open
            above.child_ended(end_ns)
    _remember(node)  # before it is forgotten there: whoever looks for it meanwhile finds it in one place or the other
    with _State.lock:
        for key in _keys(node):
            if _State.open.get(key) is node:
                del _State.open[key]


def _remember(node: Node) -> None:
    with _State.lock:
        own = (node.client, node.id)
        if own not in _State.sizes:
            _State.sizes[own] = size = _characters(node)
            _State.size += size
        _State.ended.update(dict.fromkeys(_keys(node), node))
        gone = _evicted()
    for one in gone:
        if one.is_stale:
            one.settle()


def find(client: Any, id: str) -> Node | None:  # noqa: A002 - its name
    """The node of an observation's id, or the root of a trace's, if this client knows it: another one's is another's."""
    key = (client, id)
    return _State.open.get(key) or _State.ended.get(key)


def turn() -> AbstractContextManager[object]:
    """One thread at a time: between the question whether an id is known and its answer, and while a node is told something."""
    return _State.turn


def is_used() -> bool:
    """Whether anything is known, so that there is a client, too."""
    return bool(_State.open or _State.ended)


def _keys(node: Node) -> tuple[_Key, ...]:
    own = (node.client, node.id)
    return (own, (node.client, node.trace_id)) if node.up is None and node.root is node else (own,)


def _evicted() -> list[Node]:
    gone: list[Node] = []
    while _State.ended and (len(_State.ended) > MAX_ENDED or _State.size > MAX_ENDED_CHARACTERS):
        _, node = _State.ended.popitem(last=False)
        _State.size -= _State.sizes.pop((node.client, node.id), 0)
        gone.append(node)
    return gone


def _characters(node: Node) -> int:
    attributes: Mapping[str, Any] = getattr(node.span, "attributes", None) or {}
    return sum(len(value) for value in attributes.values() if isinstance(value, (str, tuple)))


# -- handles -------------------------------------------------------------------------------------------------------------------


class Hold:
    """Held by every handle of a node, and by the holds of what is below it. When it is gone, nobody will end the node."""

    __slots__ = ("__weakref__", "above", "node")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.above: Hold | None = None if node.up is None else hold(node.up)

    def __del__(self, getpid: Callable[[], int] = os.getpid) -> None:
        node = self.node
        if node.pid != getpid():
            return
        if node.holder is not None and node.holder() is self:  # it is asked for while this is still here
            node.holder = None
        _State.orphans.append(node)
        if not _State.is_collecting:  # the collector may run while somebody holds a lock that an exporter needs
            settle_orphans()


def hold(node: Node) -> Hold:
    """The hold of a node."""
    with _State.lock:
        found = None if node.holder is None else node.holder()
        if found is None:
            found = Hold(node)
            node.holder = weakref.ref(found)
        return found


def settle_orphans() -> None:
    """Ends the nodes that nobody can end any more. What was sent of a trace and ends too early waits for a flush."""
    while _State.orphans:
        with suppress(IndexError):  # another thread was faster
            node = _State.orphans.popleft()
            if node.span.is_recording() and (node.holder is None or node.holder() is None):
                node.settle()


def _collecting(phase: str, _: Any) -> None:
    _State.is_collecting = phase == "start"


# -- flush, and the end ------------------------------------------------------------------------------------------------------


def settle_idle() -> None:
    """Ends the traces in which nothing runs, and corrects the ends of those that were sent before their last observation."""
    settle_orphans()
    for node in _all():
        if node.is_stale or (node.is_trace and not node.open_below):
            node.settle()


def settle_all() -> None:
    """Ends everything, what is deepest first."""
    settle_orphans()
    for node in sorted(_all(), key=lambda node: -len(node.above())):
        if node.is_open or node.is_stale:
            node.settle()


def _all() -> list[Node]:
    with _State.lock:
        return list({id(node): node for node in (*_State.open.values(), *_State.ended.values())}.values())


def _is_due() -> bool:
    return bool(_State.open) or any(node.is_stale for node in list(_State.ended.values()))


def _arm() -> None:
    _State.is_armed = True
    if _collecting not in gc.callbacks:
        gc.callbacks.append(_collecting)
    ending.begin_with(ending.First(_is_due, settle_all))


def _start_anew() -> None:
    _State.lock, _State.turn = threading.RLock(), threading.RLock()
    _State.open, _State.ended, _State.sizes, _State.orphans = {}, OrderedDict(), {}, deque()
    _State.size = 0
    _State.is_collecting = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
