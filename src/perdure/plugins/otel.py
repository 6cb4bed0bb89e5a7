"""OpenTelemetry: a span for each verb with the calls of its tiers below, and metrics. Needs the extra `perdure[otel]`.

`SessionStore.open(…, plugins=[OpenTelemetry()])`; where spans and metrics go is the application's to configure.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from perdure.errors import MissingExtraError
from perdure.hookspecs import hookimpl
from perdure.models import QueryRecord, SessionSummary
from perdure.models.measures import ABANDONED_BELOW
from perdure.plugins.looking import Look, Looking
from perdure.plugins.names import FewNames
from perdure.store import SessionStore

try:
    from opentelemetry.metrics import Histogram, MeterProvider, get_meter
    from opentelemetry.trace import SpanKind, StatusCode, TracerProvider, get_tracer
except ImportError as error:
    raise MissingExtraError("perdure.plugins.otel", extra="otel") from error

__all__ = ["OpenTelemetry"]

SCOPE = "perdure"
SYSTEMS = {"postgres": "postgresql"}
"""What the semantic conventions call a database, where that is not what perdure does."""


class OpenTelemetry:
    """A plugin that traces and measures what a store does, in the trace of whoever calls.

    Without providers it takes those of the process. It looks at the store every `look_every` for the backlog of the
    sweep. No attribute holds a value of state or parameters, nor the message of an error, which might quote one; of
    the query types, the first 100 are told apart.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        look_every: timedelta = timedelta(seconds=30),
    ) -> None:
        self._tracer = get_tracer(SCOPE, tracer_provider=tracer_provider)
        meter = get_meter(SCOPE, meter_provider=meter_provider)
        self._looking = Looking(self._look, every=look_every, count_every=None)
        self._query_type = FewNames()
        self._verbs = meter.create_histogram("perdure.verb.duration", "s", "How long verbs took.")
        self._tiers = meter.create_histogram("perdure.tier.duration", "s", "How long calls of a tier took.")
        self._sessions = meter.create_counter("perdure.sessions", "{session}", "What happened to sessions.")
        self._queries = meter.create_counter("perdure.queries", "{query}", "Queries tracked.")
        self._failures = meter.create_counter("perdure.hook.failures", "{failure}", "Hooks that raised or hung.")
        self._due = meter.create_gauge("perdure.sweep.backlog", "{session}", "Expired, and not archived yet.")
        self._due_age = meter.create_gauge("perdure.sweep.backlog.age", "s", "How long the longest due has waited.")
        self._degraded = meter.create_gauge("perdure.tier.degraded", "1", "1 while a tier is in trouble.")

    @hookimpl
    def around_verb(self, verb: str, session_id: UUID | None) -> AbstractContextManager[object]:
        """A span for it."""
        about = {} if session_id is None else {"perdure.session.id": str(session_id)}
        return self._span(f"perdure.{verb}", SpanKind.INTERNAL, about, self._verbs, {"perdure.verb": verb})

    @hookimpl
    def around_tier_call(self, tier: str, backend: str, operation: str) -> AbstractContextManager[object]:
        """A span for it, below that of the verb."""
        call = {"perdure.tier": tier, "db.operation.name": operation, "db.system.name": SYSTEMS.get(backend, backend)}
        return self._span(f"{operation} {tier}", SpanKind.CLIENT, {}, self._tiers, call)

    @hookimpl
    def session_created(self) -> None:
        """Count it."""
        self._count("created")

    @hookimpl
    def session_extended(self) -> None:
        """Count it."""
        self._count("extended")

    @hookimpl
    def session_expired(self, session: SessionSummary) -> None:
        """Count it, and whether it was abandoned."""
        self._count("expired")
        if session.total_queries < ABANDONED_BELOW:
            self._count("abandoned")

    @hookimpl
    def session_archived(self) -> None:
        """Count it."""
        self._count("archived")

    @hookimpl
    def session_restored(self) -> None:
        """Count it."""
        self._count("restored")

    @hookimpl
    def session_deleted(self) -> None:
        """Count it."""
        self._count("deleted")

    @hookimpl
    def query_tracked(self, query: QueryRecord) -> None:
        """Count it, by type and whether a cache answered it."""
        self._queries.add(
            1,
            {
                "perdure.query.type": self._query_type(query.query_type),
                "perdure.query.cache_hit": query.cache_hit,
                "perdure.query.failed": query.error is not None,
            },
        )

    @hookimpl
    def hook_failed(self, hook: str, plugin: str, error: str) -> None:
        """Count it."""
        self._failures.add(1, {"perdure.hook": hook, "perdure.plugin": plugin, "error.type": error})

    @hookimpl
    def tier_degraded(self, tier: str) -> None:
        """Note it."""
        self._degraded.set(1, {"perdure.tier": tier})

    @hookimpl
    def tier_recovered(self, tier: str) -> None:
        """Note it."""
        self._degraded.set(0, {"perdure.tier": tier})

    @hookimpl
    async def store_opened(self, store: SessionStore) -> None:
        """Begin to look at it now and then."""
        await self._looking.begin(store)

    @hookimpl
    async def store_closing(self, store: SessionStore) -> None:
        """Look at it no longer."""
        await self._looking.end(store)

    @contextmanager
    def _span(
        self, name: str, kind: SpanKind, about: dict[str, Any], durations: Histogram, call: dict[str, Any]
    ) -> Iterator[None]:
        failed: dict[str, Any] = {}
        began = time.perf_counter()
        # Neither message nor traceback of an exception is recorded: they may quote values.
        with self._tracer.start_as_current_span(
            name, kind=kind, attributes={**about, **call}, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except BaseException as error:
                failed["error.type"] = type(error).__name__
                span.set_attributes(failed)
                span.set_status(StatusCode.ERROR, type(error).__name__)
                raise
            finally:
                durations.record(time.perf_counter() - began, {**call, **failed})

    def _count(self, event: str) -> None:
        self._sessions.add(1, {"perdure.session.event": event})

    def _look(self, look: Look) -> None:
        self._due.set(look.due)
        self._due_age.set(look.backlog_age_s)
