"""Recording, a user's summary, exports, and who sees what."""

from __future__ import annotations

import asyncio
import csv
import gc
import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest

from perdure import QueryRecord, Session, SessionMetrics, SessionStore, StatsFilter
from perdure.analytics import SessionAnalytics
from perdure.errors import InvalidInputError
from perdure.testing import START, ManualClock

DAY = timedelta(days=1)


async def asked(store: SessionStore, *query_types: str, **facts: Any) -> Session:
    session = await store.create_session(**{"assets": ["AAPL"], "session_type": "equity", "ttl_hours": 1, **facts})
    for query_type in query_types:
        at = store.clock()
        await store.track_query(session.id, QueryRecord(query_type=query_type, timestamp=at, execution_time_ms=1.5))
    found = await store.get_session(session.id)
    assert found is not None
    return found


async def totals(store: SessionStore) -> tuple[int, int]:
    found = await SessionAnalytics(store).get_session_stats(days=None)
    return found.total_sessions, found.total_queries


# Recording ------------------------------------------------------------------------------------------


async def test_a_session_of_another_store_counts_once_however_often_it_is_recorded(
    store: SessionStore, clock: ManualClock
) -> None:
    async with SessionStore.open("memory://", clock=clock) as elsewhere:
        session = await asked(elsewhere, "price", "news")
    for _ in range(3):
        assert await SessionAnalytics(store).record_session_metrics(session)
        assert await totals(store) == (1, 2)
    assert await store.get_session(session.id) is None


async def test_recording_a_session_of_the_store_changes_nothing(store: SessionStore) -> None:
    session = await asked(store, "price")
    assert await SessionAnalytics(store).record_session_metrics(session)
    await store.track_query(session.id, QueryRecord(query_type="price"))
    assert await totals(store) == (1, 2)


async def test_what_was_deleted_does_not_count_again(store: SessionStore) -> None:
    session = await asked(store, "price")
    await store.delete_session(session.id)
    assert not await SessionAnalytics(store).record_session_metrics(session)
    assert await totals(store) == (0, 0)


async def test_a_session_with_a_part_of_its_history_is_refused(store: SessionStore) -> None:
    session = await asked(store, "price", "news")
    part = await store.get_session(session.id, history=1)
    with pytest.raises(InvalidInputError, match="1 of 2 queries"):
        await SessionAnalytics(store).record_session_metrics(cast(Session, part))
    with pytest.raises(InvalidInputError):
        await SessionAnalytics(store).record_session_metrics(cast(Session, session.id))


# One user -------------------------------------------------------------------------------------------


async def test_a_users_summary_has_the_statistics_and_the_last_sessions(
    store: SessionStore, clock: ManualClock
) -> None:
    first = await asked(store, "price", user_id="ann")
    clock.advance(DAY)
    await store.cleanup_expired_sessions()
    clock.set(START + DAY + timedelta(hours=9))
    second = await asked(store, "price", "news", user_id="ann")
    await asked(store, "price", user_id="bob")

    summary = await SessionAnalytics(store).get_user_session_summary("ann")

    assert (summary.user_id, summary.is_returning, summary.busiest_hour) == ("ann", True, 9)
    assert summary.stats == await SessionAnalytics(store).get_session_stats("ann")
    assert summary.last_session_at == second.created_at
    assert [session.id for session in summary.recent_sessions] == [second.id, first.id]
    json.loads(summary.model_dump_json())


async def test_a_summary_of_nobody_is_empty(store: SessionStore) -> None:
    await asked(store, "price", user_id="ann")
    summary = await SessionAnalytics(store).get_user_session_summary("nobody")
    assert (summary.last_session_at, summary.busiest_hour, summary.recent_sessions) == (None, None, [])
    assert not summary.is_returning
    with pytest.raises(InvalidInputError):
        await SessionAnalytics(store).get_user_session_summary("")


async def test_whoever_sees_one_users_sessions_sees_their_statistics_alone(store: SessionStore) -> None:
    anns = await asked(store, "price", user_id="ann")
    bobs = await asked(store, "price", "news", user_id="bob")
    own = SessionAnalytics(store.for_user("ann"))

    found = await own.get_session_stats()
    assert (found.total_sessions, found.total_queries, found.users) == (1, 1, 1)
    assert (await own.get_session_stats("bob")).total_sessions == 0
    assert (await own.get_user_session_summary("bob")).recent_sessions == []
    rows = json.loads(await own.export_session_metrics())
    assert [row["session_id"] for row in rows] == [str(anns.id)]
    assert await own.export_session_metrics("jsonl", user_id="bob") == ""
    with pytest.raises(InvalidInputError, match="bob"):
        await own.record_session_metrics(bobs)


# Exports --------------------------------------------------------------------------------------------


async def three(store: SessionStore, clock: ManualClock) -> list[SessionMetrics]:
    """One of each kind: purged, archived, active; newest first."""
    await asked(store, "price", assets=["A"], user_id="ann", tags=["t", "ü;x"])
    clock.advance(timedelta(hours=2))
    await store.cleanup_expired_sessions()
    await store.delete_old_archived_sessions(retention_days=0)
    clock.advance(timedelta(hours=1))
    await store.delete_old_archived_sessions(retention_days=0)
    await asked(store, "price", "news", assets=["B", "C"])
    clock.advance(timedelta(hours=2))
    await store.cleanup_expired_sessions()
    await asked(store, assets=["D"])
    return [metrics async for metrics in store.session_metrics()]


async def test_all_formats_say_the_same(store: SessionStore, clock: ManualClock) -> None:
    metrics = await three(store, clock)
    assert [each.assets for each in metrics] == [("D",), ("B", "C"), ("A",)]
    analytics = SessionAnalytics(store)

    whole = json.loads(await analytics.export_session_metrics("json"))
    lines = [json.loads(line) for line in (await analytics.export_session_metrics("jsonl")).splitlines()]
    assert [SessionMetrics(**row) for row in whole] == metrics
    assert lines == whole

    rows = list(csv.DictReader(io.StringIO(await analytics.export_session_metrics("csv"), newline="")))
    assert list(rows[0]) == list(SessionMetrics.model_fields)
    assert [UUID(row["session_id"]) for row in rows] == [each.session_id for each in metrics]
    assert (rows[1]["assets"], rows[1]["query_types"], rows[1]["execution_time_ms"]) == (
        "B; C",
        "price=1; news=1",
        "3.0",
    )
    assert (rows[2]["user_id"], rows[2]["tags"], rows[0]["archived_at"]) == ("ann", "t; ü;x", "")


@pytest.mark.parametrize("form", ["json", "jsonl", "csv"])
async def test_nothing_is_a_file_too(store: SessionStore, form: Any) -> None:
    text = await SessionAnalytics(store).export_session_metrics(form)
    if form == "json":
        assert json.loads(text) == []
    else:
        assert len(text.splitlines()) == {"jsonl": 0, "csv": 1}[form]


@pytest.mark.parametrize(
    "name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\r=1", "\uff1d1", "=cmd|' /C calc'!A0"]
)
async def test_no_cell_is_a_formula(store: SessionStore, name: str) -> None:
    session = await asked(store, name, user_id=name, assets=[name, "A"], tags=["A", name])
    text = await SessionAnalytics(store).export_session_metrics("csv")
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row["session_id"] == str(session.id)
    for cell, expected in {
        "user_id": f"'{name}",
        "assets": f"'{name}; A",
        "tags": f"A; '{name}",
        "query_types": f"'{name}=1",
    }.items():
        assert row[cell] == expected


async def test_a_file_appears_when_it_is_complete_or_not_at_all(
    store: SessionStore, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await three(store, clock)
    folder = tmp_path / "exports"
    folder.mkdir()
    file = folder / "metrics.csv"
    file.write_text("as it was")

    def fails_at_the_second(count: int) -> None:
        assert [path.name for path in folder.iterdir() if path.suffix == ".csv"] == ["metrics.csv"]
        assert file.read_text() == "as it was"
        if count == 2:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        await SessionAnalytics(store).export_session_metrics("csv", file, progress=fails_at_the_second)
    assert [path.name for path in folder.iterdir()] == ["metrics.csv"]
    assert file.read_text() == "as it was"

    reached: list[int] = []
    assert await SessionAnalytics(store).export_session_metrics("csv", str(file), progress=reached.append) == 3
    assert reached == [1, 2, 3]
    assert file.read_bytes().decode() == await SessionAnalytics(store).export_session_metrics("csv")
    assert [path.name for path in folder.iterdir()] == ["metrics.csv"]


@pytest.mark.parametrize("form", ["json", "jsonl", "csv"])
async def test_a_stream_stays_open_also_where_the_export_fails(
    store: SessionStore, clock: ManualClock, form: Any
) -> None:
    await three(store, clock)
    stream = io.BytesIO()

    def fails(count: int) -> None:
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        await SessionAnalytics(store).export_session_metrics(form, stream, progress=fails)
    gc.collect()

    assert not stream.closed


async def test_an_unknown_format_is_refused_and_writes_nothing(store: SessionStore, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="'xml'"):
        await SessionAnalytics(store).export_session_metrics(cast(Any, "xml"), tmp_path / "metrics.xml")
    assert not (tmp_path / "metrics.xml").exists()


async def test_more_than_a_page_of_sessions_is_exported_whole(store: SessionStore) -> None:
    sessions = [await store.create_session(["A"], "equity") for _ in range(1_203)]
    rows = (await SessionAnalytics(store).export_session_metrics("jsonl")).splitlines()
    assert {json.loads(row)["session_id"] for row in rows} == {str(session.id) for session in sessions}
    assert len(rows) == 1_203


# Maintenance ----------------------------------------------------------------------------------------


async def test_statistics_are_right_while_sessions_expire_and_are_gathered(
    store: SessionStore, clock: ManualClock
) -> None:
    for _ in range(60):
        await asked(store, "price", "news")
    clock.advance(timedelta(hours=2))

    async def maintain() -> int:
        report = await store.cleanup_expired_sessions(limit=10)
        await store.generate_session_metrics(limit=7)
        return report.archived

    async def watch(done: asyncio.Event) -> None:
        while not done.is_set():
            assert await totals(store) == (60, 120)
            await asyncio.sleep(0)

    done = asyncio.Event()
    watching = asyncio.create_task(watch(done))
    while await maintain():
        pass
    done.set()
    await watching
    assert (await SessionAnalytics(store).get_session_stats()).archived_sessions == 60


async def test_gathering_tells_how_many_it_gathered(store: SessionStore, clock: ManualClock) -> None:
    for _ in range(5):
        await asked(store, "price")
    clock.advance(timedelta(hours=2))
    await store.cleanup_expired_sessions()
    reached: list[int] = []
    gathered = await store.generate_session_metrics(3, progress=reached.append)
    rest = await store.generate_session_metrics()
    assert (gathered + rest, reached) in [(5, [3]), (0, [])]  # memory has nothing to gather
    assert await store.generate_session_metrics() == 0


async def test_a_store_gathers_by_itself(clock: ManualClock, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/sessions.db"
    async with SessionStore.open(url, clock=clock) as store:
        await asked(store, "price")
    clock.advance(timedelta(hours=2))
    async with SessionStore.open(url, clock=clock) as store:
        await store._maintenance.stop()  # a round that was due has ended
        assert await store.generate_session_metrics() == 0
        assert (await SessionAnalytics(store).get_session_stats()).archived_sessions == 1


async def test_what_is_no_filter_is_refused(store: SessionStore) -> None:
    with pytest.raises(InvalidInputError, match="StatsFilter"):
        await store.measure(cast(StatsFilter, {"user_id": "ann"}))
