"""The work that is measured: queries of about 500 bytes, as analysts ask them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from perdure import QueryRecord, SessionStore, Settings
from perdure.models import StoredSession, store_query
from perdure.values import encode_default

QUIET = {"sweep_in_background": False, "sweep_on_open": False}


def a_query(number: int = 0) -> QueryRecord:
    """A query whose stored text has 480 to 510 bytes."""
    return QueryRecord(
        query_type="price",
        parameters={"symbol": "AAPL", "market": "NASDAQ", "depth": 10, "number": number, "note": "n" * 120},
        result_summary="AAPL: $175.43 (+2.3 %), volume 51.2 M; " + "bid and ask by level " * 4,
        execution_time_ms=12.5,
    )


def open_store(path: Path) -> SessionStore:
    """A store on a SQLite file that does nothing by itself and holds a history of any length."""
    settings = Settings(session_max_queries_per_session=10_000_000, **QUIET)
    return SessionStore.open(f"sqlite:///{path}", settings=settings)


async def a_session(store: SessionStore, *, queries: int = 0) -> UUID:
    """A session that holds so many queries."""
    session = await store.create_session(["AAPL", "GOOGL"], "comparative", user_id="analyst", tags=["tech"])
    for number in range(queries):
        session.state.history.add_query(a_query(number))
    await store.save(session)
    return session.id


def stored_sessions(count: int, *, user: str, queries: int, start: int = 0) -> list[StoredSession]:
    """Expired sessions in the form that backends take in bulk."""
    from uuid_utils.compat import uuid7

    stored = store_query(a_query(), encoder=encode_default)
    began = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        StoredSession(
            id=uuid7(),
            user_id=user,
            type="equity",
            assets=("AAPL",),
            tags=("tech",),
            created_at=began + timedelta(seconds=start + number),
            expires_at=began + timedelta(days=1, seconds=start + number),
            last_accessed_at=began + timedelta(seconds=start + number),
            head=f"fill.{number}",
            total_queries=queries,
            history_bytes=queries * stored.size_bytes,
            first_query_at=stored.timestamp if queries else None,
            last_query_at=stored.timestamp if queries else None,
            queries=[stored.body] * queries,
        )
        for number in range(count)
    ]
