"""Batches come in: one spec, its items page by page, sealed by the last.

Everything that starts, stops or repeats work is the queue's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rgrid_api.auth import UserAuth
from rgrid_api.batches import validation
from rgrid_api.batches.shapes import check_satisfiable, misfit, shape_of
from rgrid_api.batches.views import known_hosts, load_batch, online_hosts
from rgrid_api.db.session import Tx, to_json
from rgrid_api.new_ids import new_id, new_ids
from rgrid_api.queue.queue import Queue
from rgrid_api.services import Services
from rgrid_shared.errors import Conflict, IdempotencyConflict, InvalidRequest, NotFound
from rgrid_shared.ids import Kind
from rgrid_shared.specs import BatchSubmit, Item, ItemsPage, Spec
from rgrid_shared.views import BatchView

MAX_IDEMPOTENCY_KEY: Final = 200
MANY: Final = 100
"""Items from which on planning afresh costs less than a plan that was made for few rows."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """A batch, and whether this request made it."""

    batch: BatchView
    made: bool


@dataclass(frozen=True, slots=True)
class _Open:
    """A batch whose items are arriving."""

    id: str
    project_id: str
    total: int
    shape: str
    priority: int


async def submit(services: Services, who: UserAuth, body: BatchSubmit, idempotency_key: str | None) -> Submitted:
    """Make a batch, or give the one that the same key and body made before.

    Raises InvalidRequest, Unsatisfiable if no runner could ever run it, Conflict if blobs are missing,
    IdempotencyConflict if the key was used with another body.
    """
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    validation.check_text(body, canonical)
    validation.check_submit(body)
    _check_key(idempotency_key)
    fingerprint = services.vault.fingerprint(canonical.encode())
    batch = _Open(
        new_id(Kind.BATCH), who.project_id, total=body["total"], shape=shape_of(body["spec"]), priority=body["priority"]
    )
    async with services.database.transaction() as tx:
        made = await _insert(tx, services, who, batch, body, idempotency_key, fingerprint)
        if made:
            await _check_hosts(tx, body["spec"])
            await _check_blobs(tx, who.project_id, body["spec"], body["items"])
            await _add_items(tx, services.queue, batch, 0, body["items"])
        batch_id = batch.id if made else await _made_before(tx, who, idempotency_key, fingerprint)
        view = await load_batch(tx, batch_id)
    assert view is not None
    return Submitted(view, made)


async def add_items(services: Services, who: UserAuth, batch_id: str, page: ItemsPage) -> BatchView:
    """Add a page of items; the last one seals the batch. A page that arrived before changes nothing.

    Raises InvalidRequest, NotFound, and Conflict if blobs are missing, the batch was cancelled, or an item of that
    index arrived before with other content.
    """
    validation.check_text(page, json.dumps(page))
    async with services.database.read() as tx:
        row = (await tx.run("batch_for_items", id=batch_id, project_id=who.project_id)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no batch {batch_id}", hint="rgrid list")
    validation.check_page(row["spec"], row["total"], page)
    batch = _Open(batch_id, who.project_id, total=row["total"], shape=row["shape"], priority=row["priority"])
    async with services.database.transaction() as tx:
        await _check_blobs(tx, who.project_id, None, page["items"])
        await _add_items(tx, services.queue, batch, page["first"], page["items"])
        view = await load_batch(tx, batch_id)
    assert view is not None
    return view


def _check_key(idempotency_key: str | None) -> None:
    if idempotency_key is None:
        return
    if not 1 <= len(idempotency_key) <= MAX_IDEMPOTENCY_KEY or not idempotency_key.isprintable():
        raise InvalidRequest(f"Idempotency-Key is not 1 to {MAX_IDEMPOTENCY_KEY} printable characters")


async def _insert(
    tx: Tx,
    services: Services,
    who: UserAuth,
    batch: _Open,
    body: BatchSubmit,
    idempotency_key: str | None,
    fingerprint: str,
) -> bool:
    """Insert the batch; False if the project used the key before (a concurrent submit is waited for)."""
    spec = body["spec"]
    made = await tx.run(
        "batch_insert",
        id=batch.id,
        project_id=who.project_id,
        key_id=who.key_id,
        label=body["name"],
        script=spec["script"]["name"],
        script_sha256=_script_sha256(spec),
        runtime=spec["runtime"],
        spec=to_json(spec),
        env=services.vault.seal(body["env"]) if body["env"] else None,
        metadata=to_json(body["metadata"]),
        single=body["single"],
        total=batch.total,
        shape=batch.shape,
        priority=batch.priority,
        parallel=body["parallel"],
        max_fails=body["max_fails"],
        canary=body["canary"],
        idempotency_key=idempotency_key,
        body_sha256=fingerprint,
    )
    return made.one_or_none() is not None


def _script_sha256(spec: Spec) -> str:
    """The hash of the script's bytes; of a module, the hash of its name."""
    path = spec["script"]["path"]
    for file in spec["files"]:
        if file["path"] == path:
            return file["sha256"]
    return hashlib.sha256(path.encode()).hexdigest()


async def _made_before(tx: Tx, who: UserAuth, idempotency_key: str | None, fingerprint: str) -> str:
    found = await tx.run("batch_by_idempotency_key", project_id=who.project_id, idempotency_key=idempotency_key)
    row = found.one_or_none()
    if row is None:
        raise Conflict("the batch that this idempotency key made was just deleted", hint="submit it again")
    if row.body_sha256 != fingerprint:
        raise IdempotencyConflict(
            f"this idempotency key made batch {row.id} from another body", hint="use a new key for a new batch"
        )
    return str(row.id)


async def _check_hosts(tx: Tx, spec: Spec) -> None:
    runtime, needs = spec["runtime"], spec["resources"]
    online = await online_hosts(tx)
    if online and all(misfit(runtime, needs, host) for host in online):
        check_satisfiable(runtime, needs, online, await known_hosts(tx))


async def _check_blobs(tx: Tx, project_id: str, spec: Spec | None, items: Sequence[Item]) -> None:
    blobs = validation.every_blob(spec, items)
    if not blobs:
        return
    hashes = list(blobs)
    found = await tx.run(
        "blobs_unknown", project_id=project_id, sha256=hashes, sizes=[blobs[sha256].size for sha256 in hashes]
    )
    unknown = found.all()
    for row in unknown:
        if row.known_size is not None:
            raise InvalidRequest(
                f"{blobs[row.sha256].path!r} is given as {row.asked_size} bytes, but its blob has {row.known_size}"
            )
    if unknown:
        raise Conflict(
            f"{len(unknown)} of {len(blobs)} blobs are not in the store, among them that of"
            f" {blobs[unknown[0].sha256].path!r}",
            hint="upload them and submit again",
        )


async def _add_items(tx: Tx, queue: Queue, batch: _Open, first: int, items: Sequence[Item]) -> None:
    if not items:
        return
    if len(items) > MANY:
        await tx.run("plan_for_many")
    texts = [to_json(item) for item in items]
    inserted = await tx.run(
        "executions_insert",
        batch_id=batch.id,
        project_id=batch.project_id,
        shape=batch.shape,
        priority=batch.priority,
        first=first,
        ids=new_ids(Kind.EXECUTION, len(items)),
        items=texts,
    )
    if inserted.rowcount < len(items):
        await _check_same(tx, batch.id, first, texts)
    if inserted.rowcount == 0:
        return
    row = (await tx.run("batch_received", id=batch.id, number=inserted.rowcount)).one_or_none()
    if row is None:
        raise Conflict(f"batch {batch.id} takes no more items: it was cancelled", hint="submit it again")
    if row.received == batch.total:
        if len(items) < batch.total:
            await _check_output_names(tx, batch.id)
        await queue.seal(tx, batch.id)


async def _check_same(tx: Tx, batch_id: str, first: int, texts: list[str]) -> None:
    row = (await tx.run("items_that_differ", batch_id=batch_id, first=first, items=texts)).one_or_none()
    if row is not None:
        raise Conflict(f"item {row.item_index} arrived before with other content", hint="submit a new batch")


async def _check_output_names(tx: Tx, batch_id: str) -> None:
    """Names were unique within each page; here all pages are there."""
    row = (await tx.run("output_names_twice", batch_id=batch_id)).one_or_none()
    if row is not None:
        raise InvalidRequest(
            f"item {row.last_index}: output_name {row.output_name!r} is also that of item {row.first_index}"
        )
