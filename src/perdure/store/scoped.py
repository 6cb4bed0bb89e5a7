"""The verbs that are about sessions, as one user sees them or as everybody does."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from perdure.changes import Draft, check_active, check_room
from perdure.differences import encode_entries, stored_form
from perdure.errors import (
    BackendError,
    InvalidInputError,
    SessionArchivedError,
    SessionInactiveError,
    SessionNotFoundError,
)
from perdure.logs import EventLog
from perdure.models import (
    Page,
    QueryRecord,
    SectionName,
    Session,
    SessionFilter,
    SessionSummary,
    SessionType,
    StoredSession,
    read_query,
)
from perdure.models.names import checked_key, checked_name, checked_names, checked_type
from perdure.models.session import extended
from perdure.models.state import Section, SessionState
from perdure.models.times import hours_of
from perdure.store.arguments import (
    checked_filter,
    checked_id,
    checked_limit,
    checked_session,
    checked_ttl,
)
from perdure.store.core import StoreCore
from perdure.store.counted import CountedSessions
from perdure.store.reports import TrackedQuery
from perdure.store.telling import tell_archived
from perdure.store.tracking import Tracking
from perdure.store.updating import save_difference, save_expiry
from perdure.store.watching import watch_verbs

__all__ = ["UserSessions"]

log = EventLog("perdure.store")

OVERTAKEN = 5
"""How often others may extend a session further, and it may end, while one extends it."""


class UserSessions(CountedSessions):
    """The verbs of sessions; `SessionStore.for_user` gives one that sees a single user's, as if there were no others.

    A session id may be a `UUID` or its text. Every verb raises `InvalidInputError` for arguments that it cannot take,
    before anything is sent, and `BackendError` where the backend fails.
    """

    def __init__(self, core: StoreCore, *, owner: str | None = None) -> None:
        super().__init__(core, owner=owner)
        watch_verbs(self, core.hooks)

    async def create_session(
        self,
        assets: Iterable[str],
        session_type: SessionType | str,
        user_id: str | None = None,
        ttl_hours: float | None = None,
        tags: Iterable[str] | None = None,
        *,
        ttl: timedelta | None = None,
        context: dict[str, Any] | None = None,
        preferences: dict[str, Any] | None = None,
        session_id: UUID | str | None = None,
    ) -> Session:
        """Begin a session; it lives `ttl_hours`, or `ttl`, or what the settings say.

        Raises:
            InvalidTTLError: a time to live outside the range of the settings, which it names.
            SessionExistsError: `session_id` is in use, or belonged to a session that was deleted.
        """
        core = self._core
        lifetime = checked_ttl(ttl_hours, ttl, core.settings)
        names = checked_names(assets, what="assets")
        if not names:
            raise InvalidInputError("assets must not be empty: what is the session about?")
        now = core.now()
        session = Session(
            id=uuid7() if session_id is None else checked_id(session_id),
            user_id=self._user(user_id),
            type=checked_type(session_type),
            assets=names,
            tags=checked_names(tags, what="tags"),
            created_at=now,
            expires_at=now + lifetime,
            last_accessed_at=now,
            state=SessionState(context=_section(context, "context"), preferences=_section(preferences, "preferences")),
            version=1,
            head=core.writer.next_head(),
        )
        stored = stored_form(session, core.settings)
        await core.backend.create(stored, fresh=session_id is None)
        created = core.session_of(stored, history=None)
        await core.notify("session_created", session=created)
        return created

    async def get_session(
        self, session_id: UUID | str, *, history: int | None = None, touch: bool = False
    ) -> Session | None:
        """The session with all its queries, or the newest `history`; None if there is none.

        Expired and archived ones are returned, and say so. Reading never writes, unless `touch` asks to note it
        in `last_accessed_at` (of an active session).
        """
        known = checked_id(session_id)
        if history is not None:
            checked_limit(history, name="history", lowest=0, highest=2**31)
        stored = await self._read(known, history=history)
        if stored is None:
            return None
        session = self._core.session_of(stored, history=history)
        if touch and not session.is_expired and not session.is_archived:
            session.touch()
            await self._touch(session)
        return session

    async def update_session(
        self, session_id: UUID | str, session: Session, *, if_version: int | None = None
    ) -> Session:
        """Write what was changed in `session` since it was loaded, merged with what others wrote; gives it back.

        Afterwards the object is up to date in place. If the call fails, it may simply be made again.

        Raises:
            VersionConflictError: somebody wrote since `if_version`; nothing changed.
            SessionError: no such session, expired, archived, or past a limit; nothing changed.
        """
        if checked_id(session_id) != checked_session(session).id:
            raise InvalidInputError(f"session {session.id} cannot be saved as {session_id}")
        if if_version is not None:
            checked_limit(if_version, name="if_version", lowest=0, highest=2**63 - 1)
        await save_difference(self._core, session, owner=self._owner, if_version=if_version)
        return session

    async def save(self, session: Session, *, if_version: int | None = None) -> Session:
        """`update_session` of the session's own id."""
        return await self.update_session(checked_session(session).id, session, if_version=if_version)

    async def ensure_active(self, session_id: UUID | str) -> None:
        """Raise what `track_query` would raise of the session now; for whoever asks before the work, not after it.

        Costs less than `get_session` and writes nothing. It may have changed by the time that the query is tracked.

        Raises:
            SessionNotFoundError, SessionExpiredError, SessionArchivedError: it takes no query.
            QueryLimitExceededError: it is full.
        """
        known, core = checked_id(session_id), self._core
        stored = await self._read(known, history=0)
        if stored is None:
            raise SessionNotFoundError(known)
        check_active(stored, at=core.now())
        check_room(stored, adding=1, limit=core.settings.session_max_queries_per_session)

    async def track_query(self, session_id: UUID | str, query: QueryRecord) -> TrackedQuery:
        """Append one query, without loading the session.

        Raises:
            SessionNotFoundError, SessionExpiredError, SessionArchivedError: nothing changed.
            QueryLimitExceededError: the session is full; nothing changed.
            QueryVetoedError: a plugin refused it.
        """
        known, core = checked_id(session_id), self._core
        if not isinstance(query, QueryRecord):
            raise InvalidInputError(f"query must be a QueryRecord, not {type(query).__name__}")
        draft = core.draft(self._owner)
        record = await core.prepared(known, query)
        draft["queries"] = (core.stored(record),)
        applied = await core.apply(known, draft)
        await core.notify_tracked(known, [record], first=applied.total_queries)
        return TrackedQuery(applied.total_queries, applied.total_queries, applied.version)

    def tracking(
        self,
        session_id: UUID | str,
        query_type: str,
        parameters: dict[str, Any] | None = None,
        *,
        strict: bool = False,
    ) -> Tracking:
        """Record a block of code as a query: `async with store.tracking(id, "price", {…}) as query: …`

        The block is timed; where it raises, the query is recorded with its `error`, and the exception goes on. A value
        that cannot be encoded is recorded as its bounded `repr`. Recording that fails after the block succeeded is
        logged and noted in `query.failure`; with `strict` it is raised.
        """
        if parameters is not None and not isinstance(parameters, dict):
            raise InvalidInputError(f"parameters must be a dict, not {type(parameters).__name__}")
        return Tracking(
            self._core,
            checked_id(session_id),
            checked_name(query_type, what="query_type"),
            parameters,
            owner=self._owner,
            strict=strict,
        )

    async def update_context(self, session_id: UUID | str, /, **values: Any) -> int:
        """Set keys of the context, without loading the session; gives the new version."""
        return await self._set_entries(session_id, "context", values)

    async def update_preferences(self, session_id: UUID | str, /, **values: Any) -> int:
        """Set keys of the preferences, without loading the session; gives the new version."""
        return await self._set_entries(session_id, "preferences", values)

    async def store_intermediate_result(self, session_id: UUID | str, key: str, value: Any) -> int:
        """Keep a result that later queries build on, without loading the session; gives the new version."""
        return await self._set_entries(session_id, "intermediate_results", {key: value})

    async def remove_context(self, session_id: UUID | str, /, *keys: str) -> int:
        """Remove keys of the context, without loading the session; gives the new version."""
        limit = self._core.settings.max_key_length
        names = [checked_key(key, section="context", limit=limit) for key in keys]
        if not names:
            raise InvalidInputError("name at least one key to remove")
        return await self._write_entries(session_id, Draft(at=self._core.now(), unset_entries={"context": names}))

    async def get_queries(
        self, session_id: UUID | str, *, after: int = 0, before: int | None = None, limit: int = 100
    ) -> list[QueryRecord]:
        """Queries with `after` < position < `before`, oldest first: the first `limit`, or with `before` alone the last.

        Raises:
            SessionNotFoundError: there is no such session.
        """
        known = checked_id(session_id)
        checked_limit(after, name="after", lowest=0, highest=2**31)
        if before is not None:
            checked_limit(before, name="before", lowest=1, highest=2**31)
        page = await self._core.backend.queries(
            known, after=after, before=before, limit=checked_limit(limit), owner=self._owner
        )
        if page is None:
            raise SessionNotFoundError(known)
        return [read_query(body, position) for position, body in enumerate(page.bodies, page.first_position)]

    async def list_sessions(
        self, wanted: SessionFilter | None = None, *, limit: int = 50, cursor: str | None = None
    ) -> Page[SessionSummary]:
        """One page of the sessions that match, newest first; `cursor` is the `next_cursor` of the page before.

        Raises:
            InvalidCursorError: it is no such cursor.
        """
        wanted = checked_filter(wanted)
        if self._owner is not None:
            if wanted.user_id not in (None, self._owner):
                return Page([])
            wanted = wanted.model_copy(update={"user_id": self._owner})
        return await self._core.backend.find(wanted, cursor=cursor, limit=checked_limit(limit))

    async def list_user_sessions(
        self, user_id: str, include_archived: bool = False, limit: int = 100
    ) -> list[SessionSummary]:
        """The newest sessions of one user."""
        wanted = SessionFilter(
            user_id=checked_name(user_id, what="user_id"), archived=None if include_archived else False
        )
        return (await self.list_sessions(wanted, limit=limit)).items

    async def extend_session(self, session_id: UUID | str, hours: float = 24) -> Session:
        """Let a session live longer: `hours` from the later of now and its present expiry; restores an archived one.

        It may expire at most the maximum of the settings from now: the session that is given back says when it will.
        Concurrent extensions never shorten.

        Raises:
            InvalidTTLError: `hours` is not above 0, or above the maximum.
            SessionNotFoundError: there is no such session.
        """
        known, core = checked_id(session_id), self._core
        by = hours_of(hours)
        extended(core.now(), by, now=core.now(), maximum=core.settings.max_ttl)  # refuses before anything is read
        for _ in range(OVERTAKEN):
            with suppress(SessionInactiveError):  # it was extended further meanwhile, and has ended since
                return await self._extend(known, by)
        return await self._extend(known, by)

    async def _extend(self, session_id: UUID, by: timedelta) -> Session:
        core = self._core
        stored = await self._read(session_id, history=None)
        if stored is None:
            raise SessionNotFoundError(session_id)
        session = core.session_of(stored, history=None)
        expires_at = extended(session.expires_at, by, now=core.now(), maximum=core.settings.max_ttl)
        if session.is_archived or expires_at > session.expires_at:
            await save_expiry(core, session, owner=self._owner, expires_at=expires_at)
        return session

    async def archive_session(self, session_id: UUID | str) -> bool:
        """Move a session to the archive now, expired or not. False where there is none, or it is there already."""
        known, core = checked_id(session_id), self._core
        try:
            draft = core.draft(self._owner)
            draft["archive"] = True
            await core.apply(known, draft, alone=True)
        except (SessionNotFoundError, SessionArchivedError):
            return False
        try:
            reason = await self._finish_archiving(known)
        except BackendError as error:
            reason = str(error)
        if reason is not None:  # it is archived all the same; the next sweep sees to the rest
            log.warning("archiving.unfinished", session_id=str(known), error=reason)
        return True

    async def _finish_archiving(self, session_id: UUID) -> str | None:
        """Move what was archived on purpose to where archived sessions are kept, and tell of it; or why that failed."""
        core = self._core
        stored = await core.backend.read(session_id)
        if stored is None or stored.archived_at is None:
            return None
        (done,) = await core.backend.archive([stored], at=stored.archived_at, deliver=partial(tell_archived, core))
        return done.error

    async def delete_session(self, session_id: UUID | str) -> bool:
        """Delete a session and all that is in it, for good: its id cannot be used again. False where there is none."""
        known, core = checked_id(session_id), self._core
        # Longer than any copy of it can live anywhere.
        forget_at = core.now() + core.settings.max_ttl + core.settings.retention
        existed = await core.backend.delete(known, forget_at=forget_at, owner=self._owner)
        if existed:
            await core.notify("session_deleted", session_id=known)
        return existed

    async def _read(self, session_id: UUID, *, history: int | None) -> StoredSession | None:
        stored = await self._core.backend.read(session_id, history=history)
        if stored is None or (self._owner is not None and stored.user_id != self._owner):
            return None
        return stored

    async def _touch(self, session: Session) -> None:
        try:
            await save_difference(self._core, session, owner=self._owner, if_version=None)
        except (SessionInactiveError, SessionNotFoundError):
            return  # it ended meanwhile; what was read is still what was there

    async def _set_entries(self, session_id: UUID | str, section: SectionName, values: dict[str, Any]) -> int:
        if not values:
            raise InvalidInputError("name at least one key to set")
        entries = encode_entries(section, values, self._core.settings)
        return await self._write_entries(session_id, Draft(at=self._core.now(), set_entries={section: entries}))

    async def _write_entries(self, session_id: UUID | str, entries: Draft) -> int:
        known, core = checked_id(session_id), self._core
        applied = await core.apply(known, {**core.draft(self._owner), **entries})
        await core.notify("session_updated", session_id=known, version=applied.version)
        return applied.version


def _section(values: dict[str, Any] | None, name: SectionName) -> Section:
    if values is not None and not isinstance(values, dict):
        raise InvalidInputError(f"{name} must be a dict, not {type(values).__name__}")
    return Section(values)
