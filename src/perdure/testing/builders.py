"""What backends take, made with few words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Unpack

from uuid_utils.compat import uuid7

from perdure.changes import Draft, SessionChange, count_queries, entry_bytes
from perdure.models import SECTIONS, QueryRecord, SectionName, StoredQuery, StoredSession, store_query
from perdure.values import encode, encode_default

__all__ = ["START", "ChangeMaker", "stored_query", "stored_session"]

START = datetime(2026, 1, 1, tzinfo=UTC)
"""When sessions of `stored_session` were created."""


def stored_query(query_type: str = "price", **fields: Any) -> StoredQuery:
    """A query as backends keep it, at `START` unless `timestamp` says otherwise."""
    return store_query(QueryRecord(**{"timestamp": START, "query_type": query_type, **fields}), encoder=encode_default)


def stored_session(
    *,
    queries: tuple[StoredQuery, ...] = (),
    sections: Mapping[SectionName, Mapping[str, Any]] | None = None,
    **facts: Any,
) -> StoredSession:
    """A whole session as backends keep it, an hour to live from `START`; counters and sizes are made to fit."""
    session = StoredSession(
        **{
            "id": uuid7(),
            "user_id": "analyst",
            "type": "equity",
            "assets": ("AAPL",),
            "tags": (),
            "created_at": START,
            "expires_at": START + timedelta(hours=1),
            "last_accessed_at": START,
            "head": uuid7().hex,
            **facts,
        }
    )
    for name in SECTIONS:
        values = (sections or {}).get(name, {})
        session.sections[name] = {key: encode(value, name=key, encoder=encode_default) for key, value in values.items()}
        session.state_bytes += sum(entry_bytes(key, text) for key, text in session.sections[name].items())
    count_queries(session, queries)
    session.queries = [query.body for query in queries]
    return session


class ChangeMaker:
    """One writer: makes changes whose ids grow."""

    def __init__(self) -> None:
        self.writer = uuid7()
        self._numbers = count(1)

    def change(self, *, at: datetime = START, **content: Unpack[Draft]) -> SessionChange:  # type: ignore[misc]
        """A change of this writer."""
        return SessionChange(writer=self.writer, change_id=next(self._numbers), **{"at": at, **content})

    def query(self, query_type: str = "price", **content: Any) -> SessionChange:
        """A change that appends one query."""
        return self.change(queries=(stored_query(query_type),), **content)
