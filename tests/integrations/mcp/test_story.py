"""One analysis from beginning to end, as docs/mcp-story.md tells it: through a kill, an expiry and the archive."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.docs.pages import PROJECT
from tests.integrations.mcp.processes import OfficialClient, free_port, http_server, serve_command
from tests.integrations.mcp.servers import MAJOR, VERSION

from perdure import SessionStore

pytestmark = [
    pytest.mark.xdist_group("mcp-server"),
    pytest.mark.skipif(VERSION < (3, 4), reason="fastmcp before 3.4 checks neither Host nor Origin"),
]

PAGE = PROJECT / "docs" / "mcp-story.md"

VARYING = {
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}": "ID",
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)": "INSTANT",
    r"execution_time_ms: [\d.e-]+": "execution_time_ms: SOME",
    r"seconds_remaining: [\d.]+": "seconds_remaining: SOME",
    r"avg_duration_seconds: [\d.e-]+": "avg_duration_seconds: SOME",
    r"age_days: \d+": "age_days: SOME",
    r"[\d,]+ days old": "SOME days old",
}


class Story:
    """Calls, and a transcript of them."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def call(self, client: OfficialClient, tool: str, **arguments: Any) -> dict[str, Any]:
        answer = client.tool(tool, **arguments)
        asked = ", ".join(f"{name}={json.dumps(value)}" for name, value in arguments.items())
        self.lines += [f"> {tool}({asked})", *answer["content"][0]["text"].splitlines()]
        if "perdure" in answer.get("_meta", {}):
            self.lines.append(f"_meta: {json.dumps(answer['_meta']['perdure'])}")
        self.lines.append("")
        return answer

    def __str__(self) -> str:
        return "\n".join(self.lines).strip()


def settled(text: str) -> str:
    """The text without what differs from run to run."""
    for pattern, word in VARYING.items():
        text = re.sub(pattern, word, text)
    return text


def told_in_the_docs() -> list[str]:
    return re.findall(r"```text\n(.*?)\n```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


async def sweep_tomorrow(url: str) -> None:
    """What any process does that has the store open a day later: archive what has expired by then."""
    later = datetime.now(UTC) + timedelta(hours=25)
    async with SessionStore.open(url, clock=lambda: later) as store:
        await store.cleanup_expired_sessions()


async def test_an_analysis_outlives_its_server_its_time_and_its_archiving(tmp_path: Path) -> None:
    url, era = f"sqlite:///{tmp_path / 'sessions.db'}", "2026-07-28" if MAJOR >= 4 else "legacy"
    parts = [Story(), Story(), Story()]

    port = free_port()
    with (
        http_server(serve_command(url, "--http", f"127.0.0.1:{port}"), port, log=tmp_path / "one.log") as server,
        OfficialClient("http", server.url, era=era) as client,
    ):
        created = parts[0].call(
            client,
            "create-analysis-session",
            assets=["AAPL", "IBM"],
            session_type="comparative",
            user_id="analyst_001",
            tags=["tech"],
        )
        session_id = created["structuredContent"]["session_id"]
        first = parts[0].call(client, "search-by-symbol", symbol="AAPL", session_id=session_id)
        again = parts[0].call(client, "search-by-symbol", symbol="AAPL", session_id=session_id)
        server.kill()
    assert [one["structuredContent"]["cache_hit"] for one in (first, again)] == [False, True]

    port = free_port()
    with (
        http_server(serve_command(url, "--http", f"127.0.0.1:{port}"), port, log=tmp_path / "two.log") as server,
        OfficialClient("http", server.url, era=era) as client,
    ):
        info = parts[1].call(client, "get-session-info", session_id=session_id)["structuredContent"]
        assert info["status"] == "active"
        assert [query["cache_hit"] for query in info["recent_queries"]] == [False, True]

        await sweep_tomorrow(url)
        archived = parts[2].call(client, "get-session-info", session_id=session_id)["structuredContent"]
        assert archived["status"] == "archived"
        assert archived["recent_queries"] == info["recent_queries"]
        refused = parts[2].call(client, "search-by-symbol", symbol="IBM", session_id=session_id)
        assert "extend-session" in refused["content"][0]["text"]
        numbers = parts[2].call(client, "get-session-analytics", user_id="analyst_001")["structuredContent"]
        assert (numbers["archived_sessions"], numbers["total_queries"], numbers["cache_hit_rate"]) == (1, 2, 0.5)

    told = told_in_the_docs()
    assert [settled(part) for part in told] == [settled(str(part)) for part in parts], "\n\n".join(map(str, parts))
