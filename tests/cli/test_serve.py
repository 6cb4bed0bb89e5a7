"""`perdure serve mcp`: what it prints for hosts, and how it complains; serving itself is tried with real clients."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.cli.running import CommandLine

from perdure.cli.signals import until_stopped

START = ["-m", "perdure", "serve", "mcp"]


@pytest.fixture
def perdure() -> CommandLine:
    return CommandLine()


@pytest.mark.parametrize(
    ("client", "servers", "entry"),
    [
        ("claude-desktop", "mcpServers", {"command": sys.executable, "args": START}),
        ("cursor", "mcpServers", {"command": sys.executable, "args": START}),
        ("vscode", "servers", {"type": "stdio", "command": sys.executable, "args": START}),
    ],
)
def test_the_configuration_of_a_client_starts_the_server(
    perdure: CommandLine, client: str, servers: str, entry: dict[str, object]
) -> None:
    assert perdure.json("serve", "mcp", "--print-config", client) == {servers: {"perdure": entry}}


def test_what_is_chosen_goes_into_the_configuration(perdure: CommandLine, machine: Path) -> None:
    words = ["--url", "sqlite:///kept.db", "--coins", "ccxt", "--equities", "yfinance", "--naming", "snake"]
    printed = perdure.json("serve", "mcp", *words, "--print-config", "cursor")
    assert printed["mcpServers"]["perdure"]["args"] == [
        *START,
        "--url",
        f"sqlite:///{machine / 'kept.db'}",
        "--equities",
        "yfinance",
        "--coins",
        "ccxt",
        "--naming",
        "snake",
    ]


def test_settings_of_this_shell_go_into_the_configuration(
    perdure: CommandLine, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERDURE_URL", "sqlite:///kept.db")
    monkeypatch.setenv("PERDURE_SESSION_RETENTION_DAYS", "7")
    printed = perdure.json("serve", "mcp", "--print-config", "vscode")
    assert printed["servers"]["perdure"]["env"] == {
        "PERDURE_SESSION_RETENTION_DAYS": "7",
        "PERDURE_URL": f"sqlite:///{machine / 'kept.db'}",
    }


@pytest.mark.parametrize("url", ["sqlite:////data/kept.db", "sqlite:///~/kept.db", "memory://"])
def test_a_url_that_means_the_same_everywhere_stays_as_it_is(perdure: CommandLine, url: str) -> None:
    printed = perdure.json("serve", "mcp", "--url", url, "--print-config", "cursor")
    assert printed["mcpServers"]["perdure"]["args"][-1] == url


def test_a_server_at_an_address_is_referred_to(perdure: CommandLine) -> None:
    printed = perdure.json("serve", "mcp", "--http", "127.0.0.1:8000", "--print-config", "vscode")
    assert printed == {"servers": {"perdure": {"type": "http", "url": "http://127.0.0.1:8000/mcp"}}}
    printed = perdure.json("serve", "mcp", "--http", "[::1]:8000", "--print-config", "cursor")
    assert printed == {"mcpServers": {"perdure": {"url": "http://[::1]:8000/mcp"}}}
    assert "Claude Desktop" in perdure.error(
        "serve", "mcp", "--http", "127.0.0.1:8000", "--print-config", "claude-desktop", code=2
    )


def test_people_are_told_where_it_belongs(perdure: CommandLine) -> None:
    result = perdure.run("serve", "mcp", "--print-config", "claude-desktop")
    assert "claude_desktop_config.json" in result.stderr


@pytest.mark.parametrize(
    "address", ["8000", ":8000", "localhost", "localhost:", "localhost:0", "localhost:99999", "a:b"]
)
def test_what_is_no_address_is_a_wrong_call(perdure: CommandLine, address: str) -> None:
    assert "HOST:PORT" in perdure.error("serve", "mcp", "--http", address, code=2)


def test_without_the_extra_it_names_it(perdure: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    import perdure.integrations.mcp as package

    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'fastmcp'", name="fastmcp")

    monkeypatch.setattr(package, "import_module", missing)
    assert "perdure[mcp]" in perdure.error("serve", "mcp", code=2)


@pytest.mark.skipif(find_spec("fastmcp") is None, reason="serving needs fastmcp")
@pytest.mark.skipif(find_spec("yfinance") is not None, reason="it is there")
def test_a_live_source_without_its_package_names_its_extra(perdure: CommandLine) -> None:
    assert "perdure[yfinance]" in perdure.error("serve", "mcp", "--equities", "yfinance", code=2)


def test_starting_perdure_does_not_import_fastmcp() -> None:
    check = "import sys; import perdure.cli.app; assert 'fastmcp' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)


@pytest.mark.skipif(find_spec("fastmcp") is None, reason="serving needs fastmcp")
@pytest.mark.parametrize(
    ("host", "warned"),
    [("0.0.0.0", True), ("desk.example", True), ("127.0.0.1", False), ("127.0.0.2", False), ("localhost", False)],
)
def test_serving_beyond_this_machine_says_that_nobody_is_authenticated(
    perdure: CommandLine, host: str, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import perdure.integrations.mcp as package

    served: dict[str, object] = {}

    async def serve_http(mcp: object, *, announce: Callable[[], None], **options: object) -> None:
        announce()
        served.update(options)

    monkeypatch.setattr(package, "serve_http", serve_http, raising=False)
    words = ["--http", f"{host}:8000", "--allow-host", "finance.example"]
    result = perdure.run("serve", "mcp", *words, "--url", "memory://")
    assert served == {"host": host, "port": 8000, "allowed_hosts": ["finance.example"], "log_level": "warning"}
    assert ("no authentication" in result.stderr) is warned
    assert ("under other names are refused, --allow-host" in result.stderr) is warned


@pytest.mark.skipif(find_spec("fastmcp") is None, reason="serving needs fastmcp")
def test_a_port_in_use_is_one_line_and_nothing_is_said_to_be_served(perdure: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        complaint = perdure.error("serve", "mcp", "--url", "memory://", "--http", address, code=1)
    assert complaint.startswith(f"cannot serve at {address}: ")


@pytest.mark.skipif(find_spec("fastmcp") is None, reason="serving needs fastmcp")
@pytest.mark.parametrize("host", ["192.0.2.1", "[fe80::1%nowhere]", "a..b"])
def test_a_host_that_is_none_of_this_machine_is_one_line(perdure: CommandLine, host: str) -> None:
    complaint = perdure.error("serve", "mcp", "--url", "memory://", "--http", f"{host}:8000", code=1)
    assert complaint.startswith("cannot serve at ")


@pytest.mark.skipif(find_spec("fastmcp") is None, reason="serving needs fastmcp")
def test_a_store_that_cannot_be_opened_is_one_line_and_nothing_is_said_to_be_served(
    perdure: CommandLine, machine: Path
) -> None:
    (machine / "kept.db").write_text("no database " * 1_000)
    words = ["--url", "sqlite:///kept.db", "--http", "127.0.0.1:8000"]
    assert "not a SQLite database" in perdure.error("serve", "mcp", *words, code=1)


async def test_what_is_told_to_stop_before_it_serves_is_cancelled() -> None:
    stopping, ended = asyncio.Event(), list[str]()

    async def work() -> None:
        stopping.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("in order")

    await asyncio.wait_for(until_stopped(work(), stopping), 60)
    assert ended == ["in order"]


def test_names_without_a_network_are_a_mistake(perdure: CommandLine) -> None:
    assert "for --http only" in perdure.error("serve", "mcp", "--allow-host", "desk.example", code=2)


def test_no_configuration_is_printed_with_which_nothing_could_be_served(perdure: CommandLine) -> None:
    assert "foo" in perdure.error("serve", "mcp", "--url", "foo://x", "--print-config", "cursor", code=2)
