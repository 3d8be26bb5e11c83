"""``rgrid run s.py …`` shows, exits with and leaves what ``python s.py …`` does, for a corpus of varied scripts.

A case is a directory under ``scripts/``: ``main.py``, the files around it, and optionally ``case.toml`` with
``script``, ``module``, ``args`` (``{root}`` is the case's own directory), ``cwd``, ``stdin``, ``stdin_bytes``,
``stdin_file``, ``env``, ``options`` (of rgrid) and ``interpreter``.

The one difference that is allowed, and only to the process backend: the workspace lies in another directory than the
user's, so its path is put in place of the user's before streams are compared. A container has it at its own path, but
an interpreter of its own, whose library lies elsewhere: frames of that are compared without path and line.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.grid import RGRID, Grid, Ran, run, user_python

SCRIPTS = Path(__file__).parent / "scripts"
CASES = sorted(path.name for path in SCRIPTS.iterdir() if path.is_dir())
WORKSPACE = re.compile(rb"/[^\s\"']*?/work/exe_[0-9a-z]+\.\d+/disk/root")
LIBRARY = re.compile(rb'File "[^"]*/lib/python3\.\d+/([^"]*)", line \d+')
OURS = re.compile(rb"^rgrid: .*\n", re.MULTILINE)


@dataclass(frozen=True)
class Case:
    """One script and how it is called, in a directory of its own."""

    root: Path
    facts: Mapping[str, Any]

    @property
    def cwd(self) -> Path:
        return self.root / str(self.facts.get("cwd", "."))

    @property
    def args(self) -> list[str]:
        return [arg.replace("{root}", str(self.root)) for arg in self.facts.get("args", [])]

    @property
    def script(self) -> list[str]:
        if module := self.facts.get("module"):
            return ["-m", module]
        return [self.facts.get("script", "main.py")]

    @property
    def stdin(self) -> bytes | None:
        if "stdin" in self.facts:
            return str(self.facts["stdin"]).encode()
        if size := int(self.facts.get("stdin_bytes", 0)):
            return bytes(number % 251 for number in range(size))
        if size := int(self.facts.get("stdin_bytes_text", 0)):
            return (b"a line of input\n" * (size // 16 + 1))[:size]
        return None


def lay_out(name: str, place: Path) -> Case:
    shutil.copytree(SCRIPTS / name, place)
    facts: Mapping[str, Any] = {}
    if (place / "case.toml").exists():
        facts = tomllib.loads((place / "case.toml").read_text())
        (place / "case.toml").unlink()
    return Case(place, facts)


def call(case: Case, argv: list[str], env: Mapping[str, str]) -> Ran:
    env = {**env, **case.facts.get("env", {})}
    if name := case.facts.get("stdin_file"):
        with (case.root / name).open("rb") as file:
            done = subprocess.run(
                argv, cwd=case.cwd, env=env, stdin=file, capture_output=True, timeout=120, check=False
            )
            return Ran(done.returncode, done.stdout, done.stderr)
    return run(argv, cwd=case.cwd, stdin=case.stdin, env=env)


def tree(root: Path) -> dict[str, tuple[str, int, bytes]]:
    """Everything below ``root`` but byte code: kind, permission bits, content or link target."""
    found: dict[str, tuple[str, int, bytes]] = {}
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if name != "__pycache__"]
        for name in [*names, *files]:
            path = Path(folder, name)
            mode = path.lstat().st_mode
            key = str(path.relative_to(root))
            if stat.S_ISLNK(mode):
                found[key] = ("link", 0, os.readlink(path).encode())
            elif stat.S_ISDIR(mode):
                found[key] = ("dir", stat.S_IMODE(mode), b"")
            else:
                found[key] = ("file", stat.S_IMODE(mode), path.read_bytes())
    return found


def plain(stream: bytes, root: Path) -> bytes:
    """The stream with every root directory, local or on the runner, written as ``<root>``."""
    stream = LIBRARY.sub(rb'File "<library>/\1"', WORKSPACE.sub(b"<root>", stream))
    return stream.replace(str(root).encode(), b"<root>")


@pytest.fixture(params=["process", "docker"])
def backend(request: pytest.FixtureRequest) -> Grid:
    """A grid with each backend."""
    name = {"process": "grid", "docker": "docker_grid"}[request.param]
    grid = request.getfixturevalue(name)
    assert isinstance(grid, Grid)
    return grid


@pytest.mark.parametrize("name", CASES)
def test_a_script_behaves_as_it_does_locally(name: str, backend: Grid, tmp_path: Path) -> None:
    """Same stdout, stderr, exit code and files as a local run."""
    grid = backend
    here, there = lay_out(name, tmp_path / "here"), lay_out(name, tmp_path / "there")
    local_env = {**grid.env(), "PYTHONUNBUFFERED": "1"}
    interpreter = shutil.which(here.facts["interpreter"]) if "interpreter" in here.facts else user_python()
    assert interpreter
    local = call(here, [interpreter, *here.script, *here.args], local_env)
    command = [*RGRID, "run", *there.facts.get("options", []), *there.script, *there.args]
    remote = call(there, command, grid.env(SECRET_OF_THE_LAPTOP="1"))

    code = local.code if local.code >= 0 else 128 - local.code
    assert plain(OURS.sub(b"", remote.err), there.root) == plain(local.err, here.root)
    assert plain(remote.out, there.root) == plain(local.out, here.root)
    assert remote.code == code
    assert tree(there.root) == tree(here.root)


def test_the_corpus_is_large_enough() -> None:
    """At least forty varied scripts stand in the corpus."""
    assert len(CASES) >= 40
