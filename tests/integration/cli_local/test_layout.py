"""Where the embedded grid lives, and the places that it refuses."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rgrid.local.layout import LONGEST_SOCKET_PATH, Layout, LocalError, check_owner, explain, locate, prepare
from rgrid_shared.errors import RgridError


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    with mounted(tmp_path, "size=1m"):
        yield tmp_path


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A directory that cannot be written, not even by root."""
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        yield tmp_path
        return
    with mounted(tmp_path, "ro"):
        yield tmp_path


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A tmpfs over ``folder``; the test is left out where that is not allowed."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_private(tmp_path: Path) -> None:
    """Everything that is made can be entered by its owner only."""
    layout = Layout(tmp_path / "home")
    prepare(layout)
    for folder in (layout.home, layout.root, layout.logs, layout.store, layout.runner, layout.sockets):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_two_spellings(tmp_path: Path) -> None:
    """A link to the home directory leads to the same grid, not to a second one."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert locate(tmp_path / "link") == locate(tmp_path / "real" / ".." / "real")


@pytest.mark.parametrize("depth", [0, 1, 4, 40])
def test_socket_path(tmp_path: Path, depth: int) -> None:
    """However long the home directory's path is, the socket's path fits into a socket address."""
    layout = Layout(tmp_path.joinpath(*["a-directory-name"] * depth))
    assert len(os.fsencode(layout.sockets / ".s.PGSQL.5432")) <= LONGEST_SOCKET_PATH


def test_socket_places_differ(tmp_path: Path) -> None:
    """Two grids with long paths do not share a socket directory."""
    one, two = (Layout(tmp_path / ("x" * 120) / name) for name in ("one", "two"))
    assert one.sockets != two.sockets


def test_foreign_owner(tmp_path: Path) -> None:
    """A directory of somebody else's is refused, naming both."""
    with pytest.raises(LocalError, match=r"belongs to .* not to uid 54321"):
        check_owner(tmp_path, uid=54321)


def test_planted_link(tmp_path: Path) -> None:
    """A link that somebody put where the socket directory belongs is not followed."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to("elsewhere")
    with pytest.raises(LocalError, match="is not a directory"):
        check_owner(tmp_path / "run")


def test_read_only(read_only: Path) -> None:
    """A directory that cannot be written is refused before anything starts."""
    with pytest.raises(RgridError, match="cannot be written"):
        prepare(Layout(read_only))


def test_home_is_a_file(tmp_path: Path) -> None:
    """A file where the directory belongs is bad usage, not a crash."""
    (tmp_path / "home").write_text("")
    with pytest.raises(RgridError, match="is not a directory"):
        prepare(Layout(tmp_path / "home"))


def test_disk_full(tiny_disk: Path) -> None:
    """Too little space is said before anything starts, with both figures."""
    with pytest.raises(LocalError, match=r"has \d MiB free; the embedded grid needs \d+ MiB"):
        prepare(Layout(tiny_disk))


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "is full"),
        (errno.EDQUOT, "is full"),
        (errno.EACCES, "cannot be written"),
        (errno.EROFS, "cannot be written"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_explained(tmp_path: Path, number: int, says: str) -> None:
    """Each fault of the file system becomes a sentence and something to do."""
    error = explain(OSError(number, os.strerror(number)), Layout(tmp_path))
    assert says in error.message
    assert error.hint
