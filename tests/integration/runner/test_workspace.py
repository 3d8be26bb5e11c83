"""What a script sees, what it leaves, and the difference."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rgrid_runner.blob_cache import BlobCache, file_sha256
from rgrid_runner.outcome import AttemptFailed
from rgrid_runner.outputs import collect
from rgrid_runner.scan import MAX_DEPTH, Changes
from rgrid_runner.workspace import Known, Place, build, check, load_known, needed, save_known


def ref(path: str, data: bytes, mode: int = 0o644) -> dict[str, Any]:
    return {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "mode": mode}


class Bench:
    """A cache, a workspace, and what was shipped."""

    def __init__(self, base: Path) -> None:
        self.cache = BlobCache(base / "cache", 1 << 30)
        self.place = Place(base / "work")
        self.place.disk.mkdir(parents=True)
        self.before: dict[str, Known] = {}

    @property
    def root(self) -> Path:
        return self.place.root

    def build(self, files: dict[str, bytes], mode: int = 0o644, **changes: Any) -> None:
        for data in files.values():
            if data:
                self.cache.admit_bytes(hashlib.sha256(data).hexdigest(), data)
        spec: Any = {"files": [ref(path, data, mode) for path, data in files.items()], **EMPTY, **changes}
        self.before = build(self.place, spec, NO_ITEM, self.cache, {})

    def changes(self, max_files: int = 1000, max_bytes: int = 1 << 30) -> Changes:
        return collect(self.place, self.before, max_files=max_files, max_bytes=max_bytes)

    def paths(self) -> list[str]:
        return [file.path for file in self.changes().files]

    def left_out(self) -> dict[str, str]:
        return {each["path"]: each["reason"] for each in self.changes().left_out}


EMPTY: dict[str, Any] = {"dirs": [], "links": {}, "cwd": "", "stdin": None}
NO_ITEM: Any = {"name": "", "output_name": "", "args": [], "files": []}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_root_is_rebuilt_with_modes_links_and_empty_directories(bench: Bench) -> None:
    """The workspace holds what was shipped, and nothing in it counts as an output."""
    bench.build(
        {"a/x.sh": b"#!", "a/empty": b"", "s.py": b"1"}, 0o755, dirs=["out/deep"], links={"a/l": "x.sh"}, cwd="a/b"
    )
    assert (bench.root / "a/x.sh").read_bytes() == b"#!"
    assert stat.S_IMODE((bench.root / "a/x.sh").stat().st_mode) == 0o755
    assert (bench.root / "a/l").readlink() == Path("x.sh")
    assert (bench.root / "out/deep").is_dir()
    assert (bench.root / "a/b").is_dir()
    assert bench.changes() == Changes()


def test_known_survives_the_agent(bench: Bench) -> None:
    """A successor finds out the same differences."""
    bench.build({"a": b"1", "d/b": b"2"}, links={"l": "a"})
    save_known(bench.place, bench.before)
    assert load_known(bench.place) == bench.before


@pytest.mark.parametrize(
    "write",
    [
        lambda p: p.write_bytes(b"XX"),
        lambda p: p.write_bytes(b"longer"),
        lambda p: (p.unlink(), p.write_bytes(b"XX")),
        lambda p: (p.with_name("t").write_bytes(b"XX"), p.with_name("t").rename(p)),
        lambda p: _with_old_times(p),
        lambda p: p.chmod(0o600),
    ],
)
def test_a_changed_input_is_an_output_however_it_was_written(bench: Bench, write: Any) -> None:
    """In place, by rename, with the same size, with its old times, or its mode alone."""
    bench.build({"in": b"ab"})
    write(bench.root / "in")
    assert bench.paths() == ["in"]


def test_a_file_that_was_written_counts_whatever_it_holds(bench: Bench) -> None:
    """An item's result that equals what lay there before is still its result."""
    bench.build({"result.txt": b"ab"})
    (bench.root / "result.txt").write_bytes(b"ab")
    assert bench.paths() == ["result.txt"]


def test_an_input_that_only_looks_touched_is_none(bench: Bench) -> None:
    """A mode set and set back changes nothing that anybody wants to have."""
    bench.build({"in": b"ab"})
    (bench.root / "in").chmod(0o600)
    (bench.root / "in").chmod(0o644)
    assert bench.changes() == Changes()


def test_deletions_renames_and_new_directories_are_seen(bench: Bench) -> None:
    """A renamed input is a deletion and an output; a directory counts if nothing in it does."""
    bench.build({"a": b"1", "b": b"2", "d/c": b"3"}, links={"l": "a"})
    (bench.root / "a").unlink()
    (bench.root / "b").rename(bench.root / "b2")
    (bench.root / "l").unlink()
    (bench.root / "new/empty").mkdir(parents=True)
    changes = bench.changes()
    assert [file.path for file in changes.files] == ["b2"]
    assert sorted(changes.deleted) == ["a", "b", "l"]
    assert changes.dirs == {"new": 0o755, "new/empty": 0o755}


def test_links_inside_are_kept_and_links_outside_left_out(bench: Bench, tmp_path: Path) -> None:
    """A link's target is relative and within the workspace, also where another link leads there."""
    (tmp_path / "secret").write_text("s")
    bench.build({"a": b"1"})
    root = bench.root
    (root / "d").mkdir()
    (root / "d/up").symlink_to("../a")
    (root / "d/abs").symlink_to(root / "a")
    (root / "d/dangling").symlink_to("later")
    (root / "out").symlink_to("../../secret")
    (root / "dir").symlink_to(tmp_path)
    (root / "via").symlink_to("dir/secret")
    changes = bench.changes()
    assert changes.links == {"d/up": "../a", "d/abs": "../a", "d/dangling": "later"}
    assert {each["path"] for each in changes.left_out} == {"out", "dir", "via"}
    assert changes.files == []


def test_hard_links_count_if_all_names_lie_inside(bench: Bench, tmp_path: Path) -> None:
    """A name of a file that lies elsewhere would carry foreign bytes out."""
    (tmp_path / "foreign").write_text("s")
    bench.build({})
    (bench.root / "x").write_text("1")
    os.link(bench.root / "x", bench.root / "y")
    os.link(tmp_path / "foreign", bench.root / "z")
    assert bench.paths() == ["x", "y"]
    assert "hard link" in bench.left_out()["z"]


def test_pipes_and_sockets_are_left_out_and_not_opened(bench: Bench) -> None:
    """Collecting never hangs on a FIFO."""
    bench.build({})
    os.mkfifo(bench.root / "fifo")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(bench.root / "sock"))
    assert bench.left_out().keys() == {"fifo", "sock"}


def test_closed_directories_are_opened_for_the_look(bench: Bench) -> None:
    """A directory of mode 000 gives up its files, and keeps its mode if nothing must be put into it."""
    bench.build({})
    (bench.root / "d").mkdir()
    (bench.root / "d/f").write_text("1")
    (bench.root / "d").chmod(0)
    (bench.root / "e").mkdir()
    (bench.root / "e").chmod(0)
    changes = bench.changes()
    assert [file.path for file in changes.files] == ["d/f"]
    assert changes.dirs == {"d": 0o700, "e": 0}


def test_odd_names_travel_and_names_that_are_no_text_are_said(bench: Bench) -> None:
    """Spaces, quotes, newlines and any script are fine; bytes that are no UTF-8 are not."""
    bench.build({})
    odd = ["a b", "quo'te\"", "new\nline", "ünï", "-dash", "日本"]
    for name in odd:
        (bench.root / name).write_text("1")
    with open(os.fsencode(bench.root) + b"/bad\xff", "w"):
        pass
    assert sorted(bench.paths()) == sorted(odd)
    assert list(bench.left_out()) == ["bad\\xff"]


def test_bytecode_of_imported_modules_is_no_output(bench: Bench) -> None:
    """What Python caches beside modules stays; anything else in such a directory does not."""
    bench.build({"m.py": b"1"})
    (bench.root / "__pycache__").mkdir()
    (bench.root / "__pycache__/m.cpython-311.pyc").write_bytes(b"1")
    assert bench.changes() == Changes()
    (bench.root / "__pycache__/notes.txt").write_text("1")
    assert bench.paths() == ["__pycache__/notes.txt"]


def test_caps_say_what_they_left_out(bench: Bench) -> None:
    """Too many files, too many bytes, too deep: each is named."""
    bench.build({})
    for number in range(5):
        (bench.root / str(number)).write_bytes(b"12345")
    deep = bench.root / "/".join("d" * (MAX_DEPTH + 2))
    deep.mkdir(parents=True)
    (deep / "f").write_text("1")
    changes = bench.changes(max_files=3)
    assert len(changes.files) == 3
    assert sorted("deep" in each["reason"] for each in changes.left_out) == [False, False, True]
    assert len(bench.changes(max_bytes=12).files) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"files": [ref("../x", b"1")]},
        {"files": [ref("/etc/x", b"1")]},
        {"dirs": ["a/../.."]},
        {"cwd": "../.."},
        {"links": {"l": "/etc"}},
        {"links": {"d/l": "../../x"}},
        {"links": {"l": "."}, "files": [ref("l/x", b"1")]},
    ],
)
def test_nothing_is_written_outside_of_the_workspace(change: dict[str, Any]) -> None:
    """Paths that leave are refused, links that would lead out too."""
    spec: Any = {"files": [], **EMPTY, **change}
    with pytest.raises(AttemptFailed):
        check(spec, NO_ITEM)


def test_large_files_of_one_item_are_not_kept_for_others() -> None:
    """The cache is for what executions share."""
    spec: Any = {**EMPTY, "files": [{"path": "a", "sha256": "a" * 64, "size": 1 << 30, "mode": 0o644}]}
    item: Any = {"files": [{"path": "b", "sha256": "b" * 64, "size": 1 << 30, "mode": 0o644}]}
    blobs, own = needed(spec, item)
    assert blobs.keys() == {"a" * 64, "b" * 64}
    assert own == {"b" * 64}


contents = st.dictionaries(
    st.sampled_from([f"{d}{f}" for d in ("", "d/", "d/e/") for f in "abc"]), st.binary(max_size=3), max_size=6
)


@settings(max_examples=60, deadline=None)
@given(shipped=contents, left=contents)
def test_manifest_turns_what_was_shipped_into_what_was_left(
    tmp_path_factory: pytest.TempPathFactory, shipped: dict[str, bytes], left: dict[str, bytes]
) -> None:
    """Deleting what was deleted and writing what is listed gives the script's files; what was written is listed."""
    bench = Bench(tmp_path_factory.mktemp("b"))
    bench.build(shipped)
    for path in shipped.keys() - left.keys():
        (bench.root / path).unlink()
    for path, data in left.items():
        (bench.root / path).parent.mkdir(parents=True, exist_ok=True)
        (bench.root / path).write_bytes(data)
    changes = bench.changes()
    result = {path: data for path, data in shipped.items() if path not in changes.deleted}
    for file in changes.files:
        data = (bench.root / file.path).read_bytes()
        result[file.path] = data
    assert result == left
    assert {file.path for file in changes.files} == left.keys()


def test_cache_drops_what_was_tampered_with(tmp_path: Path) -> None:
    """Wrong bytes are never served, not even by an agent that did not see them arrive."""
    sha256 = hashlib.sha256(b"right").hexdigest()
    BlobCache(tmp_path, 100).admit_bytes(sha256, b"right")
    path = tmp_path / sha256[:2] / sha256
    path.chmod(0o600)
    path.write_bytes(b"wrong")
    assert not BlobCache(tmp_path, 100).holds(sha256, 5)
    assert not path.exists()


def test_cache_forgets_what_was_used_longest_ago_but_nothing_pinned(tmp_path: Path) -> None:
    """The cache stays within its bound."""
    cache = BlobCache(tmp_path, 10)
    names = [hashlib.sha256(bytes([n])).hexdigest() for n in range(4)]
    cache.pin(names[:1])
    for name in names:
        cache.admit(name, 4, _file(tmp_path / "new" / name, b"1234"))
    assert [path.name for path in sorted(tmp_path.glob("??/*"))] == sorted([names[0], names[3]])
    cache.unpin(names[:1])
    cache.make_room()
    assert not list(tmp_path.glob("??/*"))


def _with_old_times(path: Path) -> None:
    was = path.stat()
    path.write_bytes(b"XX")
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


def _file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_copies_are_not_the_cached_file(bench: Bench) -> None:
    """A script that overwrites its input in place does not change anybody else's."""
    bench.build({"in": b"shared"})
    (bench.root / "in").write_bytes(b"broken")
    sha256 = hashlib.sha256(b"shared").hexdigest()
    assert file_sha256(next(bench.cache._root.glob(f"*/{sha256}"))) == sha256
