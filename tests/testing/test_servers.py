"""The servers that tests start: what a kill, a stall and a new start do to them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import pytest
import redis
from tests.testing.processes import becomes_true, gone

from perdure.testing.servers import (
    LocalServer,
    PostgresBinaries,
    PostgresServer,
    RedisBinary,
    ServerError,
    ValkeyServer,
    available_postgres_binaries,
    available_redis_binaries,
    ports,
    postgres,
    process,
)
from perdure.testing.servers.guard import children_of, has_ended
from perdure.testing.servers.ports import free_port

pytestmark = pytest.mark.xdist_group("servers")

Start: TypeAlias = Callable[..., LocalServer]


@pytest.fixture(scope="session", params=available_redis_binaries(), ids=lambda binary: binary.name)
def redis_binary(request: pytest.FixtureRequest) -> RedisBinary:
    binary: RedisBinary = request.param
    return binary


@pytest.fixture(scope="session", params=available_postgres_binaries(), ids=lambda binaries: binaries.name)
def postgres_binaries(request: pytest.FixtureRequest) -> PostgresBinaries:
    binaries: PostgresBinaries = request.param
    return binaries


@pytest.fixture(params=[ValkeyServer, PostgresServer])
def new(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Makes servers of one kind, not started yet, and ends them."""
    made: list[LocalServer] = []

    def make(**options: object) -> LocalServer:
        made.append(request.param(**options))
        return made[-1]

    yield make
    for server in made:
        server.close()


# Valkey ---------------------------------------------------------------------------------------------


def test_what_a_killed_valkey_had_acknowledged_is_there_after_a_new_start(
    redis_url: str, valkey_server: ValkeyServer
) -> None:
    port = valkey_server.port
    with redis.Redis.from_url(redis_url) as client:
        for number in range(200):
            client.set(f"key {number}", number)

    valkey_server.kill()
    assert not valkey_server.running
    valkey_server.start()

    assert valkey_server.port == port
    with valkey_server.client() as client:
        assert client.dbsize() == 200


def test_without_durability_a_kill_loses_everything() -> None:
    with ValkeyServer(durability="none") as server, server.client() as client:
        client.set("key", "value")

        server.kill()
        server.start()

        assert client.dbsize() == 0
        with pytest.raises(ServerError, match="no append-only file"):
            _ = server.aof_path


def test_cutting_the_append_only_file_loses_just_its_end(redis_url: str, valkey_server: ValkeyServer) -> None:
    with redis.Redis.from_url(redis_url) as client:
        for number in range(100):
            client.set(f"key {number}", "x" * 50)

    valkey_server.kill()
    cut = valkey_server.truncate_aof(60)
    valkey_server.start()

    assert cut == 60
    with valkey_server.client() as client:
        assert client.exists(*(f"key {number}" for number in range(99))) == 99
        assert client.exists("key 99") == 0


def test_more_cannot_be_cut_off_than_there_is() -> None:
    with ValkeyServer() as server:
        with server.client() as client:
            client.set("key", "value")
        server.kill()
        size = server.aof_path.stat().st_size

        assert server.truncate_aof(size + 10**6) == size > 0

        with server.start().client() as client:
            assert client.dbsize() == 0


def test_the_append_only_file_of_a_running_server_is_not_cut(valkey_server: ValkeyServer) -> None:
    with pytest.raises(ServerError, match="runs"):
        valkey_server.start().truncate_aof(1)


def test_settings_of_the_servers_own_win() -> None:
    config = {"maxmemory": "50mb", "appendfsync": "no"}
    with ValkeyServer(maxmemory_policy="allkeys-lru", config=config) as server, server.client() as client:
        found = client.config_get("*")

    assert (found["maxmemory-policy"], found["maxmemory"]) == ("allkeys-lru", str(50 * 1024**2))
    assert (found["appendonly"], found["appendfsync"]) == ("yes", "no")


def test_a_stopped_valkey_answers_nobody_until_it_is_resumed(redis_url: str, valkey_server: ValkeyServer) -> None:
    with valkey_server.client(timeout_seconds=0.3) as client:
        client.set("before", "1")

        valkey_server.stop()
        assert (valkey_server.running, valkey_server.stopped) == (True, True)
        with pytest.raises(redis.TimeoutError):
            client.get("before")
        valkey_server.resume()

        assert valkey_server.stopped is False
        assert client.get("before") == "1"


@pytest.mark.parametrize("leave", [ValkeyServer.kill, ValkeyServer.stop, ValkeyServer.terminate, lambda _: None])
def test_each_test_is_given_an_empty_running_valkey(
    redis_url: str, valkey_server: ValkeyServer, leave: Callable[[ValkeyServer], None]
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        assert client.script_exists(hashlib.sha1(b"return 1").hexdigest()) == [False]

        client.set("key", "value")
        client.script_load("return 1")
        if valkey_server.binary.version >= (7,):
            client.function_load("#!lua name=left\nredis.register_function('left', function() return 1 end)")

    leave(valkey_server)


# Postgres -------------------------------------------------------------------------------------------


async def test_what_a_killed_postgres_had_committed_is_there_after_a_new_start_and_nothing_else(
    postgres_url: str, postgres_server: PostgresServer
) -> None:
    port = postgres_server.port
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE TABLE kept (number int)")
    await connection.execute("INSERT INTO kept SELECT generate_series(1, 200)")
    await connection.execute("BEGIN; INSERT INTO kept VALUES (-1)")

    postgres_server.kill()
    postgres_server.start()

    assert postgres_server.port == port
    assert postgres_server.execute("SELECT count(*), min(number) FROM kept", database="perdure_test") == [(200, 1)]
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await connection.execute("COMMIT")
    connection.terminate()


async def test_a_killed_postgres_leaves_no_process_that_still_works(
    postgres_url: str, postgres_server: PostgresServer
) -> None:
    connection = await asyncpg.connect(postgres_url)
    busy = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
    await asyncio.sleep(0)
    seen = "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' AND state = 'active'"
    while not postgres_server.execute(seen):
        await asyncio.sleep(0.01)
    family = {postgres_server.pid, *children_of(postgres_server.pid)}
    assert len(family) > 4

    postgres_server.kill()

    assert all(map(has_ended, family))  # already: nothing of it holds its port, or goes on writing
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await busy
    connection.terminate()


async def test_a_stopped_postgres_answers_nobody_until_it_is_resumed(
    postgres_url: str, postgres_server: PostgresServer
) -> None:
    connection = await asyncpg.connect(postgres_url)

    postgres_server.stop()
    waiting = asyncio.create_task(connection.fetchval("SELECT 42"))  # the process that serves it is another one
    new = asyncio.create_task(asyncpg.connect(postgres_url))
    done, _ = await asyncio.wait([waiting, new], timeout=0.3)
    assert (done, postgres_server.stopped) == (set(), True)
    postgres_server.resume()

    assert await asyncio.wait_for(waiting, 10) == 42
    await (await asyncio.wait_for(new, 10)).close()
    await connection.close()


@pytest.mark.parametrize("leave", [PostgresServer.kill, PostgresServer.stop, lambda _: None, PostgresServer.terminate])
async def test_each_test_is_given_an_empty_database_of_a_running_postgres(
    postgres_url: str, postgres_server: PostgresServer, leave: Callable[[PostgresServer], None]
) -> None:
    connection = await asyncpg.connect(postgres_url)
    own = await connection.fetch(
        "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
    )
    assert [row["nspname"] for row in own] == ["public"]
    assert await connection.fetchval("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == 0

    await connection.execute("CREATE SCHEMA other; CREATE TABLE other.t (a int); CREATE TABLE public.t (a int)")
    leave(postgres_server)
    connection.terminate()


async def test_clearing_a_database_is_not_held_up_by_those_who_use_it(
    postgres_url: str, postgres_server: PostgresServer
) -> None:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE TABLE t (a int)")
    await connection.execute("BEGIN; LOCK TABLE t")

    assert postgres_server.clear("perdure_test") == postgres_url

    assert postgres_server.execute("SELECT to_regclass('t')", database="perdure_test") == [(None,)]
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await connection.execute("COMMIT")
    connection.terminate()


def test_databases_are_made_and_dropped(postgres_server: PostgresServer) -> None:
    postgres_server.start()

    url = postgres_server.create_database('a "b"')
    assert postgres_server.create_database('a "b"') == url
    postgres_server.execute("CREATE TABLE t (a int)", "INSERT INTO t VALUES (7)", database='a "b"')
    assert postgres_server.execute("SELECT * FROM t", database='a "b"') == [(7,)]

    postgres_server.drop_database('a "b"')
    postgres_server.drop_database('a "b"')
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        postgres_server.execute("SELECT 1", database='a "b"')


async def test_a_postgres_listens_in_its_folder_if_it_is_told_to(postgres_binaries: PostgresBinaries) -> None:
    with PostgresServer(binaries=postgres_binaries, unix_socket=True, max_connections=17) as server:
        connection = await asyncpg.connect(server.socket_url)
        assert await connection.fetchval("SHOW max_connections") == "17"
        assert await connection.fetchval("SELECT inet_client_addr()") is None
        await connection.close()


def test_a_postgres_is_as_safe_as_it_is_by_default(postgres_server: PostgresServer) -> None:
    postgres_server.start()

    names = "fsync", "synchronous_commit", "full_page_writes", "server_encoding"
    shown = [postgres_server.execute(f"SHOW {name}")[0][0] for name in names]
    assert shown == ["on", "on", "on", "UTF8"]


def hidden_in(folder: Path) -> PostgresBinaries:
    """The first binaries, where only root may enter."""
    folder.chmod(0o700)
    (first, *_) = available_postgres_binaries()
    package = first.postgres.parents[2]
    for part in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(part, folder / part.name, copy_function=os.link)
    hidden = folder / package.name / "pginstall" / "bin"
    return PostgresBinaries("hidden", hidden / "postgres", hidden / "initdb", first.version)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hide folders from the user whom Postgres runs as")
def test_for_root_a_postgres_runs_in_and_from_folders_that_only_root_may_enter(tmp_path: Path) -> None:
    binaries = hidden_in(tmp_path)

    with PostgresServer(folder=tmp_path / "kept", binaries=binaries) as server:
        server.execute("CREATE TABLE t (a int)", "INSERT INTO t VALUES (1)")
        server.kill()
        assert server.restart().execute("SELECT a FROM t") == [(1,)]
        assert Path(f"/proc/{server.pid}").stat().st_uid != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hide folders from the user whom Postgres runs as")
def test_for_root_temporary_files_that_only_root_may_see_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binaries = hidden_in(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    refused = pytest.raises(ServerError, match=r"nobody, who may not enter .*set TMPDIR to another folder")
    with refused, PostgresServer(folder=tmp_path / "kept", binaries=binaries):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hide folders from the user whom Postgres runs as")
def test_for_root_an_old_postgres_says_that_it_cannot_run_where_only_root_may_enter(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (first, *_) = available_postgres_binaries()
    old = PostgresBinaries("old", first.postgres, first.initdb, (15, 0))

    refused = pytest.raises(ServerError, match=r"nobody, who may not enter .*choose another folder")
    with refused, PostgresServer(folder=tmp_path / "kept", binaries=old):
        pass


def test_half_of_a_database_is_not_taken_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = subprocess.run

    def crash(command: list[Any], **options: Any) -> subprocess.CompletedProcess[bytes]:
        ran = run(command, **options)
        if "-D" in command:  # initdb, which dies before its end
            (Path(options["cwd"]) / "global" / "pg_control").unlink()
            ran.returncode = 1
        return ran

    with monkeypatch.context() as broken:
        broken.setattr(subprocess, "run", crash)
        with pytest.raises(ServerError, match="initdb failed"), PostgresServer(folder=tmp_path / "kept"):
            pass

    with PostgresServer(folder=tmp_path / "kept") as server:
        assert server.execute("SELECT 1") == [(1,)]


async def test_a_new_start_waits_for_what_a_killed_postgres_has_left_behind(tmp_path: Path) -> None:
    with PostgresServer(folder=tmp_path / "kept") as server:
        main, said = server.pid, server.log_path.stat().st_size
        (left, *_) = children_of(main)
        os.kill(left, signal.SIGSTOP)  # it cannot notice that it has been left alone
        os.kill(main, signal.SIGKILL)
        assert gone(main)

        starting = asyncio.create_task(asyncio.to_thread(server.start))
        while b"pre-existing shared memory block" not in server.log_path.read_bytes()[said:]:
            await asyncio.sleep(0.01)
        os.kill(left, signal.SIGKILL)
        await starting

        assert server.execute("SELECT 1") == [(1,)]


# All of them ----------------------------------------------------------------------------------------


def test_a_given_folder_is_kept_and_a_folder_of_its_own_is_removed(new: Start, tmp_path: Path) -> None:
    given, own = new(folder=tmp_path / "some" / "folder"), new()
    given.start()
    own_folder = own.start().folder
    assert own_folder.is_dir()

    given.close()
    own.close()

    assert "server.log" in {path.name for path in (tmp_path / "some" / "folder").iterdir()}
    assert not own_folder.exists()


def test_data_in_a_given_folder_are_found_by_the_next_server(tmp_path: Path) -> None:
    with ValkeyServer(folder=tmp_path / "v") as valkey, PostgresServer(folder=tmp_path / "p") as postgres:
        with valkey.client() as client:
            client.set("key", "value")
        postgres.execute("CREATE TABLE t (a int)", "INSERT INTO t VALUES (1)")
        urls = valkey.url, postgres.url

    with ValkeyServer(folder=tmp_path / "v") as valkey, PostgresServer(folder=tmp_path / "p") as postgres:
        assert (valkey.url, postgres.url) == urls
        with valkey.client() as client:
            assert client.get("key") == "value"
        assert postgres.execute("SELECT a FROM t") == [(1,)]


def test_a_stopped_server_can_be_killed_and_terminated(new: Start) -> None:
    server = new().start()
    pid = server.pid

    server.stop()
    server.kill()
    assert gone(pid)
    assert (server.running, server.stopped) == (False, False)

    second = server.start().pid
    server.stop()
    server.terminate()
    assert gone(second)
    assert second != pid


def test_starting_closing_and_terminating_are_repeatable() -> None:
    server = ValkeyServer()
    server.terminate()
    pid = server.start().pid

    assert server.start().pid == pid
    server.terminate()
    server.terminate()
    server.close()
    server.close()


def test_a_closed_server_can_be_started_anew() -> None:
    server = ValkeyServer()
    with server:
        first = server.folder

    with server, server.client() as client:
        assert client.dbsize() == 0
        assert server.folder != first


def test_a_server_that_does_not_run_says_so(new: Start) -> None:
    server = new()

    for verb in (server.stop, server.resume, server.kill, lambda: server.pid):
        with pytest.raises(ServerError, match="does not run"):
            verb()
    for fact in (lambda: server.port, lambda: server.folder, lambda: server.url):
        with pytest.raises(ServerError, match="not been started"):
            fact()
    assert "not running" in repr(server)


def test_a_server_shows_where_it_is() -> None:
    with ValkeyServer() as server:
        assert repr(server) == f"<ValkeyServer port={server.port} pid={server.pid}>"


def test_a_server_that_ends_by_itself_is_noticed_and_can_be_started_again(new: Start) -> None:
    server = new().start()
    pid = server.pid
    os.kill(pid, 9)

    assert becomes_true(lambda: not server.running)  # it has ended when its last thread has
    assert server.start().pid != pid


def test_a_given_port_that_is_taken_is_an_error_at_once(new: Start, tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        server = new(port=other.getsockname()[1])
        began = time.monotonic()

        with pytest.raises(ServerError, match=r"(?s)did not start on port \d+; it said:.*Address already in use"):
            server.start()

        assert time.monotonic() - began < process.START_SECONDS / 2
        assert server.running is False


def test_a_chosen_port_that_is_taken_meanwhile_is_replaced(new: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        server = new()
        taken = other.getsockname()[1]
        choose = server._free_port
        offered = iter([taken, choose()])
        monkeypatch.setattr(server, "_free_port", lambda: next(offered))

        assert server.start().port != taken


def test_a_remembered_port_that_is_taken_meanwhile_is_replaced(tmp_path: Path) -> None:
    with ValkeyServer(folder=tmp_path) as first:
        port = first.port

    with closing(socket.create_server(("127.0.0.1", port))), ValkeyServer(folder=tmp_path) as second:
        assert second.port != port
        second.kill()
        assert second.start().running


def test_a_port_that_is_taken_for_a_moment_is_waited_for_at_a_new_start(new: Start) -> None:
    server = new().start()
    server.kill()
    taken = socket.create_server(("127.0.0.1", server.port))
    log = server.log_path
    said = log.stat().st_size

    async def start() -> None:
        starting = asyncio.create_task(asyncio.to_thread(server.start))
        while b"Address already in use" not in log.read_bytes()[said:]:
            await asyncio.sleep(0.01)
        taken.close()
        await starting

    asyncio.run(start())
    assert server.running


def test_ports_are_below_those_that_clients_are_given() -> None:
    assert all(10_000 <= port < 20_000 for port in (free_port(), free_port(with_bus=True)))


def test_a_port_that_is_in_use_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.create_server(("127.0.0.1", free_port()))) as other:
        taken = other.getsockname()[1]
        monkeypatch.setattr(ports, "_FIRST", taken)
        monkeypatch.setattr(ports, "_LAST", taken)
        with pytest.raises(ServerError, match="no free port"):
            free_port()

        monkeypatch.setattr(ports, "_FIRST", taken - ports.BUS_OFFSET)
        monkeypatch.setattr(ports, "_LAST", taken - ports.BUS_OFFSET)
        with pytest.raises(ServerError, match="no free port"):
            free_port(with_bus=True)


def test_a_server_is_not_mixed_up_with_another_one_on_its_port() -> None:
    with ValkeyServer() as first:
        second = ValkeyServer(port=first.port)
        with pytest.raises(ServerError, match="did not start"), second:
            pass


def test_a_statement_that_does_not_end_is_given_up(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres_server.start()
    monkeypatch.setattr(postgres, "PATIENCE_SECONDS", 0.2)

    with pytest.raises(TimeoutError):
        postgres_server.execute("SELECT pg_sleep(60)")
