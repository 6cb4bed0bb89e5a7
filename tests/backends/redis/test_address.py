"""What a URL says."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from perdure.backends import backend_for
from perdure.backends.redis.address import SCHEMES, RedisAddress
from perdure.backends.redis.backend import RedisBackend
from perdure.backends.registry import REDIS_SCHEMES
from perdure.errors import ConfigurationError


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", {"nodes": (("localhost", 6379),), "db": 0, "tls": False, "cluster": False}),
        ("redis://host", {"nodes": (("host", 6379),)}),
        ("redis://host:7000/3", {"nodes": (("host", 7000),), "db": 3}),
        ("redis://host?db=4", {"db": 4}),
        ("redis://[::1]:7000", {"nodes": (("::1", 7000),)}),
        ("redis://:p%40ss@host", {"username": None, "password": "p@ss"}),
        ("redis://ann:p%3Ass@host", {"username": "ann", "password": "p:ss"}),
        ("redis://host?username=ann&password=pass", {"username": "ann", "password": "pass"}),
        ("rediss://host", {"tls": True}),
        ("rediss://host?ssl_ca_certs=/ca.pem&ssl_check_hostname=no", {"ssl_ca_certs": "/ca.pem"}),
        ("unix:///run/redis.sock?db=2", {"path": "/run/redis.sock", "db": 2, "nodes": ()}),
        ("unix://ann:pass@/run/redis.sock", {"path": "/run/redis.sock", "username": "ann", "password": "pass"}),
        ("redis+cluster://a:1,b:2,c", {"cluster": True, "nodes": (("a", 1), ("b", 2), ("c", 6379))}),
        ("rediss+cluster://:pass@a", {"cluster": True, "tls": True, "password": "pass"}),
        ("redis://h?namespace=team-a&buckets=64", {"namespace": "team-a", "buckets": 64}),
        ("redis://h?strict=true", {"strict": True}),
        ("redis://h?strict=0", {"strict": False}),
        ("redis://h?timeout=9&socket_timeout=1.5&connect_timeout=0.5", {"timeout": 9.0, "socket_timeout": 1.5}),
        ("redis://h?writers=3&readers=9", {"writers": 3, "readers": 9}),
    ],
)
def test_a_url_is_understood(url: str, expected: dict[str, Any]) -> None:
    address = RedisAddress.of(url)

    assert {name: getattr(address, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://host", "not a Redis URL"),
        ("redis://host/one", "the number of a database"),
        ("redis://host:port", "cannot be read"),
        ("redis://a,b", "for a cluster"),
        ("redis+cluster://a/1", "no numbered databases"),
        ("redis+cluster://a?db=1", "no numbered databases"),
        ("unix://relative.sock", "absolute path"),
        ("redis://host#fragment", "not a Redis URL"),
        ("redis://host?nonsense=1", "no parameter 'nonsense'"),
        ("redis://host?name_space=a", "did you mean namespace"),
        ("redis://host?buckets=many", "a whole number"),
        ("redis://host?buckets=0", "buckets must be between 1 and 1024"),
        ("redis://host?timeout=0", "timeout must be between"),
        ("redis://host?timeout=nan", "timeout must be between"),
        ("redis://host?strict=perhaps", "true or false"),
        ("redis://host?namespace=a%7Bb", "namespace"),
        ("redis://host?namespace=", "namespace"),
        ("rediss://host?ssl_cert_reqs=some", "ssl_cert_reqs"),
        ("redis://[", "not a Redis URL"),
    ],
)
def test_a_url_that_says_something_else_is_refused_and_its_password_not_shown(url: str, words: str) -> None:
    if "//host" in url:
        url = url.replace("//", "//ann:swordfish@")

    with pytest.raises(ConfigurationError, match=words) as caught:
        RedisAddress.of(url)

    assert "swordfish" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://ann:pass@host/1?password=pass", "redis://host:6379/1"),
        ("rediss://host", "rediss://host:6379/0"),
        ("redis+cluster://:pass@a:1,[::1]:2", "redis+cluster://a:1,[::1]:2"),
        ("unix://:pass@/run/redis.sock", "unix:///run/redis.sock?db=0"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    address = RedisAddress.of(url)

    assert str(address) == shown
    assert "pass" not in repr(address)


@pytest.mark.parametrize("scheme", REDIS_SCHEMES)
def test_each_scheme_names_the_backend(scheme: str) -> None:
    backend = backend_for(f"{scheme}:///run/redis.sock" if scheme == "unix" else f"{scheme}://host")

    assert isinstance(backend, RedisBackend)
    assert backend.name == "redis"
    assert tuple(SCHEMES) == REDIS_SCHEMES


@pytest.mark.parametrize("driver", ["redis.asyncio", "hiredis"])
def test_without_the_driver_the_extra_is_named(driver: str) -> None:
    statement = f"import sys; sys.modules[{driver!r}] = None; from perdure.backends import backend_for"
    program = f"{statement}; backend_for('redis://localhost')"

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    error = ran.stderr.splitlines()[-1]
    assert error.startswith("perdure.errors.MissingExtraError")
    assert "pip install 'perdure[redis]'" in error
