"""Submitting batches: once, page by page, and not at all."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
from support.control_plane import ControlPlane, file, item, spec, submission

from rgrid_shared.states import Status

SHA = "c" * 64


async def submit(plane: ControlPlane, body: Any, key: str | None = None, status: int = 201) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    response = await plane.client.post("/v1/batches", json=body, headers=headers)
    assert response.status_code == status, response.text
    return response.json()


async def know(plane: ControlPlane, sha256: str, size: int, project_id: str | None = None) -> None:
    """Make a blob known, as a completed upload does."""
    async with plane.services.database.transaction() as tx:
        await tx.conn.exec_driver_sql(
            "INSERT INTO blobs (project_id, sha256, size, object_key, object_offset) VALUES ($1, $2, $3, 'k', 0)",
            (project_id or plane.project_id, sha256, size),
        )


async def test_a_batch_is_made_whole(plane: ControlPlane) -> None:
    """A complete submission is sealed and its first items are ready at once."""
    batch = await submit(plane, submission(3, name="nightly", metadata={"team": "x"}, parallel=2))
    assert batch["sealed_at"]
    assert batch["first_execution_id"].startswith("exe_")
    assert not batch["done"]
    assert batch["counts"][Status.QUEUED] == 2
    assert batch["counts"][Status.PENDING] == 1
    assert (batch["total"], batch["name"], batch["metadata"]) == (3, "nightly", {"team": "x"})
    assert batch["hold"] == "No runner is online; it starts when one connects."


async def register(plane: ControlPlane, name: str, *models: str, seen: str = "0 s") -> None:
    """Make a runner known that was last heard of ``seen`` ago."""
    gpus = [{"index": n, "model": model, "memory": 40 << 30} for n, model in enumerate(models)]
    body = {
        "runner_id": None,
        "name": name,
        "backend": "process",
        "version": "0",
        "slots": 4,
        "labels": {},
        "runtimes": {"python3.11": "3.11.7"},
        "resources": {"cpu_millis": 4000, "memory": 8 << 30, "disk": 1 << 40, "gpus": gpus},
    }
    reply = await plane.runner.post("/v1/runners", json=body)
    assert reply.status_code == 200, reply.text
    async with plane.services.database.transaction() as tx:
        await tx.conn.exec_driver_sql(
            f"UPDATE runners SET last_seen_at = clock_timestamp() - interval '{seen}' WHERE name = $1", (name,)
        )


def wanting(**needs: object) -> Any:
    base = spec()["resources"]
    return submission(1, spec=spec(resources={**base, **needs}))


async def test_what_no_runner_could_ever_run_is_refused(plane: ControlPlane) -> None:
    """With runners online, a need that none has is answered at once, in words and with the nearest; nothing is kept."""
    await register(plane, "one", "Tesla T4")
    refusal = await submit(plane, wanting(gpus=2, gpu_model="A100"), "k", status=422)
    assert refusal["code"] == "unsatisfiable"
    assert refusal["detail"] == "No runner of this grid has 2 A100 GPUs."
    assert "1 × Tesla T4" in refusal["hint"]
    assert (await submit(plane, wanting(memory=1 << 40), status=422))["code"] == "unsatisfiable"
    assert not (await submit(plane, wanting(gpu_model="t4"), "k"))["hold"]
    assert (await plane.client.get("/v1/batches")).json()["batches"][0]["total"] == 1


async def test_what_an_absent_runner_could_run_waits(plane: ControlPlane) -> None:
    """A need that only a runner of the last day can meet waits for it, and says so; an older one counts no more."""
    needs = wanting(gpu_model="A100")
    await register(plane, "gpu", "NVIDIA A100", seen="20 hours")
    assert (await submit(plane, needs))["hold"].startswith("No runner is online")
    await register(plane, "cpu")
    assert (await submit(plane, needs))["hold"] == "No runner of this grid has 1 A100 GPU."
    await register(plane, "gpu", "NVIDIA A100", seen="25 hours")
    first = await submit(plane, wanting(), "k")
    assert (await submit(plane, needs, status=422))["code"] == "unsatisfiable"
    await register(plane, "cpu", seen="1 hour")
    assert (await submit(plane, wanting(), "k", status=200))["id"] == first["id"]
    assert (await submit(plane, needs))["hold"].startswith("No runner is online")


async def test_the_same_key_and_body_give_the_same_batch(plane: ControlPlane) -> None:
    """Promise 2: a repeated submission answers with the batch that it made; another body under the key is 409."""
    body = submission(2, env={"TOKEN": "one"}, spec=spec(env_names=["TOKEN"]))
    first = await submit(plane, body, "k1")
    again = await submit(plane, body, "k1", status=200)
    assert again["id"] == first["id"]
    other = copy.deepcopy(body)
    other["env"]["TOKEN"] = "two"
    assert (await submit(plane, other, "k1", status=409))["code"] == "idempotency_conflict"
    assert (await submit(plane, other, "k2"))["id"] != first["id"]
    assert (await submit(plane, body))["id"] != first["id"]


async def test_keys_are_a_projects_own(plane: ControlPlane) -> None:
    """Two projects may use the same idempotency key."""
    mine = await submit(plane, submission(1), "k")
    theirs = await plane.other.post("/v1/batches", json=submission(1), headers={"Idempotency-Key": "k"})
    assert theirs.status_code == 201
    assert theirs.json()["id"] != mine["id"]


async def test_concurrent_submissions_make_one_batch(plane: ControlPlane) -> None:
    """Any number of simultaneous submissions under one key make one batch with its items once."""
    answers = await asyncio.gather(
        *(plane.client.post("/v1/batches", json=submission(20), headers={"Idempotency-Key": "k"}) for _ in range(12))
    )
    assert sorted(response.status_code for response in answers) == [200] * 11 + [201]
    assert len({response.json()["id"] for response in answers}) == 1
    assert sum(answers[0].json()["counts"].values()) == 20


async def test_blobs_must_be_there(plane: ControlPlane) -> None:
    """A submission that names an unknown blob is refused whole, and accepted once the blob is known."""
    body = submission(2, spec=spec(files=[file("s.py"), file("data", SHA, 5)]))
    refused = await submit(plane, body, "k", status=409)
    assert refused["code"] == "conflict"
    assert "1 of 1 blobs" in refused["detail"]
    assert (await plane.client.get("/v1/batches")).json()["batches"] == []
    await know(plane, SHA, 5)
    await submit(plane, body, "k")


async def test_blobs_of_others_are_unknown(plane: ControlPlane) -> None:
    """Another project's blob does not help, nor does a blob of another size or one that is marked missing."""
    other_id = (await plane.other.get("/v1/meta")).json()["project_id"]
    await know(plane, SHA, 5, other_id)
    body = submission(1, items=[item(0, output_name="", files=[file("x", SHA, 5)])])
    await submit(plane, body, status=409)
    await know(plane, SHA, 6)
    assert "its blob has 6" in (await submit(plane, body, status=422))["detail"]
    async with plane.services.database.transaction() as tx:
        await tx.conn.exec_driver_sql("UPDATE blobs SET size = 5, missing = true")
    await submit(plane, body, status=409)


async def test_twelve_thousand_items_in_three_pages(plane: ControlPlane) -> None:
    """Nothing of a paged batch starts or is listed before its last page; repeated pages change nothing."""
    total = 12_000
    body = submission(1, single=False, total=total, items=[item(index) for index in range(5_000)])
    batch = await submit(plane, body, "big")
    pages = [{"first": first, "items": [item(i) for i in range(first, min(first + 5_000, total))]} for first in
             (5_000, 10_000)]  # fmt: skip
    url = f"/v1/batches/{batch['id']}"

    assert batch["counts"][Status.PENDING] == 5_000
    assert batch["first_execution_id"] == ""
    assert batch["sealed_at"] is None
    assert (await plane.client.get("/v1/batches")).json()["batches"] == []
    assert (await plane.client.get("/v1/batches/last")).status_code == 404

    middle = (await plane.client.post(f"{url}/items", json=pages[0])).json()
    assert middle["counts"][Status.PENDING] == 10_000
    repeated = await plane.client.post(f"{url}/items", json=pages[0])
    assert repeated.json()["counts"] == middle["counts"]
    assert (await submit(plane, body, "big", status=200))["id"] == batch["id"]

    last = (await plane.client.post(f"{url}/items", json=pages[1])).json()
    assert last["sealed_at"]
    assert last["counts"][Status.QUEUED] > 0
    assert sum(last["counts"].values()) == total
    again = await plane.client.post(f"{url}/items", json=pages[1])
    assert (again.status_code, again.json()["id"]) == (200, batch["id"])
    executions = (await plane.client.get(f"{url}/executions", params={"index": "0,11999"})).json()["executions"]
    assert [execution["name"] for execution in executions] == ["item 0", "item 11999"]
    assert executions[0]["id"] < executions[1]["id"]
    async with plane.services.database.read() as tx:
        assert (await tx.run("executions_analyzed")).scalar_one() >= total, "the planner knows of it at once"


async def test_a_large_batch_after_many_small_ones(plane: ControlPlane) -> None:
    """Plans that connections kept while the tables were small do not make a large batch time out."""
    for _ in range(7):
        await submit(plane, submission(1))
    assert (await submit(plane, submission(5_000)))["counts"][Status.QUEUED] > 0


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
async def test_pages_in_any_order(plane: ControlPlane, order: tuple[int, ...]) -> None:
    """Pages may arrive in any order and at once: exactly one of them completes the batch."""
    batch = await submit(plane, submission(1, single=False, total=6, items=[item(0), item(1)]))
    url = f"/v1/batches/{batch['id']}/items"
    pages = [{"first": 2 * page, "items": [item(2 * page), item(2 * page + 1)]} for page in order]
    answers = await asyncio.gather(*(plane.client.post(url, json=page) for page in pages))
    assert [answer.status_code for answer in answers] == [200, 200]
    assert (await plane.client.get("/v1/batches/last")).json()["counts"][Status.QUEUED] == 6


async def test_pages_that_do_not_fit(plane: ControlPlane) -> None:
    """A page with other content, names used twice, too many items, or for a cancelled batch is refused."""
    batch = await submit(plane, submission(1, single=False, total=4, items=[item(0), item(1)]))
    url = f"/v1/batches/{batch['id']}"

    async def add(first: int, *items: Any) -> Any:
        return await plane.client.post(f"{url}/items", json={"first": first, "items": list(items)})

    other = await add(0, item(0), item(1, args=["changed"]))
    assert (other.status_code, other.json()["detail"]) == (409, "item 1 arrived before with other content")
    assert (await add(3, item(3), item(4))).status_code == 422
    twice = await add(2, item(2), item(3, output_name="out-0"))
    assert "'out-0' is also that of item 0" in twice.json()["detail"]
    assert twice.status_code == 422
    missing = await add(2, item(2), item(3, files=[file("x", SHA, 1)]))
    assert missing.status_code == 409
    assert (await plane.client.get(url)).json()["counts"][Status.PENDING] == 2
    assert (await plane.other.post(f"{url}/items", json={"first": 2, "items": [item(2)]})).status_code == 404
    assert (await plane.client.post(f"{url}/cancel", json={"indexes": None, "reason": ""})).status_code == 200
    cancelled = await add(2, item(2), item(3))
    assert cancelled.status_code == 409
    assert "was cancelled" in cancelled.json()["detail"]


async def test_bad_keys(plane: ControlPlane) -> None:
    """An idempotency key is 1 to 200 printable characters."""
    for key in ("x" * 201, "a\tb"):
        assert (await submit(plane, submission(1), key, status=422))["code"] == "invalid_request"
