"""What a project has by its hash, and how it gets there.

A client asks which hashes are missing, uploads those to places of their own, and says when it is done; the API looks
at the store once and maps each hash to object and offset. No project learns what another one has.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from rgrid_api.blobs.places import complete_upload, new_upload, upload_key
from rgrid_api.new_ids import new_id
from rgrid_api.storage.s3 import ObjectStore
from rgrid_shared.errors import InvalidRequest, NotFound
from rgrid_shared.ids import Kind
from rgrid_shared.protocol import Upload
from rgrid_shared.specs import Blob, UploadDone, UploadRequest
from rgrid_shared.views import MissingReply, UploadsDoneReply, UploadsReply

if TYPE_CHECKING:
    from rgrid_api.db.session import Database

HASH: Final = re.compile(r"[0-9a-f]{64}")


async def missing(database: Database, project_id: str, blobs: Sequence[Blob]) -> MissingReply:
    """Which of ``blobs`` the project does not have, in order of hash. Those of size 0 are never missing."""
    hashes = [blob["sha256"] for blob in blobs if blob["size"]]
    _check_hashes(hashes)
    if not hashes:
        return {"missing": []}
    async with database.transaction() as tx:
        rows = await tx.run("blobs_missing", project_id=project_id, hashes=hashes)
        return {"missing": [row.sha256 for row in rows]}


async def open_uploads(
    database: Database, store: ObjectStore, project_id: str, requests: Sequence[UploadRequest]
) -> UploadsReply:
    """Places for new objects, one for each request. Raises ``InvalidRequest``, ``TooLarge`` or ``Unreachable``."""
    for number, request in enumerate(requests):
        _check_request(number, request)
    ids = [new_id(Kind.UPLOAD) for _ in requests]
    places = await asyncio.gather(
        *(
            new_upload(store, upload_key(project_id, upload_id), request["size"])
            for upload_id, request in zip(ids, requests, strict=True)
        )
    )
    async with database.transaction() as tx:
        await tx.run(
            "uploads_insert",
            project_id=project_id,
            ids=ids,
            object_keys=[place["key"] for place in places],
            sizes=[request["size"] for request in requests],
            s3_upload_ids=[place["id"] for place in places],
            part_sizes=[place["part_size"] for place in places],
            blobs=[json.dumps(request["blobs"]) for request in requests],
        )
    return {"uploads": [_named(upload_id, place) for upload_id, place in zip(ids, places, strict=True)]}


async def complete_uploads(
    database: Database, store: ObjectStore, project_id: str, done: Sequence[UploadDone]
) -> UploadsDoneReply:
    """Map the blobs of finished uploads. Repeating it is harmless; it is all or nothing.

    Raises ``NotFound`` for an unknown upload, ``Conflict`` for one whose bytes are not in the store.
    """
    etags: Mapping[str, Sequence[str]] = {upload["id"]: upload.get("etags", []) for upload in done}
    async with database.read() as tx:
        rows = (await tx.run("uploads_named", project_id=project_id, ids=list(etags))).all()
    unknown = etags.keys() - {row.id for row in rows}
    if unknown:
        raise NotFound(f"there is no upload {min(unknown)}")
    await asyncio.gather(
        *(
            complete_upload(
                store,
                row.object_key,
                row.size,
                name=f"upload {row.id}",
                upload_id=row.s3_upload_id,
                etags=etags[row.id],
            )
            for row in rows
            if not row.completed
        )
    )
    async with database.transaction() as tx:
        row = (await tx.run("uploads_complete", project_id=project_id, ids=list(etags))).one()
        if row.uploads != len(etags):
            raise NotFound("an upload was given up as abandoned before it was completed", hint="upload again")
    return {"stored": row.stored}


def _named(upload_id: str, place: Upload) -> Upload:
    return {**place, "id": upload_id}


def _check_hashes(hashes: Iterable[str]) -> None:
    for sha256 in hashes:
        if not HASH.fullmatch(sha256):
            raise InvalidRequest(f"not a SHA-256 in lower-case hex: {sha256[:80]!r}")


def _check_request(number: int, request: UploadRequest) -> None:
    """Refuse blobs that do not lie inside their object: their bytes would be somebody's else or nobody's."""
    _check_hashes(blob["sha256"] for blob in request["blobs"])
    end = 0
    for blob in request["blobs"]:
        if not blob["size"]:
            raise InvalidRequest(f"uploads[{number}]: a blob of no bytes is never uploaded")
        if blob["offset"] != end:
            raise InvalidRequest(
                f"uploads[{number}]: blobs do not lie back to back: {blob['sha256']} at {blob['offset']}"
            )
        end += blob["size"]
    if end != request["size"]:
        raise InvalidRequest(f"uploads[{number}]: its blobs have {end} bytes together, the object {request['size']}")
