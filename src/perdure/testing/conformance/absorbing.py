"""Taking sessions from elsewhere, many at once."""

# ruff: noqa: D102 (the names of tests are sentences)

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from perdure.backends import SessionBackend
from perdure.merging import AbsorbOutcome
from perdure.testing.builders import START, ChangeMaker, stored_query, stored_session
from perdure.testing.conformance.steps import (
    EXPIRY,
    FOREVER,
    MINUTE,
    OpenBackend,
    claimed_ids,
    created,
    listed,
    numbered,
    numbered_session,
    whole,
)

__all__ = ["AbsorbingPromises"]

BAD: dict[str, dict[str, Any]] = {
    "no type": {"type": None},
    "no head": {"head": None},
    "a type that is no text": {"type": ["equity"]},
    "assets that are no list": {"assets": None},
    "a tag that is half a character": {"tags": ("\ud800",)},
    "no value": {"sections": {"context": {"a": None}, "preferences": {}, "intermediate_results": {}, "metadata": {}}},
    "a value that is no text": {
        "sections": {"context": {"a": ["b"]}, "preferences": {}, "intermediate_results": {}, "metadata": {}}
    },
    "a value that is half a character": {
        "sections": {"context": {"a": "\ud800"}, "preferences": {}, "intermediate_results": {}, "metadata": {}}
    },
    "a query without text": {"queries": [None]},
    "a query that is no text": {"queries": [{"query_type": "price"}]},
    "no instant": {"created_at": None},
    "no version": {"version": None},
    "a version of more than 64 bits": {"version": 2**70},
}


class AbsorbingPromises:
    """`absorb`: batches."""

    async def test_an_absorbed_session_is_stored_whole(self, backend: SessionBackend, other: SessionBackend) -> None:
        session = stored_session(
            queries=(stored_query(cache_hit=True), *numbered(3)),
            sections={"context": {"a": 1}, "metadata": {"b": "ü"}},
            tags=("tech",),
            version=9,
            writers=ChangeMaker().writer.bytes + bytes(24),
        )
        (done,) = await backend.absorb([session])
        assert (done.session_id, done.outcome, done.error) == (session.id, AbsorbOutcome.STORED, None)
        assert await whole(backend, session.id) == session
        assert await whole(other, session.id) == session
        assert await listed(backend, tags=["tech"], assets=["AAPL"], user_id="analyst") == [session.id]

    async def test_nothing_comes_of_nothing(self, backend: SessionBackend) -> None:
        assert await backend.absorb([]) == []
        assert await backend.absorb([], tickets={}) == []

    async def test_the_report_is_in_the_order_given(self, backend: SessionBackend) -> None:
        there, deleted, older = await created(backend), await created(backend), await created(backend, version=3)
        await backend.delete(deleted.id, forget_at=FOREVER)
        fresh, newer, fork = stored_session(), replace(there, version=2, head="newer"), replace(older, head="fork")
        report = await backend.absorb([fork, deleted, fresh, newer, older])
        assert [done.session_id for done in report] == [fork.id, deleted.id, fresh.id, newer.id, older.id]
        assert [done.outcome for done in report] == [
            AbsorbOutcome.FORKED,
            AbsorbOutcome.DELETED,
            AbsorbOutcome.STORED,
            AbsorbOutcome.MERGED,
            AbsorbOutcome.UNCHANGED,
        ]

    async def test_a_batch_is_there_after_a_reopening(self, open_backend: OpenBackend) -> None:
        sessions = [numbered_session(2) for _ in range(60)]
        async with aclosing(await open_backend()) as backend:
            report = await backend.absorb(sessions)
        assert {done.outcome for done in report} == {AbsorbOutcome.STORED}
        async with aclosing(await open_backend()) as again:
            assert [await again.read(session.id) for session in sessions] == sessions

    async def test_a_batch_absorbed_twice_is_unchanged(self, backend: SessionBackend) -> None:
        sessions = [numbered_session(2) for _ in range(5)]
        await backend.absorb(sessions)
        assert {done.outcome for done in await backend.absorb(sessions)} == {AbsorbOutcome.UNCHANGED}
        assert [await whole(backend, session.id) for session in sessions] == sessions

    async def test_two_copies_in_one_batch_are_absorbed_one_after_the_other(self, backend: SessionBackend) -> None:
        active = numbered_session(2)
        ended = replace(active, archived_at=EXPIRY)
        report = await backend.absorb([ended, active, ended])
        assert [absorbed.outcome for absorbed in report] == [
            AbsorbOutcome.STORED,
            AbsorbOutcome.UNCHANGED,
            AbsorbOutcome.UNCHANGED,
        ]
        assert await whole(backend, active.id) == ended

    async def test_a_session_twice_in_one_batch_is_stored_once(self, backend: SessionBackend) -> None:
        session = numbered_session(2)
        later = replace(session, version=2, head="later", tags=("late",))
        report = await backend.absorb([session, session, later])
        assert [done.outcome for done in report] == [
            AbsorbOutcome.STORED,
            AbsorbOutcome.UNCHANGED,
            AbsorbOutcome.MERGED,
        ]
        assert await listed(backend) == [session.id]
        assert await whole(backend, session.id) == later

    @pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
    async def test_a_bad_record_fails_alone(self, backend: SessionBackend, bad: dict[str, Any]) -> None:
        before, after = numbered_session(2), numbered_session(2)
        broken = replace(stored_session(tags=("broken",)), **bad)
        first, failed, last = await backend.absorb([before, broken, after])
        assert (first.outcome, last.outcome) == (AbsorbOutcome.STORED, AbsorbOutcome.STORED)
        assert (failed.session_id, failed.outcome) == (broken.id, AbsorbOutcome.FAILED)
        assert failed.error
        assert await backend.read(broken.id) is None
        assert await listed(backend, tags=["broken"]) == []
        assert [await whole(backend, session.id) for session in (before, after)] == [before, after]

    @pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
    async def test_a_bad_record_leaves_what_is_there(self, backend: SessionBackend, bad: dict[str, Any]) -> None:
        session = await created(backend, tags=("tech",), sections={"context": {"a": 1}})
        (failed,) = await backend.absorb([replace(session, **{"version": 2, "head": "later", **bad})])
        assert failed.outcome is AbsorbOutcome.FAILED
        assert await whole(backend, session.id) == session
        assert await listed(backend, tags=["tech"]) == [session.id]

    async def test_what_was_handed_in_is_not_what_is_kept(self, backend: SessionBackend) -> None:
        session = numbered_session(2)
        before = session.copy()
        await backend.absorb([session])
        session.sections["context"]["late"] = "1"
        session.queries.clear()
        assert await whole(backend, session.id) == before

    async def test_an_absorbed_session_takes_changes(self, backend: SessionBackend) -> None:
        session = numbered_session(2)
        await backend.absorb([session])
        applied = await backend.apply(session.id, ChangeMaker().query("third"))
        assert (applied.version, applied.total_queries) == (2, 3)
        assert (await whole(backend, session.id)).queries[:2] == session.queries

    async def test_archived_sessions_are_absorbed_as_archived(self, backend: SessionBackend) -> None:
        session = stored_session(archived_at=EXPIRY)
        await backend.absorb([session])
        assert await listed(backend, archived=True) == [session.id]
        assert await listed(backend, archived=False) == []
        assert await claimed_ids(backend) == []

    async def test_absorbing_an_archived_copy_archives(self, backend: SessionBackend) -> None:
        session = await created(backend)
        archived = replace(session, version=2, head="archived", archived_at=START + MINUTE)
        (done,) = await backend.absorb([archived])
        assert done.outcome is AbsorbOutcome.MERGED
        assert await listed(backend, archived=True) == [session.id]
        assert await listed(backend, archived=False) == []
        assert await claimed_ids(backend) == []
