"""What Postgres does by itself, so that a change is one round trip. Other databases need none of it."""

import sqlalchemy as sa
from alembic import op

from perdure.backends.sql.migrations.functions import functions_of

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    bind = op.get_bind()
    if bind.dialect.name != "postgresql":
        return
    name = bind.get_execution_options()["schema_translate_map"][None]
    schema, schema_text = bind.execute(sa.select(sa.func.quote_ident(name), sa.func.quote_literal(name))).one()
    for statement in functions_of(revision, schema=schema, schema_text=schema_text).values():
        bind.exec_driver_sql(statement)
    for name, event, rows in (
        ("came", "INSERT", "NEW TABLE AS came"),
        ("went", "DELETE", "OLD TABLE AS went"),
        ("moved", "UPDATE", "OLD TABLE AS went NEW TABLE AS came"),
    ):
        bind.exec_driver_sql(
            f"CREATE TRIGGER session_metrics_{name} AFTER {event} ON {schema}.session_metrics "
            f"REFERENCING {rows} FOR EACH STATEMENT EXECUTE FUNCTION {schema}.note_metrics()"
        )
