"""Batches and attempts as rows, for tests of what reads and writes beside the queue."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, insert, update

from rgrid_api.db.session import Tx
from rgrid_api.db.tables import attempts, batches, executions, projects, runner_tokens, runners
from rgrid_api.new_ids import new_id, new_ids
from rgrid_api.times import to_wire
from rgrid_shared.ids import Kind
from rgrid_shared.protocol import AttemptReport, LogChunk
from rgrid_shared.states import Phase, Status, Stream
from support.control_plane import item, spec


async def add_project(tx: Tx) -> str:
    """A project; its id."""
    project_id = new_id(Kind.PROJECT)
    await tx.conn.execute(insert(projects).values(id=project_id, name=project_id))
    return project_id


async def add_runner(tx: Tx) -> str:
    """A runner with a token of its own; its id."""
    token_id, runner_id = new_id(Kind.RUNNER_TOKEN), new_id(Kind.RUNNER)
    await tx.conn.execute(insert(runner_tokens).values(id=token_id, name="test", hash=token_id.encode()))
    await tx.conn.execute(
        insert(runners).values(
            id=runner_id,
            token_id=token_id,
            name="host",
            backend="process",
            version="0",
            slots=4,
            labels={},
            runtimes={},
            resources={"cpu_millis": 0, "memory": 0, "disk": 0, "gpus": []},
        )
    )
    return runner_id


async def add_batch(tx: Tx, project_id: str, count: int = 1) -> tuple[str, list[str]]:
    """A sealed batch of ``count`` queued items; its id and those of its executions."""
    batch_id = new_id(Kind.BATCH)
    row: dict[str, Any] = {
        "id": batch_id,
        "project_id": project_id,
        "name": "",
        "script": "s.py",
        "script_sha256": "0" * 64,
        "runtime": "python3.11",
        "spec": spec(),
        "metadata": {},
        "single": count == 1,
        "total": count,
        "received": count,
        "shape": "s",
        "priority": 0,
        "body_sha256": "",
        "sealed_at": func.clock_timestamp(),
    }
    await tx.conn.execute(insert(batches).values(row))
    ids = new_ids(Kind.EXECUTION, count)
    await tx.conn.execute(
        insert(executions),
        [
            {
                "id": execution_id,
                "batch_id": batch_id,
                "project_id": project_id,
                "item_index": index,
                "item": item(index),
                "status": str(Status.QUEUED),
                "shape": "s",
                "priority": 0,
            }
            for index, execution_id in enumerate(ids)
        ],
    )
    return batch_id, ids


async def start(tx: Tx, execution_id: str, runner_id: str, *, attempt: int = 1) -> None:
    """The runner has claimed the execution and its script runs."""
    await tx.conn.execute(
        insert(attempts).values(
            execution_id=execution_id,
            attempt=attempt,
            runner_id=runner_id,
            claim_request_id="request",
            lease_expires_at=func.clock_timestamp(),
            phase=str(Phase.RUNNING),
        )
    )
    await _move(tx, execution_id, status=str(Status.RUNNING), attempt=attempt)


async def end(
    tx: Tx, execution_id: str, *, attempt: int = 1, status: Status = Status.SUCCEEDED, manifest: Any = None
) -> None:
    """The attempt has ended, and the execution with it unless ``status`` is not final."""
    await tx.conn.execute(
        update(attempts)
        .where(attempts.c.execution_id == execution_id, attempts.c.attempt == attempt)
        .values(live=False, ended_at=func.clock_timestamp(), manifest=manifest)
    )
    ended_at = func.clock_timestamp() if status.final else None
    await _move(tx, execution_id, status=str(status), ended_at=ended_at)


async def _move(tx: Tx, execution_id: str, **values: Any) -> None:
    result = await tx.conn.execute(
        update(executions)
        .where(executions.c.id == execution_id)
        .values(version=executions.c.version + 1, updated_at=func.clock_timestamp(), **values)
        .returning(executions.c.batch_id)
    )
    tx.notify(f"b:{result.scalar_one()}", f"l:{execution_id}")


def report(
    execution_id: str, first: int, datas: Sequence[bytes], *, attempt: int = 1, at: datetime | None = None
) -> AttemptReport:
    """A runner's report of chunks ``first`` … on stdout."""
    chunks: list[LogChunk] = [
        {
            "seq": seq,
            "stream": str(Stream.STDOUT),
            "at": to_wire(at or datetime.now(UTC)),
            "data": base64.b64encode(data).decode(),
        }
        for seq, data in enumerate(datas, first)
    ]
    return {
        "execution_id": execution_id,
        "attempt": attempt,
        "phase": str(Phase.RUNNING),
        "started_at": None,
        "chunks": chunks,
    }
