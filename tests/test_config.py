from __future__ import annotations

from dataclasses import fields

import pytest

from otel_langfuse.config import Config, sqlite_path
from otel_langfuse.config.table import settings_table
from otel_langfuse.errors import ConfigError


def test_the_defaults_need_no_environment() -> None:
    config = Config.from_env({})
    assert config.base_url == "https://cloud.langfuse.com"
    assert (config.flush_at, config.flush_interval_s, config.timeout_s) == (512, 5.0, 5.0)
    assert (config.max_queue_spans, config.max_queue_bytes) == (50_000, 64 * 1024 * 1024)
    assert config.enabled
    assert config.public_key is None


def test_an_argument_wins_over_the_environment_and_the_first_variable_over_the_second() -> None:
    environ = {"LANGFUSE_BASE_URL": "http://first", "LANGFUSE_HOST": "http://second"}
    assert Config.from_env(environ).base_url == "http://first"
    assert Config.from_env({"LANGFUSE_HOST": "http://second"}).base_url == "http://second"
    assert Config.from_env(environ, base_url="http://argument").base_url == "http://argument"
    assert Config.from_env(environ, base_url=None).base_url == "http://first"


def test_an_empty_variable_counts_as_not_set() -> None:
    assert Config.from_env({"LANGFUSE_FLUSH_AT": " ", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "7"}).flush_at == 7


def test_opentelemetrys_variables_count_in_their_own_units_where_langfuses_are_not_set() -> None:
    environ = {
        "OTEL_BSP_SCHEDULE_DELAY": "250",
        "OTEL_BSP_MAX_QUEUE_SIZE": "100",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10",
        "OTEL_BSP_EXPORT_TIMEOUT": "7000",
    }
    config = Config.from_env(environ)
    assert (config.flush_interval_s, config.max_queue_spans, config.flush_at, config.timeout_s) == (0.25, 100, 10, 7.0)
    own = Config.from_env({**environ, "LANGFUSE_FLUSH_INTERVAL": "2", "LANGFUSE_TIMEOUT": "3"})
    assert (own.flush_interval_s, own.timeout_s) == (2.0, 3.0)


def test_the_release_is_langfuses_variable_or_the_commit_that_a_ci_service_names() -> None:
    assert Config.from_env({"GITHUB_SHA": "abc"}).release == "abc"
    assert Config.from_env({"GITHUB_SHA": "abc", "LANGFUSE_RELEASE": "1.2"}).release == "1.2"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LANGFUSE_FLUSH_AT", "abc"),
        ("LANGFUSE_FLUSH_AT", "0"),
        ("LANGFUSE_FLUSH_AT", "1.5"),
        ("LANGFUSE_SAMPLE_RATE", "1.5"),
        ("LANGFUSE_SAMPLE_RATE", "nan"),
        ("LANGFUSE_TIMEOUT", "-1"),
        ("LANGFUSE_FLUSH_INTERVAL", "inf"),
        ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
        ("LANGFUSE_TRACING_ENVIRONMENT", "Prod Env!"),
        ("LANGFUSE_TRACING_ENVIRONMENT", "langfuse-x"),
        ("LANGFUSE_TRACING_ENVIRONMENT", "x" * 41),
        ("LANGFUSE_BASE_URL", "cloud.langfuse.com"),
        ("LANGFUSE_BASE_URL", "ftp://host"),
        ("LANGFUSE_BASE_URL", "http://host:port"),
        ("LANGFUSE_BASE_URL", "sqlite:///"),
        ("LANGFUSE_BASE_URL", "sqlite://host/x.db"),
        ("LANGFUSE_OTEL_COMPRESSION", "deflate"),
        ("LANGFUSE_TRACING_ENABLED", "maybe"),
        ("LANGFUSE_MAX_QUEUE_BYTES", "1"),
    ],
)
def test_a_value_that_cannot_work_is_refused_with_its_name_itself_and_what_was_expected(variable: str, value: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Config.from_env({variable: value})
    message = str(refused.value)
    assert message.startswith(f"{variable}={value!r}: expected ")


def test_an_argument_that_cannot_work_is_named_as_the_argument() -> None:
    with pytest.raises(ConfigError, match=r"^flush_interval=-1: expected"):
        Config.from_env({}, flush_interval=-1)
    with pytest.raises(ConfigError, match=r"^sample_rate=True: expected"):
        Config.from_env({}, sample_rate=True)
    with pytest.raises(TypeError, match="flush_intervall"):
        Config.from_env({}, flush_intervall=1)


@pytest.mark.parametrize("url", ["https://pk:sk-SECRET@host", "https://sk-SECRET@host", "https://host/?key=SECRET"])
def test_a_url_with_credentials_is_refused_without_showing_them(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Config.from_env({}, base_url=url)
    assert "SECRET" not in str(refused.value)


def test_the_secret_key_is_in_no_repr_and_no_error() -> None:
    assert "sk-SECRET" not in repr(Config.from_env({"LANGFUSE_SECRET_KEY": "sk-SECRET"}))
    with pytest.raises(ConfigError) as refused:
        Config.from_env({"LANGFUSE_SECRET_KEY": "sk-SECRET with spaces"})
    assert "SECRET " not in str(refused.value)


def test_a_base_url_loses_the_slash_at_its_end_and_keeps_its_path() -> None:
    assert Config.from_env({}, base_url="https://host/langfuse/").base_url == "https://host/langfuse"


def test_sqlite_urls_have_three_slashes_before_a_relative_path_and_four_before_an_absolute_one() -> None:
    assert sqlite_path(Config.from_env({}, base_url="sqlite:///traces.db").base_url) == "traces.db"
    assert sqlite_path(Config.from_env({}, base_url="sqlite:////var/traces.db").base_url) == "/var/traces.db"
    assert sqlite_path("https://host") is None


def test_a_config_cannot_be_changed() -> None:
    config = Config()
    with pytest.raises(AttributeError):
        config.flush_at = 1  # type: ignore[misc]


def test_the_table_has_a_row_for_every_setting_with_its_variables() -> None:
    table = settings_table()
    for item in fields(Config):
        setting = item.metadata["setting"]
        assert f"| `{setting.argument}` |" in table
        for variable in setting.variables[:2]:
            assert f"`{variable.name}`" in table
    assert "| 64 MiB |" in table
    assert "| 5 s |" in table
