"""Many callers at once, on one connection and on two."""

# ruff: noqa: D102 (the names of tests are sentences)

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from itertools import cycle
from typing import TypeVar
from uuid import UUID

import pytest

from perdure.backends import SessionBackend
from perdure.changes import Applied, SessionChange
from perdure.errors import QueryLimitExceededError, SessionExistsError, VersionConflictError
from perdure.testing.builders import START, ChangeMaker, stored_session
from perdure.testing.conformance.steps import FOREVER, MINUTE, claimed_ids, created, listed, whole

__all__ = ["ConcurrencyPromises"]

T = TypeVar("T")


def calls(
    connections: Sequence[SessionBackend], session_id: UUID, changes: Iterable[SessionChange]
) -> list[Awaitable[Applied]]:
    """The changes, over the connections in turn."""
    return [backend.apply(session_id, change) for backend, change in zip(cycle(connections), changes, strict=False)]


async def count_refused(attempts: Iterable[Awaitable[T]], refusal: type[Exception]) -> int:
    """How many of some concurrent attempts end with this refusal; none may end with another."""

    async def is_refused(attempt: Awaitable[T]) -> bool:
        try:
            await attempt
        except refusal:
            return True
        return False

    return sum(await asyncio.gather(*map(is_refused, attempts)))


class ConcurrencyPromises:
    """Any number of tasks, any number of connections."""

    @pytest.fixture(params=[1, 2], ids=["one connection", "two connections"])
    def connections(
        self, request: pytest.FixtureRequest, backend: SessionBackend, other: SessionBackend
    ) -> list[SessionBackend]:
        """One connection, or two."""
        return [backend, other][: request.param]

    async def test_of_fifty_concurrent_appends_none_is_lost_and_each_has_its_own_position(
        self, connections: list[SessionBackend]
    ) -> None:
        session = await created(connections[0])
        changes = [ChangeMaker().query(f"query-{number}") for number in range(50)]
        answers = await asyncio.gather(*calls(connections, session.id, changes))
        after = await whole(connections[-1], session.id)
        places = {answer.total_queries: change.queries[0].body for answer, change in zip(answers, changes, strict=True)}
        assert sorted(places) == list(range(1, 51))
        assert after.queries == [places[position] for position in range(1, 51)]
        assert (after.total_queries, after.version) == (50, 51)
        assert sorted(answer.version for answer in answers) == list(range(2, 52))

    async def test_concurrent_appends_of_several_queries_keep_those_together(
        self, connections: list[SessionBackend]
    ) -> None:
        session = await created(connections[0])
        changes = [
            ChangeMaker().change(queries=ChangeMaker().query("a").queries + ChangeMaker().query("b").queries)
            for _ in range(20)
        ]
        answers = await asyncio.gather(*calls(connections, session.id, changes))
        after = await whole(connections[0], session.id)
        for answer, change in zip(answers, changes, strict=True):
            assert after.queries[answer.total_queries - 2 : answer.total_queries] == [q.body for q in change.queries]

    async def test_of_concurrent_writes_of_different_keys_none_is_lost(self, connections: list[SessionBackend]) -> None:
        session = await created(connections[0], sections={"context": {f"old-{n}": n for n in range(20)}})
        changes = [
            ChangeMaker().change(
                set_entries={"context": {f"new-{n}": str(n)}, "metadata": {f"new-{n}": str(n)}},
                unset_entries={"context": [f"old-{n}"]},
            )
            for n in range(20)
        ]
        await asyncio.gather(*calls(connections, session.id, changes))
        after = await whole(connections[-1], session.id)
        expected = {f"new-{n}": str(n) for n in range(20)}
        assert (after.sections["context"], after.sections["metadata"]) == (expected, expected)
        assert after.state_bytes == 2 * sum(len(key) + len(text) for key, text in expected.items())

    async def test_of_concurrent_labels_none_is_lost(self, connections: list[SessionBackend]) -> None:
        session = await created(connections[0])
        changes = [ChangeMaker().change(add_tags=(f"tag-{n}",)) for n in range(10)]
        await asyncio.gather(*calls(connections, session.id, changes))
        after = await whole(connections[-1], session.id)
        assert set(after.tags) == {f"tag-{n}" for n in range(10)}
        assert [await listed(connections[0], tags=[tag]) for tag in after.tags] == [[session.id]] * 10

    async def test_of_concurrent_changes_on_one_version_one_is_applied(self, connections: list[SessionBackend]) -> None:
        session = await created(connections[0])
        changes = [ChangeMaker().query(if_version=1) for _ in range(10)]
        assert await count_refused(calls(connections, session.id, changes), VersionConflictError) == 9
        assert (await whole(connections[0], session.id)).total_queries == 1

    async def test_concurrent_appends_do_not_pass_the_limit(self, connections: list[SessionBackend]) -> None:
        session = await created(connections[0])
        changes = [ChangeMaker().query(max_queries=4) for _ in range(10)]
        assert await count_refused(calls(connections, session.id, changes), QueryLimitExceededError) == 6
        assert (await whole(connections[0], session.id)).total_queries == 4

    async def test_of_concurrent_creations_under_one_id_one_succeeds(self, connections: list[SessionBackend]) -> None:
        rivals = [stored_session(tags=(f"tag-{n}",)) for n in range(10)]
        for rival in rivals:
            rival.id = rivals[0].id
        attempts = [backend.create(rival) for backend, rival in zip(cycle(connections), rivals, strict=False)]
        assert await count_refused(attempts, SessionExistsError) == 9
        assert await whole(connections[0], rivals[0].id) in rivals
        assert await listed(connections[0]) == [rivals[0].id]

    async def test_concurrent_repeats_are_applied_once(self, connections: list[SessionBackend]) -> None:
        session = await created(connections[0])
        change = ChangeMaker().query()
        answers = await asyncio.gather(*calls(connections, session.id, [change] + [change.repeated()] * 9))
        assert set(answers) == {Applied(version=2, total_queries=1)}
        assert (await whole(connections[0], session.id)).total_queries == 1

    async def test_concurrent_claims_are_disjoint_while_others_write(self, connections: list[SessionBackend]) -> None:
        ids = [(await created(connections[0])).id for _ in range(20)]
        writes = [b.apply(known, ChangeMaker().query()) for b, known in zip(cycle(connections), ids, strict=False)]
        claims = [claimed_ids(backend, limit=3) for backend, _ in zip(cycle(connections), range(9), strict=False)]
        taken, _ = await asyncio.gather(asyncio.gather(*claims), asyncio.gather(*writes))
        flat = [session_id for claim in taken for session_id in claim]
        assert sorted(flat) == sorted(ids)

    async def test_many_sessions_are_written_at_once(self, connections: list[SessionBackend]) -> None:
        sessions = [stored_session() for _ in range(30)]

        async def work(backend: SessionBackend, session_id: UUID) -> None:
            writer = ChangeMaker()
            for number in range(5):
                await backend.apply(session_id, writer.query(f"query-{number}", at=START + number * MINUTE))

        await asyncio.gather(*(connections[0].create(session) for session in sessions))
        await asyncio.gather(*(work(b, s.id) for b, s in zip(cycle(connections), sessions, strict=False)))
        for session in sessions:
            after = await whole(connections[-1], session.id)
            assert [f'"query-{number}"' in body for number, body in enumerate(after.queries)] == [True] * 5

    async def test_a_refused_change_disturbs_none_of_its_neighbours(self, connections: list[SessionBackend]) -> None:
        session = await created(connections[0])
        changes = [ChangeMaker().query(if_version=99 if n % 2 else None) for n in range(20)]
        assert await count_refused(calls(connections, session.id, changes), VersionConflictError) == 10
        after = await whole(connections[0], session.id)
        assert len(after.queries) == 10
        assert {change.queries[0].body for change in changes[::2]} == set(after.queries)

    async def test_a_bad_batch_disturbs_none_of_its_neighbours(self, connections: list[SessionBackend]) -> None:
        session = await created(connections[0])
        bad = stored_session()
        bad.type = None  # type: ignore[assignment]  # what no backend can store
        changes = [ChangeMaker().query() for _ in range(10)]
        await asyncio.gather(connections[-1].absorb([bad]), *calls(connections, session.id, changes))
        assert (await whole(connections[0], session.id)).total_queries == 10

    async def test_cancelling_one_caller_disturbs_no_other(self, connections: list[SessionBackend]) -> None:
        session = await created(connections[0])
        changes = [ChangeMaker().query(f"query-{number}") for number in range(30)]
        tasks = [asyncio.ensure_future(call) for call in calls(connections, session.id, changes)]
        await asyncio.sleep(0)  # lets every task begin
        cancelled = range(0, 30, 3)
        for number in cancelled:
            tasks[number].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        others = [number for number in range(30) if number not in cancelled]
        answers = [tasks[number].result() for number in others]
        for backend in connections:
            await backend.apply(session.id, ChangeMaker().change())  # comes after what is queued
        after = await whole(connections[0], session.id)
        for number, answer in zip(others, answers, strict=True):
            assert after.queries[answer.total_queries - 1] == changes[number].queries[0].body
        assert len(set(after.queries)) == len(after.queries) == after.total_queries

    async def test_a_cancelled_change_can_be_repeated(self, connections: list[SessionBackend]) -> None:
        session = await created(connections[0])
        change = ChangeMaker().query()
        task = asyncio.ensure_future(connections[0].apply(session.id, change))
        await asyncio.sleep(0)  # lets it begin
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        answer = await connections[-1].apply(session.id, change.repeated())
        assert answer == Applied(version=2, total_queries=1)
        assert (await whole(connections[0], session.id)).total_queries == 1

    async def test_deleting_and_writing_at_once_leaves_nothing(self, connections: list[SessionBackend]) -> None:
        session = await created(connections[0], tags=("x",))
        writes = calls(connections, session.id, [ChangeMaker().query() for _ in range(10)])
        deletion = connections[-1].delete(session.id, forget_at=FOREVER)
        await asyncio.gather(*writes[:5], deletion, *writes[5:], return_exceptions=True)
        assert await connections[0].read(session.id) is None
        assert await listed(connections[0], tags=["x"]) == []
