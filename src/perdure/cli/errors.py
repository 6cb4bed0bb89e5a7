"""What goes wrong is one line on stderr and an exit code; only bugs may show more, and only with `--debug`."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from perdure.errors import ConfigurationError, InvalidInputError, PerdureError

__all__ = ["FAILURE", "INTERRUPTED", "USAGE", "OneLineGroup", "complain", "one_line", "one_line_errors", "sentence"]

FAILURE = 1
USAGE = 2
"""Usage, input or configuration: the same call will fail again."""
INTERRUPTED = 130

# typer exports only this leaf of its usage errors.
_UsageError = cast(type[Exception], typer.BadParameter.__base__)


class OneLineGroup(TyperGroup):
    """The root of the commands: says what was wrong with the usage in one line, and exits."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run, and exit: 0, or what the command or its error says."""
        options["standalone_mode"] = False
        try:
            code = super().main(*args, **options)
        except _UsageError as error:
            _complain_of_usage(error)
            code = USAGE
        except typer.Abort:
            complain("aborted; nothing was done")
            code = FAILURE
        sys.exit(code if isinstance(code, int) else 0)


@contextmanager
def one_line_errors(*, debug: bool) -> Iterator[None]:
    """Turn what a command raises into one line and `typer.Exit`; with `debug` after a traceback."""
    try:
        yield
        if not sys.stdout.closed:  # a protocol that was spoken there may have hung up
            sys.stdout.flush()
    except (typer.Exit, typer.Abort, _UsageError):
        raise
    except KeyboardInterrupt:
        complain("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        _let_go_of_stdout()
        raise typer.Exit(FAILURE) from None
    except Exception as error:  # noqa: BLE001 (the last line of defence: whatever it is, it becomes one line)
        if debug:
            traceback.print_exc()
        expected = isinstance(error, PerdureError | ValidationError | OSError)
        bug = f"unexpected {type(error).__name__}: {error} (a bug: `--debug` shows where)"
        complain(sentence(error) if expected else bug)
        wrong_call = isinstance(error, InvalidInputError | ConfigurationError | ValidationError)
        raise typer.Exit(USAGE if wrong_call else FAILURE) from None


def sentence(error: BaseException) -> str:
    """What an error says, without line breaks."""
    match error:
        case ValidationError():
            return "; ".join(_problem(problem) for problem in error.errors())
        case OSError() if error.strerror is not None:
            return error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
        case RecursionError():
            return "nested too deeply"
    return str(error)


def complain(message: str) -> None:
    """One line on stderr."""
    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    console.print(Text.assemble(("error: ", "bold red"), one_line(message)), soft_wrap=True)


def one_line(text: str) -> str:
    """The text without line breaks, and without what would steer a terminal."""
    joined = " ".join(text.split())
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in joined)


def _complain_of_usage(error: Exception) -> None:
    message = cast(Any, error).format_message()
    context = getattr(error, "ctx", None)
    if message:  # without any, help was asked for by giving no arguments, and has been shown
        complain(message.rstrip(".") + ("" if context is None else f" (see `{context.command_path} --help`)"))


def _problem(problem: Any) -> str:
    name = ".".join(str(step) for step in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    return message if not name or message.startswith(name) else f"{name}: {message}"


def _let_go_of_stdout() -> None:
    """Keep the interpreter from complaining, at its end, that nobody reads stdout any more."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
