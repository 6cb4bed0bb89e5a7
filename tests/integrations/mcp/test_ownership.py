"""With authentication the principal is the user, and what is somebody else's does not exist."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastmcp import Client, FastMCP
from fastmcp.server.auth import AccessToken
from tests.integrations.mcp.servers import Served, finance, served, text_of, told

from perdure import SessionStore
from perdure.integrations.mcp import callers, install
from perdure.integrations.mcp.principals import principal_of

UNKNOWN = "0192f0c1-0000-7000-8000-000000000000"


class SignedIn:
    """Whom the calls of a test come from."""

    def __init__(self) -> None:
        self.token: AccessToken | None = None

    @contextmanager
    def as_(self, user: str) -> Iterator[None]:
        self.token = AccessToken(token="t", client_id="app", scopes=[], claims={"sub": user})
        yield
        self.token = None


@pytest.fixture
def signed_in(monkeypatch: pytest.MonkeyPatch) -> SignedIn:
    signed_in = SignedIn()
    monkeypatch.setattr(callers, "get_access_token", lambda: signed_in.token)
    return signed_in


def alike(complaint: str, *ids: str) -> str:
    for session_id in ids:
        complaint = complaint.replace(session_id, "…")
    return complaint


async def everything_about(server: Served, session_id: str) -> list[str]:
    """What one can learn of a session by its id."""
    complaints = [
        await server.error("get-session-info", session_id=session_id),
        await server.error("extend-session", session_id=session_id),
        await server.error("price", symbol="AAPL", session_id=session_id),
    ]
    for ask in (
        server.client.read_resource(f"session://{session_id}"),
        server.client.read_resource(f"session://{session_id}/history"),
        server.client.get_prompt("resume_analysis", {"session_id": session_id}),
    ):
        with pytest.raises(Exception) as caught:  # noqa: PT011 (whatever the installed fastmcp raises)
            await ask
        complaints.append(str(caught.value))
    return complaints


async def test_another_principals_session_is_answered_exactly_like_an_unknown_one(signed_in: SignedIn) -> None:
    async with served() as server:
        with signed_in.as_("ann"):
            session_id = await server.create()
            await server.call("price", symbol="AAPL", session_id=session_id)
            await server.call("get-session-info", session_id=session_id)
        with signed_in.as_("bob"):
            theirs = await everything_about(server, session_id)
            unknown = await everything_about(server, UNKNOWN)
        assert [alike(one, session_id, UNKNOWN) for one in theirs] == [
            alike(one, session_id, UNKNOWN) for one in unknown
        ]
        assert len(server.calls.seen) == 1


async def test_sessions_belong_to_the_principal_whatever_the_call_says(signed_in: SignedIn) -> None:
    async with served() as server:
        with signed_in.as_("ann"):
            assert (await server.session(await server.create())).user_id == "ann"
            assert (await server.session(await server.create(user_id="ann"))).user_id == "ann"
            complaint = await server.error(
                "create-analysis-session", assets=["A"], session_type="equity", user_id="bob"
            )
            assert "authenticated as 'ann'" in complaint


async def test_listings_and_analytics_see_the_principals_sessions_only(signed_in: SignedIn) -> None:
    async with served() as server:
        with signed_in.as_("ann"):
            hers = await server.create()
        with signed_in.as_("bob"):
            his = await server.create()
            for user_id, expected in (("", [his]), ("bob", [his]), ("ann", []), ("nobody", [])):
                listed = await server.call("list-sessions", user_id=user_id)
                assert [one["session_id"] for one in listed.structured_content["sessions"]] == expected
                counted = await server.call("get-session-analytics", user_id=user_id)
                assert counted.structured_content["total_sessions"] == len(expected)
        listed = await server.call("list-sessions")
        assert {one["session_id"] for one in listed.structured_content["sessions"]} == {hers, his}


async def test_the_same_conversation_of_two_principals_is_two(signed_in: SignedIn) -> None:
    async with served() as server:
        meta = {"threadId": "chat-1"}
        with signed_in.as_("ann"):
            hers = await server.create(meta=meta)
        with signed_in.as_("bob"):
            assert told(await server.call("price", symbol="AAPL", meta=meta)) is None
            his = await server.create(meta=meta)
            found = told(await server.call("price", symbol="AAPL", meta=meta))
            assert found is not None
            assert found["session_id"] == his
        labels = [(await server.session(one)).tags for one in (hers, his)]
        assert labels[0] != labels[1]


async def test_a_label_is_no_session_id(signed_in: SignedIn) -> None:
    async with served() as server:
        with signed_in.as_("ann"):
            hers = await server.create(meta={"threadId": "chat-1"})
        (label,) = (await server.session(hers)).tags
        for user in ("ann", "bob"):
            with signed_in.as_(user):
                for given in (label, ".mcp-conversation:nonsense"):
                    assert "not a session id" in await server.error("price", symbol="AAPL", session_id=given)
        assert server.calls.seen == []
        assert (await server.session(hers)).state.history.total_queries == 0


async def test_without_authentication_the_user_is_whom_the_caller_names() -> None:
    async with served() as server:
        session_id = await server.create(user_id="ann")
        assert (await server.session(session_id)).user_id == "ann"
        assert (await server.session(await server.create())).user_id is None
        await server.call("get-session-info", session_id=session_id)


async def test_how_a_token_names_a_principal_can_be_chosen(signed_in: SignedIn) -> None:
    def by_issuer(token: Any) -> str:
        return f"{token.claims['iss']}|{token.claims['sub']}"

    async with served(principal_of=by_issuer) as server:
        signed_in.token = AccessToken(token="t", client_id="app", scopes=[], claims={"sub": "ann", "iss": "here"})
        assert (await server.session(await server.create())).user_id == "here|ann"


@pytest.mark.parametrize(
    ("claims", "name"), [({"sub": "ann"}, "ann"), ({}, "app"), (None, "app"), ({"sub": ""}, "app")]
)
def test_a_token_stands_for_its_subject_else_for_its_client(claims: dict[str, str] | None, name: str) -> None:
    class Token:
        client_id = "app"

    token = Token()
    token.claims = claims  # type: ignore[attr-defined]
    assert principal_of(token) == name


async def test_a_call_over_http_without_a_token_gets_nothing_where_there_is_authentication(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from fastmcp.server.auth import StaticTokenVerifier

    mcp = finance()
    mcp.auth = StaticTokenVerifier({"t": {"client_id": "app"}})
    install(mcp, SessionStore.open("memory://"))
    monkeypatch.setattr(callers, "get_http_request", lambda: object())  # as if the middleware had been left out
    async with Client(mcp) as client:
        for tool, arguments in (("list-sessions", {}), ("price", {"symbol": "AAPL", "session_id": UNKNOWN})):
            result = await client.call_tool(tool, arguments, raise_on_error=False)
            assert "authenticated users only" in text_of(result)


async def test_a_server_without_authentication_is_unaffected_by_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "get_http_request", lambda: object())
    mcp: FastMCP = finance()
    install(mcp, SessionStore.open("memory://"))
    async with Client(mcp) as client:
        assert (await client.call_tool("list-sessions", {})).structured_content["sessions"] == []
