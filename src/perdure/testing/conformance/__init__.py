"""The whole contract of `SessionBackend` as one class of tests, split by idea into the modules beside this one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from perdure.backends import SessionBackend
from perdure.testing.conformance.absorbing import AbsorbingPromises
from perdure.testing.conformance.aggregating import AggregatingPromises
from perdure.testing.conformance.applying import ApplyingPromises
from perdure.testing.conformance.archiving import ArchivingPromises
from perdure.testing.conformance.claiming import ClaimingPromises
from perdure.testing.conformance.concurrency import ConcurrencyPromises
from perdure.testing.conformance.conditions import ConditionPromises
from perdure.testing.conformance.copying import CachingPromises, CopyingPromises
from perdure.testing.conformance.deleting import DeletingPromises
from perdure.testing.conformance.filling import FillingPromises
from perdure.testing.conformance.history import HistoryPromises
from perdure.testing.conformance.lifecycle import LifecyclePromises
from perdure.testing.conformance.listing import ListingPromises
from perdure.testing.conformance.measuring import MeasuringPromises
from perdure.testing.conformance.merging import MergingPromises
from perdure.testing.conformance.purging import PurgingPromises
from perdure.testing.conformance.reading import ReadingPromises
from perdure.testing.conformance.repeats import RepeatPromises
from perdure.testing.conformance.standing import StandingPromises
from perdure.testing.conformance.steps import OpenBackend
from perdure.testing.conformance.sweeping import SweepingPromises
from perdure.testing.conformance.values import ValuePromises

__all__ = ["BackendConformance", "OpenBackend"]


@pytest.mark.asyncio
class BackendConformance(
    LifecyclePromises,
    ReadingPromises,
    ApplyingPromises,
    StandingPromises,
    ConditionPromises,
    RepeatPromises,
    HistoryPromises,
    ListingPromises,
    DeletingPromises,
    ClaimingPromises,
    ArchivingPromises,
    CopyingPromises,
    CachingPromises,
    AbsorbingPromises,
    MergingPromises,
    FillingPromises,
    PurgingPromises,
    AggregatingPromises,
    MeasuringPromises,
    SweepingPromises,
    ValuePromises,
    ConcurrencyPromises,
):
    """Every promise of the backend contract, one test each, for whoever writes a backend.

    Subclass it under a name that pytest collects, and supply one fixture, `open_backend`: an async callable of no
    arguments. Each call gives a freshly opened backend, and all calls within one test give it on the same data, empty
    when the test begins: two calls are two connections, `aclose` and another call is a reopening. The tests close what
    they open. Works in both modes of pytest-asyncio.

        class TestMemoryBackend(BackendConformance):
            @pytest.fixture
            def open_backend(self) -> OpenBackend:
                data = MemoryData()

                async def open_backend() -> SessionBackend:
                    backend = MemoryBackend(data)
                    await backend.open()
                    return backend

                return open_backend
    """

    @pytest_asyncio.fixture
    async def backend(self, open_backend: OpenBackend) -> AsyncIterator[SessionBackend]:
        """One connection."""
        opened = await open_backend()
        yield opened
        await opened.aclose()

    @pytest_asyncio.fixture
    async def other(self, open_backend: OpenBackend) -> AsyncIterator[SessionBackend]:
        """Another connection to the same data."""
        opened = await open_backend()
        yield opened
        await opened.aclose()
