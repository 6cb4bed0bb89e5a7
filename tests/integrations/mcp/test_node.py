"""What others made for the protocol: the Inspector, the TypeScript client, the conformance suite. `nox -s mcp`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.integrations.mcp.processes import HttpServer, free_port, http_server, serve_command
from tests.integrations.mcp.servers import SESSION_TOOLS

MODULES = os.environ.get("TEST_NODE_MODULES")
"""The folder that npm filled."""

pytestmark = [
    pytest.mark.xdist_group("mcp-server"),
    pytest.mark.skipif(MODULES is None, reason="nox -s mcp installs what this needs"),
]

HERE = Path(__file__).parent
ERAS = ("legacy", "2026-07-28")

SCENARIOS = (
    "server-initialize",
    "ping",
    "tools-list",
    "resources-list",
    "prompts-list",
    "caching",
    "sep-2164-resource-not-found",
    "dns-rebinding-protection",
)


def node(script: str, *words: str, code: int = 0) -> str:
    """What a program of node prints; colours taken out."""
    assert MODULES is not None
    binaries = Path(MODULES) / ".bin"
    done = subprocess.run(
        [str(binaries / "node"), script if script.endswith(".mjs") else str(binaries / script), *words],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"},
    )
    assert done.returncode == code, done.stdout + done.stderr
    return re.sub(r"\x1b\[\d+m", "", done.stdout)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('node') / 'sessions.db'}"


@pytest.fixture(scope="module")
def server(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    port = free_port()
    command = serve_command(url, "--http", f"127.0.0.1:{port}")
    with http_server(command, port, log=tmp_path_factory.mktemp("log") / "server.log") as running:
        yield running


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_inspector_finds_nothing_to_complain_of_in_the_tools(era: str, server: HttpServer, url: str) -> None:
    for target in ([server.url], serve_command(url)):
        listing = node("mcp-inspector", "--cli", *target, "--method", "tools/list", "--strict", "--protocol-era", era)
        names = {tool["name"] for tool in json.loads(listing)["tools"]}
        assert names == SESSION_TOOLS | {"search-by-symbol", "search-by-coin"}


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_inspector_calls_a_tool(era: str, server: HttpServer) -> None:
    words = ["--cli", server.url, "--method", "tools/call", "--protocol-era", era]
    made = node("mcp-inspector", *words, "--tool-name", "list-sessions", "--tool-arg", "limit=1")
    assert "structuredContent" in json.loads(made)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_the_typescript_client_goes_on_with_its_session(transport: str, era: str, server: HttpServer, url: str) -> None:
    target = server.url if transport == "http" else json.dumps(serve_command(url))
    told: dict[str, Any] = json.loads(node(str(HERE / "typescript_client.mjs"), str(MODULES), transport, target, era))
    assert set(told["tools"]) == SESSION_TOOLS | {"search-by-symbol", "search-by-coin"}
    assert told["hits"] == [False, True]
    assert told["notes"] == [
        {"session_id": told["session_id"], "position": 1, "bound_by": "argument"},
        {"session_id": told["session_id"], "position": 2, "bound_by": "conversation"},
    ]
    assert (told["total"], told["history"]) == (2, 2)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_of_the_conformance_suite(scenario: str, server: HttpServer) -> None:
    printed = node("conformance", "server", "--url", server.url, "--scenario", scenario)
    passed = re.search(r"Passed: (\d+)/(\d+), 0 failed, 0 warnings", printed)
    assert passed is not None, printed
    assert passed[1] == passed[2] != "0"


@contextmanager
def conforming(tmp_path: Path, *words: str) -> Iterator[HttpServer]:
    port = free_port()
    command = [sys.executable, str(HERE / "conformance_server.py"), str(port), *words]
    with http_server(command, port, log=tmp_path / "server.log") as running:
        yield running


def summary(server: HttpServer, *words: str) -> list[str]:
    """One line for each scenario of a suite."""
    assert MODULES is not None
    binaries = Path(MODULES) / ".bin"
    done = subprocess.run(
        [str(binaries / "node"), str(binaries / "conformance"), "server", "--url", server.url, *words],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,  # the suite asks for more than one server has
    )
    printed = re.sub(r"\x1b\[\d+m", "", done.stdout)
    return re.findall(r"^[✓✗] .+$", printed.partition("=== SUMMARY ===")[2], flags=re.MULTILINE)


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
def test_a_server_conforms_with_sessions_as_it_does_without(revision: str, tmp_path: Path) -> None:
    with conforming(tmp_path) as plain:
        without = summary(plain, "--suite", "all", "--spec-version", revision)
    with conforming(tmp_path, "--sessions") as aware:
        with_sessions = summary(aware, "--suite", "all", "--spec-version", revision)

    assert with_sessions == without
    passed = [line for line in without if line.startswith("✓")]
    for scenario in (
        "tools-call-image",
        "tools-call-audio",
        "tools-call-embedded-resource",
        "tools-call-with-progress",
    ):
        assert any(f" {scenario}:" in line for line in passed), without
    if revision == "2026-07-28":
        assert any(" input-required-result-basic-elicitation:" in line for line in passed), without
