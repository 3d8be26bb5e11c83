"""Alembic's entry point: migrates over the connection that ``rgrid_api.db.migrate`` hands over."""

from __future__ import annotations

from alembic import context

from rgrid_api.db.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
