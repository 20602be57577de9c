"""Media to Langfuse: where to, the content itself, and that it is there; three calls (api.md 6.1)."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, Final

import orjson

from otel_langfuse import retry
from otel_langfuse import threads as threading  # the operating system's, also under gevent
from otel_langfuse.errors import Drop, DropReason
from otel_langfuse.media import media_id_of
from otel_langfuse.model import Media, Request, Response
from otel_langfuse.transport import HttpTransport, Tls

from ._media import Patience

MEDIA_PATH: Final = "/api/public/media"
MIN_BYTES_PER_S: Final = 256 * 1024
"""A content gets, beside the timeout of a request, the time that it takes at this speed."""

MAX_LINKS: Final = 3
"""How often a storage's refusal makes us ask for another URL: the one that we had may have been too old."""

_REFUSED_URL: Final = frozenset({400, 401, 403})
_NO_STORAGE: Final = b"no bucket configured"
_NO_STORAGE_ADVICE: Final = (
    "this Langfuse server has no storage for media: set LANGFUSE_S3_MEDIA_UPLOAD_BUCKET there, or media=cut here"
)


class LangfuseMediaSender:
    """Sends media to a Langfuse project. Content that the server has already is not sent again, only linked.

    Args:
        base_url: of the server.
        headers: that say who sends.
        credentials: for the server, and for nobody else: the storage gets none.
        tls: files for https; the storage's certificate is checked against the system's store, unless it has the same origin.
        timeout_s: seconds for one call.
    """

    def __init__(
        self, base_url: str, headers: Mapping[str, str], credentials: Mapping[str, str], *, tls: Tls, timeout_s: float
    ) -> None:
        self._url = base_url + MEDIA_PATH
        self._headers = {**headers, "content-type": "application/json"}
        self._api = HttpTransport(base_url, credentials, tls=tls)
        self._storage = HttpTransport(base_url, {}, tls=tls)
        self._timeout_s = timeout_s
        self._busy: dict[tuple[int, str], Any] = {}  # process and hash of content that is being sent -> a lock

    def deliver(self, media: Media, patience: Patience) -> Drop | None:
        """See ``MediaSender``. The same content is sent by one thread at a time: for the others it is there already."""
        key = (os.getpid(), media.sha256)  # in a forked child, what the parent sends is not being sent
        lock = self._busy.setdefault(key, threading.Lock())
        if not threading.acquire(lock, max(patience.time_left_s(), 0.0)):
            return Drop(DropReason.SEND_FAILED, 1, "the same content is still on its way")
        try:
            return self._deliver(media, patience)
        finally:
            lock.release()
            self._busy.pop(key, None)

    def close(self) -> None:
        """Closes idle connections."""
        self._api.close()
        self._storage.close()

    def _deliver(self, media: Media, patience: Patience) -> Drop | None:
        refused: Drop | None = None
        for _ in range(MAX_LINKS):
            response, drop = self._call(self._api.send, "POST", self._request(self._url, _announced(media)), patience)
            if drop is not None:
                return drop
            url, drop = _link(response, media)
            if url is None or drop is not None:
                return drop
            began = time.monotonic()
            response, refused = self._call(self._storage.send, "PUT", _content(url, media), patience, len(media.content))
            if refused is None:
                return self._told(media, 200, began, patience)  # exactly that: by it the server knows content that it has
            if response.status not in _REFUSED_URL:
                break
        if refused is not None and response.status is not None:
            self._told(media, response.status, began, patience)  # so that it does not wait for it
        return refused

    def _told(self, media: Media, status: int, began: float, patience: Patience) -> Drop | None:
        """Tells the server what its storage answered. Only then does it show the content."""
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        body = {
            "uploadedAt": now,
            "uploadHttpStatus": status,
            "uploadHttpError": None if status == 200 else f"HTTP {status}",
            "uploadTimeMs": int((time.monotonic() - began) * 1000),
        }
        url = f"{self._url}/{media_id_of(media.sha256)}"
        return self._call(self._api.send, "PATCH", self._request(url, body), patience)[1]

    def _request(self, url: str, body: Mapping[str, Any]) -> Request:
        return Request("media", url, self._headers, orjson.dumps(body), ("media",))

    def _call(
        self, send: Callable[..., Response], method: str, request: Request, patience: Patience, size_bytes: int = 0
    ) -> tuple[Response, Drop | None]:
        """One call, again and again as ``retry`` says, as long as there is patience. The last answer, and what is wrong."""
        attempt = 0
        timeout_s = self._timeout_s + size_bytes / MIN_BYTES_PER_S
        while True:
            left_s = patience.time_left_s()
            if left_s <= 0:
                return Response(None), Drop(DropReason.SEND_FAILED, 1, "the time is over")
            response = send(request, min(timeout_s, left_s), method=method)
            decision = retry.decide(request, response, attempt=attempt, now=time.time(), jitter=random.random())
            if isinstance(decision, retry.Done):
                return response, None
            drop = _drop(request, response, decision)
            if not isinstance(decision, retry.Wait) or drop.reason is not DropReason.SEND_FAILED:
                return response, drop
            if not patience.wait(decision.seconds):
                return response, drop
            attempt += 1


def _drop(request: Request, response: Response, decision: retry.Decision) -> Drop:
    """Why it does not arrive, if this was the last try. Nothing of a storage's answer is shown: it may quote the signed URL."""
    if response.status == 500 and _NO_STORAGE in response.body:
        return Drop(DropReason.REJECTED, 1, _NO_STORAGE_ADVICE)
    reason = decision.reason if isinstance(decision, (retry.Wait, retry.Split, retry.GiveUp)) else DropReason.SEND_FAILED
    if request.endpoint == "storage":
        said = f"HTTP {response.status}" if response.status is not None else decision.detail
        return Drop(reason, 1, f"the storage of Langfuse's server: {said}")
    return Drop(reason, 1, decision.detail)


def _announced(media: Media) -> dict[str, Any]:
    return {
        "traceId": media.trace_id,
        "observationId": media.observation_id,
        "field": media.field,
        "contentType": media.content_type,
        "contentLength": len(media.content),
        "sha256Hash": media.sha256,
    }


def _link(response: Response, media: Media) -> tuple[str | None, Drop | None]:
    """Where the content is to go; None if it is there already."""
    try:
        answer = orjson.loads(response.body)
        media_id, url = answer["mediaId"], answer["uploadUrl"]
    except (ValueError, TypeError, KeyError):
        return None, Drop(DropReason.REJECTED, 1, "the answer to POST /media cannot be read")
    if media_id != media_id_of(media.sha256):
        return None, Drop(DropReason.REJECTED, 1, "the server gives the content another id, so the reference would not be found")
    if url is not None and not (isinstance(url, str) and url.startswith(("https://", "http://"))):
        return None, Drop(DropReason.REJECTED, 1, "the server names no http(s) URL for the content")
    return url, None


def _content(url: str, media: Media) -> Request:
    headers = {"content-type": media.content_type}
    if "storage.googleapis.com" not in url:  # which refuses headers that it does not know (api.md 6.1)
        headers |= {"x-amz-checksum-sha256": media.sha256, "x-ms-blob-type": "BlockBlob"}
    return Request("storage", url, headers, media.content, ("media",))
