"""The life of an API key."""

from __future__ import annotations

import time
from typing import Any

import pytest
from support.control_plane import ControlPlane, client_of

from rgrid_api import auth
from rgrid_shared.errors import Conflict, InvalidRequest


async def make(plane: ControlPlane, **wanted: object) -> dict[str, Any]:
    response = await plane.client.post("/v1/keys", json={"name": "laptop", "expires_in_s": None, **wanted})
    assert response.status_code == 201
    made: dict[str, Any] = response.json()
    return made


async def test_a_key_is_shown_once(plane: ControlPlane) -> None:
    """The secret of a new key opens the project, and no other answer holds it; the database holds only its hash."""
    made = await make(plane)
    assert made["secret"].startswith(made["prefix"])
    async with client_of(plane.app, made["secret"]) as client:
        assert (await client.get("/v1/meta")).json()["project_id"] == plane.project_id
    listed = await plane.client.get("/v1/keys")
    assert made["secret"] not in listed.text
    assert {key["id"] for key in listed.json()["keys"]} >= {made["id"]}
    async with plane.services.database.read() as tx:
        rows = (await tx.conn.exec_driver_sql("SELECT row_to_json(api_keys)::text FROM api_keys")).scalars().all()
    assert not any(made["secret"] in row for row in rows)


async def test_a_revoked_key_opens_nothing(plane: ControlPlane) -> None:
    """A revoked key is refused at once by the process that revoked it; revoking again is harmless."""
    made = await make(plane)
    async with client_of(plane.app, made["secret"]) as client:
        assert (await client.get("/v1/meta")).status_code == 200
        assert (await plane.client.delete(f"/v1/keys/{made['id']}")).status_code == 204
        refused = await client.get("/v1/meta")
        assert (refused.status_code, refused.json()["hint"]) == (401, "rgrid login")
        assert "revoked" in refused.json()["detail"]
    assert (await plane.client.delete(f"/v1/keys/{made['id']}")).status_code == 204


async def test_a_remembered_key_is_asked_for_again(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that did not hear of a revocation stops taking the key when its memory of it is old."""
    made = await make(plane)
    async with client_of(plane.app, made["secret"]) as client:
        assert (await client.get("/v1/meta")).status_code == 200
        async with plane.services.database.transaction() as tx:
            await tx.run("key_revoke", project_id=plane.project_id, id=made["id"])
        assert (await client.get("/v1/meta")).status_code == 200
        now = time.monotonic()
        monkeypatch.setattr("rgrid_api.auth.time.monotonic", lambda: now + auth.CACHE_S)
        assert (await client.get("/v1/meta")).status_code == 401


async def test_an_expired_key_opens_nothing(plane: ControlPlane) -> None:
    """A key is refused once its time is over, even if it was just used."""
    made = await make(plane, expires_in_s=3600)
    async with client_of(plane.app, made["secret"]) as client:
        assert (await client.get("/v1/meta")).status_code == 200
        async with plane.services.database.transaction() as tx:
            await tx.conn.exec_driver_sql("UPDATE api_keys SET expires_at = clock_timestamp() WHERE expires_at > now()")
        plane.app.state.authenticator.forget()
        refused = await client.get("/v1/meta")
    assert refused.status_code == 401
    assert "expired" in refused.json()["detail"]


async def test_use_is_noted(plane: ControlPlane) -> None:
    """The list says when a key was last used."""
    made = await make(plane)
    async with client_of(plane.app, made["secret"]) as client:
        await client.get("/v1/meta")
    keys = {key["id"]: key for key in (await plane.client.get("/v1/keys")).json()["keys"]}
    assert made["last_used_at"] is None
    assert keys[made["id"]]["last_used_at"] is not None


async def test_keys_of_others_are_unknown(plane: ControlPlane) -> None:
    """Another project sees no key of this one, and revoking one is the same as revoking what never was."""
    made = await make(plane)
    assert made["id"] not in (await plane.other.get("/v1/keys")).text
    theirs = await plane.other.delete(f"/v1/keys/{made['id']}")
    unknown = await plane.other.delete("/v1/keys/key_00000000000000000000")
    assert (theirs.status_code, theirs.json()["code"]) == (unknown.status_code, unknown.json()["code"])
    assert theirs.json().keys() == unknown.json().keys()
    async with client_of(plane.app, made["secret"]) as client:
        assert (await client.get("/v1/meta")).status_code == 200


async def test_bootstrap_may_be_repeated(plane: ControlPlane) -> None:
    """Making sure of a project, key or token twice gives the same; a key cannot move to another project."""
    key, token = auth.new_secret(auth.KEY_PREFIX), auth.new_secret(auth.TOKEN_PREFIX)
    ids = set()
    for _ in range(2):
        async with plane.services.database.transaction() as tx:
            project = await auth.ensure_project(tx, "three")
            made = await auth.ensure_key(tx, project, key, "first")
            ids.add((project, made, await auth.ensure_runner_token(tx, token, "t")))
    assert len(ids) == 1
    async with plane.services.database.transaction() as tx:
        with pytest.raises(Conflict, match="another project"):
            await auth.ensure_key(tx, plane.project_id, key, "first")
        with pytest.raises(InvalidRequest, match="characters"):
            await auth.ensure_runner_token(tx, "rgt_short", "t")
        with pytest.raises(InvalidRequest, match="characters"):
            await auth.ensure_key(tx, plane.project_id, "short", "k")
