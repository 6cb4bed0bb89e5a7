"""The scripts in `scripts/`, as they are sent to a server."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

__all__ = ["Script", "script"]

_USES = re.compile(r"-- uses: (.+)\n")


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script, and what a server that has seen it knows it by."""

    name: str
    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """The script of that name, put together from its own file and the parts that its first line names."""
    text = _file(f"{name}.lua")
    uses = _USES.match(text)
    parts = uses.group(1).split(", ") if uses else []
    whole = "".join(_file(f"part_{part}.lua") for part in parts) + text
    return Script(name, whole, hashlib.sha1(whole.encode(), usedforsecurity=False).hexdigest())


def _file(name: str) -> str:
    return files("perdure.backends.redis").joinpath("scripts", name).read_text(encoding="utf-8")
