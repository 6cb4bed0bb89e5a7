"""`perdure serve …`: the store for programs that do not speak Python."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from perdure.cli.command import Run, command
from perdure.cli.output import print_json
from perdure.cli.signals import stopped_by_signals, until_stopped

__all__ = ["serve"]

serve = typer.Typer(no_args_is_help=True, help="Serve sessions to other programs.")

SERVER = "perdure"
FILE = "sqlite:///"


class Client(StrEnum):
    """A host of MCP servers, and where it looks for its configuration."""

    CLAUDE_DESKTOP = "claude-desktop"
    VSCODE = "vscode"
    CURSOR = "cursor"

    @property
    def file(self) -> str:
        """Where the configuration belongs."""
        match self:
            case Client.CLAUDE_DESKTOP:
                return "claude_desktop_config.json (Settings, Developer, Edit Config)"
            case Client.VSCODE:
                return ".vscode/mcp.json in the workspace"
            case Client.CURSOR:
                return "~/.cursor/mcp.json, or .cursor/mcp.json in the project"


class Equities(StrEnum):
    """Where prices of shares come from."""

    PACKAGED = "packaged"
    YFINANCE = "yfinance"


class Coins(StrEnum):
    """Where prices of coins come from."""

    PACKAGED = "packaged"
    CCXT = "ccxt"


class Naming(StrEnum):
    """How the tools are called."""

    KEBAB = "kebab"
    SNAKE = "snake"


@command(serve, "mcp")
async def mcp(
    run: Run,
    http: Annotated[
        str | None, typer.Option("--http", metavar="HOST:PORT", help="Serve HTTP there instead of stdin and stdout.")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="With --http: another name under which it is reached."),
    ] = None,
    equities: Annotated[Equities, typer.Option(help="Where prices of shares come from.")] = Equities.PACKAGED,
    coins: Annotated[Coins, typer.Option(help="Where prices of coins come from.")] = Coins.PACKAGED,
    naming: Annotated[Naming, typer.Option(help="How the tools are called.")] = Naming.KEBAB,
    print_config: Annotated[
        Client | None, typer.Option("--print-config", help="Print what this client's configuration needs, and exit.")
    ] = None,
) -> None:
    """Serve sessions to AI agents by the Model Context Protocol, to one client on stdin and stdout.

    Ready for Claude Desktop, VS Code and Cursor: --print-config prints what belongs in their files.
    """
    address = None if http is None else _address(http)
    if allow_host and address is None:
        raise typer.BadParameter("names under which it is reached are for --http only", param_hint="--allow-host")
    store = run.open_store()  # so that no configuration is printed with which nothing could be served
    if print_config is not None:
        print_json(_config(print_config, run, address, equities, coins, naming))
        run.say(f"goes into {print_config.file}")
        return
    from perdure.integrations.mcp import build_server, serve_http, serve_stdio

    server = build_server(store, equities=equities.value, coins=coins.value, naming=naming.value)
    log_level: Literal["info", "warning"] = "info" if run.verbose else "warning"
    async with store:
        if address is None:
            if sys.stdin.isatty():
                run.say(
                    "waiting for an MCP client on stdin; --print-config prints what a host needs to start this, "
                    "--http HOST:PORT serves over the network; Ctrl-C ends it"
                )
            await serve_stdio(server, log_level=log_level)
            return
        host, port = address

        def announce() -> None:
            if not _is_loopback(host):
                run.say(
                    f"whoever reaches {http} can read and change every session: there is no authentication; "
                    "requests under other names are refused, --allow-host adds them"
                )
            run.say(f"serving {run.place} at {_url(host, port)}; end it with Ctrl-C")

        options: dict[str, Any] = {"allowed_hosts": allow_host or [], "log_level": log_level, "announce": announce}
        with stopped_by_signals() as stopping:
            await until_stopped(serve_http(server, host=host, port=port, **options), stopping)


def _address(given: str) -> tuple[str, int]:
    """Host and port: `127.0.0.1:8000`, `[::1]:8000`."""
    host, _, port = given.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise typer.BadParameter("give HOST:PORT, for instance 127.0.0.1:8000", param_hint="--http")
    return host, int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"


def _url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/mcp"


def _config(
    client: Client, run: Run, address: tuple[str, int] | None, equities: Equities, coins: Coins, naming: Naming
) -> dict[str, Any]:
    """What belongs in the client's file: how to start the server, or with an address where it is."""
    servers = "servers" if client is Client.VSCODE else "mcpServers"
    if address is not None:
        if client is Client.CLAUDE_DESKTOP:
            raise typer.BadParameter("Claude Desktop starts its servers itself", param_hint="--http")
        kind = {"type": "http"} if client is Client.VSCODE else {}
        return {servers: {SERVER: {**kind, "url": _url(*address)}}}
    given = {"--url": _anywhere(run.url), "--archive": _anywhere(run.archive)}
    chosen = {"--equities": equities, "--coins": coins, "--naming": naming}
    unusual = {name: str(value) for name, value in chosen.items() if value not in ("packaged", "kebab")}
    words = [word for name, value in {**given, **unusual}.items() if value is not None for word in (name, value)]
    # A host has its own environment and working directory, so nothing may depend on those of this shell.
    entry: dict[str, Any] = {"command": sys.executable, "args": ["-m", "perdure", "serve", "mcp", *words]}
    set_here = {name: value for name, value in sorted(os.environ.items()) if name.upper().startswith("PERDURE_")}
    settings = {name: _anywhere(value) for name, value in set_here.items()}
    if settings:
        entry["env"] = settings
    return {servers: {SERVER: {"type": "stdio", **entry} if client is Client.VSCODE else entry}}


def _anywhere(url: str | None) -> str | None:
    """The URL so that it means the same from another working directory."""
    relative = None if url is None else url.removeprefix(FILE)
    if relative in (None, url) or relative.startswith(("/", "~")):
        return url
    return FILE + str(Path(relative).absolute())
