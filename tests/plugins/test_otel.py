"""Spans and metrics, as an exporter in memory receives them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from tests.plugins.watched import QUIET, SECRET, live, two_tiers, until, waiting

from perdure import QueryRecord, SessionStore
from perdure import sync as blocking
from perdure.errors import SessionNotFoundError
from perdure.plugins.otel import OpenTelemetry


class Telemetry:
    """What was exported."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self.tracer = self.tracers.get_tracer("caller")

    def plugin(self, **options: Any) -> OpenTelemetry:
        return OpenTelemetry(tracer_provider=self.tracers, meter_provider=self.meters, **options)

    def spans(self) -> list[ReadableSpan]:
        """Every span, but those of looking at the store."""
        return [span for span in self.exporter.get_finished_spans() if span.name != "perdure.health"]

    def only(self, name: str) -> ReadableSpan:
        (span,) = [span for span in self.spans() if span.name == name]
        return span

    def parent_of(self, span: ReadableSpan) -> ReadableSpan | None:
        found = [one for one in self.spans() if span.parent is not None and one.context == span.parent]
        return found[0] if found else None

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """Attributes and data point of each series of a metric."""
        data = self.reader.get_metrics_data()
        metrics = [] if data is None else [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
        return [
            (dict(point.attributes or {}), point)
            for metric in metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def value(self, name: str, **attributes: Any) -> Any:
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        for found, point in self.points(name):
            if found == wanted:
                return point.value
        return None


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    found = Telemetry()
    yield found
    found.tracers.shutdown()
    found.meters.shutdown()


async def test_a_verb_is_a_span_in_the_caller_s_trace_with_its_tier_calls_below(telemetry: Telemetry) -> None:
    async with SessionStore.open("memory://", settings=QUIET, plugins=[telemetry.plugin()]) as store:
        session = await store.create_session(["A"], "equity")
        with telemetry.tracer.start_as_current_span("request"):
            await store.track_query(session.id, QueryRecord(query_type="price"))

    verb, call = telemetry.only("perdure.track_query"), telemetry.only("apply store")
    assert telemetry.parent_of(call) is verb
    assert telemetry.parent_of(verb) is telemetry.only("request")
    assert (verb.kind, call.kind) == (SpanKind.INTERNAL, SpanKind.CLIENT)
    assert verb.attributes == {"perdure.verb": "track_query", "perdure.session.id": str(session.id)}
    assert call.attributes == {
        "perdure.tier": "store",
        "db.operation.name": "apply",
        "db.system.name": "memory",
    }
    assert verb.status.status_code is StatusCode.UNSET


async def test_a_tracked_block_spans_what_is_done_within_it(telemetry: Telemetry) -> None:
    async with SessionStore.open("memory://", settings=QUIET, plugins=[telemetry.plugin()]) as store:
        session = await store.create_session(["A"], "equity")
        async with store.tracking(session.id, "price"):
            with telemetry.tracer.start_as_current_span("fetch"):
                await asyncio.sleep(0)

    block = telemetry.only("perdure.tracking")
    assert telemetry.parent_of(telemetry.only("fetch")) is block
    assert telemetry.parent_of(telemetry.only("apply store")) is block


def test_threads_are_traced_in_their_own_trace(telemetry: Telemetry) -> None:
    with blocking.SessionStore.open("memory://", settings=QUIET, plugins=[telemetry.plugin()]) as store:
        session = store.create_session(["A"], "equity")
        with telemetry.tracer.start_as_current_span("request"), store.tracking(session.id, "price"):
            store.update_context(session.id, focus="margins")

    block, verb = telemetry.only("perdure.tracking"), telemetry.only("perdure.update_context")
    assert telemetry.parent_of(block) is telemetry.only("request")
    assert telemetry.parent_of(verb) is block
    parents = [telemetry.parent_of(span) for span in telemetry.spans() if span.name == "apply store"]
    assert parents == [verb, block]


async def test_what_is_written_together_is_below_one_who_asked_for_it(telemetry: Telemetry, tmp_path: Path) -> None:
    async with SessionStore.open(
        f"sqlite:///{tmp_path / 'kept.db'}", settings=QUIET, plugins=[telemetry.plugin()]
    ) as store:
        session = await store.create_session(["A"], "equity")

        async def request(number: int) -> None:
            with telemetry.tracer.start_as_current_span(f"request {number}"):
                await store.track_query(session.id, QueryRecord(query_type="price"))

        await asyncio.gather(*map(request, range(10)))

    calls = [span for span in telemetry.spans() if span.name == "apply store"]
    assert 2 <= len(calls) < 10
    grandparents = set()
    for call in calls:
        verb = telemetry.parent_of(call)
        assert verb is not None
        assert verb.name == "perdure.track_query"
        grandparents.add(getattr(telemetry.parent_of(verb), "name", None))
    assert len(grandparents) == len(calls)
    assert {"request 0", "request 1"} <= grandparents


async def test_what_a_verb_raises_is_named_without_its_message(telemetry: Telemetry) -> None:
    async with SessionStore.open("memory://", settings=QUIET, plugins=[telemetry.plugin()]) as store:
        session = await store.create_session(["A"], "equity")
        await store.delete_session(session.id)
        with pytest.raises(SessionNotFoundError):
            await store.update_context(session.id, k=1)

    for name in ("perdure.update_context", "apply store"):
        span = telemetry.only(name)
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description == "SessionNotFoundError"
        assert (span.attributes or {})["error.type"] == "SessionNotFoundError"
        assert span.events == ()


async def test_no_value_of_a_session_is_exported(telemetry: Telemetry) -> None:
    await live(telemetry.plugin())

    spans = "".join(span.to_json() for span in telemetry.spans())
    data = telemetry.reader.get_metrics_data()
    assert data is not None
    metrics = data.to_json()
    assert "TimeoutError" in spans
    assert "perdure.queries" in metrics
    assert SECRET not in spans + metrics


async def test_events_and_durations_are_measured(telemetry: Telemetry) -> None:
    await live(telemetry.plugin())

    events = {
        attributes["perdure.session.event"]: point.value for attributes, point in telemetry.points("perdure.sessions")
    }
    assert events == {
        "created": 4,
        "extended": 1,
        "restored": 1,
        "expired": 2,
        "abandoned": 1,
        "archived": 3,
        "deleted": 1,
    }
    queries = {tuple(attributes.values()): point.value for attributes, point in telemetry.points("perdure.queries")}
    assert queries == {("price", True, False): 2, ("price", False, False): 1, ("news", False, True): 1}
    failures = telemetry.points("perdure.hook.failures")
    assert [(attributes["perdure.plugin"], point.value) for attributes, point in failures] == [("Broken", 1)]
    verbs = {
        (attributes["perdure.verb"], attributes.get("error.type")): point.count
        for attributes, point in telemetry.points("perdure.verb.duration")
    }
    assert verbs[("create_session", None)] == 4
    assert verbs[("tracking", "TimeoutError")] == 1
    assert verbs[("update_context", "SessionArchivedError")] == 1
    tiers = {attributes["db.operation.name"]: point for attributes, point in telemetry.points("perdure.tier.duration")}
    assert tiers["create"].count == 4
    assert 0 < tiers["create"].sum < 5


async def test_a_backlog_is_measured_with_its_age(telemetry: Telemetry, tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    await waiting(path, timedelta(hours=3))
    plugin = telemetry.plugin(look_every=timedelta(seconds=0.01))
    async with SessionStore.open(f"sqlite:///{path}", settings=QUIET, plugins=[plugin]) as store:
        await until(lambda: telemetry.value("perdure.sweep.backlog") == 1)
        await until(lambda: 10_800 <= (telemetry.value("perdure.sweep.backlog.age") or 0) < 10_900)

        await store.cleanup_expired_sessions()
        await until(lambda: telemetry.value("perdure.sweep.backlog") == 0)
        await until(lambda: telemetry.value("perdure.sweep.backlog.age") == 0)


async def test_a_tier_that_fails_shows_in_spans_and_metrics(telemetry: Telemetry) -> None:
    store, hot, _ = two_tiers(telemetry.plugin(), tier_retry_seconds=0.01)
    async with store:
        session = await store.create_session(["A"], "equity")
        hot.calls_until_dead = 0
        await store.get_session(session.id)
        degraded = telemetry.value("perdure.tier.degraded", perdure__tier="hot")
        hot.calls_until_dead = None
        await store.get_session(session.id)

    assert degraded == 1
    assert telemetry.value("perdure.tier.degraded", perdure__tier="hot") == 0
    failed = next(span for span in telemetry.spans() if span.name == "cache.read hot")
    assert failed.status.description == "BackendUnavailableError"
    assert getattr(telemetry.parent_of(failed), "name", None) == "perdure.get_session"


def test_without_opentelemetry_the_extra_is_named() -> None:
    program = "import sys; sys.modules['opentelemetry'] = None; import perdure.plugins.otel"

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert "pip install 'perdure[otel]'" in ran.stderr.splitlines()[-1]
