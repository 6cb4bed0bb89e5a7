"""Sessions as the functions of Postgres take them: facts as JSON, contents as columns of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from pydantic_core import to_json

from perdure.backends.sql.rows import row_of
from perdure.models import StoredSession
from perdure.models.measures import counts_of

__all__ = ["Bundle", "Contents", "as_json", "facts_record", "ids_of"]


def as_json(data: Any) -> str:
    """JSON text, as asyncpg takes it."""
    return to_json(data).decode()


def ids_of(ids: Sequence[UUID]) -> list[str]:
    """Ids as text: the only array that the driver can send without asking the server about its type."""
    return [str(known) for known in ids]


def facts_record(session: StoredSession) -> dict[str, Any]:
    """Every fact of a session by its column.

    Raises:
        TypeError, ValueError, AttributeError, OverflowError: one is not of its type.
    """
    record = row_of(session)
    record |= {
        "id": str(session.id),
        "assets": list(session.assets),
        "tags": list(session.tags),
        "writers": "\\x" + session.writers.hex(),
    }
    for text in (session.type, session.head, *session.assets, *session.tags):
        text.encode()
    session.version.to_bytes(8, signed=True)
    return record


@dataclass(slots=True)
class Contents:
    """Entries and queries of any number of sessions, a list for each column."""

    entry_of: list[str] = field(default_factory=list)
    sections: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    query_of: list[str] = field(default_factory=list)
    positions: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)

    def add_entries(self, session_id: str, sections: Mapping[Any, Mapping[str, str]]) -> None:
        """Take all entries of some sections."""
        for section, entries in sections.items():
            self.entry_of += [session_id] * len(entries)
            self.sections += [section] * len(entries)
            self.keys += entries.keys()
            self.texts += entries.values()

    def add_queries(self, session_id: str, bodies: Sequence[str], *, first: int) -> None:
        """Take queries, the first of which has that position."""
        self.query_of += [session_id] * len(bodies)
        self.positions += map(str, range(first, first + len(bodies)))
        self.bodies += bodies

    def columns(self) -> tuple[list[str], ...]:
        """As `put_contents` takes them."""
        return self.entry_of, self.sections, self.keys, self.texts, self.query_of, self.positions, self.bodies


@dataclass(frozen=True, slots=True)
class Bundle:
    """A whole session made ready to be sent: `facts_record`, and if it is archived what it counts in statistics.

    The server would take four times as long to count it.
    """

    session: StoredSession
    facts: dict[str, Any]

    @classmethod
    def of(cls, session: StoredSession) -> Bundle:
        """The bundle of a session.

        Raises:
            TypeError, ValueError, AttributeError, OverflowError: something in it cannot be stored.
        """
        for body in session.queries:
            body.encode()
        for entries in session.sections.values():
            for key, text in entries.items():
                key.encode()
                text.encode()
        facts = facts_record(session)
        if session.archived_at is not None:
            facts["counts"] = counts_of(session, session.queries, now=session.archived_at)
        return cls(session, facts)


def packed(bundles: Sequence[Bundle]) -> tuple[str, Contents]:
    """The facts of sessions, in the order of ids, and their contents."""
    contents = Contents()
    ordered = sorted(bundles, key=lambda bundle: bundle.session.id)
    for bundle in ordered:
        session_id = bundle.facts["id"]
        contents.add_entries(session_id, bundle.session.sections)
        contents.add_queries(session_id, bundle.session.queries, first=bundle.session.first_position)
    return as_json([bundle.facts for bundle in ordered]), contents
