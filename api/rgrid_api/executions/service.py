"""One execution: shown in detail, fed through its stdin."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from sqlalchemy import select

from rgrid_api.batches.shapes import hold_sentence
from rgrid_api.batches.views import online_hosts
from rgrid_api.db.session import Tx
from rgrid_api.db.tables import batches, executions
from rgrid_api.executions.views import EXECUTION_SELECT, attempt_view, execution_view
from rgrid_api.layers.service import lock_of, packages_of
from rgrid_shared.errors import Conflict, InvalidRequest, NotFound, TooLarge
from rgrid_shared.specs import StdinChunk
from rgrid_shared.states import Status
from rgrid_shared.views import ExecutionDetail, LockView

MAX_STDIN_CHUNK: Final = 1 << 20
"""Bytes of one stdin chunk."""
WAITING: Final = frozenset({Status.QUEUED, Status.PENDING})


async def execution_detail(tx: Tx, execution_id: str) -> ExecutionDetail:
    """One execution with its item, spec and attempts. Raises NotFound if it was just deleted."""
    query = EXECUTION_SELECT.add_columns(executions.c.item, batches.c.spec, batches.c.script).where(
        executions.c.id == execution_id
    )
    row = (await tx.conn.execute(query)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no execution {execution_id}", hint="rgrid list")
    hold = ""
    if Status(row["status"]) in WAITING:
        hold = hold_sentence(row["spec"]["runtime"], row["spec"]["resources"], await online_hosts(tx))
    attempts = (await tx.run("attempts_of", execution_id=execution_id)).mappings()
    return {
        **execution_view(row, hold=hold),
        "item": row["item"],
        "spec": row["spec"],
        "script": row["script"],
        "attempts": [attempt_view(attempt) for attempt in attempts],
        "packages": await packages_of(tx, execution_id),
    }


async def execution_lock(tx: Tx, execution_id: str) -> LockView:
    """The exact packages that an execution had. Raises Conflict if there is nothing to be exact about."""
    query = select(batches.c.spec).join(executions, executions.c.batch_id == batches.c.id)
    spec = (await tx.conn.execute(query.where(executions.c.id == execution_id))).scalar_one_or_none()
    if spec is None:
        raise NotFound(f"there is no execution {execution_id}", hint="rgrid list")
    lines = await lock_of(tx, execution_id)
    if spec["requirements"] is not None and spec["requirements"]["lines"] and not lines:
        raise Conflict(
            f"what was installed for {execution_id} is not known (it never got that far)", hint="name another execution"
        )
    options = (spec["requirements"] or {}).get("options", [])
    return {"execution_id": execution_id, "runtime": spec["runtime"], "lines": lines, "options": options}


async def add_stdin(tx: Tx, execution_id: str, chunk: StdinChunk) -> None:
    """Keep a chunk of stdin for this and every further attempt. A chunk that was kept before changes nothing.

    Raises InvalidRequest, TooLarge, and Conflict if the execution reads no stream, has ended, or its stdin was closed,
    or chunks before this one are lacking.
    """
    try:
        data = base64.b64decode(chunk["data"], validate=True)
    except binascii.Error:
        raise InvalidRequest("data is not valid base 64") from None
    if len(data) > MAX_STDIN_CHUNK:
        raise TooLarge(f"a chunk of stdin is over {MAX_STDIN_CHUNK >> 10} KiB", hint="send smaller chunks")
    row = (await tx.run("stdin_state", execution_id=execution_id)).one()
    if not row.stdin or "stream" not in row.stdin:
        raise Conflict("this execution was submitted without a stream for its stdin")
    if chunk["seq"] <= row.last_seq:
        return
    if row.ended:
        raise Conflict("the execution has ended; nobody reads its stdin any more")
    if row.closed:
        raise Conflict("stdin was closed by an earlier chunk")
    if chunk["seq"] != row.last_seq + 1:
        raise Conflict(f"stdin chunk {row.last_seq + 1} is lacking before chunk {chunk['seq']}")
    await tx.run("stdin_add", execution_id=execution_id, seq=chunk["seq"], data=data, eof=chunk["eof"])
    tx.notify(f"i:{execution_id}")
