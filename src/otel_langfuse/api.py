"""Calls of Langfuse's API that somebody waits for: one request, tried again where that helps, and its answer as JSON."""

from __future__ import annotations

import random
import time
from typing import Final
from urllib.parse import urlencode

import orjson

from .config import Config, sqlite_path
from .errors import ApiError
from .exporters import missing_keys
from .exporters._headers import langfuse_headers
from .model import Json, Request, Response
from .retry import asked_s, backoff_s, one_line
from .transport import HttpTransport, Tls, basic_authorization

PREFIX: Final = "/api/public"

MAX_ASKED_S: Final = 30.0
"""No longer does a call that somebody waits for wait to be tried again, whatever the server asks for."""

_AGAIN: Final = frozenset({408, 429})


class Api:
    """The API of the Langfuse project that a configuration names. Safe to use on any thread; it starts none.

    Args:
        config: ``base_url`` and keys, ``timeout`` of one request, ``max_retries``.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._missing = missing_keys(config)
        if sqlite_path(config.base_url) is not None:
            self._missing = f"base_url={config.base_url!r} is a local store, which has no API"
        self._headers = langfuse_headers(config)
        tls = Tls(config.certificate_file, config.client_certificate_file, config.client_key_file)
        keys = {} if self._missing else basic_authorization(str(config.public_key), str(config.secret_key))
        self._transport = None if self._missing else HttpTransport(config.base_url, keys, tls=tls)

    @property
    def can_be_asked(self) -> bool:
        """Whether there is a server, and keys for it."""
        return self._transport is not None

    def call(
        self,
        method: str,
        path: str,
        body: Json = None,
        *,
        query: dict[str, str | int | None] | None = None,
        timeout_s: float | None = None,
        max_retries: int | None = None,
    ) -> Json:
        """Calls a route, and again after errors of the network, 408, 429 and 5xx (api.md 1.6).

        Args:
            method: of HTTP.
            path: after ``/api/public``, percent-encoded.
            body: sent as JSON; None: nothing is.
            query: parameters; None is left out.
            timeout_s: seconds for one request; by default as configured.
            max_retries: how often it is tried again; by default as configured.

        Raises:
            ApiError: it was refused, could not be reached, or keys are missing.
        """
        if self._transport is None:
            raise ApiError(self._missing)
        asked = urlencode({name: value for name, value in (query or {}).items() if value is not None})
        headers = self._headers if body is None else {**self._headers, "content-type": "application/json"}
        url = f"{self._config.base_url}{PREFIX}{path}{asked and '?' + asked}"
        request = Request("", url, headers, b"" if body is None else orjson.dumps(body, default=str), ())
        tries = 1 + (self._config.max_retries if max_retries is None else max_retries)
        for attempt in range(tries):
            response = self._transport.send(request, timeout_s or self._config.timeout_s, method=method)
            if not _is_for_now(response) or attempt + 1 == tries:
                break
            wait_s = asked_s(response, time.time())
            time.sleep(min(backoff_s(attempt, random.random()) if wait_s is None else wait_s, MAX_ASKED_S))
        return _answer(response)

    def close(self) -> None:
        """Closes idle connections."""
        if self._transport is not None:
            self._transport.close()


def _is_for_now(response: Response) -> bool:
    return response.status is None or response.status in _AGAIN or response.status >= 500


def _answer(response: Response) -> Json:
    status = response.status
    if status is None:
        raise ApiError(response.error or "no answer")
    try:
        answer = orjson.loads(response.body) if response.body else None
    except orjson.JSONDecodeError:
        answer = None
    if 200 <= status < 300:
        return answer
    message = answer.get("message") if isinstance(answer, dict) else None
    said = f" (it says: {one_line(message)})" if isinstance(message, str) else ""
    raise ApiError(f"HTTP {status}{said}", status=status)
