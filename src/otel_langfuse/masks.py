"""The mask of one destination, from its settings; and calls of the user's functions for it that are not waited for for ever.

Nothing in Python ends a function from outside. So they run on a thread of their own, one for each batch; when a call takes longer
than its limit, that thread is left behind, and another one goes on with the next value. When ``MAX_STUCK`` threads have been left
behind and not come back, the function is called no more until one does: values fail at once. So delivery goes on after at most
``MAX_STUCK`` times the limit, and a process has no more threads than that from it.

What holds the interpreter (a regular expression that backtracks for ever) cannot be left behind by anybody.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from otel_langfuse import threads
from otel_langfuse.config import Config
from otel_langfuse.pipeline.mask import Answer, Mask, Masking, answer, masking, run_each

MAX_STUCK: Final = 4


def masking_for(config: Config, mask: Mask | Masking | None = None, mask_otel_spans: Any = None) -> Masking | None:
    """What is masked for one destination; None if nothing is.

    Args:
        config: its ``mask``, ``mask_secrets`` and ``mask_timeout_s``; what ``LANGFUSE_MASK`` names is masked whatever ``mask``
            is. Its secret key is a secret whatever it looks like.
        mask: as the doors take it; a ``Masking`` is returned as it is.
        mask_otel_spans: as the processor takes it.

    Raises:
        ConfigError: something of it cannot work.
    """
    if isinstance(mask, Masking):
        return mask
    return masking(
        mask,
        secrets=config.mask_secrets,
        more=config.mask,
        own_secrets=() if config.secret_key is None else (config.secret_key,),
        mask_otel_spans=mask_otel_spans,
        run=Watched(config.mask_timeout_s),
    )


class Watched:
    """Calls a function with each of some values. Safe on several threads, and in forked children.

    Args:
        limit_s: seconds for one call.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._stuck: list[_Round] = []
        self._pid = os.getpid()

    def __call__(self, function: Callable[[Any], Any], values: Sequence[Any]) -> list[Answer]:
        """One answer for each value; see ``pipeline.mask.Run``. ``SystemExit`` and ``KeyboardInterrupt`` pass through."""
        if os.getpid() != self._pid:  # threads are not in a forked child
            self._pid, self._stuck = os.getpid(), []
        answers: list[Answer] = []
        while len(answers) < len(values):
            self._stuck = [one for one in self._stuck if not one.ended]
            if len(self._stuck) >= MAX_STUCK:
                return answers + [Answer(error="mask is not called while calls of it do not end")] * (len(values) - len(answers))
            one = _Round(function, values[len(answers) :])
            try:
                threads.Thread(target=one.run, name="otel-langfuse-mask", daemon=True).start()
            except RuntimeError:  # at the end of the interpreter, which waits for no thread of ours
                return answers + run_each(function, values[len(answers) :])
            answers += one.wait(self._limit_s)
            if len(answers) < len(values):
                self._stuck.append(one)
                answers.append(Answer(error=f"mask took longer than {self._limit_s:g} s"))
        return answers


class _Round:
    """The calls that one thread makes."""

    def __init__(self, function: Callable[[Any], Any], values: Sequence[Any]) -> None:
        self._function = function
        self._values = values
        self._answers: list[Answer] = []
        self._began = time.monotonic()
        self._exit: BaseException | None = None
        self._done = threads.Lock()
        self._done.acquire()
        self.ended = False

    def run(self) -> None:
        """On its own thread."""
        answers = self._answers
        try:
            for value in self._values:
                self._began = time.monotonic()
                one = answer(self._function, value)
                if self._answers is not answers:  # left behind
                    return
                answers.append(one)
        except (SystemExit, KeyboardInterrupt) as error:
            self._exit = error
        finally:
            self.ended = True
            self._done.release()

    def wait(self, limit_s: float) -> list[Answer]:
        """The answers; fewer than values if a call takes longer than ``limit_s``, for which nobody waits any more then.

        Raises:
            SystemExit, KeyboardInterrupt: as the function raised it.
        """
        while not threads.acquire(self._done, self._began + limit_s - time.monotonic()):
            if time.monotonic() - self._began >= limit_s:
                found, self._answers = self._answers, []
                return found
        if self._exit is not None:
            raise self._exit
        return self._answers
