"""Every number of the statistics, on sessions that can be counted by hand."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from perdure import QueryRecord, Session, SessionStore
from perdure.analytics import Durations, SessionAnalytics, SessionStats
from perdure.errors import InvalidInputError
from perdure.testing import START, ManualClock

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

NAMES_OF_THE_MISSION = {
    "total_sessions",
    "active_sessions",
    "archived_sessions",
    "total_queries",
    "avg_duration_seconds",
    "avg_queries_per_session",
    "abandonment_rate",
    "cache_hit_rate",
    "top_assets",
    "query_type_distribution",
    "session_type_breakdown",
    "popular_tags",
    "period_days",
}


async def asked(store: SessionStore, clock: ManualClock, *queries: dict[str, Any], **facts: Any) -> Session:
    """A session of these queries, a minute after one another."""
    session = await store.create_session(**{"assets": ["AAPL"], "session_type": "equity", "ttl_hours": 1, **facts})
    for query in queries:
        clock.advance(timedelta(minutes=1))
        await store.track_query(session.id, QueryRecord(**{"query_type": "price", "timestamp": clock(), **query}))
    return session


async def three_days(store: SessionStore, clock: ManualClock) -> None:
    """Ann asks on two days, Bob on the second, somebody on the third; but for the last all of it is archived."""
    await asked(
        store,
        clock,
        {"execution_time_ms": 10, "cache_hit": True},
        {"execution_time_ms": 20},
        {"query_type": "news", "execution_time_ms": 3000, "error": "no news"},
        user_id="ann",
        assets=["AAPL", "MSFT"],
        tags=["tech", "daily"],
    )
    clock.set(START + DAY + 9 * HOUR)
    await asked(store, clock, {"execution_time_ms": None}, user_id="ann", tags=["tech"])
    await asked(store, clock, user_id="bob", session_type="macro", assets=["EUR"])
    clock.set(START + 2 * DAY + 23 * HOUR)
    await store.cleanup_expired_sessions()
    await asked(store, clock, {}, {})


async def stats(store: SessionStore, **how: Any) -> SessionStats:
    return await SessionAnalytics(store).get_session_stats(**how)


async def test_where_there_is_nothing_rates_are_0_and_percentiles_none(store: SessionStore, clock: ManualClock) -> None:
    empty = await stats(store)
    assert empty == SessionStats(
        since=clock() - 30 * DAY,
        until=clock(),
        period_days=30,
        sessions_by_day=empty.sessions_by_day,
        queries_by_day=empty.queries_by_day,
    )
    assert set(empty.sessions_by_day.values()) == {0}
    assert (empty.duration_seconds.p50, empty.execution_time_ms) == (None, Durations())


async def test_every_number_is_what_it_says(store: SessionStore, clock: ManualClock) -> None:
    await three_days(store, clock)
    found = await stats(store, days=3)

    assert (found.total_sessions, found.active_sessions, found.archived_sessions) == (4, 1, 3)
    assert (found.expired_sessions, found.abandoned_sessions, found.abandonment_rate) == (3, 2, 0.5)
    assert (found.total_queries, found.avg_queries_per_session, found.longest_session) == (6, 1.5, 3)
    assert (found.cache_hit_rate, found.error_rate) == (1 / 6, 1 / 6)
    assert found.avg_duration_seconds == (180 + 60 + 0 + 120) / 4
    assert found.avg_execution_time_ms == 1010
    assert (found.users, found.returning_users) == (2, 1)
    assert list(found.top_assets.items()) == [("AAPL", 3), ("EUR", 1), ("MSFT", 1)]
    assert list(found.popular_tags.items()) == [("tech", 2), ("daily", 1)]
    assert list(found.session_type_breakdown.items()) == [("equity", 3), ("macro", 1)]
    assert list(found.query_type_distribution.items()) == [("price", 5), ("news", 1)]


async def test_percentiles_are_of_those_that_say_how_long_they_took(store: SessionStore, clock: ManualClock) -> None:
    await three_days(store, clock)
    found = await stats(store, days=3)

    assert found.execution_time_ms.count == 3
    assert found.execution_time_ms.p50 == pytest.approx(20, rel=1 / 32)
    assert found.execution_time_ms.p99 == pytest.approx(3000, rel=1 / 32)
    assert list(found.execution_time_ms_by_query_type) == ["price", "news"]
    price = found.execution_time_ms_by_query_type["price"]
    assert price.count == 2
    assert price.p50 == pytest.approx(10, rel=1 / 32)
    assert found.duration_seconds.count == 4
    assert found.duration_seconds.p50 == pytest.approx(60, rel=1 / 32)


async def test_days_and_hours_are_those_of_the_creation_and_of_the_asking(
    store: SessionStore, clock: ManualClock
) -> None:
    await three_days(store, clock)
    found = await stats(store, since=START, until=START + 3 * DAY)

    first, second, third = (date(2026, 1, day) for day in (1, 2, 3))
    assert found.sessions_by_day == {first: 1, second: 2, third: 1}
    assert found.queries_by_day == {first: 3, second: 1, third: 2}
    assert {hour: count for hour, count in enumerate(found.sessions_by_hour) if count} == {0: 1, 9: 2, 23: 1}
    assert {hour: count for hour, count in enumerate(found.queries_by_hour) if count} == {0: 3, 9: 1, 23: 2}
    assert found.queries_by_weekday_and_hour[3][0] == 3  # a Thursday
    assert sum(map(sum, found.queries_by_weekday_and_hour)) == 6


async def test_a_query_after_midnight_counts_on_the_day_it_was_asked(store: SessionStore, clock: ManualClock) -> None:
    clock.set(START + DAY - timedelta(seconds=30))
    await asked(store, clock, {})
    found = await stats(store, since=START, until=START + DAY)
    assert found.sessions_by_day == {date(2026, 1, 1): 1}
    assert found.queries_by_day == {date(2026, 1, 1): 0, date(2026, 1, 2): 1}


async def test_archiving_retention_and_the_roll_up_change_no_number_but_one(
    store: SessionStore, clock: ManualClock
) -> None:
    await three_days(store, clock)
    now = clock()

    async def numbers() -> dict[str, Any]:
        found = await stats(store, since=START, until=now + DAY)
        return found.model_dump(exclude={"active_sessions", "archived_sessions", "until"})

    before = await numbers()
    await store.generate_session_metrics()
    assert await numbers() == before
    assert (await store.delete_old_archived_sessions(retention_days=0.1)).deleted == 0
    clock.advance(40 * DAY)
    assert (await store.delete_old_archived_sessions()).deleted == 3
    gone = await numbers()
    assert {name for name in before if gone[name] != before[name]} == {"expired_sessions"}, "the last one expired too"
    assert (await stats(store, days=None)).archived_sessions == 3


async def test_the_period_ends_with_now_or_as_it_is_said(store: SessionStore, clock: ManualClock) -> None:
    clock.set(START)
    await asked(store, clock)
    clock.set(START + 30 * DAY)
    assert (await stats(store)).total_sessions == 1
    clock.advance(timedelta(microseconds=1))
    assert (await stats(store)).total_sessions == 0
    assert (await stats(store, days=None)).total_sessions == 1
    assert (await stats(store, days=31)).period_days == 31
    assert (await stats(store, days=None)).period_days is None
    assert (await stats(store, since=START)).period_days == 31
    assert (await stats(store, days=7, until=START + DAY)).since == START - 6 * DAY
    assert (await stats(store, until=START)).total_sessions == 0
    elsewhere = (START + HOUR).astimezone(tz=None)
    assert (await stats(store, until=elsewhere)).until == START + HOUR


async def test_only_a_users_or_a_type_of_sessions(store: SessionStore, clock: ManualClock) -> None:
    await three_days(store, clock)
    anns = await stats(store, user_id="ann")
    assert (anns.user_id, anns.total_sessions, anns.users, anns.returning_users) == ("ann", 2, 1, 1)
    macro = await stats(store, session_type="macro")
    assert (macro.session_type, macro.total_sessions, macro.total_queries) == ("macro", 1, 0)
    assert (await stats(store, user_id="bob", session_type="equity")).total_sessions == 0


async def test_rankings_are_as_long_as_was_asked(store: SessionStore, clock: ManualClock) -> None:
    await asked(store, clock, assets=[f"A{n:02}" for n in range(20)], tags=["x", "y"])
    assert len((await stats(store)).top_assets) == 10
    few = await stats(store, top=1)
    assert (few.top_assets, few.popular_tags) == ({"A00": 1}, {"x": 1})


async def test_tags_for_programs_are_no_popular_ones(store: SessionStore, clock: ManualClock) -> None:
    await asked(store, clock, tags=[".job-17", "tech", "v1.2"])

    assert set((await stats(store)).popular_tags) == {"tech", "v1.2"}


@pytest.mark.parametrize(
    "how",
    [
        {"days": 0},
        {"days": -1},
        {"days": 1.5},
        {"days": True},
        {"days": 40_000},
        {"since": datetime(2026, 1, 1)},  # noqa: DTZ001 (naive on purpose)
        {"until": "2026-01-01"},
        {"until": datetime(1, 1, 2, tzinfo=UTC)},
        {"until": datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))},
        {"user_id": ""},
        {"session_type": "No Slug"},
        {"top": -1},
    ],
)
async def test_bad_input_is_refused(store: SessionStore, how: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        await stats(store, **how)


async def test_they_are_json_and_come_back_from_it(store: SessionStore, clock: ManualClock) -> None:
    await three_days(store, clock)
    found = await stats(store)
    assert found.model_dump().keys() >= NAMES_OF_THE_MISSION
    text = found.model_dump_json()
    assert json.loads(text)["sessions_by_day"]["2026-01-02"] == 2
    assert SessionStats.model_validate_json(text) == found


async def test_a_day_that_there_is_not_does_no_harm(store: SessionStore, clock: ManualClock) -> None:
    from perdure.models import Measures, StatsFilter

    found = SessionStats.of(Measures({"asked:2026-02-31T10": 2}), StatsFilter(), until=datetime(2026, 1, 2, tzinfo=UTC))
    assert found.queries_by_day == {date(2026, 1, 1): 0}


async def test_of_a_very_long_period_only_days_from_the_first_session_on_are_named(
    store: SessionStore, clock: ManualClock
) -> None:
    await asked(store, clock)
    found = await stats(store, since=datetime(1, 1, 1, tzinfo=UTC))
    assert found.sessions_by_day == {date(2026, 1, 1): 1}
