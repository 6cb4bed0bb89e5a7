"""Redis against a small model of the contract: random work of several writers, with lost answers and restarts."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import pytest
from hypothesis.stateful import run_state_machine_as_test
from tests.backends.machine.machine import BackendMachine, effort
from tests.effort import LONG

from perdure.backends import SessionBackend
from perdure.backends.redis.backend import RedisBackend
from perdure.testing.servers import ValkeyServer


class RedisMachine(BackendMachine):
    """One server, emptied for each run; at its end, every index has what belongs there and nothing else."""

    server: ClassVar[ValkeyServer]

    def fresh(self) -> SessionBackend:
        if not hasattr(self, "begun"):
            self.begun = True
            with self.server.client() as client:
                client.flushall()
        return RedisBackend(f"{self.server.url}?buckets=3")

    def teardown(self) -> None:
        super().teardown()
        assert asyncio.run(RedisBackend(f"{self.server.url}?buckets=3").schema.verify()) == []
        with self.server.client() as client:
            kept = {key.rsplit(":", 1)[1] for key in client.keys("*:s:*")}
            listed = {key.rsplit(":", 1)[1] for key in client.keys("*:q:*")}
        assert listed <= kept


@pytest.mark.timeout(3_600 if LONG else 300)
def test_redis_does_what_the_model_does(redis_url: str, valkey_server: ValkeyServer) -> None:
    RedisMachine.server = valkey_server
    run_state_machine_as_test(RedisMachine, settings=effort(40, in_soak=300))
