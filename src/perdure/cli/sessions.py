"""`perdure sessions …`: looking at sessions, and what people do to them by hand."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from perdure import Session, SessionFilter
from perdure.cli.command import Run, command
from perdure.cli.errors import FAILURE, complain
from perdure.cli.output import moment, relative
from perdure.cli.views import history_table, session_view, sessions_table
from perdure.store import UserSessions

__all__ = ["sessions"]

sessions = typer.Typer(no_args_is_help=True, help="Look at sessions, extend, archive or delete them.")

SessionId = Annotated[str, typer.Argument(metavar="ID", help="The id of a session.", show_default=False)]

NEWEST_SHOWN = 10
"""Queries that `show` ends with."""

_AGE = re.compile(r"(\d+(?:\.\d+)?)(m|h|d)")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@command(sessions, "list")
async def list_sessions(
    run: Run,
    user: Annotated[str | None, typer.Option(help="Only this user's.")] = None,
    session_type: Annotated[str | None, typer.Option("--type", help="Only of this type, such as equity.")] = None,
    asset: Annotated[list[str] | None, typer.Option(help="Only about this asset; repeat for several.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only with this tag; repeat for several.")] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Created then or later: 2026-01-31, 2026-01-31T09:30 (UTC), or 36h, 7d ago."),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Created before then.")] = None,
    archived: Annotated[
        bool | None, typer.Option("--archived/--active", help="Only archived ones, or only the others.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Most sessions to list, up to 1000.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on where a listing ended: its next cursor.")] = None,
) -> None:
    """List sessions, newest first."""
    wanted = SessionFilter(
        user_id=user,
        session_type=session_type,
        assets=tuple(asset or ()),
        tags=tuple(tag or ()),
        created_after=_instant(since, option="--since"),
        created_before=_instant(until, option="--until"),
        archived=archived,
    )
    async with run.open_store() as store:
        page = await store.list_sessions(wanted, limit=limit, cursor=cursor)
    now = datetime.now(UTC)
    found = [{**summary.model_dump(mode="json"), "is_expired": summary.is_expired(now)} for summary in page]
    if run.answer({"sessions": found, "next_cursor": page.next_cursor}):
        return
    if not page.items:
        run.say("no sessions" if wanted == SessionFilter() else "no such sessions")
        return
    run.out.print(sessions_table(page.items, now=now, width=run.out.width))
    if page.next_cursor is not None:
        run.say(f"there are more: --cursor {page.next_cursor}")


@command(sessions, "show")
async def show(run: Run, session_id: SessionId) -> None:
    """Show everything of a session: context, preferences, results, and its newest queries (with --json: all)."""
    async with run.open_store() as store:
        session = await _found(store, session_id, history=None if run.json else NEWEST_SHOWN)
    if run.answer(session.to_dict() if run.json else None):
        return
    for part in session_view(session, now=datetime.now(UTC)):
        run.out.print(part)
    history = session.state.history
    if history.total_queries > len(history.queries):
        run.say(
            f"{history.total_queries - len(history.queries)} earlier queries: perdure sessions history {session.id}"
        )


@command(sessions, "history")
async def history(
    run: Run,
    session_id: SessionId,
    after: Annotated[int, typer.Option(help="From the query after this position on.")] = 0,
    before: Annotated[int | None, typer.Option(help="Up to the query before this position.")] = None,
    last: Annotated[int | None, typer.Option(help="The last N queries.", metavar="N")] = None,
    limit: Annotated[int, typer.Option(help="Most queries of one page, up to 1000.")] = 100,
) -> None:
    """Show the queries of a session, page by page, oldest first."""
    if last is not None:
        if after or before is not None:
            raise typer.BadParameter("not together with --after or --before", param_hint="--last")
        before, limit = 2**31, last
    async with run.open_store() as store:
        queries = await store.get_queries(session_id, after=after, before=before, limit=limit)
        session = await _found(store, session_id, history=0)
    total = session.state.history.total_queries
    first, final = (queries[0].position or 0, queries[-1].position or 0) if queries else (0, total)
    following = final if final < total else None
    page = {
        "session_id": str(session.id),
        "total_queries": total,
        "queries": [query.model_dump(mode="json") for query in queries],
        "next_after": following,
        "next_before": first if first > 1 else None,
    }
    if run.answer(page):
        return
    if not queries:
        run.say("no queries" if total == 0 else f"no queries there; the session has {total}")
        return
    run.out.print(history_table(queries))
    if following is not None:
        run.say(f"{total - final} later queries: --after {final}")


@command(sessions, "extend")
async def extend(
    run: Run,
    session_id: SessionId,
    hours: Annotated[float, typer.Option(help="How much longer; fractions are fine.")] = 24,
) -> None:
    """Let a session live longer; brings an expired or archived one back."""
    async with run.open_store() as store:
        session = await store.extend_session(session_id, hours=hours)
    if not run.answer(_brief(session)):
        expiry = f"{moment(session.expires_at)} ({relative(session.expires_at, now=datetime.now(UTC))})"
        run.out.print(f"session {session.id} expires at {expiry}")


@command(sessions, "archive")
async def archive(run: Run, session_id: SessionId) -> None:
    """Move a session to the archive now: it can be read there, and brought back with `extend`."""
    async with run.open_store() as store:
        moved = await store.archive_session(session_id)
        session = await _found(store, session_id, history=0)
    if not run.answer({**_brief(session), "changed": moved}):
        run.out.print(f"session {session.id} {'is archived' if moved else 'was archived already'}")


@command(sessions, "delete")
async def delete(run: Run, session_id: SessionId) -> None:
    """Delete a session and all that is in it, for good."""
    async with run.open_store() as store:
        existed = await store.delete_session(session_id)
    if not existed:
        complain(f"no session {session_id}")
        raise typer.Exit(FAILURE)
    if not run.answer({"id": session_id, "deleted": True}):
        run.out.print(f"session {session_id} is deleted")


async def _found(store: UserSessions, session_id: str, *, history: int | None) -> Session:
    session = await store.get_session(session_id, history=history)
    if session is None:
        complain(f"no session {session_id}")
        raise typer.Exit(FAILURE)
    return session


def _brief(session: Session) -> dict[str, Any]:
    return session.model_dump(mode="json", include={"id", "expires_at", "is_archived", "archived_at", "version"})


def _instant(given: str | None, *, option: str) -> datetime | None:
    """An instant from ISO text (without a zone: UTC) or from an age such as `36h`."""
    if given is None:
        return None
    try:
        if (age := _AGE.fullmatch(given)) is not None:
            return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: float(age[1])})
        instant = datetime.fromisoformat(given)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{given!r} is no time such as 2026-01-31, 2026-01-31T09:30 or 36h", param_hint=option
        ) from None
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant
