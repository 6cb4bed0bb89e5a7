"""Group commit: changes of different sessions that wait together share one transaction, one round trip, one sync."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from uuid import UUID

import asyncpg

from perdure.backends.sql.postgres.applying import apply_all
from perdure.backends.sql.postgres.connections import Connection, Connections
from perdure.backends.sql.postgres.meanings import is_lost
from perdure.backends.sql.postgres.statements import Statements
from perdure.changes import Applied, SessionChange
from perdure.errors import BackendUnavailableError, PerdureError

__all__ = ["GroupCommit"]

BATCH = 256
"""Most changes in one transaction."""

BATCH_CHARACTERS = 8 * 1024 * 1024
"""Most text of queries in one transaction, unless a single change has more."""


@dataclass(slots=True, eq=False)
class _Waiting:
    session_id: UUID
    change: SessionChange
    outcome: asyncio.Future[Applied] | None = None

    @property
    def characters(self) -> int:
        """Roughly what it weighs on the way."""
        return sum(len(query.body) for query in self.change.queries)

    @property
    def is_cancelled(self) -> bool:
        """Whether its caller has gone away."""
        return self.outcome is not None and self.outcome.cancelled()

    def tell(self, outcome: Applied | Exception) -> None:
        """Give the caller its answer, if it still waits."""
        if self.outcome is None or self.outcome.done():
            return
        if isinstance(outcome, Applied):
            self.outcome.set_result(outcome)
        else:
            self.outcome.set_exception(outcome)

    def cancel(self) -> None:
        """Let its caller not wait for what will not come."""
        if self.outcome is not None:
            self.outcome.cancel()


class GroupCommit:
    """Applies changes, those of one session in the order given, one batch at a time.

    A change that fails takes no other with it. A batch whose answer was lost is sent again, as a repeat. A caller who
    finds nothing under way sends by itself; batches of what waits meanwhile are sent by a task of their own, so that a
    caller who is cancelled disturbs no other.
    """

    def __init__(self, connections: Connections, sql: Statements, *, timeout_s: float) -> None:
        self._connections = connections
        self._sql = sql
        self._timeout_s = timeout_s
        self._queue: dict[UUID, deque[_Waiting]] = {}
        self._busy = False

    async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
        """What became of the change, once it is committed.

        Raises: as `SessionBackend.apply`.
        """
        self._connections.check_open()
        waiting = _Waiting(session_id, change)
        if self._busy:
            waiting.outcome = asyncio.get_running_loop().create_future()
            self._queue.setdefault(session_id, deque()).append(waiting)
            return await waiting.outcome
        self._busy = True
        try:
            (outcome,) = await self._send([waiting])
        finally:
            if self._queue:
                _ = self._connections.start(self._drain())
            else:
                self._busy = False
        if isinstance(outcome, Applied):
            return outcome
        raise outcome

    async def _drain(self) -> None:
        try:
            while self._queue:
                if batch := self._next_batch():
                    await self._commit(batch)
        finally:
            self._busy = False
            for lane in self._queue.values():  # the event loop ends: nobody is left to send them
                for waiting in lane:
                    waiting.cancel()
            self._queue.clear()

    def _next_batch(self) -> list[_Waiting]:
        """One change of each of the sessions that wait the longest. Whoever was cancelled meanwhile is passed over."""
        batch: list[_Waiting] = []
        characters = 0
        for session_id in list(islice(self._queue, BATCH)):
            lane = self._queue[session_id]
            while lane and lane[0].is_cancelled:
                lane.popleft()
            if lane:
                characters += lane[0].characters
                if batch and characters > BATCH_CHARACTERS:
                    break
                batch.append(lane.popleft())
            del self._queue[session_id]
            if lane:
                self._queue[session_id] = lane  # behind the others
        return batch

    async def _commit(self, batch: Sequence[_Waiting]) -> None:
        try:
            outcomes = await self._send(batch)
        except BackendUnavailableError as error:
            for waiting in batch:
                waiting.tell(error)
        except asyncio.CancelledError:
            for waiting in batch:
                waiting.cancel()
            raise
        except Exception as error:  # noqa: BLE001 (each is tried again, and its caller told)
            if len(batch) == 1:
                batch[0].tell(error)
                return
            for waiting in batch:  # none was applied, and it may be for one of them only
                await self._commit([waiting])
        else:
            for waiting, outcome in zip(batch, outcomes, strict=True):
                waiting.tell(outcome)

    async def _send(self, batch: Sequence[_Waiting]) -> list[Applied | PerdureError]:
        async def work(connection: Connection) -> list[Applied | PerdureError]:
            try:
                return await apply_all(connection, self._sql, [(each.session_id, each.change) for each in batch])
            except BaseException as error:
                if not isinstance(error, asyncpg.PostgresError) or is_lost(error):
                    for each in batch:  # it may have been applied: from now on it is a repeat
                        each.change = each.change.resent()
                raise

        return await self._connections.run(work, timeout_s=self._timeout_s, repeatable=True)
