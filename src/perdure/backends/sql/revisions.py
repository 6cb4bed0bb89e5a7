"""The revisions of the schema that this perdure knows, so that opening what is up to date needs no Alembic."""

__all__ = ["HEAD", "KNOWN"]

KNOWN = ("0001", "0002")
"""All of them, oldest first."""

HEAD = KNOWN[-1]
"""The newest revision of `migrations/`."""
