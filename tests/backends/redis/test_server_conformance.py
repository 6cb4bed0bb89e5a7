"""Redis keeps the contract on every server that is installed."""

from __future__ import annotations

import pytest
from tests.backends.redis.opening import opener

from perdure.testing import BackendConformance
from perdure.testing.conformance import OpenBackend
from perdure.testing.servers import RedisBinary, available_redis_binaries


@pytest.fixture(scope="session", params=available_redis_binaries(), ids=lambda binary: binary.name)
def redis_binary(request: pytest.FixtureRequest) -> RedisBinary:
    binary: RedisBinary = request.param
    return binary


class TestRedisBackend(BackendConformance):
    @pytest.fixture
    def open_backend(self, redis_url: str) -> OpenBackend:
        return opener(redis_url)
