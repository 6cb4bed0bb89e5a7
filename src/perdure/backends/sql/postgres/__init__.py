"""Sessions in PostgreSQL; needs the extra `perdure[postgres]`."""

from perdure.backends.sql.postgres.backend import PostgresBackend

__all__ = ["PostgresBackend"]
