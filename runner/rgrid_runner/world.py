"""What a script finds around itself: its paths, arguments and environment, as close to a local run as can be."""

from __future__ import annotations

import os
import posixpath
import pwd
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rgrid_runner.backends.base import Mount
from rgrid_runner.interpreters import Interpreter
from rgrid_runner.layers import Layer
from rgrid_runner.workspace import Place, render
from rgrid_shared.protocol import Claim
from rgrid_shared.specs import Item, Spec

HOME: Final = "/rgrid/home"
"""A script's home in a container, empty at the start."""
ELSEWHERE: Final = "/rgrid/work"
"""Where a workspace is in a container that cannot show it at the user's own path."""
_USER: Final = "rgrid"
_DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LOCALE: Final = ("LC_ALL", "LC_CTYPE", "LANG")
_SYSTEM: Final = {
    "bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "rgrid", "run", "sbin", "sys", "usr",
}  # fmt: skip
_NOT_WHOLE: Final = {"/home", "/opt", "/tmp", "/var"}  # noqa: S108
_LAYERS: Final = "/opt/rgrid"


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a script runs, as it sees it. ``root``: the workspace; ``path``: what PATH starts from.

    ``base``: variables that its surroundings bring along; what rgrid and the user set wins over them. ``devices``:
    variables that nothing wins over.
    """

    root: str
    home: str
    user: str
    shell: str
    path: str
    base: Mapping[str, str]
    mounts: tuple[Mount, ...] = ()
    devices: Mapping[str, str] = field(default_factory=dict)


def on_host(place: Place, host: Mapping[str, str], devices: Mapping[str, str]) -> Scene:
    """A script that is an ordinary process: the agent's own account, PATH and locale.

    ``host``: the agent's environment. ``devices``: what tells the script which GPUs are its own.
    """
    account = pwd.getpwuid(os.getuid())
    return Scene(
        str(place.root),
        account.pw_dir,
        account.pw_name,
        account.pw_shell or "/bin/sh",
        _host_path(host),
        {"TMPDIR": str(place.tmp), **_locale(host)},
        devices=devices,
    )


def in_container(place: Place, root: str, layer: Layer | None, image: Mapping[str, str]) -> Scene:
    """A script in a container. ``root``: the workspace's path at the client; ``image``: the image's environment.

    The workspace appears at the client's own path, so absolute paths, messages and tracebacks are the same as there,
    unless the image has its system at that place.
    """
    seen = root if _may_stand(root) else ELSEWHERE
    mounts = [Mount(place.home, HOME, writable=True), Mount(place.root, seen, writable=True)]
    if layer is not None:
        mounts.append(Mount(layer.path, layer.seen))
    path = image.get("PATH") or _DEFAULT_PATH
    return Scene(seen, HOME, _USER, "/bin/sh", path, {**image, **_locale(image)}, tuple(mounts))


def _may_stand(root: str) -> bool:
    """True if a workspace can be put over this path of an image."""
    if not root.startswith("/") or posixpath.normpath(root) != root or "\0" in root or root.startswith("//"):
        return False
    first = root.split("/")[1]
    if not first or first in _SYSTEM or root in _NOT_WHOLE:
        return False
    return root != _LAYERS and not root.startswith(f"{_LAYERS}/")


def arguments(spec: Spec, item: Item, interpreter: str, root: str) -> tuple[str, ...]:
    """The command line: interpreter, script (or ``-m module``), arguments. ``root``: the workspace as it sees it."""
    script = spec["script"]
    first = ("-m", script["path"]) if script["kind"] == "module" else (render(script["argv0"], root),)
    return (interpreter, *first, *(render(argument, root) for argument in item["args"]))


def executable(interpreter: Interpreter, layer: Layer | None) -> str:
    """The program that runs the script."""
    return interpreter.path if layer is None else f"{layer.seen}/bin/python"


def environment(
    claim: Claim,
    scene: Scene,
    program: str,
    layer: Layer | None,
    given: Mapping[str, str],
    *,
    host: Mapping[str, str],
    pass_env: tuple[str, ...],
) -> dict[str, str]:
    """The script's whole environment: a clean base, what the runner adds, what the user gave, which GPUs are its own.

    What comes later wins. ``program``: what runs the script; its directory comes first on PATH.
    """
    directory = os.path.dirname(program)  # noqa: PTH120 - a path of another file system, or a bare name
    parts = [part for part in scene.path.split(":") if part not in {"", directory}]
    env = {
        **scene.base,
        "PATH": ":".join([directory, *parts] if directory else parts),
        "HOME": scene.home,
        "USER": scene.user,
        "LOGNAME": scene.user,
        "SHELL": scene.shell,
        "PYTHONUNBUFFERED": "1",
        "RGRID_EXECUTION_ID": claim["execution_id"],
        "RGRID_ATTEMPT": str(claim["attempt"]),
        "RGRID_ITEM_INDEX": str(claim["index"]),
        "RGRID_BATCH_ID": claim["batch_id"],
    }
    env |= {name: host[name] for name in ("TZ", *pass_env) if name in host}
    if layer is not None:
        env["VIRTUAL_ENV"] = layer.seen
    return {**env, **given, **scene.devices}


def _host_path(host: Mapping[str, str]) -> str:
    """The host's PATH without the runner's own environment, which is none of the script's."""
    own = str(Path(sys.prefix) / "bin") if sys.prefix != sys.base_prefix else ""
    return ":".join(part for part in host.get("PATH", _DEFAULT_PATH).split(":") if part != own)


def _locale(host: Mapping[str, str]) -> dict[str, str]:
    effective = next((host[name] for name in _LOCALE if host.get(name)), "")
    if "utf8" in effective.lower().replace("-", ""):
        return {name: host[name] for name in _LOCALE if host.get(name)}
    return {"LANG": "C.UTF-8"}
