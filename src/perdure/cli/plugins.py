"""`perdure plugins`: what is installed and called, and for what."""

from __future__ import annotations

from dataclasses import asdict

import typer

from perdure.cli.command import Run, command
from perdure.cli.output import table

__all__ = ["register_plugins"]


def register_plugins(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "plugins")(plugins)


async def plugins(run: Run) -> None:
    """List the plugins that every store calls, with their versions and hooks.

    One that cannot be loaded, or has a hook that does not exist, is named, and the exit code is 2.
    """
    found = run.open_store(sweeping=False).plugins  # not entered: nothing is opened for this
    if run.answer({"plugins": [asdict(plugin) for plugin in found]}):
        return
    if not found:
        run.say(
            "no plugins: install a package that has an entry point in the group perdure.plugins, or set PERDURE_PLUGINS"
        )
        return
    listed = table("plugin", "package", "hooks", kept=("plugin",))
    for plugin in found:
        package = "–" if plugin.package is None else f"{plugin.package} {plugin.version}"
        listed.add_row(plugin.name, package, ", ".join(plugin.hooks))
    run.out.print(listed)
