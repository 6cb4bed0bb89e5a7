"""Redis keeps the contract on a cluster of three masters."""

from __future__ import annotations

from uuid import uuid4

import pytest
from tests.backends.redis.opening import opener

from perdure.testing import BackendConformance
from perdure.testing.conformance import OpenBackend
from perdure.testing.servers import ValkeyCluster


@pytest.fixture(scope="module")
def whole_cluster(valkey_cluster: ValkeyCluster) -> ValkeyCluster:
    """The cluster, which a test before may have left otherwise."""
    valkey_cluster.resume()
    return valkey_cluster.start()


class TestRedisCluster(BackendConformance):
    @pytest.fixture
    def open_backend(self, whole_cluster: ValkeyCluster) -> OpenBackend:
        # A namespace for each test: to empty the cluster would take as long as most of them.
        return opener(f"{whole_cluster.url}?namespace={uuid4().hex}")
