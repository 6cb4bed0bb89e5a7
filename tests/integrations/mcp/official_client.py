"""The official client as a program, run by whichever interpreter has the `mcp` package, 1.x or 2.x.

It connects as its arguments say (TRANSPORT TARGET ERA [TOKEN]; a stdio target is a command in JSON), says in one line
of JSON which protocol was agreed on, then answers each line of JSON on stdin with one on stdout. A line is a list of
requests, which are sent at the same time.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

MAJOR = int(version("mcp").partition(".")[0])


def transport_to(kind: str, target: str, token: str | None) -> Any:
    """What the client speaks over."""
    if kind == "stdio":
        from mcp.client.stdio import StdioServerParameters, stdio_client

        command, *arguments = json.loads(target)
        return stdio_client(StdioServerParameters(command=command, args=arguments, env=dict(os.environ)))
    from mcp.client.streamable_http import streamable_http_client

    web = import_module("httpx2" if MAJOR >= 2 else "httpx")
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return streamable_http_client(target, http_client=web.AsyncClient(headers=headers, timeout=60))


@asynccontextmanager
async def connected(kind: str, target: str, era: str, token: str | None) -> AsyncIterator[tuple[Any, str]]:
    """A client, and the protocol version it agreed on with the server."""
    if MAJOR >= 2:
        from mcp import Client

        async with Client(transport_to(kind, target, token), mode=era, cache=None) as client:
            yield client, str(client.protocol_version)
        return
    assert era == "legacy"
    from mcp import ClientSession

    async with transport_to(kind, target, token) as streams, ClientSession(*streams[:2]) as session:
        agreed: Any = await session.initialize()
        yield session, str(agreed.protocolVersion)


async def answer(client: Any, request: dict[str, Any]) -> dict[str, Any]:
    """What the server answers, as JSON."""
    match request:
        case {"tool": name}:
            answered = await client.call_tool(name, request.get("arguments", {}), meta=request.get("meta"))
        case {"read": uri}:
            answered = await client.read_resource(uri)
        case {"prompt": name}:
            answered = await client.get_prompt(name, request.get("arguments", {}))
        case {"list": kind}:
            answered = await getattr(client, f"list_{kind}")()
        case _:
            raise ValueError(request)
    found: dict[str, Any] = answered.model_dump(mode="json", by_alias=True, exclude_none=True)
    return found


async def told(client: Any, request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"answer": await answer(client, request)}
    except Exception as error:  # noqa: BLE001 (whatever it is, the test is told)
        return {"error": f"{type(error).__name__}: {error}"}


def say(facts: object) -> None:
    print(json.dumps(facts), flush=True)


async def main(kind: str, target: str, era: str, token: str | None = None) -> None:
    async with connected(kind, target, era, token) as (client, protocol):
        others = [name for name in ("fastmcp", "perdure") if find_spec(name) is not None]
        say({"protocol": protocol, "mcp": version("mcp"), "others": others})
        while line := await asyncio.to_thread(sys.stdin.readline):
            say(await asyncio.gather(*(told(client, request) for request in json.loads(line))))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
