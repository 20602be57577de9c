"""What a Langfuse server says: its version, its clock, whose keys these are, and what it takes. Sources: api.md 0 to 2, 8."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import orjson

from otel_langfuse.config import Config
from otel_langfuse.exporters._headers import langfuse_headers
from otel_langfuse.model import Request, Response
from otel_langfuse.retry import EVENTS_ONLY
from otel_langfuse.transport import HttpTransport, Tls, basic_authorization

from .findings import Finding, fail, ok, skip, warn

HEALTH: Final = "/api/public/health"
PROJECTS: Final = "/api/public/projects"
INGESTION: Final = "/api/public/ingestion"

MAX_SKEW_S: Final = 5.0
FIRST_WITH_OTLP: Final = (3, 22)
FIRST_THAT_DROPS_EMPTY: Final = 3
"""Before this version, the event that ``_write_mode`` sends would become a trace."""

_NOT_LANGFUSE: Final = (
    "LANGFUSE_BASE_URL is the server's address as in a browser, without /api/public; behind a proxy, check where that leads to"
)
_KEYS: Final = (
    "check LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY, and that they are of a project on this server (LANGFUSE_BASE_URL)"
)


class Server:
    """A Langfuse server, asked with the keys of a configuration; each request takes at most ``timeout_s`` seconds."""

    def __init__(self, config: Config, timeout_s: float) -> None:
        tls = Tls(config.certificate_file, config.client_certificate_file, config.client_key_file)
        keys = basic_authorization(config.public_key or "", config.secret_key or "")
        self._base_url = config.base_url
        self._headers = langfuse_headers(config)
        self._timeout_s = timeout_s
        self._without_keys = HttpTransport(config.base_url, {}, tls=tls)
        self._with_keys = HttpTransport(config.base_url, keys, tls=tls)

    def get(self, path: str, *, with_keys: bool) -> Response:
        """What comes back for a GET."""
        request = Request("", self._base_url + path, {"user-agent": self._headers["user-agent"]}, b"", ())
        transport = self._with_keys if with_keys else self._without_keys
        return transport.send(request, self._timeout_s, method="GET")

    def post(self, path: str, document: Any) -> Response:
        """What comes back for a POST of JSON, with keys."""
        headers = {**self._headers, "content-type": "application/json"}
        return self._with_keys.send(Request("", self._base_url + path, headers, orjson.dumps(document), ()), self._timeout_s)


class Project(NamedTuple):
    """Whose keys these are."""

    id: str


def examine(server: Server, *, has_keys: bool) -> Iterator[Finding | Project]:
    """Asks all there is to ask; what needs keys, only with them."""
    begin = time.time()
    health = server.get(HEALTH, with_keys=False)
    middle = (begin + time.time()) / 2
    version, finding = _server(health)
    yield finding
    if health.status is not None:
        yield clock(health.headers, middle)
    if finding.status == "fail":
        return
    if not has_keys:
        yield skip("credentials", "there are none that could be tried")
        return
    project, finding = _credentials(server.get(PROJECTS, with_keys=True))
    yield finding
    if project is not None:
        yield project
        yield _write_mode(server, version)


# -- server ------------------------------------------------------------------------------------------------------------


def _server(health: Response) -> tuple[tuple[int, ...], Finding]:
    status = health.status
    if status is None:
        return (), fail("server", health.error or "no answer", "check the steps before this one, and proxies in between")
    if 300 <= status < 400:
        where = _address(health.headers.get("location", ""))
        remedy = f"set LANGFUSE_BASE_URL to {where}" if where else "set LANGFUSE_BASE_URL to the final address"
        return (), fail("server", f"HTTP {status}: it sends us elsewhere, and redirects are not followed with keys", remedy)
    text = _get(_json(health), "version")
    if status == 503 and text:
        return (), fail(
            "server", f"Langfuse {text} says that it is not healthy (HTTP 503)", "look at its logs, and at its database"
        )
    if status >= 500:
        return (), fail("server", f"HTTP {status}", "the server, or a proxy in front of it, does not work: look at its logs")
    if status != 200 or not isinstance(text, str):
        return (), fail("server", f"HTTP {status}: no Langfuse server answers at {HEALTH}", _NOT_LANGFUSE)
    version = tuple(int(part) for part in re.findall(r"\d+", text)[:3])
    if version < FIRST_WITH_OTLP:
        remedy = "update it to 3.22 or later, or use LangfuseIngestionExporter"
        return version, warn("server", f"Langfuse {text}, which takes no OTLP", remedy)
    return version, ok("server", f"Langfuse {text}")


def _address(location: str) -> str:
    """The base URL that a redirect of the health route leads to; empty where it leads somewhere else."""
    parts = urlsplit(location)
    if parts.scheme not in ("http", "https") or not parts.hostname or not parts.path.endswith(HEALTH):
        return ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.removesuffix(HEALTH)}"


def clock(headers: Mapping[str, str], now: float) -> Finding:
    """How far this machine's clock is from the server's, by its ``Date``, which is cut to seconds."""
    try:
        theirs = parsedate_to_datetime(headers["date"]).timestamp() + 0.5
    except (KeyError, ValueError, TypeError, OverflowError):
        return skip("clock", "the server does not tell the time")
    skew = now - theirs
    if abs(skew) <= MAX_SKEW_S:
        return ok("clock", "within 5 s of the server's")
    text = f"this machine's clock is {abs(skew):,.0f} s {'ahead of' if skew > 0 else 'behind'} the server's"
    return warn("clock", text, "synchronise it (NTP): observations are shown at the times that their machines say")


# -- keys --------------------------------------------------------------------------------------------------------------


def _credentials(projects: Response) -> tuple[Project | None, Finding]:
    said = _said(projects)
    if projects.status == 200:
        data = _get(_json(projects), "data")
        first = data[0] if isinstance(data, list) and data else None
        if not isinstance(first, dict):
            return None, fail("credentials", "the keys belong to no project", _KEYS)
        return Project(str(first.get("id"))), ok("credentials", f"the keys are of the project {str(first.get('name'))[:60]!r}")
    if projects.status in (401, 403):
        is_organization = "organization" in said.lower()
        remedy = "use the keys of a project, not of an organization" if is_organization else _KEYS
        return None, fail("credentials", f"refused with HTTP {projects.status}: {said}", remedy)
    if projects.status is None:
        return None, fail("credentials", said, "try again; the server did answer before")
    return None, fail("credentials", f"HTTP {projects.status}: {said}", _NOT_LANGFUSE)


# -- write mode --------------------------------------------------------------------------------------------------------


def _write_mode(server: Server, version: tuple[int, ...]) -> Finding:
    """Whether the ingestion API takes observations.

    Asked by a trace without an id: servers from 3 on accept it and keep nothing of it (api.md 2.8), unless they take
    observations by OTLP only, and say so (api.md 0).
    """
    check = "write mode"
    if version[:1] < (FIRST_THAT_DROPS_EMPTY,):
        return skip(check, "so old a server takes ingestion events only")
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    answer = server.post(
        INGESTION, {"batch": [{"id": "otel-langfuse-doctor", "timestamp": now, "type": "trace-create", "body": {}}]}
    )
    errors = _get(_json(answer), "errors")
    if answer.status == 207 and isinstance(errors, list):
        if any(_get(error, "message") == EVENTS_ONLY for error in errors):
            return ok(check, "events_only: it takes observations by OTLP, which is the default; not by LangfuseIngestionExporter")
        return ok(check, "it takes observations by OTLP, and by LangfuseIngestionExporter")
    if answer.status in (404, 405, 410):
        return ok(check, "it takes observations by OTLP only, which is the default; there is no ingestion API")
    said = _said(answer)
    if answer.status == 403 and "suspended" in said.lower():
        return fail(check, said, "the plan's limit is reached: nothing is taken until it is raised, or until the next period")
    return warn(check, f"it cannot be told: {said}", "nothing to be done if the test observation is accepted")


# -- answers -----------------------------------------------------------------------------------------------------------


def _json(response: Response) -> Any:
    try:
        return orjson.loads(response.body)
    except orjson.JSONDecodeError:
        return None


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _said(response: Response) -> str:
    """What went wrong, in the server's words, or in ours where it has none."""
    if response.status is None:
        return response.error or "no answer"
    answer = _json(response)
    for name in ("message", "error"):
        if isinstance(text := _get(answer, name), str):
            return text[:200]
    return f"HTTP {response.status}"
