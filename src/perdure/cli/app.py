"""The commands, put together."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from perdure.cli.command import Archive, Debug, Json, Url, Verbose
from perdure.cli.database import database
from perdure.cli.demo.command import register_demo
from perdure.cli.doctor import register_doctor
from perdure.cli.errors import OneLineGroup
from perdure.cli.maintain import register_maintain
from perdure.cli.output import print_json
from perdure.cli.plugins import register_plugins
from perdure.cli.serve import serve
from perdure.cli.servers import register_servers
from perdure.cli.sessions import sessions
from perdure.cli.statistics import register_statistics
from perdure.cli.transfer import register_transfer

__all__ = ["app"]

DISTRIBUTION = "perdure"

app = typer.Typer(
    cls=OneLineGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 all is well, 1 it failed or something is wrong, 2 the call was wrong, 130 interrupted.",
)
register_demo(app)
app.add_typer(sessions, name="sessions")
register_statistics(app)
register_transfer(app)
register_maintain(app)
register_doctor(app)
register_plugins(app)
app.add_typer(database, name="db")
app.add_typer(serve, name="serve")
register_servers(app)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", "-V", help="Show the version of perdure, and exit.")
    ] = False,
    url: Url = None,
    archive: Archive = None,
    json: Json = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Durable sessions of multi-query analysis: what was acknowledged is kept.

    Start with `perdure demo`. Sessions are kept in a file of your own unless --url or PERDURE_URL says where.
    """
    if show_version:
        known = _version()
        if json:
            print_json({"version": known})
        else:
            typer.echo(f"perdure {known}")
        raise typer.Exit
    context.obj = {"url": url, "archive": archive, "json": json, "verbose": verbose, "debug": debug}


def _version() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:  # run from the sources, not installed
        return "unknown"
