"""The store as threads use it: the same verbs, with nothing to await."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, assert_type
from uuid import UUID

import pytest
from tests.sync.stores import QUIET, price, url_of

from perdure import Session, SessionFilter
from perdure import store as aio
from perdure.analytics import SessionAnalytics
from perdure.errors import (
    BackendClosedError,
    InvalidInputError,
    SessionNotFoundError,
)
from perdure.store import CleanupReport
from perdure.sync import SessionStore, Tracking, UserSessions

# The same verbs ----------------------------------------------------------------------------------------


def public(kind: type) -> dict[str, Any]:
    return {name: verb for name, verb in inspect.getmembers(kind) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("sync", "awaited"), [(SessionStore, aio.SessionStore), (UserSessions, aio.UserSessions)], ids=["store", "user"]
)
def test_every_verb_is_there_with_the_same_parameters_and_waits_by_itself(sync: type, awaited: type) -> None:
    here, there = public(sync), public(awaited)

    own = {"close", "run"} if sync is SessionStore else set()
    assert here.keys() - own == there.keys() - {"aclose"}
    for name in here.keys() - own - {"clock", "settings", "plugins", "open", "import_sessions"}:
        assert (
            list(inspect.signature(here[name]).parameters.values())[1:]
            == (list(inspect.signature(there[name]).parameters.values())[1:])
        ), name
        assert not inspect.iscoroutinefunction(here[name])
        assert inspect.getdoc(here[name])


def test_opening_takes_what_the_other_takes_and_a_timeout() -> None:
    here, there = (inspect.signature(kind.open).parameters for kind in (SessionStore, aio.SessionStore))

    assert {name: given for name, given in here.items() if name != "timeout"} == there


def test_verbs_have_types_of_their_own(store: SessionStore, session: Session) -> None:
    assert_type(store.get_session(session.id, history=1), Session | None)
    assert_type(store.update_context(session.id, focus="margins"), int)
    assert_type(store.cleanup_expired_sessions(limit=1), CleanupReport)
    assert_type(store.for_user("ann").list_user_sessions("ann")[0].id, UUID)
    with pytest.raises(TypeError):
        store.get_session(session.id, histori=1)  # type: ignore[call-arg]


def test_a_whole_life(store: SessionStore) -> None:
    session = store.create_session(["AAPL"], "equity", "ann", ttl_hours=1)
    store.ensure_active(session.id)
    tracked = store.track_query(session.id, price(parameters={"symbol": "AAPL"}))
    store.update_context(session.id, focus="margins")
    session.add_query(price(parameters={"n": 2}))
    store.update_session(session.id, session)

    assert tracked.position == 1
    assert [query.position for query in store.get_queries(session.id)] == [1, 2]
    assert store.get_totals(SessionFilter(user_id="ann")).total_queries == 2
    assert store.archive_session(session.id)
    assert store.extend_session(session.id, 1).is_archived is False
    assert store.delete_session(session.id)
    assert store.get_session(session.id) is None
    assert store.health().ok
    assert not store.settings.sweep_on_open
    assert store.plugins == []


def test_errors_are_those_of_the_verbs(store: SessionStore) -> None:
    with pytest.raises(SessionNotFoundError):
        store.track_query(UUID(int=1), price())
    with pytest.raises(InvalidInputError):
        store.get_session("nonsense")


def test_a_user_sees_only_what_is_theirs(store: SessionStore, session: Session) -> None:
    bob = store.for_user("bob")

    assert bob.get_session(session.id) is None
    assert bob.create_session(["A"], "equity").user_id == "bob"
    with bob.tracking(session.id, "price") as query:
        pass
    assert isinstance(query.failure, SessionNotFoundError)
    with pytest.raises(InvalidInputError):
        store.for_user("")


def test_maintenance_works_and_reports(tmp_path: Path) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    with SessionStore.open(url_of(tmp_path), settings=QUIET, clock=lambda: now) as store:
        session = store.create_session(["A"], "equity", ttl_hours=1)
        now += timedelta(hours=2)
        told: list[int] = []

        assert store.cleanup_expired_sessions(progress=told.append) == CleanupReport(archived=1)
        now += timedelta(days=31)
        assert store.delete_old_archived_sessions(dry_run=True).session_ids == [session.id]
        assert store.delete_old_archived_sessions().deleted == 1
    assert told == [1]


def test_something_async_can_be_run_with_the_store_behind_it(store: SessionStore, session: Session) -> None:
    async def both(store: aio.SessionStore) -> list[Session | None]:
        return list(await asyncio.gather(store.get_session(session.id), store.get_session(UUID(int=1))))

    assert store.run(both) == [session, None]


# Tracking ----------------------------------------------------------------------------------------------


def test_a_block_is_timed_and_recorded(store: SessionStore, session: Session) -> None:
    with store.tracking(session.id, "price", {"symbol": "AAPL"}) as query:
        assert_type(query, Tracking)
        query.result_summary = "$175"
        time.sleep(0.01)

    assert query.tracked is not None
    (kept,) = store.get_queries(session.id)
    assert (kept.parameters, kept.result_summary, kept.position) == ({"symbol": "AAPL"}, "$175", query.tracked.position)
    assert kept.execution_time_ms is not None
    assert kept.execution_time_ms >= 10


def test_a_block_that_raises_is_recorded_and_its_exception_goes_on(store: SessionStore, session: Session) -> None:
    with pytest.raises(TimeoutError, match="no answer"), store.tracking(session.id, "news"):
        raise TimeoutError("no answer")

    assert store.get_queries(session.id)[0].error == "TimeoutError: no answer"


def test_arguments_are_refused_before_the_block(store: SessionStore) -> None:
    with pytest.raises(InvalidInputError):
        store.tracking("nonsense", "price")


def test_a_recording_that_fails_is_noted_or_raised_where_that_is_wanted(store: SessionStore) -> None:
    with store.tracking(UUID(int=1), "price") as query:
        pass
    assert isinstance(query.failure, SessionNotFoundError)

    with pytest.raises(SessionNotFoundError), store.tracking(UUID(int=1), "price", strict=True):
        pass
    with pytest.raises(KeyError), store.tracking(UUID(int=1), "price", strict=True):
        raise KeyError("the block's own")


def test_a_store_that_is_closed_within_the_block_does_not_hide_what_the_block_did(tmp_path: Path) -> None:
    store = SessionStore.open(url_of(tmp_path), settings=QUIET)
    session = store.create_session(["A"], "equity")

    with store.tracking(session.id, "price") as query:
        store.close()

    assert isinstance(query.failure, BackendClosedError)
    with pytest.raises(BackendClosedError), store.tracking(session.id, "price", strict=True):
        pass


# Moving ------------------------------------------------------------------------------------------------


def test_sessions_move_and_are_made_by_the_calling_thread(store: SessionStore, session: Session) -> None:
    store.track_query(session.id, price())
    threads, told = set[str](), list[int]()

    def made() -> Iterator[Session]:
        for found in store.export_sessions():
            threads.add(threading.current_thread().name)
            yield found

    with SessionStore.open("memory://", settings=QUIET) as other:
        report = other.import_sessions(made(), progress=told.append)

        assert (report.stored, told) == (1, [1])
        assert other.get_session(session.id) == store.get_session(session.id)
        assert threads == {threading.current_thread().name}


def test_a_store_takes_what_is_made_with_its_own_help(store: SessionStore) -> None:
    ids = [store.create_session(["A"], "equity").id for _ in range(150)]

    report = store.import_sessions(session for session in map(store.get_session, ids) if session is not None)

    assert (report.unchanged, report.stored) == (150, 0)
    assert len(list(store.export_sessions(SessionFilter(assets=("A",))))) == 150


def test_reports_of_several_batches_add_up(store: SessionStore) -> None:
    sessions = [Session(type="equity", assets=["A"], expires_at=datetime(2030, 1, 1, tzinfo=UTC)) for _ in range(201)]
    told: list[int] = []

    assert store.import_sessions(sessions, progress=told.append).stored == 201
    assert told == [100, 200, 201]


def test_sessions_count_and_what_they_count_is_gathered(store: SessionStore, session: Session) -> None:
    store.track_query(session.id, price())
    store.archive_session(session.id)
    elsewhere = Session(type="macro", assets=["A"], expires_at=datetime(2030, 1, 1, tzinfo=UTC))
    assert store.record_metrics(elsewhere)

    counts = store.measure()
    assert (counts["sessions"], counts["archived"], counts["queries"]) == (2, 2, 1)
    assert {metrics.session_id for metrics in store.session_metrics()} == {session.id, elsewhere.id}
    assert [metrics.session_id for metrics in store.for_user("ann").session_metrics()] == [session.id]

    store.generate_session_metrics()
    assert store.generate_session_metrics() == 0
    assert store.measure() == counts
    since = store.clock() - timedelta(days=1)
    stats = store.run(lambda verbs: SessionAnalytics(verbs).get_session_stats("ann", since=since))
    assert (stats.total_sessions, stats.total_queries) == (1, 1)


def test_an_export_that_is_left_early_leaves_nothing_behind(store: SessionStore) -> None:
    for _ in range(3):
        store.create_session(["A"], "equity")

    assert next(iter(store.export_sessions())) is not None
    gc.collect()

    assert len(list(store.export_sessions())) == 3
