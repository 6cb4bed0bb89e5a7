"""Stores with an observer of each kind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.hooks.observers import AsyncObserver, Observer, opened

from perdure import Session, SessionStore
from perdure.testing import ManualClock


@pytest.fixture
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    with capture_logs() as entries:
        yield entries


@pytest.fixture
def observer() -> Observer:
    return Observer()


@pytest.fixture(params=["plain", "async"])
async def store(request: pytest.FixtureRequest, observer: Observer, clock: ManualClock) -> AsyncIterator[SessionStore]:
    plugin = observer if request.param == "plain" else AsyncObserver(observer)
    async with opened(plugin, clock=clock) as store:
        yield store


@pytest.fixture
async def session(store: SessionStore, observer: Observer) -> Session:
    session = await store.create_session(["AAPL"], "equity", "ann", tags=["t"], context={"k": 1})
    observer.seen.clear()
    return session
