"""`perdure serve mcp` as hosts run it: real processes, the official client, both revisions of the protocol."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from tests.integrations.mcp.processes import (
    HttpServer,
    OfficialClient,
    eras,
    free_port,
    http_server,
    serve_command,
    unmeasured,
)
from tests.integrations.mcp.servers import MAJOR, SESSION_TOOLS, VERSION

from perdure.errors import ConfigurationError
from perdure.integrations.mcp import serve_http, serve_stdio, serving

pytestmark = pytest.mark.xdist_group("mcp-server")

needs_http = pytest.mark.skipif(VERSION < (3, 4), reason="fastmcp before 3.4 checks neither Host nor Origin")

NAME = "127.1"
"""A name of 127.0.0.1, by which a server is reached only if it knows that it is called so."""

PROTOCOLS = {"legacy": "2025-11-25", "2026-07-28": "2026-07-28"}

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    },
}


@functools.cache
def spoken() -> list[tuple[str, str]]:
    """What both the client and the installed server speak."""
    return [(python, era) for python, era in eras() if era == "legacy" or MAJOR >= 4]


def each_client() -> list[Any]:
    return [pytest.param(python, era, id=f"{Path(python).parts[-3]}-{era}") for python, era in spoken()]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'sessions.db'}"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The store of the server that the tests share: each makes sessions of its own."""
    return f"sqlite:///{tmp_path_factory.mktemp('served') / 'sessions.db'}"


@pytest.fixture(scope="module")
def server(kept: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    port, log = free_port(), tmp_path_factory.mktemp("log") / "server.log"
    command = serve_command(kept, "--http", f"{NAME}:{port}", "--allow-host", "analyst.example")
    with http_server(command, port, log=log) as running:
        yield running


@pytest.fixture(scope="module")
def clients(server: HttpServer) -> Iterator[dict[tuple[str, str], OfficialClient]]:
    """The official client over HTTP, in every environment and era."""
    with ExitStack() as stack:
        yield {
            (python, era): stack.enter_context(OfficialClient("http", server.url, era=era, python=python))
            for python, era in spoken()
        }


def created(client: OfficialClient, **arguments: Any) -> str:
    given = {"assets": ["AAPL"], "session_type": "equity", **arguments}
    session_id: str = client.tool("create-analysis-session", **given)["structuredContent"]["session_id"]
    return session_id


def check(client: OfficialClient, python: str, era: str) -> None:
    """A whole conversation."""
    assert client.hello["protocol"] == PROTOCOLS[era]
    if python != sys.executable:  # an environment of its own, of which this is the point
        assert client.hello["others"] == []
    tools = {tool["name"]: tool for tool in client.one(list="tools")["tools"]}
    assert tools.keys() == SESSION_TOOLS | {"search-by-symbol", "search-by-coin"}
    assert tools["search-by-symbol"]["inputSchema"]["properties"]["session_id"]["type"] == "string"
    session_id = created(client)

    first = client.tool("search-by-symbol", symbol="AAPL", session_id=session_id)
    again = client.tool("search-by-symbol", symbol="AAPL", session_id=session_id)
    coin = client.tool("search-by-coin", symbol="BTC", session_id=session_id)
    assert [one["_meta"]["perdure"]["position"] for one in (first, again, coin)] == [1, 2, 3]
    assert [one["structuredContent"]["cache_hit"] for one in (first, again, coin)] == [False, True, False]

    info = client.tool("get-session-info", session_id=session_id)["structuredContent"]
    assert [query["cache_hit"] for query in info["recent_queries"]] == [False, True, False]
    history = client.one(read=f"session://{session_id}/history")["contents"][0]
    assert json.loads(history["text"])["total_queries"] == 3
    prompt = client.one(prompt="resume_analysis", arguments={"session_id": session_id})
    assert session_id in prompt["messages"][0]["content"]["text"]
    wrong = client.tool("search-by-symbol", symbol="AAPL", session_id="nonsense")
    assert wrong["isError"] is True

    bound = client.tool("create-analysis-session", {"threadId": "t"}, assets=["IBM"], session_type="equity")
    noted = client.tool("search-by-symbol", {"threadId": "t"}, symbol="IBM")
    assert noted["_meta"]["perdure"] == {
        "session_id": bound["structuredContent"]["session_id"],
        "position": 1,
        "bound_by": "conversation",
    }


@pytest.mark.parametrize(("python", "era"), each_client())
def test_the_official_client_over_stdio(python: str, era: str, url: str) -> None:
    with OfficialClient("stdio", json.dumps(serve_command(url)), era=era, python=python) as client:
        check(client, python, era)


@needs_http
@pytest.mark.parametrize(("python", "era"), each_client())
def test_the_official_client_over_http(python: str, era: str, clients: dict[tuple[str, str], OfficialClient]) -> None:
    check(clients[python, era], python, era)


@needs_http
@pytest.mark.skipif(MAJOR < 4, reason="one revision only")
def test_clients_of_both_revisions_share_a_session_at_one_endpoint(
    clients: dict[tuple[str, str], OfficialClient],
) -> None:
    old, new = (next(client for (_, era), client in clients.items() if era == wanted) for wanted in PROTOCOLS)
    assert old.hello["protocol"] != new.hello["protocol"]
    session_id = created(old)
    for client, position in ((new, 1), (old, 2), (new, 3)):
        noted = client.tool("search-by-symbol", symbol="IBM", session_id=session_id)
        assert noted["_meta"]["perdure"]["position"] == position


@needs_http
def test_two_servers_on_one_store_lose_nothing_of_interleaved_calls(
    clients: dict[tuple[str, str], OfficialClient], kept: str, tmp_path: Path
) -> None:
    port, calls, one = free_port(), 25, clients[spoken()[0]]
    with (
        http_server(serve_command(kept, "--http", f"127.0.0.1:{port}"), port, log=tmp_path / "other.log") as other,
        OfficialClient("http", other.url, era="legacy") as two,
    ):
        session_id = created(one)
        positions: dict[OfficialClient, list[int]] = {one: [], two: []}

        def work(client: OfficialClient) -> None:
            request = {"tool": "search-by-symbol", "arguments": {"symbol": "IBM", "session_id": session_id}}
            for _ in range(calls // 5):
                for told in client.all(*[request] * 5):
                    positions[client].append(told["answer"]["_meta"]["perdure"]["position"])

        threads = [threading.Thread(target=work, args=(client,)) for client in (one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)

        assert sorted(positions[one] + positions[two]) == [*range(1, 2 * calls + 1)]
        info = two.tool("get-session-info", session_id=session_id, recent=100)["structuredContent"]
        assert [query["position"] for query in info["recent_queries"]] == [*range(1, 2 * calls + 1)]


@needs_http
def test_200_calls_at_once_over_http_are_200_queries(clients: dict[tuple[str, str], OfficialClient]) -> None:
    client = clients[spoken()[-1]]
    session_id = created(client)
    request = {"tool": "search-by-symbol", "arguments": {"symbol": "IBM", "session_id": session_id}}
    told = client.all(*[request] * 200)
    noted = sorted(one["answer"]["_meta"]["perdure"]["position"] for one in told)
    assert noted == [*range(1, 201)]


@needs_http
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Host": "analyst.example"}, 200),
        ({"Host": NAME}, 200),
    ],
)
def test_a_made_up_host_and_a_foreign_page_are_refused(
    headers: dict[str, str], status: int, server: HttpServer
) -> None:
    usual = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    request = Request(server.url, data=json.dumps(INITIALIZE).encode(), headers=usual | headers)
    try:
        with urlopen(request, timeout=30) as response:
            answered = response.status
    except HTTPError as error:
        answered = error.code
    assert answered == status


def test_nothing_but_the_protocol_is_on_stdout(url: str) -> None:
    process = subprocess.run(
        serve_command(url, "-v"), input=b"", capture_output=True, timeout=100, check=False, env=unmeasured()
    )
    assert (process.returncode, process.stdout) == (0, b"")


@needs_http
@pytest.mark.parametrize(
    ("words", "number", "logs"), [([], signal.SIGINT, False), (["-v"], signal.SIGTERM, True)], ids=["int", "term"]
)
def test_over_http_a_signal_is_the_ordinary_end_and_only_v_shows_the_log(
    words: list[str], number: signal.Signals, logs: bool, url: str, tmp_path: Path
) -> None:
    port, log = free_port(), tmp_path / "server.log"
    command = serve_command(url, "--http", f"127.0.0.1:{port}", *words)
    with http_server(command, port, log=log) as running:
        with pytest.raises(HTTPError):  # a request that is none, to be logged
            urlopen(running.url, timeout=60)
        running.process.send_signal(number)
        assert running.process.wait(60) == 0
    first, *rest = log.read_text().splitlines()
    if not logs:
        assert first.startswith("serving ")
        assert rest == []
    else:
        assert any("Uvicorn" in line or "Started server process" in line for line in rest)


def test_on_a_terminal_it_says_what_it_waits_for_and_ctrl_c_ends_it(url: str) -> None:
    pty = pytest.importorskip("pty")
    terminal, stdin = pty.openpty()
    with os.fdopen(terminal, "wb", buffering=0) as keyboard:
        process = subprocess.Popen(
            serve_command(url), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=unmeasured()
        )
        os.close(stdin)
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            said = process.stderr.readline()
            keyboard.write(json.dumps(INITIALIZE).encode() + b"\n")
            answered = json.loads(process.stdout.readline())  # so it serves
            process.send_signal(signal.SIGINT)
            code = process.wait(60)
        finally:
            process.kill()
            process.communicate()
    assert answered["id"] == INITIALIZE["id"]
    assert code == -signal.SIGINT
    assert said.startswith(b"waiting for an MCP client on stdin")
    assert b"--print-config" in said
    assert b"--http" in said


class Runs:
    """A server that only notes how it is run."""

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}

    async def run_async(self, **options: Any) -> None:
        self.options = options

    async def run_http_async(self, host_origin_protection: bool) -> None:
        """Only its signature is looked at."""


class RunsUnguarded(Runs):
    async def run_http_async(self) -> None:  # type: ignore[override]
        """As before fastmcp 3.4."""


async def test_http_is_served_with_its_guard_on_or_not_at_all() -> None:
    guarded, unguarded, stdio = Runs(), RunsUnguarded(), Runs()
    port = free_port()
    await serve_http(guarded, host="127.0.0.1", port=port, allowed_hosts=["desk"])  # type: ignore[arg-type]
    (listening,) = guarded.options.pop("sockets")
    assert listening.fileno() == -1  # closed again
    assert guarded.options == {
        "transport": "http",
        "host": "127.0.0.1",
        "port": port,
        "show_banner": False,
        "log_level": "info",
        "host_origin_protection": True,
        "allowed_hosts": ["127.0.0.1", "desk"],
    }
    with pytest.raises(ConfigurationError, match=r"fastmcp 3\.4"):
        await serve_http(unguarded, host="127.0.0.1", port=port)  # type: ignore[arg-type]
    assert unguarded.options == {}
    await serve_stdio(stdio)  # type: ignore[arg-type]
    assert stdio.options == {"transport": "stdio", "show_banner": False, "log_level": "info"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_every_address_is_not_a_name_under_which_a_server_is_reached(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_listening", lambda host, port: nullcontext([]))
    guarded = Runs()
    await serve_http(guarded, host=host, port=1, allowed_hosts=["desk"])  # type: ignore[arg-type]
    assert guarded.options["allowed_hosts"] == ["desk"]
