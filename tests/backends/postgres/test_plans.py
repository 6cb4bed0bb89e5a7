"""How Postgres goes about everything: no scan of a table, no sort of more than a page, no cost but that of the work.

Plans are made once and kept, so that what counts is how they are made while the tables are empty.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from tests.backends.postgres.conftest import KEPT
from tests.backends.servers import TRUNCATE

from perdure import SessionFilter
from perdure.backends.sql.postgres import PostgresBackend, reading, writing
from perdure.backends.sql.postgres.absorbing import store_all
from perdure.backends.sql.postgres.applying import apply_all
from perdure.backends.sql.postgres.connections import Connection, connect
from perdure.backends.sql.postgres.records import Bundle
from perdure.backends.sql.postgres.statements import Statements, statements_in
from perdure.models import StoredSession
from perdure.testing import START, ChangeMaker, stored_query, stored_session
from perdure.testing.plugin import running
from perdure.testing.servers import PostgresServer

Work = Callable[[Connection, Statements], Awaitable[Any]]

SQL = statements_in("perdure")
LATER = START + timedelta(hours=3)
MINUTE = timedelta(minutes=1)
IDS = [UUID(int=number + 1) for number in range(100, 110)]

FORGETTING = {"session_tombstones", "session_tickets"}
"""Both hold what was deleted, or read, of late, and retention asks for what is past by nothing but its age."""


def session(index: int) -> StoredSession:
    """Of ten users; every third is archived."""
    return stored_session(
        id=UUID(int=index + 1),
        user_id=f"user {index % 10}",
        type="equity" if index % 2 else "macro",
        assets=("AAPL", f"asset {index % 50}"),
        tags=("tech",) if index % 4 else (),
        created_at=START + timedelta(seconds=index),
        expires_at=START + timedelta(hours=1, seconds=index),
        archived_at=START + timedelta(hours=2) if index % 3 == 0 else None,
        queries=(stored_query(), stored_query("news")),
        sections={"context": {"k": 1}},
    )


async def _append(connection: Connection, sql: Statements) -> None:
    await apply_all(connection, sql, [(IDS[0], ChangeMaker().query())])


async def _apply_many(connection: Connection, sql: Statements) -> None:
    contents: list[dict[str, Any]] = [
        {"set_entries": {"context": {"k": "2"}}, "unset_entries": {"metadata": ["m"]}},
        {"add_tags": ("new",), "remove_assets": ("AAPL",)},
        {"expires_at": LATER},
        {"if_version": 9},
    ]
    changes = [ChangeMaker().query(**content) for content in contents]
    await apply_all(connection, sql, list(zip(IDS, changes, strict=False)))


def _page(**wanted: Any) -> Work:
    async def work(connection: Connection, sql: Statements) -> None:
        await reading.find_in(connection, sql, SessionFilter(**wanted), None, 10)

    return work


async def _oldest(connection: Connection, sql: Statements) -> None:
    """The last pages of the listing: those before are not gone through to come there."""
    await reading.find_in(connection, sql, SessionFilter(), (START + timedelta(seconds=100), UUID(int=101)), 10)


async def _store(connection: Connection, sql: Statements) -> None:
    new = [stored_session(id=UUID(int=2**100 + n), queries=(stored_query(),), tags=("x",)) for n in range(10)]
    await store_all(connection, sql, [Bundle.of(each) for each in (*new, session(7), session(8))], absorbing=True)


async def _archive(connection: Connection, sql: Statements) -> None:
    copies = "[" + ",".join(f'{{"id":"{known}","version":1,"head":"x"}}' for known in IDS) + "]"
    await connection.fetch(sql.archive_sessions, copies, 0)
    await connection.fetch(sql.settle_sessions, copies)


async def _claim(connection: Connection, sql: Statements) -> None:
    await writing.claim_from(connection, sql, now=LATER, lease=MINUTE, limit=10, max_bytes=2**20)


def _purge(**terms: Any) -> Work:
    async def work(connection: Connection, sql: Statements) -> None:
        given = {"archived_before": LATER, "now": LATER, "limit": 10, "among": None, "dry_run": False, **terms}
        await writing.purge_from(connection, sql, **given)

    return work


async def _delete(connection: Connection, sql: Statements) -> None:
    await writing.delete_from(connection, sql, IDS[0], forget_at=LATER, owner=None)
    await writing.delete_from(connection, sql, UUID(int=2**90), forget_at=LATER, owner=None)


async def _evict(connection: Connection, sql: Statements) -> None:
    found = await reading.read_session(connection, sql, IDS[1], history=0)
    version, head = (1, "") if found is None else (found.version, found.head)
    await writing.evict_from(connection, sql, IDS[1], version=version, head=head)


async def _small_things(connection: Connection, sql: Statements) -> None:
    await writing.ticket_of(connection, sql, UUID(int=2**80), now=START)
    await writing.start_sweep_in(connection, sql, now=START, interval=MINUTE)
    await reading.copies_of(connection, sql, IDS)


async def _read(connection: Connection, sql: Statements) -> None:
    await reading.read_session(connection, sql, IDS[2], history=1)
    await reading.read_whole(connection, sql, IDS)
    await connection.fetch(sql.lock_many.text, *sql.lock_many.arguments(ids=[str(known) for known in IDS]))
    for before in (None, 2):
        await reading.read_page(connection, sql, IDS[2], after=0, before=before, limit=1, owner=None)


WORK: dict[str, Work] = {
    "one query appended": _append,
    "changes of every kind": _apply_many,
    "a page of all": _page(),
    "a page of the archived": _page(archived=True),
    "a page of the active": _page(archived=False),
    "a page of one user": _page(user_id="user 3"),
    "a page of a user and an asset": _page(user_id="user 3", assets=("AAPL",)),
    "a page of an asset, a tag and a type": _page(assets=("AAPL",), tags=("tech",), session_type="equity"),
    "a page of a while ago": _page(created_before=START + timedelta(seconds=400)),
    "a page far down": _oldest,
    "ten stored": _store,
    "ten archived": _archive,
    "ten claimed": _claim,
    "ten purged": _purge(),
    "ten purged of some": _purge(among=IDS),
    "what would be purged": _purge(dry_run=True),
    "what would be purged of some": _purge(among=IDS, dry_run=True),
    "one deleted": _delete,
    "one evicted": _evict,
    "tickets, sweeps, copies": _small_things,
    "reading": _read,
}


@pytest.fixture
def sessions_url(postgres_server: PostgresServer, made_url: str) -> str:
    """The URL of a database with the schema, of which the server knows nothing yet."""
    running(postgres_server).execute(TRUNCATE, database=KEPT)
    return made_url


every_work = pytest.mark.parametrize("name", WORK)


async def fill(url: str, *, first: int = 0, upto: int) -> None:
    backend = PostgresBackend(url)
    await backend.open()
    await backend.absorb([session(index) for index in range(first, upto)])
    await backend.aclose()


@asynccontextmanager
async def undone(url: str) -> AsyncIterator[Connection]:
    """A connection like those of a backend; what is done on it is undone."""
    connection = await connect(PostgresBackend(url)._address)
    try:
        transaction = connection.transaction()
        await transaction.start()
        yield connection
        await transaction.rollback()
    finally:
        await connection.close()


# By their plans -------------------------------------------------------------------------------------


async def plans_of(connection: Connection, work: Work) -> list[str]:
    """The plan of every statement that the work runs, those inside functions included."""
    said: list[str] = []
    connection.add_log_listener(lambda _, message: said.append(message.message))
    await connection.execute(
        "LOAD 'auto_explain';"
        "SET LOCAL auto_explain.log_min_duration = 0; SET LOCAL auto_explain.log_nested_statements = on;"
        "SET LOCAL auto_explain.log_level = notice; SET LOCAL auto_explain.log_analyze = off"
    )
    await work(connection, SQL)
    await connection.execute("SET LOCAL auto_explain.log_min_duration = -1")
    return [text for text in said if "plan:" in text]


def _without_condition(plan: str) -> list[str]:
    """Indices that are gone through from one end, without looking anything up in them."""
    lines = plan.splitlines()
    found = []
    for number, line in enumerate(lines):
        if re.search(r"Index (Only )?Scan", line) and "Index Cond" not in "".join(lines[number + 1 : number + 2]):
            found.append(line.strip())
    return found


def tables_gone_through(plan: str) -> set[str]:
    """Tables, and indices without a condition that would limit what is read of them."""
    lines = plan.splitlines()
    found = set(re.findall(r"Seq Scan on (\w+)", plan))
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        index = re.search(r"Index (?:Only )?Scan .*on (\w+)", line)
        if index is not None and "Index Cond" not in below:
            found.add(index[1])
    return found


@every_work
@pytest.mark.parametrize("sessions", [None, 1, 300])
async def test_nothing_goes_through_a_whole_table(
    sessions_url: str, postgres_server: PostgresServer, name: str, sessions: int | None
) -> None:
    """On empty tables, as the first process to use a database does; and on such as have been analysed."""
    if sessions is not None:
        await fill(sessions_url, upto=sessions)
        postgres_server.execute("ANALYZE", database=KEPT)
    async with undone(sessions_url) as connection:
        plans = await plans_of(connection, WORK[name])

    assert plans
    for plan in plans:
        assert tables_gone_through(plan) <= FORGETTING, plan


# By counting ----------------------------------------------------------------------------------------


class Counting:
    """A connection that counts the blocks of tables and indices which its statements look at."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.blocks = 0

    async def _count(self, text: str, arguments: tuple[Any, ...]) -> None:
        await self._connection.execute("SAVEPOINT counting")
        answer = await self._connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {text}", *arguments)
        await self._connection.execute("ROLLBACK TO counting")
        plan = json.loads(answer)[0]["Plan"]
        self.blocks += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]

    async def fetch(self, text: str, *arguments: Any) -> Any:
        await self._count(text, arguments)
        return await self._connection.fetch(text, *arguments)

    async def fetchrow(self, text: str, *arguments: Any) -> Any:
        await self._count(text, arguments)
        return await self._connection.fetchrow(text, *arguments)

    async def fetchval(self, text: str, *arguments: Any) -> Any:
        await self._count(text, arguments)
        return await self._connection.fetchval(text, *arguments)


async def blocks_of(url: str, work: Work) -> int:
    """How many blocks the work looks at, once plans are made."""
    async with undone(url) as connection:
        await connection.execute("SAVEPOINT before")
        await work(connection, SQL)
        await connection.execute("ROLLBACK TO before")
        counting = Counting(connection)
        await work(counting, SQL)
        return counting.blocks


def _counts(*labels: str) -> Work:
    """Finding the rarest of some labels, which looks at a thousand rows of each at most."""

    async def work(connection: Connection, sql: Statements) -> None:
        await connection.fetch("SELECT set_config('enable_bitmapscan', 'off', true)")
        some = "SELECT count(*) FROM (SELECT FROM perdure.session_labels WHERE label = $1 LIMIT 1000) AS some_of_them"
        for label in labels:
            await connection.fetch(some, label)

    return work


COUNTS = {
    "a page of a user and an asset": _counts("user:user 3", "asset:AAPL"),
    "a page of an asset, a tag and a type": _counts("type:equity", "asset:AAPL", "tag:tech"),
}


@every_work
async def test_the_cost_is_that_of_the_work_and_not_of_the_store(sessions_url: str, name: str) -> None:
    costs = []
    for first, upto in ((0, 400), (400, 4_000)):
        await fill(sessions_url, first=first, upto=upto)
        counting = await blocks_of(sessions_url, COUNTS[name]) if name in COUNTS else 0
        costs.append(await blocks_of(sessions_url, WORK[name]) - counting)

    small, large = costs
    assert 0 < large <= small * 1.5 + 50


async def test_a_scan_would_be_noticed(sessions_url: str) -> None:
    """The counting itself: what goes through the table costs ten times as much in the larger one."""

    async def scan(connection: Connection, sql: Statements) -> None:
        await connection.fetch("SELECT count(*) FROM perdure.sessions WHERE user_id = 'user 3'")

    await fill(sessions_url, upto=400)
    small = await blocks_of(sessions_url, scan)
    await fill(sessions_url, first=400, upto=4_000)
    assert await blocks_of(sessions_url, scan) > small * 5
