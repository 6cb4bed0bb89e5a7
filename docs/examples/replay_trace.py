"""Replay a real log of analysis through perdure: 421 conversations, 1,490 queries, 16 conversations at a time.

    python replay_trace.py analyst-trace/trace.jsonl                           # into a temporary SQLite file
    python replay_trace.py analyst-trace/trace.jsonl --url sqlite:///kept.db   # into one that stays

One line of the log is one query, and the lines of one `record_id` are one conversation, which becomes a session. When
all are replayed the clock is moved until they have expired, a sweep archives them, and the statistics are taken twice:
counted by the store (`get_totals`), and recomputed from the sessions as they are read back from the archive. The log is
that of zarifaziz/convfinqa (MIT licence): a language model answering questions about pages of company filings.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from perdure import QueryRecord, Session, SessionFilter, SessionStore, SessionTotals, Settings

AT_ONCE = 16
USER = "convfinqa"
TIME_TO_LIVE = timedelta(hours=24)

RECORD_ID = re.compile(r"[^_]+_(?P<ticker>[^/]+)/(?P<year>\d{4})/")


@dataclass
class Conversation:
    """The lines of one `record_id`, in order."""

    ticker: str
    year: str
    turns: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class ReplayClock:
    """A clock that stands still until it is moved, so that a day can pass at once."""

    now: datetime = datetime(2026, 5, 4, 6, 35, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def read_trace(path: Path) -> list[Conversation]:
    """The conversations of a log, in the order in which they begin."""
    conversations: dict[str, Conversation] = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            turn = json.loads(line)
            found = RECORD_ID.match(turn["record_id"])
            if found is None:
                raise SystemExit(f"not a record of this log: {turn['record_id']}")
            known = conversations.setdefault(turn["record_id"], Conversation(found["ticker"], found["year"]))
            known.turns.append(turn)
    for conversation in conversations.values():
        conversation.turns.sort(key=lambda turn: turn["turn_idx"])
    return list(conversations.values())


async def replay(
    store: SessionStore,
    conversations: Iterable[Conversation],
    *,
    clock: Callable[[], datetime],
    tracked: Callable[[], object] = lambda: None,
) -> None:
    """Put every conversation into a session of its own, `AT_ONCE` at a time; `tracked` is told of every query."""
    waiting = iter(conversations)

    async def replay_some() -> None:
        for conversation in waiting:  # shared: each conversation is taken once
            await replay_one(store, conversation, clock=clock, tracked=tracked)

    async with asyncio.TaskGroup() as workers:
        for _ in range(AT_ONCE):
            workers.create_task(replay_some())


async def replay_one(
    store: SessionStore, conversation: Conversation, *, clock: Callable[[], datetime], tracked: Callable[[], object]
) -> None:
    session = await store.create_session(
        [conversation.ticker], "equity", user_id=USER, tags=[conversation.year], ttl=TIME_TO_LIVE
    )
    for turn in conversation.turns:
        query = QueryRecord(
            timestamp=clock(),
            query_type=turn["predicted_unit"],
            parameters={"question": turn["question"]},
            result_summary=turn["predicted_answer"],
            execution_time_ms=turn["latency_ms"],
            metadata={name: turn[name] for name in ("correct", "tokens_in", "tokens_out")},
        )
        await store.track_query(session.id, query)
        await store.update_context(session.id, last_answer=turn["predicted_answer"])
        await store.store_intermediate_result(session.id, f"turn-{turn['turn_idx']}", turn["predicted_calculation"])
        tracked()


async def sessions_of(store: SessionStore, *, archived: bool | None = None) -> AsyncIterator[Session]:
    """The replayed sessions, whole: active ones, archived ones, or both."""
    async for session in store.export_sessions(SessionFilter(user_id=USER, archived=archived)):
        yield session


async def recount(sessions: AsyncIterator[Session]) -> SessionTotals:
    """The totals of sessions, from their histories alone: what `get_totals` counts, counted another way."""
    assets, query_types, lengths = Counter[str](), Counter[str](), list[int]()
    archived, milliseconds, timed = 0, 0.0, 0
    async for session in sessions:
        queries = session.state.history.queries
        assert [query.position for query in queries] == list(range(1, len(queries) + 1))
        assert session.state.context["last_answer"] == queries[-1].result_summary
        assert len(session.state.intermediate_results) == len(queries)
        lengths.append(len(queries))
        archived += session.is_archived
        assets.update(session.assets)
        for query in queries:
            query_types[query.query_type] += 1
            if query.execution_time_ms is not None:
                milliseconds += query.execution_time_ms
                timed += 1
    return SessionTotals(
        sessions=len(lengths),
        archived_sessions=archived,
        total_queries=sum(lengths),
        longest_session=max(lengths, default=0),
        execution_time_ms=milliseconds,
        timed_queries=timed,
        assets=dict(assets.most_common()),
        query_types=dict(query_types.most_common()),
    )


def statistics(counted: SessionTotals, recounted: SessionTotals) -> Table:
    """Both ways of counting, side by side."""
    table = Table("", "counted by the store", "from the sessions read back", title="The trace")
    for column in table.columns[1:]:
        column.justify = "right"
    assets, query_types = list(counted.assets)[:3], list(counted.query_types)
    left, right = facts(counted, assets, query_types), facts(recounted, assets, query_types)
    for name, value in left.items():
        table.add_row(name, value, right[name])
    return table


def facts(totals: SessionTotals, assets: list[str], query_types: list[str]) -> dict[str, str]:
    """What the statistics say, in words."""
    return {
        "sessions": f"{totals.sessions:,}",
        "of them archived": f"{totals.archived_sessions:,}",
        "queries": f"{totals.total_queries:,}",
        "queries a session": f"{totals.total_queries / totals.sessions:.4f}",
        "longest session": f"{totals.longest_session}",
        "mean execution time": f"{totals.execution_time_ms / totals.timed_queries:,.2f} ms",
        **{f"sessions about {asset}": f"{totals.assets.get(asset, 0):,}" for asset in assets},
        **{f"queries of type {kind}": f"{totals.query_types.get(kind, 0):,}" for kind in query_types},
    }


async def replay_file(path: Path, url: str, console: Console) -> tuple[SessionTotals, SessionTotals]:
    """The whole story: replay, expire, sweep, read back."""
    conversations = read_trace(path)
    clock = ReplayClock()
    quiet = Settings(sweep_on_open=False, sweep_in_background=False)  # the sweep below is to find all of them
    async with SessionStore.open(url, settings=quiet, clock=clock) as store:
        with Progress(
            TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
        ) as bar:
            task = bar.add_task("queries", total=sum(len(conversation.turns) for conversation in conversations))
            await replay(store, conversations, clock=clock, tracked=lambda: bar.advance(task))
        clock.now += TIME_TO_LIVE
        report = await store.cleanup_expired_sessions()
        console.print(f"a day later: {report.archived} sessions expired, and are archived")
        counted = await store.get_totals(SessionFilter(user_id=USER))
        return counted, await recount(sessions_of(store, archived=True))


def main() -> None:
    parser = argparse.ArgumentParser(description="Replay a log of analysis through perdure.")
    parser.add_argument("file", type=Path, metavar="FILE", help="the log, trace.jsonl")
    parser.add_argument("--url", help="where to keep the sessions (default: a temporary SQLite file)")
    given = parser.parse_args()
    if not given.file.is_file():
        parser.error(f"there is no file {given.file}")
    with tempfile.TemporaryDirectory() as folder:
        url = given.url or f"sqlite:///{folder}/trace.db"
        counted, recounted = asyncio.run(replay_file(given.file, url, Console(stderr=True)))
    Console().print(statistics(counted, recounted))


if __name__ == "__main__":
    main()
