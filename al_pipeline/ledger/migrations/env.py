"""Alembic's entry point: migrates over the connection that `migrate` hands in, inside its transaction."""

from alembic import context

from al_pipeline.ledger.schema import metadata

connection = context.config.attributes["connection"]
# Batch mode rebuilds a table where SQLite cannot alter one.
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
