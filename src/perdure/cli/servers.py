"""A Redis and a Postgres of one's own: `perdure dev-servers`, and what `perdure demo --servers` runs on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perdure.cli.command import Run, command
from perdure.cli.errors import FAILURE, complain
from perdure.cli.output import print_json
from perdure.cli.signals import stopped_by_signals, wait_for

if TYPE_CHECKING:
    from perdure.testing.servers import LocalServer

__all__ = ["ServerPair", "redis_and_postgres", "register_servers"]

DATABASE = "perdure"
WATCH_SECONDS = 1.0


def register_servers(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "dev-servers", of_one_store=False)(dev_servers)


@dataclass(frozen=True, slots=True)
class ServerPair:
    """Two servers that run, as a store is told of them."""

    url: str
    archive: str
    servers: tuple[LocalServer, ...]

    @property
    def exports(self) -> str:
        """What makes a shell use them."""
        return f"export PERDURE_URL={self.url} PERDURE_ARCHIVE={self.archive}"


@contextmanager
def redis_and_postgres(
    *, keep: Path | None = None, redis_port: int | None = None, postgres_port: int | None = None
) -> Iterator[ServerPair]:
    """Both, from start to clean end; their data are kept where `keep` says, or not at all.

    Raises:
        MissingExtraError: the extra `dev` is not installed.
    """
    from perdure.testing.servers import PostgresServer, ValkeyServer

    # Postgres first: it refuses a folder that another one is using, for both.
    with (
        PostgresServer(folder=None if keep is None else keep / "postgres", port=postgres_port) as postgres,
        ValkeyServer(folder=None if keep is None else keep / "redis", port=redis_port) as redis,
    ):
        yield ServerPair(redis.url, postgres.create_database(DATABASE), (redis, postgres))


async def dev_servers(
    run: Run,
    redis_port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Port of the Redis. Default: a free one.")
    ] = None,
    postgres_port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Port of the Postgres. Default: a free one.")
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", file_okay=False, help="Keep their data here, for the next time."),
    ] = None,
) -> None:
    """Run a Redis and a Postgres to play with, until Ctrl-C; needs the extra `dev` and nothing else.

    They listen on 127.0.0.1 only, without passwords.
    """
    with stopped_by_signals() as stopping:
        run.say("starting a Redis and a Postgres …")
        with redis_and_postgres(keep=keep, redis_port=redis_port, postgres_port=postgres_port) as pair:
            _tell(run, pair, keep)
            while not stopping.is_set():
                await wait_for(stopping, seconds=WATCH_SECONDS)
                gone = [server.kind for server in pair.servers if not server.running]
                if gone:
                    complain(f"{' and '.join(gone)} ended by itself")
                    raise typer.Exit(FAILURE)
    run.say("both have ended")


def _tell(run: Run, pair: ServerPair, keep: Path | None) -> None:
    if run.json:
        kept = None if keep is None else str(keep.absolute())
        print_json({"url": pair.url, "archive": pair.archive, "folder": kept}, indent=None)
        return
    for name, url in (("Redis", pair.url), ("Postgres", pair.archive)):
        run.out.print(f"{name:<9} {url}", soft_wrap=True)
    run.out.print()
    run.out.print(pair.exports, soft_wrap=True)
    data = "their data are removed then" if keep is None else f"their data stay in {keep.absolute()}"
    run.say(f"\nCtrl-C ends both; {data}")
