"""The program itself: started, asked to end, started wrongly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from support.ports import free_port
from support.s3 import S3Server
from support.waiting import until

from rgrid_api.auth import KEY_PREFIX, TOKEN_PREFIX, new_secret
from rgrid_api.storage.s3 import ObjectStore
from rgrid_api.vault import new_secret_key

PROGRAM = (sys.executable, "-m", "rgrid_api.main")


def environment(database_url: str, s3: S3Server, store: ObjectStore, **more: str) -> dict[str, str]:
    """What the program is told."""
    return {
        **os.environ,
        "RGRID_DATABASE_URL": database_url,
        "RGRID_S3_ENDPOINT": s3.endpoint,
        "RGRID_S3_ACCESS_KEY": s3.access_key,
        "RGRID_S3_SECRET_KEY": s3.secret_key,
        "RGRID_S3_BUCKET": store.bucket,
        "RGRID_SECRET_KEY": new_secret_key(),
        "RGRID_ALLOW_PROCESS_BACKEND": "true",
        **more,
    }


@contextmanager
def served(env: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The program, answering; killed at the end if it still runs."""
    url = f"http://127.0.0.1:{free_port()}"
    port = url.rpartition(":")[2]
    process = subprocess.Popen([*PROGRAM, "--log-level", "warning", "serve", "--port", port], env=env)

    def answers() -> bool:
        assert process.poll() is None
        try:
            return httpx.get(f"{url}/readyz", timeout=2).is_success
        except httpx.TransportError:
            return False

    try:
        until(answers, seconds=60, what="an answer")
        yield process, url
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)


def test_a_long_poll_is_answered_when_the_server_ends(database_url: str, s3: S3Server, store: ObjectStore) -> None:
    """On SIGTERM waiting runners get their answer and the program exits with 0 within seconds."""
    token = new_secret(TOKEN_PREFIX)
    env = environment(database_url, s3, store, RGRID_BOOTSTRAP_RUNNER_TOKEN=token)
    with served(env) as (process, url), httpx.Client(base_url=url, timeout=40) as client:
        client.headers.update({"Authorization": f"Bearer {token}", "Rgrid-Api": "1"})
        body = {
            "runner_id": None,
            "name": "r",
            "backend": "process",
            "version": "0",
            "slots": 1,
            "labels": {},
            "runtimes": {},
            "resources": {"cpu_millis": 1, "memory": 1, "disk": 1, "gpus": []},
        }
        runner = client.post("/v1/runners", json=body).json()["runner_id"]
        answers: list[int] = []
        free = {"slots": 1, "cpu_millis": 1, "memory": 1, "disk": 1, "gpus": []}
        poll = {"attempts": [], "claim": {"request_id": "request-1", "free": free}, "wait_s": 30, "draining": False}
        thread = threading.Thread(
            target=lambda: answers.append(client.post(f"/v1/runners/{runner}/poll", json=poll).status_code)
        )
        thread.start()
        until(lambda: _listed(url, env, runner), what="the poll's arrival")
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
        thread.join(10)
        assert answers == [200]


def _listed(url: str, env: dict[str, str], runner: str) -> bool:
    """True once the runner has polled: its row has been seen after it registered."""
    import asyncio

    import asyncpg

    async def look() -> bool:
        connection = await asyncpg.connect(env["RGRID_DATABASE_URL"])
        try:
            return bool(await connection.fetchval("SELECT last_seen_at > registered_at + interval '1 ms' FROM runners"))
        finally:
            await connection.close()

    return asyncio.run(look())


def test_bootstrap_prints_what_opens_the_grid(database_url: str, s3: S3Server, store: ObjectStore) -> None:
    """``rgrid-api bootstrap`` shows a key and a runner token once, and both work."""
    env = environment(database_url, s3, store)
    made = subprocess.run([*PROGRAM, "bootstrap", "--project", "lab"], env=env, capture_output=True, check=True)
    secrets = json.loads(made.stdout)
    assert secrets["project"] == "lab"
    assert secrets["api_key"].startswith(KEY_PREFIX)
    with served(env) as (_, url):
        headers = {"Authorization": f"Bearer {secrets['api_key']}", "Rgrid-Api": "1"}
        assert httpx.get(f"{url}/v1/meta", headers=headers).json()["project"] == "lab"


def test_migrate_says_what_it_did(database_url: str, s3: S3Server, store: ObjectStore) -> None:
    """``rgrid-api migrate`` on a schema that is up to date changes nothing and says so."""
    env = environment(database_url, s3, store)
    done = subprocess.run([*PROGRAM, "migrate"], env=env, capture_output=True, text=True, check=True)
    assert "already there" in done.stdout


def test_a_wrong_environment_is_named(database_url: str, s3: S3Server, store: ObjectStore) -> None:
    """Missing and malformed settings are listed by the names of their variables; nothing starts."""
    env = environment(database_url, s3, store, RGRID_SECRET_KEY="short")
    del env["RGRID_S3_BUCKET"]
    done = subprocess.run([*PROGRAM, "serve"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "RGRID_S3_BUCKET" in done.stderr
    assert "RGRID_SECRET_KEY" in done.stderr
    assert "Traceback" not in done.stderr
