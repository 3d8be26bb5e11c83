"""Where an output goes on this machine, and whether it may go there.

The manifest comes from another host: every path in it is checked, and nothing is written through a local link that
leaves the directory that outputs were asked into.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from rgrid_shared.wire import path_problem

if TYPE_CHECKING:
    from rgrid.runs import Record
    from rgrid_shared.protocol import OutputEntry

ABOVE: Final = "_up"
"""Stands for ``..`` where outputs from above the working directory are put below a directory of their own."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Maps paths below the workspace's root to local ones.

    ``base``: absolute local directory that nothing may leave. ``cwd``: the working directory below the root, or None
    if ``base`` is the root itself and paths stay as they are.
    """

    base: str
    cwd: str | None

    def local(self, path: str, folder: str = "") -> str:
        """The absolute local path of ``path``, below ``folder`` of the base."""
        if self.cwd is None:
            return os.path.join(self.base, path)
        return os.path.join(self.base, folder, from_cwd(path, self.cwd))


def from_cwd(path: str, cwd: str) -> str:
    """``path`` as seen from ``cwd`` (both below the root), each ``..`` written as ``_up``."""
    if not cwd:
        return path
    parts = os.path.relpath(path, cwd).split("/")
    return "/".join(ABOVE if part == ".." else part for part in parts)


class Verdict(Enum):
    """What to do about an output whose place is known."""

    WRITE = "write"
    SAME = "same"
    ASIDE = "aside"


class Outside(ValueError):
    """The place lies outside of the directory that outputs were asked into, by a local link."""


class Guard:
    """Answers whether local places lie inside ``base``; remembers directories that it has looked at."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.real = os.path.realpath(base)
        self._known: dict[str, str] = {}

    def settle(self, path: str) -> str:
        """The real place of ``path``: links on the way are followed as the script would have done, if they stay inside.

        Raises ``Outside`` if they do not.
        """
        folder, name = os.path.split(path)
        real = self._known.get(folder)
        if real is None:
            real = os.path.realpath(folder)
            self._known[folder] = real
        place = os.path.join(real, name)
        if os.path.islink(place):
            place = os.path.realpath(place)
        if not inside(place, self.real):
            raise Outside(path)
        return place

    def link_place(self, path: str) -> str:
        """As ``settle``, for a link that is to stand at ``path`` itself."""
        folder, name = os.path.split(path)
        place = os.path.join(os.path.realpath(folder), name)
        if not inside(place, self.real):
            raise Outside(path)
        return place


def inside(path: str, base: str) -> bool:
    """True if the absolute ``path`` is ``base`` or below it; both must be free of links and ``..``."""
    return base == "/" or path == base or path.startswith(base + "/")


def entry_problem(entry: OutputEntry) -> str | None:
    """Why an entry of a manifest is not acceptable, or None."""
    problem = path_problem(entry["path"])
    if problem is None and entry["kind"] == "link":
        target = entry["target"]
        if not target or target.startswith("/") or "\0" in target:
            return "is a link that is not relative"
        landing = os.path.normpath(os.path.join(os.path.dirname(entry["path"]), target))
        if landing == ".." or landing.startswith("../"):
            return "is a link that leaves the workspace"
    return problem


def judge(entry: OutputEntry, place: str, record: Record | None) -> Verdict:
    """Whether a file of the manifest may be written at ``place``.

    ``SAME``: these bytes are there already. ``WRITE``: nothing is there; or what is there is what was submitted, what
    an earlier download wrote, or a file from before the submission that the script itself would have overwritten.
    ``ASIDE``: a local change would be lost.
    """
    try:
        facts = os.lstat(place)
    except FileNotFoundError:
        return Verdict.WRITE
    if not stat.S_ISREG(facts.st_mode):
        return Verdict.ASIDE
    local: str | None = None
    if facts.st_size == entry["size"]:
        local = file_sha256(place)
        if local == entry["sha256"]:
            return Verdict.SAME
    if record is None:
        return Verdict.ASIDE
    if place in record.written and record.written[place] == (local := local or file_sha256(place)):
        return Verdict.WRITE
    known = record.files.get(entry["path"]) if record.single else None
    if known is not None:
        if (known.size, known.mtime_ns) == (facts.st_size, facts.st_mtime_ns):
            return Verdict.WRITE
        unchanged = known.size == facts.st_size and known.sha256 == (local or file_sha256(place))
        return Verdict.WRITE if unchanged else Verdict.ASIDE
    before = max(facts.st_mtime_ns, facts.st_ctime_ns) < record.submitted_ns
    return Verdict.WRITE if before else Verdict.ASIDE


def may_delete(path: str, place: str, record: Record) -> bool:
    """True if the local file is, byte for byte, the one that was submitted."""
    known = record.files.get(path)
    if known is None:
        return False
    try:
        facts = os.lstat(place)
        return stat.S_ISREG(facts.st_mode) and facts.st_size == known.size and file_sha256(place) == known.sha256
    except OSError:
        return False


def file_sha256(path: str) -> str:
    """SHA-256 of a local file in hex."""
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
