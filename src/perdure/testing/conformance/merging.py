"""What becomes of two copies of one session."""

# ruff: noqa: D102 (the names of tests are sentences)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest

from perdure.backends import SessionBackend
from perdure.changes import entry_bytes
from perdure.merging import AbsorbOutcome
from perdure.models import SectionName, StoredQuery, StoredSession
from perdure.testing.builders import START, ChangeMaker, stored_query, stored_session
from perdure.testing.conformance.steps import EXPIRY, MINUTE, created, listed, numbered, whole

__all__ = ["MergingPromises"]

Sections = Mapping[SectionName, Mapping[str, Any]]

COMMON = numbered(3)
OURS = (*COMMON, stored_query("ours", cache_hit=True, timestamp=START + 9 * MINUTE))
THEIRS = (*COMMON, stored_query("their größe", timestamp=START - MINUTE), stored_query("theirs too"))
KEPT = stored_session(
    queries=OURS,
    version=5,
    head="ours",
    last_accessed_at=START + MINUTE,
    sections={"context": {"both": "ours", "ours": 1}},
    tags=("ours",),
)


def copy_of(
    queries: tuple[StoredQuery, ...],
    version: int,
    *,
    head: str = "theirs",
    sections: Sections | None = None,
    **facts: Any,
) -> StoredSession:
    """Another copy of `KEPT`."""
    if sections is None:
        sections = {"context": {"both": "theirs"}, "metadata": {"theirs": "größe"}}
    facts = {"tags": ("theirs",), "last_accessed_at": START + 2 * MINUTE, **facts}
    return stored_session(id=KEPT.id, queries=queries, version=version, head=head, sections=sections, **facts)


OTHERS = {
    "a later state": (copy_of((*OURS, stored_query("late")), 6), AbsorbOutcome.MERGED),
    "a later state without a new query": (copy_of(OURS, 6), AbsorbOutcome.MERGED),
    "an earlier state": (copy_of(COMMON, 4), AbsorbOutcome.UNCHANGED),
    "an earlier state with all queries": (copy_of(OURS, 4), AbsorbOutcome.UNCHANGED),
    "an empty earlier state": (copy_of((), 1, sections={}), AbsorbOutcome.UNCHANGED),
    "the same": (KEPT, AbsorbOutcome.UNCHANGED),
    "a fork at the same version": (copy_of(THEIRS, 5), AbsorbOutcome.FORKED),
    "a fork with the same queries": (copy_of(OURS, 5), AbsorbOutcome.FORKED),
    "a later fork": (copy_of(THEIRS, 8), AbsorbOutcome.FORKED),
    "a later state that lacks a query": (copy_of(COMMON, 8), AbsorbOutcome.FORKED),
    "an earlier fork": (copy_of(THEIRS, 2), AbsorbOutcome.FORKED),
}
every_other = pytest.mark.parametrize(("incoming", "outcome"), OTHERS.values(), ids=OTHERS.keys())


def assert_counters_are_true(session: StoredSession) -> None:
    """The counters say what the history and the sections hold."""
    values = [pair for entries in session.sections.values() for pair in entries.items()]
    assert session.state_bytes == sum(entry_bytes(key, text) for key, text in values)
    assert session.history_bytes == sum(len(body.encode()) for body in session.queries)
    assert session.total_queries == len(session.queries)
    assert session.cache_hits == sum('"cache_hit":true' in body for body in session.queries)
    assert session.first_position == 1


async def merged(backend: SessionBackend, incoming: StoredSession) -> StoredSession:
    """What becomes of `KEPT` where `incoming` is absorbed."""
    await backend.create(KEPT)
    await backend.absorb([incoming])
    return await whole(backend, KEPT.id)


class MergingPromises:
    """`absorb`: two copies."""

    @every_other
    async def test_the_report_tells_what_became_of_two_copies(
        self, backend: SessionBackend, incoming: StoredSession, outcome: AbsorbOutcome
    ) -> None:
        await backend.create(KEPT)
        assert [done.outcome for done in await backend.absorb([incoming])] == [outcome]

    @every_other
    async def test_no_query_of_either_copy_is_lost_moved_or_doubled(
        self, backend: SessionBackend, incoming: StoredSession, outcome: AbsorbOutcome
    ) -> None:
        after = await merged(backend, incoming)
        assert after.queries[: len(KEPT.queries)] == KEPT.queries
        assert sorted(after.queries) == sorted({*KEPT.queries, *incoming.queries})
        page = await backend.queries(KEPT.id, limit=100)
        assert page is not None
        assert (page.bodies, page.total) == (after.queries, len(after.queries))

    @every_other
    async def test_the_counters_are_true_of_what_both_copies_became(
        self, backend: SessionBackend, incoming: StoredSession, outcome: AbsorbOutcome
    ) -> None:
        assert_counters_are_true(await merged(backend, incoming))

    @every_other
    async def test_absorbing_a_copy_again_changes_nothing(
        self, backend: SessionBackend, incoming: StoredSession, outcome: AbsorbOutcome
    ) -> None:
        before = await merged(backend, incoming)
        for again in (incoming, KEPT, before):
            assert [done.outcome for done in await backend.absorb([again])] == [AbsorbOutcome.UNCHANGED]
        assert await whole(backend, KEPT.id) == before

    @every_other
    async def test_either_order_ends_in_the_same_session(
        self, backend: SessionBackend, incoming: StoredSession, outcome: AbsorbOutcome
    ) -> None:
        one = await merged(backend, incoming)
        await backend.evict(one.id, version=one.version, head=one.head)
        await backend.absorb([incoming])
        await backend.absorb([KEPT])
        two = await whole(backend, KEPT.id)
        assert sorted(two.queries) == sorted(one.queries)
        assert two.head != one.head or two.queries == one.queries  # what is called the same is the same
        assert replace(two, queries=[], writers=b"", head="") == replace(one, queries=[], writers=b"", head="")

    @every_other
    async def test_what_both_copies_became_is_found_by_its_labels_alone(
        self, backend: SessionBackend, incoming: StoredSession, outcome: AbsorbOutcome
    ) -> None:
        after = await merged(backend, incoming)
        for tag in ("ours", "theirs"):
            assert await listed(backend, tags=[tag]) == ([KEPT.id] if tag in after.tags else [])
        assert await listed(backend) == [KEPT.id]

    @pytest.mark.parametrize("name", [name for name, (_, outcome) in OTHERS.items() if outcome == "merged"])
    async def test_a_later_state_replaces_all_but_history(self, backend: SessionBackend, name: str) -> None:
        incoming, _ = OTHERS[name]
        assert await merged(backend, incoming) == incoming

    @pytest.mark.parametrize("name", [name for name, (_, outcome) in OTHERS.items() if outcome == "unchanged"])
    async def test_an_earlier_state_leaves_everything_as_it_is(self, backend: SessionBackend, name: str) -> None:
        incoming, _ = OTHERS[name]
        assert await merged(backend, incoming) == KEPT

    @pytest.mark.parametrize("name", [name for name, (_, outcome) in OTHERS.items() if outcome == "forked"])
    async def test_a_fork_gets_a_version_above_both_and_a_head_of_its_own(
        self, backend: SessionBackend, name: str
    ) -> None:
        incoming, _ = OTHERS[name]
        after = await merged(backend, incoming)
        assert after.version == max(KEPT.version, incoming.version) + 1
        assert after.head not in (KEPT.head, incoming.head)

    @pytest.mark.parametrize(("minutes", "last"), [(0, "ours"), (2, "theirs")])
    async def test_a_fork_at_one_version_has_the_keys_of_both_and_the_last_written_wins(
        self, backend: SessionBackend, minutes: int, last: str
    ) -> None:
        after = await merged(backend, copy_of(THEIRS, 5, last_accessed_at=START + minutes * MINUTE))
        assert after.sections["context"] == {"both": f'"{last}"', "ours": "1"}
        assert after.sections["metadata"] == {"theirs": '"größe"'}
        assert (after.tags, after.last_accessed_at) == ((last,), START + max(minutes, 1) * MINUTE)

    @pytest.mark.parametrize(("version", "winner"), [(8, "theirs"), (2, "ours")])
    async def test_of_two_versions_the_keys_and_fields_of_the_higher_one_stay(
        self, backend: SessionBackend, version: int, winner: str
    ) -> None:
        incoming = copy_of(THEIRS, version)
        after = await merged(backend, incoming)
        assert after.sections == (incoming if winner == "theirs" else KEPT).sections
        assert after.tags == (winner,)

    @pytest.mark.parametrize("version", [2, 5, 6, 8])
    @pytest.mark.parametrize("queries", [OURS, THEIRS])
    async def test_an_expiry_is_never_earlier_than_that_of_the_copy_that_was_there(
        self, backend: SessionBackend, version: int, queries: tuple[StoredQuery, ...]
    ) -> None:
        after = await merged(backend, copy_of(queries, version, expires_at=EXPIRY - MINUTE))
        assert after.expires_at == EXPIRY

    @pytest.mark.parametrize("version", [2, 5, 8])
    @pytest.mark.parametrize("minutes", [0, 2])
    async def test_the_last_access_of_a_fork_is_the_later_of_both(
        self, backend: SessionBackend, version: int, minutes: int
    ) -> None:
        after = await merged(backend, copy_of(THEIRS, version, last_accessed_at=START + minutes * MINUTE))
        assert after.last_accessed_at == START + max(minutes, 1) * MINUTE

    async def test_queries_are_told_apart_by_their_ids(self, backend: SessionBackend) -> None:
        ours = stored_query("price", result_summary="as we saw it")
        theirs = stored_query("price", id=ours.id, result_summary="as they saw it")
        twin = stored_query("price")
        session = await created(backend, queries=(ours,), version=2)
        await backend.absorb([stored_session(id=session.id, queries=(twin, theirs), version=2)])
        assert (await whole(backend, session.id)).queries == [ours.body, twin.body]

    async def test_queries_that_nobody_can_read_are_neither_lost_nor_doubled(self, backend: SessionBackend) -> None:
        bodies = ["not json", '{"id":"17"}', "[]", '{"id":null}']
        session = await created(backend, queries=numbered(1), version=2)
        incoming = replace(session, version=2, head="theirs", queries=bodies, total_queries=len(bodies))
        for _ in range(2):
            await backend.absorb([incoming])
            after = await whole(backend, session.id)
            assert after.queries == [*session.queries, *bodies]
            assert after.total_queries == 5

    async def test_three_copies_end_in_the_same_queries_in_any_order(self, backend: SessionBackend) -> None:
        copies = [KEPT, copy_of(THEIRS, 5), copy_of(numbered(2, first=8), 5, head="third")]
        everything = sorted({body for copy in copies for body in copy.queries})
        for order in permutations(copies):
            for copy in order:
                await backend.absorb([copy])
            after = await whole(backend, KEPT.id)
            assert sorted(after.queries) == everything
            assert_counters_are_true(after)
            await backend.evict(after.id, version=after.version, head=after.head)

    async def test_a_fork_remembers_the_writers_of_both_copies(self, backend: SessionBackend) -> None:
        base = await created(backend)
        changes = [ChangeMaker().query(at=START + seconds * timedelta(seconds=1)) for seconds in (1, 2)]
        copies, answers = [], []
        for change in changes:
            answers.append(await backend.apply(base.id, change))
            copies.append(await whole(backend, base.id))
            await backend.evict(base.id, version=2, head=change.head)
            await backend.create(base)
        await backend.evict(base.id, version=base.version, head=base.head)
        await backend.absorb(copies)
        assert (await whole(backend, base.id)).total_queries == 2
        assert [await backend.apply(base.id, change.repeated()) for change in changes] == answers
        assert (await whole(backend, base.id)).total_queries == 2

    async def test_a_merged_session_takes_changes(self, backend: SessionBackend) -> None:
        before = await merged(backend, copy_of(THEIRS, 5))
        applied = await backend.apply(KEPT.id, ChangeMaker().query("next"))
        after = await whole(backend, KEPT.id)
        assert (applied.version, applied.total_queries) == (before.version + 1, before.total_queries + 1)
        assert after.queries[:-1] == before.queries
        assert_counters_are_true(after)
