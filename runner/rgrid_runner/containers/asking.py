"""What is asked of the Docker engine, in its SDK's words: synchronous functions over a client."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rgrid_runner.backends.base import BackendError
from rgrid_runner.containers import host
from rgrid_runner.containers.layout import UID
from rgrid_shared.states import FailureClass

LABEL: Final = "io.rgrid.runner"
_PIDS: Final = 32768
"""Most processes of a container before a run's own limit is set."""
_FILES: Final = 65536
_DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_GO_DIRECTORY: Final = 1 << 31
"""The engine gives modes as Go writes them."""
_BAD_NAME: Final = 400
_UNDER_WAY: Final = 409
_REMOVAL_S: Final = 20


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """An image that is present. ``id`` names its content; ``digest`` is what its registry calls it, "" if none does.

    ``name``: how people call it. ``env``: what the image sets. ``volumes``: the places that it declares to be volumes.
    """

    name: str
    id: str
    digest: str
    env: Mapping[str, str]
    volumes: tuple[str, ...]

    @property
    def path(self) -> tuple[str, ...]:
        """The directories of the image's PATH."""
        return tuple(part for part in (self.env.get("PATH") or _DEFAULT_PATH).split(":") if part.startswith("/"))


@dataclass(frozen=True, slots=True)
class Bind:
    """A directory of the host, read-only in the container at ``target``."""

    source: Path
    target: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A container to be.

    ``network``: a network's name, or ``none``. ``gpus``: device ids. ``env``: added to the image's. ``keep``: leave it
    and what it said when it has ended, until it is removed.
    """

    name: str
    image: ImageInfo
    command: tuple[str, ...]
    network: str
    binds: tuple[Bind, ...] = ()
    gpus: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """A container that runs. ``pid``: of its PID 1, on the host. ``merged``: its root directory on the host."""

    id: str
    pid: int
    merged: Path


def create(client: Any, runner: str, plan: Plan) -> str:
    """Create a container of ``runner``; its id."""
    config = client.create_container_config(
        plan.image.id,
        list(plan.command[1:]),
        entrypoint=[plan.command[0]],
        user=f"{UID}:{UID}",
        # Images for GPUs say "all", which an engine whose default runtime is NVIDIA's would take as an order.
        environment=dict(plan.env) | ({} if plan.gpus else {"NVIDIA_VISIBLE_DEVICES": "void"}),
        working_dir="/",
        labels={LABEL: runner},
        host_config=client.create_host_config(**_host_config(plan)),
        healthcheck={"test": ["NONE"]},
    )
    return str(client.create_container_from_config(config, plan.name)["Id"])


def start(client: Any, container: str) -> Started:
    """Start a container; where it is on this host."""
    client.start(container)
    facts = client.inspect_container(container)
    pid = int(facts["State"]["Pid"])
    if pid == 0:
        raise BackendError("A container ended as soon as it was started.", FailureClass.INFRASTRUCTURE)
    host.check_sight(pid, container)
    return Started(container, pid, host.merged(facts, pid))


def ours(client: Any, runner: str) -> list[str]:
    """The ids of all containers that carry the label of ``runner``."""
    found = client.containers(all=True, quiet=True, filters={"label": [f"{LABEL}={runner}"]})
    return [str(container["Id"]) for container in found]


def programs(client: Any, runner: str, image: ImageInfo, names: tuple[str, ...]) -> dict[str, str]:
    """Where programs are in an image, by the files of a container that is never started."""
    plan = Plan(f"rgrid-{runner}-look-{os.urandom(4).hex()}", image, ("/",), "none")
    container = create(client, runner, plan)
    try:
        found = {}
        for name in names:
            places = (f"{directory.rstrip('/')}/{name}" for directory in image.path)
            if place := next((path for path in places if _is_program(client, container, path)), ""):
                found[name] = place
        return found
    finally:
        remove(client, container)


def _host_config(plan: Plan) -> dict[str, Any]:
    from docker.types import DeviceRequest, LogConfig, Mount, Ulimit

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = _FILES if most == resource.RLIM_INFINITY else min(_FILES, most)  # more than its own no engine can give
    config: dict[str, Any] = {
        "auto_remove": not plan.keep,
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "network_mode": plan.network,
        "ipc_mode": "private",
        "pids_limit": _PIDS,
        "ulimits": [Ulimit(name="nofile", soft=files, hard=files), Ulimit(name="core", soft=0, hard=0)],
        "log_config": LogConfig(type=LogConfig.types.JSON, config={"max-size": "1m"})
        if plan.keep
        else LogConfig(type=LogConfig.types.NONE),
        "init": False,
        "mounts": [Mount(bind.target, os.fspath(bind.source), type="bind", read_only=True) for bind in plan.binds],
        # A volume that the image declares would be a place to write to that nobody bounds or empties.
        "tmpfs": dict.fromkeys(plan.image.volumes, "ro,size=4k,nosuid,nodev,noexec"),
    }
    if plan.gpus:
        what = ["gpu", "compute", "utility", "video"]  # the last for encoders, which are not given otherwise
        config["device_requests"] = [DeviceRequest(device_ids=list(plan.gpus), capabilities=[what])]
    return config


def image(client: Any, ref: str) -> ImageInfo | None:
    """An image that is present, or None. BackendError for what is no name."""
    from docker.errors import APIError, NotFound

    try:
        return _image_info(client.inspect_image(ref))
    except NotFound:
        return None
    except APIError as error:
        if error.status_code != _BAD_NAME:
            raise
        raise BackendError(f"{ref!r} is no image's name.", FailureClass.DEPENDENCIES) from error


def _image_info(found: Mapping[str, Any]) -> ImageInfo:
    config = found.get("Config") or {}
    digests = [text.partition("@")[2] for text in found.get("RepoDigests") or ()]
    pairs = (text.partition("=") for text in config.get("Env") or ())
    return ImageInfo(
        next(iter(sorted(found.get("RepoTags") or ())), str(found["Id"])),
        str(found["Id"]),
        next(iter(sorted(digests)), ""),
        {name: value for name, _, value in pairs},
        tuple(sorted(config.get("Volumes") or ())),
    )


def _is_program(client: Any, container: str, path: str) -> bool:
    """True if the image has a file there that may be executed; links are followed inside the image."""
    from docker.errors import NotFound

    for _ in range(2):
        try:
            stream, facts = client.get_archive(container, path)
        except NotFound:
            return False
        stream.close()
        if not facts["linkTarget"]:
            mode = int(facts["mode"])
            return bool(mode & 0o111) and not mode & _GO_DIRECTORY
        path = facts["linkTarget"]  # where all links lead, as the engine says
    return False


def remove(client: Any, container: str) -> None:
    """Kill and remove a container; no error if it is gone."""
    from docker.errors import APIError, NotFound

    try:
        client.remove_container(container, force=True, v=True)
    except NotFound:
        return
    except APIError as error:
        if error.status_code != _UNDER_WAY:
            raise
        with suppress(NotFound):  # it ended, and the engine is at it
            client.wait(container, condition="removed", timeout=_REMOVAL_S)


def run(client: Any, container: str, timeout_s: float) -> tuple[int, bytes]:
    """Start a container that is kept and wait for its end: exit code and stdout."""
    from requests.exceptions import RequestException

    client.start(container)
    try:
        code = int(client.wait(container, timeout=timeout_s)["StatusCode"])
    except RequestException as error:
        raise BackendError(
            f"A command in a container did not end within {timeout_s:g} s.", FailureClass.INFRASTRUCTURE
        ) from error
    return code, bytes(client.logs(container, stdout=True, stderr=False))


@contextmanager
def in_words() -> Iterator[None]:
    """Turn what the SDK raises into BackendError (INFRASTRUCTURE), with what to do about it."""
    from docker.errors import APIError, DockerException
    from requests.exceptions import RequestException

    try:
        yield
    except APIError as error:
        text = str(error.explanation or error)
        if "device driver" in text or "nvidia" in text:
            raise BackendError(
                f"The Docker engine cannot give a GPU to a container: {text}",
                FailureClass.INFRASTRUCTURE,
                hint="Install the NVIDIA container toolkit and restart the engine.",
            ) from error
        raise BackendError(f"The Docker engine refused: {text}", FailureClass.INFRASTRUCTURE) from error
    except (DockerException, RequestException, OSError) as error:
        raise BackendError(
            f"The Docker engine does not answer: {error}",
            FailureClass.INFRASTRUCTURE,
            hint="Is it running? docker info tells.",
        ) from error
