"""The command line: `perdure --help`. It stands on the public API alone."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line on `sys.argv`, and exit."""
    from perdure.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows no block characters shows question marks instead of failing.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    app(prog_name="perdure")
