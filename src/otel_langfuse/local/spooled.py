"""``otel-langfuse spool``: looks after a spool by hand, beside the processes that use it.

The JSON of ``status`` is an array, by URL, of ``{"endpoint", "url", "project", "requests", "spans", "scores", "bytes", "oldest",
"owned_requests"}``; new keys may come. ``project`` is a digest of the public key, null for a collector; ``oldest`` is ISO 8601
in UTC; ``owned_requests`` counts those that running processes look after themselves.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime, timezone
from typing import Any, Final, NamedTuple, Protocol, TextIO

from otel_langfuse.config import Config, sqlite_path
from otel_langfuse.errors import ConfigError
from otel_langfuse.exporters import missing_keys
from otel_langfuse.exporters._network import NetworkExporter
from otel_langfuse.exporters.ingestion import LangfuseIngestionExporter
from otel_langfuse.exporters.otlp import LangfuseOTLPExporter
from otel_langfuse.local.text import plain
from otel_langfuse.model import Stats
from otel_langfuse.scores import Scores, destination_of
from otel_langfuse.spool import Destination, Holding, SpoolError, project_of, spool_at

SEND_LIMIT_S: Final = 24 * 3600.0
"""One ``send`` ends after a day at the latest; what is left then, the next one sends."""

SCORES: Final = "scores"
"""The endpoint of what carries scores; any other carries spans."""


def status(path: str, as_json: bool, out: TextIO) -> int:
    """Says what is kept, for each destination. Returns the exit status: 0, or 2 after a message on standard error."""
    try:
        holdings = _holdings(path)
    except (SpoolError, ConfigError) as error:
        return _failed(error)
    if as_json:
        json.dump([_as_json(holding) for holding in holdings], out, indent=2)
        out.write("\n")
        return 0
    for holding in holdings:
        out.write(_line(holding) + "\n")
    if not holdings:
        out.write("nothing is kept\n")
    return 0


class Collector(NamedTuple):
    """Where to send what is not for Langfuse, and the headers that it wants."""

    endpoint: str
    protocol: str
    headers: Mapping[str, str]


def send(path: str, collector: Collector | None, any_key: bool, out: TextIO) -> int:
    """Sends what processes left that are gone, until nothing is left or the destination takes no more.

    Args:
        path: of the spool.
        collector: what is for it; else what is for Langfuse is sent there, with the keys of ``LANGFUSE_*``.
        any_key: also what was kept under another public key for the same server, as after a change of keys.
        out: where to write.

    Returns:
        The exit status: 0 if nothing is left for the destination, 1 if something is, 2 after a message on standard error.
    """
    try:
        before = _holdings(path)
        senders = _senders(path, collector)
        for destination, sender in senders.items():
            mine = [holding for holding in before if _is_for(holding.destination, destination, any_key=any_key)]
            if mine:
                _send(path, sender, destination, mine, out)
        after = [one for one in _holdings(path) if one.destination in senders]
    except (SpoolError, ConfigError) as error:
        return _failed(error)
    for holding in after:
        out.write(f"left: {_line(holding)}\n")
    others = [one for one in before if not any(_is_for(one.destination, mine, any_key=any_key) for mine in senders)]
    for holding in others:
        out.write(f"for others: {_line(holding)}\n")
    if not after and len(others) == len(before):
        out.write("nothing is kept for this destination\n")
    return 1 if after else 0


def clear(path: str, out: TextIO) -> int:
    """Removes all that is kept. Returns the exit status: 0, or 2 after a message on standard error."""
    try:
        with closing(spool_at(path, create=False)) as spool:
            carried = spool.clear()
        scores = carried.pop(SCORES, 0)
        out.write(f"removed {sum(carried.values())} spans{f' and {scores} scores' * bool(scores)}\n")
    except (SpoolError, ConfigError) as error:
        return _failed(error)
    return 0


def _holdings(path: str) -> list[Holding]:
    with closing(spool_at(path, create=False)) as spool:
        return spool.holdings()


class _Sender(Protocol):
    """What sends what is kept for one destination."""

    def send_kept(self, timeout_s: float) -> Stats:
        """Sends what ended processes left, and says what became of it."""

    def shutdown(self) -> Any:
        """Lets go of the file."""


def _senders(path: str, collector: Collector | None) -> dict[Destination, _Sender]:
    """By what they send to."""
    if collector is not None:
        exporter: NetworkExporter = LangfuseOTLPExporter(**collector._asdict(), spool_path=path)
        return {Destination("otlp", exporter.target.url): exporter}
    config = Config.from_env(spool_path=path)
    if sqlite_path(config.base_url) is not None:
        raise ConfigError(f"LANGFUSE_BASE_URL={config.base_url!r}: expected http(s)://..., or --endpoint")
    if missing := missing_keys(config):
        raise ConfigError(missing)
    project = project_of(str(config.public_key))
    made = (LangfuseOTLPExporter.from_config(config), LangfuseIngestionExporter.from_config(config))
    of_spans: dict[Destination, _Sender] = {Destination(one.target.endpoint, one.target.url, project): one for one in made}
    return {**of_spans, destination_of(config): Scores(config)}


def _is_for(kept: Destination, destination: Destination, *, any_key: bool) -> bool:
    return kept == (destination._replace(project=kept.project) if any_key else destination)


def _send(path: str, sender: _Sender, destination: Destination, mine: Sequence[Holding], out: TextIO) -> None:
    with closing(spool_at(path, create=False)) as spool:
        for holding in mine:
            if holding.destination != destination:
                spool.readdress(holding.destination, destination)
    stats = sender.send_kept(SEND_LIMIT_S)
    sender.shutdown()
    dropped = "".join(f", dropped {count} ({reason})" for reason, count in stats.dropped.items())
    out.write(f"{plain(destination.url)}: sent {stats.exported} {_noun(destination)}{dropped}\n")


# -- writing -----------------------------------------------------------------------------------------------------------


def _as_json(holding: Holding) -> dict[str, Any]:
    return {
        "endpoint": holding.destination.endpoint,
        "url": holding.destination.url,
        "project": holding.destination.project or None,
        "requests": holding.requests,
        "spans": 0 if holding.destination.endpoint == SCORES else holding.spans,
        "scores": holding.spans if holding.destination.endpoint == SCORES else 0,
        "bytes": holding.bytes,
        "oldest": datetime.fromtimestamp(holding.oldest_at, timezone.utc).isoformat(),
        "owned_requests": holding.owned_requests,
    }


def _line(holding: Holding) -> str:
    where = plain(holding.destination.url) + (
        f" (project {plain(holding.destination.project)})" * bool(holding.destination.project)
    )
    owned = f"; {holding.owned_requests} of the requests belong to running processes" * bool(holding.owned_requests)
    size = f"{holding.spans} {_noun(holding.destination)} in {holding.requests} requests, {holding.bytes / 1e6:.1f} MB"
    return f"{where}: {size}, the oldest {_age(time.time() - holding.oldest_at)} old{owned}"


def _noun(destination: Destination) -> str:
    return SCORES if destination.endpoint == SCORES else "spans"


def _age(seconds: float) -> str:
    for unit, name in ((24 * 3600, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(seconds, 0):.0f} seconds"


def _failed(error: Exception) -> int:
    sys.stderr.write(plain(str(error)) + "\n")
    return 2
