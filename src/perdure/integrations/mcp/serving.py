"""A whole server made of nothing but sessions and quotes: what `perdure serve mcp` runs."""

from __future__ import annotations

import errno
import inspect
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from ipaddress import ip_address
from typing import Any, Literal, TypeAlias

from fastmcp import FastMCP

from perdure import SessionStore
from perdure.errors import ConfigurationError
from perdure.integrations.mcp.installing import install
from perdure.integrations.mcp.names import Naming
from perdure.integrations.mcp.providers.closes import packaged
from perdure.integrations.mcp.providers.exchanges import CcxtQuotes
from perdure.integrations.mcp.providers.protocol import QuoteProvider
from perdure.integrations.mcp.providers.yahoo import YahooQuotes
from perdure.integrations.mcp.quotes import install_quotes

__all__ = ["CoinSource", "EquitySource", "LogLevel", "build_server", "serve_http", "serve_stdio"]

EquitySource: TypeAlias = Literal["packaged", "yfinance"]
CoinSource: TypeAlias = Literal["packaged", "ccxt"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]

INSTRUCTIONS = """\
Analyses are kept in sessions, which outlive this conversation. For an analysis of more than one question, call {create}
once, and pass the session_id that it gives to every tool. {list} and {info} find an earlier analysis again.\
"""


def build_server(
    store: SessionStore,
    *,
    equities: EquitySource = "packaged",
    coins: CoinSource = "packaged",
    naming: Naming = "kebab",
    plugins: Iterable[object] = (),
) -> FastMCP:
    """A server with the five session tools, the two that look prices up, the resources and the prompt.

    The store is opened with the server and closed with it.

    Raises:
        MissingExtraError: a live source whose package is not installed.
    """
    mcp: FastMCP = FastMCP("perdure", version=_version())
    sessions = install(mcp, store, naming=naming, plugins=plugins)
    names = sessions.names
    mcp.instructions = INSTRUCTIONS.format(create=names.create, list=names.list, info=names.info)
    shares: Sequence[QuoteProvider] = [YahooQuotes()] if equities == "yfinance" else []
    pairs: Sequence[QuoteProvider] = [CcxtQuotes()] if coins == "ccxt" else []
    install_quotes(mcp, sessions, providers=[*shares, *pairs, *packaged()])
    return mcp


async def serve_stdio(mcp: FastMCP, *, log_level: LogLevel = "info") -> None:
    """Serve one client on stdin and stdout, until it hangs up, or SIGINT ends the process: at once, like SIGTERM.

    `log_level` is from where fastmcp logs on stderr.
    """
    with _ended_by_sigint():
        await mcp.run_async(transport="stdio", show_banner=False, log_level=log_level)


async def serve_http(
    mcp: FastMCP,
    *,
    host: str,
    port: int,
    allowed_hosts: Sequence[str] = (),
    log_level: LogLevel = "info",
    announce: Callable[[], None] = lambda: None,
) -> None:
    """Serve any number of clients at `http://HOST:PORT/mcp`, until the process is told to end.

    `log_level` is from where fastmcp and uvicorn log on stderr. `announce` is called when the port is taken: from then
    on connections are waited upon.

    Requests whose `Host` is neither `host`, nor an address of the server, nor localhost, nor one of `allowed_hosts`,
    and those whose `Origin` is another site, are refused: a web page must not reach a server on this machine by a name
    that it made up.

    Raises:
        ConfigurationError: the installed fastmcp cannot refuse them.
        OSError: the port is in use, or the host is none of this machine; names both.
    """
    if "host_origin_protection" not in inspect.signature(mcp.run_http_async).parameters:
        raise ConfigurationError("serving over HTTP needs fastmcp 3.4 or newer, which checks Host and Origin")
    own = [] if _is_unspecified(host) else [host]
    guard: dict[str, Any] = {"host_origin_protection": True, "allowed_hosts": [*own, *allowed_hosts]}
    with _listening(host, port) as sockets:
        announce()
        where: dict[str, Any] = {"host": host, "port": port, "sockets": sockets}
        await mcp.run_async(transport="http", show_banner=False, log_level=log_level, **where, **guard)


@contextmanager
def _ended_by_sigint() -> Iterator[None]:
    """Have SIGINT end the process. asyncio would cancel, and a thread that reads stdin cannot be cancelled."""
    if threading.current_thread() is not threading.main_thread():  # no other may say what signals do
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _listening(host: str, port: int) -> Iterator[list[socket.socket]]:
    """Sockets at every address of the host, closed at the end.

    uvicorn, which could make them, ends the process where it cannot.
    """
    with ExitStack() as opened:
        try:
            sockets = [opened.enter_context(one) for one in _sockets(host, port)]
        except (OSError, UnicodeError) as error:
            raise OSError(getattr(error, "errno", None), f"cannot serve at {host}:{port}: {_reason(error)}") from error
        yield sockets


def _sockets(host: str, port: int) -> Iterator[socket.socket]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    made, missing = 0, OSError()
    for family, address in addresses:
        try:
            one = socket.create_server(address, family=family)
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
            missing = error  # localhost may stand for ::1 where there is no IPv6
        else:
            made += 1
            yield one
    if not made:
        raise missing


def _reason(error: OSError | UnicodeError) -> str:
    if isinstance(error, UnicodeError):
        return "not the name of a host"
    known = error.strerror if isinstance(error, socket.gaierror) or error.errno is None else os.strerror(error.errno)
    return known or str(error)


def _is_unspecified(host: str) -> bool:
    """Whether it means every address of this machine, and is the name of none."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:  # a name
        return False


def _version() -> str | None:
    try:
        return version("perdure")
    except PackageNotFoundError:  # run from the sources, not installed
        return None
