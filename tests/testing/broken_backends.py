"""Backends that break one promise each, and the conformance test that must notice.

Not collected with the other tests: `test_conformance_suite.py` runs this file in a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID, uuid4

import pytest

from perdure.backends import (
    Absorbed,
    Archived,
    Claimed,
    Copy,
    Deliver,
    HistoryPage,
    MemoryBackend,
    MemoryData,
    Purged,
    SessionBackend,
    Tombstone,
)
from perdure.changes import Applied, SessionChange
from perdure.errors import BackendUnavailableError, VersionConflictError
from perdure.merging import AbsorbOutcome
from perdure.models import (
    Measured,
    Measures,
    Page,
    SessionFilter,
    SessionMetrics,
    SessionSummary,
    SessionTotals,
    StatsFilter,
    StoredSession,
)
from perdure.testing import BackendConformance, OpenBackend


class Broken(MemoryBackend):
    """Breaks one promise."""

    noticed_by: ClassVar[str]


class LosesUnset(Broken):
    """Keys that were unset stay."""

    noticed_by = "test_a_key_is_unset_in_its_section_alone"

    async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
        return await super().apply(session_id, replace(change, unset_entries={}))


class ReplacesSections(Broken):
    """Setting one key removes the others of its section."""

    noticed_by = "test_a_key_is_set_in_its_section_alone"

    async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
        session = self._kept.sessions.get(session_id)
        kept = {} if session is None else {name: list(session.sections[name]) for name in change.set_entries}
        return await super().apply(session_id, replace(change, unset_entries={**kept, **change.unset_entries}))


class ShrinksExpiry(Broken):
    """An earlier expiry is taken, too."""

    noticed_by = "test_an_expiry_never_shrinks"

    async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
        applied = await super().apply(session_id, change)
        self._kept.sessions[session_id].expires_at = change.expires_at or self._kept.sessions[session_id].expires_at
        return applied


class ChecksVersionFirst(Broken):
    """The version is looked at before anything else."""

    noticed_by = "test_of_several_reasons_to_refuse_the_first_is_told"

    async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
        session = self._kept.sessions.get(session_id)
        if session is not None and change.if_version not in (None, session.version):
            raise VersionConflictError(session_id, expected=change.if_version or 0, found=session.version)
        return await super().apply(session_id, change)


class LeavesHalfAChange(Broken):
    """A refused change has set its keys."""

    noticed_by = "test_a_refused_change_changes_nothing"

    async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
        for section, entries in change.set_entries.items():
            self._kept.sessions[session_id].sections[section].update(entries)
        return await super().apply(session_id, change)


class ForgetsRepeats(Broken):
    """A repeat is applied again."""

    noticed_by = "test_a_repeat_gets_the_first_answer_and_changes_nothing"

    async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
        if (session := self._kept.sessions.get(session_id)) is not None:
            session.writers = b""
        return await super().apply(session_id, change)


class TakesForgottenRepeatsForNew(Broken):
    """Whether a change was sent before is not looked at."""

    noticed_by = "test_a_repeat_of_a_forgotten_writer_has_an_unknown_outcome"

    async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
        return await super().apply(session_id, replace(change, attempt=1))


class EndsLeasesEarly(Broken):
    """Any change makes an expired session due again."""

    noticed_by = "test_other_changes_do_not_end_a_lease"

    async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
        applied = await super().apply(session_id, change)
        if (session := self._kept.sessions[session_id]).archived_at is None:
            self._kept.due[session_id] = session.expires_at
        return applied


class WritesWhatItReadBefore(Broken):
    """Others may write between its read and its write, and lose what they wrote."""

    noticed_by = "test_of_fifty_concurrent_appends_none_is_lost_and_each_has_its_own_position"

    async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
        read = self._kept.sessions[session_id].copy()
        await asyncio.sleep(0)
        self._kept.sessions[session_id] = read
        return await super().apply(session_id, change)


class ReencodesNumbers(Broken):
    """Values are decoded and encoded again."""

    noticed_by = "test_a_value_comes_back_exactly"

    async def read(self, session_id: UUID, *, history: int | None = None) -> StoredSession | None:
        if (session := await super().read(session_id, history=history)) is not None:
            for entries in session.sections.values():
                entries.update({key: json.dumps(json.loads(text), ensure_ascii=False) for key, text in entries.items()})
        return session


class NormalisesKeys(Broken):
    """Keys that look alike are one."""

    noticed_by = "test_keys_are_told_apart_exactly"

    async def read(self, session_id: UUID, *, history: int | None = None) -> StoredSession | None:
        if (session := await super().read(session_id, history=history)) is not None:
            for section, entries in session.sections.items():
                alike = {unicodedata.normalize("NFC", key): text for key, text in entries.items()}
                session.sections[section] = alike
        return session


class CountsWhatIsLoaded(Broken):
    """The total is that of the queries that were loaded."""

    noticed_by = "test_the_newest_queries_are_read_and_the_counters_are_of_all"

    async def read(self, session_id: UUID, *, history: int | None = None) -> StoredSession | None:
        if (session := await super().read(session_id, history=history)) is not None:
            session.total_queries = len(session.queries)
        return session


class HidesTheArchive(Broken):
    """It judges instead of the store."""

    noticed_by = "test_an_expired_and_archived_session_comes_back"

    async def read(self, session_id: UUID, *, history: int | None = None) -> StoredSession | None:
        session = await super().read(session_id, history=history)
        return None if session is None or session.archived_at is not None else session


class KeepsWhatItWasHanded(Broken):
    """What the caller does to a session afterwards, it does to what is kept."""

    noticed_by = "test_what_was_handed_in_or_out_is_not_what_is_kept"

    async def create(self, session: StoredSession, *, fresh: bool = False) -> None:
        await super().create(session)
        self._kept.sessions[session.id] = session


class IgnoresOwners(Broken):
    """Anybody may read any history."""

    noticed_by = "test_the_owner_gets_a_page_and_nobody_else"

    async def queries(
        self, session_id: UUID, *, after: int = 0, before: int | None = None, limit: int, owner: str | None = None
    ) -> HistoryPage | None:
        return await super().queries(session_id, after=after, before=before, limit=limit)


class PagesByNumber(Broken):
    """A cursor says how many were seen, so that a new session shows an old one twice."""

    noticed_by = "test_what_stays_is_on_exactly_one_page_whatever_others_write"

    async def find(self, wanted: SessionFilter, *, cursor: str | None = None, limit: int) -> Page[SessionSummary]:
        seen = int(cursor or 0)
        items = (await super().find(wanted, limit=10_000)).items
        more = len(items) > seen + limit
        return Page(items[seen : seen + limit], str(seen + limit) if more else None)


class EndsTooSoon(Broken):
    """There is never a second page."""

    noticed_by = "test_pages_are_full_complete_and_end_by_themselves"

    async def find(self, wanted: SessionFilter, *, cursor: str | None = None, limit: int) -> Page[SessionSummary]:
        return Page((await super().find(wanted, cursor=cursor, limit=limit)).items)


class DeletesWithoutOwner(Broken):
    """Anybody may delete any session."""

    noticed_by = "test_another_owners_delete_changes_nothing"

    async def delete(self, session_id: UUID, *, forget_at: datetime, owner: str | None = None) -> bool:
        return await super().delete(session_id, forget_at=forget_at)


class DeletesWithoutTombstone(Broken):
    """A deleted id can be used again."""

    noticed_by = "test_an_id_that_was_deleted_cannot_be_created_again"

    async def delete(self, session_id: UUID, *, forget_at: datetime, owner: str | None = None) -> bool:
        existed = await super().delete(session_id, forget_at=forget_at, owner=owner)
        self._kept.tombstones.clear()
        return existed


class ClaimsWithoutLease(Broken):
    """Two claims take the same sessions."""

    noticed_by = "test_concurrent_claims_are_disjoint_and_take_all"

    async def claim_expired(self, *, now: datetime, lease: timedelta, limit: int, max_bytes: int) -> Claimed:
        return await super().claim_expired(now=now, lease=timedelta(), limit=limit, max_bytes=max_bytes)


class ClaimsTheArchive(Broken):
    """What is archived is archived again."""

    noticed_by = "test_a_session_that_came_archived_is_not_claimed"

    async def claim_expired(self, *, now: datetime, lease: timedelta, limit: int, max_bytes: int) -> Claimed:
        for session in self._kept.sessions.values():
            self._kept.due.setdefault(session.id, session.expires_at)
        return await super().claim_expired(now=now, lease=lease, limit=limit, max_bytes=max_bytes)


class ReplacesHistory(Broken):
    """An absorbed copy takes the place of the one that was there."""

    noticed_by = "test_no_query_of_either_copy_is_lost_moved_or_doubled"

    async def absorb(
        self, sessions: Sequence[StoredSession], *, tickets: Mapping[UUID, str] | None = None
    ) -> list[Absorbed]:
        for session in sessions if tickets is None else ():
            self._remove(session.id)
        return await super().absorb(sessions, tickets=tickets)


class OverridesTombstones(Broken):
    """Absorbing brings back what was deleted."""

    noticed_by = "test_absorbing_brings_nothing_back"

    async def absorb(
        self, sessions: Sequence[StoredSession], *, tickets: Mapping[UUID, str] | None = None
    ) -> list[Absorbed]:
        self._kept.tombstones.clear()
        return await super().absorb(sessions, tickets=tickets)


class FailsTheWholeBatch(Broken):
    """One bad record takes the others with it."""

    noticed_by = "test_a_bad_record_fails_alone"

    async def absorb(
        self, sessions: Sequence[StoredSession], *, tickets: Mapping[UUID, str] | None = None
    ) -> list[Absorbed]:
        report = await super().absorb(sessions, tickets=tickets)
        if any(done.outcome is AbsorbOutcome.FAILED for done in report):
            raise BackendUnavailableError(self.name, "a bad record")
        return report


class AcceptsAnyTicket(Broken):
    """Whoever comes may fill an empty slot."""

    noticed_by = "test_a_wrong_ticket_fills_nothing_and_voids_nothing"

    async def absorb(
        self, sessions: Sequence[StoredSession], *, tickets: Mapping[UUID, str] | None = None
    ) -> list[Absorbed]:
        if tickets is not None:
            tickets = {known: ticket for known, (ticket, _) in self._kept.tickets.items()}
        return await super().absorb(sessions, tickets=tickets)


class KeepsVoidTickets(Broken):
    """A ticket outlives the copy that was evicted after it was taken."""

    noticed_by = "test_evicting_voids_a_ticket"

    async def evict(self, session_id: UUID, *, version: int, head: str) -> bool:
        tickets = dict(self._kept.tickets)
        evicted = await super().evict(session_id, version=version, head=head)
        self._kept.tickets.update(tickets)
        return evicted


class EvictsWithoutHead(Broken):
    """Any copy of that version is forgotten."""

    noticed_by = "test_only_the_very_copy_is_evicted"

    async def evict(self, session_id: UUID, *, version: int, head: str) -> bool:
        session = self._kept.sessions.get(session_id)
        return await super().evict(session_id, version=version, head=head if session is None else session.head)


class PurgesTheUnarchived(Broken):
    """Retention removes whatever is old."""

    noticed_by = "test_only_archived_sessions_are_removed"

    async def purge(self, *, archived_before: datetime, **how: Any) -> Purged:
        for session in self._kept.sessions.values():
            session.archived_at = session.archived_at or session.created_at
        return await super().purge(archived_before=archived_before, **how)


class RunsWet(Broken):
    """A dry run removes."""

    noticed_by = "test_a_dry_run_tells_the_same_and_changes_nothing"

    async def purge(self, *, archived_before: datetime, dry_run: bool = False, **how: Any) -> Purged:
        return await super().purge(archived_before=archived_before, **how)


class PurgesWhatWasNotNamed(Broken):
    """Retention takes the longest archived, whichever they are."""

    noticed_by = "test_none_but_those_named_are_removed"

    async def purge(self, *, among: Sequence[UUID] | None = None, **how: Any) -> Purged:
        return await super().purge(**how)


class ArchivesWhateverIsThere(Broken):
    """A session that was changed since it was claimed is archived too."""

    noticed_by = "test_a_session_that_was_changed_meanwhile_is_left_alone"

    async def archive(self, sessions: Sequence[StoredSession], *, at: datetime, deliver: Deliver) -> list[Archived]:
        present = [self._kept.sessions.get(session.id, session) for session in sessions]
        return await super().archive(present, at=at, deliver=deliver)


class ArchivesWithoutHead(Broken):
    """Any copy of that version is archived."""

    noticed_by = "test_only_the_very_copy_is_archived"

    async def archive(self, sessions: Sequence[StoredSession], *, at: datetime, deliver: Deliver) -> list[Archived]:
        heads = {known: kept.head for known, kept in self._kept.sessions.items()}
        these = [replace(session, head=heads.get(session.id, session.head)) for session in sessions]
        return await super().archive(these, at=at, deliver=deliver)


class ForgetsBeforeItDelivers(Broken):
    """A crash while it is told loses what was to be told."""

    noticed_by = "test_what_was_not_delivered_is_due_again_and_delivered_the_same"

    async def archive(self, sessions: Sequence[StoredSession], *, at: datetime, deliver: Deliver) -> list[Archived]:
        async def nobody(those: Sequence[StoredSession]) -> None:
            return

        report = await super().archive(sessions, at=at, deliver=nobody)
        await deliver(sessions)
        return report


class CountsArchivingAsAChange(Broken):
    """Archiving makes a new version."""

    noticed_by = "test_claimed_sessions_are_archived_and_nothing_else_about_them_changes"

    async def archive(self, sessions: Sequence[StoredSession], *, at: datetime, deliver: Deliver) -> list[Archived]:
        report = await super().archive(sessions, at=at, deliver=deliver)
        for session in sessions:
            self._kept.sessions[session.id].version += 1
        return report


class TellsNoTombstones(Broken):
    """A deleted session is as one that never was."""

    noticed_by = "test_a_deleted_session_is_a_tombstone"

    async def copies(self, session_ids: Sequence[UUID]) -> dict[UUID, Copy | Tombstone]:
        found = await super().copies(session_ids)
        return {known: copy for known, copy in found.items() if isinstance(copy, Copy)}


class CachesForEver(Broken):
    """Cached copies do not fade."""

    noticed_by = "test_a_copy_fades"

    def __init__(self, data: MemoryData | None = None) -> None:
        super().__init__(data, seconds=lambda: 0.0)


class CountsEverything(Broken):
    """Statistics leave out nothing."""

    noticed_by = "test_those_left_out_do_not_count"

    async def aggregate(self, wanted: SessionFilter, *, without: Collection[UUID] = ()) -> SessionTotals:
        return await super().aggregate(wanted)


class MeasuresEverything(Broken):
    """What sessions count leaves out none of them."""

    noticed_by = "test_those_left_out_do_not_count_in_statistics"

    async def measure(
        self, wanted: StatsFilter, *, now: datetime, without: Collection[UUID] = (), with_ids: bool = False
    ) -> Measures:
        return await super().measure(wanted, now=now)


class MeasuresWholeDays(Broken):
    """A period begins with the day."""

    noticed_by = "test_only_what_is_asked_about_counts"

    async def measure(
        self, wanted: StatsFilter, *, now: datetime, without: Collection[UUID] = (), with_ids: bool = False
    ) -> Measures:
        since = None if wanted.since is None else wanted.since.replace(hour=0, minute=0, second=0, microsecond=0)
        return await super().measure(wanted.model_copy(update={"since": since}), now=now, without=without)


class NamesNobody(Broken):
    """Whoever asks who counted hears of no one."""

    noticed_by = "test_whoever_asks_who_counted_hears_of_all_that_are_kept"

    async def measure(
        self, wanted: StatsFilter, *, now: datetime, without: Collection[UUID] = (), with_ids: bool = False
    ) -> Measures:
        return await super().measure(wanted, now=now, without=without)


class NamesWhoIsLeftOut(Broken):
    """Those left out do not count, and are named all the same."""

    noticed_by = "test_whoever_does_not_count_is_not_named"

    async def measure(
        self, wanted: StatsFilter, *, now: datetime, without: Collection[UUID] = (), with_ids: bool = False
    ) -> Measures:
        answer = await super().measure(wanted, now=now, without=without, with_ids=with_ids)
        return answer + Measures(ids=frozenset(without)) if with_ids else answer


class CountsWhatItKeeps(Broken):
    """What retention removed counts no longer."""

    noticed_by = "test_what_retention_removed_still_counts"

    async def purge(self, **how: Any) -> Purged:
        purged = await super().purge(**how)
        self._kept.purged.clear()
        return purged


class CountsTheDeleted(Broken):
    """What a session counted outlives its deletion."""

    noticed_by = "test_a_deleted_session_counts_no_longer_retained_or_not"

    async def delete(self, session_id: UUID, *, forget_at: datetime, owner: str | None = None) -> bool:
        purged = dict(self._kept.purged)
        existed = await super().delete(session_id, forget_at=forget_at, owner=owner)
        self._kept.purged.update(purged)
        return existed


class CountsTheRestoredTwice(Broken):
    """A session counts as what it was when it was archived, and as what it is."""

    noticed_by = "test_a_restored_session_counts_once_as_what_it_is_by_now"

    async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
        if change.expires_at is not None and (session := self._kept.sessions.get(session_id)) is not None:
            self._kept.purged[uuid4()] = Measured.of(session, now=change.at)
        return await super().apply(session_id, change)


class GathersForEver(Broken):
    """There is always something left to be gathered."""

    noticed_by = "test_gathering_is_done_in_pieces_and_comes_to_an_end"

    async def roll_up(self, *, limit: int) -> int:
        return 1


class RecordsTheDeleted(Broken):
    """A deleted session can be recorded."""

    noticed_by = "test_what_was_recorded_counts_without_a_session"

    async def record(self, sessions: Sequence[StoredSession], *, at: datetime) -> list[bool]:
        self._kept.tombstones.clear()
        return await super().record(sessions, at=at)


class RecordsTheOlder(Broken):
    """The last record stays, whichever it is."""

    noticed_by = "test_of_two_records_the_one_of_the_higher_version_stays"

    async def record(self, sessions: Sequence[StoredSession], *, at: datetime) -> list[bool]:
        self._kept.purged.clear()
        return await super().record(sessions, at=at)


class ListsMetricsOfWhatItKeeps(Broken):
    """What retention removed is in no list of metrics."""

    noticed_by = "test_what_retention_removed_still_counts"

    async def metrics(self, wanted: StatsFilter, *, cursor: str | None = None, limit: int) -> Page[SessionMetrics]:
        page = await super().metrics(wanted, cursor=cursor, limit=limit)
        return Page([each for each in page if each.session_id in self._kept.sessions], page.next_cursor)


class SweepsAlways(Broken):
    """Every process sweeps whenever it likes."""

    noticed_by = "test_a_sweep_starts_once_in_each_interval"

    async def start_sweep(self, *, now: datetime, interval: timedelta) -> bool:
        return await super().start_sweep(now=now, interval=timedelta())


class AnswersWhenClosed(Broken):
    """Closing does nothing."""

    noticed_by = "test_a_closed_backend_says_so"

    async def aclose(self) -> None:
        return


class OnMemory(BackendConformance):
    """The suite on a kind of `MemoryBackend`."""

    kind: type[MemoryBackend] = MemoryBackend

    @pytest.fixture
    def open_backend(self) -> OpenBackend:
        data = MemoryData()

        async def open_backend() -> SessionBackend:
            backend = self.kind(data)
            await backend.open()
            return backend

        return open_backend


BROKEN: dict[str, str] = {kind.__name__: kind.noticed_by for kind in Broken.__subclasses__()}
"""The test that must notice, by the name of the backend."""

TestUnbroken = type("TestUnbroken", (OnMemory,), {})
for _kind in Broken.__subclasses__():
    globals()[f"Test{_kind.__name__}"] = type(f"Test{_kind.__name__}", (OnMemory,), {"kind": _kind})
