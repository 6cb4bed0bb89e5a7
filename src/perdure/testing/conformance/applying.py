"""Changes that append queries and set or unset keys."""

# ruff: noqa: D102 (the names of tests are sentences)

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from perdure.backends import SessionBackend
from perdure.changes import Applied, entry_bytes
from perdure.errors import SessionNotFoundError
from perdure.models import SECTIONS, SectionName, StoredSession
from perdure.testing.builders import START, ChangeMaker, stored_query
from perdure.testing.conformance.steps import FOREVER, MINUTE, created, numbered, whole

__all__ = ["ApplyingPromises"]


def weight(session: StoredSession) -> int:
    """What `state_bytes` must be."""
    return sum(entry_bytes(key, text) for entries in session.sections.values() for key, text in entries.items())


class ApplyingPromises:
    """`apply`: queries and keys."""

    async def test_a_query_is_appended_and_counted(self, backend: SessionBackend) -> None:
        session = await created(backend)
        query = stored_query("price", cache_hit=True, timestamp=START + MINUTE)
        applied = await backend.apply(session.id, ChangeMaker().change(queries=(query,)))
        after = await whole(backend, session.id)
        assert applied == Applied(version=2, total_queries=1)
        assert after.queries == [query.body]
        assert (after.total_queries, after.cache_hits, after.history_bytes) == (1, 1, query.size_bytes)
        assert (after.first_query_at, after.last_query_at) == (START + MINUTE, START + MINUTE)

    async def test_several_queries_keep_their_order(self, backend: SessionBackend) -> None:
        session = await created(backend, queries=numbered(2))
        applied = await backend.apply(session.id, ChangeMaker().change(queries=numbered(3, first=3)))
        after = await whole(backend, session.id)
        assert applied == Applied(version=2, total_queries=5)
        assert [f'"query-{number}"' in body for number, body in enumerate(after.queries, 1)] == [True] * 5
        assert after.first_position == 1

    async def test_the_earliest_and_the_latest_query_are_known_in_any_order(self, backend: SessionBackend) -> None:
        session = await created(backend)
        writer = ChangeMaker()
        for minutes in (5, 2, 9, 4):
            query = stored_query(timestamp=START + minutes * MINUTE)
            await backend.apply(session.id, writer.change(queries=(query,)))
        after = await whole(backend, session.id)
        assert (after.first_query_at, after.last_query_at) == (START + 2 * MINUTE, START + 9 * MINUTE)

    async def test_history_is_weighed_in_bytes_of_utf8(self, backend: SessionBackend) -> None:
        session = await created(backend, queries=(stored_query("größe"),))
        await backend.apply(session.id, ChangeMaker().query("価格"))
        after = await whole(backend, session.id)
        assert after.history_bytes == sum(len(body.encode()) for body in after.queries)

    @pytest.mark.parametrize("section", SECTIONS)
    async def test_a_key_is_set_in_its_section_alone(self, backend: SessionBackend, section: SectionName) -> None:
        session = await created(backend, sections={name: {"kept": name} for name in SECTIONS})
        await backend.apply(session.id, ChangeMaker().change(set_entries={section: {"new": "1"}}))
        expected = {name: dict(entries) for name, entries in session.sections.items()}
        expected[section]["new"] = "1"
        assert (await whole(backend, session.id)).sections == expected

    @pytest.mark.parametrize("section", SECTIONS)
    async def test_a_key_is_unset_in_its_section_alone(self, backend: SessionBackend, section: SectionName) -> None:
        session = await created(backend, sections={name: {"kept": 1, "gone": 2} for name in SECTIONS})
        await backend.apply(session.id, ChangeMaker().change(unset_entries={section: ["gone"]}))
        expected = {name: dict(entries) for name, entries in session.sections.items()}
        del expected[section]["gone"]
        assert (await whole(backend, session.id)).sections == expected

    async def test_a_key_that_is_set_again_is_replaced(self, backend: SessionBackend) -> None:
        session = await created(backend, sections={"context": {"a": 1, "b": 2}})
        await backend.apply(session.id, ChangeMaker().change(set_entries={"context": {"a": '"one"'}}))
        assert (await whole(backend, session.id)).sections["context"] == {"a": '"one"', "b": "2"}

    async def test_a_key_both_unset_and_set_is_set(self, backend: SessionBackend) -> None:
        session = await created(backend, sections={"context": {"a": 1}})
        for key in ("a", "new"):
            change = ChangeMaker().change(unset_entries={"context": [key]}, set_entries={"context": {key: "2"}})
            await backend.apply(session.id, change)
        after = await whole(backend, session.id)
        assert after.sections["context"] == {"a": "2", "new": "2"}
        assert after.state_bytes == weight(after)

    async def test_unsetting_a_key_that_is_not_there_changes_no_key(self, backend: SessionBackend) -> None:
        session = await created(backend, sections={"context": {"a": 1}})
        await backend.apply(session.id, ChangeMaker().change(unset_entries={"context": ["b"], "metadata": ["a"]}))
        after = await whole(backend, session.id)
        assert (after.sections, after.state_bytes, after.version) == (session.sections, session.state_bytes, 2)

    async def test_a_key_can_be_set_again_after_it_was_unset(self, backend: SessionBackend) -> None:
        session = await created(backend, sections={"context": {"a": 1}})
        writer = ChangeMaker()
        await backend.apply(session.id, writer.change(unset_entries={"context": ["a"]}))
        await backend.apply(session.id, writer.change(set_entries={"context": {"a": "2"}}))
        assert (await whole(backend, session.id)).sections["context"] == {"a": "2"}

    async def test_one_change_does_all_it_says(self, backend: SessionBackend) -> None:
        session = await created(backend, sections={"context": {"a": 1, "b": 2}, "metadata": {"m": 3}})
        change = ChangeMaker().change(
            queries=numbered(2),
            set_entries={"context": {"a": "10"}, "preferences": {"p": "true"}},
            unset_entries={"context": ["b"], "metadata": ["m"]},
            add_tags=("late",),
            add_assets=("MSFT",),
        )
        await backend.apply(session.id, change)
        after = await whole(backend, session.id)
        assert after.sections == {
            "context": {"a": "10"},
            "preferences": {"p": "true"},
            "intermediate_results": {},
            "metadata": {},
        }
        assert (after.total_queries, after.tags, after.assets) == (2, ("late",), ("AAPL", "MSFT"))

    async def test_state_is_weighed_in_bytes_of_utf8(self, backend: SessionBackend) -> None:
        session = await created(backend, sections={"context": {"größe": "größe", "b": "x" * 50}})
        writer = ChangeMaker()
        for content in ({"größe": '"🚀🚀"'}, {"価格": '"価格"', "c": "1"}, {"c": "12345"}):
            await backend.apply(session.id, writer.change(set_entries={"context": content}))
        await backend.apply(session.id, writer.change(unset_entries={"context": ["b", "b"]}))
        after = await whole(backend, session.id)
        assert after.state_bytes == weight(after)

    async def test_a_change_without_content_touches_the_session_and_nothing_else(self, backend: SessionBackend) -> None:
        session = await created(backend, queries=numbered(2), tags=("tech",), sections={"context": {"a": 1}})
        change = ChangeMaker().change(at=START + MINUTE)
        applied = await backend.apply(session.id, change)
        after = await whole(backend, session.id)
        assert applied == Applied(version=2, total_queries=2)
        assert after == replace(
            session, version=2, head=change.head, last_accessed_at=START + MINUTE, writers=after.writers
        )

    async def test_the_last_access_never_goes_back(self, backend: SessionBackend) -> None:
        session = await created(backend, last_accessed_at=START + 2 * MINUTE)
        await backend.apply(session.id, ChangeMaker().change(at=START + MINUTE))
        assert (await whole(backend, session.id)).last_accessed_at == START + 2 * MINUTE

    async def test_every_change_adds_one_to_the_version_and_becomes_the_head(self, backend: SessionBackend) -> None:
        session = await created(backend, version=41)
        for version in (42, 43, 44):
            change = ChangeMaker().query()
            assert (await backend.apply(session.id, change)).version == version
            after = await whole(backend, session.id)
            assert (after.version, after.head) == (version, change.head)

    async def test_a_change_concerns_one_session(self, backend: SessionBackend) -> None:
        session, bystander = await created(backend), await created(backend, sections={"context": {"a": 1}})
        change = ChangeMaker().query(set_entries={"context": {"a": "2"}}, add_tags=("new",))
        await backend.apply(session.id, change)
        assert await whole(backend, bystander.id) == bystander

    async def test_a_session_that_never_was_takes_no_change(self, backend: SessionBackend) -> None:
        session_id = uuid4()
        with pytest.raises(SessionNotFoundError) as caught:
            await backend.apply(session_id, ChangeMaker().query())
        assert caught.value.session_id == session_id
        assert await backend.read(session_id) is None

    async def test_a_deleted_session_takes_no_change(self, backend: SessionBackend) -> None:
        session = await created(backend)
        await backend.delete(session.id, forget_at=FOREVER)
        with pytest.raises(SessionNotFoundError):
            await backend.apply(session.id, ChangeMaker().query())
        assert await backend.read(session.id) is None
