"""Blobs by way of the API and a real store: what is missing, what is uploaded, and whose it is."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from support.control_plane import ControlPlane

from rgrid_api.blobs.janitor import Janitor
from rgrid_api.blobs.places import MIN_PART, part_size
from rgrid_api.db.session import Database
from rgrid_api.db.tables import blobs
from rgrid_shared.specs import PackedBlob

SOURCE = random.Random(1)


def named(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def packed(datas: Sequence[bytes]) -> list[PackedBlob]:
    offsets = [sum(map(len, datas[:number])) for number in range(len(datas))]
    return [
        {"sha256": named(data), "size": len(data), "offset": offset}
        for data, offset in zip(datas, offsets, strict=True)
    ]


async def missing(client: httpx.AsyncClient, *datas: bytes) -> list[str]:
    body = {"blobs": [{"sha256": named(data), "size": len(data)} for data in datas]}
    answer = await client.post("/v1/blobs/missing", json=body)
    assert answer.status_code == 200, answer.text
    found: list[str] = answer.json()["missing"]
    return found


async def opened(client: httpx.AsyncClient, *objects: Sequence[bytes]) -> list[dict[str, Any]]:
    body = {"uploads": [{"size": sum(map(len, datas)), "blobs": packed(datas)} for datas in objects]}
    answer = await client.post("/v1/uploads", json=body)
    assert answer.status_code == 200, answer.text
    places: list[dict[str, Any]] = answer.json()["uploads"]
    return places


async def upload(client: httpx.AsyncClient, *objects: Sequence[bytes]) -> httpx.Response:
    """Upload each of ``objects`` (blobs packed back to back) and complete them all."""
    done = []
    async with httpx.AsyncClient() as http:
        for place, datas in zip(await opened(client, *objects), objects, strict=True):
            body = b"".join(datas)
            step = place["part_size"] if place["multipart"] else len(body)
            etags = []
            for number, url in enumerate(place["urls"]):
                answer = await http.put(url, content=body[number * step : (number + 1) * step])
                assert answer.status_code == 200, answer.text
                etags.append(answer.headers["etag"])
            done.append({"id": place["id"], "etags": etags if place["multipart"] else []})
    return await client.post("/v1/uploads/complete", json={"uploads": done})


async def places(plane: ControlPlane, *datas: bytes) -> list[tuple[str, int] | None]:
    """Key and offset of each of these blobs of the first project; None if it has none."""
    async with plane.services.database.read() as tx:
        rows = await tx.conn.execute(
            select(blobs.c.sha256, blobs.c.object_key, blobs.c.object_offset).where(
                blobs.c.project_id == plane.project_id, ~blobs.c.missing
            )
        )
        found = {row.sha256: (row.object_key, row.object_offset) for row in rows}
    return [found.get(named(data)) for data in datas]


async def read_back(plane: ControlPlane, *datas: bytes) -> list[bytes]:
    """What the store has for these blobs, by presigned GETs of their ranges."""
    found = []
    async with httpx.AsyncClient() as http:
        for data, place in zip(datas, await places(plane, *datas), strict=True):
            assert place is not None
            key, offset = place
            headers = {"Range": f"bytes={offset}-{offset + len(data) - 1}"}
            found.append((await http.get(plane.services.store.presign_get(key), headers=headers)).content)
    return found


async def test_what_was_uploaded_is_not_missing_any_more(plane: ControlPlane) -> None:
    """Single and packed uploads come back byte for byte by ranged presigned GETs."""
    single = SOURCE.randbytes(300_000)
    small = [SOURCE.randbytes(SOURCE.randrange(1, 5_000)) for _ in range(200)]
    assert await missing(plane.client, single, *small) == sorted(map(named, [single, *small]))
    answer = await upload(plane.client, [single], small)
    assert answer.json() == {"stored": 201}
    assert await missing(plane.client, single, *small) == []
    assert await read_back(plane, single, *small) == [single, *small]


async def test_large_objects_go_in_parts(plane: ControlPlane) -> None:
    """An object over 64 MiB is offered as parts and comes back byte for byte; completing it twice is harmless."""
    data = SOURCE.randbytes(1 << 20) * 65
    [place] = await opened(plane.client, [data])
    assert place["multipart"]
    assert len(place["urls"]) == -(-len(data) // place["part_size"])
    assert (await upload(plane.client, [data])).json() == {"stored": 1}
    [found] = await read_back(plane, data)
    assert named(found) == named(data)


@pytest.mark.parametrize("size", [64 * 2**20 + 1, 2**30, 2**40, 5 * 2**40])
def test_parts_are_whole_mebibytes_and_few(size: int) -> None:
    """Parts are at least 16 MiB and at most 2,000, whatever the size."""
    step = part_size(size)
    assert step >= MIN_PART
    assert step % 2**20 == 0
    assert -(-size // step) <= 2_000


async def test_empty_blobs_are_known_everywhere(plane: ControlPlane) -> None:
    """Nobody uploads no bytes."""
    assert await missing(plane.client, b"") == []


async def test_another_project_learns_nothing(plane: ControlPlane) -> None:
    """A blob of one project is missing in another, and its uploads do not exist there."""
    data = SOURCE.randbytes(100)
    await upload(plane.client, [data])
    assert await missing(plane.other, data) == [named(data)]
    [place] = await opened(plane.client, [SOURCE.randbytes(10)])
    theirs = await plane.other.post("/v1/uploads/complete", json={"uploads": [{"id": place["id"]}]})
    nobodys = await plane.other.post("/v1/uploads/complete", json={"uploads": [{"id": "upl_0"}]})
    assert (theirs.status_code, nobodys.status_code) == (404, 404)
    assert theirs.json()["code"] == nobodys.json()["code"]


async def test_nothing_is_known_before_its_bytes_are_there(plane: ControlPlane) -> None:
    """Completing an upload without bytes is a conflict that names it; none of its request becomes known."""
    good, absent = SOURCE.randbytes(100), SOURCE.randbytes(100)
    places = await opened(plane.client, [good], [absent])
    async with httpx.AsyncClient() as http:
        await http.put(places[0]["urls"][0], content=good)
    done = {"uploads": [{"id": place["id"]} for place in places]}
    answer = await plane.client.post("/v1/uploads/complete", json=done)
    assert answer.status_code == 409
    assert places[1]["id"] in answer.json()["detail"]
    assert len(await missing(plane.client, good, absent)) == 2


async def test_the_first_writer_of_a_hash_stays(plane: ControlPlane) -> None:
    """Uploading a known hash again, also at the same time, leaves the first object in use."""
    data = SOURCE.randbytes(1000)
    await upload(plane.client, [data])
    first = await places(plane, data)
    answers = await asyncio.gather(*(upload(plane.client, [data], [SOURCE.randbytes(10), data]) for _ in range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert await places(plane, data) == first


async def test_a_missing_blob_is_healed_by_the_next_upload(plane: ControlPlane) -> None:
    """A blob whose bytes were found wrong is missing; uploading it again puts the new object in its place."""
    data = SOURCE.randbytes(1000)
    await upload(plane.client, [data])
    async with plane.services.database.transaction() as tx:
        await tx.run("blobs_mark_missing", project_id=plane.project_id, hashes=[named(data), "0" * 64])
    assert await places(plane, data) == [None]
    assert await missing(plane.client, data) == [named(data)]
    await upload(plane.client, [data])
    assert await missing(plane.client, data) == []
    assert await read_back(plane, data) == [data]


async def test_ten_thousand_hashes_are_asked_at_once(plane: ControlPlane) -> None:
    """One request asks for 10,000; one more than that is refused."""
    blobs = [{"sha256": f"{number:064x}", "size": 1} for number in range(10_001)]
    answer = await plane.client.post("/v1/blobs/missing", json={"blobs": blobs[:-1]})
    assert len(answer.json()["missing"]) == 10_000
    assert (await plane.client.post("/v1/blobs/missing", json={"blobs": blobs})).status_code == 422


@pytest.mark.parametrize(
    "request_",
    [
        {"size": 10, "blobs": [{"sha256": "0" * 64, "size": 11, "offset": 0}]},
        {"size": 10, "blobs": [{"sha256": "0" * 64, "size": 10, "offset": 1}]},
        {"size": 0, "blobs": [{"sha256": "0" * 64, "size": 0, "offset": 0}]},
        {
            "size": 2,
            "blobs": [{"sha256": "0" * 64, "size": 1, "offset": 0}, {"sha256": "1" * 64, "size": 1, "offset": 0}],
        },
        {"size": 10, "blobs": [{"sha256": "Z" * 64, "size": 10, "offset": 0}]},
        {"size": 10, "blobs": []},
        {"size": 10, "blobs": [{"sha256": "0" * 64, "size": 10, "offset": 0}], "key": "p/other"},
    ],
)
async def test_blobs_lie_inside_their_object(plane: ControlPlane, request_: dict[str, Any]) -> None:
    """Blobs outside of, overlapping in or not filling their object are refused before anything is signed."""
    assert (await plane.client.post("/v1/uploads", json={"uploads": [request_]})).status_code == 422


async def test_abandoned_uploads_are_forgotten(plane: ControlPlane) -> None:
    """Uploads that nobody completed leave neither rows nor objects; completed ones stay."""
    kept, dropped = SOURCE.randbytes(100), SOURCE.randbytes(100)
    await upload(plane.client, [kept])
    small, large = await opened(plane.client, [dropped], [b"x" * (65 << 20)])
    async with httpx.AsyncClient() as http:
        await http.put(small["urls"][0], content=dropped)
        await http.put(large["urls"][0], content=b"x" * large["part_size"])
    database: Database = plane.services.database
    assert await Janitor(database, plane.services.store, after_s=3600).run_once() == 0
    assert await Janitor(database, plane.services.store, after_s=0).run_once() == 2
    assert len(await plane.services.store.list("p/")) == 1
    gone = await plane.client.post("/v1/uploads/complete", json={"uploads": [{"id": small["id"]}]})
    assert gone.status_code == 404
    assert await missing(plane.client, kept) == []
