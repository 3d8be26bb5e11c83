"""Routes about the server itself."""

from __future__ import annotations

from typing import cast

from fastapi import APIRouter, Request
from starlette.responses import Response

from rgrid_api.activity import UseClock
from rgrid_api.answers import answer
from rgrid_api.deps import CurrentUser, Parts
from rgrid_api.meta import service
from rgrid_shared import API_VERSION, __version__
from rgrid_shared.views import Activity, Health, MetaView

router = APIRouter(tags=["meta"])


@router.get("/healthz", summary="Is the process alive")
async def healthz() -> Health:
    """Asks nothing of the database or the store, and needs no key."""
    return {"ok": True, "version": __version__, "parts": {"api": "ok"}}


@router.get(
    "/readyz",
    summary="Can it serve",
    response_model=Health,
    responses={503: {"model": Health, "description": "A part does not answer; `parts` says which."}},
)
async def readyz(parts: Parts) -> Response:
    """Asks the database and the store; needs no key."""
    health = await service.readiness(parts)
    return answer(health, 200 if health["ok"] else 503)


@router.get("/v1/meta", summary="Which server and project this is")
async def meta(parts: Parts, who: CurrentUser) -> MetaView:
    """A way to try a key."""
    async with parts.database.read() as tx:
        name = (await tx.run("project_name", id=who.project_id)).scalar_one()
    return {"version": __version__, "api": API_VERSION, "project_id": who.project_id, "project": name}


@router.get("/v1/activity", summary="Is anything going on")
async def activity(request: Request, parts: Parts, _: CurrentUser) -> Activity:
    """Open executions of the whole grid, and seconds since a user's last request to this process.

    Asking this is no activity. It is what lets an idle embedded grid stop.
    """
    async with parts.database.read() as tx:
        number = (await tx.run("executions_open")).scalar_one()
    return {"open_executions": number, "idle_s": cast("UseClock", request.app.state.use_clock).idle_s()}
