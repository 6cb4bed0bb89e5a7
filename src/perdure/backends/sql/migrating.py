"""Running the migrations; Alembic is imported only when there is something to migrate."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["migrate"]


def migrate(connection: Connection) -> None:
    """Bring the database to the newest revision, in the transaction that the caller began."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(resources.files("perdure.backends.sql") / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
