"""Settings: their names, defaults and bounds, and where they come from."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from perdure import Settings
from perdure.errors import ConfigurationError
from perdure.values import encode_default


def test_names_and_defaults_are_those_that_were_promised() -> None:
    assert Settings().model_dump() == {
        "url": None,
        "archive": None,
        "acknowledge": "archive",
        "session_default_ttl_hours": 24,
        "session_max_ttl_hours": 168,
        "session_cleanup_interval_minutes": 60,
        "session_retention_days": 30,
        "session_max_queries_per_session": 1000,
        "session_enable_analytics": True,
        "sweep_in_background": True,
        "sweep_on_open": True,
        "sweep_batch": 200,
        "sweep_lease_seconds": 60,
        "cache_ttl_seconds": 5,
        "hot_timeout_seconds": 2,
        "archive_timeout_seconds": 10,
        "tier_retry_seconds": 1,
        "max_value_bytes": 256 * 1024,
        "max_state_bytes": 4 * 1024 * 1024,
        "max_key_length": 256,
        "hook_timeout_seconds": 1,
        "plugins": (),
    }
    assert Settings().value_encoder is encode_default


def test_durations_are_timedeltas() -> None:
    settings = Settings(
        session_default_ttl_hours=1.5,
        session_max_ttl_hours=2,
        session_cleanup_interval_minutes=0.5,
        session_retention_days=7,
        sweep_lease_seconds=90,
    )

    assert settings.default_ttl == timedelta(minutes=90)
    assert settings.max_ttl == timedelta(hours=2)
    assert settings.cleanup_interval == timedelta(seconds=30)
    assert settings.retention == timedelta(days=7)
    assert settings.sweep_lease == timedelta(minutes=1.5)


@pytest.mark.parametrize("name", [name for name in Settings.model_fields if name != "value_encoder"])
def test_every_setting_can_come_from_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    default = getattr(Settings(), name)
    text, value = {
        bool: ("false", False),
        int: ("100", 100),
        float: ("20.5", 20.5),
        str: ("hot", "hot"),
        tuple: (" auditing, my.package:Plugin,", ("auditing", "my.package:Plugin")),
    }.get(type(default), ("memory://", "memory://"))

    monkeypatch.setenv(f"PERDURE_{name.upper()}", text)
    if name == "session_max_ttl_hours":
        monkeypatch.setenv("PERDURE_SESSION_DEFAULT_TTL_HOURS", "1")

    if name.endswith(("ttl_hours", "minutes", "days", "seconds")):
        value = float(text)
    assert getattr(Settings(), name) == value != default


def test_an_argument_goes_before_the_environment_and_that_before_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_SWEEP_BATCH", "7")
    monkeypatch.setenv("PERDURE_URL", "")  # empty counts as not given

    assert (Settings().sweep_batch, Settings(sweep_batch=8).sweep_batch) == (7, 8)
    assert Settings().url is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"session_default_ttl": 5}, "no setting session_default_ttl; did you mean session_default_ttl_hours?"),
        ({"sweeps": 5, "zzz": 1}, "no setting zzz"),
        ({"session_default_ttl_hours": 0}, "session_default_ttl_hours: Input should be greater than 0, not 0"),
        ({"session_default_ttl_hours": math.nan}, "session_default_ttl_hours: Input should be"),
        ({"session_max_ttl_hours": math.inf}, "session_max_ttl_hours: Input should be less than or equal to"),
        ({"session_max_ttl_hours": 1e9}, "session_max_ttl_hours: Input should be less than or equal to"),
        ({"session_retention_days": 1e9}, "session_retention_days: Input should be less than or equal to 36525"),
        ({"session_retention_days": "a month"}, "session_retention_days: Input should be a valid number"),
        ({"session_cleanup_interval_minutes": 1e300}, "session_cleanup_interval_minutes: Input should be less"),
        ({"sweep_lease_seconds": -1}, "sweep_lease_seconds: Input should be greater than 0"),
        ({"session_max_queries_per_session": 0}, "session_max_queries_per_session: Input should be greater"),
        ({"session_max_queries_per_session": 1.5}, "session_max_queries_per_session: Input should be a valid integer"),
        ({"session_enable_analytics": "perhaps"}, "session_enable_analytics: Input should be a valid boolean"),
        ({"sweep_batch": 10_001}, "sweep_batch: Input should be less than or equal to 10000"),
        ({"max_value_bytes": 63}, "max_value_bytes: Input should be greater than or equal to 64"),
        ({"max_key_length": None}, "max_key_length: Input should be a valid integer"),
        ({"plugins": [7]}, "plugins.0: Input should be a valid string, not 7"),
        ({"acknowledge": "never"}, "acknowledge: Input should be 'archive' or 'hot', not 'never'"),
        ({"value_encoder": "json"}, "value_encoder: Input should be callable"),
        ({"session_default_ttl_hours": 200}, "session_default_ttl_hours is above session_max_ttl_hours"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence_that_names_the_setting(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings(**given)
    assert message in str(caught.value)
    assert "Value error" not in str(caught.value)


def test_several_mistakes_are_said_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"sweep_batch: .*; no setting other"):
        Settings(sweep_batch=0, other=1)


def test_the_largest_durations_still_are_some() -> None:
    settings = Settings(
        session_max_ttl_hours=876_600,
        session_cleanup_interval_minutes=52_596_000,
        session_retention_days=36_525,
        sweep_lease_seconds=3_155_760_000,
    )

    assert settings.max_ttl == settings.cleanup_interval == settings.retention == settings.sweep_lease


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("PERDURE_SESION_RETENTION_DAYS", "; did you mean PERDURE_SESSION_RETENTION_DAYS?"),
        ("PERDURE_NONSENSE_XYZ", ""),
        ("PERDURE_VALUE_ENCODER", ""),
    ],
)
def test_a_misspelt_variable_is_an_error_and_not_ignored(name: str, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")

    with pytest.raises(ConfigurationError, match=f"no setting {name} in the environment") as caught:
        Settings()
    if hint:
        assert str(caught.value).endswith(hint)


def test_a_bad_variable_is_an_error_like_a_bad_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_SWEEP_BATCH", "many")

    with pytest.raises(ConfigurationError, match="sweep_batch: Input should be a valid integer"):
        Settings()


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().sweep_batch = 5  # type: ignore[misc]
