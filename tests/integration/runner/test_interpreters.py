"""The interpreters of this host."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from rgrid_runner import interpreters
from rgrid_runner.interpreters import discover

MINOR = f"python{sys.version_info[0]}.{sys.version_info[1]}"


def test_the_running_interpreter_is_found_under_its_minor_version(tmp_path: Path) -> None:
    """With its full version, and as the real program rather than a version manager's shim or an environment's link."""
    found = discover({}, tmp_path / "kept.json")[MINOR]
    assert found.version == ".".join(map(str, sys.version_info[:3]))
    assert found.path == sys._base_executable  # type: ignore[attr-defined]
    assert found.full_name == f"cpython-{found.version}"


def test_a_named_interpreter_is_taken_as_it_is(tmp_path: Path) -> None:
    """An operator may offer an environment of their own."""
    found = discover({"mine": sys.executable}, tmp_path / "kept.json")["mine"]
    assert (found.path, found.implementation) == (sys.executable, "cpython")


def test_a_second_look_asks_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are kept as long as the programs do not change."""
    found = discover({}, tmp_path / "kept.json")
    monkeypatch.setattr(interpreters, "_probe", lambda name, path: pytest.fail(f"{path} was asked again"))
    assert discover({}, tmp_path / "kept.json") == found


def test_what_does_not_work_is_not_offered(tmp_path: Path) -> None:
    """A broken program on PATH, or one that is gone, hides no good one behind it."""
    broken = tmp_path / "bin"
    broken.mkdir()
    for name in (MINOR, "bash"):
        (broken / name).write_text("#!/bin/sh\nexit 3\n")
        (broken / name).chmod(0o755)
    env = {"PATH": f"{broken}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    found = discover({"gone": str(tmp_path / "no")}, tmp_path / "kept.json", env)
    assert MINOR in found
    assert "gone" not in found
    assert all(not str(each.path).startswith(str(broken)) for each in found.values())
    assert None in json.loads((tmp_path / "kept.json").read_text()).values()
