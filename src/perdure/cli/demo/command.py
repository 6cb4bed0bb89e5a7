"""`perdure demo`: a newcomer's first session, and the second run that finds it again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from perdure import QueryRecord, Session, SessionStore, SessionType
from perdure.cli.command import Run, command
from perdure.cli.demo.analysis import Series, load_closes
from perdure.cli.demo.comparison import Comparison
from perdure.cli.demo.report import Expired, Found, Report, as_dict
from perdure.cli.servers import redis_and_postgres
from perdure.errors import SessionInactiveError, SessionNotFoundError

__all__ = ["register_demo"]

USER = "demo"
TAG = "perdure-demo"

ROOM_FOR_A_VISIT = 40
"""Queries that one run may add; a session with less room is left alone."""

SHORT_LIFE = timedelta(seconds=1)


def register_demo(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "demo")(demo)


async def demo(
    run: Run,
    servers: Annotated[
        bool,
        typer.Option("--servers", help="On a Redis and a Postgres started for it; needs the extra `dev`."),
    ] = False,
) -> None:
    """Compare five companies in a session that outlives this run; run it again, and it goes on where it was.

    Real monthly closes of 2000 to 2010; every number is a tracked query, kept in your own file (or --url).
    """
    if not servers:
        await _story(run)
        return
    if run.url or run.archive:
        raise typer.BadParameter("`--servers` starts the servers that it uses", param_hint="--url")
    run.say("starting a Redis and a Postgres …")
    with redis_and_postgres() as pair:
        await _story(replace(run, url=pair.url, archive=pair.archive), temporary=True)


async def _story(run: Run, *, temporary: bool = False) -> None:
    closes = load_closes()
    report = Report(run, closes, temporary=temporary)
    async with run.open_store() as store:
        short = await _short_lived(store, closes)
        found = await _left_by_an_earlier_run(store)
        session = await _begun(store, closes) if found is None else found.session
        report.opening(session, found)
        comparison = Comparison(store, session.id, closes)
        await (comparison.begin() if found is None else comparison.go_on())
        asked = await store.get_queries(session.id, after=session.state.history.total_queries)
        session = await comparison.session()
        report.comparison(session)
        report.focus(session)
        report.asked(session, asked)
        with run.err.status("a second session, which may live for one second, is about to expire …"):
            expired = await _expired(store, short)
    report.expired(expired)
    if not run.answer(as_dict(run, session, found, asked, expired)):
        report.closing(session)


async def _left_by_an_earlier_run(store: SessionStore) -> Found | None:
    now, most = datetime.now(UTC), store.settings.session_max_queries_per_session - ROOM_FOR_A_VISIT
    for summary in await store.list_user_sessions(USER, include_archived=True):
        if TAG in summary.tags and summary.type == SessionType.COMPARATIVE and summary.total_queries <= most:
            restored = summary.is_archived or summary.is_expired(now)
            if restored:
                await store.extend_session(summary.id, hours=store.settings.session_default_ttl_hours)
            session = await store.get_session(summary.id, history=1)
            if session is not None and "visits" in session.state.context:
                return Found(session, restored)
    return None


async def _begun(store: SessionStore, closes: Mapping[str, Series]) -> Session:
    return await store.create_session(closes, SessionType.COMPARATIVE, user_id=USER, tags=[TAG])


async def _short_lived(store: SessionStore, closes: Mapping[str, Series]) -> Session:
    """A session with one query, which expires while the demo is at work elsewhere."""
    session = await store.create_session(["IBM"], SessionType.EQUITY, user_id=USER, tags=[TAG], ttl=SHORT_LIFE)
    await Comparison(store, session.id, closes).ask("price", "IBM")
    return session


async def _expired(store: SessionStore, short: Session) -> Expired:
    """Wait for its end, sweep, read it back, and try to write to it."""
    # A little longer: the clock by which it sleeps is not the one that judges.
    await asyncio.sleep(short.time_remaining.total_seconds() + 0.01)
    await store.cleanup_expired_sessions()
    session = await store.get_session(short.id)
    if session is None:
        raise SessionNotFoundError(short.id)
    try:
        await store.track_query(session.id, QueryRecord(query_type="price"))
    except SessionInactiveError as error:
        return Expired(session, str(error))
    return Expired(session, None)
