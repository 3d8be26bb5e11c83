"""Runtimes that are images, on the engine of this machine."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import docker
import pytest
from support.engine import BARE_IMAGE, IMAGE, SHELL_IMAGE, require_image

from rgrid_runner.backends.base import BackendError
from rgrid_runner.containers.asking import ImageInfo
from rgrid_runner.containers.engine import Engine
from rgrid_runner.image_runtimes import NAME_S, ImageRuntimes
from rgrid_runner.runtimes import from_env
from rgrid_shared.states import FailureClass

pytestmark = pytest.mark.usefixtures("docker_engine")


class Counting(Engine):
    """An engine that counts the containers that were asked for something."""

    asked = 0

    async def output(self, image: ImageInfo, *command: str, timeout_s: float = 30) -> tuple[int, bytes]:
        self.asked += 1
        return await super().output(image, *command, timeout_s=timeout_s)


@dataclass
class Bench:
    """Runtimes of an operator's settings on a real engine, with a clock that only moves when told."""

    engine: Counting
    memory: Path
    now: float = 100.0
    said: list[str] = field(default_factory=list)

    async def open(self, **env: str) -> ImageRuntimes:
        settings = from_env({f"RGRID_RUNNER_{name}": value for name, value in env.items()})
        runtimes = ImageRuntimes(self.engine, settings, self.memory, lambda: self.now)
        await runtimes.open()
        return runtimes


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What images have answered, for all tests: each asks only what is new to it."""
    return tmp_path_factory.mktemp("runtimes") / "images.json"


@pytest.fixture
async def bench(tmp_path: Path, memory: Path) -> AsyncIterator[Bench]:
    engine = Counting(f"test-{tmp_path.name}-{os.getpid()}")
    yield Bench(engine, memory)
    assert await engine.ours() == []
    await engine.close()


async def test_ready_made_images_that_are_here_are_offered(bench: Bench) -> None:
    """With the full version of what runs scripts in them; what is not here is not offered."""
    require_image(SHELL_IMAGE)
    runtimes = await bench.open()
    assert runtimes.offered["python3.11"].startswith("3.11.")
    assert runtimes.offered["bash"][0].isdigit()
    assert runtimes.images["python3.11"] == IMAGE
    assert require_image(IMAGE) in runtimes.image_ids
    assert "python-llm" not in runtimes.offered


async def test_an_image_is_asked_once(bench: Bench, tmp_path: Path) -> None:
    """The next agent on this host starts without a container."""
    bench.memory = tmp_path / "images.json"
    first = await bench.open()
    assert bench.engine.asked
    bench.engine.asked = 0
    assert (await bench.open()).offered == first.offered
    assert bench.engine.asked == 0
    assert json.loads(bench.memory.read_text())


async def test_the_scripts_language_finds_the_interpreter_of_an_image(bench: Bench) -> None:
    """In a runtime for scripts of any language, and in an image that a user may name."""
    runtimes = await bench.open(RUNTIMES=f"lab={IMAGE}", IMAGES="rgrid/*")
    python = await runtimes.interpreter("lab", "python", bench.said.append)
    assert python.is_python
    assert python.path.startswith("/")
    assert (python.image, python.image_id) == (IMAGE, require_image(IMAGE))
    bash = await runtimes.interpreter("lab", "bash", bench.said.append)
    assert (bash.implementation, bash.is_python) == ("bash", False)
    named = await runtimes.interpreter(f"{SHELL_IMAGE}:latest", "bash", bench.said.append)
    assert named.image_id == require_image(SHELL_IMAGE)
    assert bench.said == []


async def test_a_command_of_the_operator_runs_the_scripts_of_its_language(bench: Bench) -> None:
    """A Python is for Python scripts; a program of no known language is for all."""
    require_image(BARE_IMAGE)
    runtimes = await bench.open(RUNTIMES=f"lab={IMAGE}|/usr/bin/env,py={IMAGE}|python3.11,any={BARE_IMAGE}|awk")
    assert (await runtimes.interpreter("lab", "python", print)).path == "/usr/bin/env"
    assert (await runtimes.interpreter("py", "python", print)).path.endswith("/python3.11")
    assert (await runtimes.interpreter("py", "bash", print)).path.endswith("/bash")
    assert (await runtimes.interpreter("any", None, print)).path == "/bin/awk"


@pytest.mark.parametrize(
    ("runtime", "language", "failure", "words"),
    [
        (SHELL_IMAGE, "python", FailureClass.DEPENDENCIES, "runs python scripts"),
        (BARE_IMAGE, "bash", FailureClass.DEPENDENCIES, "runs bash scripts"),
        ("python3.11", "bash", FailureClass.DEPENDENCIES, "is for python scripts"),
        ("elsewhere.example/x", "python", FailureClass.INFRASTRUCTURE, "does not offer"),
        ("nothing", "python", FailureClass.INFRASTRUCTURE, "does not offer"),
        ("rgrid/nothing-of-that-name", "python", FailureClass.DEPENDENCIES, "no image"),
    ],
)
async def test_what_cannot_be_run_is_said(
    bench: Bench, runtime: str, language: str, failure: FailureClass, words: str
) -> None:
    """With the class that decides whether it is tried elsewhere. An image that may not be named is never looked at."""
    require_image(SHELL_IMAGE)
    require_image(BARE_IMAGE)
    runtimes = await bench.open(IMAGES="rgrid/*", PULL="never")
    with pytest.raises(BackendError, match=words) as caught:
        await runtimes.interpreter(runtime, language, bench.said.append)  # type: ignore[arg-type]
    assert caught.value.failure is failure


async def test_images_that_are_not_here_yet_are_offered_only_if_they_may_be_pulled(bench: Bench) -> None:
    """An operator's own, that is; their version is told when they are used."""
    wanted = "lab=elsewhere.invalid/lab/x:1"
    assert (await bench.open(RUNTIMES=wanted)).offered["lab"] == ""
    assert "lab" not in (await bench.open(RUNTIMES=wanted, PULL="never")).offered


async def test_a_bad_image_is_left_out_and_the_rest_is_offered(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """One wrong setting does not keep a host from working; the log names it."""
    with caplog.at_level(logging.WARNING):
        runtimes = await bench.open(RUNTIMES=f"bad={IMAGE}|/no/such/program")
    assert "bad" not in runtimes.offered
    assert "python3.11" in runtimes.offered
    assert "bad" in caplog.text


async def test_a_tag_that_was_moved_is_seen(bench: Bench, docker_engine: docker.DockerClient) -> None:
    """Within seconds, without a restart; until then a run costs no question."""
    tag = f"rgrid-test/moved:{os.getpid()}"
    python, shell = (docker_engine.images.get(name) for name in (IMAGE, SHELL_IMAGE))
    try:
        python.tag(tag)
        runtimes = await bench.open(RUNTIMES=f"lab={tag}")
        assert (await runtimes.interpreter("lab", "bash", print)).image_id == python.id
        shell.tag(tag)
        assert (await runtimes.interpreter("lab", "bash", print)).image_id == python.id
        bench.now += NAME_S
        assert (await runtimes.interpreter("lab", "bash", print)).image_id == shell.id
    finally:
        docker_engine.images.remove(tag)


@pytest.mark.parametrize(
    ("image", "command"),
    [
        (IMAGE, ["python3", "-c", "import zoneinfo; zoneinfo.ZoneInfo('Europe/Berlin'); print('ä')"]),
        (IMAGE, ["python3", "-c", "import bz2, ctypes, curses, lzma, sqlite3, uuid, venv, zlib"]),
        (IMAGE, ["python3", "-c", "import ssl; assert ssl.create_default_context().get_ca_certs()"]),
        (IMAGE, ["python3", "-c", "import os, pwd; assert pwd.getpwuid(os.getuid()).pw_name == 'rgrid'"]),
        (SHELL_IMAGE, ["bash", "-c", "set -e; for it in awk curl jq unzip xz zip; do command -v $it; done"]),
        (SHELL_IMAGE, ["bash", "-c", "! command -v python3"]),
        ("rgrid/ffmpeg", ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=d=0.2", "-f", "null", "-"]),
        ("rgrid/ffmpeg", ["python3", "-c", "import subprocess; subprocess.run(['ffprobe', '-version'], check=True)"]),
    ],
)  # fmt: skip
def test_images_have_what_scripts_expect(docker_engine: docker.DockerClient, image: str, command: list[str]) -> None:
    """As any user, on a read-only root, without a network."""
    require_image(image)
    docker_engine.containers.run(
        image, command, remove=True, user="10001:10001", read_only=True, network_mode="none", cap_drop=["ALL"]
    )


def test_a_node_image_runs_node(docker_engine: docker.DockerClient) -> None:
    """Whichever version this machine could get."""
    found = [
        tag
        for image in docker_engine.images.list(filters={"label": "io.rgrid.runtime"})
        for tag in image.tags
        if tag.startswith("rgrid/node:")
    ]
    if not found:
        pytest.skip("there is no image rgrid/node: make runtimes")
    for tag in found:
        said = docker_engine.containers.run(tag, ["node", "-p", "process.version"], remove=True, network_mode="none")
        assert said.decode().startswith(f"v{tag.partition(':')[2]}.")
