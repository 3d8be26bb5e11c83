"""What executions left, over HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from support.control_plane import ControlPlane
from support.rows import add_batch, add_runner, end, start

from rgrid_shared.errors import Internal
from rgrid_shared.protocol import Manifest
from rgrid_shared.states import Status


def manifest(key: str, data: bytes) -> Manifest:
    return {
        "entries": [
            {
                "path": "out/a.bin",
                "kind": "file",
                "mode": 0o644,
                "size": len(data),
                "sha256": "0" * 64,
                "object": 0,
                "offset": 0,
                "target": "",
            }
        ],
        "objects": [{"key": key, "size": len(data)}],
        "left_out": [{"path": "big", "reason": "too big"}],
    }


async def ended(plane: ControlPlane, count: int) -> tuple[str, list[str]]:
    """A batch whose items have all ended but the last; each left its own id as a file."""
    async with plane.services.database.transaction() as tx:
        runner_id = await add_runner(tx)
        batch_id, ids = await add_batch(tx, plane.project_id, count)
        for execution_id in ids[:-1]:
            key = f"p/{plane.project_id}/x/{execution_id}/1/0"
            await start(tx, execution_id, runner_id)
            await end(tx, execution_id, manifest=manifest(key, execution_id.encode()))
    for execution_id in ids[:-1]:
        await plane.services.store.put(f"p/{plane.project_id}/x/{execution_id}/1/0", execution_id.encode())
    return batch_id, ids


async def get(client: httpx.AsyncClient, path: str, **query: Any) -> dict[str, Any]:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_outputs_of_one_execution(plane: ControlPlane) -> None:
    """The manifest comes as the runner wrote it, and its object's URL gives the bytes."""
    _, ids = await ended(plane, 2)
    view = await get(plane.client, f"/v1/executions/{ids[0]}/outputs")
    assert view["entries"][0]["path"] == "out/a.bin"
    assert view["left_out"] == [{"path": "big", "reason": "too big"}]
    async with httpx.AsyncClient() as http:
        assert (await http.get(view["objects"][0]["url"])).content == ids[0].encode()
    assert (await plane.other.get(f"/v1/executions/{ids[0]}/outputs")).status_code == 404


async def test_what_has_not_ended_shows_nothing(plane: ControlPlane) -> None:
    """Outputs are visible with the end and not before."""
    batch_id, ids = await ended(plane, 2)
    answer = await plane.client.get(f"/v1/executions/{ids[1]}/outputs")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    page = await get(plane.client, f"/v1/batches/{batch_id}/outputs")
    assert [view["execution_id"] for view in page["outputs"]] == ids[:1]


async def test_a_batch_is_paged_and_picked_by_index(plane: ControlPlane) -> None:
    """Pages meet without gap or repeat; ``index`` picks items."""
    batch_id, ids = await ended(plane, 8)
    found, cursor = [], None
    while True:
        page = await get(
            plane.client, f"/v1/batches/{batch_id}/outputs", limit=3, **({"cursor": cursor} if cursor else {})
        )
        found += [view["execution_id"] for view in page["outputs"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert found == ids[:-1]
    page = await get(plane.client, f"/v1/batches/{batch_id}/outputs", index="0,2-3,99")
    assert [view["index"] for view in page["outputs"]] == [0, 2, 3]
    bad = await plane.client.get(f"/v1/batches/{batch_id}/outputs", params={"index": "x"})
    assert bad.status_code == 422


async def test_an_execution_that_never_ran_left_nothing(plane: ControlPlane) -> None:
    """A cancelled item has an empty manifest."""
    async with plane.services.database.transaction() as tx:
        _, ids = await add_batch(tx, plane.project_id, 1)
        await end(tx, ids[0], status=Status.CANCELLED)
    view = await get(plane.client, f"/v1/executions/{ids[0]}/outputs")
    assert (view["entries"], view["objects"]) == ([], [])


async def test_a_foreign_object_is_never_signed(plane: ControlPlane) -> None:
    """A manifest that names another project's object is a fault, not a way to read it."""
    async with plane.services.database.transaction() as tx:
        runner_id = await add_runner(tx)
        _, [execution_id] = await add_batch(tx, plane.project_id)
        await start(tx, execution_id, runner_id)
        await end(tx, execution_id, manifest=manifest("p/prj_other/up/upl_1", b"x"))
    answer = await plane.client.get(f"/v1/executions/{execution_id}/outputs")
    assert answer.status_code == 500
    assert answer.json()["code"] == Internal.code
    assert "url" not in answer.text


@pytest.mark.parametrize("path", ["/v1/executions/exe_00000000000000000000/outputs", "/v1/batches/last/outputs"])
async def test_what_is_unknown_is_not_found(plane: ControlPlane, path: str) -> None:
    """Unknown names are 404."""
    assert (await plane.client.get(path)).status_code == 404
