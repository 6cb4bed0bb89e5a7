"""A session's whole life with a fault at every single call, a restart after it, and a look at what is left.

On single backends, and on two tiers in both modes with the fault in either. With real files only some of the calls and
of the kinds of faults are tried; all of them: `nox -s soak`.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Literal

import pytest
from tests.backends.lives import FAULTS, QUERIES, Home, Life
from tests.effort import LONG

from perdure import Session, SessionStore
from perdure.backends import MemoryBackend, MemoryData, SessionBackend
from perdure.backends.sql.sqlite import SqliteBackend
from perdure.backends.tiered import TierTimes
from perdure.errors import SessionExistsError
from perdure.testing import Fault, Moment

HOMES = {
    "memory": ("store",),
    "sqlite": ("store",),
    "memory over memory, archive": ("hot", "archive"),
    "memory over memory, hot": ("hot", "archive"),
    "memory over sqlite, archive": ("hot", "archive"),
    "memory over sqlite, hot": ("hot", "archive"),
}
CASES = [(name, place) for name, places in HOMES.items() for place in places]


NewHome = Callable[[str], Home]


@pytest.fixture
def new_home(tmp_path: Path, empty_database: Path) -> NewHome:
    """Makes homes of a name, each with data of its own."""
    numbers = count(1)
    seconds = [0.0]

    def fade() -> None:
        seconds[0] += TierTimes().cache_ttl.total_seconds()

    def place(kind: str) -> Callable[[], SessionBackend]:
        if kind == "memory":
            data = MemoryData()
            return lambda: MemoryBackend(data, seconds=lambda: seconds[0])
        path = tmp_path / f"{next(numbers)}.db"
        shutil.copyfile(empty_database, path)
        return lambda: SqliteBackend(path)

    def make(name: str) -> Home:
        tiers, _, acknowledge = name.partition(", ")
        if " over " not in tiers:
            return Home({"store": place(tiers)})
        hot, archive = tiers.split(" over ")
        mode: Literal["archive", "hot"] = "hot" if acknowledge == "hot" else "archive"
        return Home({"hot": place(hot), "archive": place(archive)}, mode, fade)

    return make


def moments_on(name: str) -> list[Moment]:
    """The faults that are tried: cancelled callers only where no file makes it slow."""
    return list(Moment) if LONG or "sqlite" not in name else [Moment.BEFORE, Moment.AFTER]


async def lives(
    new_home: NewHome, name: str, place: str, moment: Moment, *, deleting: bool = False
) -> AsyncIterator[Life]:
    """One life for each call that a life makes, each lived with a fault at that call."""
    every = 7 if "sqlite" in name and not LONG else 1
    for call in count(1, every):
        life = Life(new_home(name), place, Fault(call, moment))
        await life.live(*([life.delete] if deleting else []))
        if not life.reached:
            return
        life.home.fade()
        yield life


@pytest.mark.parametrize(("name", "place"), CASES)
@pytest.mark.parametrize("moment", list(Moment), ids=lambda moment: moment.value)
async def test_with_a_fault_at_any_call_every_acknowledged_query_is_there_exactly_once(
    new_home: NewHome, name: str, place: str, moment: Moment
) -> None:
    if moment not in moments_on(name):
        pytest.skip("part of `nox -s soak`")
    struck = reached = 0
    async for life in lives(new_home, name, place, moment):
        reached = life.fault.call if life.fault is not None else 0
        struck += life.struck > 0
        if is_cache(name, place) and moment in (Moment.BEFORE, Moment.AFTER):
            assert not life.struck, "a cache that fails is no failure"
        async with life.store() as store:
            session = await life.seen(store, history=None)
            assert not session.is_archived
            await life.check(session)
            assert session.state.get_context("focus") == {"margin": 0.25}
    assert reached > QUERIES or (place == "archive" and name.endswith("hot"))
    assert struck or is_cache(name, place)


def is_cache(name: str, place: str) -> bool:
    return place == "hot" and name.endswith("archive")


@pytest.mark.parametrize(("name", "place"), CASES)
@pytest.mark.parametrize("moment", [Moment.BEFORE, Moment.AFTER], ids=lambda moment: moment.value)
async def test_what_was_deleted_at_the_end_of_its_life_never_comes_back(
    new_home: NewHome, name: str, place: str, moment: Moment
) -> None:
    async for life in lives(new_home, name, place, moment, deleting=True):
        async with life.store() as store:
            assert await store.get_session(life.id) is None
            life.clock.advance(store.settings.max_ttl)
            report = await store.cleanup_expired_sessions()
            assert (report.archived, report.failed) == (0, {})
            assert await store.get_session(life.id) is None
            assert (await store.list_sessions()).items == []
            with pytest.raises(SessionExistsError):
                await store.create_session(["AAPL"], "equity", session_id=life.id)


Step = Callable[[SessionStore, Life], Awaitable[None]]


async def fill(store: SessionStore, life: Life) -> None:
    await store.get_session(life.id)


async def archive(store: SessionStore, life: Life) -> None:
    await life.expire(store)
    await store.cleanup_expired_sessions()


async def restore(store: SessionStore, life: Life) -> None:
    await archive(store, life)
    await life.restore(store)


@pytest.mark.parametrize(("name", "place"), CASES)
@pytest.mark.parametrize("before", [fill, archive, restore], ids=lambda step: step.__name__)
@pytest.mark.parametrize("moment", list(Moment), ids=lambda moment: moment.value)
async def test_what_was_deleted_stays_deleted_whatever_fails(
    new_home: NewHome, name: str, place: str, before: Step, moment: Moment
) -> None:
    for call in count(1):
        life = Life(new_home(name), place, Fault(call, moment))
        copies: list[Session] = []
        async with life.store() as store:
            await life.create(store)
            await before(store, life)
            copies += [session async for session in store.export_sessions()]
        try:
            async with life.store(faulty=True) as store:
                await store.delete_session(life.id)
        except FAULTS:
            life.struck += 1
        if not life.reached:
            assert call > 1
            break
        async with life.store() as store:
            await store.delete_session(life.id)
            report = await store.import_sessions(copies)
            assert report.deleted == 1
            assert await store.get_session(life.id) is None
            with pytest.raises(SessionExistsError):
                await store.create_session(["AAPL"], "equity", session_id=life.id)
