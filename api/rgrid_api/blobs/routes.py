"""Which blobs are missing, and uploading them. The bytes themselves never pass through here."""

from __future__ import annotations

from fastapi import APIRouter

from rgrid_api.blobs import service
from rgrid_api.deps import CurrentUser, Parts
from rgrid_shared.specs import MissingQuery, UploadsDone, UploadsRequest
from rgrid_shared.views import MissingReply, UploadsDoneReply, UploadsReply

router = APIRouter(tags=["blobs"])


@router.post("/v1/blobs/missing", summary="Which blobs this project does not have")
async def missing(query: MissingQuery, parts: Parts, user: CurrentUser) -> MissingReply:
    """Up to 10,000 hashes at a time."""
    return await service.missing(parts.database, user.project_id, query["blobs"])


@router.post("/v1/uploads", summary="Presigned places for new objects")
async def open_uploads(request: UploadsRequest, parts: Parts, user: CurrentUser) -> UploadsReply:
    """PUT the bytes to the URLs within 15 minutes, then complete the uploads."""
    return await service.open_uploads(parts.database, parts.store, user.project_id, request["uploads"])


@router.post("/v1/uploads/complete", summary="Make uploaded blobs known by their hash")
async def complete_uploads(request: UploadsDone, parts: Parts, user: CurrentUser) -> UploadsDoneReply:
    """All or nothing; repeating it is harmless."""
    return await service.complete_uploads(parts.database, parts.store, user.project_id, request["uploads"])
