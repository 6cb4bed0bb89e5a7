"""Bearer tokens over real HTTP: two principals, one server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integrations.mcp.processes import HttpServer, OfficialClient, free_port, http_server
from tests.integrations.mcp.servers import MAJOR

pytestmark = pytest.mark.xdist_group("mcp-server")

SERVER = Path(__file__).with_name("authenticated_server.py")
UNKNOWN = "0192f0c1-0000-7000-8000-000000000000"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HttpServer]:
    port = free_port()
    command = [sys.executable, str(SERVER), f"sqlite:///{tmp_path / 'sessions.db'}", str(port)]
    with http_server(command, port, log=tmp_path / "server.log") as running:
        yield running


def listed(client: OfficialClient, **arguments: Any) -> list[str]:
    sessions = client.tool("list-sessions", **arguments)["structuredContent"]["sessions"]
    return [session["session_id"] for session in sessions]


def test_each_principal_sees_what_is_theirs_whatever_they_ask_for(server: HttpServer) -> None:
    era = "2026-07-28" if MAJOR >= 4 else "legacy"
    with (
        OfficialClient("http", server.url, era=era, token="token-of-ann") as ann,
        OfficialClient("http", server.url, era="legacy", token="token-of-bob") as bob,
    ):
        made = ann.tool("create-analysis-session", assets=["AAPL"], session_type="equity")["structuredContent"]
        session_id = made["session_id"]
        assert made["user_id"] == "ann"
        assert ann.tool("price", symbol="AAPL", session_id=session_id)["_meta"]["perdure"]["position"] == 1

        asked: list[tuple[str, dict[str, Any]]] = [
            ("get-session-info", {}),
            ("extend-session", {}),
            ("price", {"symbol": "IBM"}),
        ]
        for tool, arguments in asked:
            theirs = bob.tool(tool, session_id=session_id, **arguments)
            unknown = bob.tool(tool, session_id=UNKNOWN, **arguments)
            assert theirs["isError"]
            assert theirs["content"][0]["text"].replace(session_id, UNKNOWN) == unknown["content"][0]["text"]
        assert (listed(ann), listed(bob), listed(bob, user_id="ann")) == ([session_id], [], [])
        info = ann.tool("get-session-info", session_id=session_id)["structuredContent"]
        assert info["total_queries"] == 1
