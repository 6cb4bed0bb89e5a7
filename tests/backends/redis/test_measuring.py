"""What of statistics is Redis's own: where they are kept, and what races with retention."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from perdure.backends import Purged
from perdure.backends.redis.backend import RedisBackend
from perdure.backends.redis.sending import Call, Transaction
from perdure.errors import BackendUnavailableError, CorruptDataError
from perdure.models import SessionFilter, StatsFilter, StoredSession
from perdure.testing import START, ChangeMaker
from perdure.testing.conformance.steps import EXPIRY, FOREVER, HOUR, MINUTE, created, measured, numbered, whole
from perdure.testing.servers import ValkeyServer


async def purge(backend: RedisBackend) -> Purged:
    return await backend.purge(archived_before=FOREVER, now=EXPIRY, limit=100)


async def test_a_session_that_came_back_while_retention_measured_it_is_not_removed(
    backend: RedisBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await created(backend, archived_at=EXPIRY, queries=numbered(1))
    read_many = backend._reading.read_many

    async def restored_and_archived_meanwhile(ids: Sequence[UUID]) -> list[StoredSession | CorruptDataError | None]:
        found = await read_many(ids)
        for change in (
            ChangeMaker().change(at=EXPIRY, expires_at=EXPIRY + HOUR, queries=numbered(1, first=2)),
            ChangeMaker().change(at=EXPIRY + HOUR, archive=True),
        ):
            await backend.apply(session.id, change)
        return found

    monkeypatch.setattr(backend._reading, "read_many", restored_and_archived_meanwhile)
    assert await purge(backend) == Purged([])
    monkeypatch.undo()

    assert (await whole(backend, session.id)).total_queries == 2
    assert (await measured(backend))["queries"] == 2
    assert await purge(backend) == Purged([session.id])
    assert (await measured(backend))["queries"] == 2


async def test_however_many_are_asked_for_few_whole_sessions_are_held_at_a_time(
    backend: RedisBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    created_at = [START + number * MINUTE for number in range(12)]
    sessions = [await created(backend, created_at=at, archived_at=EXPIRY) for at in created_at]
    read_many, held = backend._reading.read_many, list[int]()

    async def counting(ids: Sequence[UUID]) -> list[StoredSession | CorruptDataError | None]:
        held.append(len(ids))
        return await read_many(ids)

    monkeypatch.setattr(backend._reading, "read_many", counting)
    for module in ("measuring", "moving"):
        monkeypatch.setattr(f"perdure.backends.redis.{module}.AT_ONCE", 5)

    page = await backend.metrics(StatsFilter(), limit=100)
    assert [metrics.session_id for metrics in page] == [session.id for session in reversed(sessions)]
    assert max(held) == 5

    held.clear()
    assert set((await purge(backend)).session_ids) == {session.id for session in sessions}
    assert held == [5, 5, 2]


async def test_of_many_sessions_of_one_instant_each_is_on_one_page(backend: RedisBackend) -> None:
    sessions = [await created(backend, archived_at=EXPIRY) for _ in range(40)]
    assert len((await purge(backend)).session_ids) == 40
    sessions += [await created(backend, created_at=START + MINUTE) for _ in range(3)]

    found, cursor = list[UUID](), None
    while True:
        page = await backend.metrics(StatsFilter(), cursor=cursor, limit=7)
        found += [metrics.session_id for metrics in page]
        cursor = page.next_cursor
        if cursor is None:
            break

    assert found == [each.id for each in sorted(sessions, key=lambda each: (each.created_at, each.id), reverse=True)]


async def test_where_a_part_was_not_answered_nothing_is_counted_or_removed_as_if_it_were_damaged(
    backend: RedisBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = await created(backend, queries=numbered(1), archived_at=EXPIRY)
    lost = await created(backend, queries=numbered(2), archived_at=EXPIRY)
    before = await measured(backend)
    send_all = backend._wire.send_all
    away = BackendUnavailableError("redis", "one master of the cluster is away")

    async def partly_answered(calls: Sequence[Call]) -> list[Any]:
        """As when the server of one session is away while sessions are read."""
        name = lost.id.hex.encode()
        asked = [isinstance(call, Transaction) and name in call.packed() for call in calls]
        return [away if is_lost else reply for is_lost, reply in zip(asked, await send_all(calls), strict=True)]

    monkeypatch.setattr(backend._wire, "send_all", partly_answered)
    verbs: list[Callable[[], Awaitable[Any]]] = [
        lambda: measured(backend),
        lambda: backend.aggregate(SessionFilter()),
        lambda: backend.metrics(StatsFilter(), limit=9),
        lambda: purge(backend),
    ]
    for verb in verbs:
        with pytest.raises(BackendUnavailableError, match="one master"):
            await verb()
    monkeypatch.undo()
    assert await measured(backend) == before
    assert (await whole(backend, answered.id)).total_queries == 1


async def test_a_record_that_nobody_can_read_is_left_out_and_logged(
    backend: RedisBackend, valkey_server: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = await created(backend, archived_at=EXPIRY), await created(backend, archived_at=EXPIRY)
    await purge(backend)
    bucket = backend._layout.bucket_of(bad.id)
    with valkey_server.client() as client:
        client.hset(backend._layout.purged(bucket)[1], bad.id.bytes, "=ann\0one\0[]")

    assert (await measured(backend))["sessions"] == 1
    assert [each.session_id for each in await backend.metrics(StatsFilter(), limit=9)] == [good.id]
    assert f"session.unmeasured session_id='{bad.id}'" in caplog.text


async def test_an_unreadable_session_goes_with_retention_and_counts_no_longer(
    backend: RedisBackend, valkey_server: ValkeyServer
) -> None:
    session = await created(backend, archived_at=EXPIRY)
    with valkey_server.client() as client:
        client.hset(backend._layout.session(session.id), "F", "nonsense")

    assert await purge(backend) == Purged([session.id])
    assert await measured(backend) == {}


async def test_dropping_everything_drops_what_purged_sessions_counted(
    backend: RedisBackend, valkey_server: ValkeyServer
) -> None:
    await created(backend, archived_at=EXPIRY)
    await purge(backend)
    await backend.record([replace(await created(backend), id=UUID(int=7))], at=EXPIRY)
    await backend.schema.drop()

    with valkey_server.client() as client:
        assert client.dbsize() == 0
