"""What verbs answer, where it is more than a session."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Self
from uuid import UUID

from perdure.backends import BackendHealth

__all__ = ["ActivePlugin", "CleanupReport", "ImportReport", "RetentionReport", "StoreHealth", "TrackedQuery"]


@dataclass(frozen=True, slots=True)
class TrackedQuery:
    """Where a query is kept: its position, how many the session holds now, and the session's version."""

    position: int
    total_queries: int
    version: int


@dataclass(slots=True)
class CleanupReport:
    """What a sweep did. `skipped` were changed by somebody else meanwhile; `failed` says why by session id.

    `forked` are among those archived: the archive held work that the copy which expired did not, as after a tier that
    came back older than it was; both were kept. `stopped` says that the sweep ended before it had seen all that is due,
    since nothing could be archived at that time; the rest is left to the next one.
    """

    archived: int = 0
    skipped: int = 0
    forked: list[UUID] = field(default_factory=list)
    failed: dict[UUID, str] = field(default_factory=dict)
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class RetentionReport:
    """Which sessions retention deleted, or with `dry_run` would delete: those archived before `cutoff`."""

    session_ids: list[UUID]
    cutoff: datetime
    dry_run: bool

    @property
    def deleted(self) -> int:
        """How many were deleted."""
        return 0 if self.dry_run else len(self.session_ids)


@dataclass(slots=True)
class ImportReport:
    """What an import did. `merged` were there in part, `unchanged` whole; `deleted` had been deleted and stay so."""

    stored: int = 0
    merged: int = 0
    unchanged: int = 0
    deleted: int = 0
    failed: dict[UUID, str] = field(default_factory=dict)

    def __iadd__(self, further: ImportReport) -> Self:
        self.stored += further.stored
        self.merged += further.merged
        self.unchanged += further.unchanged
        self.deleted += further.deleted
        self.failed |= further.failed
        return self


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """How each tier is."""

    tiers: dict[str, BackendHealth]

    @property
    def ok(self) -> bool:
        """Whether all of them are well."""
        return all(tier.ok for tier in self.tiers.values())


@dataclass(frozen=True, slots=True)
class ActivePlugin:
    """A plugin that a store calls; `package` and `version` are those it was installed with, if it was."""

    name: str
    hooks: tuple[str, ...]
    package: str | None = None
    version: str | None = None
