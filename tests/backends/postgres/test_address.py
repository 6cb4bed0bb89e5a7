"""What a URL says."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from perdure.backends.sql.postgres import PostgresBackend
from perdure.backends.sql.postgres.address import Address
from perdure.errors import ConfigurationError

DEFAULTS = {
    "schema": "perdure",
    "pool_size": 5,
    "connect_timeout": timedelta(seconds=5),
    "command_timeout": timedelta(seconds=10),
    "bulk_timeout": timedelta(seconds=60),
    "prepared": True,
    "migrate": True,
    "application_name": "perdure",
}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://ann@host:5432/db", {"dsn": "postgresql://ann@host:5432/db", **DEFAULTS}),
        ("postgres://host/db", {"dsn": "postgresql://host/db"}),
        ("postgresql+asyncpg://host/db", {"dsn": "postgresql://host/db"}),
        ("postgresql://a:1,b:2/db", {"dsn": "postgresql://a:1,b:2/db"}),
        ("postgresql://ann:p%40ss@host/db", {"dsn": "postgresql://ann:p%40ss@host/db"}),
        ("postgresql://h/db?pool_size=9&sslmode=disable", {"dsn": "postgresql://h/db?sslmode=disable", "pool_size": 9}),
        ("postgresql://h/db?target_session_attrs=primary", {"dsn": "postgresql://h/db?target_session_attrs=primary"}),
        ("postgresql://h?schema=of%20my%20own", {"schema": "of my own"}),
        ("postgresql://h?schema=" + "s" * 63, {"schema": "s" * 63}),
        ("postgresql://h?schema=pgdata", {"schema": "pgdata"}),
        ("postgresql://h?pool_size=2", {"pool_size": 2}),
        ("postgresql://h?connect_timeout=0.5", {"connect_timeout": timedelta(seconds=0.5)}),
        ("postgresql://h?command_timeout=3", {"command_timeout": timedelta(seconds=3)}),
        ("postgresql://h?bulk_timeout=600", {"bulk_timeout": timedelta(minutes=10)}),
        ("postgresql://h?prepared=false", {"prepared": False}),
        ("postgresql://h?prepared=On", {"prepared": True}),
        ("postgresql://h?migrate=0", {"migrate": False}),
        ("postgresql://h?migrate=YES", {"migrate": True}),
        ("postgresql://h?application_name=my%20app", {"application_name": "my app"}),
    ],
)
def test_a_url_is_understood(url: str, expected: dict[str, Any]) -> None:
    address = Address.of(url)

    assert {name: getattr(address, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://host/db", "not a PostgreSQL URL"),
        ("postgresql://host/db#fragment", "not a PostgreSQL URL"),
        ("postgresql://host?nonsense=1", "no option nonsense in a PostgreSQL URL$"),
        ("postgresql://host?pool_sise=1", "did you mean pool_size"),
        ("postgresql://host?ssl_mode=require", "did you mean sslmode"),
        ("postgresql://host?password=other", "a password belongs before the host"),
        ("postgresql://host?schema=", "schema must be a name"),
        ("postgresql://host?schema=" + "ü" * 32, "schema must be a name of 1 to 63 bytes"),
        ("postgresql://host?schema=pg_catalog", "schema must be a name"),
        ("postgresql://host?schema=information_schema", "schema must be a name"),
        ("postgresql://host?schema=a%00b", "schema must be a name"),
        ("postgresql://host?pool_size=1", "pool_size must be at least 2"),
        ("postgresql://host?pool_size=many", "pool_size must be a whole number, not 'many'"),
        ("postgresql://host?pool_size=-5", "pool_size must be a whole number"),
        ("postgresql://host?connect_timeout=soon", "connect_timeout must be a number of seconds, not 'soon'"),
        ("postgresql://host?connect_timeout=0", "connect_timeout must be longer than nothing"),
        ("postgresql://host?command_timeout=-1", "command_timeout must be longer than nothing"),
        ("postgresql://host?bulk_timeout=nan", "bulk_timeout must be a number of seconds"),
        ("postgresql://host?bulk_timeout=inf", "bulk_timeout must be a number of seconds"),
        ("postgresql://host?prepared=maybe", "prepared must be true or false, not 'maybe'"),
        ("postgresql://host?migrate=", "migrate must be true or false"),
    ],
)
def test_a_url_that_says_something_else_is_refused_and_its_password_not_shown(url: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        Address.of(url.replace("//host", "//ann:swordfish@host"))

    assert "swordfish" not in str(caught.value)


def test_an_address_is_shown_without_its_password() -> None:
    assert "swordfish" not in repr(Address.of("postgresql://ann:swordfish@host/db"))


def test_what_is_given_comes_before_what_the_url_says() -> None:
    url = "postgresql://h?schema=one&pool_size=9&prepared=true"

    address = Address.of(url, schema="two", prepared=False, pool_size=None)

    assert (address.schema, address.pool_size, address.prepared) == ("two", 9, False)
    with pytest.raises(ConfigurationError, match="pool_size"):
        PostgresBackend(url, pool_size=1)
