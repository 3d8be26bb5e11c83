"""Archives come back as they went in, and evil ones touch nothing outside."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from rgrid_runner.archive import BadArchive, Caps, pack, unpack

MIB = 1024**2
ROOMY = Caps(64 * MIB)


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", size: int = 0, mode: int = 0o644
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, size, mode
    return info


def archive(path: Path, *entries: tarfile.TarInfo) -> Path:
    """An archive of these entries; files hold zeros."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for each in entries:
            tar.addfile(each, io.BytesIO(b"\0" * each.size) if each.size else None)
    path.write_bytes(zstandard.compress(raw.getvalue()))
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree like an environment's."""
    root = tmp_path / "tree"
    (root / "bin").mkdir(parents=True)
    (root / "lib/deep").mkdir(parents=True)
    (root / "lib/deep/a.py").write_bytes(b"print()\n")
    os.link(root / "lib/deep/a.py", root / "lib/deep/b.py")
    (root / "lib/deep/tool").write_bytes(b"#!/bin/sh\n")
    (root / "lib/deep/tool").chmod(0o6755)
    (root / ("lib/" + "n" * 200 + ".txt")).write_bytes(b"long")
    (root / "bin/python").symlink_to("/usr/bin/python3.11")
    (root / "bin/python3").symlink_to("python")
    (root / "lib64").symlink_to("lib")
    os.mkfifo(root / "lib/pipe")
    os.utime(root / "lib/deep/a.py", (1_600_000_000.7, 1_600_000_000.7))
    return root


def test_a_tree_comes_back_as_it_was(tree: Path, tmp_path: Path) -> None:
    """Bytes, execution bits, links and times to the second; set-id bits and pipes do not travel."""
    packed = pack(tree, tmp_path / "a.tar.zst")
    data = (tmp_path / "a.tar.zst").read_bytes()
    assert (packed.size, packed.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    target = tmp_path / "back"
    assert unpack(tmp_path / "a.tar.zst", target, ROOMY) == packed.unpacked
    assert (target / "lib/deep/b.py").read_bytes() == b"print()\n"
    assert (target / "lib/deep/a.py").stat().st_mtime == 1_600_000_000
    assert stat.S_IMODE((target / "lib/deep/tool").stat().st_mode) == 0o755
    assert (target / ("lib/" + "n" * 200 + ".txt")).read_bytes() == b"long"
    assert {name: os.readlink(target / name) for name in ("bin/python", "bin/python3", "lib64")} == {
        "bin/python": "/usr/bin/python3.11",
        "bin/python3": "python",
        "lib64": "lib",
    }
    assert not (target / "lib/pipe").exists()


def test_the_same_tree_makes_the_same_archive(tree: Path, tmp_path: Path) -> None:
    """Nothing in an archive depends on when or in which order it was made."""
    assert pack(tree, tmp_path / "a").sha256 == pack(tree, tmp_path / "b").sha256


LINK, DIR = tarfile.SYMTYPE, tarfile.DIRTYPE


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([entry("/etc/evil", size=1)], "is absolute"),
        ([entry("../evil", size=1)], "climbs"),
        ([entry("a", DIR), entry("a/../../evil", size=1)], "climbs"),
        ([entry("link", LINK, link="/etc")], "leads out"),
        ([entry("bin", DIR), entry("bin/python", LINK, link="/etc/passwd")], "leads out"),
        ([entry("bin", DIR), entry("bin/python", LINK, link="/opt/../python3")], "leads out"),
        ([entry("link", LINK, link="../outside")], "leads out"),
        ([entry("d", DIR), entry("d/l", LINK, link=".."), entry("x", LINK, link="d/l/../..")], "leads out"),
        ([entry("d", DIR), entry("out", LINK, link="d"), entry("out/evil", size=1)], "not there"),
        ([entry("d", DIR), entry("s", LINK, link="d"), entry("s", size=1)], "twice"),
        ([entry("a", size=1), entry("hard", tarfile.LNKTYPE, link="a")], "neither a file"),
        ([entry("hard", tarfile.LNKTYPE, link="/etc/passwd")], "neither a file"),
        ([entry("device", tarfile.CHRTYPE)], "neither a file"),
        ([entry("disk", tarfile.BLKTYPE)], "neither a file"),
        ([entry("pipe", tarfile.FIFOTYPE)], "neither a file"),
        ([entry("holes", tarfile.GNUTYPE_SPARSE, size=1)], "neither a file"),
        ([entry("nowhere/file", size=1)], "not there"),
        ([entry("twice", size=1), entry("twice", size=1)], "twice"),
        ([entry("/".join("d" * 70), size=1)], "too deep"),
        ([entry("big", size=65 * MIB)], "unpacks to more"),
        ([entry(f"f{number}") for number in range(50)], "more than 40 entries"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[-1].name[:20],
)
def test_evil_is_refused(entries: list[tarfile.TarInfo], why: str, tmp_path: Path) -> None:
    """Ways out, links to elsewhere, devices, hard links, bombs: each is refused, and nothing outside is touched."""
    before = set(tmp_path.rglob("*"))
    source = archive(tmp_path / "a.tar.zst", *entries)
    with pytest.raises(BadArchive, match=why):
        unpack(source, tmp_path / "in", Caps(64 * MIB, entries=40))
    made = set(tmp_path.rglob("*")) - before - {source}
    assert all(path == tmp_path / "in" or tmp_path / "in" in path.parents for path in made)


def test_set_id_bits_are_not_made(tmp_path: Path) -> None:
    """Neither they nor rights of others to write."""
    source = archive(tmp_path / "a", entry("tool", size=1, mode=0o6777))
    unpack(source, tmp_path / "in", ROOMY)
    assert stat.S_IMODE((tmp_path / "in/tool").stat().st_mode) == 0o755


def test_what_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    """A small archive of many zeros stops at the ratio, before its bytes are on the disk."""
    source = archive(tmp_path / "a", entry("zeros", size=4 * MIB))
    with pytest.raises(BadArchive, match="unpacks to more"):
        unpack(source, tmp_path / "in", Caps(64 * MIB, ratio=2))
    assert not (tmp_path / "in/zeros").exists()


def claims_long_name(raw: bytes) -> bytes:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 8 * 1024**3
    return info.tobuf() + raw


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: zstandard.compress(raw)[:-40],
        lambda raw: raw,
        lambda raw: zstandard.compress(raw[:700]),
        lambda raw: zstandard.compress(claims_long_name(raw)),
        lambda raw: b"",
    ],
    ids=["cut", "not compressed", "ends early", "endless name", "empty"],
)
def test_damage_is_refused(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """Whatever cannot be read to its end is no archive; a header that claims gigabytes is not read."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        tar.addfile(entry("file", size=4096), io.BytesIO(os.urandom(4096)))
    (tmp_path / "a").write_bytes(damage(raw.getvalue()))
    with pytest.raises(BadArchive):
        unpack(tmp_path / "a", tmp_path / "in", ROOMY)
