"""Executions as users see them: the SELECT, and the view of a row.

``EXECUTION_SELECT`` is completed by ``.where(…)`` on ``tables.executions``; every route and follower reads executions
through it. Batches have the same in ``rgrid_api.batches.views``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import RowMapping, Select, and_, case, func, select

from rgrid_api.db.tables import attempts, batches, executions, runners
from rgrid_api.executions.why import Facts, why
from rgrid_api.times import to_wire
from rgrid_shared.states import FailureClass, Status
from rgrid_shared.views import AttemptView, ExecutionView

_ON_ATTEMPT: Final = and_(
    attempts.c.execution_id == executions.c.id,
    attempts.c.attempt == executions.c.attempt,
)

EXECUTION_SELECT: Final[Select[Any]] = select(
    executions.c.id,
    executions.c.batch_id,
    executions.c.item_index,
    executions.c.item["name"].astext.label("name"),
    executions.c.item["output_name"].astext.label("output_name"),
    executions.c.status,
    executions.c.attempt,
    executions.c.exit_code,
    executions.c.failure,
    executions.c.message,
    executions.c.latest,
    executions.c.retry_of,
    executions.c.created_at,
    executions.c.updated_at,
    executions.c.started_at,
    executions.c.ended_at,
    executions.c.not_before,
    executions.c.cancel_requested_at,
    (executions.c.infra_retries + executions.c.user_retries).label("retries"),
    executions.c.log_bytes,
    executions.c.output_files,
    executions.c.output_bytes,
    executions.c.version,
    batches.c.sealed_at,
    batches.c.paused_at,
    batches.c.parallel,
    batches.c.canary,
    case((attempts.c.live, attempts.c.phase), else_="").label("phase"),
    func.coalesce(runners.c.name, "").label("runner"),
    func.clock_timestamp().label("now"),
).select_from(
    executions.join(batches, batches.c.id == executions.c.batch_id)
    .outerjoin(attempts, _ON_ATTEMPT)
    .outerjoin(runners, runners.c.id == attempts.c.runner_id)
)


def execution_view(row: RowMapping, *, hold: str = "") -> ExecutionView:
    """The view of one row of ``EXECUTION_SELECT``. ``hold``: why no runner takes it, empty if unknown or none."""
    status = Status(row["status"])
    return {
        "id": row["id"],
        "batch_id": row["batch_id"],
        "index": row["item_index"],
        "name": row["name"],
        "output_name": row["output_name"],
        "status": row["status"],
        "phase": row["phase"] if status is Status.RUNNING else "",
        "attempt": row["attempt"],
        "exit_code": row["exit_code"],
        "failure": row["failure"],
        "message": row["message"],
        "reason": _reason(row, status, hold),
        "runner": row["runner"],
        "latest": row["latest"],
        "retry_of": row["retry_of"],
        "created_at": to_wire(row["created_at"]),
        "started_at": to_wire(row["started_at"]),
        "ended_at": to_wire(row["ended_at"]),
        "not_before": to_wire(row["not_before"]),
        "log_bytes": row["log_bytes"],
        "output_files": row["output_files"],
        "output_bytes": row["output_bytes"],
        "version": row["version"],
    }


def attempt_view(row: RowMapping) -> AttemptView:
    """The view of one row of the query ``attempts_of``."""
    return {
        "attempt": row["attempt"],
        "runner_id": row["runner_id"],
        "runner": row["runner"],
        "phase": row["phase"],
        "claimed_at": to_wire(row["claimed_at"]),
        "started_at": to_wire(row["started_at"]),
        "ended_at": to_wire(row["ended_at"]),
        "exit_code": row["exit_code"],
        "failure": row["failure"],
        "message": row["message"],
        "usage": row["usage"],
        "log_bytes": row["log_bytes"],
    }


def _reason(row: RowMapping, status: Status, hold: str) -> str:
    now: datetime = row["now"]
    return why(
        Facts(
            status=status,
            phase=row["phase"],
            attempt=row["attempt"],
            failure=None if row["failure"] is None else FailureClass(row["failure"]),
            exit_code=row["exit_code"],
            runner=row["runner"],
            not_before=row["not_before"],
            cancel_requested=row["cancel_requested_at"] is not None,
            retries=row["retries"],
            sealed=row["sealed_at"] is not None,
            paused=row["paused_at"] is not None,
            parallel=row["parallel"],
            canary=row["canary"],
            index=row["item_index"],
            hold=hold,
        ),
        now,
    )
