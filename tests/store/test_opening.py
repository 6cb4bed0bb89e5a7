"""Opening and closing a store; the one that a whole program shares."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.store.stores import QUIET, Stores, present

from perdure import QueryRecord, SessionStore, Settings, close_session_store, get_session_store, hookimpl
from perdure.errors import BackendClosedError, ConfigurationError, PerdureError
from perdure.store import default_path


async def every_verb(store: SessionStore) -> list[BaseException]:
    """What each verb raises on a store that is not open."""
    known, query = uuid4(), QueryRecord(query_type="price")
    session = await _session_of_another_store()
    calls: list[Any] = [
        store.create_session(["A"], "equity"),
        store.get_session(known),
        store.save(session),
        store.ensure_active(known),
        store.track_query(known, query),
        store.update_context(known, k=1),
        store.update_preferences(known, k=1),
        store.store_intermediate_result(known, "k", 1),
        store.remove_context(known, "k"),
        store.get_queries(known),
        store.list_sessions(),
        store.list_user_sessions("ann"),
        store.extend_session(known),
        store.archive_session(known),
        store.delete_session(known),
        store.cleanup_expired_sessions(),
        store.delete_old_archived_sessions(),
        store.get_totals(),
        store.import_sessions([session]),
        anext(store.export_sessions()),
    ]
    outcomes: list[BaseException] = await asyncio.gather(*calls, return_exceptions=True)
    return outcomes


async def _session_of_another_store() -> Any:
    async with SessionStore.open("memory://", settings=Settings(**QUIET)) as other:
        session = await other.create_session(["A"], "equity")
    session.tags.append("changed")
    return session


@pytest.mark.parametrize("url", ["memory://", "sqlite:///sessions.db"])
async def test_a_store_that_is_not_open_says_so_whatever_is_asked(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = SessionStore.open(url, settings=Settings(**QUIET))

    assert {type(outcome) for outcome in await every_verb(store)} == {BackendClosedError}
    assert not (await store.health()).ok
    assert list(tmp_path.iterdir()) == []  # nothing happens before it is opened
    async with store:
        await store.create_session(["A"], "equity")
    outcomes = await every_verb(store)
    assert {type(outcome) for outcome in outcomes} == {BackendClosedError}
    assert "use `async with SessionStore.open(…) as store`" in str(outcomes[0])


async def test_a_store_can_be_awaited_and_closed_by_hand() -> None:
    store = await SessionStore.open("memory://")

    session = await store.create_session(["A"], "equity")
    assert await store.get_session(session.id) == session
    await store.aclose()
    await store.aclose()
    with pytest.raises(BackendClosedError):
        await store.get_session(session.id)


async def test_a_store_is_closed_when_its_block_raises() -> None:
    with pytest.raises(ZeroDivisionError):
        async with SessionStore.open("memory://") as store:
            raise ZeroDivisionError
    assert not (await store.health()).ok


class SlowToOpen:
    def __init__(self) -> None:
        self.told = asyncio.Event()

    @hookimpl
    async def store_opened(self) -> None:
        self.told.set()
        await asyncio.Event().wait()


async def test_whoever_is_cancelled_while_opening_leaves_nothing_open(stores: Stores) -> None:
    slow, backend = SlowToOpen(), stores.backend()
    opening = asyncio.create_task(stores.open(backend, plugins=[slow], hook_timeout_seconds=60))
    await slow.told.wait()

    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        _ = await opening

    assert (await backend.health(now=stores.clock())).error is not None


async def test_what_was_acknowledged_is_there_after_opening_again(stores: Stores) -> None:
    store = await stores.open()
    session = await store.create_session(["A"], "equity", context={"k": 1})
    await store.track_query(session.id, QueryRecord(query_type="price"))
    await store.aclose()

    again = await stores.open()

    found = present(await again.get_session(session.id))
    assert (found.state.history.total_queries, found.version) == (1, 2)


async def test_without_a_url_sessions_are_kept_in_one_file_of_the_user(tmp_path: Path) -> None:
    async with SessionStore.open() as store:
        session = await store.create_session(["A"], "equity")

    assert default_path().is_file()
    assert default_path().is_relative_to(tmp_path)
    async with SessionStore.open() as store:
        assert await store.get_session(session.id) is not None


async def test_the_url_comes_from_the_argument_else_the_settings_else_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = {name: f"sqlite:///{tmp_path / name}.db" for name in ("argument", "settings", "environment")}
    monkeypatch.setenv("PERDURE_URL", urls["environment"])

    for expected, how in (
        ("environment", {}),
        ("settings", {"settings": Settings(url=urls["settings"])}),
        ("argument", {"url": urls["argument"], "settings": Settings(url=urls["settings"])}),
    ):
        async with SessionStore.open(**how) as store:
            assert store.settings.url == urls[expected]
        assert (tmp_path / f"{expected}.db").is_file()
        (tmp_path / f"{expected}.db").unlink()


def test_what_cannot_work_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="are the same place"):
        _ = SessionStore.open("memory://", archive="memory://")
    with pytest.raises(ConfigurationError, match="give url"):
        _ = SessionStore.open(archive="sqlite:///archive.db")
    with pytest.raises(ConfigurationError, match="sqlite cannot be a cache in front of an archive"):
        _ = SessionStore.open("sqlite:///hot.db", archive="sqlite:///archive.db")
    with pytest.raises(ConfigurationError, match="acknowledge must be 'archive' or 'hot', not 'never'"):
        _ = SessionStore.open("memory://", acknowledge="never")  # type: ignore[arg-type]
    monkeypatch.setenv("PERDURE_ACKNOWLEDGE", "never")
    with pytest.raises(ConfigurationError, match="acknowledge: Input should be 'archive' or 'hot'"):
        _ = SessionStore.open("memory://")


def test_how_a_write_is_acknowledged_can_be_given() -> None:
    assert SessionStore.open("memory://").settings.acknowledge == "archive"
    assert SessionStore.open("memory://", acknowledge="hot").settings.acknowledge == "hot"


# Shared ------------------------------------------------------------------------------------------------


@pytest.fixture
async def shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[None]:
    monkeypatch.setenv("PERDURE_URL", f"sqlite:///{tmp_path}/shared.db")
    yield
    await close_session_store()


@pytest.mark.usefixtures("shared")
async def test_everybody_in_a_loop_shares_one_store() -> None:
    first = await get_session_store()

    assert await get_session_store() is first
    assert (await first.health()).ok


@pytest.mark.usefixtures("shared")
async def test_first_calls_at_the_same_time_share_one_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = 0
    enter = SessionStore.__aenter__

    async def counting(store: SessionStore) -> SessionStore:
        nonlocal opened
        opened += 1
        return await enter(store)

    monkeypatch.setattr(SessionStore, "__aenter__", counting)

    stores = await asyncio.gather(*(get_session_store() for _ in range(20)))

    assert len(set(map(id, stores))) == 1
    assert opened == 1


@pytest.mark.usefixtures("shared")
async def test_one_who_is_cancelled_while_waiting_takes_the_store_from_nobody() -> None:
    impatient = asyncio.create_task(get_session_store())
    patient = asyncio.create_task(get_session_store())
    await asyncio.sleep(0)

    impatient.cancel()

    with pytest.raises(asyncio.CancelledError):
        _ = await impatient
    assert (await (await patient).health()).ok


async def test_a_start_that_failed_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERDURE_URL", f"sqlite:///{tmp_path}/missing/shared.db")
    for _ in range(2):
        with pytest.raises(PerdureError, match="cannot be opened"):
            _ = await get_session_store()
    monkeypatch.setenv("PERDURE_URL", "nonsense://")
    with pytest.raises(ConfigurationError, match="no backend for 'nonsense'"):
        _ = await get_session_store()
    (tmp_path / "missing").mkdir()
    monkeypatch.setenv("PERDURE_URL", f"sqlite:///{tmp_path}/missing/shared.db")

    store = await get_session_store()

    assert (await store.health()).ok
    await close_session_store()


async def test_closing_after_a_failed_start_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_URL", "nonsense://")
    with pytest.raises(ConfigurationError):
        _ = await get_session_store()

    await close_session_store()


@pytest.mark.usefixtures("shared")
async def test_the_shared_store_is_closed_and_can_be_opened_again() -> None:
    first = await get_session_store()

    await close_session_store()
    await close_session_store()

    assert not (await first.health()).ok
    second = await get_session_store()
    assert second is not first
    assert (await second.health()).ok


@pytest.mark.usefixtures("shared")
async def test_closing_while_it_is_being_opened_leaves_nothing_open() -> None:
    opening = asyncio.create_task(get_session_store())
    await asyncio.sleep(0)

    await close_session_store()

    assert not (await (await opening).health()).ok


def test_each_loop_has_a_store_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_URL", "memory://")

    async def own() -> SessionStore:
        store = await get_session_store()
        await close_session_store()
        return store

    assert asyncio.run(own()) is not asyncio.run(own())
