"""Arbitrary sessions and what they are made of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from perdure import QueryRecord, Session, SessionState, SessionType
from perdure.models import AnalysisHistory, QueryLog, Section

NAIVE = datetime.fromisoformat("1900-01-01")
"""An instant without a time zone, which nobody can place."""

few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For what is expensive to make: whether a machine is busy decides nothing."""

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
names = st.sampled_from(["price", "AAPL", "é 4", "a.b", "['k']", "\U0001f600"])
instants = st.datetimes(NAIVE, NAIVE + timedelta(days=100_000), timezones=st.just(UTC))
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=4
)
maps = st.dictionaries(names, values, max_size=2)


@st.composite
def records(draw: st.DrawFn) -> QueryRecord:
    """Any query that is not stored yet."""
    return QueryRecord(
        timestamp=draw(instants),
        query_type=draw(names),
        parameters=draw(maps),
        result_summary=draw(st.none() | texts),
        execution_time_ms=draw(st.none() | st.floats(0, 1e9)),
        cache_hit=draw(st.booleans()),
        error=draw(st.none() | texts),
        metadata=draw(maps),
    )


@st.composite
def sessions(draw: st.DrawFn) -> Session:
    """Any session: some of its queries are stored, some of those loaded, some new."""
    queries = draw(st.lists(records(), max_size=3))
    loaded = draw(st.integers(0, len(queries)))
    before = draw(st.integers(0, 3))
    placed = [query.placed(before + number) for number, query in enumerate(queries[:loaded], 1)]
    total = before + len(queries)
    facts: dict[str, Any] = {"total_queries": total, "cache_hits": draw(st.integers(0, total))}
    if total:
        facts["first_query_at"], facts["last_query_at"] = sorted([draw(instants), draw(instants)])
    created_at = draw(instants)
    return Session(
        user_id=draw(st.none() | names),
        type=draw(st.sampled_from([*SessionType, "fixed-income", "fx_2"])),
        assets=draw(st.lists(names, max_size=3, unique=True)),
        tags=draw(st.lists(names, max_size=3, unique=True)),
        created_at=created_at,
        expires_at=created_at + timedelta(hours=draw(st.integers(1, 100))),
        last_accessed_at=created_at + timedelta(minutes=draw(st.integers(0, 100))),
        archived_at=draw(st.none() | instants),
        version=draw(st.integers(0, 2**40)),
        head=draw(texts),
        state=SessionState(
            context=Section(draw(maps)),
            preferences=Section(draw(maps)),
            intermediate_results=Section(draw(maps)),
            metadata=Section(draw(maps)),
            history=AnalysisHistory(queries=QueryLog.of([*placed, *queries[loaded:]]), **facts),
        ),
    )
