"""Behind a pooler that gives each transaction another connection: PgBouncer if installed, and one of our own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from tests.backends.postgres.proxies import TransactionPooler
from tests.effort import LONG

from perdure.backends import SessionBackend
from perdure.backends.sql.postgres import PostgresBackend
from perdure.errors import BackendError, SchemaError
from perdure.testing import START, BackendConformance, ChangeMaker, OpenBackend, stored_session
from perdure.testing.conformance.applying import ApplyingPromises
from perdure.testing.conformance.archiving import ArchivingPromises
from perdure.testing.conformance.claiming import ClaimingPromises
from perdure.testing.conformance.repeats import RepeatPromises
from perdure.testing.servers import PostgresServer
from perdure.testing.servers.ports import free_port


class _Pooled:
    @pytest.fixture
    def open_backend(self, pooled_url: str) -> OpenBackend:
        async def open_backend() -> SessionBackend:
            backend = PostgresBackend(pooled_url, prepared=False)
            await backend.open()
            return backend

        return open_backend


class _OnAnotherConnectionEachTime(_Pooled):
    @pytest_asyncio.fixture
    async def pooler(self, sessions_url: str) -> TransactionPooler:
        return TransactionPooler(sessions_url)

    @pytest_asyncio.fixture
    async def pooled_url(self, pooler: TransactionPooler) -> AsyncIterator[str]:
        async with pooler.listening() as url:
            yield url


class TestWritingBehindATransactionPooler(
    _OnAnotherConnectionEachTime, ApplyingPromises, RepeatPromises, ClaimingPromises, ArchivingPromises
):
    """Each operation on another connection than the one before."""

    backend = BackendConformance.backend
    other = BackendConformance.other

    async def test_each_transaction_has_another_connection(
        self, pooler: TransactionPooler, backend: SessionBackend
    ) -> None:
        session = stored_session()
        await backend.create(session)
        before = pooler.changes
        for _ in range(5):
            await backend.apply(session.id, ChangeMaker().query())
        assert pooler.changes == before + 5

    async def test_nothing_is_left_behind_on_the_server(
        self, pooler: TransactionPooler, backend: SessionBackend
    ) -> None:
        """No prepared statement, no setting, no lock of a session that the next client would inherit."""
        session = stored_session()
        await backend.create(session)
        await backend.apply(session.id, ChangeMaker().query(set_entries={"context": {"k": "1"}}, add_tags=("x",)))
        await backend.read(session.id)
        await backend.claim_expired(now=START, lease=START - START, limit=1, max_bytes=1)

        for server in pooler._servers:
            left = await _asked(server, "SELECT count(*) FROM pg_prepared_statements")
            assert left == b"0"
            assert await _asked(server, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == b"0"
            assert await _asked(server, "SELECT current_setting('enable_seqscan')") == b"on"

    async def test_without_saying_so_the_error_tells_what_to_add(self, pooled_url: str) -> None:
        with pytest.raises(BackendError, match=r"\?prepared=false"):
            await PostgresBackend(pooled_url).open()


class TestBehindATransactionPooler(_OnAnotherConnectionEachTime, BackendConformance):
    """The whole contract."""

    __test__ = LONG


async def _asked(server: object, query: str) -> bytes:
    """The one value that a simple query gives."""
    line = server.line  # type: ignore[attr-defined]
    text = query.encode() + b"\0"
    line.send(b"Q" + (len(text) + 4).to_bytes(4) + text)
    value = b""
    while True:
        kind, message = await line.message()
        if kind == b"D":
            value = message[11:]
        if kind == b"Z":
            return value


# PgBouncer itself -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def pgbouncer(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a PgBouncer in front of the server."""
    program = shutil.which("pgbouncer")
    if program is None:
        pytest.skip("PgBouncer is not installed")
    folder, port = tmp_path_factory.mktemp("pgbouncer"), free_port()
    (folder / "users.txt").write_text('"perdure" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={postgres_server.port}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = trust\nauth_file = {folder / 'users.txt'}\npool_mode = transaction\ndefault_pool_size = 5\n"
        + ("user = nobody\n" if os.geteuid() == 0 else "")
    )
    for path in (folder, *folder.parents):
        if os.geteuid() == 0 and path.is_relative_to(tmp_path_factory.getbasetemp().parent):
            path.chmod(path.stat().st_mode | 0o011)
    (folder / "users.txt").chmod(0o644)
    process = subprocess.Popen([program, "-q", folder / "pgbouncer.ini"], stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        yield port
    finally:
        process.kill()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    import socket

    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        assert process.poll() is None, "PgBouncer ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("PgBouncer does not answer")


def _through(pgbouncer: int, url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.username}@127.0.0.1:{pgbouncer}").geturl()


class TestBehindPgBouncer(_Pooled, BackendConformance):
    """The contract, through `pool_mode = transaction`."""

    __test__ = shutil.which("pgbouncer") is not None

    @pytest.fixture
    def pooled_url(self, pgbouncer: int, sessions_url: str) -> str:
        return _through(pgbouncer, sessions_url)

    async def test_without_saying_so_the_error_tells_what_to_add(self, pooled_url: str) -> None:
        with pytest.raises(BackendError, match=r"\?prepared=false"):
            await PostgresBackend(pooled_url).open()


async def test_the_schema_is_made_verified_and_dropped_through_a_pooler(postgres_url: str) -> None:
    async with TransactionPooler(postgres_url).listening() as url:
        schema = PostgresBackend(url, prepared=False, schema="of my own").schema
        await schema.create()
        assert await schema.verify() == []
        await schema.drop()
        with pytest.raises(SchemaError):
            await schema.upgrade()
