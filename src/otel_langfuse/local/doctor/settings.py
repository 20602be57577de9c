"""The settings: what they are, where each comes from, and what is odd about them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from otel_langfuse.config import Config, Setting, otlp_variables, sqlite_path
from otel_langfuse.errors import ConfigError
from otel_langfuse.exporters import missing_keys

from .findings import Finding, fail, ok, warn

CHECK = "settings"
SHOWN_OF_A_KEY = 8
"""Characters of the public key that are shown: enough to tell projects apart."""


class Shown(NamedTuple):
    """A setting that somebody has set: its value, as far as it may be seen, and the variable or option that it comes from."""

    name: str
    value: str
    source: str


def read(environ: Mapping[str, str], options: Mapping[str, Any]) -> tuple[Config | None, list[Shown], Finding | None]:
    """The configuration, or why there is none; and what was set."""
    given = {name: value for name, value in options.items() if value is not None}
    try:
        config = Config.from_env(environ, **given)
    except ConfigError as error:
        return None, [], fail(CHECK, str(error), "correct that variable or option; the README's table says what each may be")
    return config, list(_shown(config, environ, given)), None


def _shown(config: Config, environ: Mapping[str, str], options: Mapping[str, Any]) -> Iterator[Shown]:
    for item in fields(config):
        setting: Setting = item.metadata["setting"]
        source = _source(setting, environ, options)
        if source is not None:
            yield Shown(setting.argument, _visible(setting, getattr(config, item.name)), source)


def _source(setting: Setting, environ: Mapping[str, str], options: Mapping[str, Any]) -> str | None:
    if setting.argument in options:
        return f"--{setting.argument.replace('_', '-')}"
    return next((variable.name for variable in setting.variables if environ.get(variable.name, "").strip()), None)


def _visible(setting: Setting, value: Any) -> str:
    if setting.secret:
        return "***"
    if setting.argument == "public_key":
        return f"{value[:SHOWN_OF_A_KEY]}..."
    return str(value)


# -- what is odd -------------------------------------------------------------------------------------------------------


def judge(config: Config, environ: Mapping[str, str], shown: list[Shown], endpoint: str | None) -> Iterator[Finding]:
    """What is to be said about settings that can be read."""
    found = [*_off(config, environ)]
    if endpoint is None and sqlite_path(config.base_url) is None:
        found += _keys(config)
    if config.spool_path is not None and not os.access(Path(config.spool_path).absolute().parent, os.W_OK):
        text = "the directory of spool_path does not exist or may not be written"
        found.append(fail(CHECK, text, "make it, or change LANGFUSE_SPOOL_PATH"))
    if not any(finding.status == "fail" for finding in found):
        count = len(shown)
        found.insert(0, ok(CHECK, f"{count} set, the rest as by default" if count else "all as by default"))
    yield from found


def _off(config: Config, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Why an application with this environment would send nothing, although all else is well."""
    if not config.enabled:
        yield warn(CHECK, "LANGFUSE_TRACING_ENABLED is false: applications record and send nothing", "set it to true")
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        yield warn(CHECK, "OTEL_SDK_DISABLED is true: applications make no spans", "unset it")
    if environ.get("OTEL_TRACES_SAMPLER", "").strip().lower().endswith("always_off"):
        yield warn(
            CHECK, "OTEL_TRACES_SAMPLER leaves out every trace", "unset it, and use LANGFUSE_SAMPLE_RATE for Langfuse alone"
        )
    if config.sample_rate == 0:
        yield warn(CHECK, "LANGFUSE_SAMPLE_RATE is 0: no trace is sent", "raise it")
    if otlp_variables(environ):
        yield ok(CHECK, "OTEL_EXPORTER_OTLP_* are for other exporters, and not used for Langfuse")


def _keys(config: Config) -> Iterator[Finding]:
    if missing := missing_keys(config):
        yield fail(CHECK, missing, "both are in the project's settings in Langfuse, under API keys")
        return
    public, secret = str(config.public_key), str(config.secret_key)
    if public.startswith("sk-") or secret.startswith("pk-"):
        yield fail(
            CHECK, "public and secret key are swapped", "LANGFUSE_PUBLIC_KEY begins with pk-, LANGFUSE_SECRET_KEY with sk-"
        )
    if any(key[0] in "\"'" or key[-1] in "\"'" for key in (public, secret)):
        yield fail(
            CHECK, "a key has quotation marks around it", "leave them out; env files of Docker take them as part of the value"
        )
    if ":" in secret or ":" in public:
        yield fail(CHECK, "a key holds a colon, which Langfuse cannot take apart", "copy it again from the project's settings")
    host = config.base_url.partition("://")[2]
    is_local = host.startswith(("127.", "localhost", "[::1]"))
    if config.base_url.startswith("http://") and not is_local:
        yield warn(CHECK, "base_url is http://: the keys travel unencrypted", "use https:// unless the network is your own")
