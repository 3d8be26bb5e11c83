"""What never travels by itself: version control, virtual environments, caches, and what ``.rgridignore`` lists."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from rgrid_shared.errors import UsageError

FILE: Final = ".rgridignore"

_FOLDERS: Final = frozenset(
    {
        ".git",
        ".hg",
        ".svn",
        ".bzr",
        ".venv",
        "__pycache__",
        "__pypackages__",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".hypothesis",
        ".tox",
        ".nox",
        ".eggs",
        ".cache",
        ".ipynb_checkpoints",
        ".rgrid",
        "node_modules",
    }
)
_FILES: Final = frozenset({".DS_Store", "Thumbs.db", ".git", FILE})


def never_folder(path: str, name: str) -> bool:
    """True for a directory that no walk enters: version control, caches, virtual and conda environments."""
    if name in _FOLDERS:
        return True
    return _exists(f"{path}/pyvenv.cfg") or _exists(f"{path}/conda-meta/history")


def never_file(name: str) -> bool:
    """True for a file that no walk takes: compiled Python and what file managers leave."""
    return name in _FILES or name.endswith((".pyc", ".pyo"))


@cache
def _exists(path: str) -> bool:
    return Path(path).exists()


@dataclass(frozen=True, slots=True)
class _Pattern:
    regex: re.Pattern[str]
    folders_only: bool
    keeps: bool


class Ignored:
    """Answers whether ``.rgridignore`` files leave a path out.

    The file works as ``.gitignore`` does (gitignore(5)): ``*``, ``?``, ``[…]``, ``**``, a leading ``/`` for its own
    directory, a trailing ``/`` for directories, ``!`` to take back, ``#`` comments; the last pattern that fits
    decides, and a file deeper down comes after those above it. Nothing below an ignored directory is taken back.
    """

    def __init__(self, tops: tuple[str, ...]) -> None:
        """``tops``: absolute directories at and below which the files are honoured."""
        self._tops = tops
        self._by_folder: dict[str, tuple[_Pattern, ...]] = {}
        self._folders: dict[str, bool] = {}

    def __call__(self, path: str, *, folder: bool = False) -> bool:
        """True if the absolute ``path`` or a directory above it is ignored."""
        for top in self._tops:
            if path.startswith(top + "/"):
                parts = path[len(top) + 1 :].split("/")
                break
        else:
            return False
        here = top
        for part in parts[:-1]:
            here = f"{here}/{part}"
            if self._folder(here, top):
                return True
        return self._folder(path, top) if folder else self._decide(path, top, folder=False)

    def _folder(self, path: str, top: str) -> bool:
        known = self._folders.get(path)
        if known is None:
            known = self._folders[path] = self._decide(path, top, folder=True)
        return known

    def _decide(self, path: str, top: str, *, folder: bool) -> bool:
        ignored = False
        base = top
        while True:
            for pattern in self._patterns(base):
                if (folder or not pattern.folders_only) and pattern.regex.fullmatch(path[len(base) + 1 :]):
                    ignored = not pattern.keeps
            cut = path.find("/", len(base) + 1)
            if cut == -1:
                return ignored
            base = path[:cut]

    def _patterns(self, folder: str) -> tuple[_Pattern, ...]:
        known = self._by_folder.get(folder)
        if known is None:
            known = self._by_folder[folder] = _read(f"{folder}/{FILE}")
        return known


def _read(path: str) -> tuple[_Pattern, ...]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} cannot be read: {error}.", hint="It decides what stays here, so it must be."
        ) from error
    return tuple(pattern for line in text.splitlines() if (pattern := _compile(line)))


def _compile(line: str) -> _Pattern | None:
    text = line.rstrip() if not line.endswith("\\ ") else line
    if not text or text.startswith("#"):
        return None
    keeps = text.startswith("!")
    text = text[1:] if keeps else text
    folders_only = text.endswith("/")
    text = text.rstrip("/")
    anchored = "/" in text
    text = text.lstrip("/")
    if not text:
        return None
    return _Pattern(re.compile(("" if anchored else "(?:.*/)?") + glob_regex(text), re.DOTALL), folders_only, keeps)


def glob_regex(pattern: str) -> str:
    """A regular expression for a glob over ``/``-separated paths: ``*`` stays within a part, ``**`` crosses them."""
    out: list[str] = []
    index = 0
    while index < len(pattern):
        char = pattern[index]
        if pattern.startswith("**/", index) and (index == 0 or pattern[index - 1] == "/"):
            out.append("(?:[^/]+/)*")
            index += 3
        elif pattern.startswith("**", index):
            out.append(".*")
            index += 2
        elif char == "[" and (end := pattern.find("]", index + 2)) != -1:
            inside = pattern[index + 1 : end]
            inside = "^" + inside[1:] if inside[0] in "!^" else inside
            out.append("[" + inside.replace("\\", "\\\\") + "]")
            index = end + 1
        else:
            out.append({"*": "[^/]*", "?": "[^/]"}.get(char) or re.escape(char))
            index += 1
    return "".join(out)
