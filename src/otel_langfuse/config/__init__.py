"""Every setting, once: name, environment variables, default, unit, limit. The only module that reads the environment.

A value comes from the argument at the door, else from the first environment variable of the row that is set and not
empty, else from the default. Whatever cannot work raises ``ConfigError`` when the processor, exporter or client is
made, never later.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, NamedTuple

from otel_langfuse.errors import ConfigError

from . import _checks
from ._checks import checked_environment, sqlite_path, web_url

__all__ = [
    "DEFAULT_BASE_URL",
    "ENVIRONMENT_EXPECTED",
    "MEDIA_SETTINGS",
    "MIB",
    "SPOOL_SETTINGS",
    "Config",
    "Setting",
    "Variable",
    "checked_environment",
    "observes_io",
    "otlp_variables",
    "sqlite_path",
    "wants_processor",
    "web_url",
]

KIB: Final = 1024
MIB: Final = 1024 * KIB
DEFAULT_BASE_URL: Final = "https://cloud.langfuse.com"
ENVIRONMENT_EXPECTED: Final = "1 to 40 of a-z 0-9 - _, not starting with langfuse"

SPOOL_SETTINGS: Final = ("spool_path", "spool_mode", "spool_after", "spool_max_bytes", "spool_max_age")
MEDIA_SETTINGS: Final = ("media", "media_threads", "media_wait", "max_media_bytes")

_RELEASE_VARIABLES: Final = (  # the commit that a platform or a CI service says it runs, after Langfuse's own variable
    "LANGFUSE_RELEASE",
    "VERCEL_GIT_COMMIT_SHA",
    "RENDER_GIT_COMMIT",
    "CI_COMMIT_SHA",
    "CIRCLE_SHA1",
    "SOURCE_VERSION",
    "TRAVIS_COMMIT",
    "GIT_COMMIT",
    "GITHUB_SHA",
    "BITBUCKET_COMMIT",
    "BUILD_SOURCEVERSION",
    "DRONE_COMMIT_SHA",
)


class Variable(NamedTuple):
    """An environment variable; a number in it is multiplied by ``factor`` (0.001 where it is in milliseconds)."""

    name: str
    factor: float = 1.0


class Setting(NamedTuple):
    """A row of the table: where a value comes from, what it may be, and one line of doc.

    ``check`` takes text or a value of the right type and returns the value; it raises ``ValueError`` or ``TypeError``.
    """

    argument: str
    variables: tuple[Variable, ...]
    check: Callable[[Any], Any]
    expected: str
    unit: str
    doc: str
    secret: bool


# -- the table ---------------------------------------------------------------------------------------------------------


def _setting(
    default: Any,
    check: Callable[[Any], Any],
    expected: str,
    doc: str,
    *variables: str | Variable,
    argument: str,
    unit: str = "",
    secret: bool = False,
) -> Any:
    rows = tuple(Variable(v) if isinstance(v, str) else v for v in variables)
    setting = Setting(argument, rows, check, expected, unit, doc, secret)
    return field(default=default, repr=not secret, metadata={"setting": setting})


@dataclass(frozen=True)
class Config:
    """All settings, checked. Make it with ``Config.from_env``, or directly in tests.

    Seconds and bytes are in the names of the fields; arguments at the doors and ``from_env`` are named as in
    ``table.settings_table()``.
    """

    public_key: str | None = _setting(
        None,
        _checks.key,
        "ASCII text without spaces",
        "Public key of the Langfuse project.",
        "LANGFUSE_PUBLIC_KEY",
        argument="public_key",
    )
    secret_key: str | None = _setting(
        None,
        _checks.key,
        "ASCII text without spaces",
        "Secret key of the Langfuse project. Never logged.",
        "LANGFUSE_SECRET_KEY",
        argument="secret_key",
        secret=True,
    )
    base_url: str = _setting(
        DEFAULT_BASE_URL,
        _checks.destination,
        "http(s)://host[:port][/path] without credentials, sqlite:///relative.db or sqlite:////absolute.db",
        "Where observations go: a Langfuse server, or a local SQLite file.",
        "LANGFUSE_BASE_URL",
        "LANGFUSE_HOST",
        argument="base_url",
    )
    environment: str | None = _setting(
        None,
        checked_environment,
        ENVIRONMENT_EXPECTED,
        "Langfuse environment of every span that names none itself.",
        "LANGFUSE_TRACING_ENVIRONMENT",
        argument="environment",
    )
    release: str | None = _setting(
        None,
        _checks.text,
        "text",
        "Release of the application; by default the commit that the platform or CI service names.",
        *_RELEASE_VARIABLES,
        argument="release",
    )
    mask: tuple[str, ...] = _setting(
        (),
        _checks.presets,
        "secrets, pii, content, several with commas; in code also functions and rules",
        "What is masked before anything leaves. What the variable names is masked whatever the code says.",
        "LANGFUSE_MASK",
        argument="mask",
    )
    mask_secrets: bool = _setting(
        True,
        _checks.truth,
        "true or false",
        "Keys, tokens and passwords are masked although `mask` does not name `secrets`.",
        "LANGFUSE_MASK_SECRETS",
        argument="mask_secrets",
    )
    mask_timeout_s: float = _setting(
        5.0,
        _checks.real(0.001, 3600.0),
        "a number from 0.001 to 3600 (seconds)",
        "Longest time that a function in `mask` takes for one value, which is then sent as `<masked: mask failed>`.",
        "LANGFUSE_MASK_TIMEOUT",
        argument="mask_timeout",
        unit="s",
    )
    sample_rate: float = _setting(
        1.0,
        _checks.real(0.0, 1.0),
        "a number from 0 to 1",
        "Share of traces that are sent, chosen by trace id, so alike in every service with the same rate.",
        "LANGFUSE_SAMPLE_RATE",
        argument="sample_rate",
    )
    filter: tuple[str, ...] | None = _setting(
        None,
        _checks.filter_words,
        "llm, all, or globs of instrumentation scopes; several with commas; ! before one takes away",
        "Which spans are sent: by default `llm` (those of LLM applications, and Langfuse's own) to Langfuse, `all` elsewhere.",
        "LANGFUSE_FILTER",
        argument="filter",
    )
    flush_at: int = _setting(
        512,
        _checks.whole(1, 100_000),
        "a whole number from 1 to 100000",
        "Spans that make a batch; four times as many where eight batches wait.",
        "LANGFUSE_FLUSH_AT",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        argument="flush_at",
        unit="spans",
    )
    flush_interval_s: float = _setting(
        5.0,
        _checks.real(0.0, 3600.0),
        "a number from 0 to 3600 (seconds)",
        "Longest time that a span waits for its batch to fill.",
        "LANGFUSE_FLUSH_INTERVAL",
        Variable("OTEL_BSP_SCHEDULE_DELAY", 0.001),
        argument="flush_interval",
        unit="s",
    )
    max_queue_spans: int = _setting(
        50_000,
        _checks.whole(1, 10_000_000),
        "a whole number from 1 to 10000000",
        "Spans that wait or are being sent, at most.",
        "LANGFUSE_MAX_QUEUE_SPANS",
        "OTEL_BSP_MAX_QUEUE_SIZE",
        argument="max_queue_spans",
        unit="spans",
    )
    max_queue_bytes: int = _setting(
        64 * MIB,
        _checks.whole(KIB, 1 << 40),
        "a whole number from 1024 to 1 TiB (bytes)",
        "The same bound in bytes (an estimate of what the spans hold).",
        "LANGFUSE_MAX_QUEUE_BYTES",
        argument="max_queue_bytes",
        unit="bytes",
    )
    queue_policy: str = _setting(
        "drop_newest",
        _checks.one_of("drop_newest", "drop_oldest", "wait"),
        "drop_newest, drop_oldest or wait",
        "What happens at these bounds: the new span or the oldest ones are dropped and counted, or the thread that ends the "
        "span waits for room.",
        "LANGFUSE_QUEUE_POLICY",
        argument="queue_policy",
    )
    max_wait_ms: float = _setting(
        100.0,
        _checks.real(0.0, 60_000.0),
        "a number from 0 to 60000 (milliseconds)",
        "Longest time that `wait` makes a thread wait; then the span is dropped and counted.",
        "LANGFUSE_MAX_WAIT_MS",
        argument="max_wait_ms",
        unit="ms",
    )
    threads: int = _setting(
        1,
        _checks.whole(1, 32),
        "a whole number from 1 to 32",
        "Requests that are on their way at the same time, at most; with more than one, spans may arrive in another order.",
        "LANGFUSE_THREADS",
        argument="threads",
    )
    timeout_s: float = _setting(
        5.0,
        _checks.real(0.001, 3600.0),
        "a number from 0.001 to 3600 (seconds)",
        "Longest time that one request takes, from connecting to the last byte of the answer.",
        "LANGFUSE_TIMEOUT",
        Variable("OTEL_BSP_EXPORT_TIMEOUT", 0.001),
        argument="timeout",
        unit="s",
    )
    max_request_bytes: int = _setting(
        4 * MIB,
        _checks.whole(KIB, 1 << 30),
        "a whole number from 1024 to 1 GiB (bytes)",
        "Size of one request before compression, at most; larger batches are split.",
        "LANGFUSE_MAX_REQUEST_BYTES",
        argument="max_request_bytes",
        unit="bytes",
    )
    compression: str = _setting(
        "gzip",
        _checks.one_of("gzip", "none"),
        "gzip or none",
        "Compression of OTLP requests.",
        "LANGFUSE_OTEL_COMPRESSION",
        argument="compression",
    )
    certificate_file: str | None = _setting(
        None,
        _checks.file,
        "the path of a PEM file",
        "Certificates of the authorities that are trusted instead of the system's.",
        "LANGFUSE_CERTIFICATE",
        argument="certificate_file",
    )
    client_certificate_file: str | None = _setting(
        None,
        _checks.file,
        "the path of a PEM file",
        "Certificate that we show to the server (mTLS).",
        "LANGFUSE_CLIENT_CERTIFICATE",
        argument="client_certificate_file",
    )
    client_key_file: str | None = _setting(
        None,
        _checks.file,
        "the path of a PEM file",
        "Private key of that certificate, without a passphrase, where it is not in the same file.",
        "LANGFUSE_CLIENT_KEY",
        argument="client_key_file",
    )
    flush_on_exit: bool = _setting(
        True,
        _checks.truth,
        "true or false",
        "What is queued is delivered also when SIGTERM or `os._exit` ends the process; false: only at the interpreter's own end.",
        "LANGFUSE_FLUSH_ON_EXIT",
        argument="flush_on_exit",
    )
    spool_path: str | None = _setting(
        None,
        _checks.file,
        "the path of a file in a directory that exists",
        "File that keeps what cannot be sent until it can, by this process or a later one.",
        "LANGFUSE_SPOOL_PATH",
        argument="spool_path",
    )
    spool_mode: str = _setting(
        "outage",
        _checks.one_of("outage", "always"),
        "outage or always",
        "always: every batch is in the file before it is sent, so that no kill loses it.",
        "LANGFUSE_SPOOL_MODE",
        argument="spool_mode",
    )
    spool_after_s: float = _setting(
        30.0,
        _checks.real(0.0, 3600.0),
        "a number from 0 to 3600 (seconds)",
        "Time for which the destination takes nothing before spans go to the file; sooner when the queue is half full.",
        "LANGFUSE_SPOOL_AFTER",
        argument="spool_after",
        unit="s",
    )
    spool_max_bytes: int = _setting(
        512 * MIB,
        _checks.whole(MIB, 1 << 40),
        "a whole number from 1 MiB to 1 TiB (bytes)",
        "Size of what the file holds, at most; the oldest is dropped and counted.",
        "LANGFUSE_SPOOL_MAX_BYTES",
        argument="spool_max_bytes",
        unit="bytes",
    )
    spool_max_age_s: float = _setting(
        7 * 24 * 3600.0,
        _checks.real(1.0, 366 * 24 * 3600.0),
        "a number from 1 to 31622400 (seconds)",
        "Age at which what is in the file is dropped and counted.",
        "LANGFUSE_SPOOL_MAX_AGE",
        argument="spool_max_age",
        unit="s",
    )
    max_retries: int = _setting(
        3,
        _checks.whole(0, 100),
        "a whole number from 0 to 100",
        "How often a call that somebody waits for (auth_check, prompts, datasets) is tried again. What is queued is tried again "
        "as long as the queue holds it.",
        "LANGFUSE_MAX_RETRIES",
        argument="max_retries",
    )
    prompt_cache_ttl_s: float = _setting(
        60.0,
        _checks.real(0.0, 366 * 24 * 3600.0),
        "a number from 0 to 31622400 (seconds)",
        "For how long `get_prompt` uses what it has fetched without asking again, where it is not told; 0: never.",
        "LANGFUSE_PROMPT_CACHE_DEFAULT_TTL_SECONDS",
        argument="prompt_cache_ttl",
        unit="s",
    )
    debug: bool = _setting(
        False,
        _checks.truth,
        "true or false",
        "true: `Langfuse()` shows this package's log lines from DEBUG on, and a score that Langfuse would not take raises "
        "ScoreError instead of a warning.",
        "LANGFUSE_DEBUG",
        argument="debug",
    )
    media: str | None = _setting(
        None,
        _checks.media_way,
        "send, keep, cut, false, or a folder or URL (with a slash) to write to",
        "Images, sounds and documents in inputs, outputs and metadata: sent as Langfuse media (default towards Langfuse), kept "
        "in the text (default elsewhere), cut (`false`: towards Langfuse), or written beside.",
        "LANGFUSE_MEDIA",
        "LANGFUSE_MEDIA_UPLOAD_ENABLED",
        argument="media",
    )
    media_threads: int = _setting(
        2,
        _checks.whole(1, 32),
        "a whole number from 1 to 32",
        "Media that are sent at the same time, at most.",
        "LANGFUSE_MEDIA_UPLOAD_THREAD_COUNT",
        argument="media_threads",
    )
    media_wait_s: float = _setting(
        15.0,
        _checks.real(0.0, 3600.0),
        "a number from 0 to 3600 (seconds)",
        "Longest time that spans wait for their media; what was not taken by then is a marker in the span.",
        "LANGFUSE_MEDIA_WAIT",
        argument="media_wait",
        unit="s",
    )
    max_media_bytes: int = _setting(
        50 * MIB,
        _checks.whole(1, 1_000_000_000),
        "a whole number from 1 to 1000000000 (bytes)",
        "Size of one of them, at most, and less than `max_queue_bytes`, which bounds those that wait; a larger one is a marker.",
        "LANGFUSE_MAX_MEDIA_BYTES",
        argument="max_media_bytes",
        unit="bytes",
    )
    trust_baggage: bool = _setting(
        False,
        _checks.truth,
        "true or false",
        "true: user, session, tags and the like are also taken from incoming baggage, so from whoever calls; only where a "
        "gateway strips it.",
        "LANGFUSE_TRUST_BAGGAGE",
        argument="trust_baggage",
    )
    enabled: bool = _setting(
        True,
        _checks.truth,
        "true or false",
        "false: nothing is recorded, sent or counted.",
        "LANGFUSE_TRACING_ENABLED",
        argument="enabled",
    )

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not None or item.default is not None:
                setting = _of(item)
                object.__setattr__(self, item.name, _checked(setting, setting.argument, value, 1.0))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, **overrides: Any) -> Config:
        """Reads the settings: ``overrides`` first, then ``environ``, then the defaults.

        Args:
            environ: variable -> text; an empty or blank text counts as not set.
            **overrides: settings by the names that they have at the doors (``flush_interval``, ``timeout`` ...). None
            means not given.

        Raises:
            ConfigError: a value cannot work; the message names the argument or the variable, the value and what was
            expected.
            TypeError: an override that is no setting.
        """
        known = {_of(item).argument: item.name for item in fields(cls)}
        if unknown := overrides.keys() - known.keys():
            raise TypeError(f"no such setting: {', '.join(sorted(unknown))}")
        values: dict[str, Any] = {}
        for item in fields(cls):
            setting = _of(item)
            if overrides.get(setting.argument) is not None:
                values[item.name] = overrides[setting.argument]
                continue
            for variable in setting.variables:
                if text := environ.get(variable.name, "").strip():
                    values[item.name] = _checked(setting, variable.name, text, variable.factor)
                    break
        return cls(**values)


def otlp_variables(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """OpenTelemetry's variables for OTLP exporters (``OTEL_EXPORTER_OTLP_...``) that are set and not blank.

    For collectors only: nothing of them ever goes to Langfuse, because they may hold another vendor's keys.
    """
    return {name: text for name, text in environ.items() if name.startswith("OTEL_EXPORTER_OTLP_") and text.strip()}


def wants_processor(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether ``OTEL_LANGFUSE_PROCESSOR`` asks for our processor where OpenTelemetry's agent sets everything up.

    Raises:
        ConfigError: it is neither true nor false.
    """
    text = environ.get("OTEL_LANGFUSE_PROCESSOR", "").strip() or "false"
    try:
        return _checks.truth(text)
    except ValueError:
        raise ConfigError(f"OTEL_LANGFUSE_PROCESSOR={text[:100]!r}: expected true or false") from None


def observes_io(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether ``observe`` records arguments and results where its own arguments say nothing.

    ``LANGFUSE_OBSERVE_DECORATOR_IO_CAPTURE_ENABLED``; anything but ``false`` and ``0`` is true, as Langfuse's SDK has it: a
    decorator runs at import, and raises for no variable.
    """
    return environ.get("LANGFUSE_OBSERVE_DECORATOR_IO_CAPTURE_ENABLED", "").strip().lower() not in ("false", "0")


def _of(item: Any) -> Setting:
    setting: Setting = item.metadata["setting"]
    return setting


def _checked(setting: Setting, name: str, value: Any, factor: float) -> Any:
    try:
        return setting.check(value if factor == 1.0 else float(value) * factor)
    except (ValueError, TypeError, AttributeError, OverflowError):
        hidden = setting.secret or any(sign in str(value) for sign in "@?")  # a URL may hold a login or a key
        shown = "***" if hidden else repr(value)[:100]
        expected = setting.expected if factor == 1.0 else f"{setting.expected.partition(' (')[0]}, times {1 / factor:g}"
        raise ConfigError(f"{name}={shown}: expected {expected}") from None
