"""Hashes of local files, and the cache that spares a second reading."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgrid.submit.hashing import BIG, KEEP_BYTES, SMALL, Hashed, Hasher
from rgrid.submit.upload import PACK_BLOBS, PACK_BYTES, _groups, _objects
from rgrid_shared.errors import UsageError

LATER = 4_000_000_000_000_000_000
"""A clock so late that no file counts as just written."""


def test_hashes_are_those_of_the_bytes(tmp_path: Path) -> None:
    """Small, empty and big files alike."""
    contents = {"empty": b"", "small": b"x" * 10, "big": os.urandom(BIG + 7)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    found = Hasher(None).hash_all([str(tmp_path / name) for name in contents])
    for name, content in contents.items():
        assert found[str(tmp_path / name)].sha256 == hashlib.sha256(content).hexdigest()
        assert found[str(tmp_path / name)].size == len(content)


def test_a_big_file_is_read_once_between_runs(tmp_path: Path) -> None:
    """The cache answers for a file of the same size, time and inode, and for no other."""
    cache, file = tmp_path / "cache" / "hashes.json", tmp_path / "big"
    file.write_bytes(b"a" * BIG)
    first = Hasher(cache, now_ns=lambda: LATER).hash_all([str(file)])[str(file)]
    known = json.loads(cache.read_text())
    assert known[str(file)][3] == first.sha256
    known[str(file)][3] = "0" * 64
    cache.write_text(json.dumps(known))
    assert Hasher(cache).hash_all([str(file)])[str(file)].sha256 == "0" * 64
    os.utime(file, ns=(1, 1))
    assert Hasher(cache).hash_all([str(file)])[str(file)].sha256 == first.sha256


def test_a_file_just_written_is_not_remembered(tmp_path: Path) -> None:
    """Within the clock's grain a file can change again without a new time."""
    cache, file = tmp_path / "hashes.json", tmp_path / "big"
    file.write_bytes(b"a" * BIG)
    written = file.stat().st_mtime_ns
    Hasher(cache, now_ns=lambda: written + 1000).hash_all([str(file)])
    assert not cache.exists()


@pytest.mark.parametrize("content", ["", "[]", "{not json", '{"x": 1}'])
def test_a_damaged_cache_is_no_matter(tmp_path: Path, content: str) -> None:
    """A cache that cannot be read is as good as none."""
    cache, file = tmp_path / "hashes.json", tmp_path / "big"
    cache.write_text(content)
    file.write_bytes(b"a" * BIG)
    assert Hasher(cache).hash_all([str(file)])[str(file)].sha256 == hashlib.sha256(b"a" * BIG).hexdigest()


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    """A file that is gone is an error with its name, as the caller shows names."""
    with pytest.raises(UsageError, match="the file cannot be read: No such file"):
        Hasher(None).hash_all([str(tmp_path / "gone")], lambda _path: "the file")


def test_what_became_a_pipe_is_refused(tmp_path: Path) -> None:
    """Opening never waits for a writer."""
    os.mkfifo(tmp_path / "p")
    with pytest.raises(UsageError, match="no regular file"):
        Hasher(None).hash_all([str(tmp_path / "p")])


def test_kept_bytes_are_bounded(tmp_path: Path) -> None:
    """At most 32 MiB of small files stay in memory, and none of a bigger file."""
    for number in range(3):
        (tmp_path / str(number)).write_bytes(os.urandom(SMALL))
    (tmp_path / "medium").write_bytes(os.urandom(SMALL + 1))
    hasher = Hasher(None)
    hasher._room = 2 * SMALL
    hasher.hash_all([str(tmp_path / name) for name in ("0", "1", "2", "medium")])
    assert sum(len(data) for data in hasher.kept.values()) == 2 * SMALL < KEEP_BYTES


def test_permission_bits_are_kept(tmp_path: Path) -> None:
    """Only the nine bits that the wire carries."""
    (tmp_path / "x").write_text("1")
    (tmp_path / "x").chmod(stat.S_ISGID | 0o710)
    assert Hasher(None).hash_all([str(tmp_path / "x")])[str(tmp_path / "x")].mode == 0o710


SIZES = st.lists(st.integers(1, 3 * SMALL) | st.integers(1, 100), max_size=200)


@given(SIZES)
def test_packing_loses_nothing_and_keeps_its_limits(sizes: list[int]) -> None:
    """Every blob stands in exactly one object; small ones share objects within the limits, big ones stand alone."""
    files = [Hashed(str(i), size, 0, 0, 0, f"{i:064x}") for i, size in enumerate(sizes)]
    objects = _objects(files)
    assert sorted(file.path for entry in objects for file in entry.files) == sorted(file.path for file in files)
    for entry in objects:
        assert entry.size == sum(file.size for file in entry.files)
        assert len(entry.files) == 1 or (entry.size <= PACK_BYTES and len(entry.files) <= PACK_BLOBS)
        assert len(entry.files) == 1 or all(file.size <= SMALL for file in entry.files)
        offsets = [blob["offset"] for blob in entry.request()["blobs"]]
        assert offsets == [sum(file.size for file in entry.files[:i]) for i in range(len(offsets))]
    assert [entry for group in _groups(objects) for entry in group] == objects
