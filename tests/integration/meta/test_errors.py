"""Every failure is one RFC 9457 problem with the contract's headers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest
from fastapi import FastAPI, WebSocket
from sqlalchemy import text
from starlette.routing import Route
from support.control_plane import ControlPlane, submission
from support.postgres import Server

from rgrid_api.auth import KEY_PREFIX, new_secret
from rgrid_api.error_handlers import install
from rgrid_api.middleware import MAX_BODY
from rgrid_shared.errors import Problem


def problem(response: object, status: int, code: str) -> Problem:
    """The problem in an answer that must be one."""
    assert response.status_code == status, response.text  # type: ignore[attr-defined]
    assert response.headers["content-type"] == "application/problem+json"  # type: ignore[attr-defined]
    assert response.headers["rgrid-api"] == "1"  # type: ignore[attr-defined]
    document: Problem = response.json()  # type: ignore[attr-defined]
    assert document["code"] == code
    assert document["status"] == status
    assert document["detail"]
    return document


async def test_health_needs_no_key(plane: ControlPlane) -> None:
    """``/healthz`` and ``/readyz`` answer anybody, with the version in body and header."""
    for path in ("/healthz", "/readyz"):
        response = await plane.anonymous.get(path)
        assert response.status_code == 200
        assert response.json()["ok"] is True
        assert response.headers["rgrid-version"] == response.json()["version"]
    assert set((await plane.anonymous.get("/readyz")).json()["parts"].values()) == {"ok"}


async def test_meta_names_the_project(plane: ControlPlane) -> None:
    """A key can be tried, and says which project it opens."""
    meta = (await plane.client.get("/v1/meta")).json()
    assert (meta["project"], meta["project_id"], meta["api"]) == ("one", plane.project_id, 1)


async def test_unknown_routes_and_methods(plane: ControlPlane) -> None:
    """A route that is not there is not_found; one that is there for other methods says so."""
    assert "/v1/nothing" in problem(await plane.client.get("/v1/nothing"), 404, "not_found")["detail"]
    problem(await plane.client.put("/v1/meta"), 405, "usage")


async def test_another_contract_is_refused(plane: ControlPlane) -> None:
    """A client of another major version is told what to install, on every route."""
    response = await plane.client.get("/v1/meta", headers={"Rgrid-Api": "2"})
    assert "install rgrid" in problem(response, 426, "version_mismatch")["hint"]


async def test_no_key(plane: ControlPlane) -> None:
    """Without a key, with a wrong one, or with a runner's token, the answer is 401 and how to log in."""
    response = await plane.anonymous.get("/v1/meta")
    assert problem(response, 401, "not_authorised")["hint"] == "rgrid login"
    assert response.headers["www-authenticate"] == "Bearer"
    wrong = {"Authorization": f"Bearer {new_secret(KEY_PREFIX)}"}
    problem(await plane.anonymous.get("/v1/meta", headers=wrong), 401, "not_authorised")
    assert "runner token" in problem(await plane.runner.get("/v1/meta"), 401, "not_authorised")["detail"]


async def test_bodies_of_the_wrong_shape(plane: ControlPlane) -> None:
    """A body that is no JSON, lacks a field, has an unknown one or a wrong type is refused by the field's path."""
    post = plane.client.post
    as_json = {"Content-Type": "application/json"}
    broken = await post("/v1/batches", content=b"{", headers=as_json)
    assert "not JSON" in problem(broken, 422, "invalid_request")["detail"]
    assert "not a JSON object" in problem(await post("/v1/batches", json=[]), 422, "invalid_request")["detail"]
    body = json.loads(json.dumps(submission(2)))
    del body["items"][1]["args"]
    body["speck"] = 1
    body["items"][0]["files"] = [{"path": "a", "sha256": "x", "size": -1, "mode": 0}]
    detail = problem(await post("/v1/batches", json=body), 422, "invalid_request")["detail"]
    assert "items[0].files[0].sha256 is not valid" in detail
    assert "items[1].args is missing" in detail
    assert "and 1 more" in detail


async def test_what_cannot_be_stored(plane: ControlPlane) -> None:
    """A NUL, half a character or a number out of range is the request's fault, wherever it stands."""
    key = {"name": "a", "expires_in_s": None}
    problem(await plane.client.post("/v1/keys", json={**key, "name": "\0"}), 422, "invalid_request")
    half = b'{"name": "\\ud800", "expires_in_s": null}'
    as_json = {"Content-Type": "application/json"}
    problem(await plane.client.post("/v1/keys", content=half, headers=as_json), 422, "invalid_request")
    problem(await plane.client.get("/v1/batches", params={"name": "\0"}), 422, "invalid_request")
    problem(await plane.client.post("/v1/keys", json={**key, "expires_in_s": 10**18}), 422, "invalid_request")


async def test_huge_bodies_are_refused(plane: ControlPlane) -> None:
    """A body over the limit is refused by its announced length, and while it arrives if none was announced."""
    announced = {"Content-Length": str(MAX_BODY + 1)}
    problem(await plane.client.post("/v1/batches", content=b"", headers=announced), 413, "too_large")

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(70):
            yield b"x" * (1 << 20)

    problem(await plane.client.post("/v1/batches", content=endless()), 413, "too_large")


async def test_a_fault_has_an_id(plane: ControlPlane, caplog: pytest.LogCaptureFixture) -> None:
    """What nobody meant to happen is answered as internal, and its id stands in the log beside the traceback."""

    async def broken(_: object) -> None:
        raise ZeroDivisionError

    plane.app.router.routes.insert(0, Route("/v1/broken", broken))
    document = problem(await plane.client.get("/v1/broken"), 500, "internal")
    fault = document["detail"].split("id ")[1].rstrip(")")
    assert any(fault in record.getMessage() and record.exc_info for record in caplog.records)


async def test_a_slow_statement_is_overload(plane: ControlPlane) -> None:
    """A statement over its time limit is answered with 503 and when to come back."""

    async def slow(_: object) -> None:
        async with plane.services.database.transaction(timeout_s=0.02) as tx:
            await tx.conn.execute(text("SELECT pg_sleep(5)"))

    plane.app.router.routes.insert(0, Route("/v1/slow", slow))
    response = await plane.client.get("/v1/slow")
    problem(response, 503, "overloaded")
    assert int(response.headers["retry-after"]) >= 1


async def test_a_lost_database_is_unreachable(plane: ControlPlane, postgres: Server, database_url: str) -> None:
    """While the database is away the answer is 503 with Retry-After; the next request after its return works."""
    assert (await plane.client.get("/v1/keys")).status_code == 200
    name = urlsplit(database_url).path[1:]
    await postgres.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    connection = await asyncpg.connect(postgres.url("postgres"))
    try:
        await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        statuses = {(await plane.client.get("/v1/keys")).status_code for _ in range(3)}
        assert statuses <= {503, 500}
        problem(await plane.client.get("/v1/keys"), 503, "unreachable")
        assert (await plane.anonymous.get("/readyz")).status_code == 503
    finally:
        await connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        await connection.close()
    assert (await plane.client.get("/v1/keys")).status_code == 200


async def test_activity(plane: ControlPlane) -> None:
    """Open executions are counted over the grid, and asking is no activity."""
    before = plane.app.state.use_clock.idle_s()
    activity = (await plane.client.get("/v1/activity")).json()
    assert activity["open_executions"] == 0
    assert activity["idle_s"] >= before
    await plane.client.get("/v1/meta")
    assert (await plane.client.get("/v1/activity")).json()["idle_s"] < activity["idle_s"] + 1


async def test_sockets_are_told() -> None:
    """A WebSocket without a key gets the problem as a message and is closed with 1008."""
    app = FastAPI()
    install(app)

    @app.websocket("/v1/follow")
    async def follow(socket: WebSocket) -> None:
        from rgrid_shared.errors import NotAuthorised

        raise NotAuthorised("no key was sent with the request", hint="rgrid login")

    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/v1/follow", "headers": [], "query_string": b"", "subprotocols": []}
    await app({**scope, "asgi": {"version": "3.0"}, "scheme": "ws", "root_path": ""}, receive, send)  # type: ignore[arg-type]
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send", "websocket.close"]
    assert json.loads(str(sent[1]["text"]))["code"] == "not_authorised"
    assert sent[2]["code"] == 1008
