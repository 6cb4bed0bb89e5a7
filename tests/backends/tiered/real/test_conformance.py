"""Each pair of tiers on real servers, in both modes, keeps every promise that a single backend keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from tests.effort import LONG

from perdure.backends import MemoryBackend, MemoryData, SessionBackend
from perdure.backends.redis.backend import RedisBackend
from perdure.backends.sql.postgres import PostgresBackend
from perdure.backends.sql.sqlite import SqliteBackend
from perdure.backends.tiered import TieredBackend
from perdure.testing import BackendConformance, OpenBackend


class OnRedisOverSqlite(BackendConformance):
    acknowledge: Literal["archive", "hot"]

    @pytest.fixture
    def open_backend(self, redis_url: str, database: Path) -> OpenBackend:
        async def open_backend() -> SessionBackend:
            hot, archive = RedisBackend(redis_url), SqliteBackend(database)
            backend = TieredBackend(hot, archive, acknowledge=self.acknowledge)
            await backend.open()
            return backend

        return open_backend


@pytest.mark.xdist_group("redis over sqlite, archive")
class TestRedisOverSqliteAcknowledgingInTheArchive(OnRedisOverSqlite):
    __test__ = LONG
    acknowledge = "archive"


@pytest.mark.xdist_group("redis over sqlite, hot")
class TestRedisOverSqliteAcknowledgingInHot(OnRedisOverSqlite):
    __test__ = LONG
    acknowledge = "hot"


class OnRedisOverPostgres(BackendConformance):
    acknowledge: Literal["archive", "hot"]

    @pytest.fixture
    def open_backend(self, redis_url: str, archive_url: str) -> OpenBackend:
        async def open_backend() -> SessionBackend:
            hot, archive = RedisBackend(redis_url), PostgresBackend(archive_url)
            backend = TieredBackend(hot, archive, acknowledge=self.acknowledge)
            await backend.open()
            return backend

        return open_backend


@pytest.mark.xdist_group("redis over postgres, archive")
class TestRedisOverPostgresAcknowledgingInTheArchive(OnRedisOverPostgres):
    acknowledge = "archive"


@pytest.mark.xdist_group("redis over postgres, hot")
class TestRedisOverPostgresAcknowledgingInHot(OnRedisOverPostgres):
    acknowledge = "hot"


class OnMemoryOverPostgres(BackendConformance):
    acknowledge: Literal["archive", "hot"]

    @pytest.fixture
    def open_backend(self, archive_url: str) -> OpenBackend:
        data = MemoryData()

        async def open_backend() -> SessionBackend:
            hot, archive = MemoryBackend(data), PostgresBackend(archive_url)
            backend = TieredBackend(hot, archive, acknowledge=self.acknowledge)
            await backend.open()
            return backend

        return open_backend


@pytest.mark.xdist_group("memory over postgres, archive")
class TestMemoryOverPostgresAcknowledgingInTheArchive(OnMemoryOverPostgres):
    __test__ = LONG
    acknowledge = "archive"


@pytest.mark.xdist_group("memory over postgres, hot")
class TestMemoryOverPostgresAcknowledgingInHot(OnMemoryOverPostgres):
    __test__ = LONG
    acknowledge = "hot"
