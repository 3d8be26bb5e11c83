"""Rooms import ``rgrid_shared`` and not each other, and the check that says so can fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = {"rgrid": "cli", "rgrid_api": "api", "rgrid_runner": "runner", "rgrid_shared": "shared"}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The four packages and the rules, to be spoilt."""
    for package, room in ROOMS.items():
        shutil.copytree(ROOT / room / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def check(place: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    env = {**os.environ, "PYTHONPATH": str(place)}
    return subprocess.run([program, "--no-cache"], cwd=place, env=env, capture_output=True, text=True, check=False)


def test_the_house_keeps_its_directions(copy: Path) -> None:
    """As it stands, no room imports another."""
    assert check(copy).returncode == 0


@pytest.mark.parametrize(
    ("module", "wrong"),
    [
        ("rgrid/output.py", "rgrid_api.db.tables"),
        ("rgrid_runner/settings.py", "rgrid.config"),
        ("rgrid_api/settings.py", "rgrid_runner.settings"),
        ("rgrid_shared/ids.py", "rgrid.config"),
    ],
)
def test_a_wrong_import_is_found(copy: Path, module: str, wrong: str) -> None:
    """One import across rooms turns the check red and is named."""
    path = copy / module
    path.write_text(path.read_text() + f"\nimport {wrong}\n")
    done = check(copy)
    assert done.returncode != 0
    assert wrong in done.stdout
