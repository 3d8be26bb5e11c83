"""Outputs placed on a real file system: verified, whole or not at all, and never over somebody's change."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from support.web import Answer, Asked, Web, ranged, reply, serve

from rgrid.client import Client
from rgrid.config import Server
from rgrid.runs import Known, Record
from rgrid.transfer import objects
from rgrid.transfer.download import Downloader, Summary
from rgrid.transfer.objects import Damaged, LocalTrouble, Wanted, runs_of
from rgrid.transfer.placement import Layout
from rgrid_shared.views import OutputsView


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Store:
    """A real server that holds one object and answers ranges; ``answer`` may be replaced to make trouble."""

    def __init__(self) -> None:
        self.content = b""
        self.answer: Callable[[Asked], Answer] = lambda asked: ranged(self.content, asked)
        self.web = Web()

    def view(self, files: dict[str, bytes], **more: Any) -> OutputsView:
        entries = []
        for path, data in files.items():
            entries.append(entry(path, data, offset=len(self.content)))
            self.content += data
        entries += more.pop("entries", [])
        objects = [{"size": len(self.content), "url": f"{self.web.url}/pack?sig=1"}]
        view = {
            "execution_id": "exe_abcdef",
            "batch_id": "bat_1",
            "index": 0,
            "output_name": "",
            "attempt": 1,
            "entries": entries,
            "objects": objects,
            "left_out": [],
        }
        return cast("OutputsView", view | more)

    @property
    def client(self) -> Client:
        return Client(Server(self.web.url, "k"), patience_s=0.0)


def entry(path: str, data: bytes = b"", *, offset: int = 0, kind: str = "file", **more: Any) -> dict[str, Any]:
    facts = {"path": path, "kind": kind, "mode": 0o644, "size": len(data), "sha256": sha(data), "object": 0}
    return facts | {"offset": offset, "target": ""} | more


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    with serve(lambda asked: store.answer(asked)) as web:
        store.web = web
        yield store


def record_for(root: Path, *names: str) -> Record:
    files = {}
    for name in names:
        facts = (root / name).stat()
        files[name] = Known(sha((root / name).read_bytes()), facts.st_size, facts.st_mtime_ns)
    return Record(root=str(root), cwd="", dest="", single=True, files=files, submitted_ns=time.time_ns())


def fetch(store: Store, view: OutputsView, root: Path, record: Record | None = None, **options: Any) -> Summary:
    return Downloader(store.client, Layout(str(root), None), record, **options).fetch(view)


def test_a_packed_manifest(store: Store, tmp_path: Path) -> None:
    """Files of one object come by one request, with their bytes, modes and directories."""
    files = {"a.txt": b"A", "deep/er/b.bin": os.urandom(3_000_000), "empty": b"", "ü ' \n.txt": b"odd"}
    view = store.view(files, entries=[entry("new", kind="dir", mode=0o750)])
    view["entries"][0]["mode"] = 0o755
    summary = fetch(store, view, tmp_path)
    assert {path: (tmp_path / path).read_bytes() for path in files} == files
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o750
    assert len(store.web.asked) == 1
    assert sorted(summary.paths) == sorted(str(tmp_path / path) for path in files)
    assert [path.name for path in tmp_path.rglob("*rgrid*")] == []


def test_wrong_bytes_are_never_placed(store: Store, tmp_path: Path) -> None:
    """Bytes whose hash is wrong are fetched once more and then refused; what is here stays."""
    (tmp_path / "a").write_bytes(b"old")
    view = store.view({"a": b"right"})
    store.content = b"wrong"
    with pytest.raises(Damaged):
        fetch(store, view, tmp_path, record_for(tmp_path, "a"))
    assert (tmp_path / "a").read_bytes() == b"old"
    assert len(store.web.asked) == 2
    assert os.listdir(tmp_path) == ["a"]


def test_a_broken_transfer_is_taken_up(store: Store, tmp_path: Path) -> None:
    """A connection that breaks in mid-object does not break the download."""
    view = store.view({"a": b"x" * 500_000})
    whole = store.answer
    cuts = iter([100, 200_000])

    def answer(asked: Asked) -> Answer:
        return replace(whole(asked), cut=next(cuts, None))

    store.answer = answer
    counted: list[int] = []
    fetch(store, view, tmp_path, count=counted.append)
    assert (tmp_path / "a").read_bytes() == b"x" * 500_000
    assert sum(counted) == 500_000


def test_an_old_link_is_renewed(store: Store, tmp_path: Path) -> None:
    """A presigned URL that has ended is asked for anew."""
    view = store.view({"a": b"x"})
    fresh = cast("dict[str, Any]", view) | {"objects": [{"size": 1, "url": f"{store.web.url}/pack?sig=2"}]}
    whole = store.answer

    def answer(asked: Asked) -> Answer:
        if asked.path.startswith("/v1/executions/exe_abcdef/outputs"):
            return reply(fresh)
        return whole(asked) if "sig=2" in asked.path else Answer(403, b"<Code>AccessDenied</Code>")

    store.answer = answer
    fetch(store, view, tmp_path)
    assert (tmp_path / "a").read_bytes() == b"x"


def test_large_files_come_in_parallel_ranges(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file is fetched by several ranges at once and still verified as a whole."""
    monkeypatch.setattr(objects, "PARALLEL_FROM", 1 << 20)
    monkeypatch.setattr(objects, "RANGE", 256 << 10)
    data = os.urandom(2_500_001)
    fetch(store, store.view({"small": b"s", "big": data}), tmp_path)
    assert (tmp_path / "big").read_bytes() == data
    assert len(store.web.asked) == 11
    store.content = b"s" + data[:-1] + bytes([data[-1] ^ 1])
    view = store.view({})
    view["entries"] = cast("Any", [entry("bad", data, offset=1)])
    with pytest.raises(Damaged):
        fetch(store, view, tmp_path)
    assert not (tmp_path / "bad").exists()


def test_requests_are_joined_where_gaps_are_small() -> None:
    """Files near each other share a request; a large gap or a large file starts another."""
    near = [Wanted("a", "", 10, 0, 0), Wanted("b", "", 10, 500, 0)]
    far = Wanted("c", "", 10, 5 << 20, 0)
    large = Wanted("d", "", 65 << 20, 6 << 20, 0)
    assert runs_of([large, far, *reversed(near)]) == [near, [far], [large]]


def test_nothing_is_fetched_twice(store: Store, tmp_path: Path) -> None:
    """A file that is here already costs no transfer, and gets its mode."""
    view = store.view({"a": b"same"})
    view["entries"][0]["mode"] = 0o600
    (tmp_path / "a").write_bytes(b"same")
    assert fetch(store, view, tmp_path).paths == [str(tmp_path / "a")]
    assert store.web.asked == []
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_what_was_submitted_may_be_overwritten(store: Store, tmp_path: Path) -> None:
    """An input that the script changed in place is changed here too."""
    (tmp_path / "data").write_bytes(b"old")
    summary = fetch(store, store.view({"data": b"new"}), tmp_path, record_for(tmp_path, "data"))
    assert (tmp_path / "data").read_bytes() == b"new"
    assert summary.aside == []


def test_a_touched_input_is_compared_by_content(store: Store, tmp_path: Path) -> None:
    """Another time stamp alone is no change."""
    (tmp_path / "data").write_bytes(b"old")
    record = record_for(tmp_path, "data")
    os.utime(tmp_path / "data", ns=(1, 1))
    fetch(store, store.view({"data": b"new"}), tmp_path, record)
    assert (tmp_path / "data").read_bytes() == b"new"


def test_an_edited_input_is_kept(store: Store, tmp_path: Path) -> None:
    """A local edit since submission stays; the output is put beside it and named."""
    (tmp_path / "data").write_bytes(b"old")
    record = record_for(tmp_path, "data")
    (tmp_path / "data").write_bytes(b"edited")
    summary = fetch(store, store.view({"data": b"new"}), tmp_path, record)
    assert (tmp_path / "data").read_bytes() == b"edited"
    [(kept, beside)] = summary.aside
    assert kept == str(tmp_path / "data")
    assert Path(beside).read_bytes() == b"new"
    assert beside in summary.notes()[0]


def test_an_older_result_is_overwritten_as_the_script_would(store: Store, tmp_path: Path) -> None:
    """A file from before the submission that was not sent is what the script itself would have overwritten."""
    (tmp_path / "out").write_bytes(b"of the run before")
    before = Record(str(tmp_path), "", "", True, submitted_ns=time.time_ns() + 10**9)
    fetch(store, store.view({"out": b"new"}), tmp_path, before)
    assert (tmp_path / "out").read_bytes() == b"new"


def test_a_file_made_meanwhile_is_kept(store: Store, tmp_path: Path) -> None:
    """A file that appeared here after the submission is somebody's work."""
    record = Record(str(tmp_path), "", "", True, submitted_ns=time.time_ns() - 10**12)
    (tmp_path / "out").write_bytes(b"mine")
    assert len(fetch(store, store.view({"out": b"new"}), tmp_path, record).aside) == 1
    assert (tmp_path / "out").read_bytes() == b"mine"


def test_an_earlier_download_may_be_replaced(store: Store, tmp_path: Path) -> None:
    """What rgrid itself wrote, and nobody touched since, gives way to the result of a retry."""
    place = tmp_path / "out"
    place.write_bytes(b"first")
    record = Record(str(tmp_path), "", "", True, submitted_ns=1, written={str(place): sha(b"first")})
    fetch(store, store.view({"out": b"second"}), tmp_path, record)
    assert place.read_bytes() == b"second"


@pytest.mark.parametrize(("edited", "gone"), [(False, True), (True, False)])
def test_deletions_spare_what_changed(store: Store, tmp_path: Path, edited: bool, gone: bool) -> None:
    """A file that the script deleted is deleted here only if it still is what was submitted."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d/x").write_bytes(b"1")
    record = record_for(tmp_path, "d/x")
    if edited:
        (tmp_path / "d/x").write_bytes(b"2")
    view = store.view({}, entries=[entry("d", kind="deleted"), entry("d/x", kind="deleted")])
    fetch(store, view, tmp_path, record, deletions=True)
    assert (tmp_path / "d/x").exists() is not gone
    assert (tmp_path / "d").exists() is not gone


def test_deletions_are_for_attached_runs_only(store: Store, tmp_path: Path) -> None:
    """A later download deletes nothing."""
    (tmp_path / "x").write_bytes(b"1")
    fetch(store, store.view({}, entries=[entry("x", kind="deleted")]), tmp_path, record_for(tmp_path, "x"))
    assert (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "bad",
    [
        entry("../out"),
        entry("/etc/out"),
        entry("a/../../out"),
        entry("a\0b"),
        entry("l", kind="link", target="/etc/passwd"),
        entry("a/l", kind="link", target="../../x"),
        entry("l", kind="link", target=""),
    ],
)
def test_paths_that_climb_are_refused(store: Store, tmp_path: Path, bad: dict[str, Any]) -> None:
    """No manifest reaches a place outside, and the rest of it arrives."""
    here = tmp_path / "here"
    summary = fetch(store, store.view({"good": b"g"}, entries=[bad]), here)
    assert (here / "good").read_bytes() == b"g"
    assert len(summary.refused) == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["good", "here"]


def test_local_links_out_are_not_followed(store: Store, tmp_path: Path) -> None:
    """A directory here that is a link to elsewhere does not carry outputs there; one that stays inside does."""
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    (here / "real").mkdir(parents=True)
    elsewhere.mkdir()
    (here / "out").symlink_to(elsewhere)
    (here / "in").symlink_to("real")
    (here / "file").symlink_to(elsewhere / "target")
    summary = fetch(store, store.view({"out/a": b"1", "in/b": b"2", "file": b"3"}), here)
    assert os.listdir(elsewhere) == []
    assert (here / "real/b").read_bytes() == b"2"
    assert sorted(path for path, _ in summary.refused) == ["file", "out/a"]


def test_links_arrive_as_links(store: Store, tmp_path: Path) -> None:
    """A link inside the workspace is a link here, and a second download leaves it."""
    view = store.view({"d/a": b"1"}, entries=[entry("l", kind="link", target="d/a")])
    for _ in range(2):
        fetch(store, view, tmp_path)
        assert os.readlink(tmp_path / "l") == "d/a"
    assert (tmp_path / "l").read_bytes() == b"1"


def test_items_of_a_batch_have_directories_of_their_own(store: Store, tmp_path: Path) -> None:
    """Same names in two items do not meet; what lies above the working directory stays below the item's."""
    down = Downloader(store.client, Layout(str(tmp_path), "work"), None)
    down.fetch(store.view({"work/r": b"1", "data/s": b"2"}, output_name="x/a.txt"))
    down.fetch(store.view({"work/r": b"3"}, output_name="y/a.txt"))
    found = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"x/a.txt/r": b"1", "x/a.txt/_up/data/s": b"2", "y/a.txt/r": b"3"}


def test_flat_outputs_do_not_overwrite_each_other(store: Store, tmp_path: Path) -> None:
    """With ``--flat`` the first item to make a name keeps it; the next goes to its item's directory."""
    down = Downloader(store.client, Layout(str(tmp_path), ""), None, flat=True)
    views = [
        store.view({"r": b"1", "one": b"o"}, output_name="a"),
        store.view({"r": b"2", "two": b"t"}, output_name="b"),
    ]
    for view in views:
        down.reserve(view)
    for view in reversed(views):
        down.fetch(view)
    found = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"r": b"1", "one": b"o", "two": b"t", "b/r": b"2"}


def test_a_file_where_a_directory_should_be(store: Store, tmp_path: Path) -> None:
    """What cannot be placed is named; the rest arrives."""
    (tmp_path / "d").write_bytes(b"a file")
    summary = fetch(store, store.view({"d/x": b"1", "ok": b"2"}), tmp_path)
    assert [path for path, _ in summary.refused] == ["d/x"]
    assert (tmp_path / "ok").exists()


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """Root writes everywhere, so it becomes somebody else for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_directory_that_takes_nothing(store: Store) -> None:
    """No permission is said with the place, and nothing is half there."""
    with tempfile.TemporaryDirectory() as folder:  # below a directory that everybody may enter
        place = Path(folder)
        place.chmod(0o555)
        with pytest.raises(LocalTrouble) as caught, without_privileges():
            fetch(store, store.view({"a": b"1"}), place)
        assert folder in caught.value.message
        assert list(place.iterdir()) == []
