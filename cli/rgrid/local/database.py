"""PostgreSQL's data directory: made once, never read by another major version."""

from __future__ import annotations

import shutil
import subprocess

from rgrid.local import parts, unroot
from rgrid.local.layout import Layout, LocalError
from rgrid.local.programs import Programs, postgres_programs


def make(layout: Layout, programs: Programs) -> None:
    """Make the data directory if there is none; about a second.

    Raises:
        LocalError: initdb failed, with what it said.
    """
    if (layout.database / "PG_VERSION").exists():
        return
    # initdb removes what it made if it fails; what a killed one left is not whole.
    remove(layout)
    layout.database.mkdir(mode=0o700)
    unroot.give(layout.database)
    done = subprocess.run(
        parts.initdb_command(layout, programs),
        env=parts.base_environment(layout, "initdb") | {"LC_ALL": "C"},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        preexec_fn=unroot.dropper(),
    )
    if done.returncode:
        remove(layout)
        raise failure("The database could not be made", done.stderr, layout)


def remove(layout: Layout) -> None:
    """Delete the data directory if there is one."""
    if layout.database.exists():
        shutil.rmtree(layout.database)


def check_major(layout: Layout, programs: Programs) -> None:
    """Refuse data that another major version of PostgreSQL wrote.

    Raises:
        LocalError: naming both versions and how to export.
    """
    try:
        major = int((layout.database / "PG_VERSION").read_text())
    except (FileNotFoundError, ValueError):
        return
    if major == programs.postgres_major:
        return
    old = postgres_programs().get(major)
    with_old = str(old) if old else f"the programs of a PostgreSQL {major}"
    brings = programs.postgres_major
    raise LocalError(
        f"The data in {layout.database} was written by PostgreSQL {major}; this rgrid brings {brings}.",
        hint=f"Export it with {with_old} (docs/embedded-grid.md says how), or start afresh: rgrid down --delete-data",
    )


def failure(what: str, said: str, layout: Layout) -> LocalError:
    """The error for a part that does not start, from what it wrote."""
    text = said.strip()
    if "No space left on device" in text or "Disk quota exceeded" in text:
        return LocalError(
            f"{what}: the disk that holds {layout.root} is full.",
            hint="Free some space, or set RGRID_HOME to a directory on another disk.",
        )
    last = "\n".join(f"  {line}" for line in text.splitlines()[-5:])
    return LocalError(f"{what}:\n{last}" if last else f"{what}.", hint=f"Its logs are in {layout.logs}; rgrid doctor")
