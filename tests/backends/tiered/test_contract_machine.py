"""Two tiers against the same small model of the contract as every backend: as one, they differ in nothing."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, ClassVar

from tests.backends.machine.machine import BackendMachine, case
from tests.backends.tiered.pairs import PATIENT, Acknowledge, Seconds

from perdure.backends import MemoryBackend, MemoryData, SessionBackend
from perdure.backends.tiered import TieredBackend
from perdure.models import StoredSession
from perdure.testing import Moment


class TieredMachine(BackendMachine):
    """Both tiers in memory; what each holds outlives a restart."""

    acknowledge: ClassVar[Acknowledge]

    def fresh(self) -> SessionBackend:
        if not hasattr(self, "hot_data"):
            self.hot_data, self.archive_data, self.seconds = MemoryData(), MemoryData(), Seconds()
        hot, archive = (MemoryBackend(data, seconds=self.seconds) for data in (self.hot_data, self.archive_data))
        return TieredBackend(hot, archive, acknowledge=self.acknowledge, times=PATIENT, seconds=self.seconds)


class ArchiveMachine(TieredMachine):
    """The archive acknowledges."""

    acknowledge = "archive"


class HotMachine(TieredMachine):
    """The hot tier acknowledges. Where telling fails it still has the session, active: see `test_life_machine`."""

    acknowledge = "hot"
    telling_fails = False

    def _archive(self, rng: Random, sessions: Sequence[StoredSession]) -> None:
        """Since when it is archived is what the caller's copy says, if that is of this version; both agree here."""
        kept = self.model.sessions
        agreed = [s for s in sessions if s.id not in kept or kept[s.id].archived == s.archived_at]
        super()._archive(rng, agreed)

    def _purge(self, terms: dict[str, Any], struck: Moment | None) -> None:
        """What is archived, and has not left hot yet, does not go; whether there is more of it is not known then."""
        wanted = self.model.sessions if terms["among"] is None else terms["among"]
        free = {**terms, "among": [known for known in wanted if known not in self.hot_data.sessions]}
        self.ask(
            lambda: self.faulty.purge(**terms),
            lambda: self.model.purge(**free).session_ids,
            fault=struck,
            seen_as=lambda purged: purged.session_ids,
        )


TestArchiveAcknowledges = case(ArchiveMachine, 50)
TestHotAcknowledges = case(HotMachine, 50)
