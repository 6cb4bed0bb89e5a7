"""A change that is sent again because its answer was lost."""

# ruff: noqa: D102 (the names of tests are sentences)

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from perdure.backends import SessionBackend
from perdure.changes import REMEMBERED_WRITERS, SessionChange
from perdure.errors import OutcomeUnknownError, SessionNotFoundError
from perdure.testing.builders import START, ChangeMaker
from perdure.testing.conformance.steps import EXPIRY, FOREVER, HOUR, created, numbered, whole

__all__ = ["RepeatPromises"]


async def others_write(backend: SessionBackend, session_id: UUID, writers: int) -> None:
    """So many other writers change the session once each."""
    for _ in range(writers):
        await backend.apply(session_id, ChangeMaker().change())


class RepeatPromises:
    """`apply`: repeats."""

    async def test_a_repeat_gets_the_first_answer_and_changes_nothing(self, backend: SessionBackend) -> None:
        session = await created(backend, queries=numbered(3))
        change = ChangeMaker().query(set_entries={"context": {"a": "1"}}, add_tags=("x",))
        first = await backend.apply(session.id, change)
        before = await whole(backend, session.id)
        assert await backend.apply(session.id, change.repeated()) == first
        assert await backend.apply(session.id, change.repeated().repeated()) == first
        assert await whole(backend, session.id) == before

    async def test_a_repeat_through_another_connection_gets_the_first_answer(
        self, backend: SessionBackend, other: SessionBackend
    ) -> None:
        session = await created(backend)
        change = ChangeMaker().query()
        first = await backend.apply(session.id, change)
        assert await other.apply(session.id, change.repeated()) == first
        assert (await whole(other, session.id)).total_queries == 1

    async def test_a_repeat_gets_the_first_answer_whatever_others_wrote_since(self, backend: SessionBackend) -> None:
        session = await created(backend)
        change = ChangeMaker().query(set_entries={"context": {"a": "1"}})
        first = await backend.apply(session.id, change)
        await backend.apply(session.id, ChangeMaker().query(set_entries={"context": {"a": "2"}}))
        assert await backend.apply(session.id, change.repeated()) == first
        after = await whole(backend, session.id)
        assert (after.total_queries, after.version, after.sections["context"]) == (2, 3, {"a": "2"})

    async def test_a_repeat_gets_the_first_answer_although_its_conditions_hold_no_longer(
        self, backend: SessionBackend
    ) -> None:
        session = await created(backend)
        change = ChangeMaker().query(
            if_version=1, max_queries=1, max_state_bytes=2, set_entries={"context": {"a": "1"}}
        )
        first = await backend.apply(session.id, change)
        await backend.apply(session.id, ChangeMaker().change(set_entries={"context": {"b": "1"}}))
        assert await backend.apply(session.id, change.repeated()) == first

    async def test_a_repeat_gets_the_first_answer_after_the_session_was_archived(self, backend: SessionBackend) -> None:
        session = await created(backend)
        change = ChangeMaker().query()
        first = await backend.apply(session.id, change)
        await backend.apply(session.id, ChangeMaker().change(archive=True))
        assert await backend.apply(session.id, change.repeated()) == first

    async def test_a_repeated_archiving_gets_the_first_answer(self, backend: SessionBackend) -> None:
        session = await created(backend)
        change = ChangeMaker().change(at=EXPIRY, archive=True)
        first = await backend.apply(session.id, change)
        assert await backend.apply(session.id, change.repeated()) == first

    async def test_a_repeat_gets_the_first_answer_after_the_session_expired(self, backend: SessionBackend) -> None:
        session = await created(backend)
        change = ChangeMaker().query()
        first = await backend.apply(session.id, change)
        assert await backend.apply(session.id, replace(change.repeated(), at=EXPIRY + HOUR)) == first

    async def test_a_repeat_on_a_deleted_session_finds_nothing(self, backend: SessionBackend) -> None:
        session = await created(backend)
        change = ChangeMaker().query()
        await backend.apply(session.id, change)
        await backend.delete(session.id, forget_at=FOREVER)
        with pytest.raises(SessionNotFoundError):
            await backend.apply(session.id, change.repeated())

    async def test_a_repeat_of_what_was_never_applied_is_applied(self, backend: SessionBackend) -> None:
        session = await created(backend)
        writer = ChangeMaker()
        await backend.apply(session.id, writer.query())
        assert (await backend.apply(session.id, writer.query().repeated())).total_queries == 2
        assert (await backend.apply(session.id, ChangeMaker().query().repeated())).total_queries == 3

    async def test_a_repeat_older_than_the_writers_last_change_has_an_unknown_outcome(
        self, backend: SessionBackend
    ) -> None:
        session = await created(backend)
        writer = ChangeMaker()
        older = writer.query()
        await backend.apply(session.id, older)
        await backend.apply(session.id, writer.query())
        before = await whole(backend, session.id)
        with pytest.raises(OutcomeUnknownError) as caught:
            await backend.apply(session.id, older.repeated())
        assert caught.value.session_id == session.id
        assert await whole(backend, session.id) == before

    async def test_the_last_change_of_as_many_writers_is_remembered(self, backend: SessionBackend) -> None:
        session = await created(backend)
        changes = [ChangeMaker().query() for _ in range(REMEMBERED_WRITERS)]
        answers = [await backend.apply(session.id, change) for change in changes]
        assert [await backend.apply(session.id, change.repeated()) for change in changes] == answers
        assert (await whole(backend, session.id)).total_queries == REMEMBERED_WRITERS

    async def test_a_repeat_of_a_forgotten_writer_has_an_unknown_outcome(self, backend: SessionBackend) -> None:
        session = await created(backend)
        change = ChangeMaker().query()
        await backend.apply(session.id, change)
        await others_write(backend, session.id, REMEMBERED_WRITERS)
        with pytest.raises(OutcomeUnknownError):
            await backend.apply(session.id, change.repeated())
        assert (await whole(backend, session.id)).total_queries == 1

    async def test_a_first_attempt_of_a_forgotten_writer_is_applied(self, backend: SessionBackend) -> None:
        session = await created(backend)
        writer = ChangeMaker()
        await backend.apply(session.id, writer.query())
        await others_write(backend, session.id, REMEMBERED_WRITERS)
        assert (await backend.apply(session.id, writer.query())).total_queries == 2

    async def test_of_too_many_writers_the_one_that_wrote_longest_ago_is_forgotten(
        self, backend: SessionBackend
    ) -> None:
        session = await created(backend)
        first, second = ChangeMaker(), ChangeMaker()
        await backend.apply(session.id, first.query())
        lost = second.query()
        await backend.apply(session.id, lost)
        again = first.query()
        answer = await backend.apply(session.id, again)
        await others_write(backend, session.id, REMEMBERED_WRITERS - 1)
        assert await backend.apply(session.id, again.repeated()) == answer
        with pytest.raises(OutcomeUnknownError):
            await backend.apply(session.id, lost.repeated())

    async def test_a_writer_is_remembered_for_each_session_apart(self, backend: SessionBackend) -> None:
        first, second = await created(backend), await created(backend)
        change = ChangeMaker().query()
        await backend.apply(first.id, change)
        assert (await backend.apply(second.id, change)).total_queries == 1

    async def test_change_ids_are_told_apart_up_to_63_bits(self, backend: SessionBackend) -> None:
        session = await created(backend)
        writer = ChangeMaker().writer
        changes = [SessionChange(writer=writer, change_id=2**63 - 3 + number, at=START) for number in range(3)]
        for version, change in enumerate(changes, 2):
            assert (await backend.apply(session.id, change)).version == version
        with pytest.raises(OutcomeUnknownError):
            await backend.apply(session.id, changes[1].repeated())
        assert (await backend.apply(session.id, changes[2].repeated())).version == 4

    async def test_the_memory_of_repeats_travels_with_the_session(self, backend: SessionBackend) -> None:
        session = await created(backend)
        change = ChangeMaker().query()
        answer = await backend.apply(session.id, change)
        taken = await whole(backend, session.id)
        await backend.evict(session.id, version=taken.version, head=taken.head)
        await backend.absorb([taken])
        assert await backend.apply(session.id, change.repeated()) == answer
