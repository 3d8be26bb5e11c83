"""What the runtimes of runners with containers are, and which images may be named instead of a runtime.

Revision ID: 0002
"""

from __future__ import annotations

from collections.abc import Sequence

from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.execute("ALTER TABLE runners ADD COLUMN images JSONB NOT NULL DEFAULT '{}'")
    op.execute("ALTER TABLE runners ADD COLUMN allowed_images JSONB NOT NULL DEFAULT '[]'")
