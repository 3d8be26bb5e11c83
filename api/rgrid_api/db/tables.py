"""The schema, as SQLAlchemy tables. Migrations create it; a test compares the two.

Rules that the schema itself holds: legal statuses, ``ended_at`` exactly when final, one row for each
``(execution_id, attempt)``, one live attempt for each execution, and rows that never change once final (trigger in
the first migration).
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import UserDefinedType

from rgrid_shared.states import FINAL, FailureClass, Phase, Status

metadata: Final = MetaData()


class Xid8(UserDefinedType[str]):
    """PostgreSQL's 64-bit transaction id."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """The type's name in SQL."""
        return "xid8"


def _time(name: str, *, null: bool = True) -> Column[object]:
    return Column(
        name,
        DateTime(timezone=True),
        nullable=null,
        server_default=None if null else text("clock_timestamp()"),
    )


def _listed(values: object) -> str:
    assert isinstance(values, (list, tuple))
    return ", ".join(f"'{value}'" for value in values)


_FINAL = _listed(sorted(FINAL))

projects = Table(
    "projects",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    _time("created_at", null=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", Text, ForeignKey("projects.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False, unique=True),
    _time("created_at", null=False),
    _time("last_used_at"),
    _time("expires_at"),
    _time("revoked_at"),
)

runner_tokens = Table(
    "runner_tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False, unique=True),
    _time("created_at", null=False),
    _time("revoked_at"),
)

runners = Table(
    "runners",
    metadata,
    Column("id", Text, primary_key=True),
    Column("token_id", Text, ForeignKey("runner_tokens.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("backend", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("labels", JSONB, nullable=False),
    Column("runtimes", JSONB, nullable=False),
    Column("images", JSONB, nullable=False, server_default=text("'{}'")),
    Column("allowed_images", JSONB, nullable=False, server_default=text("'[]'")),
    Column("resources", JSONB, nullable=False),
    Column("draining", Boolean, nullable=False, server_default=text("false")),
    _time("registered_at", null=False),
    _time("last_seen_at", null=False),
)

blobs = Table(
    "blobs",
    metadata,
    Column("project_id", Text, ForeignKey("projects.id"), primary_key=True),
    Column("sha256", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("object_key", Text, nullable=False),
    Column("object_offset", BigInteger, nullable=False),
    Column("missing", Boolean, nullable=False, server_default=text("false")),
    _time("created_at", null=False),
    _time("last_used_at", null=False),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", Text, ForeignKey("projects.id"), nullable=False),
    Column("object_key", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("s3_upload_id", Text),
    Column("part_size", BigInteger, nullable=False),
    Column("blobs", JSONB, nullable=False),
    _time("created_at", null=False),
    _time("completed_at"),
    Index("uploads_open", "created_at", postgresql_where=text("completed_at IS NULL")),
)

batches = Table(
    "batches",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", Text, ForeignKey("projects.id"), nullable=False),
    Column("key_id", Text, ForeignKey("api_keys.id")),
    Column("name", Text, nullable=False),
    Column("script", Text, nullable=False),
    Column("script_sha256", Text, nullable=False),
    Column("runtime", Text, nullable=False),
    Column("spec", JSONB, nullable=False),
    Column("retry", JSONB, Computed("spec -> 'retry'", persisted=True)),
    Column("env", LargeBinary),
    Column("metadata", JSONB, nullable=False),
    Column("single", Boolean, nullable=False),
    Column("total", Integer, nullable=False),
    Column("received", Integer, nullable=False, server_default=text("0")),
    Column("shape", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("parallel", Integer),
    Column("max_fails", Integer),
    Column("canary", Integer),
    Column("idempotency_key", Text),
    Column("body_sha256", Text, nullable=False),
    _time("created_at", null=False),
    _time("sealed_at"),
    _time("started_at"),
    _time("ended_at"),
    _time("paused_at"),
    _time("cancel_requested_at"),
    UniqueConstraint("project_id", "idempotency_key"),
    CheckConstraint("received >= 0 AND received <= total", name="batches_received"),
    Index("batches_by_project", "project_id", text("id DESC")),
    Index("batches_open", "id", postgresql_where=text("sealed_at IS NOT NULL AND ended_at IS NULL")),
)

executions = Table(
    "executions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("batch_id", Text, ForeignKey("batches.id"), nullable=False),
    Column("project_id", Text, nullable=False),
    Column("item_index", Integer, nullable=False),
    Column("item", JSONB, nullable=False),
    Column("status", Text, nullable=False),
    Column("shape", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("rank", Float, nullable=False, server_default=text("0")),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("infra_retries", Integer, nullable=False, server_default=text("0")),
    Column("user_retries", Integer, nullable=False, server_default=text("0")),
    Column("latest", Boolean, nullable=False, server_default=text("true")),
    Column("retry_of", Text),
    Column("exit_code", Integer),
    Column("failure", Text),
    Column("message", Text, nullable=False, server_default=text("''")),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("log_bytes", BigInteger, nullable=False, server_default=text("0")),
    Column("output_files", Integer, nullable=False, server_default=text("0")),
    Column("output_bytes", BigInteger, nullable=False, server_default=text("0")),
    _time("created_at", null=False),
    _time("updated_at", null=False),
    _time("not_before"),
    _time("started_at"),
    _time("ended_at"),
    _time("cancel_requested_at"),
    CheckConstraint(f"status IN ({_listed([str(s) for s in Status])})", name="executions_status"),
    CheckConstraint(f"(ended_at IS NOT NULL) = (status IN ({_FINAL}))", name="executions_ended"),
    CheckConstraint(
        f"failure IS NULL OR failure IN ({_listed([str(f) for f in FailureClass])})", name="executions_failure"
    ),
    Index(
        "executions_claim",
        "shape",
        text("priority DESC"),
        "rank",
        "id",
        postgresql_where=text(f"status = '{Status.QUEUED}'"),
    ),
    Index(
        "executions_pending",
        "batch_id",
        "item_index",
        postgresql_where=text(f"status = '{Status.PENDING}'"),
    ),
    Index("executions_ranks", "project_id", "rank", postgresql_where=text(f"status = '{Status.QUEUED}'")),
    Index("executions_latest", "batch_id", "item_index", unique=True, postgresql_where=text("latest")),
    Index("executions_counts", "batch_id", "status", postgresql_where=text("latest")),
    Index("executions_changed", "batch_id", "updated_at"),
    Index("executions_by_project", "project_id", text("id DESC")),
)

attempts = Table(
    "attempts",
    metadata,
    Column("execution_id", Text, ForeignKey("executions.id"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("runner_id", Text, ForeignKey("runners.id"), nullable=False),
    Column("claim_request_id", Text, nullable=False),
    Column("live", Boolean, nullable=False, server_default=text("true")),
    Column("phase", Text, nullable=False, server_default=text(f"'{Phase.PREPARING}'")),
    _time("claimed_at", null=False),
    _time("lease_expires_at", null=False),
    _time("started_at"),
    _time("ended_at"),
    Column("exit_code", Integer),
    Column("signal", Integer),
    Column("failure", Text),
    Column("message", Text, nullable=False, server_default=text("''")),
    Column("usage", JSONB),
    Column("manifest", JSONB),
    Column("streams", JSONB),
    Column("layer", Text, nullable=False, server_default=text("''")),
    Column("log_seq", BigInteger, nullable=False, server_default=text("0")),
    Column("log_bytes", BigInteger, nullable=False, server_default=text("0")),
    Column("log_object", Text),
    Column("log_offset", BigInteger),
    Column("log_size", BigInteger),
    Column("log_index", JSONB),
    CheckConstraint(f"phase IN ({_listed([str(p) for p in Phase])})", name="attempts_phase"),
    CheckConstraint("live = (ended_at IS NULL)", name="attempts_live"),
    Index("attempts_one_live", "execution_id", unique=True, postgresql_where=text("live")),
    Index("attempts_leases", "lease_expires_at", postgresql_where=text("live")),
    Index("attempts_by_runner", "runner_id", "claim_request_id", postgresql_where=text("live")),
    Index(
        "attempts_unarchived",
        "ended_at",
        postgresql_where=text("NOT live AND log_seq > 0 AND log_size IS NULL"),
    ),
)

layers = Table(
    "layers",
    metadata,
    Column("key", Text, primary_key=True),
    Column("project_id", Text, ForeignKey("projects.id")),
    Column("lock", JSONB, nullable=False),
    Column("interpreter", Text, nullable=False),
    Column("object_key", Text),
    Column("sha256", Text),
    Column("size", BigInteger),
    Column("unpacked", BigInteger),
    Column("builder_id", Text, ForeignKey("runners.id")),
    _time("building_until"),
    _time("created_at", null=False),
    _time("published_at"),
    _time("last_used_at", null=False),
    CheckConstraint("num_nulls(object_key, sha256, size, unpacked, published_at) IN (0, 5)", name="layers_archive"),
    Index("layers_archived", "last_used_at", postgresql_where=text("object_key IS NOT NULL")),
)

layer_uploads = Table(
    "layer_uploads",
    metadata,
    Column("object_key", Text, primary_key=True),
    Column("key", Text, ForeignKey("layers.key"), nullable=False),
    Column("runner_id", Text, ForeignKey("runners.id"), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("s3_upload_id", Text, nullable=False),
    _time("created_at", null=False),
    Index("layer_uploads_open", "created_at"),
)

shapes = Table(
    "shapes",
    metadata,
    Column("shape", Text, primary_key=True),
    Column("runtime", Text, nullable=False),
    Column("resources", JSONB, nullable=False),
)

log_chunks = Table(
    "log_chunks",
    metadata,
    Column("execution_id", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("stream", SmallInteger, nullable=False),
    _time("at", null=False),
    Column("data", LargeBinary, nullable=False),
)

stdin_chunks = Table(
    "stdin_chunks",
    metadata,
    Column("execution_id", Text, ForeignKey("executions.id"), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("data", LargeBinary, nullable=False),
    Column("eof", Boolean, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("xid", Xid8(), nullable=False, server_default=text("pg_current_xact_id()")),
    Column("project_id", Text, nullable=False),
    Column("batch_id", Text),
    Column("execution_id", Text),
    Column("kind", Text, nullable=False),
    _time("at", null=False),
    Column("data", JSONB, nullable=False),
    Index("events_feed", "project_id", "xid", "id"),
)
