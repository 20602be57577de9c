"""Where observations come from: a tracer of the application's own TracerProvider. And the context that they are current in."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, NamedTuple

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, Tracer, set_span_in_context
from opentelemetry.trace import propagation as trace_propagation
from opentelemetry.trace.propagation import get_current_span

from otel_langfuse.stats import Ledger

from ._sampling import ALWAYS, Asked

SCOPE: Final = "otel-langfuse"
"""The instrumentation scope of our spans. Not ``langfuse-sdk``, whose spans lose their other attributes on Langfuse's server."""

NOTES: Final = Ledger()
"""What users should know, at most once a minute for each topic."""

_ROOT: Final = otel_context.create_key("otel-langfuse-local-root")
_ABSENT: Final = object()
CURRENT: Final[str | None] = getattr(trace_propagation, "_SPAN_KEY", None)  # without it: by public functions, with more steps


_BLIND: Final = re.compile(
    r"(LangfuseSampler\{[\d.e-]+,|ParentBased\{root:|,(remote|local)Parent(Not)?Sampled:|Always(On|Off)Sampler|TraceIdRatioBased\{[\d.e-]+\}|\})*"
)
"""How the SDK's own samplers, and ours, describe themselves: none of them looks at attributes."""


class Origin(NamedTuple):
    """A tracer, and what is known of its sampler.

    ``inherits``: a span under a local one that is not sampled is never sampled (as ``ParentBased`` has it). ``looks``: it may
    look at the attributes that a span starts with.
    """

    tracer: Tracer
    inherits: bool
    looks: bool


class _State:
    """What ``configure`` has said, and the origin that was made last, with the provider that it belongs to."""

    def __init__(self) -> None:
        self.provider: Any = None
        self.enabled = True
        self.base_url: str | None = None
        self.score: Callable[..., str | None] | None = None
        self.begin: Callable[[], object] | None = None
        self.is_beginning = False
        self.was_told = False  # what to begin by, or that there is nothing to begin
        self.lock = threading.RLock()
        self.made: tuple[Any, Origin | None] = (None, None)


_state: Final = _State()


def register(
    *,
    provider: Any = None,
    base_url: str | None = None,
    enabled: bool = True,
    score: Callable[..., str | None] | None = None,
) -> None:
    """Called by the client, which knows what this room may not import.

    Args:
        provider: a TracerProvider to use instead of the global one; None: the global one.
        base_url: of the server that ``get_trace_url`` leads to; None: there is none with pages.
        enabled: False: nothing is recorded.
        score: gives a score; None: there is nobody who takes one.
    """
    _state.provider, _state.base_url, _state.enabled, _state.score = provider, base_url, enabled, score
    _state.begin, _state.was_told = None, True
    _state.made = (None, None)


def begin_by(begin: Callable[[], object]) -> None:
    """Says what is called, once, before the next observation or score: what a client does that nobody has configured yet."""
    _state.begin, _state.was_told = begin, True
    _state.made = (None, None)


def begin_unless_told(begin: Callable[[], object]) -> None:
    """The same, for who has not been told anything yet: neither this, nor by ``begin_by``, nor by ``register``."""
    if not _state.was_told:
        begin_by(begin)


def _begin() -> bool:
    """Begins, or waits until another thread has; True if something may have changed. Never raises.

    What begins may ask for observations itself: then it is told that nothing has changed.
    """
    with _state.lock:
        if _state.is_beginning:
            return False
        begin = _state.begin
        if begin is None:
            return True
        _state.is_beginning = True
        try:
            begin()
        except Exception as error:  # noqa: BLE001 - it is the application's function that is called, or nobody's
            NOTES.note("begin", f"nothing is recorded: {type(error).__name__} while setting up what the environment says")
        finally:
            _state.begin, _state.is_beginning = None, False
            _state.made = (None, None)
    return True


def _start_anew() -> None:
    # In a forked child another thread of the parent may seem to hold it for ever, or to be beginning.
    _state.lock, _state.is_beginning = threading.RLock(), False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


def base_url() -> str | None:
    """Of the server that the client sends to, without a slash at its end; None without a client, or where it has no pages."""
    return _state.base_url


def chosen_provider() -> Any:
    """The TracerProvider that ``configure`` was given to use instead of the global one; None if it was not."""
    return _state.provider


def scored(name: str, value: float | str, fields: Mapping[str, Any]) -> str | None:
    """Hands a score to the client; None, with a note, where there is none."""
    if _state.score is None and _state.begin is not None:
        _begin()
    if _state.score is None:
        NOTES.note("score", "a score is lost: expected configure() or Langfuse() before")
        return None
    return _state.score(name, value, **fields)


def origin() -> Origin | None:
    """The tracer to use now; None where nothing is recorded: no provider, or one without an SDK behind it, or disabled.

    The slot is read because ``get_tracer_provider()`` looks into the environment as long as no provider is set, which takes
    longer than all the rest of a call that records nothing. Without the slot, that function is asked.
    """
    provider = _state.provider or getattr(trace, "_TRACER_PROVIDER", _ABSENT)
    made = _state.made
    if made[0] is provider and provider is not None:
        return made[1]
    return _made(provider)


def _made(provider: Any) -> Origin | None:
    if _state.begin is not None and _begin():
        return origin()
    if provider is None and _asked():
        return None
    if provider is None or provider is _ABSENT:
        provider = trace.get_tracer_provider()
        if isinstance(provider, trace.ProxyTracerProvider):
            return None
        made = _state.made
        if made[0] is provider:
            return made[1]
    found = _origin_of(provider) if _state.enabled else None
    _state.made = (provider, found)
    return found


@lru_cache(maxsize=1)
def _asked() -> bool:
    """Whether a provider that the environment names (``OTEL_PYTHON_TRACER_PROVIDER``) has been loaded; done at first use."""
    return isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def _origin_of(provider: Any) -> Origin | None:
    try:
        tracer = provider.get_tracer(SCOPE, _version())
        if isinstance(tracer, trace.NoOpTracer):
            return None
        sampler = getattr(tracer, "sampler", None)
        description = "" if sampler is None else str(sampler.get_description())
        inherits = "localParentNotSampled:AlwaysOffSampler" in description
        looks = not description or not _BLIND.fullmatch(description)
        if not looks and ALWAYS in description and CURRENT is not None and type(sampler) is not Asked:
            with suppress(AttributeError):
                tracer.sampler = Asked(sampler, CURRENT)
        return Origin(tracer, inherits, looks)
    except Exception as error:  # noqa: BLE001 - a foreign provider must not break the application's functions
        NOTES.note("provider", f"nothing is recorded: {type(provider).__name__} gives no tracer ({type(error).__name__})")
        return None


@lru_cache(maxsize=1)
def _version() -> str:
    try:
        return version("otel-langfuse")
    except PackageNotFoundError:  # run from its source without being installed
        return ""


def current(context: Context) -> Span | None:
    """The current span of a context; None if there is none."""
    if CURRENT is None:
        return get_current_span(context)
    return context.get(CURRENT)  # type: ignore[return-value]


def unsampled(context: Context) -> Span | None:
    """The current span, if it is one of this process that is not sampled."""
    parent: Span | None = get_current_span(context) if CURRENT is None else context.get(CURRENT)  # type: ignore[assignment]
    if parent is None or parent.is_recording():
        return None
    found = parent.get_span_context()
    return parent if found.is_valid and not found.is_remote and not found.trace_flags.sampled else None


_put: Final[Callable[[Any, Any, Any], None]] = dict.__setitem__
"""A ``Context`` refuses to be changed."""


def within(span: Span, context: Context) -> Context:
    """``context`` with this span as the current one, and with the local root of its trace, which late updates need."""
    trace_id = span.get_span_context().trace_id
    root: Any = context.get(_ROOT)
    is_new = root is None or root[0] != trace_id
    if is_new:
        parent = current(context)
        above = parent if parent and parent.is_recording() and parent.get_span_context().trace_id == trace_id else span
        root = (trace_id, above)
    if CURRENT is None:
        return set_span_in_context(span, otel_context.set_value(_ROOT, root, context))
    made = Context(context)
    _put(made, CURRENT, span)  # it is not shared yet: set_value() would copy it for each value
    if is_new:
        _put(made, _ROOT, root)
    return made


def local_root(span: Span) -> Span | None:
    """The topmost span of this trace that is known in this process, if it is another one and still recording."""
    root = otel_context.get_value(_ROOT)
    if not isinstance(root, tuple) or root[0] != span.get_span_context().trace_id or root[1] is span:
        return None
    above: Span = root[1]
    return above if above.is_recording() else None
