"""Manifests of ended executions. The bytes come from the store, by presigned GETs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from rgrid_api import resolve
from rgrid_api.answers import answer
from rgrid_api.batches.selectors import parse_indexes
from rgrid_api.deps import CurrentUser, Parts
from rgrid_api.executions.outputs import MAX_PAGE, load_outputs, outputs_page
from rgrid_shared.errors import Conflict
from rgrid_shared.views import OutputsPage, OutputsView

router = APIRouter(tags=["outputs"])


@router.get("/v1/executions/{execution}/outputs", summary="What an execution left", response_model=OutputsView)
async def of_execution(execution: str, parts: Parts, user: CurrentUser) -> Response:
    """Its manifest, all at once, when it has ended; 409 before. The URLs are good for 15 minutes."""
    async with parts.database.read() as tx:
        execution_id = await resolve.execution_id(tx, user.project_id, execution)
        found = await load_outputs(tx, parts.store, [execution_id])
    if not found:
        raise Conflict(f"{execution_id} has not ended", hint=f"rgrid wait {execution_id}")
    return answer(found[0])


@router.get("/v1/batches/{batch}/outputs", summary="What a batch's items left", response_model=OutputsPage)
async def of_batch(
    batch: str,
    parts: Parts,
    user: CurrentUser,
    index: Annotated[str | None, Query(description="items, for example 1,3-5")] = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = MAX_PAGE,
) -> Response:
    """Manifests of items whose latest execution has ended, by index. The URLs are good for 15 minutes."""
    ranges = None if index is None else parse_indexes(index)
    async with parts.database.read() as tx:
        batch_id = await resolve.batch_id(tx, user.project_id, batch)
        return answer(await outputs_page(tx, parts.store, batch_id, ranges, limit=limit, cursor=cursor))
