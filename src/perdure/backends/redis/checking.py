"""Whether a server can be trusted with sessions: what is asked at opening, and by health checks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from perdure.backends.protocol import DUE_COUNTED
from perdure.backends.redis.address import RedisAddress
from perdure.backends.redis.codec import instant_of, pairs_of, score_of
from perdure.backends.redis.keys import Layout
from perdure.backends.redis.meanings import NAME, code_of, mapped
from perdure.backends.redis.scripting import script
from perdure.backends.redis.sending import Call, Wire
from perdure.errors import BackendError, ConfigurationError, SchemaError
from perdure.logs import EventLog
from perdure.models.times import from_micros

__all__ = [
    "FORMAT",
    "ServerFacts",
    "check_layout",
    "check_rights",
    "check_servers",
    "count_due",
    "facts_of",
    "last_sweep",
    "layout_of",
]

log = EventLog("perdure.redis")

FORMAT = 1
"""How the data is laid out; a later perdure that does it otherwise has another."""

OLDEST = (6, 2)
_NOT_TOLD = (None, "NOPERM")  # no such command there, or not for this user
_QUESTIONS = (("INFO",), ("CONFIG", "GET", "appendfsync"), ("CONFIG", "GET", "save"))


class ServerFacts:
    """What one server says of itself."""

    def __init__(self, info: Mapping[str, str], config: Mapping[str, str | None]) -> None:
        self.info = info
        self.config = config

    @property
    def product(self) -> str:
        """Redis, or what is compatible with it."""
        return self.info.get("server_name", "redis")

    @property
    def version(self) -> str:
        """Of the product."""
        return self.info.get("valkey_version") or self.info.get("redis_version", "unknown")

    @property
    def mode(self) -> str | None:
        """`standalone`, `cluster`, or `sentinel`."""
        return self.info.get("redis_mode") or self.info.get("server_mode")

    @property
    def is_too_old(self) -> bool:
        """Whether it lacks commands that the scripts use."""
        numbers = re.findall(r"\d+", self.info.get("redis_version", ""))
        return bool(numbers) and tuple(map(int, numbers[:2])) < OLDEST

    @property
    def policy(self) -> str | None:
        """What it does when its memory is full; None where it does not say."""
        return self.info.get("maxmemory_policy")

    @property
    def may_lose(self) -> str | None:
        """What that loses, as a sentence; None where nothing."""
        policy = self.policy
        if policy is None:
            return "whether the server evicts sessions when its memory is full could not be asked (maxmemory-policy)"
        if policy == "noeviction":
            return None
        lost = "cached copies, though no sessions" if policy.startswith("volatile-") else "any session, or a part of it"
        return f"maxmemory-policy is {policy}: when its memory is full, the server throws away {lost}; set noeviction"

    @property
    def warnings(self) -> list[str]:
        """What an operator should see to."""
        found = [self.may_lose] if self.may_lose is not None else []
        if self.info.get("aof_enabled") == "0":
            if self.config.get("save") == "":
                found.append("the server writes nothing to disk: what it holds ends with it (appendonly, save)")
            else:
                found.append("the server writes snapshots only: a crash loses what came after the last (appendonly)")
        for name in ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status"):
            if self.info.get(name, "ok") != "ok":
                found.append(f"{name} is {self.info[name]}: the server could not write to its disk")
        if self.info.get("role") == "slave":
            found.append("the server is a replica and takes no writes")
        return found

    @property
    def details(self) -> dict[str, Any]:
        """For `BackendHealth`."""
        numbers = ("used_memory", "maxmemory", "connected_clients", "connected_slaves")
        return {
            "server": f"{self.product} {self.version}",
            "mode": self.mode,
            "role": self.info.get("role"),
            "maxmemory_policy": self.policy,
            **{name: int(self.info[name]) for name in numbers if self.info.get(name, "").isdecimal()},
            "aof_enabled": {"0": False, "1": True}.get(self.info.get("aof_enabled", "")),
            "appendfsync": self.config.get("appendfsync"),
            "save": self.config.get("save"),
            **{n: self.info.get(n) for n in ("aof_last_write_status", "rdb_last_bgsave_status", "loading")},
        }


async def facts_of(wire: Wire) -> list[ServerFacts]:
    """What each server says of itself; one round trip.

    Raises:
        BackendError: one cannot be reached, or wants another user or password.
    """
    found = []
    for info, *settings in await wire.everywhere(_QUESTIONS):
        if isinstance(info, Exception) and code_of(info) not in _NOT_TOLD:
            raise mapped(info) from info
        config: dict[str, str | None] = {}
        for (_, _, name), reply in zip(_QUESTIONS[1:], settings, strict=True):
            config[name] = None if isinstance(reply, Exception) else _setting(reply)
        found.append(ServerFacts(_info(info), config))
    return found


def _info(reply: Any) -> dict[str, str]:
    lines = reply.decode("utf-8", "replace").splitlines() if isinstance(reply, bytes) else []
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


def _setting(reply: Any) -> str | None:
    values = list(pairs_of(reply).values())
    return values[0].decode("utf-8", "replace") if values else None


def check_servers(servers: Sequence[ServerFacts], address: RedisAddress) -> None:
    """Refuse what cannot work, and warn of what may lose something.

    Raises:
        ConfigurationError: a server is too old, or no cluster where one is named, or the other way round; or with
            `strict`, one that may throw sessions away.
    """
    for server in servers:
        if server.is_too_old:
            raise ConfigurationError(f"redis: {server.product} {server.version} is too old; 6.2 is needed")
        if server.mode == "cluster" and not address.cluster:
            raise ConfigurationError(f"redis: {address} is a node of a cluster; use redis+cluster://")
        if server.may_lose is not None and address.strict:
            raise ConfigurationError(f"redis: {server.may_lose}")
    for warning in dict.fromkeys(warning for server in servers for warning in server.warnings):
        log.warning("redis.unsafe", server=str(address), warning=warning)


async def check_rights(wire: Wire, layout: Layout) -> None:
    """See that this user may run every command that the scripts are made of.

    Raises:
        BackendUnavailableError: it may not; the message names the command.
    """
    keys = [f"{layout.bases[0]}:rights:{kind}" for kind in ("hash", "list", "set", "text")]
    try:
        await wire.send(Call(script("rights"), 0, keys, ()))
    except BackendError as error:
        if code_of(error.__cause__ or error) == "NOPERM":
            raise
        # A full or read-only server is asked again by whoever writes; what is there can be read all the same.


async def layout_of(wire: Wire, layout: Layout) -> dict[bytes, bytes] | None:
    """What is noted of how the data is laid out; None where there is no data."""
    reply = await wire.send(Call(script("layout"), 0, (layout.meta,), ()))
    return pairs_of(reply) or None


async def check_layout(wire: Wire, layout: Layout) -> None:
    """Note how the data is laid out where there is none yet, else see that it is as expected.

    Raises:
        SchemaError: it is not.
    """
    kept = await layout_of(wire, layout)
    if kept is None:
        noted = ("format", FORMAT, "buckets", layout.buckets)
        await wire.send(Call(script("meta"), 0, (layout.meta,), noted))
        kept = await layout_of(wire, layout) or {}
    if not kept.get(b"format", b"").isdigit() or not kept.get(b"buckets", b"").isdigit():
        raise SchemaError(NAME, f"what is kept under the namespace {layout.namespace!r} is not perdure's")
    form, buckets = int(kept[b"format"]), int(kept[b"buckets"])
    if form > FORMAT:
        raise SchemaError(NAME, f"the data was written by a newer perdure (format {form}; this one knows {FORMAT})")
    if buckets != layout.buckets:
        raise SchemaError(
            NAME,
            f"the data under the namespace {layout.namespace!r} is in {buckets} buckets, not {layout.buckets}; "
            f"give buckets={buckets} in the URL",
        )


async def count_due(wire: Wire, layout: Layout, now: datetime) -> tuple[int, datetime | None]:
    """How many sessions are due, up to 1,000, and since when the longest due of them has been."""
    keys = list(layout.every_due())
    groups = [[key] for key in keys] if wire.servers.is_cluster else [keys]
    calls = [Call(script("count_due"), bucket, group, (score_of(now),)) for bucket, group in enumerate(groups)]
    count, since = 0, list[float]()
    for reply in await wire.send_all(calls):
        if isinstance(reply, Exception):
            raise reply
        count += reply[0]
        since += [] if reply[1] is None else [float(reply[1])]
    return min(count, DUE_COUNTED), from_micros(round(min(since))) if since else None


async def last_sweep(wire: Wire, layout: Layout) -> datetime | None:
    """When the last sweep started."""
    reply = await wire.send(Call(script("last_sweep"), 0, (layout.sweep,), ()))
    return None if reply is None else instant_of(reply.split(b" ")[0])
