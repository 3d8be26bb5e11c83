"""A real S3 server for the tests: ``rclone serve s3`` over a scratch directory."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from rgrid_api.storage.s3 import ObjectStore

START_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class S3Server:
    """Where the server listens and what opens it. ``directory`` holds one directory for each bucket."""

    endpoint: str
    access_key: str
    secret_key: str
    directory: Path

    def store(self, bucket: str) -> ObjectStore:
        """A store on ``bucket``, which must have been made (``ensure_bucket``)."""
        return ObjectStore(
            endpoint=self.endpoint, access_key=self.access_key, secret_key=self.secret_key, bucket=bucket
        )


@contextlib.contextmanager
def serve_s3(directory: Path, *, port: int = 0) -> Iterator[S3Server]:
    """Run a server until the block ends. ``port`` 0 takes a free one."""
    if port == 0:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    server = S3Server(
        endpoint=f"http://127.0.0.1:{port}",
        access_key=secrets.token_hex(10),
        secret_key=secrets.token_hex(20),
        directory=directory,
    )
    program = Path(sys.executable).with_name("rclone")
    process = subprocess.Popen(
        [
            str(program if program.exists() else shutil.which("rclone") or "rclone"),
            "serve",
            "s3",
            "--config",
            "/dev/null",
            "--addr",
            f"127.0.0.1:{port}",
            "--auth-key",
            f"{server.access_key},{server.secret_key}",
            "--vfs-cache-mode",
            "off",
            "--log-level",
            "ERROR",
            str(directory),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _until_it_answers(server, process)
        yield server
    finally:
        process.terminate()
        process.wait(10)


def _until_it_answers(server: S3Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"rclone ended with {process.returncode}")
        try:
            httpx.get(server.endpoint, timeout=1)
        except httpx.TransportError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError("rclone does not answer")


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """One real S3 server for all tests."""
    directory = Path(tempfile.mkdtemp(prefix="rgrid-s3-"))
    try:
        with serve_s3(directory) as server:
            yield server
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
async def store(s3: S3Server) -> ObjectStore:
    """An empty bucket of its own for each test."""
    store = s3.store(f"t-{secrets.token_hex(6)}")
    await store.ensure_bucket()
    return store
