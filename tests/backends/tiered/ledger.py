"""What callers of a store may rely on, written down as they hear it: acknowledged, unknown, deleted."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from perdure import Session

__all__ = ["Acknowledged", "Ledger"]

EVERYBODY_AT_ONCE = float("-inf")
Known = Literal["no", "perhaps", "yes"]


@dataclass(frozen=True)
class Acknowledged:
    """Who was told so; who else may not see it yet, if telling the cache may have failed, `until` that second."""

    process: int
    until: float = EVERYBODY_AT_ONCE

    def shows(self, process: int, second: float) -> bool:
        """Whether this process must see it at that second."""
        return process == self.process or second >= self.until


@dataclass
class Ledger:
    """One session."""

    id: UUID
    created: Known = "no"
    deleted: Known = "no"
    deleted_by: Acknowledged | None = None
    created_by: Acknowledged | None = None
    attempted: set[UUID] = field(default_factory=set)
    acknowledged: dict[UUID, Acknowledged] = field(default_factory=dict)
    focus: set[int | None] = field(default_factory=lambda: {None})
    """What the context key may be."""
    lives_until: datetime | None = None
    """It cannot expire before that by the clock of anybody."""
    may_live_until: datetime | None = None
    may_be_archived: bool = False
    is_being_archived: bool = False
    """Somebody asked for it, while others did other things."""

    def must_be_there(self, process: int, second: float) -> bool:
        """Whether a reader must find it."""
        created = self.created_by is not None and self.created_by.shows(process, second)
        return self.created == "yes" and created and self.deleted == "no"

    def must_be_gone(self, process: int, second: float) -> bool:
        """Whether a reader must not find it."""
        deleted = self.deleted_by is not None and self.deleted_by.shows(process, second)
        return self.created == "no" or (self.deleted == "yes" and deleted)

    def seen_by(self, process: int, second: float) -> set[UUID]:
        """The queries that this reader must find."""
        return {query_id for query_id, told in self.acknowledged.items() if told.shows(process, second)}

    def check(self, session: Session, must_have: set[UUID]) -> None:
        """It has those queries, each query once and in its place, and none that nobody wrote."""
        queries = session.state.history.queries
        found = [query.id for query in queries]
        assert len(found) == len(set(found)) == session.state.history.total_queries
        assert [query.position for query in queries] == list(range(1, len(found) + 1))
        assert set(found) <= self.attempted
        if not session.is_stale:
            assert must_have <= set(found), f"lost: {must_have - set(found)}"
