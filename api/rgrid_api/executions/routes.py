"""Routes of executions. Their logs and outputs are elsewhere."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from rgrid_api import resolve
from rgrid_api.answers import answer
from rgrid_api.deps import CurrentUser, Parts
from rgrid_api.executions import service
from rgrid_shared.specs import CancelRequest, StdinChunk
from rgrid_shared.views import Changed, ExecutionDetail, LockView

router = APIRouter(prefix="/v1/executions", tags=["executions"])


@router.get("/{execution}", summary="One execution with its attempts", response_model=ExecutionDetail)
async def get_execution(execution: str, parts: Parts, who: CurrentUser) -> Response:
    """`execution`: an id, a unique prefix of one, `last`, or `last:N`. `reason` says why it stands where it stands."""
    async with parts.database.read() as tx:
        execution_id = await resolve.execution_id(tx, who.project_id, execution)
        return answer(await service.execution_detail(tx, execution_id))


@router.get("/{execution}/lock", summary="The exact packages of an execution", response_model=LockView)
async def get_lock(execution: str, parts: Parts, who: CurrentUser) -> Response:
    """Pins with hashes, one a line, for another run with the same packages."""
    async with parts.database.read() as tx:
        execution_id = await resolve.execution_id(tx, who.project_id, execution)
        return answer(await service.execution_lock(tx, execution_id))


@router.post("/{execution}/cancel", summary="Cancel one execution", response_model=Changed)
async def cancel(execution: str, request: CancelRequest, parts: Parts, who: CurrentUser) -> Response:
    """`indexes` has no meaning here and is ignored. An execution that has ended stays as it is."""
    async with parts.database.read() as tx:
        execution_id = await resolve.execution_id(tx, who.project_id, execution)
    changed = await parts.queue.cancel_execution(execution_id, reason=request["reason"])
    return answer({"changed": changed, "executions": []})


@router.post("/{execution}/stdin", summary="Feed a chunk of stdin", status_code=204)
async def add_stdin(execution: str, chunk: StdinChunk, parts: Parts, who: CurrentUser) -> Response:
    """Chunks are numbered from 1 and arrive in order; each may be repeated after a lost answer."""
    async with parts.database.transaction() as tx:
        execution_id = await resolve.execution_id(tx, who.project_id, execution)
        await service.add_stdin(tx, execution_id, chunk)
    return Response(status_code=204)
