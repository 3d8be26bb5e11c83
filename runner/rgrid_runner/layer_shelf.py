"""The layers that a runner keeps: each complete when its name appears, the least recently used leave first."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rgrid_runner.files import read_json, remove_tree, write_json

UNUSED_FOR_S: Final = 30 * 24 * 3600.0
_TOUCH_S: Final = 3600.0
_META: Final = "meta.json"


@dataclass(frozen=True, slots=True)
class Kept:
    """A layer on the shelf. ``used_at``: seconds since 1970."""

    size: int
    used_at: float


def surplus(kept: Mapping[str, Kept], budget: int, in_use: Set[str]) -> list[str]:
    """The layers that have to go for the others to come to ``budget`` bytes: least recently used first, none in use."""
    excess = sum(each.size for each in kept.values()) - budget
    gone = []
    for key, each in sorted(kept.items(), key=lambda item: (item[1].used_at, item[0])):
        if excess <= 0:
            break
        if key not in in_use:
            gone.append(key)
            excess -= each.size
    return gone


def measure(root: Path) -> int:
    """Bytes of all files below ``root``."""
    total = 0
    pending = [os.fspath(root)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                info = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(info.st_mode):
                    pending.append(entry.path)
                else:
                    total += info.st_size
    return total


class Shelf:
    """Layers below ``root``, by key. ``budget``: bytes."""

    def __init__(self, root: Path, budget: int, clock: Callable[[], float]) -> None:
        self._root = root
        self._budget = budget
        self._clock = clock
        self._kept: dict[str, Kept] = {}
        self._written: dict[str, float] = {}
        self._holders: defaultdict[str, set[str]] = defaultdict(set)
        root.mkdir(parents=True, exist_ok=True)
        for path in root.iterdir():
            meta = read_json(path / _META)
            if not path.name.startswith(".") and isinstance(meta, dict):
                self._kept[path.name] = Kept(meta.get("bytes", 0), (path / _META).stat().st_mtime)

    def path(self, key: str) -> Path:
        """Where the layer is, or will be."""
        return self._root / key

    def staging(self, key: str) -> Path:
        """Where it may be made ready."""
        return self._root / f".build-{key}"

    def has(self, key: str) -> bool:
        """True if it is there, complete."""
        return key in self._kept

    def put(self, staging: Path, key: str, size: int, meta: Mapping[str, Any]) -> None:
        """Give what was made ready in ``staging`` its name, in one step. OSError: the disk."""
        now = self._clock()
        self._note(staging / _META, {**meta, "key": key, "bytes": size}, now)
        remove_tree(self.path(key))
        staging.rename(self.path(key))
        self._kept[key] = Kept(size, now)
        self._written[key] = now

    def grown(self, key: str, size: int) -> None:
        """It has this many bytes now."""
        if (kept := self._kept.get(key)) is not None:
            file = self.path(key) / _META
            self._note(file, {**read_json(file), "bytes": size}, kept.used_at)
            self._kept[key] = Kept(size, kept.used_at)

    def _note(self, file: Path, meta: Mapping[str, Any], used_at: float) -> None:
        """Write what is known of a layer; the file's time is that of the last use."""
        write_json(file, meta, mode=0o644)
        os.utime(file, (used_at, used_at))

    def hold(self, key: str, holder: str) -> None:
        """It is in use by ``holder`` until that lets go; also before it is there."""
        self._holders[key].add(holder)

    def release(self, holder: str) -> None:
        """``holder`` uses nothing any more."""
        for key in [key for key, holders in self._holders.items() if holder in holders]:
            self._holders[key].discard(holder)
            if not self._holders[key]:
                del self._holders[key]

    def used(self, key: str) -> None:
        """Note a use; on disk at most once an hour."""
        now = self._clock()
        self._kept[key] = Kept(self._kept[key].size, now)
        if now - self._written.get(key, 0.0) > _TOUCH_S:
            os.utime(self.path(key) / _META, (now, now))
            self._written[key] = now

    def take_surplus(self, now: float) -> list[Path]:
        """Take from the shelf what is over the budget or was not used for 30 days; the directories to remove."""
        old = [key for key, each in self._kept.items() if each.used_at < now - UNUSED_FOR_S]
        gone = [key for key in old if key not in self._holders]
        rest = {key: each for key, each in self._kept.items() if key not in gone}
        return [self._take(key) for key in (*gone, *surplus(rest, self._budget, self._holders.keys()))]

    def _take(self, key: str) -> Path:
        del self._kept[key]
        self._written.pop(key, None)
        gone = self._root / f".gone-{key}"
        self.path(key).rename(gone)
        return gone

    def prune(self) -> None:
        """Remove what an earlier agent left half-done."""
        for path in self._root.iterdir():
            if path.name not in self._kept:
                with suppress(OSError):
                    remove_tree(path)
