"""`rediss://`: a server that is spoken to over TLS, by whom it can be trusted."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.backends.calls import whole_life
from tests.backends.redis.proxy import LossyProxy

from perdure import SessionStore
from perdure.backends.redis.backend import RedisBackend
from perdure.errors import BackendUnavailableError
from perdure.testing import START
from perdure.testing.servers import ValkeyServer

CERTIFICATE = Path(__file__).parent / "tls" / "localhost.pem"
KEY = CERTIFICATE.with_suffix(".key")


def of_the_server() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    return context


async def in_front_of(server: ValkeyServer, context: ssl.SSLContext) -> AsyncIterator[int]:
    proxy = LossyProxy("127.0.0.1", server.port, context)
    yield await proxy.start()
    await proxy.close()


@pytest.fixture
async def port(redis_url: str, valkey_server: ValkeyServer) -> AsyncIterator[int]:
    """Where the server is spoken to over TLS, under the name localhost."""
    async for port in in_front_of(valkey_server, of_the_server()):
        yield port


@pytest.fixture
async def closed_port(redis_url: str, valkey_server: ValkeyServer) -> AsyncIterator[int]:
    """The same, for those alone who have a certificate."""
    context = of_the_server()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(CERTIFICATE)
    async for port in in_front_of(valkey_server, context):
        yield port


async def test_a_server_of_a_known_authority_is_used(port: int) -> None:
    backend = RedisBackend(f"rediss://localhost:{port}?ssl_ca_certs={CERTIFICATE}")
    await backend.open()
    await whole_life(backend)
    assert (await backend.health(now=START)).ok
    await backend.aclose()


async def test_a_store_opens_it_by_its_url(port: int) -> None:
    async with SessionStore.open(f"rediss://localhost:{port}/2?ssl_ca_certs={CERTIFICATE}") as store:
        session = await store.create_session(["AAPL"], "equity")
        assert await store.get_session(session.id) == session


@pytest.mark.parametrize(
    ("host", "options", "said"),
    [
        ("localhost", "", "self.signed certificate"),
        ("localhost", "ssl_cert_reqs=optional", "self.signed certificate"),
        ("127.0.0.1", f"ssl_ca_certs={CERTIFICATE}", "not valid for '127.0.0.1'"),
    ],
)
async def test_a_server_that_cannot_be_trusted_is_refused(port: int, host: str, options: str, said: str) -> None:
    with pytest.raises(BackendUnavailableError, match=f"certificate verify failed: .*{said}"):
        await RedisBackend(f"rediss://{host}:{port}?{options}").open()


@pytest.mark.parametrize(
    ("host", "options"),
    [
        ("localhost", "ssl_cert_reqs=none&ssl_check_hostname=false"),
        ("127.0.0.1", "ssl_cert_reqs=none"),
        ("127.0.0.1", f"ssl_ca_certs={CERTIFICATE}&ssl_check_hostname=false"),
    ],
)
async def test_what_is_not_asked_for_is_not_checked(port: int, host: str, options: str) -> None:
    backend = RedisBackend(f"rediss://{host}:{port}?{options}")
    await backend.open()
    assert (await backend.health(now=START)).ok
    await backend.aclose()


async def test_a_server_is_shown_the_certificate_that_it_asks_for(closed_port: int) -> None:
    url = f"rediss://localhost:{closed_port}?ssl_ca_certs={CERTIFICATE}"
    backend = RedisBackend(f"{url}&ssl_certfile={CERTIFICATE}&ssl_keyfile={KEY}")
    await backend.open()
    assert (await backend.health(now=START)).ok
    await backend.aclose()

    with pytest.raises(BackendUnavailableError):
        await RedisBackend(url).open()
