"""Timing a block of code and recording it as a query, whatever becomes of it."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from perdure.errors import InvalidInputError, InvalidValueError, ValueTooLargeError
from perdure.logs import EventLog
from perdure.models import QueryRecord, StoredQuery
from perdure.models.names import checked_name
from perdure.store.core import StoreCore
from perdure.store.hooks import Around
from perdure.store.reports import TrackedQuery
from perdure.values import plain, repr_of

__all__ = ["Tracking"]

log = EventLog("perdure.tracking")

REPR_LENGTH = 500
"""Characters kept of a value that cannot be encoded."""

SUMMARY_LENGTH = 10_000
"""Characters kept of a result summary that is too large as it is."""


class Tracking:
    """What `SessionStore.tracking` gives: set its attributes within the block; it is recorded when the block ends.

    Afterwards `tracked` says where the query is kept, or is None where recording it failed, and `failure` says why.
    """

    def __init__(
        self,
        core: StoreCore,
        session_id: UUID,
        query_type: str,
        parameters: dict[str, Any] | None,
        *,
        owner: str | None,
        strict: bool,
    ) -> None:
        self.query_type = self._first_type = query_type
        self.parameters: dict[str, Any] = dict(parameters or {})
        self.result_summary: str | None = None
        self.cache_hit = False
        self.error: str | None = None
        self.metadata: dict[str, Any] = {}
        self.tracked: TrackedQuery | None = None
        self.failure: Exception | None = None
        self._core = core
        self._session_id = session_id
        self._owner = owner
        self._strict = strict
        self._began = self._elapsed_ms = 0.0
        self._raised: BaseException | None = None
        self._around: Around | None = None

    async def __aenter__(self) -> Self:
        return self.begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(error)
        try:
            await self.record()
        except asyncio.CancelledError as cancelled:
            self.leave(cancelled)
            raise
        self.conclude()

    def begin(self) -> Self:
        """Start the clock. Where there can be no `async with`, follow the block by `end`, `record` and `conclude`."""
        if self._core.hooks.listens("around_verb"):
            self._around = self._core.hooks.around("around_verb", verb="tracking", session_id=self._session_id)
            self._around.__enter__()
        self._began = time.perf_counter()
        return self

    def end(self, error: BaseException | None = None) -> None:
        """Stop the clock, and note what the block raised."""
        self._elapsed_ms = (time.perf_counter() - self._began) * 1000
        self._raised = error
        if error is not None:
            self.error = _error_text(error)

    async def record(self) -> None:
        """Store the query, or note in `failure` why it cannot be; raises only where it is cancelled."""
        recording = asyncio.create_task(self._record_or_say_why_not())
        try:
            # Shielded: the block has run, and being cancelled now must not lose the record of it.
            await asyncio.shield(recording)
        except asyncio.CancelledError:
            await asyncio.wait([recording])
            raise

    def conclude(self, failure: Exception | None = None) -> None:
        """Raise what kept it from being recorded, if that is wanted (`strict`) and the block itself raised nothing.

        `failure` is for a recording that did not even begin.
        """
        if failure is not None:
            self._say_why_not(failure)
        raised, self._raised = self._raised, None
        self.leave(raised)
        if self.failure is not None and self._strict and raised is None:
            raise self.failure

    def leave(self, error: BaseException | None) -> None:
        """Tell who watches that it is over; only where `conclude` is not reached. Repeatable."""
        around, self._around = self._around, None
        if around is not None:
            around.__exit__(
                None if error is None else type(error), error, None if error is None else error.__traceback__
            )

    async def _record_or_say_why_not(self) -> None:
        try:
            await self._record()
        except Exception as failure:  # noqa: BLE001 (it must not take the place of what the block did)
            self._say_why_not(failure)

    def _say_why_not(self, failure: Exception) -> None:
        self.failure = failure
        log.warning(
            "query.not_recorded",
            session_id=str(self._session_id),
            query_type=self._kept_type(),
            error=type(failure).__name__,
        )

    async def _record(self) -> None:
        core = self._core
        draft = core.draft(self._owner)
        record = QueryRecord(
            timestamp=draft["at"],
            query_type=self._kept_type(),
            parameters=self._kept(self.parameters),
            result_summary=_text(self.result_summary),
            execution_time_ms=self._elapsed_ms,
            cache_hit=bool(self.cache_hit),
            error=_text(self.error),
            metadata=self._kept(self.metadata),
        )
        # Cut only what plugins have seen: they may know what to redact by its key, which a `repr` has no longer.
        record, stored = self._fitted(await core.prepared(self._session_id, record))
        draft["queries"] = (stored,)
        applied = await core.apply(self._session_id, draft)
        self.tracked = TrackedQuery(applied.total_queries, applied.total_queries, applied.version)
        await core.notify_tracked(self._session_id, [record], first=applied.total_queries)

    def _fitted(self, record: QueryRecord) -> tuple[QueryRecord, StoredQuery]:
        """The record, with what is large in it cut as far as it takes, and how it is stored."""
        for length in (SUMMARY_LENGTH, REPR_LENGTH, 1):
            try:
                return record, self._core.stored(record)
            except ValueTooLargeError:
                record = _shortened(record, length)
        return record, self._core.stored(record)

    def _kept_type(self) -> str:
        """The query type, or the one given at first where the block made it something that is no name."""
        try:
            return checked_name(self.query_type, what="query_type")
        except InvalidInputError:
            return self._first_type

    def _kept(self, values: Any) -> dict[str, Any]:
        """What can be encoded as it is, the rest as its bounded `repr`."""
        if not isinstance(values, dict):
            return {"value": repr_of(values, limit=REPR_LENGTH)}
        encoder = self._core.settings.value_encoder
        kept = {}
        for key, value in values.items():
            name = repr_of(_Verbatim(key) if isinstance(key, str) else key, limit=REPR_LENGTH)
            try:
                kept[name] = plain(value, name=name, encoder=encoder)
            except InvalidValueError:
                kept[name] = repr_of(value, limit=REPR_LENGTH)
        return kept


def _error_text(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 (a broken __str__ must not take the place of the error itself)
        text = type(error).__name__
    return repr_of(_Verbatim(text), limit=REPR_LENGTH)


def _text(value: Any) -> str | None:
    """Text that can be kept: another kind of value becomes its `repr`."""
    if value is None:
        return None
    if isinstance(value, str):
        return repr_of(_Verbatim(value), limit=len(value) * 8)
    return repr_of(value, limit=SUMMARY_LENGTH)


class _Verbatim:
    """A text whose `repr` is itself."""

    def __init__(self, text: str) -> None:
        self._text = str.__str__(text)

    def __repr__(self) -> str:
        return self._text


def _shortened(record: QueryRecord, length: int) -> QueryRecord:
    """The record with texts of at most `length` characters, and the bounded `repr` of its parameters and metadata."""
    update: dict[str, Any] = {
        name: {"truncated": repr_of(values, limit=min(length, REPR_LENGTH))} if values else {}
        for name, values in (("parameters", record.parameters), ("metadata", record.metadata))
    }
    for name, text in (("result_summary", record.result_summary), ("error", record.error)):
        update[name] = None if text is None else repr_of(_Verbatim(text), limit=length)
    return record.model_copy(update=update)
