"""Routes of batches."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query
from starlette.background import BackgroundTask
from starlette.responses import Response

from rgrid_api import resolve
from rgrid_api.answers import answer
from rgrid_api.batches import deletion, service
from rgrid_api.batches.listing import MAX_PAGE, Filter, batch_page, parse_metadata, parse_statuses
from rgrid_api.batches.statistics import refresh
from rgrid_api.batches.views import batch_detail
from rgrid_api.deps import CurrentUser, Parts
from rgrid_api.executions.listing import MAX_PAGE as MAX_EXECUTIONS
from rgrid_api.executions.listing import Filter as ExecutionFilter
from rgrid_api.executions.listing import execution_page
from rgrid_api.services import Services
from rgrid_api.times import from_wire
from rgrid_shared.specs import BatchSubmit, CancelRequest, ItemsPage, RetryRequest
from rgrid_shared.views import BatchDetail, BatchPage, BatchView, Changed, ExecutionPage

router = APIRouter(prefix="/v1/batches", tags=["batches"])

Texts = Annotated[list[str], Query()]


@router.post(
    "",
    summary="Submit a batch",
    status_code=201,
    response_model=BatchView,
    responses={200: {"model": BatchView, "description": "The batch that this key and body made before."}},
)
async def submit(
    body: BatchSubmit, parts: Parts, who: CurrentUser, idempotency_key: Annotated[str | None, Header()] = None
) -> Response:
    """The same `Idempotency-Key` and body give the same batch; another body under that key is a conflict (409)."""
    submitted = await service.submit(parts, who, body, idempotency_key)
    return answer(submitted.batch, 201 if submitted.made else 200, then=_learn(parts, submitted.batch))


@router.post("/{batch}/items", summary="Add a page of items", response_model=BatchView)
async def add_items(batch: str, page: ItemsPage, parts: Parts, who: CurrentUser) -> Response:
    """The last page seals the batch: nothing of it starts before. Repeating a page is harmless."""
    view = await service.add_items(parts, who, batch, page)
    return answer(view, then=_learn(parts, view))


def _learn(parts: Services, batch: BatchView) -> BackgroundTask | None:
    """What follows the answer when a batch is complete."""
    return BackgroundTask(refresh, parts.database, batch["total"]) if batch["sealed_at"] else None


@router.get("", summary="List batches, newest first", response_model=BatchPage)
async def list_batches(
    parts: Parts,
    who: CurrentUser,
    status: Texts = [],  # noqa: B006 - FastAPI copies it
    metadata: Texts = [],  # noqa: B006
    script: str | None = None,
    name: str | None = None,
    since: str | None = None,
    until: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    cursor: str | None = None,
) -> Response:
    """`status`: some item stands in it. `metadata`: `key=value`, repeatable. `since`, `until`: time of submission."""
    wanted = Filter(
        statuses=parse_statuses(status),
        script=script,
        name=name,
        metadata=parse_metadata(metadata),
        since=None if since is None else from_wire(since, "query parameter since"),
        until=None if until is None else from_wire(until, "query parameter until"),
    )
    async with parts.database.read() as tx:
        return answer(await batch_page(tx, who.project_id, wanted, limit=limit, cursor=cursor))


@router.get("/{batch}", summary="One batch with its spec", response_model=BatchDetail)
async def get_batch(batch: str, parts: Parts, who: CurrentUser) -> Response:
    """`batch`: an id, a unique prefix of one, `last`, or `last:N`. Environment values are never part of the answer."""
    async with parts.database.read() as tx:
        return answer(await batch_detail(tx, await resolve.batch_id(tx, who.project_id, batch)))


@router.get("/{batch}/executions", summary="The executions of a batch, by index", response_model=ExecutionPage)
async def list_executions(
    batch: str,
    parts: Parts,
    who: CurrentUser,
    status: Texts = [],  # noqa: B006
    index: str | None = None,
    failed: bool = False,
    all: bool = False,  # noqa: A002 - the parameter's name on the wire
    limit: Annotated[int, Query(ge=1, le=MAX_EXECUTIONS)] = 200,
    cursor: str | None = None,
) -> Response:
    """`index`: `1,3-5`. `failed`: ended without success. `all`: also executions that a retry has replaced."""
    wanted = ExecutionFilter.of(statuses=parse_statuses(status), index=index, failed=failed, replaced=all)
    async with parts.database.read() as tx:
        batch_id = await resolve.batch_id(tx, who.project_id, batch)
        return answer(await execution_page(tx, batch_id, wanted, limit=limit, cursor=cursor))


@router.post("/{batch}/cancel", summary="Cancel a batch or some of its items", response_model=Changed)
async def cancel(batch: str, request: CancelRequest, parts: Parts, who: CurrentUser) -> Response:
    """What has not started never will; what runs is stopped within seconds. Ended items stay as they are."""
    async with parts.database.read() as tx:
        batch_id = await resolve.batch_id(tx, who.project_id, batch)
    changed = await parts.queue.cancel(batch_id, indexes=request["indexes"], reason=request["reason"])
    return answer({"changed": changed, "executions": []})


@router.post("/{batch}/retry", summary="Run ended items again", response_model=Changed)
async def retry(batch: str, request: RetryRequest, parts: Parts, who: CurrentUser) -> Response:
    """Each becomes a new execution of the same batch and item, which takes the old one's place in its views."""
    async with parts.database.read() as tx:
        batch_id = await resolve.batch_id(tx, who.project_id, batch)
    made = await parts.queue.retry(batch_id, **request)
    return answer({"changed": len(made), "executions": made})


@router.delete("/{batch}", summary="Delete a batch that has ended", status_code=204)
async def delete(batch: str, parts: Parts, who: CurrentUser) -> Response:
    """With its executions, logs, events and outputs."""
    async with parts.database.read() as tx:
        batch_id = await resolve.batch_id(tx, who.project_id, batch)
    return Response(status_code=204, background=await deletion.delete(parts, who, batch_id))
