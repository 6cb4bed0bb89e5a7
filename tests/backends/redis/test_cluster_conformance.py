"""Redis keeps the contract on a cluster of three masters."""

from __future__ import annotations

import pytest
from tests.backends.redis.opening import opener

from perdure.testing import BackendConformance
from perdure.testing.conformance import OpenBackend


class TestRedisCluster(BackendConformance):
    @pytest.fixture
    def open_backend(self, cluster_url: str) -> OpenBackend:
        return opener(cluster_url)
