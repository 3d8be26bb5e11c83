"""What a script finds around itself: its arguments and its environment, as close to a local run as can be."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rgrid_runner.interpreters import Interpreter
from rgrid_runner.layers import Layer
from rgrid_runner.workspace import Place, render
from rgrid_shared.protocol import Claim
from rgrid_shared.specs import Item, Spec

_DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LOCALE: Final = ("LC_ALL", "LC_CTYPE", "LANG")


def arguments(spec: Spec, item: Item, interpreter: str, root: Path) -> tuple[str, ...]:
    """The command line: interpreter, script (or ``-m module``), arguments."""
    script = spec["script"]
    first = ("-m", script["path"]) if script["kind"] == "module" else (render(script["argv0"], root),)
    return (interpreter, *first, *(render(argument, root) for argument in item["args"]))


def executable(interpreter: Interpreter, layer: Layer | None) -> str:
    """The program that runs the script."""
    return interpreter.path if layer is None else str(layer.path / "bin" / "python")


def environment(
    claim: Claim,
    place: Place,
    interpreter: Interpreter,
    layer: Layer | None,
    given: Mapping[str, str],
    *,
    host: Mapping[str, str],
    pass_env: tuple[str, ...],
) -> dict[str, str]:
    """The script's whole environment: a clean base, what the runner adds, what the user gave (which wins)."""
    account = pwd.getpwuid(os.getuid())
    directory = str(Path(executable(interpreter, layer)).parent)
    env = {
        "PATH": os.pathsep.join([directory, *_path(host, directory)]),
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "SHELL": account.pw_shell or "/bin/sh",
        "TMPDIR": str(place.tmp),
        "PYTHONUNBUFFERED": "1",
        "RGRID_EXECUTION_ID": claim["execution_id"],
        "RGRID_ATTEMPT": str(claim["attempt"]),
        "RGRID_ITEM_INDEX": str(claim["index"]),
        "RGRID_BATCH_ID": claim["batch_id"],
    }
    env |= _locale(host)
    env |= {name: host[name] for name in ("TZ", *pass_env) if name in host}
    if layer is not None:
        env["VIRTUAL_ENV"] = str(layer.path)
    return {**env, **given}


def _path(host: Mapping[str, str], first: str) -> list[str]:
    """The host's PATH without the runner's own environment, which is none of the script's."""
    own = str(Path(sys.prefix) / "bin") if sys.prefix != sys.base_prefix else ""
    return [part for part in host.get("PATH", _DEFAULT_PATH).split(os.pathsep) if part not in {"", own, first}]


def _locale(host: Mapping[str, str]) -> dict[str, str]:
    effective = next((host[name] for name in _LOCALE if host.get(name)), "")
    if "utf8" in effective.lower().replace("-", ""):
        return {name: host[name] for name in _LOCALE if host.get(name)}
    return {"LANG": "C.UTF-8"}
