"""Prometheus metrics: `SessionStore.open(…, plugins=[PrometheusMetrics()])`. Needs the extra `perdure[prometheus]`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from math import nan

from perdure.errors import BackendError, MissingExtraError
from perdure.hookspecs import hookimpl
from perdure.models import QueryRecord, SessionSummary
from perdure.models.measures import ABANDONED_BELOW
from perdure.plugins.looking import Look, Looking
from perdure.plugins.names import FewNames
from perdure.store import SessionStore

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
except ImportError as error:
    raise MissingExtraError("perdure.plugins.prometheus", extra="prometheus") from error

__all__ = ["PrometheusMetrics"]

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class PrometheusMetrics:
    """A plugin that counts what a store does into `registry` (the process-wide one); one store for each registry.

    It looks at the store every `look_every` for the backlog of the sweep, and counts active sessions every
    `count_every`, which costs what the active sessions hold; None turns that off. No label holds a value of state or
    parameters; of the query types, the first 100 are told apart.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        look_every: timedelta = timedelta(seconds=30),
        count_every: timedelta | None = timedelta(minutes=5),
    ) -> None:
        registry = REGISTRY if registry is None else registry
        self._looking = Looking(self._look, every=look_every, count_every=count_every)
        self._query_type = FewNames()
        self._make_counters(registry)
        self._make_gauges(registry)
        self._verb_seconds = Histogram(
            "perdure_verb_seconds", "How long verbs took.", ["verb"], registry=registry, buckets=SECONDS
        )
        self._tier_seconds = Histogram(
            "perdure_tier_call_seconds",
            "How long calls of a tier took.",
            ["tier", "operation"],
            registry=registry,
            buckets=SECONDS,
        )

    def _make_counters(self, registry: CollectorRegistry) -> None:
        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(f"perdure_{name}", about, labels, registry=registry)

        self._created = counter("sessions_created", "Sessions created.")
        self._extended = counter("sessions_extended", "Times that the expiry of a session was moved.")
        self._expired = counter("sessions_expired", "Sessions archived because they had expired.")
        self._abandoned = counter("sessions_abandoned", "Sessions that expired with fewer than two queries.")
        self._archived = counter("sessions_archived", "Sessions archived, expired or by hand.")
        self._restored = counter("sessions_restored", "Archived sessions made active again.")
        self._deleted = counter("sessions_deleted", "Sessions deleted; not those deleted by retention.")
        self._queries = counter("queries", "Queries tracked.", "query_type", "cache_hit")
        self._query_errors = counter("query_errors", "Queries tracked with an error.", "query_type")
        self._tier_failures = counter(
            "tier_failures", "Calls that a tier could not answer.", "tier", "operation", "error"
        )
        self._hook_failures = counter("hook_failures", "Hooks that raised or took too long.", "hook", "plugin")

    def _make_gauges(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, about: str, *labels: str) -> Gauge:
            return Gauge(f"perdure_{name}", about, labels, registry=registry)

        self._active = gauge("sessions_active", "Sessions neither expired nor archived; NaN where not known.")
        self._due = gauge("sweep_backlog_sessions", "Expired sessions that wait to be archived, up to 1,000 a tier.")
        self._due_age = gauge("sweep_backlog_age_seconds", "How long the longest due of them has been waiting.")
        self._last_sweep = gauge("last_sweep_timestamp_seconds", "When a sweep last began; NaN where none ever has.")
        self._up = gauge("tier_up", "Whether a tier answered when it was last looked at.", "tier")
        self._degraded = gauge("tier_degraded", "Whether a tier does not answer as it should.", "tier")
        self._active.set(nan)
        self._last_sweep.set(nan)

    @hookimpl
    def session_created(self) -> None:
        """Count it."""
        self._created.inc()

    @hookimpl
    def session_extended(self) -> None:
        """Count it."""
        self._extended.inc()

    @hookimpl
    def session_expired(self, session: SessionSummary) -> None:
        """Count it, and whether it was abandoned."""
        self._expired.inc()
        if session.total_queries < ABANDONED_BELOW:
            self._abandoned.inc()

    @hookimpl
    def session_archived(self) -> None:
        """Count it."""
        self._archived.inc()

    @hookimpl
    def session_restored(self) -> None:
        """Count it."""
        self._restored.inc()

    @hookimpl
    def session_deleted(self) -> None:
        """Count it."""
        self._deleted.inc()

    @hookimpl
    def query_tracked(self, query: QueryRecord) -> None:
        """Count it, by type and whether a cache answered it."""
        query_type = self._query_type(query.query_type)
        self._queries.labels(query_type, str(query.cache_hit).lower()).inc()
        if query.error is not None:
            self._query_errors.labels(query_type).inc()

    @hookimpl
    def hook_failed(self, hook: str, plugin: str) -> None:
        """Count it, by hook and plugin."""
        self._hook_failures.labels(hook, plugin).inc()

    @hookimpl
    def tier_degraded(self, tier: str) -> None:
        """Note it."""
        self._degraded.labels(tier).set(1)

    @hookimpl
    def tier_recovered(self, tier: str) -> None:
        """Note it."""
        self._degraded.labels(tier).set(0)

    @hookimpl
    def around_verb(self, verb: str) -> AbstractContextManager[object]:
        """Time it."""
        return self._verb_seconds.labels(verb).time()

    @hookimpl
    def around_tier_call(self, tier: str, operation: str) -> AbstractContextManager[object]:
        """Time it, and count it where the tier fails: a refusal is an answer."""
        return self._timed(tier, operation)

    @hookimpl
    async def store_opened(self, store: SessionStore) -> None:
        """Begin to look at it now and then."""
        await self._looking.begin(store)

    @hookimpl
    async def store_closing(self, store: SessionStore) -> None:
        """Look at it no longer."""
        await self._looking.end(store)

    @contextmanager
    def _timed(self, tier: str, operation: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        except (BackendError, OSError, TimeoutError) as error:
            self._tier_failures.labels(tier, operation, type(error).__name__).inc()
            raise
        finally:
            self._tier_seconds.labels(tier, operation).observe(time.perf_counter() - began)

    def _look(self, look: Look) -> None:
        self._due.set(look.due)
        self._due_age.set(look.backlog_age_s)
        self._last_sweep.set(nan if look.last_sweep is None else look.last_sweep.timestamp())
        self._active.set(nan if look.active is None else look.active)
        for name, tier in look.health.tiers.items():
            self._up.labels(name).set(tier.ok)
            self._degraded.labels(name)  # 0 from the beginning, so that an alert has something to compare with
