"""Layers that are made in containers of the image that they are for, on a real engine."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
from support.engine import BARE_IMAGE, IMAGE, require_image
from support.package_index import add_package, add_source, index_settings

from rgrid_runner.backends.base import Box, Image, Mount, StartOrder
from rgrid_runner.backends.docker import DockerBackend
from rgrid_runner.boxed_bench import SEEN, BoxedBench
from rgrid_runner.containers.settings import from_env
from rgrid_runner.interpreters import Interpreter
from rgrid_runner.layers import Layer, Layers
from rgrid_runner.outcome import AttemptFailed
from rgrid_runner.uv import Uv
from rgrid_shared.specs import Requirements
from rgrid_shared.states import FailureClass, Stream

PYTHON = Interpreter("python3.11", "cpython", "3.11.2", "/usr/bin/python3", IMAGE)
GIB = 1024**3


class NoNetwork:
    """The network of these tests: none; their index is a directory."""

    def require(self) -> str:
        return "none"

    async def open(self) -> None:
        return None

    async def keep(self) -> None:
        return None


@dataclass
class Boxed:
    """Layers of a runner with containers. ``index``: its packages."""

    backend: DockerBackend
    layers: Layers
    index: Path
    image: Image
    said: list[str]

    async def ensure(self, *lines: str, image: Image | None = None, **changes: Any) -> Layer:
        wanted: Requirements = {"lines": list(lines), "source": "t", "requires_python": "", "exact": False}
        return await self.layers.ensure(
            {**wanted, **changes},  # type: ignore[typeddict-item]
            PYTHON,
            "prj_a",
            self.said.append,
            holder="exe.1",
            image=image or self.image,
        )

    async def run(self, layer: Layer, code: str) -> str:
        """What a script with this layer says on stdout; its stderr if it fails."""
        key = f"exe_{os.urandom(4).hex()}.1"
        box = Box(self.image.id, key, network=False, mounts=(Mount(layer.path, layer.seen),))
        order = StartOrder(
            key=key,
            argv=(f"{layer.seen}/bin/python", "-I", "-c", code),
            env={"PATH": "/usr/bin:/bin"},
            cwd=Path("/"),
            spool=self.layers._root / key,
            timeout_s=60,
            grace_s=1,
            stdin=None,
            memory=0,
            cpu_millis=0,
            log_limit=1 << 20,
            box=box,
        )
        await self.backend.start(order)
        text = {Stream.STDOUT: "", Stream.STDERR: ""}
        async for chunk in self.backend.stream(key, 0):
            text[chunk.stream] += chunk.data.decode()
        end = await self.backend.wait(key)
        await self.backend.clean(key)
        return text[Stream.STDERR if end.failure else Stream.STDOUT].strip()


@pytest.fixture
async def boxed(tmp_path: Path) -> AsyncIterator[Boxed]:
    require_image(IMAGE)
    add_package(tmp_path / "index", "upper", "1.0", "VERSION = '1.0'\n", requires="lower>=2")
    add_package(tmp_path / "index", "lower", "2.5", "VERSION = '2.5'\n")
    env = {**os.environ, **index_settings(tmp_path / "index", tmp_path / "uv")}
    backend = DockerBackend(tmp_path / "backend", from_env({}, host_memory=8 * GIB, slots=2), NoNetwork(), slots=2)
    await backend.open()
    try:
        image = await backend.image(IMAGE, print)
        assert image is not None
        bench = BoxedBench(tmp_path / "shops", backend, env, disk=256 * 1024**2)
        layers = Layers(tmp_path / "layers", bench, Uv(bench, env))
        await layers.open()
        yield Boxed(backend, layers, tmp_path / "index", image, [])
        await layers.close()
    finally:
        await backend.close(abandon=False)


async def test_a_layer_is_made_by_the_images_own_interpreter(boxed: Boxed) -> None:
    """A script finds it at one place, read-only, with all that was required; its bytecode is compiled behind it."""
    layer = await boxed.ensure("upper")
    assert layer.seen == SEEN
    where = "import upper, lower, sys; print(upper.VERSION, lower.VERSION, upper.__file__, sys.version_info[:2])"
    assert await boxed.run(layer, where) == f"1.0 2.5 {SEEN}/lib/python3.11/site-packages/upper.py (3, 11)"
    assert "Read-only file system" in await boxed.run(layer, f"open('{SEEN}/evil', 'w')")
    boxed.layers.started(layer)
    await boxed.layers._behind[layer.key][1]
    assert list(layer.path.rglob("upper.*.pyc"))
    assert os.readlink(layer.path / "bin/python").startswith("/usr/bin/python3")


async def test_package_code_runs_in_the_container_alone(boxed: Boxed, tmp_path: Path) -> None:
    """What builds from source sees neither the host nor other builds; nothing it leaves can do harm outside."""
    add_source(boxed.index, "raw", "1.0", "VERSION = '1.0'\n", build=EVIL.replace("HOST", str(tmp_path / "layers")))
    layer = await boxed.ensure("raw")
    assert (await boxed.run(layer, "import raw; print(raw.VERSION)")) == "1.0"
    assert await boxed.run(layer, "import tell; print(tell.SAW)") == "uid 10001, host False, shared cache False"
    assert not [
        path
        for path in layer.path.rglob("*")
        if path.lstat().st_mode & (stat.S_ISUID | stat.S_IWOTH) and not path.is_symlink()
    ]
    assert {path.lstat().st_uid for path in layer.path.rglob("*")} <= {os.getuid(), 10001}
    assert [path.name for path in (tmp_path / "shops").iterdir()] == ["shared"]


EVIL = """
import os
with open("tell.py", "w") as file:
    file.write(f"SAW = 'uid {os.getuid()}, host {os.path.exists('HOST')}, "
               f"shared cache {os.path.exists('/opt/rgrid/shop/shared')}'")
"""


async def test_a_build_that_fills_its_disk_is_contained(boxed: Boxed, tmp_path: Path) -> None:
    """It ends with the words of its own tools; the host's disk has not changed."""
    fill = "open('/opt/rgrid/shop/fill', 'wb').write(bytes(400 * 1024**2))"
    add_source(boxed.index, "greedy", "1.0", "", build=fill)
    with pytest.raises(AttemptFailed, match="greedy"):
        await boxed.ensure("greedy")
    assert not list((tmp_path / "shops").rglob("fill"))


async def test_the_resolvers_words_come_out_of_the_container(boxed: Boxed) -> None:
    """As they are, and the fault is the requirements'."""
    with pytest.raises(AttemptFailed, match="nosuch") as caught:
        await boxed.ensure("nosuch")
    assert caught.value.failure is FailureClass.DEPENDENCIES
    assert "Traceback" not in caught.value.message


@pytest.fixture
def musl(docker_engine: docker.DockerClient) -> Iterator[str]:
    """An image with a shell that needs no C library, and none: like one that is based on Alpine."""
    require_image(BARE_IMAGE)
    container = docker_engine.containers.create(BARE_IMAGE, command=["/none"])
    try:
        pieces, _ = container.get_archive("/bin/cat")
        with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as had:
            program = had.extractfile("cat").read()  # type: ignore[union-attr]
    finally:
        container.remove()
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for path in ("bin", "dev", "etc", "opt", "proc", "rgrid", "sys", "tmp"):
            folder = tarfile.TarInfo(path)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
        for path in ("bin/sh", "bin/env", "bin/mkdir", "bin/rm", "bin/cat"):
            file = tarfile.TarInfo(path)
            file.size, file.mode = len(program), 0o755
            tar.addfile(file, io.BytesIO(program))
    tag = f"rgrid-test-musl-{os.urandom(4).hex()}"
    docker_engine.api.import_image_from_data(raw.getvalue(), repository=tag, tag="latest")
    yield f"{tag}:latest"
    docker_engine.images.remove(f"{tag}:latest", force=True)


async def test_an_image_that_cannot_run_uv_says_why(musl: str, boxed: Boxed) -> None:
    """Without the C library that uv needs the user is told to choose another image, not that a file is missing."""
    with pytest.raises(AttemptFailed, match="glibc") as caught:
        await boxed.ensure("lower", image=await boxed.backend.image(musl, print))
    assert caught.value.failure is FailureClass.DEPENDENCIES


async def test_nothing_is_left_of_a_build(boxed: Boxed, tmp_path: Path) -> None:
    """No run, no directory of a call, no half-made environment."""
    await boxed.ensure("upper")
    assert sorted(path.name for path in (tmp_path / "shops").iterdir()) == ["shared"]
    assert [path.name for path in (tmp_path / "shops/shared").iterdir()] == ["cache"]


async def test_what_a_killed_agent_left_goes(boxed: Boxed, tmp_path: Path) -> None:
    """A project's disk that is still mounted, calls that never ended, half-made environments."""
    left = tmp_path / "shops/prj_a.0123"
    await boxed.backend.prepare(left, 64 * 1024**2)
    for name in (".layer-x/spool", "shared/build-x/lib", "shared/cache/kept"):
        (tmp_path / "shops" / name).mkdir(parents=True)
    await boxed.layers.open()
    assert not left.is_mount()
    assert sorted(path.name for path in (tmp_path / "shops").rglob("*")) == ["cache", "kept", "shared"]
