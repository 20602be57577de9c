"""``otel-langfuse doctor``: why nothing arrives, and what to do about it.

It asks the configured destination only. The JSON is one object: ``{"destination", "ok", "settings": [{"name", "value",
"source"}], "findings": [{"check", "status", "detail", "remedy"}]}``; ``status`` is ok, warn, fail or skip, ``ok`` says that
none is fail, secrets are ``***``; new keys may come.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, TextIO
from urllib.parse import urlsplit

from otel_langfuse.config import Config, sqlite_path
from otel_langfuse.errors import ConfigError
from otel_langfuse.exporters._headers import user_agent
from otel_langfuse.exporters.otlp import LangfuseOTLPExporter
from otel_langfuse.local.text import plain
from otel_langfuse.model import Request
from otel_langfuse.transport import HttpTransport, Tls

from . import langfuse, network, probe, settings
from .findings import Finding, fail, skip

__all__ = ["Collector", "doctor"]

_COLOURS: Final = {"ok": "32", "warn": "33", "fail": "31", "skip": "2"}
_WIDTH: Final = max(len(check) for check in (probe.CHECK, "credentials", "connection", "settings"))

_LANGFUSE_REMEDY: Final = "what failed before this line comes first; else look at the server's logs"
_COLLECTOR_REMEDY: Final = (
    "over HTTP the endpoint is the whole URL, for most collectors with the path /v1/traces; "
    "for gRPC, --grpc and http(s)://host:port; and see the collector's logs"
)


class Collector(NamedTuple):
    """An OTLP collector to look at instead of Langfuse, and the headers that it wants."""

    endpoint: str
    protocol: str
    headers: Mapping[str, str]


def doctor(
    environ: Mapping[str, str],
    options: Mapping[str, Any],
    out: TextIO,
    *,
    collector: Collector | None = None,
    sends: bool = True,
    as_json: bool = False,
) -> int:
    """Looks at the settings, and at the destination step by step; tells each finding as it comes.

    Args:
        environ: variable -> text.
        options: settings that win over it, by their names at the doors; None where not given.
        out: where to write. Colours are used where it is a terminal.
        collector: to be looked at instead of Langfuse.
        sends: whether one test observation is sent, or stored.
        as_json: write JSON (see the module).

    Returns:
        The exit status: 1 if something fails, else 0.
    """
    config, shown, failed = settings.read(environ, options)
    destination = "" if config is None else _destination(config, collector)
    findings: list[Finding] = []
    if not as_json:
        _write_head(destination, shown, out)
    every = iter([failed]) if failed is not None or config is None else _findings(config, environ, shown, collector, sends=sends)
    for finding in every:
        if finding is None:
            continue
        findings.append(finding)
        if not as_json:
            _write_line(finding, out)
    is_ok = not any(finding.status == "fail" for finding in findings)
    if as_json:
        document = {
            "destination": destination,
            "ok": is_ok,
            "settings": [one._asdict() for one in shown],
            "findings": [one._asdict() for one in findings],
        }
        out.write(json.dumps(document, indent=2) + "\n")
    return 0 if is_ok else 1


def _destination(config: Config, collector: Collector | None) -> str:
    if collector is None:
        return config.base_url
    parts = urlsplit(collector.endpoint)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


# -- what is looked at -------------------------------------------------------------------------------------------------


def _findings(
    config: Config, environ: Mapping[str, str], shown: list[settings.Shown], collector: Collector | None, *, sends: bool
) -> Iterator[Finding]:
    judged = list(settings.judge(config, environ, shown, collector.endpoint if collector else None))
    yield from judged
    is_usable = not any(finding.status == "fail" for finding in judged)
    config = dataclasses.replace(config, spool_path=None)  # what cannot be sent now is to be told, not kept
    path = sqlite_path(config.base_url)
    if collector is not None:
        yield from _collector(collector, config, sends=sends)
    elif path is not None:
        yield from _store(path, config, sends=sends)
    else:
        yield from _langfuse(config, is_usable=is_usable, sends=sends)


def _store(path: str, config: Config, *, sends: bool) -> Iterator[Finding]:
    finding = probe.directory(path)
    yield finding
    if finding.status == "ok":
        yield probe.store_and_read(path, config.timeout_s) if sends else skip(probe.CHECK, "not asked for")


def _langfuse(config: Config, *, is_usable: bool, sends: bool) -> Iterator[Finding]:
    tls = Tls(config.certificate_file, config.client_certificate_file, config.client_key_file)
    exporter = None
    if is_usable:
        try:
            exporter = LangfuseOTLPExporter.from_config(config)
        except ConfigError as error:
            yield fail(settings.CHECK, str(error), "correct it")
            return
    for finding in network.reach(network.peer_of(config.base_url, "LANGFUSE_BASE_URL", tls), config.timeout_s):
        yield finding
        if finding.status == "fail":
            return
    project_id = None
    findings = []
    for one in langfuse.examine(langfuse.Server(config, config.timeout_s), has_keys=is_usable):
        if isinstance(one, langfuse.Project):
            project_id = one.id
        else:
            findings.append(one)
            yield one
    if exporter is None or project_id is None or any(one.status == "fail" for one in findings):
        yield skip(probe.CHECK, "it would not be taken")
    elif not sends:
        yield skip(probe.CHECK, "not asked for")
    else:
        link = f"{config.base_url}/project/{project_id}/traces/"
        yield probe.send_over_network(exporter, config.timeout_s, _LANGFUSE_REMEDY, link)


def _collector(collector: Collector, config: Config, *, sends: bool) -> Iterator[Finding]:
    try:
        exporter = LangfuseOTLPExporter(**collector._asdict(), timeout=config.timeout_s)
    except ConfigError as error:
        yield fail(settings.CHECK, str(error), "correct it")
        return
    for finding in network.reach(network.peer_of(collector.endpoint, "--endpoint", Tls()), config.timeout_s):
        yield finding
        if finding.status == "fail":
            return
    if collector.protocol != "grpc":
        request = Request("", exporter.target.url, {"user-agent": user_agent()}, b"", ())
        begin = time.time()
        answer = HttpTransport(exporter.target.url, {}).send(request, config.timeout_s, method="GET")
        yield langfuse.clock(answer.headers, (begin + time.time()) / 2)
    if sends:
        yield probe.send_over_network(exporter, config.timeout_s, _COLLECTOR_REMEDY)
    else:
        yield skip(probe.CHECK, "not asked for")


# -- writing -----------------------------------------------------------------------------------------------------------


def _write_head(destination: str, shown: list[settings.Shown], out: TextIO) -> None:
    out.write(f"otel-langfuse doctor{destination and f': {plain(destination)}'}\n\n")
    width = max((len(one.name) for one in shown), default=0)
    for one in shown:
        out.write(f"  {one.name:{width}}  {plain(one.value)}  ({one.source})\n")
    if shown:
        out.write("\n")
    out.flush()


def _write_line(finding: Finding, out: TextIO) -> None:
    status = f"{finding.status:4}"
    if getattr(out, "isatty", lambda: False)():
        status = f"\x1b[{_COLOURS[finding.status]}m{status}\x1b[0m"
    out.write(f"  {status}  {finding.check:{_WIDTH}}  {plain(finding.detail)}\n")
    if finding.remedy:
        out.write(f"        {'':{_WIDTH}}  -> {plain(finding.remedy)}\n")
    out.flush()
