"""Reading batches and executions: lists, pages, names, and what nobody may see."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text
from support.control_plane import ControlPlane, item, spec, submission

from rgrid_shared.errors import Problem
from rgrid_shared.states import Status

SECRET = "hunter2-and-nobody-knows"


async def submit(plane: ControlPlane, count: int = 1, **changes: object) -> Any:
    response = await plane.client.post("/v1/batches", json=submission(count, **changes))
    assert response.status_code == 201, response.text
    return response.json()


async def get(plane: ControlPlane, path: str, **params: object) -> Any:
    response = await plane.client.get(path, params=params)  # type: ignore[arg-type]
    assert response.status_code == 200, response.text
    return response.json()


async def ids(plane: ControlPlane, **params: object) -> list[str]:
    return [batch["id"] for batch in (await get(plane, "/v1/batches", **params))["batches"]]


async def end(plane: ControlPlane, batch_id: str, status: Status, *indexes: int) -> None:
    """End executions as if their runners had said so."""
    async with plane.services.database.transaction() as tx:
        await tx.conn.execute(
            text(
                "UPDATE executions SET status = :status, ended_at = clock_timestamp(), version = version + 1"
                " WHERE batch_id = :batch AND latest AND item_index = ANY (CAST(:indexes AS integer[]))"
            ),
            {"status": status.value, "batch": batch_id, "indexes": list(indexes)},
        )


async def test_newest_first_and_stable(plane: ControlPlane) -> None:
    """Pages hold every batch once, newest first, although new ones are submitted meanwhile."""
    made = [(await submit(plane))["id"] for _ in range(5)]
    first = await get(plane, "/v1/batches", limit=2)
    await submit(plane)
    second = await get(plane, "/v1/batches", limit=2, cursor=first["next"])
    await submit(plane)
    third = await get(plane, "/v1/batches", limit=2, cursor=second["next"])
    seen = [batch["id"] for page in (first, second, third) for batch in page["batches"]]
    assert seen == sorted(made, reverse=True)
    assert third["next"] is None


async def test_filters(plane: ControlPlane) -> None:
    """Batches are found by name, script, metadata, time and the status of their items, and by all at once."""
    script = {"kind": "file", "path": "s.py", "argv0": "tools/s.py", "name": "tools/s.py"}
    one = await submit(plane, name="one", metadata={"a": "1", "b": "2"})
    two = await submit(plane, 2, name="two", metadata={"a": "1"}, spec=spec(script=script), parallel=1)
    assert await ids(plane, name="one") == [one["id"]]
    assert await ids(plane, script="tools/s.py") == [two["id"]]
    assert await ids(plane, script="s.py") == [two["id"], one["id"]]
    assert await ids(plane, metadata="a=1") == [two["id"], one["id"]]
    assert await ids(plane, metadata=["a=1", "b=2"]) == [one["id"]]
    assert await ids(plane, status=Status.PENDING.value) == [two["id"]]
    assert await ids(plane, status=f"{Status.PENDING},{Status.QUEUED}", name="one") == [one["id"]]
    assert await ids(plane, since=two["created_at"]) == [two["id"]]
    assert await ids(plane, until=two["created_at"]) == [one["id"]]
    for bad in ({"status": "odd"}, {"metadata": "a"}, {"since": "yesterday"}, {"limit": 0}, {"cursor": "x"}):
        response = await plane.client.get("/v1/batches", params=bad)
        assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


async def test_names_of_batches(plane: ControlPlane) -> None:
    """A batch answers to its id, a unique prefix, ``last`` and ``last:N``; an unclear prefix is a conflict."""
    one, two = [(await submit(plane))["id"] for _ in range(2)]
    assert (await get(plane, "/v1/batches/last"))["id"] == two
    assert (await get(plane, "/v1/batches/last:1"))["id"] == two
    assert (await get(plane, "/v1/batches/last:2"))["id"] == one
    assert (await get(plane, f"/v1/batches/{one[:-1]}"))["id"] == one
    assert (await plane.client.get(f"/v1/batches/{one[:8]}")).json()["code"] == "conflict"
    for name, status in {"last:3": 404, "last:0": 422, "bat_01": 404, "bat_UP": 404, "nonsense": 404}.items():
        assert (await plane.client.get(f"/v1/batches/{name}")).status_code == status, name
    execution = (await get(plane, "/v1/batches/last"))["first_execution_id"]
    assert "execution, not batch" in (await plane.client.get(f"/v1/batches/{execution}")).json()["detail"]
    assert (await get(plane, "/v1/executions/last"))["id"] == execution


async def test_others_are_exactly_unknown(plane: ControlPlane) -> None:
    """Promise 9: every route answers another project's id as it answers an id that never was."""
    batch = await submit(plane)
    execution = batch["first_execution_id"]
    cancel: Any = {"indexes": None, "reason": ""}
    requests: list[tuple[str, str, Any]] = [
        ("GET", "/v1/batches/{batch}", None),
        ("GET", "/v1/batches/{batch}/executions", None),
        ("POST", "/v1/batches/{batch}/cancel", cancel),
        ("POST", "/v1/batches/{batch}/retry", {"indexes": None, "failed": False}),
        ("POST", "/v1/batches/{batch}/items", {"first": 0, "items": [item(0)]}),
        ("DELETE", "/v1/batches/{batch}", None),
        ("GET", "/v1/executions/{execution}", None),
        ("POST", "/v1/executions/{execution}/cancel", cancel),
        ("POST", "/v1/executions/{execution}/stdin", {"seq": 1, "data": "", "eof": True}),
    ]

    async def ask(method: str, url: str, body: Any, batch_id: str, execution_id: str) -> tuple[int, Problem]:
        path = url.format(batch=batch_id, execution=execution_id)
        response = await plane.other.request(method, path, json=body)
        said = response.text.replace(batch_id, "ID").replace(execution_id, "ID")
        return response.status_code, said  # type: ignore[return-value]

    for request in requests:
        theirs = await ask(*request, batch["id"], execution)
        unknown = await ask(*request, f"bat_{'0' * 20}", f"exe_{'0' * 20}")
        assert theirs == unknown, request
        assert theirs[0] == 404, request
    assert await ids(plane) == [batch["id"]]
    assert (await plane.other.get("/v1/batches")).json()["batches"] == []
    assert (await plane.other.get("/v1/batches/last")).status_code == 404


async def test_environment_values_are_never_shown(plane: ControlPlane) -> None:
    """No answer of any route, and no column of the database, holds an environment value in clear."""
    batch = await submit(plane, env={"TOKEN": SECRET}, spec=spec(env_names=["TOKEN"]))
    values = {"batch": batch["id"], "execution": batch["first_execution_id"], "key": "x", "runner_id": "x"}
    readable = [path for path, methods in plane.app.openapi()["paths"].items() if "get" in methods]
    for path in readable:
        names = {name: values.get(name, "last") for name in _names(path)}
        response = await plane.client.get(path.format(**names), params={"wait_s": 0})
        assert response.status_code in {200, 404, 409}, path
        assert SECRET not in response.text, path
    assert len(readable) > 8
    assert "TOKEN" in (await plane.client.get("/v1/batches/last")).text
    async with plane.services.database.read() as tx:
        row = (
            await tx.conn.execute(text("SELECT batches::text || executions::text FROM batches, executions"))
        ).scalar()
    assert SECRET not in str(row)
    async with plane.services.database.read() as tx:
        sealed = (await tx.conn.execute(text("SELECT env FROM batches"))).scalar_one()
    assert plane.services.vault.open(sealed) == {"TOKEN": SECRET}


def _names(path: str) -> list[str]:
    return [part[1:-1].partition(":")[0] for part in path.split("/") if part.startswith("{")]


async def test_executions_of_a_batch(plane: ControlPlane) -> None:
    """Executions come by index, in pages, narrowed by index, status and failure."""
    batch = await submit(plane, 7)
    await end(plane, batch["id"], Status.FAILED, 2, 5)
    await end(plane, batch["id"], Status.SUCCEEDED, 0)
    url = f"/v1/batches/{batch['id']}/executions"

    async def indexes(**params: object) -> list[int]:
        return [execution["index"] for execution in (await get(plane, url, **params))["executions"]]

    first = await get(plane, url, limit=4)
    rest = await get(plane, url, limit=4, cursor=first["next"])
    assert [execution["index"] for execution in first["executions"] + rest["executions"]] == list(range(7))
    assert rest["next"] is None
    assert await indexes(index="1,3-5") == [1, 3, 4, 5]
    assert await indexes(failed=True) == [2, 5]
    assert await indexes(failed=True, index="0-3") == [2]
    assert await indexes(status=Status.SUCCEEDED.value) == [0]
    assert (await plane.client.get(url, params={"index": "b"})).status_code == 422
    execution = first["executions"][1]
    assert execution["name"] == "item 1"
    assert execution["status"] == Status.QUEUED
    assert execution["reason"].endswith(".")


async def test_retried_executions_are_hidden(plane: ControlPlane) -> None:
    """A retry takes the old execution's place in every view; ``all`` shows both."""
    batch = await submit(plane, 3)
    await end(plane, batch["id"], Status.FAILED, 1)
    await end(plane, batch["id"], Status.SUCCEEDED, 0, 2)
    changed = await plane.client.post(f"/v1/batches/{batch['id']}/retry", json={"indexes": None, "failed": True})
    assert changed.json()["changed"] == 1
    url = f"/v1/batches/{batch['id']}/executions"
    latest = (await get(plane, url))["executions"]
    assert [execution["index"] for execution in latest] == [0, 1, 2]
    assert latest[1]["id"] == changed.json()["executions"][0]
    both = (await get(plane, url, all=True, index="1"))["executions"]
    assert [execution["latest"] for execution in both] == [False, True]
    assert both[1]["retry_of"] == both[0]["id"]
    detail = await get(plane, f"/v1/executions/{both[0]['id']}")
    assert (detail["status"], detail["attempts"], detail["item"]["args"]) == (Status.FAILED, [], ["1"])


async def test_cancel(plane: ControlPlane) -> None:
    """A cancelled item that waits has ended at once; the others stay."""
    batch = await submit(plane, 3)
    url = f"/v1/batches/{batch['id']}"
    changed = await plane.client.post(f"{url}/cancel", json={"indexes": [1], "reason": "enough"})
    assert changed.json() == {"changed": 1, "executions": []}
    page = await get(plane, f"{url}/executions", status=Status.CANCELLED.value)
    assert [(execution["index"], execution["message"]) for execution in page["executions"]] == [(1, "enough")]
    one = await plane.client.post(
        f"/v1/executions/{batch['first_execution_id']}/cancel", json={"indexes": None, "reason": ""}
    )
    assert one.json()["changed"] == 1
    await plane.client.post(f"{url}/cancel", json={"indexes": None, "reason": ""})
    assert (await get(plane, url))["done"]


async def test_delete(plane: ControlPlane) -> None:
    """Only a batch that has ended can be deleted; then it is gone with everything, its output objects too."""
    batch = await submit(plane, 2)
    url = f"/v1/batches/{batch['id']}"
    assert (await plane.client.delete(url)).status_code == 409
    await plane.client.post(f"{url}/cancel", json={"indexes": None, "reason": ""})
    kept, lost = f"p/{plane.project_id}/x/kept", f"p/{plane.project_id}/x/lost"
    for key in (kept, lost):
        await plane.services.store.put(key, b"bytes")
    async with plane.services.database.transaction() as tx:
        for statement in (
            "INSERT INTO runners (id, token_id, name, backend, version, slots, labels, runtimes, resources)"
            " SELECT 'rnr_x', id, 'r', 'b', 'v', 1, '{}', '{}', '{}' FROM runner_tokens",
            "INSERT INTO attempts (execution_id, attempt, runner_id, claim_request_id, lease_expires_at, live,"
            " ended_at, manifest) SELECT id, 1, 'rnr_x', 'c', now(), false, now(),"
            f""" '{{"objects": [{{"key": "{lost}", "size": 5}}]}}' FROM executions WHERE item_index = 0""",
            "INSERT INTO log_chunks (execution_id, attempt, seq, stream, data) SELECT id, 1, 1, 1, 'x' FROM executions",
            "INSERT INTO stdin_chunks (execution_id, seq, data, eof) SELECT id, 1, 'x', true FROM executions",
        ):
            await tx.conn.exec_driver_sql(statement)
    detail = await get(plane, f"/v1/executions/{batch['first_execution_id']}")
    assert [attempt["runner"] for attempt in detail["attempts"]] == ["r"]

    assert (await plane.client.delete(url)).status_code == 204
    assert (await plane.client.get(url)).status_code == 404
    async with plane.services.database.read() as tx:
        for table in ("batches", "executions", "attempts", "log_chunks", "stdin_chunks", "events"):
            assert (await tx.conn.exec_driver_sql(f"SELECT count(*) FROM {table}")).scalar() == 0, table
    assert await plane.services.store.head(lost) is None
    assert await plane.services.store.head(kept) == 5


async def test_a_batch_that_was_never_completed_can_be_deleted(plane: ControlPlane) -> None:
    """A client that gave up half-way can take its batch back."""
    batch = await submit(plane, 2, total=9)
    assert (await plane.client.delete(f"/v1/batches/{batch['id']}")).status_code == 204
    assert (await plane.client.get(f"/v1/batches/{batch['id']}")).status_code == 404


async def test_stdin(plane: ControlPlane) -> None:
    """Chunks of stdin are kept in order and once; what does not fit is refused with the reason."""
    batch = await submit(plane, spec=spec(stdin={"stream": True}))
    url = f"/v1/executions/{batch['first_execution_id']}/stdin"

    async def feed(seq: int, data: str, eof: bool = False) -> int:
        return (await plane.client.post(url, json={"seq": seq, "data": data, "eof": eof})).status_code

    assert await feed(2, "YQ==") == 409
    assert await feed(1, "not base 64") == 422
    assert [await feed(1, "YQ=="), await feed(1, "YQ=="), await feed(2, "", eof=True)] == [204, 204, 204]
    assert await feed(3, "YQ==") == 409
    async with plane.services.database.read() as tx:
        rows = (await tx.conn.exec_driver_sql("SELECT seq, data, eof FROM stdin_chunks ORDER BY seq")).all()
    assert [tuple(row) for row in rows] == [(1, b"a", False), (2, b"", True)]
    plain = await submit(plane)
    response = await plane.client.post(
        f"/v1/executions/{plain['first_execution_id']}/stdin", json={"seq": 1, "data": "", "eof": True}
    )
    assert (response.status_code, "without a stream" in response.json()["detail"]) == (409, True)
