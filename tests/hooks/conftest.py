"""No settings around the stores, a clock that stands still, and an observer of each kind."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, MutableMapping
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs
from tests.hooks.observers import AsyncObserver, Observer, opened

from perdure import Session, SessionStore
from perdure.testing import ManualClock


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("PERDURE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    with capture_logs() as entries:
        yield entries
    structlog.reset_defaults()


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
