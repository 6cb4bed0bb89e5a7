"""A cluster that tests start: what becomes of its slots when a master goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis.cluster import RedisCluster
from redis.crc import key_slot

from perdure.testing.servers import ServerError, ValkeyCluster
from perdure.testing.servers.views import cluster_command

pytestmark = pytest.mark.xdist_group("cluster")

KEYS = [f"key {number}" for number in range(100)]


@contextmanager
def client_of(cluster: ValkeyCluster) -> Iterator[RedisCluster]:
    (port, *_) = [node.port for node in cluster.nodes if node.running and not node.stopped]
    client = RedisCluster("127.0.0.1", port, decode_responses=True)
    try:
        yield client
    finally:
        client.close()


def fill(cluster: ValkeyCluster) -> None:
    """Write every key, and let its replica have it."""
    with client_of(cluster) as client:
        for key in KEYS:
            client.set(key, "value")
    for node in cluster.nodes:
        with node.client() as own:
            if own.info("replication")["role"] == "master":
                own.wait(1, 5_000)


def found(cluster: ValkeyCluster) -> int:
    with client_of(cluster) as client:
        return sum(client.get(key) == "value" for key in KEYS)


def test_it_has_three_masters_with_a_replica_each(cluster_url: str, valkey_cluster: ValkeyCluster) -> None:
    slots = (0, 8_000, 16_383)
    masters = [valkey_cluster.master_of(slot) for slot in slots]
    replicas = [valkey_cluster.replicas_of(slot) for slot in slots]

    assert [len(some) for some in replicas] == [1, 1, 1]
    assert {node.port for node in masters} | {some[0].port for some in replicas} == {
        node.port for node in valkey_cluster.nodes
    }
    assert cluster_url == "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in valkey_cluster.nodes)
    assert len({node.pid for node in valkey_cluster.nodes}) == 6


def test_a_killed_master_is_replaced_by_its_replica_and_comes_back_as_one(
    cluster_url: str, valkey_cluster: ValkeyCluster
) -> None:
    slot = key_slot(KEYS[0].encode())
    fill(valkey_cluster)
    (replica,) = valkey_cluster.replicas_of(slot)

    killed = valkey_cluster.kill_master(of_slot=slot)
    assert killed.running is False
    with pytest.raises(ServerError, match=f"slot {slot} has no master"):
        valkey_cluster.master_of(slot)
    valkey_cluster.wait_until_ok()

    assert valkey_cluster.master_of(slot) is replica
    assert valkey_cluster.replicas_of(slot) == []
    assert found(valkey_cluster) == len(KEYS)

    killed.start()
    valkey_cluster.wait_until_ok()
    assert valkey_cluster.replicas_of(slot) == [killed]


def test_a_stopped_master_is_replaced_too(cluster_url: str, valkey_cluster: ValkeyCluster) -> None:
    slot = key_slot(KEYS[0].encode())
    fill(valkey_cluster)
    master, (replica,) = valkey_cluster.master_of(slot), valkey_cluster.replicas_of(slot)

    master.stop()
    valkey_cluster.wait_until_ok()

    assert valkey_cluster.master_of(slot) is replica
    assert found(valkey_cluster) == len(KEYS)
    master.resume()
    valkey_cluster.wait_until_ok()
    assert valkey_cluster.replicas_of(slot) == [master]


def test_a_failover_swaps_master_and_replica_and_loses_nothing(cluster_url: str, valkey_cluster: ValkeyCluster) -> None:
    fill(valkey_cluster)
    master, (replica,) = valkey_cluster.master_of(16_383), valkey_cluster.replicas_of(16_383)

    successor = valkey_cluster.failover(of_slot=16_383)

    assert successor is replica
    assert valkey_cluster.master_of(16_383) is replica
    assert valkey_cluster.replicas_of(16_383) == [master]
    assert all(node.running for node in valkey_cluster.nodes)
    assert found(valkey_cluster) == len(KEYS)


def test_a_master_that_dies_before_its_replica_heard_takes_what_it_had_acknowledged_along(
    cluster_url: str, valkey_cluster: ValkeyCluster
) -> None:
    slot = key_slot(b"unheard")
    master, (replica,) = valkey_cluster.master_of(slot), valkey_cluster.replicas_of(slot)

    replica.kill()  # a stopped one would still find it in its socket
    with master.client() as client:
        assert client.set("unheard", "acknowledged") is True
    assert valkey_cluster.kill_master(of_slot=slot) is master
    replica.start()
    valkey_cluster.wait_until_ok()

    with replica.client() as client:
        assert client.get("unheard") is None


def test_a_cluster_that_misses_slots_is_not_ok(cluster_url: str, valkey_cluster: ValkeyCluster) -> None:
    (replica,) = valkey_cluster.replicas_of(0)
    master = valkey_cluster.master_of(0)
    replica.kill()
    master.kill()

    with pytest.raises(ServerError, match="not whole after 2 s"):
        valkey_cluster.wait_until_ok(within_seconds=2)


def test_it_is_not_ok_until_a_replica_that_came_back_is_linked(cluster_url: str, valkey_cluster: ValkeyCluster) -> None:
    (replica,) = valkey_cluster.replicas_of(0)
    replica.kill()

    replica.start()  # before anybody has noticed
    valkey_cluster.wait_until_ok()

    with replica.client() as client:
        assert client.info("replication")["master_link_status"] == "up"


def test_it_is_not_ok_while_its_nodes_do_not_agree(cluster_url: str, valkey_cluster: ValkeyCluster) -> None:
    (replica,) = valkey_cluster.replicas_of(0)
    unaware = valkey_cluster.master_of(16_383)
    assert unaware is not valkey_cluster.nodes[0]
    try:
        cluster_command(unaware, "FORGET", cluster_command(replica, "MYID"))

        with pytest.raises(ServerError, match="not whole after 1 s"):
            valkey_cluster.wait_until_ok(within_seconds=1)
    finally:
        valkey_cluster.close()  # it would take a minute to heal


def test_without_a_replica_there_is_no_failover(cluster_url: str, valkey_cluster: ValkeyCluster) -> None:
    (replica,) = valkey_cluster.replicas_of(0)
    replica.kill()
    valkey_cluster.wait_until_ok()

    with pytest.raises(ServerError, match="no running replica of slot 0"):
        valkey_cluster.failover()


@pytest.mark.parametrize("leave", [ValkeyCluster.kill_master, ValkeyCluster.stop, ValkeyCluster.kill, lambda _: None])
def test_each_test_is_given_an_empty_cluster_that_is_whole(
    cluster_url: str, valkey_cluster: ValkeyCluster, leave: Callable[[ValkeyCluster], None]
) -> None:
    with client_of(valkey_cluster) as client:
        assert client.dbsize(target_nodes=RedisCluster.ALL_NODES) == 0

    fill(valkey_cluster)
    leave(valkey_cluster)


def test_data_in_a_given_folder_are_found_by_the_next_cluster(tmp_path: Path) -> None:
    cluster = ValkeyCluster(folder=tmp_path)
    with cluster:
        fill(cluster)
        url = cluster.url
    cluster.close()

    again = ValkeyCluster(folder=tmp_path)
    with again:
        assert found(again) == len(KEYS)
        assert again.url == url
