"""Calls whose session nobody names belong to that of the host's conversation, if it has one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.integrations.mcp.servers import Served, served, told

from perdure.integrations.mcp import CONVERSATION_KEYS
from perdure.testing import Fault, Moment


async def count(server: Served, session_id: str) -> int:
    return (await server.session(session_id)).state.history.total_queries


def bound_to(session_id: str, position: int = 1) -> dict[str, Any]:
    return {"session_id": session_id, "position": position, "bound_by": "conversation"}


@pytest.mark.parametrize("key", CONVERSATION_KEYS)
async def test_a_call_of_the_conversation_attaches_to_its_session(key: str) -> None:
    async with served() as server:
        session_id = await server.create(meta={key: "chat-1"})
        result = await server.call("price", symbol="AAPL", meta={key: "chat-1"})
        assert told(result) == bound_to(session_id)


async def test_other_conversations_and_calls_without_any_do_not() -> None:
    async with served() as server:
        session_id = await server.create(meta={"threadId": "chat-1"})
        for meta in ({"threadId": "chat-2"}, {"sessionID": "chat-1"}, {"threadId": ""}, {"threadId": 1}, {}, None):
            assert told(await server.call("price", symbol="AAPL", meta=meta)) is None
        assert await count(server, session_id) == 0


async def test_a_conversation_without_a_session_is_not_tracked() -> None:
    async with served() as server:
        await server.create()
        assert told(await server.call("price", symbol="AAPL", meta={"threadId": "chat-1"})) is None


async def test_the_argument_goes_before_the_conversation() -> None:
    async with served() as server:
        await server.create(meta={"threadId": "chat-1"})
        other = await server.create()
        result = await server.call("price", symbol="AAPL", session_id=other, meta={"threadId": "chat-1"})
        assert told(result) == {"session_id": other, "position": 1, "bound_by": "argument"}


async def test_of_several_sessions_the_newest_active_one_counts() -> None:
    async with served() as server:
        meta = {"threadId": "chat-1"}
        old = await server.create(meta=meta, ttl_hours=100)
        server.clock.advance(timedelta(minutes=1))
        newer = await server.create(meta=meta, ttl_hours=1)
        server.clock.advance(timedelta(minutes=1))
        archived = await server.create(meta=meta, ttl_hours=100)
        await server.store.archive_session(archived)

        assert told(await server.call("price", symbol="AAPL", meta=meta)) == bound_to(newer)
        server.clock.advance(timedelta(hours=2))  # expired, and nobody has swept
        assert told(await server.call("price", symbol="AAPL", meta=meta)) == bound_to(old)


async def test_an_active_session_is_found_behind_many_expired_ones() -> None:
    async with served() as server:
        meta = {"threadId": "chat-1"}
        active = await server.create(meta=meta, ttl_hours=100)
        for _ in range(45):
            server.clock.advance(timedelta(seconds=1))
            await server.create(meta=meta, ttl_hours=1)
        server.clock.advance(timedelta(hours=2))
        assert told(await server.call("price", symbol="AAPL", meta=meta)) == bound_to(active)


async def test_binding_can_be_left_to_the_argument_alone() -> None:
    async with served(bind="argument") as server:
        session_id = await server.create(meta={"threadId": "chat-1"})
        assert told(await server.call("price", symbol="AAPL", meta={"threadId": "chat-1"})) is None
        assert (await server.session(session_id)).tags == []


async def test_where_only_the_argument_binds_a_label_does_not() -> None:
    label = ".mcp-conversation:" + 32 * "0"
    async with served(bind="argument") as server:
        session = await server.store.create_session(["AAPL"], "equity", tags=[label])
        assert "not a session id" in await server.error("price", symbol="AAPL", session_id=label)
        assert server.calls.seen == []
        assert await count(server, str(session.id)) == 0


async def test_the_list_of_keys_can_be_extended() -> None:
    async with served(conversation_keys=[*CONVERSATION_KEYS, "com.example/chat"]) as server:
        session_id = await server.create(meta={"com.example/chat": "chat-1"})
        result = await server.call("price", symbol="AAPL", meta={"com.example/chat": "chat-1"})
        assert told(result) == bound_to(session_id)


async def test_what_the_conversation_is_called_is_not_stored_and_its_label_not_shown() -> None:
    async with served() as server:
        session_id = await server.create(meta={"threadId": "chat-with-a-telling-name"}, tags=["tech"])

        (label,) = set((await server.session(session_id)).tags) - {"tech"}
        assert label.startswith(".mcp-conversation:")
        assert "telling" not in label
        created = await server.call("get-session-info", session_id=session_id)
        listed = await server.call("list-sessions")
        numbers = await server.call("get-session-analytics")
        for result in (created, listed, numbers):
            assert "mcp-conversation" not in str(result)


async def test_a_label_in_place_of_a_session_opens_nothing_more() -> None:
    async with served() as server:
        session_id = await server.create(meta={"threadId": "chat-1"})
        (label,) = (await server.session(session_id)).tags
        assert "not a session id" in await server.error("get-session-info", session_id=label)


async def test_where_the_sessions_cannot_be_asked_for_the_tool_runs_all_the_same() -> None:
    async with served() as server:
        meta = {"threadId": "chat-1"}
        await server.create(meta=meta)
        server.backend.calls.clear()
        server.backend.faults = [Fault(1, Moment.BEFORE, "find")]

        result = await server.call("price", symbol="AAPL", meta=meta)

        assert result.data == "AAPL: $175.43"
        found = told(result)
        assert found is not None
        assert "not recorded" in found["warning"]
        assert server.sessions.failed == 1
