"""Run by alembic: the steps, on the connection and in the transaction of probe/store/migrate.py."""

from __future__ import annotations

from alembic import context

from probe.store.tables import whole

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=whole(),
    transactional_ddl=True,  # SQLite's too: the transaction is ours and was begun before
    render_as_batch=True,
)
context.run_migrations()
