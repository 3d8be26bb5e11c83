"""The layers that the fleet knows: one runner builds, the others fetch its archive.

An archive is as good as its SHA-256, which is kept here and checked by whoever fetches it. Every upload goes to an
object of its own, since an upload's URL may be used again until it expires and must not replace what was published.
"""

from __future__ import annotations

from typing import Final

from rgrid_api.blobs.places import complete_upload, new_upload
from rgrid_api.db.session import Database, Tx, to_json
from rgrid_api.new_ids import new_id
from rgrid_api.storage.s3 import ObjectStore
from rgrid_shared.errors import Conflict, InvalidRequest
from rgrid_shared.ids import Kind
from rgrid_shared.layer_keys import pin
from rgrid_shared.layer_protocol import (
    LayerAnswer,
    LayerPlace,
    LayerPlaceReply,
    LayerPublish,
    LayerPublished,
    LayerQuery,
    LayerRefusal,
)

LEASE_S: Final = 60.0
"""Seconds that a runner may build before it has to ask again."""
RETRY_S: Final = 0.5
"""Seconds until a runner that waits for another asks again."""
_HEX: Final = frozenset("0123456789abcdef")


def archive_key(key: str, project_id: str, name: str) -> str:
    """The object of one upload of a layer's archive; below the project's prefix if only that may use it."""
    prefix = f"p/{project_id}/" if project_id else ""
    return f"{prefix}layers/{key}.{name}.tar.zst"


async def find(database: Database, store: ObjectStore, runner_id: str, query: LayerQuery) -> LayerAnswer:
    """The archive, or who builds it. Raises Conflict for a project whose work this runner does not do."""
    _check_key(query["key"])
    async with database.transaction() as tx:
        if query["project_id"]:
            await _serves(tx, runner_id, query["project_id"])
        found = await tx.run(
            "layer_find",
            key=query["key"],
            project_id=query["project_id"],
            lock=to_json(query["lock"]),
            interpreter=query["interpreter"],
            runner_id=runner_id,
            lease_s=LEASE_S,
            share=query.get("share", True),
        )
        row = found.one_or_none()
    if row is None:
        raise Conflict("that layer is another project's")
    answer: LayerAnswer = {"archive": None, "build": row.mine, "retry_s": RETRY_S, "lease_s": LEASE_S}
    if row.object_key is not None and query.get("share", True):
        answer["archive"] = {
            "url": store.presign_get(row.object_key),
            "sha256": row.sha256,
            "size": row.size,
            "unpacked": row.unpacked,
        }
    return answer


async def _serves(tx: Tx, runner_id: str, project_id: str) -> None:
    if not (await tx.run("layer_project_served", runner_id=runner_id, project_id=project_id)).scalar_one():
        raise Conflict("this runner does no work of that project")


async def place(database: Database, store: ObjectStore, runner_id: str, request: LayerPlace) -> LayerPlaceReply:
    """Where to put an archive. Raises Conflict unless this runner has leave to build the layer, TooLarge."""
    async with database.read() as tx:
        row = (await tx.run("layer_builder", key=request["key"], runner_id=runner_id)).one_or_none()
    if row is not None and row.object_key is not None:
        return {"upload": None}
    if row is None or not row.mine:
        raise Conflict("this runner was not to build that layer")
    upload = await new_upload(store, archive_key(request["key"], row.project_id, new_id(Kind.UPLOAD)), request["size"])
    async with database.transaction() as tx:
        await tx.run(
            "layer_upload_open",
            object_key=upload["key"],
            key=request["key"],
            runner_id=runner_id,
            size=request["size"],
            s3_upload_id=upload["id"],
        )
    return {"upload": upload}


async def publish(database: Database, store: ObjectStore, runner_id: str, request: LayerPublish) -> LayerPublished:
    """Make an archive known, unless another one is: then this one is dropped. Repeating it is harmless.

    Raises Conflict if its bytes are not in the store, InvalidRequest for a hash that is none.
    """
    _check_key(request["sha256"])
    key, object_key = request["key"], request["object_key"]
    async with database.read() as tx:
        row = (await tx.run("layer_upload", object_key=object_key, key=key, runner_id=runner_id)).one_or_none()
        if row is None:
            done = await tx.run("layer_is_published", key=key, object_key=object_key)
            return {"accepted": bool(done.scalar_one())}
    await complete_upload(
        store, object_key, row.size, name="the archive", upload_id=row.s3_upload_id, etags=request["etags"]
    )
    async with database.transaction() as tx:
        answer = await tx.run(
            "layer_publish",
            key=key,
            object_key=object_key,
            sha256=request["sha256"],
            size=row.size,
            unpacked=request["unpacked"],
        )
        accepted = bool(answer.scalar_one())
    if not accepted:
        await store.delete([object_key])
    return {"accepted": accepted}


async def refuse(database: Database, store: ObjectStore, request: LayerRefusal) -> None:
    """Forget an archive whose bytes are wrong, if it is still that one; the next runner builds it anew."""
    async with database.transaction() as tx:
        dropped = (await tx.run("layer_refuse", key=request["key"], sha256=request["sha256"])).scalars().all()
    await store.delete(dropped)


async def give_up(database: Database, runner_id: str, key: str) -> None:
    """Another runner may build it."""
    async with database.transaction() as tx:
        await tx.run("layer_give_up", key=key, runner_id=runner_id)


async def lock_of(tx: Tx, execution_id: str) -> list[str]:
    """The exact pins that an execution was given, one a line; none if it had no layer or has not ended."""
    row = (await tx.run("layer_lock", execution_id=execution_id)).one_or_none()
    return list(row.lock) if row is not None and row.readable else []


async def packages_of(tx: Tx, execution_id: str) -> list[str]:
    """The same for people: ``name==version`` each."""
    return [pin(line) for line in await lock_of(tx, execution_id)]


def _check_key(text: str) -> None:
    if not _HEX.issuperset(text):
        raise InvalidRequest(f"not 64 hex digits in lower case: {text[:80]!r}")
