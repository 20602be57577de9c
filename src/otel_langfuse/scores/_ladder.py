"""The three ways by which servers take scores; the first that a server knows is remembered for its address.

Source: api.md 5 and 5.6. The newest take an array at ``/scores``; all of version 3 and 4 take ``score-create`` at ``/ingestion``,
in batches; any takes them one by one at ``/scores``, where Langfuse Cloud counts requests more strictly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from otel_langfuse.encode import scores as encode
from otel_langfuse.model import Request, Response
from otel_langfuse.transport import Transport

SCORES_PATH: Final = "/api/public/scores"

_NO_SUCH_ROUTE: Final = frozenset({400, 404, 405, 410, 501})
"""Answers to a way that a server does not know: 400 is what an older one says to an array."""

_FOR_NOW: Final = 503
"""The status of what was not tried, because of what was said to the one before it."""

_MAX_TOLD: Final = 200

_rungs: dict[str, int] = {}
"""Base URL -> the first way that it took. Of this process; what is forgotten costs a request."""


class Ladder:
    """A ``Transport`` for requests of ``encode.scores``: sends what they carry in the way that the server knows.

    Its answers are those of the ingestion route, whatever the way.
    """

    def __init__(self, transport: Transport, base_url: str, headers: Mapping[str, str]) -> None:
        self._transport = transport
        self._base_url = base_url
        self._headers = {**headers, "content-type": "application/json"}

    def send(self, request: Request, timeout_s: float) -> Response:
        """Sends it, down the ladder from what the server took last, all within ``timeout_s`` seconds."""
        deadline = time.monotonic() + timeout_s
        response = Response(None, error="the time is over")
        first = _rungs.get(self._base_url, 0)
        for rung in range(first, len(_WAYS)):
            response = _WAYS[rung](self, request, max(deadline - time.monotonic(), 0.001))
            if response.status not in _NO_SUCH_ROUTE:
                if response.status is not None and 200 <= response.status < 300 and first == 0:
                    _rungs[self._base_url] = rung
                break
        return response

    def close(self) -> None:
        """Closes idle connections."""
        self._transport.close()

    def _array(self, request: Request, timeout_s: float) -> Response:
        response = self._post(encode.array(request.items), timeout_s)
        return response if response.status != 207 else response._replace(body=_entries_of(response.body))

    def _ingestion(self, request: Request, timeout_s: float) -> Response:
        return self._transport.send(request, timeout_s)

    def _one_by_one(self, request: Request, timeout_s: float) -> Response:
        """Stops at the first that is not taken for now; if that is the very first, its answer is the answer."""
        deadline = time.monotonic() + timeout_s
        taken: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        left = list(request.items)
        while left:
            response = self._post(encode.single(left[0]), deadline - time.monotonic()) if _is_time(deadline) else _LATE
            status = response.status
            if status is not None and 200 <= status < 300:
                taken.append({"id": left.pop(0).id, "status": 201})
            elif status in (400, 413, 422):
                errors.append({"id": left.pop(0).id, "status": status, "message": _told(response.body)})
            elif not taken and not errors:
                return response
            else:
                break
        errors += [{"id": item.id, "status": _FOR_NOW, "message": "not tried yet"} for item in left]
        if len(errors) == len(request.items) and len(errors) == 1:
            return Response(errors[0]["status"], body=orjson.dumps(errors[0]))
        return Response(207, body=orjson.dumps({"successes": taken, "errors": errors}))

    def _post(self, body: bytes, timeout_s: float) -> Response:
        request = Request("ingestion", self._base_url + SCORES_PATH, self._headers, body, ())
        return self._transport.send(request, timeout_s)


_LATE: Final = Response(None, error="the time is over")
_WAYS: Final[Sequence[Callable[[Ladder, Request, float], Response]]] = (
    Ladder._array,  # noqa: SLF001 - our own
    Ladder._ingestion,  # noqa: SLF001
    Ladder._one_by_one,  # noqa: SLF001
)


def _is_time(deadline: float) -> bool:
    return time.monotonic() < deadline


def _entries_of(body: bytes) -> bytes:
    """What ``/scores`` says about an array, in the words of ``/ingestion``. It says how many it refuses, not which."""
    try:
        answer = orjson.loads(body)
        count = int(answer["rejected"])
        messages = [str(error["message"]) for error in answer["errors"]]
    except (ValueError, TypeError, KeyError):
        return body
    said = messages or [""]
    errors = [{"id": "", "status": 400, "message": said[min(i, len(said) - 1)]} for i in range(count)]
    return orjson.dumps({"successes": [], "errors": errors})


def _told(body: bytes) -> str:
    return body[:_MAX_TOLD].decode("utf-8", "replace")
