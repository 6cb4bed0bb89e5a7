"""What a URL says about a Redis: where it is, how to speak to it, and how patient to be."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from perdure.backends.redis.keys import DEFAULT_BUCKETS, DEFAULT_NAMESPACE
from perdure.errors import ConfigurationError

__all__ = ["SCHEMES", "RedisAddress"]

SCHEMES = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster")
DEFAULT_PORT = 6379
_NAMESPACE = re.compile(r"[^{}\s\x00-\x1f]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """Where a Redis is, and how it is used. `of` reads a URL; each setting is one of its query parameters.

    `namespace` keeps several stores on one server apart. `buckets` is how many parts the data is in; it cannot be
    changed once there is data. `strict` refuses a server that may throw sessions away. Durations are seconds:
    `timeout` bounds a call with all its attempts, `socket_timeout` one attempt, `connect_timeout` making a connection.
    `writers` and `readers` are the connections to each server. The `ssl_…` settings are those of redis-py.
    """

    nodes: tuple[tuple[str, int], ...] = ()
    path: str | None = None
    cluster: bool = False
    tls: bool = False
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    namespace: str = DEFAULT_NAMESPACE
    buckets: int = DEFAULT_BUCKETS
    strict: bool = False
    timeout: float = 5.0
    socket_timeout: float = 2.0
    connect_timeout: float = 2.0
    writers: int = 2
    readers: int = 4
    ssl_ca_certs: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_cert_reqs: str = "required"
    ssl_check_hostname: bool = True

    @classmethod
    def of(cls, url: str) -> RedisAddress:
        """What a URL says.

        Raises:
            ConfigurationError: it cannot be understood; the message holds no password.
        """
        try:
            parts = urlsplit(url)
        except ValueError:
            raise ConfigurationError("not a Redis URL; for instance redis://localhost:6379/0") from None
        if parts.scheme not in SCHEMES or parts.fragment:
            raise ConfigurationError(f"not a Redis URL; for instance {', '.join(_EXAMPLES.values())}")
        return cls(**{**_place(parts), **_parameters(parts)})

    def __post_init__(self) -> None:
        if not _NAMESPACE.fullmatch(self.namespace):
            raise ConfigurationError("namespace must be 1 to 64 characters without braces and white space")
        if self.cluster and self.db:
            raise ConfigurationError("a cluster has no numbered databases; leave the path of the URL empty")
        for name, lowest, highest in _BOUNDS:
            value = getattr(self, name)
            if not lowest <= value <= highest:
                raise ConfigurationError(f"{name} must be between {lowest:g} and {highest:g}, not {value:g}")
        if self.ssl_cert_reqs not in ("required", "optional", "none"):
            raise ConfigurationError("ssl_cert_reqs must be required, optional or none")

    def __str__(self) -> str:
        """For people, without user and password."""
        scheme = f"redis{'s' if self.tls else ''}{'+cluster' if self.cluster else ''}"
        if self.path is not None:
            return f"unix://{self.path}?db={self.db}"
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.nodes)
        return f"{scheme}://{hosts}" + ("" if self.cluster else f"/{self.db}")

    @property
    def connection_arguments(self) -> dict[str, Any]:
        """What every connection of redis-py is made with, but for where to."""
        given: dict[str, Any] = {
            "db": self.db,
            "username": self.username,
            "password": self.password,
            "socket_connect_timeout": self.connect_timeout,
            "socket_timeout": None,  # a flight has one time-out as a whole
            "protocol": 2,
        }
        if self.tls:
            given |= {name: getattr(self, name) for name in _SSL}
        return given


_SSL = tuple(setting.name for setting in fields(RedisAddress) if setting.name.startswith("ssl_"))
_BOUNDS = (
    ("buckets", 1, 1024),
    ("db", 0, 2**31),
    ("timeout", 0.01, 3600),
    ("socket_timeout", 0.01, 3600),
    ("connect_timeout", 0.01, 3600),
    ("writers", 1, 64),
    ("readers", 1, 256),
)
_EXAMPLES = {
    "redis": "redis://localhost:6379/0",
    "unix": "unix:///run/redis.sock",
    "redis+cluster": "redis+cluster://one:6379,two:6379",
}
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_KNOWN = frozenset(
    setting.name for setting in fields(RedisAddress) if setting.name not in ("nodes", "path", "cluster", "tls")
)


def _place(parts: SplitResult) -> dict[str, Any]:
    """What scheme, host and path say."""
    scheme, _, kind = parts.scheme.partition("+")
    user, _, hosts = parts.netloc.rpartition("@")
    place: dict[str, Any] = {"tls": scheme == "rediss", "cluster": kind == "cluster"}
    name, _, password = user.partition(":")
    place |= {"username": unquote(name)} if name else {}
    place |= {"password": unquote(password)} if password else {}
    if scheme == "unix":
        if hosts or not parts.path.startswith("/"):
            raise ConfigurationError(f"a socket is given by an absolute path: {_EXAMPLES['unix']}")
        return place | {"path": unquote(parts.path)}
    place["nodes"] = tuple(map(_host_and_port, hosts.split(",") if hosts else ["localhost"]))
    database = parts.path.strip("/")
    if len(place["nodes"]) > 1 and kind != "cluster":
        raise ConfigurationError(f"several hosts are for a cluster: {_EXAMPLES['redis+cluster']}")
    if database and not database.isdecimal():
        raise ConfigurationError("the path of a Redis URL is the number of a database, for instance /0")
    return place | ({"db": int(database)} if database else {})


def _host_and_port(text: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host:
        raise ConfigurationError("a host of the Redis URL cannot be read; for instance localhost:6379")
    return host, DEFAULT_PORT if port is None else port


def _parameters(parts: SplitResult) -> dict[str, Any]:
    """What the query parameters say."""
    given: dict[str, Any] = {}
    kinds: Mapping[str, Any] = {setting.name: setting.type for setting in fields(RedisAddress)}
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        if name not in _KNOWN:
            close = difflib.get_close_matches(name, sorted(_KNOWN), n=1)
            raise ConfigurationError(
                f"no parameter {name!r} in a Redis URL" + (f"; did you mean {close[0]}?" if close else "")
            )
        given[name] = _value(name, text, str(kinds[name]))
    return given


def _value(name: str, text: str, kind: str) -> Any:
    try:
        if kind == "bool":
            return {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}[text.lower()]
        return {"int": int, "float": float}.get(kind, str)(text)
    except (ValueError, KeyError):
        kinds = {"bool": "true or false", "int": "a whole number", "float": "a number"}
        raise ConfigurationError(f"{name} in a Redis URL must be {kinds[kind]}") from None
