"""SIGKILL between what a store commits and what it tells of it: told again, as the same event, and done once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from tests.store.lifecycle_child import SETTINGS, Noting, opened

from perdure import QueryRecord, SessionFilter, SessionStore
from perdure.analytics import SessionAnalytics
from perdure.testing import ManualClock

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals as on POSIX")

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
LEASE = SETTINGS.sweep_lease
SCRIPT = Path(__file__).with_name("lifecycle_child.py")
MANY = 5
PLACES = ["sqlite", "redis over sqlite, hot", "redis over sqlite, archive", "redis over postgres, hot"]


@pytest.fixture(params=PLACES)
def urls(request: pytest.FixtureRequest, tmp_path: Path, empty_database: Path) -> list[str]:
    """Where sessions are kept: one backend, or two tiers and what acknowledges."""
    hot, _, rest = request.param.rpartition(" over ")
    archive, _, acknowledge = rest.partition(", ")
    if archive == "sqlite":
        archive_url = f"sqlite:///{(tmp_path / 'kept.db').absolute()}"
        (tmp_path / "kept.db").write_bytes(empty_database.read_bytes())
    else:
        archive_url = request.getfixturevalue("postgres_url")
    return [request.getfixturevalue("redis_url"), archive_url, acknowledge] if hot else [archive_url]


def archive_of(urls: list[str]) -> str:
    """Where archived sessions are kept."""
    return urls[min(1, len(urls) - 1)]


def killed(verb: str, moment: str, nth: int, now: datetime, urls: list[str]) -> list[tuple[str, UUID, str]]:
    """What a process noted that did it and was killed in its `nth` event."""
    child = subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT), verb, moment, str(nth), now.isoformat(), *urls],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    events = [line.split() for line in child.stdout.splitlines()]
    return [(hook, UUID(session_id), event_id) for hook, session_id, event_id in events]


async def created(store: SessionStore) -> dict[UUID, str]:
    """Sessions of an hour with a query in each, and the event that tells of each."""
    events = {}
    for _ in range(MANY):
        session = await store.create_session(["A"], "equity", ttl_hours=1)
        await store.track_query(session.id, QueryRecord(query_type="price"))
        kept = await store.get_session(session.id)
        assert kept is not None
        events[kept.id] = f"{kept.id}.{kept.version}.{kept.head}"
    return events


def told(noted: list[tuple[str, UUID, str]], hook: str) -> dict[UUID, str]:
    """The session and event of each time that the hook was called; none twice."""
    events = [(session_id, event_id) for name, session_id, event_id in noted if name == hook]
    assert max(Counter(events).values(), default=1) == 1
    return dict(events)


async def check_archived_once(store: SessionStore, ids: set[UUID], *, at: datetime) -> None:
    """Each is archived whole, since that instant, is listed once and counts once; nothing is due."""
    found = [summary.id for summary in await store.list_sessions(SessionFilter(archived=True))]
    assert sorted(found) == sorted(ids)
    assert list(await store.list_sessions(SessionFilter(archived=False))) == []
    for session_id in ids:
        session = await store.get_session(session_id)
        assert session is not None
        assert (session.archived_at, session.state.history.total_queries) == (at, 1)
    stats = await SessionAnalytics(store).get_session_stats(since=at - DAY, until=at + DAY)
    assert (stats.total_sessions, stats.archived_sessions, stats.total_queries) == (MANY, MANY, MANY)
    assert all(tier.due == 0 for tier in (await store.health()).tiers.values())


@pytest.mark.parametrize(("moment", "noted_by_then"), [("before", 4), ("after", 5)])
async def test_a_sweep_killed_between_archiving_and_telling_is_told_again_as_the_same_events(
    moment: str, noted_by_then: int, urls: list[str], clock: ManualClock
) -> None:
    async with opened(clock, Noting(), *urls) as store:
        events = await created(store)
    clock.advance(HOUR)
    archived_at = clock()

    noted = killed("sweep", moment, 5, archived_at, urls)  # in the third session: two events each

    assert len(noted) == noted_by_then
    async with opened(clock, Noting(), archive_of(urls)) as archive:  # all is committed
        assert {summary.id for summary in await archive.list_sessions(SessionFilter(archived=True))} == set(events)
    after = Noting()
    async with opened(clock, after, *urls) as store:
        clock.advance(LEASE - timedelta(microseconds=1))
        assert (await store.cleanup_expired_sessions()).archived == 0
        assert after.events == []
        clock.advance(timedelta(microseconds=1))

        report = await store.cleanup_expired_sessions()

        assert (report.archived, report.failed, report.forked) == (MANY, {}, [])
        assert told(after.events, "session_expired") == told(after.events, "session_archived") == events
        assert set(noted) < set(after.events)
        await check_archived_once(store, set(events), at=archived_at)
        assert (await store.cleanup_expired_sessions()).archived == 0
        clock.advance(LEASE)
        assert (await store.cleanup_expired_sessions()).archived == 0
        assert len(after.events) == 2 * MANY


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_archiving_by_hand_killed_before_it_was_told_is_told_by_the_sweep(
    moment: str, urls: list[str], clock: ManualClock
) -> None:
    async with opened(clock, Noting(), *urls) as store:
        made = await created(store)
    by_hand_at = clock()

    noted = killed("archive_all", moment, 1, by_hand_at, urls)

    assert len(noted) == (moment == "after")
    after = Noting()
    clock.advance(HOUR + LEASE)
    async with opened(clock, after, *urls) as store:
        (by_hand,) = [summary for summary in await store.list_sessions() if summary.is_archived]
        assert by_hand.archived_at == by_hand_at
        assert (await store.cleanup_expired_sessions()).archived == MANY
        whole = await store.get_session(by_hand.id)
        assert whole is not None
        event = f"{whole.id}.{whole.version}.{whole.head}"
        assert event != made[whole.id]  # archiving by hand is a change
        assert told(after.events, "session_archived") == {**made, whole.id: event}
        assert whole.id not in told(after.events, "session_expired")
        assert set(noted) <= {("session_archived", whole.id, event)}


@pytest.mark.parametrize(("moment", "nth"), [("before", 1), ("before", 3), ("after", MANY)])
async def test_retention_killed_while_it_tells_removes_nothing_and_is_told_again_as_the_same_events(
    moment: str, nth: int, urls: list[str], clock: ManualClock
) -> None:
    async with opened(clock, Noting(), *urls) as store:
        events = await created(store)
        clock.advance(HOUR)
        await store.cleanup_expired_sessions()
    archived_at = clock()
    clock.advance(SETTINGS.retention + DAY)

    noted = killed("retain", moment, nth, clock(), urls)

    assert len(noted) == (nth if moment == "after" else nth - 1)
    after = Noting()
    async with opened(clock, after, *urls) as store:
        await check_archived_once(store, set(events), at=archived_at)  # whatever was told or not, all are still there

        report = await store.delete_old_archived_sessions()

        assert sorted(report.session_ids) == sorted(events)
        assert told(after.events, "session_past_retention") == events
        assert set(noted) <= set(after.events)
        assert list(await store.list_sessions()) == []
        assert (await store.delete_old_archived_sessions()).deleted == 0
        assert len(after.events) == MANY


async def test_a_session_that_was_told_of_before_a_kill_and_restored_since_is_kept(
    urls: list[str], clock: ManualClock
) -> None:
    async with opened(clock, Noting(), *urls) as store:
        events = await created(store)
        clock.advance(HOUR)
        await store.cleanup_expired_sessions()
    clock.advance(SETTINGS.retention + DAY)
    noted = killed("retain", "after", MANY, clock(), urls)
    restored = noted[0][1]

    after = Noting()
    async with opened(clock, after, *urls) as store:
        await store.extend_session(restored, 2)
        report = await store.delete_old_archived_sessions()

        assert sorted(report.session_ids) == sorted(set(events) - {restored})
        assert told(after.events, "session_past_retention").keys() == set(events) - {restored}
        kept = await store.get_session(restored)
        assert kept is not None
        assert (kept.is_archived, kept.state.history.total_queries) == (False, 1)
