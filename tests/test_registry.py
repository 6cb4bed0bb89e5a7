"""From a URL to a backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.installed import install

from perdure.backends import MemoryBackend, SessionBackend, backend_for, default_path
from perdure.backends.sql.sqlite import SqliteBackend
from perdure.errors import ConfigurationError
from perdure.store import schema_of


def path_of(url: str) -> Path:
    backend = backend_for(url)
    assert isinstance(backend, SqliteBackend)
    return backend.path


def test_memory_is_new_each_time() -> None:
    assert isinstance(backend_for("memory://"), MemoryBackend)
    assert backend_for("memory://") is not backend_for("memory://")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///sessions.db", Path("sessions.db")),
        ("sqlite:////var/lib/sessions.db", Path("/var/lib/sessions.db")),
        ("sqlite:///with%20space/%C3%A9.db", Path("with space/é.db")),
        ("sqlite:///~/sessions.db", Path.home() / "sessions.db"),
    ],
)
def test_a_sqlite_url_names_a_file(url: str, path: Path) -> None:
    assert path_of(url) == path


def test_without_a_url_it_is_one_file_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))

    backend = backend_for(None)

    assert isinstance(backend, SqliteBackend)
    assert backend.path == default_path()
    assert default_path().name == "sessions.db"
    assert default_path().is_relative_to(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://somewhere", "a memory store has no name or path"),
        ("sqlite://", "not a SQLite URL"),
        ("sqlite:///", "not a SQLite URL"),
        ("sqlite://host/file.db", "not a SQLite URL"),
        ("sqlite:///file.db?mode=ro", "not a SQLite URL"),
        ("sqlite:///file.db#part", "not a SQLite URL"),
        ("sqlite:///:memory:", "for sessions in memory use memory://"),
        ("sessions.db", r"a SQLite file is sqlite:///sessions.db"),
        ("", "no backend for 'a path without scheme'"),
        ("nonsense://user:swordfish@host/x", "no backend for 'nonsense'; there are memory, postgres"),
        ("sqlite://[", "not a URL"),
        (5, "not a URL"),
    ],
)
def test_what_names_no_backend_is_refused_with_what_there_is(url: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        backend_for(url)
    assert "swordfish" not in str(caught.value)


def kept_by_a_package(url: str) -> SessionBackend:
    """What an installed package would bring."""
    backend = MemoryBackend()
    backend.name = url
    return backend


def test_an_installed_package_brings_a_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, group="perdure.backends", name="other", value="tests.test_registry:kept_by_a_package")

    assert backend_for("other://place").name == "other://place"


def test_a_backend_whose_package_lacks_something_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, group="perdure.backends", name="other", value="tests.no_such_module:backend")

    with pytest.raises(ConfigurationError, match="the backend for 'other' cannot be imported: No module named"):
        backend_for("other://place")
    assert isinstance(backend_for("memory://"), MemoryBackend)


def test_a_scheme_given_by_a_plugin_goes_before_an_installed_one_and_the_own_ones_before_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, group="perdure.backends", name="other", value="tests.test_registry:kept_by_a_package")
    given = MemoryBackend()

    assert backend_for("other://", more={"other": lambda url: given}) is given
    assert backend_for("memory://", more={"memory": lambda url: given}) is not given


def test_the_schema_behind_a_url_is_for_operators(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert schema_of("sqlite:///sessions.db") is not None
    monkeypatch.setenv("PERDURE_URL", f"sqlite:///{tmp_path}/configured.db")
    assert str(tmp_path) in str(vars(schema_of())["path"])
    with pytest.raises(ConfigurationError, match="memory has no schema: nothing to create, upgrade, verify or drop"):
        schema_of("memory://")
