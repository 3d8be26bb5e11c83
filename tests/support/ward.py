"""A Docker backend for tests that look at what scripts can do to each other and to the host."""

from __future__ import annotations

import json
import secrets
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest
import pytest_asyncio

from rgrid_runner.backends.base import BackendError, Box, Chunk, Exit, Mount, StartOrder
from rgrid_runner.backends.docker import DockerBackend
from rgrid_runner.containers import firewall
from rgrid_runner.containers.firewall import Rules
from rgrid_runner.containers.network import ContainerNetwork, NetworkSettings
from rgrid_runner.containers.settings import ContainerSettings
from rgrid_shared.states import Stream
from support.engine import IMAGE, require_image

MIB = 1024 * 1024
PLACE = "/home/alice/project"
SETTINGS = ContainerSettings(
    disk=256 * MIB, memory=512 * MIB, tmp=64 * MIB, shm=32 * MIB, pids=256, spare=1, idle_s=60.0
)


@dataclass
class Ward:
    """A Docker backend and short ways to run Python in it."""

    backend: DockerBackend
    directory: Path
    image: str
    _workspaces: dict[str, Path] = field(default_factory=dict)

    async def start(
        self,
        code: str,
        *args: str,
        batch: str = "",
        layer: Path | None = None,
        place: str = PLACE,
        network: bool = False,
        isolate: bool = False,
        warm: bool = False,
        disk: int = 0,
        **changes: Any,
    ) -> str:
        """Start ``code`` in a batch of its own, unless one is said; returns its key.

        ``place``: where the script finds its workspace. ``changes``: other fields of the order.
        """
        key = f"exe_{secrets.token_hex(4)}.1"
        workspace = self.directory / "attempts" / key
        await self.backend.prepare(workspace, disk)
        self._workspaces[key] = workspace
        mounts = [Mount(workspace, place, writable=True), *([Mount(layer, "/opt/rgrid/layer")] if layer else [])]
        box = Box(self.image, batch or key, network=network, isolate=isolate, warm=warm, mounts=tuple(mounts))
        values: dict[str, Any] = {
            "key": key,
            "argv": ("python3", "-c", f"import os, sys\n{code}", *args),
            "env": {"PATH": "/usr/local/bin:/usr/bin:/bin", "SECRET": f"secret of {key}"},
            "cwd": Path(place),
            "spool": self.directory / "spools" / key,
            "timeout_s": 60.0,
            "grace_s": 1.0,
            "stdin": None,
            "memory": 256 * MIB,
            "cpu_millis": 1000,
            "log_limit": 8 * MIB,
            "box": box,
        }
        try:
            await self.backend.start(StartOrder(**(values | changes)))
        except BackendError:
            await self.backend.clear(self._workspaces.pop(key))
            raise
        return key

    async def end(self, key: str) -> tuple[Exit, str, str]:
        """Wait for its end: exit, stdout, stderr. Nothing of it is left then."""
        chunks = [chunk async for chunk in self.backend.stream(key, 0)]
        ended = await self.backend.wait(key)
        await self.backend.clean(key)
        await self.backend.clear(self._workspaces.pop(key))
        return ended, text(chunks, Stream.STDOUT), text(chunks, Stream.STDERR)

    async def run(self, code: str, *args: str, **changes: Any) -> tuple[Exit, str, str]:
        """Run to its end."""
        return await self.end(await self.start(code, *args, **changes))

    async def says(self, code: str, *args: str, **changes: Any) -> Any:
        """What a script that must succeed printed last, as JSON."""
        ended, out, err = await self.run(code, *args, **changes)
        assert ended.failure is None, (ended.message, err)
        return json.loads(out.splitlines()[-1])

    async def up(self, key: str) -> str:
        """The first line of a script."""
        async for chunk in self.backend.stream(key, 0):
            return chunk.data.decode().splitlines()[0]
        raise AssertionError((await self.backend.wait(key)).message)

    def workspace(self, key: str) -> Path:
        return self._workspaces[key]


def text(chunks: list[Chunk], stream: Stream) -> str:
    return b"".join(chunk.data for chunk in chunks if chunk.stream is stream).decode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ward(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ward]:
    """One backend for all tests; when it is closed nothing of it may be left on this machine."""
    image = require_image(IMAGE)
    name = f"t{secrets.token_hex(3)}"
    directory = tmp_path_factory.mktemp("isolation")
    backend = DockerBackend(directory / "state", SETTINGS, ContainerNetwork(NetworkSettings(name)), slots=4)
    try:
        await backend.open()
        yield Ward(backend, directory, image)
        await backend.close(abandon=False)
    finally:
        with closing(docker.from_env()) as engine:
            engine.networks.get(name).remove()
        firewall.remove(Rules(name))
    assert str(directory) not in Path("/proc/self/mountinfo").read_text()


@contextmanager
def service() -> Iterator[int]:
    """A service of this host on all its addresses, as PostgreSQL or an object store would be; its port."""

    def accept() -> None:
        while True:
            try:
                server.accept()[0].close()
            except OSError:
                return

    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        thread = threading.Thread(target=accept)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
