"""Outputs down: a manifest's files, directories, links and deletions, placed without harm to what is here."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rgrid.client import Expired
from rgrid.transfer.objects import Wanted, fetch, local_trouble, make
from rgrid.transfer.placement import Guard, Layout, Outside, Verdict, entry_problem, judge, may_delete
from rgrid_shared.wire import EMPTY_SHA256

if TYPE_CHECKING:
    from rgrid.client import Client
    from rgrid.runs import Record
    from rgrid_shared.protocol import OutputEntry
    from rgrid_shared.views import OutputsView

OBJECT_STREAMS: Final = 4


@dataclass(slots=True)
class Summary:
    """What a download did. ``paths``: absolute places of the files that are here now.

    ``aside``: local changes that were kept: (the file, where the output was put instead). ``refused``: entries that
    were not placed, and why. ``left_out``: what the runner did not collect, and why.
    """

    paths: list[str] = field(default_factory=list)
    bytes: int = 0
    deleted: int = 0
    aside: list[tuple[str, str]] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    written: dict[str, str] = field(default_factory=dict)

    def add(self, other: Summary) -> None:
        """Take another summary in."""
        self.paths += other.paths
        self.bytes += other.bytes
        self.deleted += other.deleted
        self.aside += other.aside
        self.refused += other.refused
        self.left_out += other.left_out
        self.written |= other.written

    def notes(self) -> list[str]:
        """Lines for people: only what they must know."""
        lines = [
            f"{path} changed here since it was submitted; the new version is {place}" for path, place in self.aside
        ]
        lines += [f"not placed: {path} {why}" for path, why in self.refused]
        lines += [f"not collected: {path}: {why}" for path, why in self.left_out]
        return lines


class Downloader:
    """Brings manifests here; ``fetch`` may run in several threads at once.

    ``deletions``: apply them (for a single attached run only). ``flat``: no directory for each item. ``count`` is told
    of bytes as they arrive.
    """

    def __init__(
        self,
        client: Client,
        layout: Layout,
        record: Record | None,
        *,
        deletions: bool = False,
        flat: bool = False,
        count: Callable[[int], None] | None = None,
    ) -> None:
        self.client = client
        self.layout = layout
        self.record = record
        self.deletions = deletions
        self.flat = flat
        self.count = count or (lambda _bytes: None)
        self._guard: Guard | None = None
        self._owners: dict[str, str] = {}

    def reserve(self, view: OutputsView) -> None:
        """Give the names of a flat layout to items in the order of these calls; ``fetch`` may then run in any order."""
        if self.flat:
            for entry in view["entries"]:
                self._owners.setdefault(self.layout.local(entry["path"]), view["output_name"])

    def fetch(self, view: OutputsView) -> Summary:
        """Bring one execution's outputs here.

        Raises ``LocalTrouble`` (disk full, no permission), ``Unreachable``, ``Damaged``.
        """
        summary = Summary(left_out=[(item["path"], item["reason"]) for item in view["left_out"]])
        if not view["entries"]:
            return summary
        try:
            self._place(view, summary)
        except OSError as error:
            raise local_trouble(error) from error
        return summary

    def _place(self, view: OutputsView, summary: Summary) -> None:
        os.makedirs(self.layout.base, exist_ok=True)
        guard = self._guard = self._guard or Guard(self.layout.base)
        wanted: dict[int, list[Wanted]] = defaultdict(list)
        later: list[OutputEntry] = []
        for entry in view["entries"]:
            problem = entry_problem(entry)
            if problem:
                summary.refused.append((entry["path"], problem))
            elif entry["kind"] == "file":
                self._plan_file(view, entry, guard, wanted, summary)
            else:
                later.append(entry)
        self._fetch_all(view, wanted)
        for entry in sorted(later, key=lambda entry: (entry["kind"] != "link", -entry["path"].count("/"))):
            try:
                self._apply(view, entry, guard, summary)
            except Outside:
                summary.refused.append((entry["path"], "would leave the directory by a link that is here"))

    def _plan_file(
        self, view: OutputsView, entry: OutputEntry, guard: Guard, wanted: dict[int, list[Wanted]], summary: Summary
    ) -> None:
        local = self._local(view, entry["path"])
        folder = os.path.dirname(local)
        try:
            place = guard.settle(local)
        except Outside:
            summary.refused.append((entry["path"], "would leave the directory by a link that is here"))
            return
        try:
            os.makedirs(folder, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            summary.refused.append((entry["path"], "has a file where its directory should be"))
            return
        verdict = judge(entry, place, self.record)
        if verdict is Verdict.ASIDE:
            aside = f"{place}.rgrid-{view['execution_id'][-6:]}"
            summary.aside.append((place, aside))
            place = aside
            verdict = judge(entry, place, None)
        summary.paths.append(place)
        summary.bytes += entry["size"]
        summary.written[place] = entry["sha256"]
        if verdict is Verdict.SAME:
            os.chmod(place, entry["mode"])
            return
        file = Wanted(place, entry["sha256"], entry["size"], entry["offset"], entry["mode"])
        if entry["size"] == 0 or entry["sha256"] == EMPTY_SHA256:
            make(file, b"")
        else:
            wanted[entry["object"]].append(file)

    def _local(self, view: OutputsView, path: str) -> str:
        """Without directories for the items, the first item to take a name keeps it; others use their directory."""
        if not self.flat:
            return self.layout.local(path, view["output_name"])
        local = self.layout.local(path)
        owner = self._owners.get(local, view["output_name"])
        return local if owner == view["output_name"] else self.layout.local(path, view["output_name"])

    def _fetch_all(self, view: OutputsView, wanted: dict[int, list[Wanted]]) -> None:
        if len(wanted) == 1:
            for number, files in wanted.items():
                self._fetch_object(view, number, files)
        elif wanted:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(OBJECT_STREAMS, "rgrid-object") as pool:
                for future in [pool.submit(self._fetch_object, view, *pair) for pair in wanted.items()]:
                    future.result()

    def _fetch_object(self, view: OutputsView, number: int, files: list[Wanted]) -> None:
        try:
            fetch(self.client, view["objects"][number], files, self.count)
        except Expired:
            fresh = self.client.outputs(view["execution_id"])
            fetch(self.client, fresh["objects"][number], files, self.count)

    def _apply(self, view: OutputsView, entry: OutputEntry, guard: Guard, summary: Summary) -> None:
        local = self._local(view, entry["path"])
        if entry["kind"] == "dir":
            place = guard.settle(local)
            os.makedirs(place, exist_ok=True)
            os.chmod(place, entry["mode"])
        elif entry["kind"] == "link":
            self._link(view, entry, guard.link_place(local), summary)
        elif self.deletions and self.record:
            place = guard.link_place(local)
            if os.path.isdir(place) and not os.path.islink(place):
                with suppress(OSError):
                    os.rmdir(place)
                    summary.deleted += 1
            elif may_delete(entry["path"], place, self.record):
                os.unlink(place)
                summary.deleted += 1

    def _link(self, view: OutputsView, entry: OutputEntry, place: str, summary: Summary) -> None:
        landing = os.path.normpath(os.path.join(os.path.dirname(entry["path"]), entry["target"]))
        there = self._local(view, landing)
        here = self._local(view, entry["path"])
        target = entry["target"] if self.layout.cwd is None else os.path.relpath(there, os.path.dirname(here))
        if os.path.islink(place):
            if os.readlink(place) == target:
                summary.paths.append(place)
                return
        elif os.path.lexists(place):
            summary.refused.append((entry["path"], "is a link on the grid and something else here"))
            return
        os.makedirs(os.path.dirname(place), exist_ok=True)
        temporary = f"{place}.rgrid-{view['execution_id'][-6:]}"
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        os.symlink(target, temporary)
        os.replace(temporary, place)
        summary.paths.append(place)


def total_bytes(views: Iterable[OutputsView]) -> int:
    """Bytes of all files in these manifests."""
    return sum(entry["size"] for view in views for entry in view["entries"] if entry["kind"] == "file")
