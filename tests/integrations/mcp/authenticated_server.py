"""A server with bearer tokens, as an author would write it: `python authenticated_server.py URL PORT`."""

from __future__ import annotations

import sys

from fastmcp import FastMCP
from fastmcp.server.auth import StaticTokenVerifier

from perdure import SessionStore
from perdure.integrations.mcp import install

TOKENS = {
    "token-of-ann": {"client_id": "desk", "sub": "ann", "scopes": []},
    "token-of-bob": {"client_id": "desk", "sub": "bob", "scopes": []},
}

mcp: FastMCP = FastMCP("finance", auth=StaticTokenVerifier(TOKENS))


@mcp.tool
async def price(symbol: str) -> str:
    """The price of a share."""
    return f"{symbol}: $175.43"


install(mcp, SessionStore.open(sys.argv[1]))

if __name__ == "__main__":
    mcp.run(transport="http", host="127.0.0.1", port=int(sys.argv[2]), show_banner=False)
