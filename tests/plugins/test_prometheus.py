"""Metrics as Prometheus sees them: scraped from a real endpoint."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.parser import text_string_to_metric_families
from tests.plugins.watched import QUIET, SECRET, live, two_tiers, until, waiting
from tests.store.stores import Brings

from perdure import QueryRecord, SessionStore
from perdure import sync as blocking
from perdure.backends import DUE_COUNTED, MemoryBackend, MemoryData
from perdure.plugins.names import FewNames
from perdure.plugins.prometheus import PrometheusMetrics
from perdure.testing import stored_session

OFTEN = timedelta(seconds=0.01)


class Endpoint:
    """A registry, and what is read from it over HTTP."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._server, self._thread = start_http_server(0, addr="127.0.0.1", registry=self.registry)
        self.url = f"http://127.0.0.1:{self._server.server_port}/metrics"

    def text(self) -> str:
        with urllib.request.urlopen(self.url, timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    def value(self, name: str, **labels: str) -> float | None:
        for family in text_string_to_metric_families(self.text()):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return float(sample.value)
        return None

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    served = Endpoint()
    yield served
    served.close()


async def test_what_happens_to_sessions_and_queries_is_counted(endpoint: Endpoint) -> None:
    await live(PrometheusMetrics(endpoint.registry))

    counted = {
        "perdure_sessions_created_total": 4,
        "perdure_sessions_extended_total": 1,
        "perdure_sessions_restored_total": 1,
        "perdure_sessions_expired_total": 2,
        "perdure_sessions_abandoned_total": 1,
        "perdure_sessions_archived_total": 3,
        "perdure_sessions_deleted_total": 1,
    }
    assert {name: endpoint.value(name) for name in counted} == counted
    queries = {
        pair: endpoint.value("perdure_queries_total", query_type=pair[0], cache_hit=pair[1])
        for pair in (("price", "true"), ("price", "false"), ("news", "false"))
    }
    assert queries == {("price", "true"): 2, ("price", "false"): 1, ("news", "false"): 1}
    assert endpoint.value("perdure_query_errors_total", query_type="news") == 1
    assert endpoint.value("perdure_hook_failures_total", hook="session_deleted", plugin="Broken") == 1


async def test_verbs_and_tier_calls_are_timed(endpoint: Endpoint) -> None:
    await live(PrometheusMetrics(endpoint.registry))

    assert endpoint.value("perdure_verb_seconds_count", verb="track_query") == 3
    assert endpoint.value("perdure_verb_seconds_count", verb="tracking") == 1
    assert endpoint.value("perdure_tier_call_seconds_count", tier="store", operation="create") == 4
    created = endpoint.value("perdure_tier_call_seconds_sum", tier="store", operation="create")
    assert created is not None
    assert 0 < created < 5
    assert endpoint.value("perdure_tier_call_seconds_bucket", tier="store", operation="create", le="10.0") == 4
    # a refusal (the session was archived) is an answer
    assert "perdure_tier_failures_total{" not in endpoint.text()


async def test_no_value_of_a_session_is_in_any_label(endpoint: Endpoint) -> None:
    await live(PrometheusMetrics(endpoint.registry))

    assert SECRET not in endpoint.text()


async def test_a_backlog_shows_with_its_age_and_goes_with_the_sweep(endpoint: Endpoint, tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    await waiting(path, timedelta(hours=3), timedelta(hours=1))
    metrics = PrometheusMetrics(endpoint.registry, look_every=OFTEN, count_every=OFTEN)
    assert math.isnan(endpoint.value("perdure_sessions_active") or 0)

    async with SessionStore.open(f"sqlite:///{path}", settings=QUIET, plugins=[metrics]) as store:
        await until(lambda: endpoint.value("perdure_sweep_backlog_sessions") == 2)
        assert 10_800 <= (endpoint.value("perdure_sweep_backlog_age_seconds") or 0) < 10_900
        assert endpoint.value("perdure_tier_up", tier="store") == 1
        assert math.isnan(endpoint.value("perdure_last_sweep_timestamp_seconds") or 0)
        await until(lambda: endpoint.value("perdure_sessions_active") == 1)

        await store.cleanup_expired_sessions()
        await until(lambda: endpoint.value("perdure_sweep_backlog_sessions") == 0)
        assert endpoint.value("perdure_sweep_backlog_age_seconds") == 0
        await until(lambda: (endpoint.value("perdure_last_sweep_timestamp_seconds") or 0) > 1e9)
        assert endpoint.value("perdure_sessions_active") == 1


async def test_a_sweep_makes_nothing_active_that_was_not_when_it_was_counted(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    path = tmp_path / "kept.db"
    await waiting(path, timedelta(hours=3), timedelta(hours=1))
    metrics = PrometheusMetrics(endpoint.registry, look_every=OFTEN)

    async with SessionStore.open(f"sqlite:///{path}", settings=QUIET, plugins=[metrics]) as store:
        await until(lambda: endpoint.value("perdure_sessions_active") == 1)
        await store.cleanup_expired_sessions()
        await until(lambda: endpoint.value("perdure_sweep_backlog_sessions") == 0)

        assert endpoint.value("perdure_sessions_active") == 1


async def test_what_is_active_behind_a_backlog_too_long_to_be_counted_is_not_known(endpoint: Endpoint) -> None:
    data = MemoryData()
    backend = MemoryBackend(data)
    await backend.open()
    await backend.absorb([stored_session() for _ in range(DUE_COUNTED)])
    metrics = PrometheusMetrics(endpoint.registry, look_every=OFTEN)

    brings = Brings(MemoryBackend(data))
    async with SessionStore.open("held://", settings=QUIET, plugins=[brings, metrics]):
        await until(lambda: endpoint.value("perdure_sweep_backlog_sessions") == DUE_COUNTED)

        assert math.isnan(endpoint.value("perdure_sessions_active") or 0)


async def test_after_closing_nobody_looks_any_more(endpoint: Endpoint) -> None:
    before = asyncio.all_tasks()
    async with SessionStore.open(
        "memory://", settings=QUIET, plugins=[PrometheusMetrics(endpoint.registry, look_every=OFTEN)]
    ):
        assert len(asyncio.all_tasks() - before) == 1

    assert asyncio.all_tasks() == before


async def test_counting_can_be_turned_off(endpoint: Endpoint) -> None:
    metrics = PrometheusMetrics(endpoint.registry, look_every=OFTEN, count_every=None)
    async with SessionStore.open("memory://", settings=QUIET, plugins=[metrics]):
        await until(lambda: endpoint.value("perdure_tier_up", tier="store") == 1)

    assert endpoint.value("perdure_tier_call_seconds_count", tier="store", operation="aggregate") is None
    assert math.isnan(endpoint.value("perdure_sessions_active") or 0)


async def test_tiers_are_told_apart_and_one_that_fails_shows(endpoint: Endpoint) -> None:
    metrics = PrometheusMetrics(endpoint.registry, look_every=OFTEN, count_every=None)
    store, hot, _ = two_tiers(metrics, tier_retry_seconds=0.01)
    async with store:
        session = await store.create_session(["A"], "equity")
        await until(lambda: endpoint.value("perdure_tier_up", tier="archive") == 1)
        assert endpoint.value("perdure_tier_degraded", tier="hot") == 0
        assert endpoint.value("perdure_tier_call_seconds_count", tier="archive", operation="create") == 1

        hot.calls_until_dead = 0
        await store.get_session(session.id)
        assert endpoint.value("perdure_tier_degraded", tier="hot") == 1
        failures = endpoint.value(
            "perdure_tier_failures_total", tier="hot", operation="cache.read", error="BackendUnavailableError"
        )
        assert failures == 1

        hot.calls_until_dead = None
        await store.get_session(session.id)
        assert endpoint.value("perdure_tier_degraded", tier="hot") == 0


def test_threads_are_counted_with_the_rest(endpoint: Endpoint) -> None:
    metrics = PrometheusMetrics(endpoint.registry)
    with blocking.SessionStore.open("memory://", settings=QUIET, plugins=[metrics]) as store:
        session = store.create_session(["A"], "equity")
        with store.tracking(session.id, "price"):
            pass

    assert endpoint.value("perdure_queries_total", query_type="price", cache_hit="false") == 1
    assert endpoint.value("perdure_verb_seconds_count", verb="tracking") == 1


async def test_query_types_without_end_are_no_series_without_end(endpoint: Endpoint) -> None:
    async with SessionStore.open("memory://", settings=QUIET, plugins=[PrometheusMetrics(endpoint.registry)]) as store:
        session = await store.create_session(["A"], "equity")
        for number in range(105):
            await store.track_query(session.id, QueryRecord(query_type=f"kind-{number}"))

    assert endpoint.value("perdure_queries_total", query_type="kind-99", cache_hit="false") == 1
    assert endpoint.value("perdure_queries_total", query_type="other", cache_hit="false") == 5


def test_names_that_are_known_stay_known() -> None:
    few = FewNames(2)

    assert [few(name) for name in ("a", "b", "c", "a", "b")] == ["a", "b", "other", "a", "b"]


def test_without_prometheus_the_extra_is_named() -> None:
    program = "import sys; sys.modules['prometheus_client'] = None; import perdure.plugins.prometheus"

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert "pip install 'perdure[prometheus]'" in ran.stderr.splitlines()[-1]
