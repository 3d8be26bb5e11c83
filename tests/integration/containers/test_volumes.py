"""Disks of workspaces: real file systems, really mounted."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rgrid_runner.backends.base import BackendError
from rgrid_runner.containers import mounting, volumes
from rgrid_runner.containers.volumes import Volumes
from rgrid_shared.errors import UsageError
from rgrid_shared.states import FailureClass

OWNER = 10001
MIB = 1024**2
SMALL = 48 * MIB
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="file systems are mounted by root")


@pytest.fixture
async def disks(tmp_path: Path) -> AsyncIterator[Volumes]:
    it = Volumes(tmp_path / "disks", owner=OWNER, default=SMALL, spare=1, most=2)
    await it.open()
    await it.settle()
    yield it
    for place in places(tmp_path):
        await it.put(place)
    await it.close()
    assert not mounted(tmp_path)
    assert not loops(tmp_path)


def mounted(below: Path) -> list[Path]:
    return [place for place, _ in mounting.mounts() if place.is_relative_to(below)]


def places(below: Path) -> list[Path]:
    return [place for place in mounted(below) if not place.is_relative_to(below / "disks")]


def loops(below: Path) -> list[str]:
    """Loop devices whose file is there."""
    files = (path.read_text().strip() for path in Path("/sys/block").glob("loop*/loop/backing_file"))
    return [file for file in files if file.startswith(str(below))]


async def test_a_disk_is_empty_and_its_owner_s(disks: Volumes, tmp_path: Path) -> None:
    """A run finds an empty directory of its own, on a file system that knows no set-uid programs or devices."""
    place = tmp_path / "with space" / "disk"
    await disks.get(place, 0)
    assert os.path.ismount(place)
    assert list(place.iterdir()) == []
    assert (place.stat().st_uid, place.stat().st_gid) == (OWNER, OWNER)
    flags = os.statvfs(place).f_flag
    assert flags & os.ST_NOSUID
    assert flags & os.ST_NODEV


@pytest.mark.parametrize("size", [8 * MIB, 100 * MIB])
async def test_a_disk_holds_what_was_asked_for_and_not_much_more(disks: Volumes, tmp_path: Path, size: int) -> None:
    """The size is usable in full; beyond it the script sees that its disk is full."""
    place = tmp_path / "disk"
    await disks.get(place, size)
    with (place / "data").open("wb", buffering=0) as file:
        written = 0
        with pytest.raises(OSError, match="No space left"):
            while True:
                written += file.write(b"x" * MIB)
    assert size <= written <= size * 1.1 + 16 * MIB


async def test_files_without_number_end_in_no_space(disks: Volumes, tmp_path: Path) -> None:
    """A disk of this size has room for so many files; the next one is refused, and the host does not notice."""
    place = tmp_path / "disk"
    await disks.get(place, 0)
    left = os.statvfs(place).f_ffree
    assert 16000 < left < 20000
    with pytest.raises(OSError) as caught:
        for number in range(left + 1):
            os.close(os.open(place / str(number), os.O_CREAT | os.O_WRONLY))
    assert caught.value.errno == errno.ENOSPC


async def test_a_disk_comes_back_empty(disks: Volumes, tmp_path: Path) -> None:
    """The next run sees nothing of the one before, also where that closed its directories or nested them deeply."""
    first = tmp_path / "first"
    await disks.get(first, 0)
    (first / "closed").mkdir(mode=0)
    deep = first / "deep"
    deep.mkdir()
    at = os.open(deep, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    await disks.put(first)
    assert not first.exists()
    await disks.settle()
    for name in ("second", "third"):
        await disks.get(tmp_path / name, 0)
        assert list((tmp_path / name).iterdir()) == []


async def test_what_took_much_of_the_host_s_disk_is_given_back(
    disks: Volumes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that grew is not kept at that size."""
    monkeypatch.setattr(volumes, "_FEW_BYTES", MIB)
    place = tmp_path / "disk"
    await disks.get(place, 0)
    (place / "data").write_bytes(os.urandom(20 * MIB))
    os.sync()
    assert sum(image.stat().st_blocks * 512 for image in (tmp_path / "disks").glob("*.img")) > 20 * MIB
    await disks.put(place)
    await disks.settle()
    assert sum(image.stat().st_blocks * 512 for image in (tmp_path / "disks").glob("*.img")) < 10 * MIB


async def test_a_disk_in_use_elsewhere_is_not_used_again(disks: Volumes, tmp_path: Path) -> None:
    """If something still has a file of it open, the place is free all the same and the next run gets another disk."""
    place = tmp_path / "disk"
    await disks.get(place, 0)
    device = place.stat().st_dev
    with (place / "open").open("w") as held:
        await disks.put(place)
        assert not place.exists()
        await disks.settle()
        await disks.get(place, 0)
        assert place.stat().st_dev != device
        held.write("still there")


async def test_a_successor_keeps_what_is_in_use_and_removes_the_rest(disks: Volumes, tmp_path: Path) -> None:
    """After kill -9 of an agent, disks of attempts stay with their files until they are cleared; spares go."""
    place = tmp_path / "disk"
    await disks.get(place, 0)
    (place / "result").write_text("kept")
    await disks.settle()
    assert len(loops(tmp_path)) == 2
    successor = Volumes(tmp_path / "disks", owner=OWNER, default=SMALL, spare=0, most=0)
    await successor.open()
    assert places(tmp_path) == [place]
    assert len(loops(tmp_path)) == 1
    assert (place / "result").read_text() == "kept"
    await successor.put(place)
    await successor.close()
    assert not place.exists()
    assert not loops(tmp_path)
    assert list((tmp_path / "disks").iterdir()) == []
    disks._idle.clear()
    disks._used.clear()


async def test_taking_back_what_has_no_disk_removes_it(disks: Volumes, tmp_path: Path) -> None:
    """A plain directory goes too, and one that is not there is no error."""
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "file").touch()
    await disks.put(plain)
    await disks.put(plain)
    assert not plain.exists()


async def test_no_disk_from_a_host_without_room(
    disks: Volumes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host whose own disk is nearly full says so, as its own fault, and leaves nothing half made."""
    monkeypatch.setattr(volumes, "_KEEP_FREE", shutil.disk_usage(tmp_path).total * 2)
    with pytest.raises(BackendError, match="nearly full") as caught:
        await disks.get(tmp_path / "disk", 0)
    assert caught.value.failure is FailureClass.INFRASTRUCTURE
    assert not places(tmp_path)


async def test_a_missing_tool_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without mkfs.ext4 the runner does not start, and says what to install."""
    monkeypatch.setattr(mounting, "_SBIN", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"mkfs\.ext4"):
        await Volumes(tmp_path / "disks", owner=OWNER).open()
