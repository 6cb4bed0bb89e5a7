"""What an operator sees of two tiers, what is lost and told, and how they are opened and closed."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.backends.tiered.pairs import Acknowledge, Pair, Seconds, opened
from tests.backends.tiered.test_hot import archived, create, delete, expired, extend, restored, write

from perdure.backends import BackendHealth
from perdure.backends.tiered import losses
from perdure.errors import (
    BackendClosedError,
    BackendUnavailableError,
    SchemaError,
    SessionNotFoundError,
    StorageFullError,
)
from perdure.models import StoredSession
from perdure.testing import START, ChangeMaker, stored_session
from perdure.testing.conformance.steps import EXPIRY, FOREVER, HOUR, MINUTE

both_modes = pytest.mark.parametrize("acknowledge", ["archive", "hot"])


@pytest.fixture
def logs() -> Any:
    with capture_logs() as entries:
        yield entries


async def health_of(pair: Pair) -> BackendHealth:
    return await pair.tiers.health(now=EXPIRY)


# Health -------------------------------------------------------------------------------------------


@both_modes
async def test_health_is_of_each_tier_and_well_if_both_are(acknowledge: Acknowledge) -> None:
    pair = await opened(acknowledge)
    health = await health_of(pair)
    assert (health.ok, health.error, health.warnings) == (True, None, ())
    assert health.backend == "memory over memory"
    assert dict(health.details) == {"acknowledge": acknowledge}
    assert {name: tier.ok for name, tier in health.tiers.items()} == {"hot": True, "archive": True}


@both_modes
@pytest.mark.parametrize("tier", ["hot", "archive"])
async def test_health_says_which_tier_does_not_answer(acknowledge: Acknowledge, tier: str) -> None:
    pair = await opened(acknowledge)
    (pair.hot if tier == "hot" else pair.archive).down = True
    health = await health_of(pair)
    assert (health.ok, health.error) == (False, "memory: memory: nobody answers")
    assert {name: each.ok for name, each in health.tiers.items()} == {name: name != tier for name in ("hot", "archive")}


@both_modes
async def test_a_sweep_is_one_of_both_tiers(acknowledge: Acknowledge) -> None:
    pair = await opened(acknowledge)
    await pair.tiers.create(stored_session(), fresh=True)
    await pair.tiers.start_sweep(now=START, interval=HOUR)
    health = await health_of(pair)
    assert (health.last_swept_at, health.due) == (START, 1)
    assert [tier.last_swept_at for tier in health.tiers.values()] == [START, START]
    assert {name: each.due for name, each in health.tiers.items()} == {
        "hot": int(acknowledge == "hot"),
        "archive": int(acknowledge == "archive"),
    }


async def test_a_full_cache_is_a_warning() -> None:
    pair = await opened("archive")
    session = stored_session()
    await pair.tiers.create(session)
    pair.hot.fails("cache.fill", StorageFullError("memory", "no room"))
    await pair.tiers.read(session.id)
    health = await health_of(pair)
    assert health.ok
    assert health.warnings == ("hot: it failed when it was last needed: memory: no room",)
    assert health.tiers["hot"].warnings == ("it failed when it was last needed: memory: no room",)


async def test_sessions_that_only_another_mode_would_look_at_are_a_warning(
    logs: list[MutableMapping[str, Any]],
) -> None:
    pair, _session = await expired()
    other = Pair("archive", hot_data=pair.hot_data, archive_data=pair.archive_data)
    await other.tiers.open()
    assert [entry["event"] for entry in logs] == ["tier.overlooked"]
    health = await health_of(other)
    assert health.ok
    assert len(health.tiers["hot"].warnings) == 1
    assert health.tiers["hot"].warnings[0].startswith("it holds sessions, which nobody looks at")
    await pair.sweep()
    assert (await health_of(other)).warnings == ()
    assert (await health_of(pair)).warnings == ()


# Losses -------------------------------------------------------------------------------------------


async def lose(pair: Pair, session: StoredSession, *, since: Callable[..., Any]) -> None:
    """Do something, and let the hot tier come back from before it."""
    before = copy.deepcopy(pair.hot_data)
    await since(pair, session)
    for name in ("sessions", "order", "due", "tombstones", "tickets"):
        setattr(pair.hot_data, name, getattr(before, name))


async def read(pair: Pair, session: StoredSession) -> Any:
    return await pair.tiers.read(session.id)


@pytest.mark.parametrize("notice", [read, write])
async def test_a_session_that_lost_what_was_acknowledged_is_told_of_once(
    logs: list[MutableMapping[str, Any]], notice: Callable[..., Any]
) -> None:
    pair, session = await expired()
    await write(pair, session)
    await lose(pair, session, since=write)
    for _ in range(2):
        await notice(pair, session)
    where = f"session {session.id} is at version 2, and 3 had been acknowledged"
    assert pair.told == [("hot", f"memory came back older than it was: {where}")]
    assert [(entry["event"], entry["acknowledged"], entry["found"]) for entry in logs] == [
        ("session.rolled_back", 3, 2)
    ]
    health = await health_of(pair)
    assert health.warnings == (
        "hot: it came back older than it was: 1 session lost something that had been acknowledged",
    )


@pytest.mark.parametrize("notice", [read, write])
async def test_a_session_that_is_gone_altogether_is_told_of(notice: Callable[..., Any]) -> None:
    pair = await opened("hot")
    session = stored_session()
    await lose(pair, session, since=create)
    with suppress(SessionNotFoundError):
        await notice(pair, session)
    assert [reason is not None and "at version 0, and 1 had been" in reason for _, reason in pair.told] == [True]


async def test_a_deleted_session_whose_tombstone_was_lost_is_no_loss() -> None:
    pair, session = await expired()
    await delete(pair, session)
    pair.hot_data.tombstones.clear()
    assert await read(pair, session) is None
    assert pair.told == []


async def test_a_restored_session_that_fell_back_to_the_archive_is_told_of() -> None:
    pair, session = await archived()
    await lose(pair, session, since=extend)
    assert await read(pair, session) == session
    assert len(pair.told) == 1


@pytest.mark.parametrize("notice", [read, extend])
async def test_nothing_is_told_of_what_went_as_it_should(notice: Callable[..., Any]) -> None:
    for scene in (archived, expired, restored):
        pair, session = await scene()
        await pair.sweep(at=FOREVER - HOUR)
        await notice(pair, session)
        await delete(pair, session)
        await read(pair, session)
        assert pair.told == []


async def test_a_write_of_another_process_in_between_is_no_loss() -> None:
    pair, session = await expired()
    other = await pair.another()
    for each in (pair, other, pair, other):
        await write(each, session)
        await read(each, session)
    assert pair.told == other.told == []


async def test_a_repeat_that_gets_an_earlier_answer_is_no_loss() -> None:
    pair, session = await expired()
    change = ChangeMaker().query(at=START)
    await pair.tiers.apply(session.id, change)
    await write(pair, session)
    await pair.tiers.apply(session.id, change.repeated())
    assert pair.told == []


async def test_what_was_acknowledged_long_ago_is_remembered_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    pair, session = await expired()
    await lose(pair, session, since=write)
    pair.seconds.now += losses.REMEMBERED_S
    await read(pair, session)
    assert pair.told == []
    monkeypatch.setattr(losses, "REMEMBERED", 2)
    others = [stored_session() for _ in range(2)]
    await lose(pair, session, since=write)
    for other in others:
        await pair.tiers.create(other, fresh=True)
    await read(pair, session)
    assert pair.told == []


# Opening and closing ------------------------------------------------------------------------------


@both_modes
async def test_a_tier_whose_data_cannot_be_used_lets_nothing_open(acknowledge: Acknowledge) -> None:
    pair = Pair(acknowledge)
    other = pair.hot if acknowledge == "archive" else pair.archive

    async def refuse() -> None:
        raise SchemaError("memory", "newer than this perdure")

    other.open = refuse  # type: ignore[method-assign]
    with pytest.raises(SchemaError):
        await pair.tiers.open()
    assert not (await pair.hot.inner.health(now=START)).ok
    assert not (await pair.archive.inner.health(now=START)).ok


@both_modes
async def test_closing_waits_for_whole_verbs_and_not_only_for_the_call_under_way(acknowledge: Acknowledge) -> None:
    pair = await opened(acknowledge)
    session = stored_session()
    await pair.tiers.create(session)
    claimed = await pair.tiers.claim_expired(now=EXPIRY, lease=MINUTE, limit=9, max_bytes=2**40)
    delivering, go_on = asyncio.Event(), asyncio.Event()

    async def deliver(sessions: object) -> None:
        delivering.set()
        await go_on.wait()

    archiving = asyncio.create_task(pair.tiers.archive(claimed.sessions, at=EXPIRY, deliver=deliver))
    await delivering.wait()
    closing = asyncio.create_task(pair.tiers.aclose())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not closing.done()
    go_on.set()
    (done,) = await archiving
    await closing
    assert done.error is None
    with pytest.raises(BackendClosedError):
        await pair.tiers.read(session.id)


async def test_whoever_is_cancelled_while_opening_leaves_no_tier_open() -> None:
    pair = Pair("archive")
    asked = asyncio.Event()

    async def never() -> None:
        asked.set()
        await asyncio.Event().wait()

    pair.hot.when("find", before=never)
    opening = asyncio.create_task(pair.tiers.open())
    await asked.wait()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    for tier in (pair.hot, pair.archive):
        assert not (await tier.inner.health(now=START)).ok


async def test_both_tiers_are_closed_although_one_of_them_fails() -> None:
    pair = await opened("hot")

    async def fail() -> None:
        raise BackendUnavailableError("memory", "gone")

    pair.hot.aclose = fail  # type: ignore[method-assign]
    with pytest.raises(BackendUnavailableError):
        await pair.tiers.aclose()
    assert not (await pair.archive.inner.health(now=START)).ok


def test_a_name_names_both() -> None:
    assert Pair("hot", seconds=Seconds()).tiers.name == "memory over memory"
