"""The real control plane in this process: its ASGI application on a fresh database, and clients with keys."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
from fastapi import FastAPI

from rgrid_api import auth
from rgrid_api.app import create_app
from rgrid_api.services import Services
from rgrid_api.settings import Settings
from rgrid_api.storage.s3 import ObjectStore
from rgrid_api.vault import new_secret_key
from rgrid_shared.specs import NO_RESOURCES, BatchSubmit, FileRef, Item, Spec
from rgrid_shared.wire import EMPTY_SHA256
from support.s3 import S3Server


@dataclass(frozen=True)
class ControlPlane:
    """One API process without its loops. ``client`` has the first project's key, ``other`` another project's."""

    app: FastAPI
    services: Services
    client: httpx.AsyncClient
    other: httpx.AsyncClient
    anonymous: httpx.AsyncClient
    runner: httpx.AsyncClient
    key: str
    project_id: str


def settings_for(database_url: str, s3: S3Server, bucket: str, **more: object) -> Settings:
    """Settings of an API process on this database and store."""
    return Settings.model_validate(
        {
            "database_url": database_url,
            "s3_endpoint": s3.endpoint,
            "s3_access_key": s3.access_key,
            "s3_secret_key": s3.secret_key,
            "s3_bucket": bucket,
            "secret_key": new_secret_key(),
            "allow_process_backend": True,
            **more,
        }
    )


def client_of(app: FastAPI, secret: str | None) -> httpx.AsyncClient:
    """A client of ``app`` with this key or token."""
    headers = {"Rgrid-Api": "1"} | ({} if secret is None else {"Authorization": f"Bearer {secret}"})
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://rgrid.test", headers=headers)


@contextlib.asynccontextmanager
async def control_plane(settings: Settings) -> AsyncIterator[ControlPlane]:
    """Start an API process in this one, with two projects and a runner token."""
    app = create_app(settings, loops=False)
    async with app.router.lifespan_context(app), contextlib.AsyncExitStack() as clients:
        services: Services = app.state.services
        keys = [auth.new_secret(auth.KEY_PREFIX) for _ in range(2)]
        token = auth.new_secret(auth.TOKEN_PREFIX)
        async with services.database.transaction() as tx:
            projects = [await auth.ensure_project(tx, name) for name in ("one", "two")]
            for project_id, key in zip(projects, keys, strict=True):
                await auth.ensure_key(tx, project_id, key, "test")
            await auth.ensure_runner_token(tx, token, "test")
        client, other, anonymous, runner = [
            await clients.enter_async_context(client_of(app, secret)) for secret in (*keys, None, token)
        ]
        yield ControlPlane(app, services, client, other, anonymous, runner, keys[0], projects[0])


@pytest.fixture
async def plane(database_url: str, s3: S3Server, store: ObjectStore) -> AsyncIterator[ControlPlane]:
    """A control plane on a fresh database and bucket."""
    async with control_plane(settings_for(database_url, s3, store.bucket)) as running:
        yield running


def file(path: str, sha256: str = EMPTY_SHA256, size: int = 0) -> FileRef:
    """A shipped file; an empty one unless said otherwise, so that nothing needs to be uploaded."""
    return {"path": path, "sha256": sha256, "size": size, "mode": 0o644}


def spec(**changes: object) -> Spec:
    """A spec of one empty script."""
    base: Spec = {
        "root": "/home/user/project",
        "cwd": "",
        "script": {"kind": "file", "path": "s.py", "argv0": "s.py", "name": "s.py"},
        "files": [file("s.py")],
        "dirs": [],
        "links": {},
        "runtime": "python3.11",
        "requirements": None,
        "resources": {**NO_RESOURCES, "labels": {}},
        "timeout_s": None,
        "retry": {"retries": 0, "on": []},
        "network": True,
        "stdin": None,
        "env_names": [],
    }
    return {**base, **changes}  # type: ignore[typeddict-item]


def item(index: int, **changes: object) -> Item:
    """Item ``index`` of a batch."""
    base: Item = {"name": f"item {index}", "output_name": f"out-{index}", "args": [str(index)], "files": []}
    return {**base, **changes}  # type: ignore[typeddict-item]


def submission(count: int = 1, **changes: object) -> BatchSubmit:
    """A batch of ``count`` items, complete in one request; a plain run if it is one item."""
    items = [item(index) for index in range(count)]
    if count == 1:
        items[0]["output_name"] = ""
    base: BatchSubmit = {
        "spec": spec(),
        "items": items,
        "total": count,
        "env": {},
        "name": "",
        "metadata": {},
        "priority": 0,
        "parallel": None,
        "max_fails": None,
        "canary": None,
        "single": count == 1,
    }
    return {**base, **changes}  # type: ignore[typeddict-item]
