"""What a script finds around itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from rgrid_runner.interpreters import Interpreter
from rgrid_runner.layers import Layer
from rgrid_runner.workspace import Place
from rgrid_runner.world import ELSEWHERE, HOME, arguments, environment, executable, in_container, on_host

PYTHON = Interpreter("python3.11", "cpython", "3.11.7", "/opt/py/bin/python3.11")
CLAIM: Any = {"execution_id": "exe_1", "attempt": 2, "index": 7, "batch_id": "bat_1"}


def env(host: dict[str, str], layer: Layer | None = None, given: dict[str, str] | None = None) -> dict[str, str]:
    scene = on_host(Place(Path("/w")), host, {})
    program = executable(PYTHON, layer)
    return environment(CLAIM, scene, program, layer, given or {}, host=host, pass_env=("HTTP_PROXY",))


def test_nothing_of_the_runner_leaks_in() -> None:
    """Tokens and settings of the runner are not the script's."""
    made = env({"RGRID_RUNNER_TOKEN": "rgt_x", "PYTHONPATH": "/p", "HTTP_PROXY": "http://p", "VIRTUAL_ENV": "/v"})
    assert not {"RGRID_RUNNER_TOKEN", "PYTHONPATH", "VIRTUAL_ENV"} & made.keys()
    assert made["HTTP_PROXY"] == "http://p"
    assert made["RGRID_ITEM_INDEX"] == "7"
    assert made["TMPDIR"] == "/w/tmp"


def test_the_interpreter_comes_first_on_path_and_the_runners_own_not_at_all() -> None:
    """``python`` in a child process is the script's own."""
    own = str(Path(sys.prefix) / "bin")
    made = env({"PATH": f"{own}:/usr/bin:/opt/py/bin"})
    assert made["PATH"] == "/opt/py/bin:/usr/bin"


def test_a_layer_looks_like_an_activated_environment() -> None:
    """Programs that packages install are found."""
    layer = Layer("k", Path("/layers/k"), "/layers/k")
    made = env({"PATH": "/usr/bin"}, layer)
    assert made["PATH"].split(os.pathsep)[0] == "/layers/k/bin"
    assert made["VIRTUAL_ENV"] == "/layers/k"
    assert executable(PYTHON, layer) == "/layers/k/bin/python"


def test_text_is_utf_8() -> None:
    """A UTF-8 locale of the host is kept; any other gives way."""
    assert env({"LANG": "de_DE.UTF-8"})["LANG"] == "de_DE.UTF-8"
    assert env({"LANG": "C", "LC_ALL": "POSIX"})["LANG"] == "C.UTF-8"
    assert "LC_ALL" not in env({"LC_ALL": "POSIX"})


def test_what_the_user_gives_wins() -> None:
    """-e PATH=… is obeyed."""
    assert env({}, given={"PATH": "/mine", "X": "1"})["PATH"] == "/mine"


def test_arguments_stand_as_typed_and_paths_point_into_the_workspace() -> None:
    """Argv is what was typed, but for absolute paths of files that travelled."""
    spec: Any = {"script": {"kind": "file", "path": "a/s.py", "argv0": "./s.py", "name": "s"}}
    item: Any = {"args": ["-x", {"prefix": "--in=", "path": "d/x.csv", "original": "/data/d/x.csv"}]}
    assert arguments(spec, item, "py", "/w/root") == ("py", "./s.py", "-x", "--in=/w/root/d/x.csv")
    module: Any = {"script": {"kind": "module", "path": "pkg.tool", "argv0": "pkg.tool", "name": "m"}}
    assert arguments(module, {"args": [], "files": [], "name": "", "output_name": ""}, "py", "/w") == (
        "py",
        "-m",
        "pkg.tool",
    )


@pytest.mark.parametrize(
    ("root", "seen"),
    [
        ("/home/ada/proj", "/home/ada/proj"),
        ("/root", "/root"),
        ("/data", "/data"),
        ("/tmp/x", "/tmp/x"),
        ("/opt/proj", "/opt/proj"),
        ("/Users/ada", "/Users/ada"),
        ("/", ELSEWHERE),
        ("/usr/src/app", ELSEWHERE),
        ("/etc", ELSEWHERE),
        ("/opt", ELSEWHERE),
        ("/opt/rgrid/layer", ELSEWHERE),
        ("/rgrid/ctl", ELSEWHERE),
        ("/tmp", ELSEWHERE),
        ("/home", ELSEWHERE),
        ("/data/../etc", ELSEWHERE),
        ("//etc", ELSEWHERE),
        ("C:/proj", ELSEWHERE),
    ],
)
def test_a_container_shows_the_workspace_at_the_users_own_path(root: str, seen: str) -> None:
    """Absolute paths and tracebacks are the user's own, unless the image has its system there."""
    assert in_container(Place(Path("/w")), root, None, {}).root == seen


def test_a_container_brings_its_images_environment() -> None:
    """What the image sets stays, but home and user are the container's; only the layer is mounted read-only."""
    layer = Layer("k", Path("/layers/k"), "/opt/rgrid/layer")
    scene = in_container(Place(Path("/w")), "/data", layer, {"PATH": "/cuda/bin:/bin", "CUDA": "12", "HOME": "/x"})
    made = environment(CLAIM, scene, executable(PYTHON, layer), layer, {}, host={"PATH": "/h"}, pass_env=())
    assert (made["CUDA"], made["HOME"], made["USER"]) == ("12", HOME, "rgrid")
    assert made["PATH"] == "/opt/rgrid/layer/bin:/cuda/bin:/bin"
    assert [(str(mount.source), mount.target, mount.writable) for mount in scene.mounts] == [
        ("/w/disk/home", HOME, True),
        ("/w/disk/root", "/data", True),
        ("/layers/k", "/opt/rgrid/layer", False),
    ]
