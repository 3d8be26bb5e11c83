"""Reading logs over HTTP: by cursor, from a line or a time, waiting for more if asked to."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from rgrid_api.answers import answer
from rgrid_api.deps import CurrentUser, Parts
from rgrid_api.logs.chunks import Cursor
from rgrid_api.logs.query import LogQuery, answer_page
from rgrid_api.logs.reading import PAGE_BYTES
from rgrid_api.resolve import execution_id
from rgrid_api.times import from_wire
from rgrid_shared.views import LogPage

router = APIRouter(tags=["logs"])


@router.get("/v1/executions/{execution}/logs", summary="What the script wrote", response_model=LogPage)
async def logs(
    execution: str,
    parts: Parts,
    user: CurrentUser,
    after: str = "",
    tail: Annotated[int | None, Query(ge=0, le=1_000_000, description="the last N lines of the latest attempt")] = None,
    since: Annotated[str, Query(description="RFC 3339; chunks written then or later")] = "",
    limit_bytes: Annotated[int, Query(ge=1, le=16 * 1024**2)] = PAGE_BYTES,
    wait_s: Annotated[float, Query(ge=0, le=30, description="seconds to wait if there is nothing yet")] = 0,
) -> Response:
    """Chunks after the cursor ``after`` (``ATTEMPT:SEQ``). ``next``: where to go on. ``ended``: nothing follows."""
    query = LogQuery(Cursor.parse(after), tail, from_wire(since, "since") if since else None, limit_bytes, wait_s)
    async with parts.database.read() as tx:
        whole_id = await execution_id(tx, user.project_id, execution)
    return answer(await answer_page(parts, whole_id, query))
