"""Inputs down and outputs up, against a real store: whole, verified, and patient."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.ports import free_port

from rgrid_api.blobs.places import complete_upload, new_upload, pack_upload
from rgrid_api.storage.s3 import ObjectStore as ApiStore
from rgrid_runner import fetch
from rgrid_runner.blob_cache import BlobCache, file_sha256
from rgrid_runner.fetch import Fetcher
from rgrid_runner.host import wire_time
from rgrid_runner.objects import ObjectGone, ObjectStore, UrlRefused
from rgrid_runner.outcome import AttemptFailed
from rgrid_runner.outputs import Delivery, Uploader
from rgrid_runner.scan import Candidate, Changes
from rgrid_runner.workspace import Place
from rgrid_shared.errors import Unreachable
from rgrid_shared.protocol import BlobUrl, BlobUrlsReply, Manifest, Upload
from rgrid_shared.states import FailureClass

MIB = 1024 * 1024


class Bench:
    """A cache and a store; ``asked`` holds what fresh places were asked for."""

    def __init__(self, store: ApiStore, base: Path) -> None:
        self.api = store
        self.base = base
        self.pool = ThreadPoolExecutor(8)
        self.objects = ObjectStore()
        self.cache = BlobCache(base / "cache", 1 << 40)
        self.fetcher = Fetcher(self.objects, self.cache, self.pool)
        self.uploader = Uploader(self.objects, self.pool)
        self.fresh: dict[str, BlobUrl] = {}
        self.asked: list[str] = []

    async def stored(self, data: bytes, *, key: str = "k", prefix: bytes = b"") -> BlobUrl:
        await self.api.put(key, prefix + data)
        return {
            "sha256": hashlib.sha256(data).hexdigest(),
            "size": len(data),
            "offset": len(prefix),
            "url": self.api.presign_get(key),
        }

    async def renew(self, wanted: list[str]) -> BlobUrlsReply:
        self.asked += wanted
        return {
            "blobs": [self.fresh[sha256] for sha256 in wanted if sha256 in self.fresh],
            "missing": [sha256 for sha256 in wanted if sha256 not in self.fresh],
        }

    async def fetch(self, *places: BlobUrl, own: dict[str, Path] | None = None) -> None:
        await self.fetcher.fetch({place["sha256"]: place["size"] for place in places}, places, self.renew, own or {})


@pytest.fixture
def bench(store: ApiStore, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(store, tmp_path)
    yield made
    made.objects.close()
    made.pool.shutdown()


@pytest.mark.parametrize("size", [1, 5000, 9 * MIB, 70 * MIB])
async def test_blobs_of_every_size_arrive_verified(bench: Bench, size: int) -> None:
    """By a group, by a stream, by parallel ranges; into the cache or a place of their own."""
    place = await bench.stored(os.urandom(size), prefix=b"pad")
    own = bench.base / "own"
    await bench.fetch(place, own={place["sha256"]: own})
    assert file_sha256(own) == place["sha256"]
    await bench.fetch(place)
    assert bench.cache.holds(place["sha256"], size)
    assert list((bench.base / "cache/new").iterdir()) == []


async def test_an_expired_url_is_renewed(bench: Bench) -> None:
    """A refused URL says nothing about the blob."""
    for size in (100, 70 * MIB):
        place = await bench.stored(os.urandom(size))
        bench.fresh[place["sha256"]] = place
        broken: BlobUrl = {**place, "url": place["url"].replace("X-Amz-Signature=", "X-Amz-Signature=0")}
        await bench.fetch(broken)
        assert bench.cache.holds(place["sha256"], size)
    assert len(bench.asked) == 2


async def test_a_url_that_stays_refused_is_the_grids_fault(bench: Bench) -> None:
    """The blob is not marked missing for it."""
    place = await bench.stored(b"data")
    broken: BlobUrl = {**place, "url": place["url"].replace("X-Amz-Signature=", "X-Amz-Signature=0")}
    bench.fresh[place["sha256"]] = broken
    with pytest.raises(AttemptFailed) as caught:
        await bench.fetch(broken)
    assert (caught.value.failure, caught.value.bad_blobs) == (FailureClass.INFRASTRUCTURE, ())


@pytest.mark.parametrize("size", [100, 9 * MIB, 70 * MIB])
async def test_wrong_bytes_are_never_kept(bench: Bench, size: int) -> None:
    """Fetched anew once; then the blob is named as bad."""
    place = await bench.stored(os.urandom(size))
    wrong: BlobUrl = {**place, "sha256": "0" * 64}
    bench.fresh["0" * 64] = wrong
    with pytest.raises(AttemptFailed) as caught:
        await bench.fetch(wrong)
    assert (caught.value.failure, caught.value.bad_blobs) == (FailureClass.INPUT, ("0" * 64,))
    assert not bench.cache.holds("0" * 64, size)


async def test_a_missing_object_is_bad_input(bench: Bench) -> None:
    """Gone from the store, and the grid knows no other place."""
    place = await bench.stored(b"data")
    await bench.api.delete(["k"])
    with pytest.raises(AttemptFailed, match="missing") as caught:
        await bench.fetch(place)
    assert caught.value.bad_blobs == (place["sha256"],)


async def test_a_store_that_stays_away_is_the_grids_fault(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while of patience."""
    monkeypatch.setattr(fetch, "PATIENCE_S", 0.2)
    place: BlobUrl = {"sha256": "1" * 64, "size": 4, "offset": 0, "url": f"http://127.0.0.1:{free_port()}/b/k?x"}
    with pytest.raises(AttemptFailed) as caught:
        await bench.fetch(place)
    assert caught.value.failure is FailureClass.INFRASTRUCTURE


def test_the_stores_no_is_told_apart(bench: Bench, s3: Any) -> None:
    """Refused, gone, away: three different things."""
    with pytest.raises(ObjectGone):
        bench.objects.get(bench.api.presign_get("nothing"), 0, 1, lambda piece: None)
    with pytest.raises(UrlRefused):
        bench.objects.get(f"{s3.endpoint}/{bench.api.bucket}/k", 0, 1, lambda piece: None)
    with pytest.raises(Unreachable):
        bench.objects.put(f"http://127.0.0.1:{free_port()}/x", 1, lambda: [b"1"])


def outputs(bench: Bench, sizes: dict[str, int]) -> Delivery:
    """Output files of these sizes."""
    place = Place(bench.base / "work")
    place.root.mkdir(parents=True)
    files = []
    for number, (name, size) in enumerate(sizes.items(), start=1):
        (place.root / name).write_bytes(os.urandom(size))
        files.append(Candidate(name, 0o644, size, number, ""))
    return Delivery.of(place, Changes(files=files))


async def read_back(bench: Bench, manifest: Manifest) -> dict[str, str]:
    """The hashes of what the manifest's objects hold, by path."""
    for stored in manifest["objects"]:
        if "upload_id" in stored:
            await complete_upload(
                bench.api, stored["key"], stored["size"], name="o", upload_id=stored["upload_id"], etags=stored["etags"]
            )
    found = {}
    for entry in manifest["entries"]:
        key = manifest["objects"][entry["object"]]["key"] if entry["size"] else ""
        data = await bench.api.get_range(key, entry["offset"], entry["size"]) if key else b""
        found[entry["path"]] = hashlib.sha256(data).hexdigest()
        assert found[entry["path"]] == entry["sha256"]
    return found


async def test_outputs_of_every_size_arrive_whole(bench: Bench) -> None:
    """Small ones in the claim's pack, large ones alone, the largest in parts."""
    delivery = outputs(bench, {"empty": 0, "a": 1, "b": 300_000, "big": 9 * MIB, "huge": 70 * MIB})
    asked: list[list[int]] = []

    async def places(sizes: list[int]) -> list[Upload]:
        asked.append(sizes)
        return [await new_upload(bench.api, f"o{number}", size) for number, size in enumerate(sizes)]

    assert await bench.uploader.store(delivery, pack_upload(bench.api, "pack"), places) is None
    assert asked == [[9 * MIB, 70 * MIB]]
    found = await read_back(bench, delivery.manifest())
    assert found == {path.name: file_sha256(path) for path in (bench.base / "work/disk/root").iterdir()}


async def test_what_is_stored_stays_stored_while_the_rest_is_tried_again(bench: Bench) -> None:
    """A store that fails half-way is asked only for what is missing."""
    delivery = outputs(bench, {"a": 10, "big": 9 * MIB})
    away: Upload = {
        "id": "u",
        "key": "away",
        "multipart": False,
        "part_size": 0,
        "urls": [f"http://127.0.0.1:{free_port()}/x"],
        "expires_at": wire_time(datetime.now(UTC)),
    }

    async def nowhere(sizes: list[int]) -> list[Upload]:
        return [away for _ in sizes]

    async def somewhere(sizes: list[int]) -> list[Upload]:
        assert sizes == [9 * MIB]
        return [await new_upload(bench.api, "o", size) for size in sizes]

    pack = pack_upload(bench.api, "pack")
    assert isinstance(await bench.uploader.store(delivery, pack, nowhere), Unreachable)
    assert delivery.missing == [1]
    assert await bench.uploader.store(delivery, None, somewhere) is None
    assert len(await read_back(bench, delivery.manifest())) == 2


async def test_a_pack_whose_url_has_expired_is_not_used(bench: Bench) -> None:
    """A script that ran for an hour asks for a fresh place."""
    delivery = outputs(bench, {"a": 10})
    old: Upload = {**pack_upload(bench.api, "pack"), "expires_at": wire_time(datetime.now(UTC) - timedelta(seconds=1))}

    async def places(sizes: list[int]) -> list[Upload]:
        return [await new_upload(bench.api, "fresh", size) for size in sizes]

    assert await bench.uploader.store(delivery, old, places) is None
    assert delivery.manifest()["objects"][0]["key"] == "fresh"
