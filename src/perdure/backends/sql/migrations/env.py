"""Run by Alembic: migrates the connection that the caller opened, in the caller's transaction."""

from alembic import context

from perdure.backends.sql.tables import VERSION_TABLE, metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    version_table_schema=connection.get_execution_options().get("schema_translate_map", {}).get(None),
    transactional_ddl=True,
)
context.run_migrations()
