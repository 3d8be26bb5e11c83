"""The engine's verbs, on the engine of this machine."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import docker
import pytest
from support.engine import IMAGE, require_image

from rgrid_runner.backends.base import BackendError
from rgrid_runner.containers import asking, host
from rgrid_runner.containers.asking import Bind, Plan
from rgrid_runner.containers.engine import Engine
from rgrid_shared.errors import UsageError
from rgrid_shared.states import FailureClass

pytestmark = pytest.mark.usefixtures("docker_engine")
INFO = {"OSType": "linux", "Driver": "overlay2", "CgroupVersion": "2", "ServerVersion": "27.1"}


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    it = Engine(f"test-{tmp_path.name}-{os.getpid()}")
    yield it
    for container in await it.ours():
        await it.remove(container)
    await it.close()


async def test_the_engine_of_this_host_will_do(engine: Engine) -> None:
    """What CI runs on can have containers."""
    info = await engine.check()
    assert info.version
    assert info.cgroup in (1, 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"OSType": "windows"}, "Linux containers"),
        ({"SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]}, "rootless"),
        ({"SecurityOptions": ["name=userns"]}, "userns-remap"),
        ({"Driver": "vfs"}, "vfs"),
    ],
)
def test_an_engine_that_cannot_be_used_is_refused_in_words(change: dict[str, Any], words: str) -> None:
    """At start, not at the first script."""
    assert host.engine_info(INFO).cgroup == 2
    with pytest.raises(UsageError, match=words):
        host.engine_info(INFO | change)


async def test_no_engine_is_infrastructure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An engine that is down is the host's fault, and how to see it is said."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    engine = Engine("test")
    with pytest.raises(BackendError, match="does not answer") as caught:
        await engine.check()
    assert caught.value.failure is FailureClass.INFRASTRUCTURE
    assert "docker info" in caught.value.hint
    await engine.close()


async def test_a_container_is_as_closed_as_can_be(engine: Engine, docker_engine: docker.DockerClient) -> None:
    """Everything that hardens a container is asked for."""
    image = await engine.image(IMAGE)
    bind = Bind(Path("/usr/share/zoneinfo"), "/rgrid/zones")
    container = await engine.create(Plan("rgrid-test-closed", image, ("/bin/sleep", "9"), "none", (bind,)))
    facts = docker_engine.api.inspect_container(container)
    config = facts["HostConfig"]
    assert config["ReadonlyRootfs"] is True
    assert config["CapDrop"] == ["ALL"]
    assert not config["CapAdd"]
    assert config["SecurityOpt"] == ["no-new-privileges"]  # and so the default seccomp profile
    assert config["Privileged"] is False
    assert config["NetworkMode"] == "none"
    assert config["IpcMode"] == "private"
    assert config["PidMode"] == config["UTSMode"] == config["UsernsMode"] == ""
    assert config["AutoRemove"] is True
    assert config["LogConfig"]["Type"] == "none"
    assert config["PidsLimit"] > 0
    assert facts["Config"]["User"] == "10001:10001"
    assert facts["Config"]["Labels"][asking.LABEL] == engine.runner
    assert facts["Config"]["Healthcheck"] == {"Test": ["NONE"]}
    assert [(mount["Destination"], mount["RW"]) for mount in facts["Mounts"]] == [("/rgrid/zones", False)]


async def test_started_says_where_it_is_on_this_host(engine: Engine) -> None:
    """The process and the root directory are the container's."""
    image = await engine.image(IMAGE)
    started = await engine.start(await engine.create(Plan("rgrid-test-up", image, ("/bin/sleep", "999"), "none")))
    assert Path(f"/proc/{started.pid}/cmdline").read_bytes() == b"/bin/sleep\x00999\x00"
    assert (started.merged / "bin/sleep").exists()
    assert await engine.ours() == [started.id]
    await engine.remove(started.id)
    await engine.remove(started.id)
    assert not Path(f"/proc/{started.pid}").exists()
    assert await engine.ours() == []


async def test_what_cannot_be_started_leaves_nothing(engine: Engine) -> None:
    """A container that the engine refuses to start is removed."""
    image = await engine.image(IMAGE)
    container = await engine.create(Plan("rgrid-test-bad", image, ("/nowhere",), "none"))
    with pytest.raises(BackendError, match="nowhere"):
        await engine.start(container)
    assert await engine.ours() == []


async def test_programs_are_found_without_running_any(engine: Engine) -> None:
    """The first on the image's PATH; links are followed, directories are none."""
    image = await engine.image(IMAGE)
    found = await engine.programs(image, ("python3", "sh", "nope"))
    assert found.keys() == {"python3", "sh"}
    assert found["sh"].endswith("/sh")
    code, out = await engine.output(image, found["python3"], "-c", "print(7); raise SystemExit(3)")
    assert (code, out) == (3, b"7\n")
    assert await engine.ours() == []


async def test_a_command_that_does_not_end_is_ended(engine: Engine) -> None:
    """Nothing is left of it."""
    image = await engine.image(IMAGE)
    with pytest.raises(BackendError, match="did not end"):
        await engine.output(image, "/bin/sleep", "999", timeout_s=0.5)
    assert await engine.ours() == []


class Registry(BaseHTTPRequestHandler):
    """As much of a registry as a pull needs."""

    blobs: ClassVar[dict[str, bytes]] = {}
    manifest: ClassVar[bytes] = b""
    manifest_type = "application/vnd.docker.distribution.manifest.v2+json"

    def do_GET(self) -> None:
        blob = self.blobs.get(self.path.rpartition("/")[2], b"")
        if self.path == "/v2/":
            self._answer(200, b"{}", "application/json")
        elif "/blobs/" in self.path and blob:
            self._answer(200, blob, "application/octet-stream")
        elif self.path.startswith("/v2/lab/tool/manifests/"):
            self._answer(200, self.manifest, self.manifest_type)
        else:
            problem = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
            self._answer(404, json.dumps(problem).encode(), "application/json")

    do_HEAD = do_GET  # noqa: N815 - the server's word

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Content-Digest", digest(body))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer() -> bytes:
    """A tar archive with one file of a megabyte."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("data")
        info.size = 1 << 20
        tar.addfile(info, io.BytesIO(os.urandom(info.size)))
    return buffer.getvalue()


@pytest.fixture
def registry(docker_engine: docker.DockerClient) -> Iterator[str]:
    """Where a registry is that has one image, ``lab/tool``, which is gone from the engine afterwards."""
    content = layer()
    packed = gzip.compress(content)
    config = {
        "architecture": docker_engine.info()["Architecture"].replace("x86_64", "amd64").replace("aarch64", "arm64"),
        "os": "linux",
        "config": {"Env": ["PATH=/opt/tool/bin:/bin", "A=b=c"], "Volumes": {"/data": {}}},
        "rootfs": {"type": "layers", "diff_ids": [digest(content)]},
    }
    image = json.dumps(config).encode()
    Registry.blobs = {digest(packed): packed, digest(image): image}
    Registry.manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": Registry.manifest_type,
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "size": len(image),
                "digest": digest(image),
            },
            "layers": [
                {
                    "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                    "size": len(packed),
                    "digest": digest(packed),
                }
            ],
        }
    ).encode()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"127.0.0.1:{server.server_address[1]}"
    yield address
    server.shutdown()
    thread.join()
    server.server_close()
    for found in docker_engine.images.list(f"{address}/lab/tool"):
        docker_engine.images.remove(str(found.id), force=True)


async def test_an_image_is_pulled_once_and_said(engine: Engine, registry: str) -> None:
    """Pulled with its progress when it is not there; when it is, nothing is asked of the registry."""
    lines: list[str] = []
    image = await engine.image(f"{registry}/lab/tool:1", lines.append)
    assert lines[0] == f"Pulling the image {registry}/lab/tool:1"
    assert lines[-1].startswith(f"Pulled the image {registry}/lab/tool:1: 1 of 1 layers")
    assert image.env["A"] == "b=c"
    assert image.path == ("/opt/tool/bin", "/bin")
    assert image.volumes == ("/data",)
    assert image.digest.startswith("sha256:")
    Registry.manifest = b""
    assert await engine.image(f"{registry}/lab/tool:1", lines.append) == image
    assert await engine.image(image.id) == image
    assert len(lines) == 2


async def test_a_volume_of_the_image_cannot_be_written(
    engine: Engine, registry: str, docker_engine: docker.DockerClient
) -> None:
    """What an image declares to be a volume would be a place that nobody bounds: it is empty and read-only."""
    image = await engine.image(f"{registry}/lab/tool:1")
    container = await engine.create(Plan("rgrid-test-volume", image, ("/x",), "none"))
    facts = docker_engine.api.inspect_container(container)
    assert facts["Mounts"] == []
    assert facts["HostConfig"]["Tmpfs"]["/data"].startswith("ro,")


@pytest.mark.parametrize("name", ["{registry}/lab/other:1", "Not A Name"])
async def test_an_image_that_does_not_exist_is_the_user_s_fault(engine: Engine, registry: str, name: str) -> None:
    """It is not tried again elsewhere."""
    with pytest.raises(BackendError) as caught:
        await engine.image(name.format(registry=registry))
    assert caught.value.failure is FailureClass.DEPENDENCIES
    assert name.format(registry=registry) in caught.value.message


async def test_a_registry_that_does_not_answer_is_infrastructure(engine: Engine) -> None:
    """It may well be there on the next try, or on another host."""
    with pytest.raises(BackendError, match="cannot be pulled now") as caught:
        await engine.image("127.0.0.1:9/lab/tool:1")
    assert caught.value.failure is FailureClass.INFRASTRUCTURE


async def test_an_unknown_id_is_not_pulled(engine: Engine) -> None:
    """An id names no registry."""
    with pytest.raises(BackendError, match="no image sha256:00"):
        await engine.image("sha256:" + "00" * 32)


async def test_gpus_where_there_are_none_are_said_so(engine: Engine, docker_engine: docker.DockerClient) -> None:
    """Without the vendor's toolkit the engine's answer becomes one that tells what to install."""
    if "nvidia" in docker_engine.info()["Runtimes"]:
        pytest.skip("this engine can give GPUs")
    image = await engine.image(require_image(IMAGE))
    plan = Plan("rgrid-test-gpu", image, ("/bin/true",), "none", gpus=("GPU-1",))
    with pytest.raises(BackendError, match="GPU") as caught:
        await engine.start(await engine.create(plan))
    assert "toolkit" in caught.value.hint
