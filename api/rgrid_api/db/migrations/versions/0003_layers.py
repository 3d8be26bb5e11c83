"""Dependency layers of the whole fleet: what is in them, who builds one, where its archive is.

Revision ID: 0003
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

STATEMENTS: Final = (
    """
    CREATE TABLE layers (
        key TEXT NOT NULL,
        project_id TEXT,
        lock JSONB NOT NULL,
        interpreter TEXT NOT NULL,
        object_key TEXT,
        sha256 TEXT,
        size BIGINT,
        unpacked BIGINT,
        builder_id TEXT,
        building_until TIMESTAMP WITH TIME ZONE,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
        published_at TIMESTAMP WITH TIME ZONE,
        last_used_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
        PRIMARY KEY (key),
        CONSTRAINT layers_archive CHECK (num_nulls(object_key, sha256, size, unpacked, published_at) IN (0, 5)),
        FOREIGN KEY(project_id) REFERENCES projects (id),
        FOREIGN KEY(builder_id) REFERENCES runners (id)
    )
    """,
    "CREATE INDEX layers_archived ON layers (last_used_at) WHERE object_key IS NOT NULL",
    """
    CREATE TABLE layer_uploads (
        object_key TEXT NOT NULL,
        key TEXT NOT NULL,
        runner_id TEXT NOT NULL,
        size BIGINT NOT NULL,
        s3_upload_id TEXT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
        PRIMARY KEY (object_key),
        FOREIGN KEY(key) REFERENCES layers (key),
        FOREIGN KEY(runner_id) REFERENCES runners (id)
    )
    """,
    "CREATE INDEX layer_uploads_open ON layer_uploads (created_at)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
