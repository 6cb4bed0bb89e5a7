"""Writing the difference of a loaded session; safe to call again after a failure."""

from __future__ import annotations

from datetime import datetime
from typing import cast

from perdure.changes import Applied, Draft, SessionChange
from perdure.differences import difference, refresh, settle
from perdure.errors import OutcomeUnknownError, SessionError, SessionNotFoundError
from perdure.models import QueryRecord, Session
from perdure.store.core import StoreCore
from perdure.store.writer import Submission

__all__ = ["save_difference", "save_expiry"]


async def save_difference(core: StoreCore, session: Session, *, owner: str | None, if_version: int | None) -> None:
    """Write what the caller made of `session` since it was loaded, and bring it up to date in place.

    If an earlier call failed without an answer, its change is settled first: it is sent again, as a repeat.
    """
    begun_at = session.version
    await _settle_unsettled(core, session)
    if if_version is not None and if_version == begun_at:
        if_version = session.version  # what moved it on was this very difference, on its first way
    draft = difference(session, core.settings, now=core.now())
    if draft is None:
        if if_version is None:
            return
        draft = Draft(at=core.now())
    draft.update(core.draft(owner))
    draft["if_version"] = if_version
    new = await _prepare_queries(core, session, draft)
    was_archived = session.archived_at is not None
    change, applied = await _send(core, session, Submission(draft, alone=True))
    await core.notify_tracked(session.id, new, first=applied.total_queries - len(new) + 1)
    await _tell(core, session, change, restored=was_archived)


async def save_expiry(core: StoreCore, session: Session, *, owner: str | None, expires_at: datetime) -> None:
    """Move the expiry of a session that was just loaded, restore it if it is archived, and bring it up to date."""
    restored = session.is_archived
    draft = core.draft(owner)
    draft["expires_at"] = expires_at
    session.expires_at = expires_at
    change, _ = await _send(core, session, Submission(draft, alone=True))
    await _tell(core, session, change, restored=restored)


async def _send(core: StoreCore, session: Session, submission: Submission) -> tuple[SessionChange, Applied]:
    """Wait for the answer; without one, remember the change, so that it can be repeated rather than made anew."""
    try:
        applied = await core.writer.write(session.id, submission)
    except SessionError as refused:
        if not isinstance(refused, OutcomeUnknownError):
            session._loaded.unsettled = None
        raise
    except BaseException:
        session._loaded.unsettled = submission.sent
        raise
    session._loaded.unsettled = None
    change = cast(SessionChange, submission.sent)
    if not settle(session, change, applied):
        await _read_again(core, session)
    return change, applied


async def _settle_unsettled(core: StoreCore, session: Session) -> None:
    change: SessionChange | None = session._loaded.unsettled
    if change is None:
        return
    try:
        await _send(core, session, Submission.again(change))
    except OutcomeUnknownError:
        # Forgotten: what was stored tells. Queries are known by their ids, entries are simply set again.
        await _drop_stored_queries(core, session, change)
        session._loaded.unsettled = None
    except SessionError:
        return  # refused, so it never was applied: the difference is taken anew


async def _drop_stored_queries(core: StoreCore, session: Session, change: SessionChange) -> None:
    stored = await core.backend.read(session.id)
    if stored is None:
        raise SessionNotFoundError(session.id)
    there = {query.id for query in core.session_of(stored, history=None).state.history.queries}
    queries = session.state.history.queries
    queries.forget(query.id for query in change.queries if query.id in there)
    refresh(session, stored, core.settings)
    session._loaded.history = None


async def _read_again(core: StoreCore, session: Session) -> None:
    """Others wrote too: take what they did into the object."""
    window = session._loaded.history
    if window is not None:
        window = max(window, len(session.state.history.queries))
    stored = await core.backend.read(session.id, history=window)
    if stored is None:
        raise SessionNotFoundError(session.id)
    refresh(session, stored, core.settings)


async def _prepare_queries(core: StoreCore, session: Session, draft: Draft) -> list[QueryRecord]:
    """Let plugins see the new queries before they are stored."""
    new = list(session.state.history.queries.new)
    if new and core.hooks.listens("prepare_query"):
        prepared = [await core.prepared(session.id, query) for query in new]
        new = [record for record, _ in prepared]
        draft["queries"] = tuple(stored for _, stored in prepared)
    return new


async def _tell(core: StoreCore, session: Session, change: SessionChange, *, restored: bool) -> None:
    labels = change.add_assets or change.remove_assets or change.add_tags or change.remove_tags
    if change.set_entries or change.unset_entries or labels:
        await core.notify("session_updated", session_id=session.id, version=session.version)
    if change.expires_at is not None:
        await core.notify("session_extended", session=session)
        if restored:
            await core.notify("session_restored", session=session)
