"""What this machine remembers of a submission, so that outputs can be placed later without harm.

One file for each batch under ``RGRID_HOME/runs``: where the workspace's root lies here, where outputs go, and for a
single run each shipped file as it was. It is a convenience: without it outputs are placed more cautiously.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rgrid.config import home

if TYPE_CHECKING:
    from rgrid.submit.plan import Plan

KEEP: Final = 1000
OUTPUTS: Final = "outputs"
"""Where a batch's outputs go, below the directory that it was submitted from."""


@dataclass(frozen=True, slots=True)
class Known:
    """A local file as it was when it was submitted."""

    sha256: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Record:
    """A submission. ``root``, ``dest``: absolute local directories; ``cwd``: below the root, ``""`` if it is the root.

    ``dest``: where ``--output-dir`` (or the default for a batch) sends outputs, empty to place them where the script
    would have left them. ``submitted_ns``: local clock, nanoseconds since 1970. ``files``: by path below the root.
    ``written``: hashes of what was placed here for this batch, by absolute path.
    """

    root: str
    cwd: str
    dest: str
    single: bool
    flat: bool = False
    submitted_ns: int = field(default_factory=time.time_ns)
    files: Mapping[str, Known] = field(default_factory=dict)
    written: Mapping[str, str] = field(default_factory=dict)


def remember(batch_id: str, record: Record) -> None:
    """Store the record of a batch. A home that cannot be written to is no reason to fail a run."""
    folder = home() / "runs"
    text = json.dumps(asdict(record), separators=(",", ":"))
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _forget_old(folder)
        temporary = folder / f".{batch_id}.{os.getpid()}"
        temporary.write_text(text, encoding="utf-8", errors="surrogatepass")
        temporary.replace(folder / f"{batch_id}.json")
    except OSError:
        return


def record_of(plan: Plan, *, dest: str = "", flat: bool = False) -> Record:
    """What to remember of a plan that was submitted. ``dest``: as ``--output-dir``; ``outputs`` for a batch."""
    root, cwd = plan.spec["root"], plan.spec["cwd"]
    here = os.path.join(root, cwd) if cwd else root  # noqa: PTH118
    if dest or not plan.single:
        dest = os.path.join(here, dest or OUTPUTS)  # noqa: PTH118
    files: dict[str, Known] = {}
    if plan.single:
        refs = [*plan.spec["files"], *(file for item in plan.items for file in item["files"])]
        for ref in refs:
            local = plan.files.get(plan.path_of(ref["path"]))
            if local is not None:
                files[ref["path"]] = Known(local.sha256, local.size, local.mtime_ns)
    return Record(root=root, cwd=cwd, dest=dest, single=plan.single, flat=flat, files=files)


def recall(batch_id: str) -> Record | None:
    """The record of a batch by its full id, or None if this machine has none that can be read."""
    try:
        document = json.loads(
            (home() / "runs" / f"{batch_id}.json").read_text(encoding="utf-8", errors="surrogatepass")
        )
        files = {path: Known(**facts) for path, facts in document.pop("files").items()}
        return Record(files=files, **document)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def forget(batch_id: str) -> None:
    """Drop the record of a batch."""
    (home() / "runs" / f"{batch_id}.json").unlink(missing_ok=True)


def _forget_old(folder: Path) -> None:
    names = os.listdir(folder)  # noqa: PTH208 - names are all that is needed, and ids sort by time
    for name in sorted(names)[: max(0, len(names) - KEEP)]:
        (folder / name).unlink(missing_ok=True)
