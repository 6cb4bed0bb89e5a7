"""Writing the difference of a loaded session; safe to call again after a failure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import cast

from perdure.changes import Applied, Draft, SessionChange
from perdure.differences import difference, refresh, settle, settle_seen
from perdure.errors import OutcomeUnknownError, SessionError, SessionNotFoundError
from perdure.models import Session, read_query
from perdure.store.core import StoreCore
from perdure.store.writer import Submission

__all__ = ["save_difference", "save_expiry"]


@dataclass(frozen=True, slots=True)
class _Saved:
    """What plugins are to be told of: a change that was applied, and whether it restored the session."""

    change: SessionChange
    applied: Applied
    restored: bool


async def save_difference(core: StoreCore, session: Session, *, owner: str | None, if_version: int | None) -> None:
    """Write what the caller made of `session` since it was loaded, and bring it up to date in place.

    If an earlier call failed without an answer, its change is settled first: it is sent again, as a repeat.
    """
    saved: list[_Saved] = []
    try:
        async with core.saving_of(session):
            await _save(core, session, saved, owner=owner, if_version=if_version)
    finally:
        for change in saved:
            await _tell(core, session, change)


async def save_expiry(core: StoreCore, session: Session, *, owner: str | None, expires_at: datetime) -> None:
    """Move the expiry of a session that was just loaded, restore it if it is archived, and bring it up to date."""
    draft = core.draft(owner)
    draft["expires_at"] = expires_at
    session.expires_at = expires_at
    saved: list[_Saved] = []
    try:
        await _send(core, session, Submission(draft, alone=True), saved)
    finally:
        for change in saved:
            await _tell(core, session, change)


async def _save(
    core: StoreCore, session: Session, saved: list[_Saved], *, owner: str | None, if_version: int | None
) -> None:
    begun_at, unsettled = session.version, session._loaded.unsettled
    settled = unsettled is not None and await _settle(core, session, unsettled, saved, if_version=if_version)
    if session._loaded.outdated:
        await _read_again(core, session)
    draft = difference(session, core.settings, now=core.now())
    if draft is None:
        if if_version is None or settled:
            return
        draft = Draft(at=core.now())
    if if_version == begun_at and settled and session.version == begun_at + 1 and unsettled.made(session.head):
        if_version = session.version  # what moved it on was this very difference, on its first way
    draft.update(core.draft(owner))
    draft["if_version"] = if_version
    await _prepare_queries(core, session, draft)
    await _send(core, session, Submission(draft, alone=True), saved)


async def _send(core: StoreCore, session: Session, submission: Submission, saved: list[_Saved]) -> None:
    """Wait for the answer; without one, remember the change, so that it can be repeated rather than made anew."""
    loaded = session._loaded
    try:
        applied = await core.writer.write(session.id, submission)
    except OutcomeUnknownError:
        loaded.unsettled = submission.sent
        raise
    except SessionError:
        loaded.unsettled = None
        raise
    except BaseException:
        loaded.unsettled = submission.sent
        raise
    loaded.unsettled = None
    change = cast(SessionChange, submission.sent)
    saved.append(_Saved(change, applied, restored=session.is_archived and change.expires_at is not None))
    if not settle(session, change, applied):
        await _read_again(core, session)


async def _settle(
    core: StoreCore, session: Session, change: SessionChange, saved: list[_Saved], *, if_version: int | None
) -> bool:
    """Find out what became of a change without an answer. False if it was refused, so that it never was applied."""
    try:
        await _send(core, session, Submission.again(change, if_version=if_version), saved)
    except OutcomeUnknownError:
        stored = await core.backend.read(session.id)
        if stored is None:
            raise SessionNotFoundError(session.id) from None
        settle_seen(session, change, stored)
        refresh(session, stored, core.settings)
        session._loaded.unsettled = session._loaded.history = None
    except SessionError:
        return False
    return True


async def _read_again(core: StoreCore, session: Session) -> None:
    """Others wrote too: take what they did into the object."""
    window = session._loaded.history
    if window is not None:
        window = max(window, len(session.state.history.queries))
    stored = await core.backend.read(session.id, history=window)
    if stored is None:
        raise SessionNotFoundError(session.id)
    refresh(session, stored, core.settings)


async def _prepare_queries(core: StoreCore, session: Session, draft: Draft) -> None:
    """Let plugins see the new queries before they are stored."""
    new = list(session.state.history.queries.new)
    if new and core.hooks.listens("prepare_query"):
        draft["queries"] = prepared = tuple([core.stored(await core.prepared(session.id, query)) for query in new])
        counted = [(query.timestamp, query.cache_hit) for query in new]
        if counted != [(query.timestamp, query.cache_hit) for query in prepared]:
            session._loaded.outdated = True  # its counters took the queries for what they were


async def _tell(core: StoreCore, session: Session, saved: _Saved) -> None:
    change, applied = saved.change, saved.applied
    if change.queries and core.hooks.listens("query_tracked"):
        first = applied.total_queries - len(change.queries) + 1
        queries = [read_query(query.body, position) for position, query in enumerate(change.queries, first)]
        await core.notify_tracked(session.id, queries, first=first)
    labels = change.add_assets or change.remove_assets or change.add_tags or change.remove_tags
    if change.set_entries or change.unset_entries or labels:
        await core.notify("session_updated", session_id=session.id, version=applied.version)
    if change.expires_at is not None:
        await core.notify("session_extended", session=session)
        if saved.restored:
            await core.notify("session_restored", session=session)
