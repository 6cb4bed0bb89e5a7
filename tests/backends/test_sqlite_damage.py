"""Files that are damaged, locked, full or not ours: a clear error, and whatever can be read stays readable."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.backends.sqlite_processes import children

from perdure import QueryRecord, SessionFilter, SessionStore, Settings
from perdure.backends.sql.sqlite import SqliteBackend
from perdure.backends.sql.writing import create_in
from perdure.errors import (
    BackendClosedError,
    BackendError,
    BackendUnavailableError,
    CorruptDataError,
    InvalidValueError,
    SchemaError,
    SessionExistsError,
    StorageFullError,
    VersionConflictError,
)
from perdure.merging import AbsorbOutcome
from perdure.models import StoredSession
from perdure.testing import START, ChangeMaker, ManualClock, stored_query, stored_session

SETTINGS = Settings(sweep_in_background=False, sweep_on_open=False)
LEASE = timedelta(minutes=1)
LATER = START + timedelta(hours=2)
IMPATIENT = timedelta(milliseconds=50)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
async def backend(path: Path) -> AsyncIterator[SqliteBackend]:
    backend = SqliteBackend(path, busy_timeout=IMPATIENT)
    await backend.open()
    yield backend
    await backend.aclose()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody can look into, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def damage(path: Path, statement: str, *parameters: object) -> None:
    """Run a statement on the file, past everything that would refuse it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert connection.execute(statement, parameters).rowcount == 1


async def the_error_of_opening(path: Path) -> BackendError:
    backend = SqliteBackend(path)
    with pytest.raises(BackendError) as caught:
        await backend.open()
    await backend.aclose()
    with pytest.raises(BackendClosedError):
        await backend.read(stored_session().id)
    return caught.value


# The file ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"symbol,close\nAAPL,175.43\n" * 100, b"\x00" * 8192, b"SQLite format 3\x00junk"])
async def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    error = await the_error_of_opening(path)

    assert isinstance(error, SchemaError | CorruptDataError)
    assert path.read_bytes() == content


async def test_an_empty_file_becomes_a_database(path: Path) -> None:
    path.touch()
    backend = SqliteBackend(path)
    await backend.open()
    await backend.create(stored_session())
    await backend.aclose()
    assert await backend.schema.verify() == []


async def test_a_truncated_database_is_an_error_and_not_an_empty_store(path: Path) -> None:
    session = await _filled_file(path)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size // 2)

    backend = SqliteBackend(path)

    async def use() -> None:
        await backend.open()
        await backend.read(session.id)

    with pytest.raises(CorruptDataError, match="damaged"):
        await use()
    await backend.aclose()


async def test_a_damaged_page_fails_what_needs_it_and_nothing_else(path: Path) -> None:
    session = await _filled_file(path)
    with closing(sqlite3.connect(path)) as connection:
        page_size = connection.execute("PRAGMA page_size").fetchone()[0]
        root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'session_queries'").fetchone()[0]
    with path.open("r+b") as file:
        file.seek((root - 1) * page_size)
        file.write(b"\xa5" * page_size)

    backend = SqliteBackend(path)
    await backend.open()
    with pytest.raises(CorruptDataError, match="damaged"):
        await backend.read(session.id)
    with pytest.raises(CorruptDataError, match="damaged"):
        await backend.apply(session.id, ChangeMaker().query())
    without_history = await backend.read(session.id, history=0)
    applied = await backend.apply(session.id, ChangeMaker().change(set_entries={"context": {"k": "1"}}))
    await backend.aclose()

    assert without_history is not None
    assert without_history.total_queries == session.total_queries
    assert applied.version == session.version + 1
    assert await backend.schema.verify() != []


async def _filled_file(path: Path) -> StoredSession:
    backend = SqliteBackend(path)
    await backend.open()
    session = stored_session(
        expires_at=START + timedelta(days=36_500),
        queries=tuple(stored_query(result_summary="x" * 3_000) for _ in range(100)),
    )
    await backend.create(session)
    await backend.aclose()
    return session


@pytest.mark.parametrize("revision", ["0099", "9999", "what an odd revision"])
async def test_a_database_of_a_revision_that_is_not_known_is_refused_and_left_as_it_is(
    path: Path, revision: str
) -> None:
    await _filled_file(path)
    damage(path, "UPDATE perdure_version SET version_num = ?", revision)
    before = path.read_bytes()

    error = await the_error_of_opening(path)

    assert isinstance(error, SchemaError)
    assert revision in str(error)
    assert "upgrade perdure" in str(error)
    with pytest.raises(SchemaError, match=revision):
        await SqliteBackend(path).schema.upgrade()
    assert path.read_bytes() == before


@pytest.mark.parametrize("make_folder", [True, False])
async def test_a_missing_folder_is_made_only_for_the_default_file(tmp_path: Path, make_folder: bool) -> None:
    backend = SqliteBackend(tmp_path / "no" / "such" / "sessions.db", make_folder=make_folder)
    if make_folder:
        await backend.open()
        await backend.aclose()
    else:
        with pytest.raises(BackendUnavailableError, match="folder"):
            await backend.open()
    assert (tmp_path / "no").exists() == make_folder


async def test_a_file_where_the_folder_belongs_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BackendUnavailableError):
        await SqliteBackend(tmp_path / "file" / "sessions.db").open()
    with pytest.raises(BackendUnavailableError):
        await SqliteBackend(tmp_path / "file" / "sessions.db", make_folder=True).open()


async def test_a_directory_as_path_is_an_error(tmp_path: Path) -> None:
    assert isinstance(await the_error_of_opening(tmp_path), BackendUnavailableError)


@pytest.mark.parametrize("name", ["a b.db", "100%25.db", "why?.db", "c#.db", "ü.db", "it's.db", 'a"b.db'])
async def test_any_file_name_works(tmp_path: Path, name: str) -> None:
    session = await _filled_file(tmp_path / name)
    backend = SqliteBackend(tmp_path / name)
    await backend.open()
    found = await backend.read(session.id)
    await backend.aclose()
    assert found == session
    assert (tmp_path / name).exists()
    assert await backend.schema.verify() == []
    await backend.schema.drop()
    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_is_taken_away_while_it_is_open_is_seen_in_health(path: Path, backend: SqliteBackend) -> None:
    await backend.create(stored_session())
    for file in path.parent.iterdir():
        file.unlink()
    health = await backend.health(now=START)
    assert health.details["path"] == str(path)


# Rows ----------------------------------------------------------------------------------------------

UNREADABLE_ROWS = {
    "garbage in assets": ("assets", "not JSON {"),
    "assets that are no list": ("assets", '{"AAPL": 1}'),
    "assets that are one text": ("assets", '"AAPL"'),
    "numbers among the tags": ("tags", "[1, 2]"),
    "a type that is none": ("type", "No Type!"),
    "an instant beyond the calendar": ("expires_at", 2**61),
    "a last query beyond the calendar": ("last_query_at", -(2**61)),
    "a creation beyond the calendar": ("created_at", 2**61),
    "another creation than the labels say": ("created_at", 7),
    "an id that is too short": ("id", b"short"),
    "an id that is too long": ("id", b"x" * 40),
}


@pytest.fixture(params=UNREADABLE_ROWS.values(), ids=list(UNREADABLE_ROWS))
def unreadable(request: pytest.FixtureRequest) -> tuple[str, object]:
    column, value = request.param
    return column, value


def _break_row(path: Path, session: StoredSession, column: str, value: object) -> None:
    key: object = session.id.bytes
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute(f"UPDATE sessions SET {column} = ? WHERE id = ?", (value, key))
        if column == "id":
            connection.execute("UPDATE session_labels SET session_id = ? WHERE session_id = ?", (value, key))


async def test_a_row_that_cannot_be_read_hides_no_other_from_listings(
    path: Path, backend: SqliteBackend, unreadable: tuple[str, object]
) -> None:
    sessions = [stored_session(created_at=START + timedelta(seconds=number)) for number in range(9)]
    for session in sessions:
        await backend.create(session)
    broken = sessions[2:5]  # next to each other, so that whole pages are made of them
    for number, session in enumerate(broken):
        column, value = unreadable
        _break_row(path, session, column, value + bytes([number]) if isinstance(value, bytes) else value)
    expected = [session.id for session in reversed(sessions) if session not in broken]

    for limit in (1, 2, 3, 9):
        for wanted in (SessionFilter(), SessionFilter(user_id="analyst", assets=("AAPL",))):
            found: list[UUID] = []
            cursor: str | None = None
            for _ in range(20):
                page = await backend.find(wanted, cursor=cursor, limit=limit)
                found += [summary.id for summary in page]
                cursor = page.next_cursor
                if cursor is None:
                    break
            assert found == expected


async def test_a_row_that_cannot_be_read_keeps_no_other_from_being_archived(
    path: Path, unreadable: tuple[str, object]
) -> None:
    column, value = unreadable
    clock = ManualClock(START)
    async with SessionStore.open(f"sqlite:///{path}", settings=SETTINGS, clock=clock) as store:
        ids = [(await store.create_session(["AAPL"], "equity", ttl_hours=1)).id for _ in range(5)]
        stored = stored_session(id=ids[1])
        _break_row(path, stored, column, value)
        clock.advance(timedelta(hours=3))

        report = await store.cleanup_expired_sessions(limit=50)
        again = await store.cleanup_expired_sessions(limit=50)

        for session_id in {*ids} - {ids[1]}:
            session = await store.get_session(session_id)
            assert session is not None
            assert session.is_archived
    if column == "expires_at" or value == 7:  # not due by its index, or good enough to be archived
        assert len(report.failed) <= 1
    else:
        assert (report.archived, len(report.failed)) == (4, 1)
    assert (again.archived, again.failed) == (0, {})


async def test_a_row_that_cannot_be_read_says_so_to_whoever_asks_for_it_and_can_be_deleted(
    path: Path, backend: SqliteBackend, unreadable: tuple[str, object]
) -> None:
    column, value = unreadable
    session, other = stored_session(), stored_session()
    await backend.create(session)
    await backend.create(other)
    _break_row(path, session, column, value)
    make = ChangeMaker()

    if column != "id" and value != 7:
        with pytest.raises(CorruptDataError, match=str(session.id)):
            await backend.read(session.id)
        with pytest.raises(CorruptDataError, match=str(session.id)):
            await backend.apply(session.id, make.change(add_tags=("late",)))
        [absorbed, stored] = await backend.absorb([session, stored_session()])
        assert (absorbed.outcome, stored.outcome) == (AbsorbOutcome.FAILED, AbsorbOutcome.STORED)
        assert await backend.delete(session.id, forget_at=LATER)
        assert await backend.read(session.id) is None
        with pytest.raises(SessionExistsError):
            await backend.create(session)
        assert await backend.schema.verify() == []
    assert (await backend.apply(other.id, make.query())).total_queries == 1


async def test_totals_are_those_of_what_can_be_read(path: Path, backend: SqliteBackend) -> None:
    good, bad = (stored_session(queries=(stored_query(),), tags=("tech",)) for _ in range(2))
    for session in (good, bad):
        await backend.create(session)
    damage(path, "UPDATE sessions SET assets = 'garbage', tags = '[1, null, \"a\"]' WHERE id = ?", bad.id.bytes)
    damage(path, "UPDATE session_queries SET body = 'garbage' WHERE session_id = ?", bad.id.bytes)

    totals = await backend.aggregate(SessionFilter())

    assert (totals.sessions, totals.total_queries, totals.errors) == (2, 2, 1)
    assert totals.assets == {"AAPL": 1}
    assert totals.tags == {"1": 1, "a": 1, "tech": 1}
    assert totals.query_types == {"price": 1, "unreadable": 1}


# A text in SQLite may hold bytes that are no UTF-8, which the driver refuses to hand out at all.
GARBAGE = ["'garbage'", "'[1, 2'", "'5'", "''", "CAST(x'7b22ff227d' AS TEXT)"]


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage_in_one_query_leaves_the_others_and_the_session_usable(path: Path, garbage: str) -> None:
    clock = ManualClock(START)
    async with SessionStore.open(f"sqlite:///{path}", settings=SETTINGS, clock=clock) as store:
        session_id = (await store.create_session(["AAPL"], "equity", ttl_hours=1)).id
        for name in ("first", "second", "third"):
            await store.track_query(session_id, QueryRecord(query_type=name))
        damage(path, f"UPDATE session_queries SET body = {garbage} WHERE position = 2")

        session = await store.get_session(session_id)
        page = await store.get_queries(session_id)
        tracked = await store.track_query(session_id, QueryRecord(query_type="fourth"))
        totals = await store.get_totals()
        clock.advance(timedelta(hours=1))
        report = await store.cleanup_expired_sessions()

    assert session is not None
    assert [query.query_type for query in session.state.history.queries] == ["first", "unreadable", "third"]
    assert [(query.position, query.query_type) for query in page] == [(1, "first"), (2, "unreadable"), (3, "third")]
    assert page[1].error is not None
    assert "position 2" in page[1].error
    assert (tracked.position, totals.total_queries) == (4, 4)
    assert (report.archived, report.failed) == (1, {})


@pytest.mark.parametrize("garbage", GARBAGE[:2] + GARBAGE[3:])
async def test_garbage_in_one_entry_leaves_the_others_and_can_be_overwritten(path: Path, garbage: str) -> None:
    async with SessionStore.open(f"sqlite:///{path}", settings=SETTINGS) as store:
        session_id = (await store.create_session(["AAPL"], "equity", context={"bad": 1, "good": 2})).id
        damage(path, f"UPDATE session_entries SET value = {garbage} WHERE key = 'bad'")

        session = await store.get_session(session_id)
        assert session is not None
        assert session.state.context["good"] == 2
        with pytest.raises(InvalidValueError, match="bad"):
            session.state.get_context("bad")
        assert len(await store.list_sessions()) == 1

        await store.update_context(session_id, bad="repaired")
        session = await store.get_session(session_id)
        assert session is not None
        assert session.state.context == {"bad": "repaired", "good": 2}


@pytest.mark.parametrize("column", ["user_id", "type", "assets", "tags", "head"])
async def test_text_that_is_no_utf8_hides_no_other_row(path: Path, backend: SqliteBackend, column: str) -> None:
    good, bad = stored_session(), stored_session()
    for session in (good, bad):
        await backend.create(session)
    damage(path, f"UPDATE sessions SET {column} = CAST(x'41ff42' AS TEXT) WHERE id = ?", bad.id.bytes)

    listed = {summary.id for summary in await backend.find(SessionFilter(), limit=10)}
    claimed = await backend.claim_expired(now=LATER, lease=LEASE, limit=10, max_bytes=2**20)
    totals = await backend.aggregate(SessionFilter())

    assert good.id in listed
    assert {session.id for session in claimed} | claimed.unreadable.keys() == {good.id, bad.id}
    assert totals.sessions == 2
    assert await backend.read(good.id) == good


async def test_an_entry_in_a_section_that_does_not_exist_is_named(path: Path, backend: SqliteBackend) -> None:
    good, bad = stored_session(), stored_session(sections={"context": {"k": 1}})
    for session in (good, bad):
        await backend.create(session)
    damage(path, "UPDATE session_entries SET section = 'contexts'")

    claimed = await backend.claim_expired(now=LATER, lease=LEASE, limit=10, max_bytes=2**20)

    assert [session.id for session in claimed] == [good.id]
    assert list(claimed.unreadable) == [bad.id]
    with pytest.raises(CorruptDataError, match="'contexts'"):
        await backend.read(bad.id)


async def test_a_history_that_contradicts_its_counter_refuses_more_instead_of_replacing_any(
    path: Path, backend: SqliteBackend
) -> None:
    session = stored_session(queries=(stored_query("first"), stored_query("second")))
    await backend.create(session)
    damage(path, "UPDATE sessions SET total_queries = 1 WHERE id = ?", session.id.bytes)

    with pytest.raises(CorruptDataError, match="contradicts"):
        await backend.apply(session.id, ChangeMaker().query("third"))

    damage(path, "UPDATE sessions SET total_queries = 2 WHERE id = ?", session.id.bytes)
    assert await backend.read(session.id) == session


async def test_retention_passes_over_a_row_that_cannot_be_read(path: Path, backend: SqliteBackend) -> None:
    sessions = [stored_session(archived_at=START + timedelta(minutes=number)) for number in range(4)]
    for session in sessions:
        await backend.create(session)
    damage(path, "UPDATE sessions SET assets = 'garbage' WHERE id = ?", sessions[0].id.bytes)

    removed = [(await backend.purge(archived_before=LATER, now=LATER, limit=2)).session_ids for _ in range(4)]

    assert {session_id for batch in removed for session_id in batch} >= {session.id for session in sessions[1:]}


# Missing tables and columns ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement", ["DROP TABLE session_queries", "ALTER TABLE session_queries RENAME COLUMN body TO text"]
)
async def test_a_table_or_column_that_is_missing_is_an_error_of_the_schema(
    path: Path, backend: SqliteBackend, statement: str
) -> None:
    session = stored_session()
    await backend.create(session)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)

    with pytest.raises(SchemaError, match="perdure db"):
        await backend.read(session.id)
    with pytest.raises(SchemaError, match="perdure db"):
        await backend.apply(session.id, ChangeMaker().query())


# Locks ---------------------------------------------------------------------------------------------


async def test_a_write_lock_held_for_too_long_is_reported_and_nothing_is_written(
    path: Path, backend: SqliteBackend
) -> None:
    session = stored_session()
    await backend.create(session)
    make = ChangeMaker()
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(BackendUnavailableError, match="write lock"):
            await backend.apply(session.id, make.query())
        assert await backend.read(session.id) == session  # readers are not kept out
        holder.execute("ROLLBACK")

    assert (await backend.apply(session.id, make.query())).total_queries == 1


async def test_many_writes_that_wait_for_a_lock_together_give_up_together(path: Path) -> None:
    backend = SqliteBackend(path, busy_timeout=timedelta(milliseconds=300))
    await backend.open()
    sessions = [stored_session() for _ in range(30)]
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        async with asyncio.timeout(3):  # one after the other they would take nine seconds
            outcomes = await asyncio.gather(*map(backend.create, sessions), return_exceptions=True)
        holder.execute("ROLLBACK")
    await backend.aclose()

    assert {type(outcome) for outcome in outcomes} == {BackendUnavailableError}


async def test_a_lock_that_is_held_while_the_schema_is_made_is_reported(path: Path, monkeypatch: Any) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("PRAGMA journal_mode=WAL")
        holder.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr("perdure.backends.sql.schema.PATIENCE_S", 0.05)
        with pytest.raises(BackendUnavailableError):
            await SqliteBackend(path).open()
    backend = SqliteBackend(path)
    await backend.open()
    await backend.aclose()


# Batches -------------------------------------------------------------------------------------------


async def test_of_writes_that_share_a_commit_one_that_fails_disturbs_no_other(
    path: Path, backend: SqliteBackend
) -> None:
    good, bad = stored_session(), stored_session()
    await backend.create(good)
    await backend.create(bad)
    make = ChangeMaker()
    unstorable = stored_session(version=2**80)  # SQLite has no such number, and the driver says so in its own way

    outcomes = await asyncio.gather(
        backend.apply(good.id, make.query("first")),
        backend.apply(bad.id, make.change(if_version=9)),
        backend.create(unstorable),
        backend.apply(good.id, make.query("second")),
        backend.create(stored_session()),
        return_exceptions=True,
    )

    kinds = [type(outcome) for outcome in outcomes]
    assert kinds[1:3] == [VersionConflictError, OverflowError]
    assert [outcome.total_queries for outcome in (outcomes[0], outcomes[3])] == [1, 2]  # type: ignore[union-attr]
    assert outcomes[4] is None
    assert len(await backend.find(SessionFilter(), limit=10)) == 3
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other:
        other.execute("BEGIN IMMEDIATE")  # no lock is left behind


async def test_a_piece_that_refuses_after_it_has_written_leaves_nothing_behind(backend: SqliteBackend) -> None:
    first, halfway, last = stored_session(), stored_session(), stored_session()

    def refuse(connection: sqlite3.Connection) -> None:
        create_in(connection, halfway)
        raise SessionExistsError(halfway.id)

    outcomes = await asyncio.gather(
        backend.create(stored_session()),  # goes alone; the others share what follows
        backend.create(first),
        backend._writes.run(refuse),
        backend.create(last),
        return_exceptions=True,
    )

    assert [type(outcome) for outcome in outcomes] == [type(None), type(None), SessionExistsError, type(None)]
    assert await backend.read(halfway.id) is None
    assert await backend.read(first.id) == first
    assert await backend.read(last.id) == last


async def test_a_caller_that_is_cancelled_takes_neither_its_own_work_along_nor_that_of_others(
    backend: SqliteBackend,
) -> None:
    sessions = [stored_session() for _ in range(5)]
    calls = [asyncio.create_task(backend.create(session)) for session in sessions]
    await asyncio.sleep(0)
    calls[0].cancel()
    calls[2].cancel()
    await asyncio.wait(calls)

    assert [call.cancelled() for call in calls] == [True, False, True, False, False]
    assert {summary.id for summary in await backend.find(SessionFilter(), limit=9)} == {s.id for s in sessions}


async def test_closing_finishes_what_is_on_its_way(path: Path) -> None:
    backend = SqliteBackend(path)
    await backend.open()
    calls = [asyncio.create_task(backend.create(stored_session())) for _ in range(20)]
    await asyncio.sleep(0)
    await backend.aclose()
    await asyncio.gather(*calls)

    with pytest.raises(BackendClosedError):
        await backend.create(stored_session())
    await backend.open()
    assert len(await backend.find(SessionFilter(), limit=50)) == 20
    await backend.aclose()


async def test_an_absorbed_session_that_cannot_be_stored_leaves_nothing_and_fails_alone(backend: SqliteBackend) -> None:
    first, last = stored_session(), stored_session()
    unstorable = stored_session(version=2**80, sections={"context": {"k": 1}})
    halfway = stored_session(queries=(stored_query(),))
    halfway.queries.append(5)  # type: ignore[arg-type]
    halfway.queries.append(object())  # type: ignore[arg-type]

    report = await backend.absorb([first, unstorable, halfway, last])

    outcomes = [absorbed.outcome for absorbed in report]
    assert outcomes == [AbsorbOutcome.STORED, AbsorbOutcome.FAILED, AbsorbOutcome.FAILED, AbsorbOutcome.STORED]
    assert {summary.id for summary in await backend.find(SessionFilter(), limit=9)} == {first.id, last.id}
    assert await backend.read(halfway.id) is None
    assert await backend.schema.verify() == []


async def test_a_lease_is_kept_by_a_change_that_comes_from_a_slow_clock(backend: SqliteBackend) -> None:
    session = stored_session()
    await backend.create(session)
    claimed = await backend.claim_expired(now=LATER, lease=LEASE, limit=1, max_bytes=2**20)

    await backend.apply(session.id, ChangeMaker().change(add_tags=("late",), at=START))
    during = await backend.claim_expired(now=LATER, lease=LEASE, limit=1, max_bytes=2**20)

    assert (len(claimed), len(during)) == (1, 0)


# No rights -----------------------------------------------------------------------------------------


def _without_rights(path: Path, session: StoredSession) -> dict[str, tuple[str, str]]:
    with children(1, "without_rights", path, session.id) as (child,):
        child.go()
        return {what: (outcome, " ".join(more)) for what, outcome, *more in child.ended()}


async def test_a_read_only_file_can_be_read_and_says_that_it_cannot_be_written(open_folder: Path) -> None:
    path = open_folder / "sessions.db"
    session = await _filled_file(path)
    open_folder.chmod(0o777)
    path.chmod(0o444)

    said = _without_rights(path, session)

    assert said["open"][0] == "ok"
    assert said["read"] == ("ok", "100")
    assert said["write"][0] == "StorageReadOnlyError"


async def test_a_read_only_folder_is_a_clear_error(open_folder: Path) -> None:
    path = open_folder / "sessions.db"
    session = await _filled_file(path)
    path.chmod(0o444)
    open_folder.chmod(0o555)

    said = _without_rights(path, session)

    assert said["open"][0] in ("StorageReadOnlyError", "BackendUnavailableError")
    assert said["write"][0] == "BackendClosedError"
    open_folder.chmod(0o755)


async def test_a_file_that_may_not_even_be_read_is_a_clear_error(open_folder: Path) -> None:
    path = open_folder / "sessions.db"
    session = await _filled_file(path)
    path.chmod(0o000)

    said = _without_rights(path, session)

    assert said["open"][0] == "BackendUnavailableError"


async def test_a_new_file_in_a_read_only_folder_is_a_clear_error(open_folder: Path) -> None:
    open_folder.chmod(0o555)
    said = _without_rights(open_folder / "new.db", stored_session())
    assert said["open"][0] == "BackendUnavailableError"
    open_folder.chmod(0o755)


# No room -------------------------------------------------------------------------------------------


async def _bound_pages(backend: SqliteBackend, more: int | None) -> None:
    """Let the writing connection have that many more pages; None: as many as it wants."""
    assert backend._write_thread is not None

    def bound(connection: sqlite3.Connection) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={2**31 - 2 if more is None else pages + more}")

    await backend._write_thread.run(bound)


async def test_a_full_disk_is_reported_nothing_acknowledged_is_lost_and_writing_goes_on_when_there_is_room(
    path: Path, backend: SqliteBackend
) -> None:
    session = stored_session()
    await backend.create(session)
    await _bound_pages(backend, 20)
    make = ChangeMaker()
    kept: list[str] = []

    async def fill_up() -> None:
        while len(kept) < 100:
            query = stored_query(result_summary="x" * 9_000)
            await backend.apply(session.id, make.change(queries=(query,)))
            kept.append(query.body)

    with pytest.raises(StorageFullError, match="nothing changed"):
        await fill_up()
    assert kept
    full = await backend.read(session.id)
    await _bound_pages(backend, None)
    applied = await backend.apply(session.id, make.query())

    assert full is not None
    assert full.queries == kept
    assert applied.total_queries == len(kept) + 1


async def test_on_a_full_disk_what_still_fits_is_written_though_it_shared_a_commit_with_what_does_not(
    backend: SqliteBackend,
) -> None:
    session = stored_session()
    await backend.create(session)
    await _bound_pages(backend, 3)
    make = ChangeMaker()

    small, large, after = await asyncio.gather(
        backend.apply(session.id, make.query()),
        backend.apply(session.id, make.change(queries=(stored_query(result_summary="x" * 200_000),))),
        backend.apply(session.id, make.query()),
        return_exceptions=True,
    )

    assert isinstance(large, StorageFullError)
    assert [small.total_queries, after.total_queries] == [1, 2]  # type: ignore[union-attr]


async def test_a_file_that_may_not_grow_loses_nothing_and_goes_on_when_it_may_again(path: Path) -> None:
    backend = SqliteBackend(path)
    await backend.open()
    session = stored_session(expires_at=START + timedelta(days=36_500))
    await backend.create(session)
    await backend.aclose()

    with children(1, "fill_up", path, session.id, path.stat().st_size + 300_000) as (child,):
        child.go()
        said = child.ended()

    kept = {int(position): query_id for what, query_id, position in (w for w in said if w[0] == "kept")}
    assert {words[1] for words in said if words[0] == "failed"} <= {"StorageFullError", "BackendUnavailableError"}
    assert len(kept) > 5
    async with SessionStore.open(f"sqlite:///{path}", settings=SETTINGS) as store:
        found = await store.get_session(session.id)
    assert found is not None
    assert {query.position: str(query.id) for query in found.state.history.queries} == kept
    assert await SqliteBackend(path).schema.verify() == []
