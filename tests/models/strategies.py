"""Arbitrary sessions and what they are made of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from perdure import QueryRecord, Session, SessionState, SessionType
from perdure.models import AnalysisHistory, QueryLog, Section

NAIVE = datetime.fromisoformat("1900-01-01")
"""An instant without a time zone, which nobody can place."""

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
names = texts.filter(lambda text: bool(text.strip()))
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
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=8
)
maps = st.dictionaries(names, values, max_size=4)


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
    queries = draw(st.lists(records(), max_size=4))
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
