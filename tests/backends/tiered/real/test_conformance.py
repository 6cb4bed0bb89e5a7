"""Each pair of tiers on real servers, in both modes, keeps every promise that a single backend keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from tests.backends.tiered.real.load import ROUNDS

from perdure.backends import MemoryBackend, MemoryData, SessionBackend
from perdure.backends.redis.backend import RedisBackend
from perdure.backends.sql.postgres import PostgresBackend
from perdure.backends.sql.sqlite import SqliteBackend
from perdure.backends.tiered import TieredBackend
from perdure.testing import BackendConformance, OpenBackend

with_time = pytest.mark.skipif(ROUNDS == 1, reason="`nox -s soak` runs these pairs: both tiers are in others as well")


class OnRedisOverSqlite(BackendConformance):
    acknowledge: Literal["archive", "hot"]

    @pytest.fixture
    def open_backend(self, redis_url: str, tmp_path: Path) -> OpenBackend:
        async def open_backend() -> SessionBackend:
            hot, archive = RedisBackend(redis_url), SqliteBackend(tmp_path / "archive.db")
            backend = TieredBackend(hot, archive, acknowledge=self.acknowledge)
            await backend.open()
            return backend

        return open_backend


@with_time
@pytest.mark.xdist_group("redis over sqlite, archive")
class TestRedisOverSqliteAcknowledgingInTheArchive(OnRedisOverSqlite):
    acknowledge = "archive"


@with_time
@pytest.mark.xdist_group("redis over sqlite, hot")
class TestRedisOverSqliteAcknowledgingInHot(OnRedisOverSqlite):
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


@with_time
@pytest.mark.xdist_group("memory over postgres, archive")
class TestMemoryOverPostgresAcknowledgingInTheArchive(OnMemoryOverPostgres):
    acknowledge = "archive"


@with_time
@pytest.mark.xdist_group("memory over postgres, hot")
class TestMemoryOverPostgresAcknowledgingInHot(OnMemoryOverPostgres):
    acknowledge = "hot"
