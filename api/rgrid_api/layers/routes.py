"""Routes of layers: for runners, which build and fetch them."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from rgrid_api.answers import answer
from rgrid_api.deps import Parts
from rgrid_api.layers import service
from rgrid_api.runners.routes import KnownRunner
from rgrid_shared.layer_protocol import (
    LayerAnswer,
    LayerGivenUp,
    LayerPlace,
    LayerPlaceReply,
    LayerPublish,
    LayerPublished,
    LayerQuery,
    LayerRefusal,
)

router = APIRouter(prefix="/v1/runners/{runner}/layers", tags=["layers"])


@router.post("/find", summary="A layer's archive, or leave to build it", response_model=LayerAnswer)
async def find(body: LayerQuery, parts: Parts, runner: KnownRunner) -> Response:
    """One runner builds at a time; the others ask again. A project's layers are for runners that do its work."""
    return answer(await service.find(parts.database, parts.store, runner, body))


@router.post("/place", summary="Where to put a layer's archive", response_model=LayerPlaceReply)
async def place(body: LayerPlace, parts: Parts, runner: KnownRunner) -> Response:
    """For the runner that builds it."""
    return answer(await service.place(parts.database, parts.store, runner, body))


@router.post("/publish", summary="A layer's archive is stored", response_model=LayerPublished)
async def publish(body: LayerPublish, parts: Parts, runner: KnownRunner) -> Response:
    """The first archive of a layer stays; a later one is dropped and `accepted` is false."""
    return answer(await service.publish(parts.database, parts.store, runner, body))


@router.post("/refuse", summary="A layer's archive is bad", status_code=204)
async def refuse(body: LayerRefusal, parts: Parts, runner: KnownRunner) -> Response:
    """It is dropped, and the next runner that needs the layer builds it."""
    await service.refuse(parts.database, parts.store, body)
    return Response(status_code=204)


@router.post("/give-up", summary="A layer is not built after all", status_code=204)
async def give_up(body: LayerGivenUp, parts: Parts, runner: KnownRunner) -> Response:
    """Runners that wait for it need not wait any longer."""
    await service.give_up(parts.database, runner, body["key"])
    return Response(status_code=204)
