"""Each pair of tiers, in both modes, keeps every promise that a single backend keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from perdure.backends import MemoryBackend, MemoryData, SessionBackend
from perdure.backends.sql.sqlite import SqliteBackend
from perdure.backends.tiered import TieredBackend
from perdure.testing import BackendConformance, OpenBackend


class OnMemoryOverSqlite(BackendConformance):
    acknowledge: Literal["archive", "hot"]

    @pytest.fixture
    def open_backend(self, database: Path) -> OpenBackend:
        data = MemoryData()

        async def open_backend() -> SessionBackend:
            hot, archive = MemoryBackend(data), SqliteBackend(database)
            backend = TieredBackend(hot, archive, acknowledge=self.acknowledge)
            await backend.open()
            return backend

        return open_backend


class TestMemoryOverSqliteAcknowledgingInTheArchive(OnMemoryOverSqlite):
    acknowledge = "archive"


class TestMemoryOverSqliteAcknowledgingInHot(OnMemoryOverSqlite):
    acknowledge = "hot"


class OnMemoryOverMemory(BackendConformance):
    acknowledge: Literal["archive", "hot"]

    @pytest.fixture
    def open_backend(self) -> OpenBackend:
        fast, durable = MemoryData(), MemoryData()

        async def open_backend() -> SessionBackend:
            backend = TieredBackend(MemoryBackend(fast), MemoryBackend(durable), acknowledge=self.acknowledge)
            await backend.open()
            return backend

        return open_backend


class TestMemoryOverMemoryAcknowledgingInTheArchive(OnMemoryOverMemory):
    acknowledge = "archive"


class TestMemoryOverMemoryAcknowledgingInHot(OnMemoryOverMemory):
    acknowledge = "hot"
