"""What a runner gets with its claims: items, specs, environment, and places to read blobs from and write outputs to."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rgrid_api.blobs.places import output_key, pack_upload
from rgrid_api.db.session import Database, Tx
from rgrid_api.queue.claiming import Claimed
from rgrid_api.storage.s3 import ObjectStore
from rgrid_api.vault import Vault
from rgrid_shared.protocol import BlobUrl, Claim, ClaimedSpec
from rgrid_shared.specs import Item, Spec

PACK_NAME: Final = "pack"
_SPECS_KEPT: Final = 128
_FILES_KEPT: Final = 2_000
"""Specs with more files are read again each time rather than kept in memory."""

Want = tuple[str, str]
"""A blob: project and hash."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a blob's bytes are."""

    sha256: str
    size: int
    key: str
    offset: int

    def url(self, store: ObjectStore) -> BlobUrl:
        """The place as a runner may read it."""
        return {"sha256": self.sha256, "size": self.size, "offset": self.offset, "url": store.presign_get(self.key)}


@dataclass(frozen=True, slots=True)
class _Batch:
    project_id: str
    spec: Spec
    env: bytes | None
    wants: frozenset[str]


async def blob_places(tx: Tx, wants: Iterable[Want]) -> dict[Want, Place]:
    """Where these blobs are; those that the grid does not have are left out."""
    listed = list(wants)
    if not listed:
        return {}
    rows = await tx.run("claimed_blobs", projects=[want[0] for want in listed], hashes=[want[1] for want in listed])
    return {
        (row.project_id, row.sha256): Place(row.sha256, row.size, row.object_key, row.object_offset) for row in rows
    }


def item_hashes(item: Item) -> set[str]:
    """Blobs of one item. Empty files are known everywhere."""
    return {file["sha256"] for file in item["files"] if file["size"]}


def spec_hashes(spec: Spec) -> frozenset[str]:
    """Blobs that every item of a batch needs."""
    stdin = None if spec["stdin"] is None or "stream" in spec["stdin"] else spec["stdin"]
    hashes = {file["sha256"] for file in spec["files"] if file["size"]}
    if stdin is not None and stdin["size"]:
        hashes.add(stdin["sha256"])
    return frozenset(hashes)


class Handover:
    """Builds the claims of a reply. Keeps the specs of batches with many items, which are asked for over and over."""

    def __init__(self, database: Database, store: ObjectStore, vault: Vault, log_limit: int) -> None:
        self._database = database
        self._store = store
        self._vault = vault
        self._log_limit = log_limit
        self._batches: OrderedDict[str, _Batch] = OrderedDict()

    async def hand_over(self, claimed: Sequence[Claimed]) -> tuple[list[Claim], dict[str, ClaimedSpec]]:
        """Claims and, by batch id, their specs. Two queries at most; a blob that is missing is left out."""
        if not claimed:
            return [], {}
        async with self._database.read() as tx:
            batches = await self._load(tx, {claim.batch_id for claim in claimed})
            wants = {(claim.project_id, sha256) for claim in claimed for sha256 in item_hashes(claim.item)}
            wants |= {(batch.project_id, sha256) for batch in batches.values() for sha256 in batch.wants}
            places = await blob_places(tx, wants)
        urls = {want: place.url(self._store) for want, place in places.items()}
        claims = [self._claim(claim, batches[claim.batch_id].spec, urls) for claim in claimed]
        return claims, {batch_id: self._spec(batch, urls) for batch_id, batch in batches.items()}

    async def _load(self, tx: Tx, batch_ids: set[str]) -> dict[str, _Batch]:
        found = {batch_id: self._batches[batch_id] for batch_id in batch_ids if batch_id in self._batches}
        for batch_id in found:
            self._batches.move_to_end(batch_id)
        unknown = sorted(batch_ids - found.keys())
        if unknown:
            for row in await tx.run("claimed_batches", ids=unknown):
                found[row.id] = self._remember(row)
        return found

    def _remember(self, row: Any) -> _Batch:
        batch = _Batch(row.project_id, row.spec, row.env, spec_hashes(row.spec))
        if not row.single and len(row.spec["files"]) <= _FILES_KEPT:
            self._batches[row.id] = batch
            if len(self._batches) > _SPECS_KEPT:
                self._batches.popitem(last=False)
        return batch

    def _claim(self, claimed: Claimed, spec: Spec, urls: dict[Want, BlobUrl]) -> Claim:
        key = output_key(claimed.project_id, claimed.execution_id, claimed.attempt, PACK_NAME)
        wants = sorted(item_hashes(claimed.item))
        return {
            "execution_id": claimed.execution_id,
            "attempt": claimed.attempt,
            "project_id": claimed.project_id,
            "batch_id": claimed.batch_id,
            "index": claimed.index,
            "item": claimed.item,
            "blobs": [urls[claimed.project_id, sha256] for sha256 in wants if (claimed.project_id, sha256) in urls],
            "pack": pack_upload(self._store, key),
            "log_limit": self._log_limit,
            "timeout_s": spec["timeout_s"],
        }

    def _spec(self, batch: _Batch, urls: dict[Want, BlobUrl]) -> ClaimedSpec:
        wants = sorted(batch.wants)
        return {
            "spec": batch.spec,
            "env": {} if batch.env is None else self._vault.open(batch.env),
            "blobs": [urls[batch.project_id, sha256] for sha256 in wants if (batch.project_id, sha256) in urls],
        }
