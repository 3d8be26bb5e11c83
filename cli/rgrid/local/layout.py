"""Where the embedded grid keeps its things, and whether that place can be used."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from rgrid_shared.errors import RgridError, UsageError

LONGEST_SOCKET_PATH = 100
"""Characters; ``sun_path`` holds 108 bytes on Linux and 104 on macOS, with a NUL."""

FIRST_START_BYTES = 256 << 20
LATER_START_BYTES = 32 << 20


class LocalError(RgridError):
    """The embedded grid cannot start or does not run as it should."""

    code = "local_grid"
    title = "The embedded grid"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of the embedded grid below ``home`` (``$RGRID_HOME``, normally ``~/.rgrid``)."""

    home: Path

    @property
    def root(self) -> Path:
        """Everything of the embedded grid."""
        return self.home / "local"

    @property
    def lock(self) -> Path:
        """Locked by the supervisor for as long as it lives."""
        return self.root / "lock"

    @property
    def start_lock(self) -> Path:
        """Locked by the one command that is starting the grid; the others wait for it."""
        return self.root / "start.lock"

    @property
    def record(self) -> Path:
        """What runs, while it runs."""
        return self.root / "grid.json"

    @property
    def secrets(self) -> Path:
        """Keys that were generated for this grid."""
        return self.root / "secrets.json"

    @property
    def facts(self) -> Path:
        """What was chosen on the first start and stays."""
        return self.root / "facts.json"

    @property
    def logs(self) -> Path:
        """One log file for each part."""
        return self.root / "logs"

    @property
    def database(self) -> Path:
        """PostgreSQL's data directory."""
        return self.root / "postgres"

    @property
    def store(self) -> Path:
        """The object store's data directory."""
        return self.root / "s3"

    @property
    def runner(self) -> Path:
        """The runner's state directory."""
        return self.root / "runner"

    def log(self, part: str) -> Path:
        """The log file of one part."""
        return self.logs / f"{part}.log"

    @property
    def sockets(self) -> Path:
        """Where PostgreSQL's socket lies: inside the grid's directory if its path is short enough, else in /tmp."""
        inside = self.root / "run"
        if len(os.fsencode(inside / ".s.PGSQL.5432")) <= LONGEST_SOCKET_PATH:
            return inside
        import hashlib

        name = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]
        return Path("/tmp") / f"rgrid-{os.geteuid()}-{name}"  # noqa: S108 - owner and mode are checked


def locate(home: Path) -> Layout:
    """The layout below ``home``, made absolute and free of links so that two spellings are one grid."""
    return Layout(Path(os.path.realpath(home)))


def prepare(layout: Layout) -> None:
    """Make the directories that are missing, private to the user.

    Raises:
        LocalError: the place belongs to somebody else, cannot be written, or its disk is full.
    """
    try:
        _prepare(layout)
    except OSError as error:
        raise explain(error, layout) from error


def _prepare(layout: Layout) -> None:
    import shutil

    layout.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    for folder in (layout.home, layout.root, layout.logs, layout.store, layout.runner, layout.sockets):
        folder.mkdir(exist_ok=True, mode=0o700)
        check_owner(folder)
    free = shutil.disk_usage(layout.root).free
    needed = LATER_START_BYTES if (layout.database / "PG_VERSION").exists() else FIRST_START_BYTES
    if free < needed:
        raise LocalError(
            f"The disk that holds {layout.root} has {free >> 20} MiB free; the embedded grid needs {needed >> 20} MiB.",
            hint="Free some space, or set RGRID_HOME to a directory on another disk.",
        )


def check_owner(folder: Path, uid: int | None = None) -> None:
    """Refuse a directory that is a link or belongs to another user than ``uid`` (default: the one who runs this).

    Raises:
        LocalError: naming the owner.
    """
    import stat

    facts = folder.lstat()
    mine = os.geteuid() if uid is None else uid
    if not stat.S_ISDIR(facts.st_mode):
        raise LocalError(f"{folder} is not a directory.", hint="Move it away, or set RGRID_HOME to another directory.")
    if facts.st_uid != mine:
        raise LocalError(
            f"{folder} belongs to {user_name(facts.st_uid)}, not to {user_name(mine)}.",
            hint="Set RGRID_HOME to a directory of your own, or run rgrid as its owner.",
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise LocalError(f"{folder} cannot be written.", hint=f"chmod u+rwx {folder}, or set RGRID_HOME.")


def user_name(uid: int) -> str:
    """The account's name, or ``uid N`` if it has none."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def explain(error: OSError, layout: Layout) -> RgridError:
    """What an operating system error means for somebody who wants the grid to start."""
    import errno

    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return LocalError(
            f"The disk that holds {layout.root} is full.",
            hint="Free some space, or set RGRID_HOME to a directory on another disk.",
        )
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return LocalError(
            f"{error.filename or layout.root} cannot be written: {error.strerror}.",
            hint="Set RGRID_HOME to a directory that you can write.",
        )
    if error.errno in {errno.ENOTDIR, errno.EEXIST}:
        return UsageError(f"{error.filename or layout.home} is not a directory.", hint="Set RGRID_HOME to a directory.")
    return LocalError(f"{layout.root}: {error.strerror or error}.", hint="rgrid doctor")
