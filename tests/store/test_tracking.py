"""Timing a block of code and recording it, whatever becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from datetime import timedelta
from typing import Any

import pytest
from tests.store.stores import Stores, present

from perdure import QueryRecord, Session, SessionStore, hookimpl
from perdure.errors import (
    BackendUnavailableError,
    InvalidInputError,
    QueryVetoedError,
    SessionExpiredError,
    SessionNotFoundError,
)
from perdure.store import Tracking
from perdure.testing import Fault, ManualClock, Moment

Logs = list[MutableMapping[str, Any]]


async def recorded(store: SessionStore, session: Session) -> QueryRecord:
    """The only query of the session."""
    (query,) = await store.get_queries(session.id)
    return query


async def test_a_block_is_timed_and_recorded_with_what_was_set_in_it(
    store: SessionStore, session: Session, clock: ManualClock
) -> None:
    clock.advance(timedelta(minutes=1))

    async with store.tracking(str(session.id), "price", {"symbol": "AAPL"}) as query:
        await asyncio.sleep(0.002)
        query.result_summary = "AAPL: $175.43"
        query.cache_hit = True
        query.metadata["source"] = "desk"
        query.parameters["currency"] = "USD"
        query.query_type = "quote"

    kept = await recorded(store, session)
    assert (kept.query_type, kept.parameters) == ("quote", {"symbol": "AAPL", "currency": "USD"})
    assert (kept.result_summary, kept.cache_hit, kept.metadata) == ("AAPL: $175.43", True, {"source": "desk"})
    assert (kept.error, kept.timestamp) == (None, clock())
    assert 2 <= present(kept.execution_time_ms) < 5_000
    assert present(query.tracked).position == 1
    assert (present(query.tracked).total_queries, present(query.tracked).version) == (1, 2)
    assert query.failure is None


async def test_the_parameters_given_are_not_changed(store: SessionStore, session: Session) -> None:
    given = {"symbol": "AAPL"}

    async with store.tracking(session.id, "price", given) as query:
        query.parameters["more"] = 1

    assert given == {"symbol": "AAPL"}


async def test_a_failure_is_recorded_and_goes_on(store: SessionStore, session: Session) -> None:
    failure = ValueError("no such symbol")

    tracking = store.tracking(session.id, "price")

    async def block() -> None:
        async with tracking as query:
            query.result_summary = "half of it"
            raise failure

    with pytest.raises(ValueError, match="no such symbol") as caught:
        await block()

    kept = await recorded(store, session)
    assert caught.value is failure
    assert (kept.error, kept.result_summary) == ("ValueError: no such symbol", "half of it")
    assert tracking.error == kept.error
    assert present(tracking.tracked).position == 1


async def test_an_error_that_was_handled_in_the_block_can_be_noted(store: SessionStore, session: Session) -> None:
    async with store.tracking(session.id, "price") as query:
        query.error = "source was slow"

    assert (await recorded(store, session)).error == "source was slow"


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("failure", "kept_as"),
    [
        (UnspeakableError(), "UnspeakableError"),
        (ValueError("x" * 10_000), "ValueError: " + "x" * 487 + "…"),
        (ValueError("nul \0 and \ud800"), "ValueError: nul \\x00 and \\ud800"),
        (KeyboardInterrupt(), "KeyboardInterrupt: "),
    ],
    ids=lambda value: "",
)
async def test_the_text_of_a_failure_is_bounded_and_never_takes_its_place(
    failure: BaseException, kept_as: str, store: SessionStore, session: Session
) -> None:
    with pytest.raises(type(failure)) as caught:
        async with store.tracking(session.id, "price"):
            raise failure

    assert caught.value is failure
    assert (await recorded(store, session)).error == kept_as


class Opaque:
    def __repr__(self) -> str:
        return "<Opaque>"


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError


class Devious:
    dtype = None

    def tolist(self) -> Any:
        raise KeyError("surprise")

    def __repr__(self) -> str:
        return "<Devious>"


async def test_what_cannot_be_encoded_is_recorded_as_its_bounded_repr(store: SessionStore, session: Session) -> None:
    parameters: dict[Any, Any] = {
        "good": {"deep": [1]},
        "date": timedelta(seconds=1),
        "opaque": Opaque(),
        "unprintable": Unprintable(),
        "devious": Devious(),
        "deep": [1, {"nan": float("nan")}],
        "long": [object] * 1_000,
        "it's \\ kept": b"raw",
        7: "number",
        "\0\ud800": "odd key",
    }

    async with store.tracking(session.id, "price", parameters) as query:
        query.result_summary = Opaque()  # type: ignore[assignment]
        query.metadata = [1, 2]  # type: ignore[assignment]
        query.error = "nul \0"

    kept = await recorded(store, session)
    assert len(kept.parameters.pop("long")) == 500
    assert kept.parameters == {
        "good": {"deep": [1]},
        "date": 1.0,
        "opaque": "<Opaque>",
        "unprintable": "<Unprintable whose repr raises RuntimeError>",
        "devious": "<Devious>",
        "deep": "[1, {'nan': nan}]",
        "it's \\ kept": "b'raw'",
        "7": "number",
        "\\x00\\ud800": "odd key",
    }
    assert (kept.result_summary, kept.metadata, kept.error) == ("<Opaque>", {"value": "[1, 2]"}, "nul \\x00")
    assert query.failure is None


async def test_what_is_too_large_is_cut(store: SessionStore, session: Session) -> None:
    async with store.tracking(session.id, "price", {"rows": ["x" * 100] * 5_000}) as query:
        query.result_summary = "é" * 300_000
        query.metadata = {"k": "v"}
        query.error = "e" * 300_000

    kept = await recorded(store, session)
    assert kept.parameters["truncated"].startswith("{'rows': ['xxx")
    assert len(kept.parameters["truncated"]) == 500
    assert kept.result_summary == "é" * 9_999 + "…"
    assert kept.error == "e" * 9_999 + "…"
    assert kept.metadata == {"truncated": "{'k': 'v'}"}
    assert query.failure is None


@pytest.mark.parametrize("bound", [40_000, 5_000, 1_000, 400])
async def test_work_is_recorded_however_small_the_bound(bound: int, stores: Stores, session: Session) -> None:
    store = await stores.open(max_value_bytes=bound)

    async with store.tracking(session.id, "price", {"k": "é" * 50_000}) as query:
        query.result_summary = "é" * 50_000

    kept = await recorded(store, session)
    assert query.failure is None
    assert kept.query_type == "price"
    assert "k" not in kept.parameters


async def test_an_impossible_bound_is_a_failure_that_is_said(stores: Stores, session: Session, logs: Logs) -> None:
    store = await stores.open(max_value_bytes=64)

    async with store.tracking(session.id, "price") as query:
        pass

    assert query.tracked is None
    assert query.failure is not None
    assert [entry["event"] for entry in logs] == ["query.not_recorded"]


@pytest.mark.parametrize("bad", [None, "", " ", 5, "x" * 300, "\0"])
async def test_a_type_made_unusable_in_the_block_is_recorded_as_the_one_given_first(
    bad: Any, store: SessionStore, session: Session
) -> None:
    async with store.tracking(session.id, "price") as query:
        query.query_type = bad

    assert (await recorded(store, session)).query_type == "price"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"query_type": ""}, "query_type must not be empty"),
        ({"query_type": None}, "query_type must be text"),
        ({"query_type": "x" * 257}, "query_type has 257 characters"),
        ({"parameters": "symbol"}, "parameters must be a dict, not str"),
        ({"parameters": ["symbol"]}, "parameters must be a dict"),
    ],
)
async def test_bad_arguments_are_refused_before_the_block_runs(
    arguments: dict[str, Any], message: str, store: SessionStore, session: Session
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        store.tracking(session.id, **{"query_type": "price", **arguments})


async def test_a_recording_that_fails_is_logged_and_noted_and_the_work_is_not_lost(
    stores: Stores, session: Session, logs: Logs
) -> None:
    store, _ = await stores.spied(Fault(1, Moment.BEFORE, "apply"))

    async with store.tracking(session.id, "price", {"secret": "swordfish"}) as query:
        result = 42
        query.result_summary = "also swordfish"

    assert result == 42
    assert query.tracked is None
    assert isinstance(query.failure, BackendUnavailableError)
    (entry,) = logs
    assert entry == {
        "event": "query.not_recorded",
        "log_level": "warning",
        "session_id": str(session.id),
        "query_type": "price",
        "error": "BackendUnavailableError",
    }


async def test_a_session_that_has_ended_or_is_not_there_is_a_failure_of_recording(
    store: SessionStore, session: Session, clock: ManualClock, logs: Logs
) -> None:
    other = await store.create_session(["A"], "equity")
    await store.delete_session(other.id)
    clock.advance(timedelta(days=2))

    async with store.tracking(session.id, "price") as expired:
        pass
    async with store.tracking(other.id, "price") as absent:
        pass

    assert isinstance(expired.failure, SessionExpiredError)
    assert isinstance(absent.failure, SessionNotFoundError)


async def test_strict_tracking_raises_what_recording_raised(stores: Stores, session: Session, logs: Logs) -> None:
    store, _ = await stores.spied(Fault(1, Moment.BEFORE, "apply"), Fault(2, Moment.BEFORE, "apply"))

    with pytest.raises(BackendUnavailableError):
        async with store.tracking(session.id, "price", strict=True):
            pass
    with pytest.raises(ValueError, match="of the block"):  # which matters more
        async with store.tracking(session.id, "price", strict=True):
            raise ValueError("of the block")
    assert len(logs) == 2


async def test_a_cancelled_block_is_recorded_as_cancelled(store: SessionStore, session: Session) -> None:
    inside = asyncio.Event()

    async def work() -> None:
        async with store.tracking(session.id, "price"):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await recorded(store, session)).error == "cancelled"


async def test_being_cancelled_while_recording_loses_no_record(stores: Stores, session: Session) -> None:
    store, spy = await stores.spied()
    spy.gate.clear()
    queries: list[Tracking] = []

    async def work() -> None:
        async with store.tracking(session.id, "price") as query:
            queries.append(query)
            query.result_summary = "done"

    task = asyncio.create_task(work())
    await spy.arrived.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    spy.gate.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    kept = await recorded(store, session)
    assert (kept.result_summary, kept.error) == ("done", None)
    assert present(queries[0].tracked).position == 1


async def test_being_cancelled_while_a_recording_fails_is_noted_all_the_same(
    stores: Stores, session: Session, logs: Logs
) -> None:
    store, spy = await stores.spied(Fault(1, Moment.BEFORE, "apply"))
    spy.gate.clear()
    queries: list[Tracking] = []

    async def work() -> None:
        async with store.tracking(session.id, "price") as query:
            queries.append(query)

    task = asyncio.create_task(work())
    await spy.arrived.wait()
    task.cancel()
    await asyncio.sleep(0)
    spy.gate.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance(queries[0].failure, BackendUnavailableError)
    assert [entry["event"] for entry in logs] == ["query.not_recorded"]


async def test_a_recording_that_is_cancelled_by_the_backend_reaches_the_caller(
    stores: Stores, session: Session
) -> None:
    store, _ = await stores.spied(Fault(1, Moment.CANCEL_AFTER, "apply"))

    with pytest.raises(asyncio.CancelledError):
        async with store.tracking(session.id, "price"):
            pass
    assert len(await store.get_queries(session.id)) == 1


class Redacts:
    """Knows by its key what must not be stored."""

    @hookimpl
    def prepare_query(self, query: QueryRecord) -> QueryRecord:
        kept = {key: value for key, value in query.parameters.items() if key != "password"}
        return query.model_copy(update={"parameters": kept})


async def test_what_is_cut_has_been_redacted_before(stores: Stores, session: Session) -> None:
    store = await stores.open(plugins=[Redacts()])

    async with store.tracking(session.id, "login", {"password": "swordfish", "rows": "x" * 300_000}):
        pass

    kept = await recorded(store, session)
    assert "rows" in kept.parameters["truncated"]
    assert "swordfish" not in repr(kept)


async def test_a_veto_is_a_failure_of_recording(stores: Stores, session: Session, logs: Logs) -> None:
    class Vetoes:
        @hookimpl
        def prepare_query(self, query: QueryRecord) -> None:
            raise PermissionError("not this one")

    store = await stores.open(plugins=[Vetoes()])

    async with store.tracking(session.id, "price") as query:
        pass

    assert isinstance(query.failure, QueryVetoedError)
    assert await store.get_queries(session.id) == []
