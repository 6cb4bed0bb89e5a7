"""Taking whole sessions into Postgres: new ones in bulk; those of which there is a copy are merged with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from perdure.backends.protocol import Absorbed
from perdure.backends.sql.postgres.connections import Connection, Connections
from perdure.backends.sql.postgres.meanings import NAME
from perdure.backends.sql.postgres.reading import read_whole, whole_of
from perdure.backends.sql.postgres.records import Bundle, Contents, as_json, facts_record, ids_of, packed
from perdure.backends.sql.postgres.splitting import each_alone, split, two_at_once
from perdure.backends.sql.postgres.statements import Statements
from perdure.backends.waves import waves
from perdure.errors import BackendUnavailableError, CorruptDataError, PerdureError
from perdure.merging import AbsorbOutcome, merge
from perdure.models import StoredSession

__all__ = ["absorb_all", "store_all"]

ROUNDS = 20
"""How often sessions may appear and vanish in the way of one that is absorbed."""

STALLED = "SET LOCAL idle_in_transaction_session_timeout = '30s'"
"""A process that stops in the middle of a merge must not keep others out for longer."""

Tickets = Mapping[UUID, str] | None


async def absorb_all(
    connections: Connections, sql: Statements, sessions: Sequence[StoredSession], tickets: Tickets, *, timeout_s: float
) -> list[Absorbed]:
    """See `SessionBackend.absorb`."""
    report: list[Absorbed | None] = [None] * len(sessions)
    absorbing = _Absorbing(connections, sql, tickets, timeout_s)
    for wave in waves(sessions):
        places = {sessions[place].id: place for place in wave}

        async def take(batch: Sequence[StoredSession], places: Mapping[UUID, int] = places) -> None:
            bundles = []
            for session in batch:
                try:
                    bundles.append(Bundle.of(session))
                except (AttributeError, TypeError, ValueError, OverflowError) as error:
                    report[places[session.id]] = Absorbed(session.id, AbsorbOutcome.FAILED, str(error))
            for done in await absorbing.take(bundles):
                report[places[done.session_id]] = done

        await two_at_once(split([sessions[place] for place in wave]), take)
    assert None not in report
    return [done for done in report if done is not None]


class _Absorbing:
    """One `absorb`."""

    def __init__(self, connections: Connections, sql: Statements, tickets: Tickets, timeout_s: float) -> None:
        self._connections = connections
        self._sql = sql
        self._tickets = tickets
        self._timeout_s = timeout_s

    async def take(self, bundles: Sequence[Bundle]) -> list[Absorbed]:
        """What became of some sessions, no two of one id."""
        done: list[Absorbed] = []
        left = list(bundles)
        for _ in range(ROUNDS):
            if not left:
                return done
            stored = await each_alone(left, self._store, _failed)
            again, kept = [], []
            for bundle in left:
                answer = stored.get(bundle.session.id)
                if answer is None:
                    again.append(bundle)  # the copy that was in its way is gone already
                elif isinstance(answer, Absorbed):
                    done.append(answer)
                else:
                    kept.append(bundle)
            merged = await each_alone(kept, self._merge, _failed)
            done += merged.values()
            left = again + [bundle for bundle in kept if bundle.session.id not in merged]
        raise BackendUnavailableError(NAME, "others create and delete the same sessions without end")

    async def _store(self, bundles: Sequence[Bundle]) -> dict[UUID, Any]:
        """The outcome of each session that was stored, or needs not be; None of one that is to be merged."""

        async def work(connection: Connection) -> list[Any]:
            return await store_all(connection, self._sql, bundles, self._tickets, absorbing=True)

        rows = await self._connections.run(work, timeout_s=self._timeout_s, repeatable=self._tickets is None)
        incoming = {bundle.session.id: bundle.session for bundle in bundles}
        found: dict[UUID, Any] = {}
        for key, outcome, version, head, archived in rows:
            session = incoming[key]
            match outcome:
                case "stored":
                    found[session.id] = Absorbed(session.id, AbsorbOutcome.STORED)
                case "buried":
                    found[session.id] = Absorbed(session.id, AbsorbOutcome.DELETED)
                case "refused":
                    found[session.id] = Absorbed(session.id, AbsorbOutcome.REFUSED)
                case _ if self._tickets is not None:
                    found[session.id] = Absorbed(session.id, AbsorbOutcome.REFUSED)
                case _ if (version, head) == (session.version, session.head) and archived >= (
                    session.archived_at is not None
                ):
                    found[session.id] = Absorbed(session.id, AbsorbOutcome.UNCHANGED)
                case _:
                    found[session.id] = "kept"
        return found

    async def _merge(self, bundles: Sequence[Bundle]) -> dict[UUID, Absorbed]:
        """What became of sessions of which there is a copy; those of which there is none any more are left out."""

        async def work(connection: Connection) -> dict[UUID, Absorbed]:
            async with connection.transaction():
                return await _merge_all(connection, self._sql, [bundle.session for bundle in bundles])

        return await self._connections.run(work, timeout_s=self._timeout_s, repeatable=True)


def _failed(bundle: Bundle, error: PerdureError) -> dict[UUID, Any]:
    return {bundle.session.id: Absorbed(bundle.session.id, AbsorbOutcome.FAILED, str(error))}


async def store_all(
    connection: Connection, sql: Statements, bundles: Sequence[Bundle], tickets: Tickets = None, *, absorbing: bool
) -> list[Any]:
    """Rows of `store_sessions`: id, what became of it, and version, head and archived flag of a copy in its way."""
    facts, contents = packed(bundles)
    wanted = None if tickets is None else as_json({str(known): ticket for known, ticket in tickets.items()})
    rows: list[Any] = await connection.fetch(sql.store_sessions, facts, wanted, absorbing, *contents.columns())
    return rows


async def _merge_all(
    connection: Connection, sql: Statements, sessions: Sequence[StoredSession]
) -> dict[UUID, Absorbed]:
    """Merge copies into those that are there, under the lock of their rows."""
    await connection.execute(STALLED)
    ids = ids_of([session.id for session in sessions])
    locked = await connection.fetch(sql.lock_many.text, *sql.lock_many.arguments(ids=ids))
    kept = {row[0]: row for row in await read_whole(connection, sql, [row[0] for row in locked])}
    done: dict[UUID, Absorbed] = {}
    pairs: list[tuple[StoredSession, StoredSession]] = []
    for session in sessions:
        if session.id not in kept:
            continue
        try:
            before = whole_of(kept[session.id])
        except CorruptDataError as error:
            done[session.id] = Absorbed(session.id, AbsorbOutcome.FAILED, str(error))
            continue
        outcome, after = merge(before, session)
        done[session.id] = Absorbed(session.id, outcome)
        if outcome is not AbsorbOutcome.UNCHANGED:
            pairs.append((before, after))
    if pairs:
        await _rewrite(connection, sql, pairs)
    return done


async def _rewrite(
    connection: Connection, sql: Statements, pairs: Sequence[tuple[StoredSession, StoredSession]]
) -> None:
    """Make each session that is there into another; only what differs is written."""
    gone, put = Contents(), Contents()
    for before, after in pairs:
        session_id = str(after.id)
        for section, entries in before.sections.items():
            missing = {key: text for key, text in entries.items() if key not in after.sections[section]}
            gone.add_entries(session_id, {section: missing})
        for section, entries in after.sections.items():
            known = before.sections[section]
            put.add_entries(
                session_id, {section: {key: text for key, text in entries.items() if known.get(key) != text}}
            )
        assert after.queries[: len(before.queries)] == before.queries, "a merge keeps the history that is there"
        put.add_queries(session_id, after.queries[len(before.queries) :], first=len(before.queries) + 1)
    facts = as_json([facts_record(after) for _, after in pairs])
    await connection.fetch(sql.rewrite_sessions, facts, gone.entry_of, gone.sections, gone.keys, *put.columns())
