"""Run by Alembic: migrates the connection that the caller opened, in the caller's transaction."""

from alembic import context

from perdure.backends.sql.tables import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)
context.run_migrations()
