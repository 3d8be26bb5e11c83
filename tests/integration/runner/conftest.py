"""A real API process, a real store, and runners as processes of their own."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.ports import free_port
from support.s3 import S3Server
from support.waiting import until

from rgrid_api.storage.s3 import ObjectStore
from rgrid_api.vault import new_secret_key
from rgrid_shared.specs import NO_RESOURCES, Arg, FileRef
from rgrid_shared.states import Status

OPEN = {status for status in Status if not status.final}


@dataclass
class Ended:
    """What became of one execution."""

    view: dict[str, Any]
    log: dict[str, bytes]
    files: dict[str, bytes]
    outputs: dict[str, Any]

    @property
    def status(self) -> str:
        return str(self.view["status"])

    @property
    def out(self) -> bytes:
        return self.log.get("stdout", b"")

    @property
    def err(self) -> bytes:
        return self.log.get("stderr", b"")

    @property
    def entries(self) -> dict[str, dict[str, Any]]:
        return {entry["path"]: entry for entry in self.outputs["entries"]}


@dataclass
class Site:
    """An API with its store. Files are given as path → bytes; all paths lie below one root."""

    url: str
    key: str
    token: str
    scratch: Path
    http: httpx.Client
    api: subprocess.Popen[bytes]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def upload(self, contents: list[bytes]) -> None:
        """Make these blobs known: small ones packed into one object, large ones alone."""
        unique = {hashlib.sha256(data).hexdigest(): data for data in contents if data}
        small = {sha256: data for sha256, data in unique.items() if len(data) <= 256 * 1024}
        groups = [small] if small else []
        groups += [{sha256: data} for sha256, data in unique.items() if sha256 not in small]
        for group in groups:
            offset, blobs = 0, []
            for sha256, data in group.items():
                blobs.append({"sha256": sha256, "size": len(data), "offset": offset})
                offset += len(data)
            place = self.post("/v1/uploads", {"uploads": [{"size": offset, "blobs": blobs}]})["uploads"][0]
            body = b"".join(group.values())
            etags = []
            for number, url in enumerate(place["urls"]):
                part = body[number * place["part_size"] :][: place["part_size"]] if place["multipart"] else body
                etags.append(httpx.put(url, content=part, timeout=60).raise_for_status().headers.get("etag", ""))
            done = {"id": place["id"], "etags": etags if place["multipart"] else []}
            self.post("/v1/uploads/complete", {"uploads": [done]})

    def submit(
        self,
        text: str | bytes,
        *args: Arg,
        files: Mapping[str, bytes] | None = None,
        items: list[dict[str, Any]] | None = None,
        path: str = "s.py",
        env: Mapping[str, str] | None = None,
        **changes: Any,
    ) -> dict[str, Any]:
        """Submit the script ``text`` with ``args``, or with ``items`` of ``args`` and ``files``; the batch's view."""
        source = text.encode() if isinstance(text, str) else text
        shipped = {path: source, **(files or {})}
        rows = items or [{"args": list(args), "files": {}}]
        self.upload([*shipped.values(), *(data for row in rows for data in row["files"].values())])
        spec = {
            "root": "/home/user/project",
            "cwd": "",
            "script": {"kind": "file", "path": path, "argv0": path, "name": path},
            "files": [ref(name, data) for name, data in shipped.items()],
            "dirs": [],
            "links": {},
            "runtime": f"python3.{sys.version_info[1]}",
            "requirements": None,
            "resources": {**NO_RESOURCES, "labels": {}},
            "timeout_s": None,
            "retry": {"retries": 0, "on": []},
            "network": True,
            "stdin": None,
            "env_names": sorted(env or {}),
        } | {name: value for name, value in changes.items() if name != "batch"}
        body = {
            "spec": spec,
            "items": [
                {
                    "name": str(index),
                    "output_name": "" if len(rows) == 1 else f"o{index}",
                    "args": row["args"],
                    "files": [ref(name, data) for name, data in row["files"].items()],
                }
                for index, row in enumerate(rows)
            ],
            "total": len(rows),
            "env": dict(env or {}),
            "name": "",
            "metadata": {},
            "priority": 0,
            "parallel": None,
            "max_fails": None,
            "canary": None,
            "single": len(rows) == 1,
        } | changes.get("batch", {})
        return self.post("/v1/batches", body, headers={"Idempotency-Key": secrets.token_hex(8)})

    def run(self, text: str | bytes, *args: Arg, seconds: float = 40, **changes: Any) -> Ended:
        """Submit a single run and wait for its end."""
        return self.ended(self.submit(text, *args, **changes)["first_execution_id"], seconds=seconds)

    def ended(self, execution_id: str, *, seconds: float = 40) -> Ended:
        """Wait for an execution's end and fetch all that it left."""

        def look() -> dict[str, Any] | None:
            view = self.get(f"/v1/executions/{execution_id}")
            return None if view["status"] in OPEN else view

        view = until(look, seconds=seconds, what=f"the end of {execution_id}")
        outputs = self.get(f"/v1/executions/{execution_id}/outputs")
        return Ended(view, self.log(execution_id), self.download(outputs), outputs)

    def all_ended(self, batch_id: str, *, seconds: float = 60) -> dict[str, Any]:
        """Wait for a batch's end."""
        return until(
            lambda: view if (view := self.get(f"/v1/batches/{batch_id}"))["done"] else None,
            seconds=seconds,
            what=f"the end of {batch_id}",
        )

    def log(self, execution_id: str) -> dict[str, bytes]:
        """The log so far, by stream; the last attempt's."""
        streams: dict[str, bytes] = {}
        after, last = "", 0
        while True:
            page = self.get(f"/v1/executions/{execution_id}/logs", params={"after": after} if after else {})
            for chunk in page["chunks"]:
                if chunk["attempt"] != last:
                    streams, last = {}, chunk["attempt"]
                data = base64.b64decode(chunk["data"])
                streams[chunk["stream"]] = streams.get(chunk["stream"], b"") + data
            if not page["chunks"] or page["next"] == after:
                return streams
            after = page["next"]

    def download(self, outputs: dict[str, Any]) -> dict[str, bytes]:
        """The output files, each checked against its hash."""
        bodies = [httpx.get(each["url"], timeout=60).raise_for_status().content for each in outputs["objects"]]
        files = {}
        for entry in outputs["entries"]:
            if entry["kind"] == "file":
                body = bodies[entry["object"]] if entry["size"] else b""
                data = body[entry["offset"] : entry["offset"] + entry["size"]]
                assert hashlib.sha256(data).hexdigest() == entry["sha256"]
                files[entry["path"]] = data
        return files

    def start_runner(
        self, name: str = "r", *, program: str = "rgrid_runner.main", **env: str
    ) -> subprocess.Popen[bytes]:
        """Start a runner with a state directory of its own name."""
        with (self.scratch / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", program],
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": os.environ["HOME"],
                    "RGRID_API_URL": self.url,
                    "RGRID_RUNNER_TOKEN": self.token,
                    "RGRID_RUNNER_NAME": name,
                    "RGRID_RUNNER_SLOTS": "4",
                    "RGRID_RUNNER_DIR": str(self.scratch / name),
                    **env,
                },
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def stop(self, process: subprocess.Popen[bytes], *, seconds: float = 20) -> int:
        """Drain a runner; its exit code."""
        process.terminate()
        return process.wait(seconds)

    def get(self, path: str, **options: Any) -> dict[str, Any]:
        answer = self.http.get(path, **options)
        assert answer.status_code < 400, answer.text
        return dict(answer.json())

    def post(self, path: str, body: object, **options: Any) -> dict[str, Any]:
        answer = self.http.post(path, json=body, **options)
        assert answer.status_code < 400, answer.text
        return dict(answer.json())


def ref(path: str, data: bytes, mode: int = 0o644) -> FileRef:
    return {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "mode": mode}


@contextlib.contextmanager
def serve_api(env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An API process until the block ends."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "rgrid_api.main", "serve"], env={**os.environ, **env}, stdout=out, stderr=out
        )
    url = f"http://127.0.0.1:{env['RGRID_PORT']}/readyz"

    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(url, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    try:
        until(ready, seconds=40, what="the API's start")
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def site_env() -> dict[str, str]:
    """Further settings of the API; a test module may override this."""
    return {}


@pytest.fixture
async def site(database_url: str, s3: S3Server, store: ObjectStore, site_env: dict[str, str]) -> AsyncIterator[Site]:
    """An API on a fresh database and bucket. Runners that a test started are killed at its end."""
    scratch = Path(tempfile.mkdtemp(prefix="rgrid-runner-"))
    key, token = f"rgr_{secrets.token_urlsafe(30)}", f"rgt_{secrets.token_urlsafe(30)}"
    port = str(free_port())
    env = {
        "RGRID_DATABASE_URL": database_url,
        "RGRID_S3_ENDPOINT": s3.endpoint,
        "RGRID_S3_ACCESS_KEY": s3.access_key,
        "RGRID_S3_SECRET_KEY": s3.secret_key,
        "RGRID_S3_BUCKET": store.bucket,
        "RGRID_SECRET_KEY": new_secret_key(),
        "RGRID_PORT": port,
        "RGRID_ALLOW_PROCESS_BACKEND": "true",
        "RGRID_BOOTSTRAP_PROJECT": "test",
        "RGRID_BOOTSTRAP_KEY": key,
        "RGRID_BOOTSTRAP_RUNNER_TOKEN": token,
        **site_env,
    }
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        api = stack.enter_context(serve_api(env, scratch / "api.log"))
        url = f"http://127.0.0.1:{port}"
        headers = {"Authorization": f"Bearer {key}", "Rgrid-Api": "1"}
        http = stack.enter_context(httpx.Client(base_url=url, headers=headers, timeout=60))
        made = Site(url, key, token, scratch, http, api)
        try:
            yield made
        finally:
            for process in made.processes:
                leave(process)
            for log in sorted(scratch.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text()}")


def leave(process: subprocess.Popen[bytes]) -> None:
    """End a runner and the scripts and shims that it left."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def runner(site: Site) -> Callable[..., subprocess.Popen[bytes]]:
    """Start a runner."""
    return site.start_runner
