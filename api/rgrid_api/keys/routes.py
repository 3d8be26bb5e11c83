"""Routes of API keys."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from rgrid_api.deps import CurrentUser, Parts, authenticator
from rgrid_api.keys import service
from rgrid_shared.specs import KeyCreate
from rgrid_shared.views import KeysPage, NewKeyView

router = APIRouter(prefix="/v1/keys", tags=["keys"])


@router.post("", summary="Make an API key", status_code=201)
async def create(wanted: KeyCreate, parts: Parts, who: CurrentUser) -> NewKeyView:
    """The answer holds the secret; it is not shown again. The key opens the project of the key that asks."""
    async with parts.database.transaction() as tx:
        return await service.create(tx, who.project_id, wanted)


@router.get("", summary="List the project's API keys")
async def list_keys(parts: Parts, who: CurrentUser) -> KeysPage:
    """Without their secrets; revoked and expired ones too."""
    async with parts.database.read() as tx:
        return await service.keys_of(tx, who.project_id)


@router.delete("/{key}", summary="Revoke an API key", status_code=204)
async def revoke(key: str, request: Request, parts: Parts, who: CurrentUser) -> Response:
    """It stops working at once in this process and within 10 seconds in every other."""
    async with parts.database.transaction() as tx:
        await service.revoke(tx, who.project_id, key)
    authenticator(request).forget()
    return Response(status_code=204)
