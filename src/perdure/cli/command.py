"""How a command is made: an `async` function that is given a `Run`, and options that all commands share."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Concatenate, ParamSpec

import structlog
import typer
from rich.console import Console

from perdure import SessionStore, Settings
from perdure.cli.errors import one_line_errors
from perdure.cli.output import console, print_json, shown_url
from perdure.store import default_path

__all__ = ["Archive", "Debug", "Json", "Run", "Url", "Verbose", "command"]

P = ParamSpec("P")

PANEL = "Where and how"

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="Where the sessions are: sqlite:///FILE, redis://HOST, … Default: PERDURE_URL, else a file of your own.",
        rich_help_panel=PANEL,
    ),
]
Archive = Annotated[
    str | None,
    typer.Option(
        "--archive",
        metavar="URL",
        help="Where expired sessions go, if elsewhere. Default: PERDURE_ARCHIVE.",
        rich_help_panel=PANEL,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Answer with JSON on stdout.", rich_help_panel=PANEL)]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more on stderr: the log.", rich_help_panel=PANEL)]
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error comes from.", rich_help_panel=PANEL)]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a command: where the sessions are, and where its answer goes."""

    url: str | None = None
    archive: str | None = None
    json: bool = False
    verbose: bool = False
    debug: bool = False
    out: Console = field(default_factory=console)
    err: Console = field(default_factory=functools.partial(console, stderr=True))

    def settings(self, **fixed: Any) -> Settings:
        """The settings of the environment and this run; `fixed` ones are the command's own."""
        given = {"url": self.url, "archive": self.archive}
        return Settings(**{name: value for name, value in given.items() if value is not None}, **fixed)

    def open_store(self, *, sweeping: bool = True) -> SessionStore:
        """The store of this run, to be entered; without `sweeping` it does no maintenance by itself."""
        fixed = {} if sweeping else {"sweep_on_open": False, "sweep_in_background": False}
        return SessionStore.open(settings=self.settings(**fixed))

    @property
    def place(self) -> str:
        """Where the sessions are, for people: no password in it."""
        url = self.settings().url
        return str(default_path()) if url is None else shown_url(url)

    def answer(self, data: object) -> bool:
        """Print `data` if JSON is wanted; otherwise the command is to show it in its own way."""
        if self.json:
            print_json(data)
        return self.json

    def say(self, message: str) -> None:
        """Tell people something that is not the answer."""
        self.err.print(message, style="dim", soft_wrap=True)


def command(
    app: typer.Typer, name: str, *, of_one_store: bool = True
) -> Callable[[Callable[Concatenate[Run, P], Awaitable[None]]], Callable[Concatenate[Run, P], Awaitable[None]]]:
    """Register `async def verb(run, …)` as a command, with the shared options added to its own.

    They count after the command as well as before it. Without `of_one_store` there is no `--url`.
    """

    def register(
        verb: Callable[Concatenate[Run, P], Awaitable[None]],
    ) -> Callable[Concatenate[Run, P], Awaitable[None]]:
        shared = {
            name: option
            for name, option in inspect.signature(_shared, eval_str=True).parameters.items()
            if of_one_store or name not in ("url", "archive")
        }

        @functools.wraps(verb)
        def run_verb(**given: Any) -> None:
            before: dict[str, Any] = given.pop("context").obj
            after = {name: given.pop(name) for name in shared if name != "context"}
            run = Run(**{**before, **{name: value for name, value in after.items() if value}})
            _log_to_stderr(verbose=run.verbose)
            with one_line_errors(debug=run.debug):
                if not of_one_store and (run.url or run.archive):
                    raise typer.BadParameter(f"`{name}` names its stores itself", param_hint="--url")
                asyncio.run(verb(run, **given))  # type: ignore[arg-type,call-arg]  # the signature is made below

        own = list(inspect.signature(verb, eval_str=True).parameters.values())[1:]
        keyword = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in [*own, *shared.values()]]
        run_verb.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
        app.command(name)(run_verb)
        return verb

    return register


def _shared(
    context: typer.Context,
    url: Url = None,
    archive: Archive = None,
    json: Json = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """The options that every command has; only the signature is of interest."""


def _log_to_stderr(*, verbose: bool) -> None:
    """Keep stdout for answers. The stream is looked up at each line: a program may replace it."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.LogfmtRenderer(key_order=["level", "event"], bool_as_flag=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.WARNING),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
