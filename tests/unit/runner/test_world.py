"""What a script finds around itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from rgrid_runner.interpreters import Interpreter
from rgrid_runner.layers import Layer
from rgrid_runner.workspace import Place
from rgrid_runner.world import arguments, environment, executable

PYTHON = Interpreter("python3.11", "cpython", "3.11.7", "/opt/py/bin/python3.11")
CLAIM: Any = {"execution_id": "exe_1", "attempt": 2, "index": 7, "batch_id": "bat_1"}


def env(host: dict[str, str], layer: Layer | None = None, given: dict[str, str] | None = None) -> dict[str, str]:
    return environment(CLAIM, Place(Path("/w")), PYTHON, layer, given or {}, host=host, pass_env=("HTTP_PROXY",))


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
    layer = Layer("k", Path("/layers/k"))
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
    assert arguments(spec, item, "py", Path("/w/root")) == ("py", "./s.py", "-x", "--in=/w/root/d/x.csv")
    module: Any = {"script": {"kind": "module", "path": "pkg.tool", "argv0": "pkg.tool", "name": "m"}}
    assert arguments(module, {"args": [], "files": [], "name": "", "output_name": ""}, "py", Path("/w")) == (
        "py",
        "-m",
        "pkg.tool",
    )
