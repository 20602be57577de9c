"""``Langfuse``: the client that programs of Langfuse's own SDKs were written against, on OpenTelemetry's spans."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from otel_langfuse import client as clients
from otel_langfuse import tracing
from otel_langfuse.config import sqlite_path
from otel_langfuse.errors import ApiError
from otel_langfuse.model import ScoreFields, Stats
from otel_langfuse.tracing._origin import NOTES
from otel_langfuse.tracing.ids import observation_id_of, trace_id_of

from . import _known
from ._fields import given, text_of
from ._handles import ObservationHandle, TraceHandle
from ._modern import Modern
from ._platform import Platform
from ._start import observation_node, trace_node

if TYPE_CHECKING:
    from typing_extensions import Unpack

_LOGGER: Final = logging.getLogger("otel_langfuse")

_WITHOUT_MEANING: Final = frozenset(
    {
        "sdk_integration",
        "httpx_client",
        "additional_headers",
        "blocked_instrumentation_scopes",
        "id_generator",
        "otel_compression",
    }
)
"""Arguments of Langfuse's SDKs for their own machinery."""

_OTHER_NAMES: Final = {"media_upload_thread_count": "media_threads"}
"""Arguments of Langfuse's SDKs that are called otherwise here."""


_MAY_BE_EMPTY: Final = frozenset({"public_key", "secret_key", "base_url", "environment", "release"})
"""Of which an empty text means that nothing is given, as with Langfuse's SDKs: ``os.getenv("LANGFUSE_HOST", "")``."""


class Langfuse(Modern, Platform):
    """Traces, observations and scores by hand, as with Langfuse's own SDKs from 2 on. Safe to use on any thread.

    It joins the application's TracerProvider, or makes one, as ``configure`` does; made again for the same project it leads to
    the same destination. What it records are ordinary spans: other instrumentations and exporters work with them.

    A trace is a root span; ``id=`` may be any text, which stands for the OpenTelemetry id that ``trace_id_of`` makes of it, and
    is kept as metadata ``external_id``. See ``Handle`` for when traces and observations end that nobody ends. What is told to an
    observation after its end is sent as the whole observation again, which replaces the first at Langfuse and in the local
    store; another destination gets a further span, ``<name> (update)``, whose metadata names the observation.

    Args:
        public_key: of the project; else, or if it is empty (as with the other texts), ``LANGFUSE_PUBLIC_KEY``.
        secret_key: else ``LANGFUSE_SECRET_KEY``.
        host: the server; else ``LANGFUSE_BASE_URL`` or ``LANGFUSE_HOST``. ``base_url`` is another name for it.
        debug: shows this package's log lines from DEBUG on, and makes an invalid score raise ``ScoreError``.
        enabled: False: nothing is recorded or sent. ``tracing_enabled`` is another name for it.
        exporter: see ``configure``. ``span_exporter`` is another name for it.
        tracer_provider: see ``configure``.
        **settings: the other arguments of ``LangfuseSpanProcessor``: ``release``, ``environment``, ``mask``, ``sample_rate``,
            ``flush_at`` and ``flush_interval`` (of a batch), ``threads`` (requests at the same time), ``timeout`` (seconds for
            one request) and more. ``max_retries`` counts for calls that somebody waits for, like ``auth_check``; what is
            queued is tried again as long as the queue holds it, because giving up loses it.

    Raises:
        ConfigError: a setting cannot work. Nothing is raised later, but ``ScoreError`` in debug mode.
    """

    def __init__(
        self,
        public_key: str | None = None,
        secret_key: str | None = None,
        host: str | None = None,
        *,
        base_url: str | None = None,
        debug: bool | None = None,
        enabled: bool | None = None,
        tracing_enabled: bool | None = None,
        exporter: Any = None,
        span_exporter: Any = None,
        tracer_provider: Any = None,
        **settings: Any,
    ) -> None:
        if foreign := sorted(_WITHOUT_MEANING & settings.keys()):
            _LOGGER.warning("otel-langfuse: Langfuse(): these arguments have no meaning here: %s", ", ".join(foreign))
        chosen: dict[str, Any] = {
            _OTHER_NAMES.get(name, name): value for name, value in settings.items() if name not in _WITHOUT_MEANING
        }
        chosen |= {"public_key": public_key, "secret_key": secret_key, "base_url": base_url or host, "debug": debug}
        chosen["enabled"] = tracing_enabled if enabled is None else enabled
        chosen = {name: None if name in _MAY_BE_EMPTY and value == "" else value for name, value in chosen.items()}
        self._set(clients.configure(exporter or span_exporter, tracer_provider=tracer_provider, **chosen))
        if self._client.config.debug:
            logging.basicConfig()
            _LOGGER.setLevel(logging.DEBUG)
        with _lock:
            _made[self._client] = self

    @classmethod
    def of(cls, client: clients.Client) -> Langfuse:
        """One that records for a client that was configured already."""
        made = cls.__new__(cls)
        made._set(client)  # noqa: SLF001 - our own
        return made

    def _set(self, client: clients.Client) -> None:
        self._client = client
        self._latest: str | None = None

    @property
    def client(self) -> clients.Client:
        """What ``configure`` returned: the processor, and the scores."""
        return self._client

    # -- traces and observations -------------------------------------------------------------------------------------------------

    def trace(self, **fields: Any) -> TraceHandle:
        """Starts a trace; or tells something to the one of this ``id``. Never raises.

        Args:
            **fields: ``id`` (any text), ``name``, ``user_id``, ``session_id``, ``tags``, ``metadata``, ``input``, ``output``,
                ``version``, ``release``, ``public``, ``timestamp`` (a ``datetime``). Metadata is merged, tags are joined.
        """
        node = trace_node(self._client, given(fields, of_trace=True))
        self._latest = node.trace_id
        return TraceHandle(node)

    def span(self, **fields: Any) -> ObservationHandle:
        """Starts a span; or tells something to the observation of this ``id``. Never raises.

        Args:
            **fields: ``id``, ``trace_id`` and ``parent_observation_id`` (any texts; without a trace it is one of its own),
                ``name``, ``start_time``, ``end_time`` (which ends it), and ``ObservationFields``; ``usage`` in any shape that
                the classic client took, ``level`` in any case. One that says a model or usage is a generation.
        """
        return self._observation("span", fields)

    def generation(self, **fields: Any) -> ObservationHandle:
        """The same, for a generation."""
        return self._observation("generation", fields)

    def event(self, **fields: Any) -> ObservationHandle:
        """The same, for an event, which has ended when it begins; ``data`` is metadata."""
        return self._observation("event", fields)

    def _observation(self, as_type: str, fields: dict[str, Any]) -> ObservationHandle:
        node = observation_node(self._client, given(fields), as_type, None)
        self._latest = node.trace_id
        return ObservationHandle(node)

    # -- scores ------------------------------------------------------------------------------------------------------------------

    def score(self, *, name: str, value: float | str, **fields: Unpack[ScoreFields]) -> str | None:
        """Gives a score to a trace, an observation, a session or a dataset run; see ``ScoreFields``.

        ``trace_id`` and ``observation_id`` may be the caller's own, as given to ``trace`` and ``span``; of an observation that
        was made here the trace is known. Beside a ``trace_id``, a
        ``session_id`` is left out, with a note: Langfuse takes one of them, and the trace says its session.

        Returns:
            The score's id; None if it was dropped, which was counted and logged.

        Raises:
            ScoreError: in debug mode, if Langfuse would not take it.
        """
        target: dict[str, Any] = {**fields}
        if text_of("trace_id", target.get("trace_id")) and text_of("session_id", target.get("session_id")):
            del target["session_id"]
            NOTES.note("score session_id", "a score's session_id is left out: it has a trace_id, and Langfuse takes one of them")
        known: str | None = None
        for key, id_of in (("trace_id", trace_id_of), ("observation_id", observation_id_of)):
            if text := text_of(key, target.get(key)):
                target[key] = known = id_of(text)
        node = None if known is None else _known.find(self._client, known)
        if node is not None and not text_of("trace_id", target.get("trace_id")):
            target["trace_id"] = node.trace_id
        return self._client.score(name, value, **target, span=None if node is None else node.span)

    create_score = score

    # -- the rest ----------------------------------------------------------------------------------------------------------

    def get_trace_id(self) -> str | None:
        """The id (32 hex digits) of the trace that was made or told something last by this client."""
        return self._latest

    def get_trace_url(self, *, trace_id: str | None = None) -> str | None:
        """The page of a trace: of this one, else of the current one, else of the last one of this client."""
        wanted = trace_id_of(trace_id) if trace_id else tracing.get_current_trace_id() or self._latest
        return None if wanted is None else tracing.get_trace_url(trace_id=wanted)

    def auth_check(self) -> bool:
        """Asks the server whether it knows the keys; waits for its answer. A warning says why, where it is False.

        A local store needs no keys: True.
        """
        if sqlite_path(self._client.config.base_url) is not None:
            return True
        try:
            answer = self._calls().call("GET", "/projects")
            if isinstance(answer, dict) and answer.get("data"):
                return True
            is_langfuse = isinstance(answer, dict) and "data" in answer
            why = "the keys are of no project" if is_langfuse else "what answers is no Langfuse server: check base_url (host)"
        except ApiError as error:
            why = str(error)
        _LOGGER.warning("otel-langfuse: auth_check: %s", why)
        return False

    def flush(self, timeout: float = 30.0) -> bool:
        """Ends the traces in which nothing runs, sends all that has ended, and waits, at most ``timeout`` seconds.

        Never raises. Where the destination cannot be reached it is kept, and tried again later.

        Returns:
            Whether all has been delivered.
        """
        return _safely(_known.settle_idle, lambda: self._client.flush(timeout))

    def shutdown(self, timeout: float = 5.0) -> bool:
        """Ends everything that runs, sends what can be sent within ``timeout`` seconds, and ends. What comes later is dropped."""
        return _safely(_known.settle_all, lambda: self._client.shutdown(timeout))

    def stats(self) -> Stats:
        """What became of the spans; of the scores: ``client.scores.stats()``."""
        return self._client.stats()


def flush(timeout: float = 30.0) -> bool:
    """``Langfuse.flush`` of all clients of the process, at the same time."""
    return _safely(_known.settle_idle, lambda: clients.flush(timeout))


def _safely(first: Callable[[], None], then: Callable[[], bool]) -> bool:
    try:
        first()
        return then()
    except Exception as error:  # noqa: BLE001 - of a foreign span processor
        _LOGGER.warning("otel-langfuse: %s while delivering", type(error).__name__)
        return False


_lock = threading.Lock()
_made: Final[weakref.WeakValueDictionary[clients.Client, Langfuse]] = weakref.WeakValueDictionary()


def get_client(*, public_key: str | None = None) -> Langfuse:
    """The client of a project, by its public key or by the name that it was configured with.

    Without one, the client of the current project (``with project(...)``), else the one with ``default=True``, else the only
    one. Where nothing was made yet, one that ``Langfuse()`` or ``configure()`` will make its own, and which reads its settings
    from the environment if it is used before that. Never raises: for a project that nobody knows, or where several are known
    and none is the default, it returns one that records and sends nothing, with a warning.
    """
    found = clients.find(public_key)
    with _lock:
        made = _made.get(found)
        if made is None:
            made = _made[found] = Langfuse.of(found)
        return made


def _new_lock() -> None:
    global _lock  # noqa: PLW0603 - in a forked child another thread of the parent may seem to hold it for ever
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)
