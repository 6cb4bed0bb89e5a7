"""What the page on PostgreSQL has operators type."""

from __future__ import annotations

import re

import asyncpg
from tests.backends.calls import whole_life
from tests.backends.postgres.living import live_in
from tests.docs.pages import PROJECT

from perdure import QueryRecord, SessionStore
from perdure.backends.sql.postgres import PostgresBackend
from perdure.testing import START
from perdure.testing.plugin import DATABASE
from perdure.testing.servers import PostgresServer

PAGE = (PROJECT / "docs" / "postgres.md").read_text(encoding="utf-8")
RIGHTS, BY_HAND = re.findall(r"^```sql\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


async def test_the_rights_that_the_documentation_lists_are_enough_for_a_whole_life(
    postgres_url: str, postgres_server: PostgresServer
) -> None:
    await PostgresBackend(postgres_url).schema.create()
    nobody_else = "REVOKE ALL ON ALL FUNCTIONS IN SCHEMA perdure FROM PUBLIC"
    grants = RIGHTS.strip().rstrip(";").split(";")
    postgres_server.execute("DROP ROLE IF EXISTS app", "CREATE ROLE app LOGIN", nobody_else, *grants, database=DATABASE)
    url = postgres_url.replace("perdure@", "app@") + "?migrate=false"

    await live_in(url)

    backend = PostgresBackend(url)
    await backend.open()
    await whole_life(backend)
    others = [await asyncpg.connect(postgres_url, ssl=False) for _ in range(7)]
    health = await backend.health(now=START)
    for connection in others:
        await connection.close()
    await backend.aclose()
    assert health.details["connections"] >= 7 + health.details["connections_held"], "those of other roles count too"


async def test_what_is_kept_can_be_asked_about_by_hand(postgres_url: str) -> None:
    async with SessionStore.open(postgres_url) as store:
        session = await store.create_session(["AAPL"], "equity", context={"focus": {"symbol": "AAPL", "weight": 1e16}})
        await store.track_query(session.id, QueryRecord(query_type="price"))
        await store.track_query(session.id, QueryRecord(query_type="news"))

    connection = await asyncpg.connect(postgres_url, ssl=False)
    rows = await connection.fetch(BY_HAND)
    await connection.close()

    assert [tuple(row) for row in rows] == [(session.id, "AAPL", 1, "price"), (session.id, "AAPL", 2, "news")]
