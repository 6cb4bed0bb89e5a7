"""Statistics: what sessions count, wherever they are by now."""

# ruff: noqa: D102 (the names of tests are sentences)

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from perdure.backends import SessionBackend
from perdure.models import SessionFilter, StatsFilter, StoredSession
from perdure.testing.builders import START, ChangeMaker, stored_query, stored_session
from perdure.testing.conformance.steps import (
    EXPIRY,
    FOREVER,
    HOUR,
    MICROSECOND,
    MINUTE,
    archived,
    created,
    measured,
    numbered,
    rolled_up,
    whole,
)

__all__ = ["MeasuringPromises"]

DAY = timedelta(days=1)

FIRST_INSTANT, LAST_INSTANT = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

LONG_LIFE = {"expires_at": START + 30 * DAY}

QUERIES = (
    stored_query("price", cache_hit=True, execution_time_ms=1.5, timestamp=START + MINUTE),
    stored_query("price", error="no such symbol", execution_time_ms=0, timestamp=START + 2 * HOUR),
    stored_query("news", error="", execution_time_ms=1000, timestamp=START + DAY),
    stored_query("größe:x", timestamp=START + DAY),
)

COUNTS = {
    "sessions": 1,
    "queries": 4,
    "cache_hits": 1,
    "errors": 2,
    "timed": 3,
    "took_us": 1_001_500,
    "lasted_ms": 90_000,
    "lasted:86016": 1,
    "length:4": 1,
    "type:comparative": 1,
    "user:ann": 1,
    "asset:MSFT": 1,
    "asset:AAPL": 1,
    "tag:tech": 1,
    "began:2026-01-01T00": 1,
    "asked:2026-01-01T00": 1,
    "asked:2026-01-01T02": 1,
    "asked:2026-01-02T00": 2,
    "query:price": 2,
    "query:news": 1,
    "query:größe:x": 1,
    "took:1472:price": 1,
    "took:0:price": 1,
    "took:983040:news": 1,
}


def anns_session(**facts: Any) -> StoredSession:
    """A session that counts `COUNTS`."""
    return stored_session(
        **{
            "user_id": "ann",
            "type": "comparative",
            "assets": ("MSFT", "AAPL"),
            "tags": ("tech",),
            "queries": QUERIES,
            "last_accessed_at": START + timedelta(seconds=90, microseconds=999),
            **facts,
        }
    )


async def several(backend: SessionBackend) -> list[StoredSession]:
    """Of two users and two types, on three days, active and archived; oldest first."""
    facts: list[dict[str, Any]] = [
        {"user_id": "ann", "created_at": START},
        {"user_id": "ann", "created_at": START + 5 * HOUR, "archived_at": START + DAY},
        {"user_id": "bob", "created_at": START + DAY, "archived_at": START + 2 * DAY, "type": "macro"},
        {"user_id": None, "created_at": START + DAY + HOUR, "archived_at": START + 2 * DAY},
        {"user_id": "bob", "created_at": START + 2 * DAY, "type": "macro"},
        {"user_id": "ann", "created_at": START + 2 * DAY + MICROSECOND, "archived_at": START + 3 * DAY},
    ]
    return [
        await created(backend, **LONG_LIFE, last_accessed_at=each["created_at"] + MINUTE, queries=numbered(2), **each)
        for each in facts
    ]


async def purged(backend: SessionBackend) -> list[UUID]:
    """The ids of all that retention removes."""
    return (await backend.purge(archived_before=FOREVER, now=FOREVER, limit=100)).session_ids


async def revived(backend: SessionBackend, session_id: UUID, *, at: datetime = EXPIRY) -> StoredSession:
    """An archived session, active again, with one query more."""
    change = ChangeMaker().change(at=at, expires_at=at + HOUR, queries=(stored_query("late", timestamp=at),))
    await backend.apply(session_id, change)
    return await whole(backend, session_id)


async def pages(backend: SessionBackend, *, limit: int, **wanted: Any) -> list[Any]:
    """All metrics, page by page; every page but the last is full."""
    found: list[Any] = []
    cursor = None
    while True:
        page = await backend.metrics(StatsFilter(**wanted), cursor=cursor, limit=limit)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found
        assert len(page) == limit


class MeasuringPromises:
    """`measure`, `metrics`, `record` and `roll_up`."""

    async def test_where_there_is_nothing_nothing_counts(self, backend: SessionBackend) -> None:
        assert await measured(backend) == {}
        assert await pages(backend, limit=10) == []
        assert await backend.roll_up(limit=100) == 0

    async def test_an_active_session_counts_all_that_it_is(self, backend: SessionBackend) -> None:
        await backend.create(anns_session())
        assert await measured(backend, now=START) == COUNTS

    async def test_an_archived_session_counts_the_same_and_that_it_is_archived(
        self, backend: SessionBackend, other: SessionBackend
    ) -> None:
        session = anns_session()
        await backend.create(session)
        await archived(backend, [session], at=EXPIRY)
        assert await measured(other) == {**COUNTS, "archived": 1, "expired": 1}

    async def test_however_a_session_came_into_the_archive_it_counts(self, backend: SessionBackend) -> None:
        by_hand, absorbed = anns_session(), anns_session(archived_at=START + MINUTE)
        await backend.create(by_hand)
        await backend.create(anns_session(archived_at=START + MINUTE))
        await backend.absorb([absorbed])
        change = ChangeMaker().change(at=by_hand.last_accessed_at, archive=True)
        await backend.apply(by_hand.id, change)
        three = {key: 3 * count for key, count in {**COUNTS, "archived": 1}.items()}
        assert await measured(backend) == three
        await archived(backend, [await whole(backend, by_hand.id)], at=EXPIRY)
        assert await measured(backend) == three
        await rolled_up(backend)
        assert await measured(backend) == three

    async def test_a_session_expires_by_the_instant_asked_about(self, backend: SessionBackend) -> None:
        await created(backend, queries=numbered(1))
        await created(backend, queries=numbered(2))
        for now, numbers in ((EXPIRY - MICROSECOND, (0, 0)), (EXPIRY, (2, 1))):
            counts = await measured(backend, now=now)
            assert (counts.get("expired", 0), counts.get("abandoned", 0)) == numbers

    async def test_one_archived_before_its_time_never_expires(self, backend: SessionBackend) -> None:
        await created(backend, archived_at=EXPIRY - MICROSECOND)
        await created(backend, archived_at=EXPIRY)
        counts = await measured(backend, now=FOREVER)
        assert (counts["archived"], counts["expired"], counts["abandoned"]) == (2, 1, 1)

    @pytest.mark.parametrize("rolled", [False, True], ids=["fresh", "rolled up"])
    @pytest.mark.parametrize(
        ("wanted", "places"),
        [
            ({}, {0, 1, 2, 3, 4, 5}),
            ({"user_id": "ann"}, {0, 1, 5}),
            ({"user_id": "bob"}, {2, 4}),
            ({"user_id": "nobody"}, set()),
            ({"session_type": "macro"}, {2, 4}),
            ({"session_type": "equity", "user_id": "ann"}, {0, 1, 5}),
            ({"since": START + DAY}, {2, 3, 4, 5}),
            ({"until": START + DAY}, {0, 1}),
            ({"since": START + DAY, "until": START + 2 * DAY}, {2, 3}),
            ({"since": START + HOUR}, {1, 2, 3, 4, 5}),
            ({"since": START + 5 * HOUR, "until": START + 2 * DAY + MICROSECOND}, {1, 2, 3, 4}),
            ({"since": START + 5 * HOUR + MICROSECOND, "until": START + DAY}, set()),
            ({"since": START + HOUR, "until": START + 6 * HOUR}, {1}),
            ({"since": START + 3 * DAY, "until": START}, set()),
            ({"user_id": "ann", "since": START + 2 * DAY}, {5}),
            ({"since": FIRST_INSTANT, "until": LAST_INSTANT}, {0, 1, 2, 3, 4, 5}),
            ({"user_id": "ann", "since": FIRST_INSTANT}, {0, 1, 5}),
            ({"since": LAST_INSTANT - 10 * DAY}, set()),
            ({"since": LAST_INSTANT}, set()),
            ({"until": FIRST_INSTANT}, set()),
            ({"session_type": "macro", "since": START + HOUR, "until": START + 2 * DAY}, {2}),
        ],
    )
    async def test_only_what_is_asked_about_counts(
        self, backend: SessionBackend, wanted: dict[str, Any], places: set[int], rolled: bool
    ) -> None:
        sessions = await several(backend)
        if rolled:
            await rolled_up(backend)
        expected = [sessions[place] for place in sorted(places, reverse=True)]
        counts = await measured(backend, **wanted)
        assert (counts.get("sessions", 0), counts.get("queries", 0)) == (len(places), 2 * len(places))
        for user in ("ann", "bob"):
            assert counts.get(f"user:{user}", 0) == sum(session.user_id == user for session in expected)
        assert sum(count for key, count in counts.items() if key.startswith("asked:")) == 2 * len(places)
        assert [each.session_id for each in await pages(backend, limit=2, **wanted)] == [each.id for each in expected]

    async def test_those_left_out_do_not_count_in_statistics(self, backend: SessionBackend) -> None:
        sessions = await several(backend)
        everything = await measured(backend)
        for rolled in (False, True):
            if rolled:
                await rolled_up(backend)
            left_out = [sessions[0].id, sessions[1].id, sessions[2].id, uuid4()]
            rest = await measured(backend, without=left_out)
            only = await measured(backend, without=[each.id for each in sessions if each.id not in left_out])
            assert (rest["sessions"], only["sessions"]) == (3, 3)
            assert {key: rest.get(key, 0) + only.get(key, 0) for key in everything} == everything
            assert await measured(backend, without=[each.id for each in sessions]) == {}
            assert await measured(backend, user_id="bob", without=left_out) == await measured(
                backend, user_id="bob", since=START + 2 * DAY
            )

    @pytest.mark.parametrize("rolled", [False, True], ids=["fresh", "rolled up"])
    async def test_whoever_asks_who_counted_hears_of_all_that_are_kept(
        self, backend: SessionBackend, rolled: bool
    ) -> None:
        sessions = await several(backend)
        if rolled:
            await rolled_up(backend)
        for wanted, kept in (
            ({}, {0, 1, 2, 3, 4, 5}),
            ({"user_id": "ann"}, {0, 1, 5}),
            ({"session_type": "macro"}, {2, 4}),
            ({"since": START + DAY}, {2, 3, 4, 5}),
            ({"user_id": "nobody"}, set[int]()),
        ):
            answer = await backend.measure(StatsFilter(**wanted), now=EXPIRY, with_ids=True)
            named = {place for place, session in enumerate(sessions) if session.id in answer.ids}
            assert named == kept
            assert len(answer.ids) == len(named)
            assert dict(answer.counts) == await measured(backend, **wanted)

    async def test_whoever_does_not_count_is_not_named(self, backend: SessionBackend) -> None:
        sessions = await several(backend)
        await backend.delete(sessions[4].id, forget_at=FOREVER)
        left_out = [sessions[0].id, sessions[1].id]
        answer = await backend.measure(StatsFilter(), now=EXPIRY, without=left_out, with_ids=True)
        assert answer.ids.isdisjoint([*left_out, sessions[4].id])
        assert (await backend.measure(StatsFilter(), now=EXPIRY)).ids == frozenset()

    async def test_what_retention_removed_still_counts(self, backend: SessionBackend) -> None:
        await several(backend)
        before, listed = await measured(backend), await pages(backend, limit=100)
        assert len(await purged(backend)) == 4
        assert (await backend.aggregate(SessionFilter())).sessions == 2
        assert await measured(backend) == before
        assert await pages(backend, limit=100) == listed
        await rolled_up(backend)
        assert await measured(backend) == before

    @pytest.mark.parametrize("rolled", [False, True], ids=["fresh", "rolled up"])
    async def test_a_deleted_session_counts_no_longer_retained_or_not(
        self, backend: SessionBackend, rolled: bool
    ) -> None:
        sessions = await several(backend)
        if rolled:
            await rolled_up(backend)
        await backend.delete(sessions[1].id, forget_at=FOREVER)
        await purged(backend)
        await backend.delete(sessions[2].id, forget_at=FOREVER)
        await backend.delete(sessions[4].id, forget_at=FOREVER)
        counts = await measured(backend)
        assert (counts["sessions"], counts["user:ann"], "user:bob" in counts, "type:macro" in counts) == (
            3,
            2,
            False,
            False,
        )
        await rolled_up(backend)
        assert await measured(backend) == counts
        assert {each.session_id for each in await pages(backend, limit=100)} == {sessions[n].id for n in (0, 3, 5)}

    async def test_another_owners_delete_takes_nothing_from_the_statistics(self, backend: SessionBackend) -> None:
        session = await created(backend, user_id="ann", archived_at=EXPIRY)
        before = await measured(backend)
        await purged(backend)
        await backend.delete(session.id, forget_at=FOREVER, owner="eve")
        assert await measured(backend) == before
        await backend.delete(session.id, forget_at=FOREVER, owner="ann")
        assert await measured(backend) == {}

    async def test_an_evicted_session_counts_no_longer(self, backend: SessionBackend) -> None:
        session = await created(backend, archived_at=EXPIRY)
        await rolled_up(backend)
        assert await backend.evict(session.id, version=session.version, head=session.head)
        assert await measured(backend) == {}
        assert await pages(backend, limit=10) == []

    @pytest.mark.parametrize("rolled", [False, True], ids=["fresh", "rolled up"])
    async def test_a_restored_session_counts_once_as_what_it_is_by_now(
        self, backend: SessionBackend, rolled: bool
    ) -> None:
        session = await created(backend, archived_at=EXPIRY, queries=numbered(1))
        if rolled:
            await rolled_up(backend)
        active = await revived(backend, session.id)
        counts = await measured(backend, now=EXPIRY)
        assert (counts["sessions"], counts.get("archived"), counts["queries"], counts["query:late"]) == (1, None, 2, 1)
        assert [each.total_queries for each in await pages(backend, limit=10)] == [2]
        await archived(backend, [active], at=EXPIRY + HOUR)
        again = {**counts, "archived": 1, "expired": 1}
        assert await measured(backend) == again
        await rolled_up(backend)
        assert await measured(backend) == again
        await purged(backend)
        assert await measured(backend) == again

    async def test_a_merged_session_counts_what_came_of_it(self, backend: SessionBackend) -> None:
        session = await created(backend, queries=numbered(2), archived_at=EXPIRY)
        await rolled_up(backend)
        later = replace(
            session,
            version=session.version + 1,
            head="later",
            queries=[*session.queries, stored_query("late").body],
            total_queries=3,
            expires_at=EXPIRY + HOUR,
            archived_at=EXPIRY + HOUR,
        )
        for _ in range(2):
            await backend.absorb([later])
            counts = await measured(backend)
            assert (counts["sessions"], counts["archived"], counts["queries"], counts["query:late"]) == (1, 1, 3, 1)
            await rolled_up(backend)
            assert await measured(backend) == counts

    async def test_gathering_is_done_in_pieces_and_comes_to_an_end(self, backend: SessionBackend) -> None:
        await several(backend)
        before = await measured(backend)
        for _ in range(20):
            gathered = await backend.roll_up(limit=1)
            assert gathered <= 1
            assert await measured(backend) == before
        assert await backend.roll_up(limit=100) == 0

    async def test_what_was_recorded_counts_without_a_session(self, backend: SessionBackend) -> None:
        session = anns_session()
        for _ in range(2):
            assert await backend.record([session], at=EXPIRY) == [True]
            assert await measured(backend) == {**COUNTS, "archived": 1, "expired": 1}
        assert await backend.read(session.id) is None
        assert [each.archived_at for each in await pages(backend, limit=10)] == [EXPIRY]
        await rolled_up(backend)
        await backend.delete(session.id, forget_at=FOREVER)
        assert await measured(backend) == {}
        assert await backend.record([session], at=EXPIRY) == [False]
        assert await measured(backend) == {}

    async def test_of_two_records_the_one_of_the_higher_version_stays(self, backend: SessionBackend) -> None:
        older, newer = anns_session(version=3), anns_session(version=4, queries=())
        newer.id = older.id
        await backend.record([newer], at=EXPIRY)
        expected = await measured(backend)
        assert await backend.record([older], at=EXPIRY) == [True]
        assert await measured(backend) == expected

    @pytest.mark.parametrize("order", [(1, 2), (2, 1)], ids=["older first", "newer first"])
    async def test_of_two_records_in_one_call_the_one_of_the_higher_version_stays(
        self, backend: SessionBackend, order: tuple[int, int]
    ) -> None:
        versions = {1: stored_session(queries=numbered(1)), 2: stored_session(queries=numbered(2), version=2)}
        both = [replace(versions[version], id=versions[1].id) for version in order]
        assert await backend.record(both, at=START) == [True, True]
        counts = await measured(backend)
        assert (counts["sessions"], counts["queries"]) == (1, 2)

    async def test_a_session_that_is_kept_counts_as_what_it_is_whatever_was_recorded(
        self, backend: SessionBackend
    ) -> None:
        session = anns_session(version=2)
        await backend.record([replace(session, version=9, queries=[], total_queries=0)], at=START)
        await backend.create(session)
        assert await backend.record([replace(session, version=9, queries=[], total_queries=0)], at=START) == [True]
        assert await measured(backend, now=START) == COUNTS
        await archived(backend, [session], at=EXPIRY)
        assert await measured(backend) == {**COUNTS, "archived": 1, "expired": 1}

    async def test_metrics_are_those_of_each_session_newest_first(self, backend: SessionBackend) -> None:
        active, put_away = anns_session(), anns_session(created_at=START + MINUTE, archived_at=EXPIRY)
        await backend.create(active)
        await backend.create(put_away)
        newest, oldest = await pages(backend, limit=10)
        assert (newest.session_id, oldest.session_id) == (put_away.id, active.id)
        assert (newest.archived_at, oldest.archived_at) == (EXPIRY, None)
        assert oldest.model_dump(include={"assets", "tags", "errors", "query_types", "timed_queries"}) == {
            "assets": ("MSFT", "AAPL"),
            "tags": ("tech",),
            "errors": 2,
            "query_types": {"price": 2, "news": 1, "größe:x": 1},
            "timed_queries": 3,
        }
        assert (oldest.duration_seconds, oldest.execution_time_ms) == (90.000999, 1001.5)
        await archived(backend, [active], at=EXPIRY)
        after = (await pages(backend, limit=10))[1]
        assert after == oldest.model_copy(update={"archived_at": EXPIRY})

    async def test_a_query_that_nobody_can_read_counts_as_an_error_when_its_session_began(
        self, backend: SessionBackend
    ) -> None:
        session = stored_session(queries=numbered(3), created_at=START + HOUR)
        bad = ["not json", '{"query_type": 7}', '{"query_type":"x\\u0000y"}']
        await backend.create(replace(session, queries=bad))
        for _ in range(2):
            counts = await measured(backend)
            assert (counts["queries"], counts["errors"]) == (3, 3)
            assert (counts["query:unreadable"], counts["asked:2026-01-01T01"]) == (3, 3)
            kept = await whole(backend, session.id)
            if kept.archived_at is None:
                await archived(backend, [kept])

    async def test_what_people_put_into_a_query_is_not_taken_for_its_facts(self, backend: SessionBackend) -> None:
        facts = {"error": "x", "execution_time_ms": 5, "query_type": "other", "timestamp": "1999-01-01T00:00:00Z"}
        session = stored_session(queries=(stored_query("price", parameters=facts, metadata=facts),))
        await backend.create(session)
        for _ in range(2):
            counts = await measured(backend)
            assert [counts.get(key, 0) for key in ("errors", "timed", "query:price", "asked:2026-01-01T00")] == [
                0,
                0,
                1,
                1,
            ]
            kept = await whole(backend, session.id)
            if kept.archived_at is None:
                await archived(backend, [kept])

    @pytest.mark.parametrize("took_ms", [0, 0.0004, 0.0005, 0.031, 0.032, 1e3, 8_589_934_592, 1e300])
    async def test_however_long_a_query_took_it_counts_the_same_before_and_after(
        self, backend: SessionBackend, took_ms: float
    ) -> None:
        session = stored_session(queries=(stored_query(execution_time_ms=took_ms),))
        await backend.create(session)
        before = await measured(backend)
        await archived(backend, [session])
        assert await measured(backend) == {**before, "archived": 1}

    async def test_while_sessions_are_archived_each_counts_exactly_once(
        self, backend: SessionBackend, other: SessionBackend
    ) -> None:
        sessions = [await created(backend, queries=numbered(2), created_at=START + n * MINUTE) for n in range(24)]
        before = await measured(backend)

        async def archive() -> None:
            for start in range(0, len(sessions), 3):
                await archived(backend, sessions[start : start + 3])
                await backend.roll_up(limit=2)

        archiving = asyncio.create_task(archive())
        seen = []
        while not archiving.done():
            counts = await measured(other)
            seen.append(counts.pop("archived", 0))
            assert counts == before
            await asyncio.sleep(0)
        await archiving
        assert seen == sorted(seen)
        assert await measured(other) == {**before, "archived": 24}
