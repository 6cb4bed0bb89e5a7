"""What plugins may implement; each is called by `perdure.store` and known to nobody below it.

Observers run after the write was committed, plain or `async`; one that raises or hangs is logged by name and disturbs
nobody. `event_id` is stable: an event that is delivered again, after a crash, has the same one. Of what retention
removes they are told before it does, since afterwards nothing is left to tell again. `prepare_query` runs before
anything is stored, and fails closed. The `around_…` hooks are plain, and so is what they give back: it is
entered before a call and left after it, in the task of whoever made the call.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

import pluggy

from perdure.models import QueryRecord, Session, SessionMetrics, SessionSummary

__all__ = ["NAMESPACE", "hookimpl", "hookspec"]

NAMESPACE = "perdure"

hookspec = pluggy.HookspecMarker(NAMESPACE)
hookimpl = pluggy.HookimplMarker(NAMESPACE)
"""Marks the methods of a plugin that implement a hook."""


@hookspec
def session_created(session: Session) -> None:
    """A session was created."""


@hookspec
def session_updated(session_id: UUID, version: int) -> None:
    """Something other than its queries or its expiry was changed in a session."""


@hookspec
def query_tracked(session_id: UUID, query: QueryRecord) -> None:
    """A query was stored, at `query.position`."""


@hookspec
def session_extended(session: Session) -> None:
    """The expiry of a session was moved."""


@hookspec
def session_expired(session: SessionSummary, event_id: str) -> None:
    """A session was found expired, and is in the archive now."""


@hookspec
def session_archived(session: SessionSummary, metrics: SessionMetrics | None, event_id: str) -> None:
    """A session was moved to the archive; `metrics` are None where analytics are off."""


@hookspec
def session_restored(session: Session) -> None:
    """An archived session was made active again by extending it."""


@hookspec
def session_past_retention(session_id: UUID, event_id: str) -> None:
    """An archived session is past its retention, and is removed next, unless it is restored in this moment."""


@hookspec
def session_deleted(session_id: UUID) -> None:
    """A session was deleted by `delete_session`."""


@hookspec
def tier_degraded(tier: str, reason: str) -> None:
    """A tier stopped answering as it should."""


@hookspec
def tier_recovered(tier: str) -> None:
    """A tier answers again."""


@hookspec
def prepare_query(session_id: UUID, query: QueryRecord) -> QueryRecord | None:
    """Change a query before it is stored: give back another record, None to leave it, or raise to veto it."""


@hookspec
def around_verb(verb: str, session_id: UUID | None) -> AbstractContextManager[object] | None:
    """Watch a verb: give back what is to be entered around it, or None."""


@hookspec
def around_tier_call(tier: str, backend: str, operation: str) -> AbstractContextManager[object] | None:
    """Watch a call that a tier is asked to answer: give back what is to be entered around it, or None."""


@hookspec
def hook_failed(hook: str, plugin: str, error: str) -> None:
    """A hook of a plugin raised or took too long; `error` is the name of what it raised; plain functions only."""


@hookspec
def store_opened(store: Any) -> None:
    """A store was opened, and takes calls from now on."""


@hookspec
def store_closing(store: Any) -> None:
    """A store is about to be closed; it takes calls until every plugin has been told."""


@hookspec
def register_backends(backends: Mapping[str, Any]) -> None:
    """Add URL schemes: put `scheme: factory` into `backends`; a factory takes the URL and gives a `SessionBackend`."""
