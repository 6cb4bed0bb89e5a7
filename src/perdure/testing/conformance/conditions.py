"""When a change is refused, with what, and in which order it is asked."""

# ruff: noqa: D102 (the names of tests are sentences)

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from perdure.backends import SessionBackend
from perdure.changes import SessionChange
from perdure.errors import (
    OutcomeUnknownError,
    QueryLimitExceededError,
    SessionArchivedError,
    SessionError,
    SessionExpiredError,
    SessionNotFoundError,
    StateLimitExceededError,
    VersionConflictError,
)
from perdure.testing.builders import ChangeMaker, stored_query, stored_session
from perdure.testing.conformance.steps import EXPIRY, HOUR, created, listed, numbered, whole

__all__ = ["ConditionPromises"]


@dataclass(frozen=True)
class Hurdle:
    """A reason to refuse: what of the session and of the change brings it about."""

    error: type[SessionError]
    session: dict[str, Any] = field(default_factory=dict)
    change: dict[str, Any] = field(default_factory=dict)


HURDLES = [
    Hurdle(SessionNotFoundError, change={"owner": "somebody else"}),
    Hurdle(SessionArchivedError, session={"archived_at": EXPIRY}),
    Hurdle(SessionExpiredError, change={"at": EXPIRY + HOUR}),
    Hurdle(VersionConflictError, change={"if_version": 99}),
    Hurdle(QueryLimitExceededError, change={"max_queries": 2}),
    Hurdle(StateLimitExceededError, change={"max_state_bytes": 3}),
]
"""In the order in which they must be found; a forgotten repeat comes before all of them."""

CONTENT: dict[str, Any] = {
    "queries": (stored_query(),),
    "set_entries": {"context": {"a": "22", "b": "33"}},
    "unset_entries": {"metadata": ["m"]},
    "add_tags": ("added",),
    "remove_tags": ("tech",),
}


def _before(hurdles: list[Hurdle]) -> dict[str, Any]:
    facts = {name: value for hurdle in hurdles for name, value in hurdle.session.items()}
    return {
        "queries": numbered(2),
        "tags": ("tech",),
        "sections": {"context": {"a": 1}, "metadata": {"m": 1}},
        **facts,
    }


def _asked(hurdles: list[Hurdle]) -> dict[str, Any]:
    return {**CONTENT, **{name: value for hurdle in hurdles for name, value in hurdle.change.items()}}


def _name(hurdle: Hurdle) -> str:
    return hurdle.error.__name__


class ConditionPromises:
    """`apply`: conditions, limits, and the order of checks."""

    @pytest.mark.parametrize("hurdle", HURDLES, ids=_name)
    async def test_a_refused_change_changes_nothing(
        self, backend: SessionBackend, other: SessionBackend, hurdle: Hurdle
    ) -> None:
        session = await created(backend, **_before([hurdle]))
        with pytest.raises(hurdle.error) as caught:
            await backend.apply(session.id, ChangeMaker().change(**_asked([hurdle])))
        assert caught.value.session_id == session.id
        assert await whole(backend, session.id) == session
        assert await whole(other, session.id) == session
        assert await listed(backend, tags=["tech"]) == [session.id]
        assert await listed(backend, tags=["added"]) == []

    @pytest.mark.parametrize("first", range(len(HURDLES)), ids=[_name(hurdle) for hurdle in HURDLES])
    async def test_of_several_reasons_to_refuse_the_first_is_told(self, backend: SessionBackend, first: int) -> None:
        session = await created(backend, **_before(HURDLES[first:]))
        with pytest.raises(HURDLES[first].error):
            await backend.apply(session.id, ChangeMaker().change(**_asked(HURDLES[first:])))
        assert await whole(backend, session.id) == session

    @pytest.mark.parametrize("hurdle", HURDLES, ids=_name)
    async def test_a_forgotten_repeat_is_told_before_anything_else(
        self, backend: SessionBackend, hurdle: Hurdle
    ) -> None:
        session = stored_session(**_before([hurdle]))
        writer = ChangeMaker()
        forgotten = writer.change(**_asked([hurdle]))
        session.writers = await _remembered(backend, writer.change())
        await backend.create(session)
        with pytest.raises(OutcomeUnknownError):
            await backend.apply(session.id, forgotten.repeated())
        assert await whole(backend, session.id) == session

    async def test_a_session_without_an_owner_is_nobodys(self, backend: SessionBackend) -> None:
        session = await created(backend, user_id=None)
        with pytest.raises(SessionNotFoundError):
            await backend.apply(session.id, ChangeMaker().query(owner="analyst"))
        await backend.apply(session.id, ChangeMaker().query())
        assert (await whole(backend, session.id)).total_queries == 1

    async def test_the_owners_change_is_applied(self, backend: SessionBackend) -> None:
        session = await created(backend, user_id="analyst")
        await backend.apply(session.id, ChangeMaker().query(owner="analyst"))
        assert (await whole(backend, session.id)).total_queries == 1

    async def test_another_owner_cannot_revive_a_session(self, backend: SessionBackend) -> None:
        session = await created(backend, user_id="analyst", archived_at=EXPIRY)
        with pytest.raises(SessionNotFoundError):
            await backend.apply(session.id, ChangeMaker().change(owner="other", at=EXPIRY, expires_at=EXPIRY + HOUR))
        assert await whole(backend, session.id) == session

    async def test_a_change_on_the_right_version_is_applied(self, backend: SessionBackend) -> None:
        session = await created(backend, version=5)
        assert (await backend.apply(session.id, ChangeMaker().query(if_version=5))).version == 6

    @pytest.mark.parametrize("expected", [0, 4, 6])
    async def test_a_version_conflict_tells_both_versions(self, backend: SessionBackend, expected: int) -> None:
        session = await created(backend, version=5)
        with pytest.raises(VersionConflictError) as caught:
            await backend.apply(session.id, ChangeMaker().query(if_version=expected))
        assert (caught.value.expected, caught.value.found) == (expected, 5)

    async def test_a_session_takes_as_many_queries_as_the_limit_and_no_more(self, backend: SessionBackend) -> None:
        session = await created(backend, queries=numbered(2))
        await backend.apply(session.id, ChangeMaker().query(max_queries=3))
        with pytest.raises(QueryLimitExceededError) as caught:
            await backend.apply(session.id, ChangeMaker().change(queries=numbered(2), max_queries=4))
        assert (caught.value.limit, caught.value.count, caught.value.adding) == (4, 3, 2)
        assert (await whole(backend, session.id)).total_queries == 3

    async def test_a_session_past_a_limit_still_takes_what_does_not_grow_it(self, backend: SessionBackend) -> None:
        session = await created(backend, queries=numbered(2), sections={"context": {"a": 1, "b": 2}})
        change = ChangeMaker().change(
            max_queries=1,
            max_state_bytes=0,
            set_entries={"preferences": {}},
            unset_entries={"context": ["a"]},
            add_tags=("late",),
        )
        await backend.apply(session.id, change)
        after = await whole(backend, session.id)
        assert (after.sections["context"], after.tags) == ({"b": "2"}, ("late",))

    @pytest.mark.parametrize(
        ("content", "size_bytes"),
        [
            ({"set_entries": {"context": {"b": "1234"}}}, 11 + 5),
            ({"set_entries": {"metadata": {"b": "1234"}, "preferences": {"b": "1234"}}}, 11 + 10),
            ({"set_entries": {"context": {"a": "1234"}}}, 6 + 5),
            ({"set_entries": {"context": {"größe": '"🚀"'}}}, 11 + 7 + 6),
            ({"set_entries": {"context": {"b": "1"}}, "unset_entries": {"context": ["a"]}}, 6 + 2),
            ({"set_entries": {"context": {"a": "1"}}, "unset_entries": {"context": ["a"]}}, 6 + 2),
            ({"set_entries": {"context": {"b": "1"}}, "unset_entries": {"context": ["a", "a", "zz"]}}, 6 + 2),
            ({"set_entries": {"context": {"b": "1"}}, "unset_entries": {"metadata": ["a"]}}, 11 + 2),
        ],
    )
    async def test_the_state_may_weigh_as_much_as_the_limit_and_no_more(
        self, backend: SessionBackend, content: dict[str, Any], size_bytes: int
    ) -> None:
        session = await created(backend, sections={"context": {"a": 1000}, "metadata": {"m": 10000}})
        with pytest.raises(StateLimitExceededError) as caught:
            await backend.apply(session.id, ChangeMaker().change(**content, max_state_bytes=size_bytes - 1))
        assert (caught.value.limit_bytes, caught.value.size_bytes) == (size_bytes - 1, size_bytes)
        await backend.apply(session.id, ChangeMaker().change(**content, max_state_bytes=size_bytes))
        assert (await whole(backend, session.id)).state_bytes == size_bytes

    async def test_the_limits_hold_for_what_the_session_weighs_after_earlier_changes(
        self, backend: SessionBackend
    ) -> None:
        session = await created(backend)
        writer = ChangeMaker()
        await backend.apply(session.id, writer.change(set_entries={"context": {"a": "1" * 99, "b": "1" * 49}}))
        await backend.apply(session.id, writer.change(unset_entries={"context": ["a"]}))
        await backend.apply(session.id, writer.change(set_entries={"context": {"c": "1" * 49}}, max_state_bytes=100))
        with pytest.raises(StateLimitExceededError):
            await backend.apply(session.id, writer.change(set_entries={"context": {"d": "1"}}, max_state_bytes=101))

    async def test_a_refused_change_may_be_sent_again_when_nothing_stands_in_its_way(
        self, backend: SessionBackend
    ) -> None:
        session = await created(backend)
        refused = ChangeMaker().query(if_version=2)
        with pytest.raises(VersionConflictError):
            await backend.apply(session.id, refused)
        await backend.apply(session.id, ChangeMaker().change(at=EXPIRY - timedelta(minutes=1)))
        assert (await backend.apply(session.id, replace(refused, attempt=2))).total_queries == 1


async def _remembered(backend: SessionBackend, change: SessionChange) -> bytes:
    """The memory of repeats of a session that took this change."""
    session = await created(backend)
    await backend.apply(session.id, change)
    return (await whole(backend, session.id)).writers
