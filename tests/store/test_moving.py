"""Taking whole sessions out and in again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.store.stores import QUIET, Stores, present

from perdure import QueryRecord, Session, SessionFilter, SessionStore, Settings
from perdure.errors import InvalidInputError
from perdure.testing import START, Fault, ManualClock, Moment

HOUR = timedelta(hours=1)


async def several(store: SessionStore, clock: ManualClock) -> list[Session]:
    """Four sessions that differ in what there is to differ in, newest first."""
    one = await store.create_session(["A"], "equity", "ann", tags=["t"], context={"k": {"deep": [1, None, "é"]}})
    two = await store.create_session(["B", "A"], "fixed-income", ttl_hours=1)
    three = await store.create_session(["C"], "crypto", "bob", ttl_hours=100)
    for number in range(3):
        await store.track_query(one.id, QueryRecord(query_type=f"q{number}", cache_hit=True, parameters={"n": number}))
    await store.store_intermediate_result(three.id, "big", 10**30)
    await store.archive_session(three.id)
    clock.advance(2 * HOUR)
    await store.cleanup_expired_sessions()
    four = await store.create_session(["D"], "macro")
    return [present(await store.get_session(each.id)) for each in (four, three, two, one)]


async def exported(store: SessionStore, wanted: SessionFilter | None = None) -> list[Session]:
    return [session async for session in store.export_sessions(wanted)]


@pytest.fixture
async def elsewhere(clock: ManualClock, tmp_path: Path) -> AsyncIterator[list[SessionStore]]:
    """Empty stores of each kind to move to."""
    stores = []
    for url in ("memory://", f"sqlite:///{tmp_path}/elsewhere.db"):
        stores.append(await SessionStore.open(url, settings=Settings(**QUIET), clock=clock))
    yield stores
    for store in stores:
        await store.aclose()


async def test_sessions_arrive_elsewhere_exactly_as_they_were(
    store: SessionStore, clock: ManualClock, elsewhere: list[SessionStore]
) -> None:
    sessions = await several(store, clock)

    for other in elsewhere:
        lines = [json.dumps(session.to_dict()) for session in await exported(store)]
        report = await other.import_sessions(Session.from_dict(json.loads(line)) for line in lines)

        assert (report.stored, report.merged, report.unchanged, report.deleted, report.failed) == (4, 0, 0, 0, {})
        for session in sessions:
            arrived = present(await other.get_session(session.id))
            assert arrived == session
            assert [query.position for query in arrived.state.history.queries] == [
                query.position for query in session.state.history.queries
            ]
        assert (await other.list_sessions()).items == (await store.list_sessions()).items
        assert await exported(other) == await exported(store)


async def test_the_export_takes_all_pages_of_what_matches(
    stores: Stores, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await stores.open()
    sessions = await several(store, clock)
    monkeypatch.setattr("perdure.store.session_store.MAX_PAGE", 2)

    assert await exported(store) == sessions
    assert await exported(store, SessionFilter(user_id="ann")) == [sessions[3]]
    assert await exported(store, SessionFilter(archived=True)) == [sessions[1], sessions[2]]
    assert await exported(store, SessionFilter(user_id="nobody")) == []


async def test_a_session_deleted_during_the_export_is_left_out(store: SessionStore, clock: ManualClock) -> None:
    sessions = await several(store, clock)
    seen: list[UUID] = []

    async for session in store.export_sessions():
        if not seen:
            await store.delete_session(sessions[2].id)
        seen.append(session.id)

    assert seen == [sessions[0].id, sessions[1].id, sessions[3].id]


async def test_importing_again_changes_nothing(
    store: SessionStore, clock: ManualClock, elsewhere: list[SessionStore]
) -> None:
    sessions = await several(store, clock)

    for other in [store, *elsewhere]:
        await other.import_sessions(sessions)
        report = await other.import_sessions(store.export_sessions())

        assert (report.stored, report.merged, report.unchanged) == (0, 0, 4)
        assert await exported(other) == sessions


async def test_a_session_that_is_there_gets_what_it_lacks(
    store: SessionStore, session: Session, elsewhere: list[SessionStore]
) -> None:
    other = elsewhere[0]
    await other.import_sessions([session])
    await store.track_query(session.id, QueryRecord(query_type="later"))
    await store.update_context(session.id, later=1)
    later = present(await store.get_session(session.id))

    report = await other.import_sessions([later])
    assert (report.merged, report.unchanged) == (1, 0)
    assert await other.get_session(session.id) == later
    assert (await other.import_sessions([session])).unchanged == 1  # an earlier state of it
    assert await other.get_session(session.id) == later


async def test_what_was_written_in_both_places_is_united(
    store: SessionStore, session: Session, elsewhere: list[SessionStore]
) -> None:
    other = elsewhere[1]
    await other.import_sessions([session])
    await store.track_query(session.id, QueryRecord(query_type="here"))
    await other.track_query(session.id, QueryRecord(query_type="there"))
    await store.update_context(session.id, here=1)
    await other.update_context(session.id, there=1)

    report = await other.import_sessions(store.export_sessions())

    assert report.merged == 1
    united = present(await other.get_session(session.id))
    assert [query.query_type for query in united.state.history.queries] == ["there", "here"]
    assert united.state.context == {"here": 1, "there": 1}
    assert united.version == 4


async def test_what_was_deleted_stays_deleted(store: SessionStore, session: Session) -> None:
    await store.delete_session(session.id)

    report = await store.import_sessions([session])

    assert (report.deleted, report.stored) == (1, 0)
    assert await store.get_session(session.id) is None


async def test_sessions_go_in_batches_with_progress(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.store.session_store.IMPORT_BATCH", 2)
    store, spy = await stores.spied()
    sessions = [Session(type="equity", assets=["A"], expires_at=START + HOUR) for _ in range(5)]
    seen: list[int] = []

    report = await store.import_sessions(sessions, progress=seen.append)

    assert report.stored == 5
    assert seen == [2, 4, 5]
    assert spy.calls == ["absorb"] * 3
    assert await store.import_sessions([]) == type(report)()


async def test_a_session_that_cannot_be_kept_is_reported_and_stops_no_other(store: SessionStore) -> None:
    good, bad, large = [Session(type="equity", assets=["A"], expires_at=START + HOUR) for _ in range(3)]
    bad.state.context["k"] = b""
    large.state.metadata["k"] = "x" * 300_000

    report = await store.import_sessions([bad, good, large])

    assert report.stored == 1
    assert "context['k']: bytes" in report.failed[bad.id]
    assert "metadata['k'] has 300,002 bytes" in report.failed[large.id]
    assert [summary.id for summary in await store.list_sessions()] == [good.id]


async def test_a_session_of_which_only_a_part_is_loaded_is_not_taken_for_the_whole(
    store: SessionStore, session: Session, elsewhere: list[SessionStore]
) -> None:
    for _ in range(3):
        await store.track_query(session.id, QueryRecord(query_type="price"))
    part = present(await store.get_session(session.id, history=2))

    report = await elsewhere[0].import_sessions([part])

    assert report.failed == {session.id: "2 of 3 queries are loaded; load them all"}
    assert await elsewhere[0].get_session(session.id) is None


async def test_queries_that_were_never_stored_get_their_places(store: SessionStore) -> None:
    session = Session(type="equity", assets=["A"], expires_at=START + HOUR)
    for _ in range(2):
        session.state.history.add_query(QueryRecord(query_type="price"))

    await store.import_sessions([session])

    assert [query.position for query in await store.get_queries(session.id)] == [1, 2]
    assert present(await store.get_session(session.id)).version == 1


@pytest.mark.parametrize("bad", [None, "session", {"id": 5}])
async def test_what_is_no_session_is_refused(bad: Any, stores: Stores) -> None:
    store, spy = await stores.spied()

    with pytest.raises(InvalidInputError, match="expected a Session"):
        await store.import_sessions([bad])
    assert spy.calls == []


async def test_a_session_that_a_backend_fails_to_take_is_reported(stores: Stores, session: Session) -> None:
    from tests.store.stores import SpyingBackend

    from perdure.backends import Absorbed
    from perdure.merging import AbsorbOutcome

    class Refusing(SpyingBackend):
        async def absorb(self, sessions: Any, *, tickets: Any = None) -> list[Absorbed]:
            first, second = sessions
            return [
                Absorbed(first.id, AbsorbOutcome.FAILED, "too wide"),
                Absorbed(second.id, AbsorbOutcome.REFUSED),
            ]

    store = await stores.open(Refusing(stores.backend()))
    other = Session(id=uuid4(), type="equity", assets=["A"], expires_at=START + HOUR)

    report = await store.import_sessions([session, other])

    assert report.failed == {session.id: "too wide", other.id: "refused"}


async def test_an_import_that_failed_is_simply_made_again(stores: Stores, session: Session) -> None:
    for moment in (Moment.BEFORE, Moment.AFTER):
        store, _ = await stores.spied(Fault(1, moment, "absorb"))
        sessions = [Session(type="equity", assets=["A"], expires_at=START + HOUR) for _ in range(3)]
        with pytest.raises(Exception, match="a fault"):
            await store.import_sessions(sessions)

        report = await store.import_sessions(sessions)

        assert report.stored + report.unchanged == 3
        for each in sessions:
            assert (await store.get_session(each.id)) is not None
