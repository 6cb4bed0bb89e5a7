"""`acknowledge="archive"`: whatever becomes of the cache, nothing fails, nothing is lost, and nothing old is read."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from tests.backends.tiered.pairs import IMPATIENT, Meddled, Pair, Seconds, opened

from perdure import SessionFilter
from perdure.backends import MemoryBackend, memory_cache
from perdure.backends.memory_cache import CachedCopies, MemoryCache
from perdure.backends.sql.sqlite import SqliteBackend
from perdure.backends.tiered import TieredBackend
from perdure.backends.tiered.cached import OwnWrites
from perdure.errors import (
    BackendError,
    BackendUnavailableError,
    ConfigurationError,
    CorruptDataError,
    SessionNotFoundError,
    StorageFullError,
    VersionConflictError,
)
from perdure.models import StoredSession
from perdure.testing import ChangeMaker, Fault, Moment, stored_session
from perdure.testing.conformance.steps import EXPIRY, FOREVER, HOUR, MINUTE, numbered, whole

TTL_S = 5.0


@pytest.fixture
async def pair() -> Pair:
    return await opened("archive")


@pytest.fixture
async def session(pair: Pair) -> StoredSession:
    """A session of three queries that is in the archive alone."""
    session = stored_session(queries=numbered(3))
    await pair.tiers.create(session)
    return session


async def version_of(pair: Pair, session_id: UUID) -> int:
    return (await whole(pair.tiers, session_id)).version


def reads(backend: Meddled) -> int:
    """How many reads of whole sessions reached a backend, other than of its cache."""
    return backend.calls.count("read")


# The cache serves ---------------------------------------------------------------------------------


async def test_what_was_read_once_is_read_from_hot(pair: Pair, session: StoredSession) -> None:
    assert [await whole(pair.tiers, session.id) for _ in range(3)] == [session] * 3
    assert reads(pair.archive) == 1
    assert await whole((await pair.another()).tiers, session.id) == session
    assert reads(pair.archive) == 1


async def test_a_copy_fades_by_itself(pair: Pair, session: StoredSession) -> None:
    await pair.tiers.read(session.id)
    pair.seconds.now += TTL_S
    assert await whole(pair.tiers, session.id) == session
    assert reads(pair.archive) == 2


async def test_a_copy_with_part_of_the_history_is_no_answer_to_who_wants_more(
    pair: Pair, session: StoredSession
) -> None:
    for history in (1, 1, 0, 2, None, 2, None):
        assert await pair.tiers.read(session.id, history=history) == session.copy(history=history)
    assert reads(pair.archive) == 3


async def test_what_is_nowhere_is_asked_for_in_the_archive_each_time(pair: Pair) -> None:
    missing = uuid4()
    assert [await pair.tiers.read(missing) for _ in range(2)] == [None, None]
    assert reads(pair.archive) == 2


async def test_the_rest_is_asked_of_the_archive(pair: Pair, session: StoredSession) -> None:
    await pair.tiers.read(session.id)
    page = await pair.tiers.queries(session.id, limit=2)
    assert page is not None
    assert page.bodies == session.queries[:2]
    assert [summary.id for summary in await pair.tiers.find(SessionFilter(), limit=9)] == [session.id]
    assert pair.hot.calls.count("find") == 1  # at opening, to see that nothing is overlooked


async def test_a_hot_tier_without_a_cache_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="sqlite cannot be a cache in front of an archive"):
        TieredBackend(SqliteBackend("anything"), MemoryBackend(), acknowledge="archive")  # type: ignore[arg-type]


# Writes are seen ----------------------------------------------------------------------------------


async def extend(pair: Pair, session: StoredSession) -> None:
    await pair.tiers.apply(session.id, ChangeMaker().change(expires_at=EXPIRY + HOUR))


async def track(pair: Pair, session: StoredSession) -> None:
    await pair.tiers.apply(session.id, ChangeMaker().query())


async def delete(pair: Pair, session: StoredSession) -> None:
    assert await pair.tiers.delete(session.id, forget_at=FOREVER)


async def evict(pair: Pair, session: StoredSession) -> None:
    assert await pair.tiers.evict(session.id, version=session.version, head=session.head)


async def absorb(pair: Pair, session: StoredSession) -> None:
    await pair.tiers.absorb([replace(session, version=9, head="later", tags=("late",))])


async def archive(pair: Pair, session: StoredSession) -> None:
    (done,) = await pair.sweep()
    assert done.error is None


async def purge(pair: Pair, session: StoredSession) -> None:
    await pair.sweep()
    pair.seconds.now += TTL_S
    await pair.tiers.read(session.id)
    await pair.tiers.purge(archived_before=FOREVER, now=FOREVER, limit=9)


WRITES = [extend, track, delete, evict, absorb, archive, purge]
every_write = pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
Write = Callable[[Pair, StoredSession], Awaitable[None]]


def in_archive(pair: Pair, session: StoredSession) -> StoredSession | None:
    return pair.archive_copy(session.id)


@every_write
async def test_what_was_written_is_read_by_everybody_at_once(pair: Pair, session: StoredSession, write: Write) -> None:
    await pair.tiers.read(session.id)
    await write(pair, session)
    assert in_archive(pair, session) != session
    for reader in (pair, await pair.another()):
        assert await reader.tiers.read(session.id) == in_archive(pair, session)


@every_write
@pytest.mark.parametrize("moment", [Moment.BEFORE, Moment.AFTER])
async def test_where_dropping_failed_the_writer_reads_what_it_wrote_and_others_soon(
    pair: Pair, session: StoredSession, write: Write, moment: Moment
) -> None:
    other = await pair.another()
    await other.tiers.read(session.id)
    pair.hot.faults = [Fault(n, moment, "cache.drop") for n in range(1, 9)]
    await write(pair, session)
    pair.hot.faults = []
    assert await pair.tiers.read(session.id) == in_archive(pair, session)
    pair.seconds.now += TTL_S
    for reader in (pair, other):
        assert await reader.tiers.read(session.id) == in_archive(pair, session)


@every_write
async def test_a_cache_that_comes_back_with_what_was_dropped_does_not_hide_own_writes(
    pair: Pair, session: StoredSession, write: Write
) -> None:
    await pair.tiers.read(session.id)
    before = copy.deepcopy(pair.hot_data.cached.copies)
    await write(pair, session)
    pair.hot_data.cached.copies.update(before)
    assert await pair.tiers.read(session.id) == in_archive(pair, session)
    pair.seconds.now += TTL_S
    assert await (await pair.another()).tiers.read(session.id) == in_archive(pair, session)


@every_write
async def test_a_slow_reader_brings_nothing_back(pair: Pair, session: StoredSession, write: Write) -> None:
    slow = await pair.another()
    slow.archive.when("read", after=lambda: write(pair, session))
    assert await slow.tiers.read(session.id) == session
    for reader in (pair, slow):
        assert await reader.tiers.read(session.id) == in_archive(pair, session)


@every_write
async def test_a_slow_reader_whose_ticket_was_not_voided_brings_nothing_back_for_longer_than_a_copy_lives(
    pair: Pair, session: StoredSession, write: Write
) -> None:
    slow = await pair.another()
    pair.hot.faults = [Fault(n, Moment.BEFORE, "cache.drop") for n in range(1, 9)]

    async def write_and_wait() -> None:
        await write(pair, session)
        pair.seconds.now += TTL_S

    slow.archive.when("read", after=write_and_wait)
    assert await slow.tiers.read(session.id) == session
    for reader in (pair, slow):
        assert await reader.tiers.read(session.id) == in_archive(pair, session)


async def test_a_slow_reader_does_not_fill_with_the_ticket_of_a_later_one(pair: Pair, session: StoredSession) -> None:
    slow, later = await pair.another(), await pair.another()
    later.hot.fails("cache.fill", BackendUnavailableError("memory", "gone"))

    async def write_and_read() -> None:
        await track(pair, session)
        await later.tiers.read(session.id)

    slow.archive.when("read", after=write_and_read)
    assert await version_of(slow, session.id) == 1
    assert await version_of(later, session.id) == 2


@pytest.mark.parametrize("moment", [Moment.AFTER, Moment.CANCEL_AFTER])
@every_write
async def test_a_write_whose_answer_was_lost_hides_nothing(
    pair: Pair, session: StoredSession, write: Write, moment: Moment
) -> None:
    await pair.tiers.read(session.id)
    method = {"extend": "apply", "track": "apply"}.get(write.__name__, write.__name__)
    if write is purge:
        await pair.sweep()  # then the first purge is the one that fails
    pair.archive.faults = [Fault(pair.archive.calls.count(method) + 1, moment, method)]
    with pytest.raises((BackendUnavailableError, asyncio.CancelledError)):
        await write(pair, session)
    pair.archive.faults = []
    if write is purge:  # nobody knows what it removed, so that others find out when their copies have faded
        pair.seconds.now += TTL_S
    for reader in (pair, await pair.another()):
        assert await reader.tiers.read(session.id) == in_archive(pair, session)


async def test_a_write_that_was_refused_is_followed_by_a_fresh_read(pair: Pair, session: StoredSession) -> None:
    other = await pair.another()
    await other.tiers.read(session.id)
    pair.hot.faults = [Fault(1, Moment.BEFORE, "cache.drop")]
    await track(pair, session)
    assert await version_of(other, session.id) == 1
    with pytest.raises(VersionConflictError):
        await other.tiers.apply(session.id, ChangeMaker().query(if_version=1))
    assert await version_of(other, session.id) == 2


async def test_receivers_of_what_was_archived_read_it_as_archived_wherever_they_are(
    pair: Pair, session: StoredSession
) -> None:
    await pair.tiers.read(session.id)
    readers, seen = [await pair.another(), pair], list[StoredSession | None]()

    async def deliver(sessions: Sequence[StoredSession]) -> None:
        seen.extend([await reader.tiers.read(each.id) for each in sessions for reader in readers])

    claimed = await pair.tiers.claim_expired(now=EXPIRY, lease=MINUTE, limit=9, max_bytes=2**40)
    await pair.tiers.archive(claimed.sessions, at=EXPIRY, deliver=deliver)
    assert seen == [replace(session, archived_at=EXPIRY)] * 2


async def test_a_delivery_that_takes_long_does_not_make_the_archive_slow(session: StoredSession) -> None:
    pair = await opened("archive", times=IMPATIENT)
    await pair.tiers.create(session)
    claimed = await pair.tiers.claim_expired(now=EXPIRY, lease=MINUTE, limit=9, max_bytes=2**40)
    (done,) = await pair.tiers.archive(claimed.sessions, at=EXPIRY, deliver=_slowly)
    assert (done.error, pair.told) == (None, [])


async def _slowly(sessions: Sequence[StoredSession]) -> None:
    for _ in range(5):
        await asyncio.sleep(0)


# The cache fails ----------------------------------------------------------------------------------

ERRORS = [
    BackendUnavailableError("memory", "gone"),
    StorageFullError("memory", "full"),
    CorruptDataError("memory", "not to be read"),
]


@pytest.mark.parametrize("error", [*ERRORS, None], ids=lambda error: type(error).__name__ if error else "no answer")
@pytest.mark.parametrize("method", ["cache.read", "cache.ticket", "cache.fill", "cache.drop"])
async def test_no_failure_of_the_cache_fails_a_read_or_a_write(method: str, error: BackendError | None) -> None:
    pair = await opened("archive", times=replace(IMPATIENT, archive_timeout=timedelta(seconds=10)))
    session = stored_session()
    await pair.tiers.create(session)
    for number in range(1, 4):
        for _ in range(3):
            if error is None:
                pair.hot.hangs(method)
            else:
                pair.hot.fails(method, error)
        assert await version_of(pair, session.id) == number
        await track(pair, session)
        assert await version_of(pair, session.id) == number + 1
        pair.hot.meddling.clear()


async def test_everything_works_while_the_hot_tier_is_down(pair: Pair, session: StoredSession) -> None:
    pair.hot.down = True
    await track(pair, session)
    assert await version_of(pair, session.id) == 2
    assert len(await pair.tiers.find(SessionFilter(), limit=9)) == 1
    assert [done.error for done in await pair.sweep()] == [None]
    await extend(pair, session)
    await delete(pair, session)
    assert await pair.tiers.read(session.id) is None


async def test_a_store_opens_without_its_cache_and_uses_it_once_it_is_there(session: StoredSession) -> None:
    pair = Pair("archive")
    pair.hot.down = True
    await pair.tiers.open()
    await pair.tiers.create(session)
    assert await whole(pair.tiers, session.id) == session
    pair.hot.down = False
    for _ in range(3):
        assert await whole(pair.tiers, session.id) == session
    assert reads(pair.archive) == 2
    assert pair.told == [("hot", "memory: nobody answers"), ("hot", None)]


async def test_a_store_does_not_open_without_its_archive() -> None:
    pair = Pair("archive")
    pair.archive.down = True
    with pytest.raises(BackendUnavailableError):
        await pair.tiers.open()


async def test_nobody_waits_twice_for_a_cache_that_does_not_answer(pair: Pair, session: StoredSession) -> None:
    pair.hot.fails("cache.read", BackendUnavailableError("memory", "gone"))
    before = len(pair.hot.calls)
    await pair.tiers.read(session.id)
    assert pair.hot.calls[before:] == []


async def test_a_full_cache_is_told_of_once_and_again_when_there_is_room(pair: Pair, session: StoredSession) -> None:
    for _ in range(3):
        pair.hot.fails("cache.fill", StorageFullError("memory", "full"))
        assert await whole(pair.tiers, session.id) == session
        pair.seconds.now += TTL_S
    assert pair.told == [("hot", "memory: full")]
    assert await whole(pair.tiers, session.id) == session
    assert pair.told == [("hot", "memory: full"), ("hot", None)]


async def test_a_ticket_that_was_never_used_does_not_keep_the_cache_empty(pair: Pair, session: StoredSession) -> None:
    pair.archive.fails("read", BackendUnavailableError("memory", "gone"))
    with pytest.raises(BackendUnavailableError):
        await pair.tiers.read(session.id)
    pair.seconds.now += TTL_S
    for _ in range(3):
        assert await whole(pair.tiers, session.id) == session
    assert reads(pair.archive) == 1


async def test_tickets_of_what_is_not_found_are_not_kept_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_cache, "MOST", 3)
    kept = CachedCopies()
    cache = MemoryCache(kept, seconds=Seconds())
    sessions = [stored_session() for _ in range(5)]
    tickets = [await cache.ticket(session.id) for session in sessions]
    assert len(kept.tickets) == 3
    filled = [
        await cache.fill(session, ticket=ticket, lifetime=MINUTE)
        for session, ticket in zip(sessions, tickets, strict=True)
    ]
    assert filled == [False, False, True, True, True]


async def test_what_is_cached_is_read_while_the_archive_is_down(pair: Pair, session: StoredSession) -> None:
    await pair.tiers.read(session.id)
    pair.archive.down = True
    assert await whole(pair.tiers, session.id) == session
    pair.seconds.now += TTL_S
    with pytest.raises(BackendUnavailableError):
        await pair.tiers.read(session.id)
    with pytest.raises(BackendUnavailableError):
        await track(pair, session)


async def test_what_the_hot_tier_forgets_is_still_there_and_hot_again_after_a_read(
    pair: Pair, session: StoredSession
) -> None:
    await pair.tiers.read(session.id)
    pair.hot_data.cached.copies.clear()
    pair.hot_data.cached.tickets.clear()
    assert await whole(pair.tiers, session.id) == session
    assert pair.cached_copy(session.id) == session


# What a store remembers of its own writes ---------------------------------------------------------


@pytest.fixture
def own() -> OwnWrites:
    return OwnWrites(timedelta(seconds=TTL_S), seconds=lambda: 0.0)


def test_a_write_on_its_way_makes_every_copy_suspect(own: OwnWrites) -> None:
    known = uuid4()
    assert own.takes(known, 1)
    write = own.begin(known)
    assert not own.takes(known, 99)
    own.end(known, write, version=3)
    assert [own.takes(known, version) for version in (2, 3, 4)] == [False, True, True]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_writes_that_end_in_another_order_than_they_began_lower_no_bound(
    own: OwnWrites, order: tuple[int, int]
) -> None:
    known = uuid4()
    writes = [own.begin(known), own.begin(known)]
    for number in order:
        own.end(known, writes[number], version=(2, 3)[number])
    assert [own.takes(known, version) for version in (2, 3)] == [False, True]


def test_a_write_that_ends_says_nothing_of_one_whose_outcome_is_not_known(own: OwnWrites) -> None:
    known = uuid4()
    lost, answered = own.begin(known), own.begin(known)
    own.end(known, lost, version=None)
    own.end(known, answered, version=7)
    assert not own.takes(known, 99)


def test_after_a_copy_has_lived_its_life_there_is_nothing_to_remember() -> None:
    now = [0.0]
    own = OwnWrites(timedelta(seconds=TTL_S), seconds=lambda: now[0])
    known, late = uuid4(), uuid4()
    own.end(known, own.begin(known), version=3)
    write = own.begin(late)
    now[0] = TTL_S
    assert own.takes(known, 1)
    own.end(late, write, version=2)  # its answer took longer than a copy lives: it counts from now
    assert len(own) == 1
    assert not own.takes(late, 1)
    now[0] = 2 * TTL_S
    assert own.takes(late, 1)


def test_each_write_is_remembered_for_as_long_as_a_copy_lives() -> None:
    now = [0.0]
    own = OwnWrites(timedelta(seconds=TTL_S), seconds=lambda: now[0])
    known = uuid4()
    for version in (2, 3):
        own.end(known, own.begin(known), version=version)
        now[0] += TTL_S - 1
    assert [own.takes(known, version) for version in (2, 3)] == [False, True]


async def test_a_missing_session_is_missing_whatever_the_cache_says(pair: Pair, session: StoredSession) -> None:
    other = await pair.another()
    await other.tiers.read(session.id)
    pair.hot.faults = [Fault(1, Moment.BEFORE, "cache.drop")]
    await delete(pair, session)
    with pytest.raises(SessionNotFoundError):
        await track(other, session)
    assert await other.tiers.read(session.id) is None
