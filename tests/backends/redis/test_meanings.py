"""What the server's refusals mean: each is one of perdure's errors, and tells what to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import redis.asyncio as driver
from redis import exceptions

from perdure.backends.redis.backend import RedisBackend
from perdure.backends.redis.meanings import PASSING, code_of, mapped
from perdure.errors import (
    BackendError,
    BackendUnavailableError,
    CorruptDataError,
    SchemaError,
    StorageFullError,
    StorageReadOnlyError,
)
from perdure.merging import AbsorbOutcome
from perdure.models import SessionFilter
from perdure.testing import START, ChangeMaker, stored_query, stored_session
from perdure.testing.conformance.steps import FOREVER, created, listed, numbered, whole
from perdure.testing.servers import ValkeyServer

IN_SCRIPT = "{} script: 0123abcd, on @user_script:12."
OF_OLD = "Error running script (call to f_0123abcd): @user_script:12: @user_script: 12: -{} "

MEANINGS: list[tuple[Exception, type[BackendError], str]] = [
    (exceptions.ConnectionError("Connection closed by server."), BackendUnavailableError, "Connection closed"),
    (exceptions.ConnectionError("Error 111 connecting to host:6379."), BackendUnavailableError, "connecting to host"),
    (exceptions.TimeoutError("Timeout reading from host:6379"), BackendUnavailableError, "Timeout"),
    (OSError("no route"), BackendUnavailableError, "no route"),
    (exceptions.ClusterDownError("Hash slot not served"), BackendUnavailableError, "cluster is down"),
    (exceptions.MasterDownError("Link with MASTER is down"), BackendUnavailableError, "lost its master"),
    (exceptions.MovedError("1 host:1"), BackendUnavailableError, "moving data"),
    (exceptions.AskError("1 host:1"), BackendUnavailableError, "moving data"),
    (exceptions.TryAgainError("Multiple keys"), BackendUnavailableError, "moving data"),
    (exceptions.BusyLoadingError("Redis is loading"), BackendUnavailableError, "loading its data"),
    (exceptions.ResponseError("BUSY Redis is busy running a script."), BackendUnavailableError, "busy with a script"),
    (exceptions.ReadOnlyError("You can't write against a read only replica."), BackendUnavailableError, "replica"),
    (
        exceptions.ResponseError("READONLY You can't write against a read only replica"),
        BackendUnavailableError,
        "replica",
    ),
    (exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."), BackendUnavailableError, "replicas"),
    (
        exceptions.OutOfMemoryError("command not allowed"),
        StorageFullError,
        "nothing changed",
    ),
    (exceptions.ResponseError("OOM command not allowed when used memory"), StorageFullError, "nothing changed"),
    (exceptions.ResponseError(IN_SCRIPT.format("OOM command not allowed")), StorageFullError, "nothing changed"),
    (exceptions.ResponseError(OF_OLD.format("OOM command not allowed")), StorageFullError, "nothing changed"),
    (exceptions.ResponseError("MISCONF Redis is configured to save RDB"), StorageReadOnlyError, "nothing changed"),
    (
        exceptions.ResponseError(OF_OLD.format("MISCONF Errors writing")),
        StorageReadOnlyError,
        "nothing changed",
    ),
    (exceptions.AuthenticationError("invalid username-password pair"), BackendUnavailableError, "user or password"),
    (exceptions.AuthenticationError("Authentication required."), BackendUnavailableError, "user or password"),
    (exceptions.ResponseError("NOAUTH Authentication required."), BackendUnavailableError, "wants a password"),
    (exceptions.NoPermissionError("this user has no permissions"), BackendUnavailableError, "may not do"),
    (exceptions.ResponseError("NOPERM this user has no permissions"), BackendUnavailableError, "may not do"),
    (exceptions.ResponseError(IN_SCRIPT.format("WRONGTYPE Operation")), CorruptDataError, "another namespace"),
    (exceptions.ResponseError("Script attempted to access a non local key"), BackendUnavailableError, "moving data"),
    (exceptions.ResponseError("something new"), BackendUnavailableError, "something new"),
]


@pytest.mark.parametrize(("error", "kind", "words"), MEANINGS, ids=[str(error)[:40] for error, _, _ in MEANINGS])
def test_an_error_of_the_driver_has_a_meaning(error: Exception, kind: type[BackendError], words: str) -> None:
    meaning = mapped(error)

    assert type(meaning) is kind
    assert words in str(meaning)
    assert str(meaning).startswith("redis: ")
    assert meaning.__cause__ is error


def test_what_passes_by_itself_is_told_from_what_does_not() -> None:
    passing = {words for error, _, words in MEANINGS if code_of(error) in PASSING}

    assert passing == {
        "cluster is down",
        "lost its master",
        "moving data",
        "loading its data",
        "busy with a script",
        "replica",
        "replicas",
    }


# The real ones --------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    """A server of the test's own, whose configuration it may change."""
    with ValkeyServer(durability="none") as server:
        yield server


@pytest.fixture
async def impatient(server: ValkeyServer) -> AsyncIterator[RedisBackend]:
    backend = RedisBackend(f"{server.url}?timeout=0.4")
    await backend.open()
    yield backend
    await backend.aclose()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that a server does by itself."""
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it has not happened in ten seconds")


async def test_full_memory_changes_nothing_and_deleting_makes_room(
    impatient: RedisBackend, server: ValkeyServer
) -> None:
    session = await created(impatient, queries=numbered(2), tags=("x",))
    with server.client() as client:
        client.config_set("maxmemory", "1mb")
        change = ChangeMaker().query(set_entries={"context": {"a": "1"}}, add_tags=("late",))
        with pytest.raises(StorageFullError, match="nothing changed"):
            await impatient.apply(session.id, change)
        with pytest.raises(StorageFullError):
            await impatient.create(stored_session())
        with pytest.raises(StorageFullError):
            await impatient.absorb([stored_session(), stored_session()])
        after, found = await whole(impatient, session.id), await listed(impatient, tags=["late"])
        deleted = await impatient.delete(session.id, forget_at=FOREVER)
        client.config_set("maxmemory", "0")
    assert (after, found, deleted) == (session, [], True)
    assert await listed(impatient) == []


async def test_a_disk_that_cannot_be_written_stops_writes_and_not_reads(
    impatient: RedisBackend, server: ValkeyServer
) -> None:
    session = await created(impatient)
    blocked = server.folder / "dump.rdb"
    blocked.mkdir()  # in the place where the snapshot would go
    with server.client() as client:
        client.config_set("save", "3600 1")
        client.bgsave()
        await until(lambda: bool(client.info("persistence")["rdb_last_bgsave_status"] != "ok"))
        with pytest.raises(StorageReadOnlyError, match="nothing changed"):
            await impatient.apply(session.id, ChangeMaker().query())
        assert await whole(impatient, session.id) == session
        health = await impatient.health(now=START)
        blocked.rmdir()
        client.save()
    assert health.ok
    assert any("rdb_last_bgsave_status" in warning for warning in health.warnings)
    assert (await impatient.apply(session.id, ChangeMaker().query())).version == 2


async def test_a_replica_takes_no_writes_and_answers_reads(impatient: RedisBackend, server: ValkeyServer) -> None:
    with ValkeyServer(durability="none", config={"repl-diskless-sync-delay": "0"}) as master:
        backend = RedisBackend(master.url)
        await backend.open()
        session = await created(backend)
        with server.client() as client:
            client.replicaof("127.0.0.1", str(master.port))
            await until(lambda: bool(client.exists(backend._layout.session(session.id))))
        with pytest.raises(BackendUnavailableError, match="is a replica"):
            await impatient.apply(session.id, ChangeMaker().query())
        assert await whole(impatient, session.id) == session
        assert await listed(impatient) == [session.id]
        assert any("replica" in warning for warning in (await impatient.health(now=START)).warnings)
        await backend.aclose()


async def test_a_server_that_runs_somebody_elses_script_is_waited_for(
    impatient: RedisBackend, server: ValkeyServer
) -> None:
    session = await created(impatient)
    patient = RedisBackend(f"{server.url}?timeout=5&socket_timeout=5")
    await patient.open()
    with server.client() as client:
        client.config_set("busy-reply-threshold" if server.binary.version >= (7,) else "lua-time-limit", 50)
    busy = driver.Redis(port=server.port, socket_timeout=20)
    looping = asyncio.ensure_future(busy.eval("while true do end", 0))
    await asyncio.sleep(0.2)

    with pytest.raises(BackendUnavailableError):
        await impatient.apply(session.id, ChangeMaker().query())
    waiting = asyncio.create_task(patient.apply(session.id, ChangeMaker().query()))
    await asyncio.sleep(0.2)
    with server.client() as client:
        client.script_kill()
    with pytest.raises(exceptions.ResponseError):
        await looping

    assert (await waiting).total_queries == 1
    await busy.aclose()
    await patient.aclose()


@pytest.mark.parametrize("missing", ["hset", "rpush", "zadd", "unlink", "zmscore", "pexpire"])
async def test_a_user_who_lacks_a_right_hears_which_at_opening_and_nothing_is_half_done(
    impatient: RedisBackend, server: ValkeyServer, missing: str
) -> None:
    session = await created(impatient)
    user = RedisBackend(server.url.replace("//", "//ann:secret@"))
    with server.client() as client:
        client.acl_setuser("ann", enabled=True, passwords=["+secret"], categories=["+@all"], keys=["*"])
        await user.open()
        client.acl_setuser("ann", enabled=True, commands=[f"-{missing}"])
        newcomer = RedisBackend(server.url.replace("//", "//ann:secret@"))
        with pytest.raises(BackendUnavailableError, match=f"may not do what perdure has to .*{missing}") as caught:
            await newcomer.open()
    assert "secret" not in str(caught.value)
    if missing == "hset":
        with pytest.raises(BackendUnavailableError, match="may not do"):
            await user.apply(session.id, ChangeMaker().query())
        assert await whole(impatient, session.id) == session
    await user.aclose()


async def test_a_user_who_may_only_use_other_keys_hears_so_at_opening(server: ValkeyServer) -> None:
    with server.client() as client:
        client.acl_setuser("ann", enabled=True, passwords=["+secret"], categories=["+@all"], keys=["theirs:*"])
    with pytest.raises(BackendUnavailableError, match="may not do"):
        await RedisBackend(server.url.replace("//", "//ann:secret@")).open()


@pytest.mark.parametrize("given", ["", "wrong", "nobody:wrong"])
async def test_a_wrong_password_is_a_clear_error_and_is_not_shown(server: ValkeyServer, given: str) -> None:
    with server.client() as client:
        client.config_set("requirepass", "swordfish")
        user, _, password = given.rpartition(":")
        backend = RedisBackend(server.url.replace("//", f"//{user}:{password}@") if given else server.url)
        with pytest.raises(BackendUnavailableError, match="password") as caught:
            await backend.open()
        right = RedisBackend(server.url.replace("//", "//:swordfish@"))
        await right.open()
        client.config_set("requirepass", "")
    assert "wrong" not in str(caught.value)
    assert "swordfish" not in f"{right.name}{right.address}{right.address!r}{await right.health(now=START)}"
    await right.aclose()


async def test_a_key_of_somebody_elses_is_told_as_such(impatient: RedisBackend, server: ValkeyServer) -> None:
    session = await created(impatient, queries=(stored_query(),))
    other = stored_session(tags=("taken",))
    bucket, (key, _) = impatient._layout.place(session.id)
    with server.client() as client:
        client.delete(key)
        client.set(key, "something else")
        client.set(impatient._layout.index(impatient._layout.bucket_of(other.id), "tag:taken", archived=False), "x")
    for call in (
        impatient.read(session.id),
        impatient.apply(session.id, ChangeMaker().query()),
        impatient.create(other),
        impatient.queries(session.id, limit=1),
    ):
        with pytest.raises(CorruptDataError, match="holds something else"):
            await call
    assert await impatient.read(other.id) is None
    (done,) = await impatient.absorb([other])
    assert done.outcome is AbsorbOutcome.FAILED
    assert (await impatient.find(SessionFilter(), limit=5)).items == []
    assert bucket == impatient._layout.bucket_of(session.id)


async def test_data_of_somebody_elses_under_the_namespace_is_refused(server: ValkeyServer) -> None:
    with server.client() as client:
        client.hset("{perdure:0}:meta", mapping={"format": "theirs"})
    with pytest.raises(SchemaError, match=r"is not perdure's"):
        await RedisBackend(server.url).open()
