"""What a script needs, as its text tells: its own modules, the data files that it names, the options it declares."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from rgrid.submit.ignore import Ignored
from rgrid.submit.imports import Closure, ImportSearch
from rgrid.submit.listings import Listings
from rgrid.submit.locate import Located
from rgrid.submit.pysource import Source, parse
from rgrid.submit.secrets_filter import secret_part
from rgrid.submit.units import show_count
from rgrid.submit.walk import matching
from rgrid.times import size_text
from rgrid_shared.errors import UsageError

MAX_LITERAL: Final = 10 << 20
MAX_READ_FILES: Final = 1_000
MAX_READ_BYTES: Final = 100 << 20

_WORD: Final = re.compile(r"[^\s\"'`$;|&<>(){}\[\],=]+")
_OPTION: Final = re.compile(r"(?<![\w-])--[A-Za-z][\w-]*")


@dataclass(slots=True)
class Scan:
    """What the script's text asks for. Paths are absolute.

    ``text``: the script's bytes; ``files``: files to ship → why; ``folders``: directories that exist and are named;
    ``options``: long options that it declares; ``remarks``: path → what to say if the path does not travel otherwise;
    ``details``: the same, for a dry run only; ``needed``: path → why the script cannot do without it, for modules that
    stay here because they look like secrets; ``problem``: why the script could not be parsed.
    """

    located: Located
    text: bytes
    closure: Closure
    files: dict[str, str] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    options: set[str] = field(default_factory=set)
    remarks: dict[str, str] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    needed: dict[str, str] = field(default_factory=dict)
    problem: str = ""


def scan(located: Located, ignored: Ignored, environ: Mapping[str, str], *, extra_roots: Iterable[str] = ()) -> Scan:
    """Read a script and what it brings along. Nothing is run. Raises UsageError for a file that cannot be read."""
    return _Scanner(located, ignored, environ, extra_roots).run()


class _Scanner:
    def __init__(
        self, located: Located, ignored: Ignored, environ: Mapping[str, str], extra_roots: Iterable[str]
    ) -> None:
        self._located = located
        self._ignored = ignored
        self._names = Listings()
        self._search = ImportSearch(located, self._read, environ=environ, extra_roots=extra_roots)
        text = _bytes(located.path) if located.path else b""
        self._scan = Scan(located, text, self._search.found)

    def run(self) -> Scan:
        located, scan = self._located, self._scan
        done: set[str] = set()
        if located.language == "python":
            self._search.run()
            first = self._search.found.sources.get(located.path)
            scan.problem = first.problem if first else ""
        else:
            self._words(located.path, scan.text)
        while todo := [path for path in self._search.found.sources if path not in done]:
            for path in todo:
                done.add(path)
                self._source(self._search.found.sources[path])
        for path in self._search.found.sources:
            if path not in (located.path, located.real):
                self._own(path, "imported")
        for path in self._search.found.binaries:
            self._own(path, "imported")
        return scan

    def _read(self, path: str) -> Source:
        text = self._scan.text if path == self._located.path else _bytes(path)
        return parse(path, text, self._located.cwd)

    def _own(self, path: str, why: str) -> None:
        """Ship a module of the project; a secret-shaped one must be named by the user."""
        part = secret_part(path[len(self._base(path)) :])
        if part:
            self._scan.needed[path] = (
                f"{self._show(path)} is imported, but {part!r} looks like a secret and stays here."
            )
        elif not self._ignored(path):
            self._scan.files.setdefault(path, why)

    def _source(self, source: Source) -> None:
        self._scan.options |= source.options
        bases = list(
            dict.fromkeys((self._located.cwd, os.path.dirname(self._located.path), os.path.dirname(source.path)))
        )
        for text, line in source.paths.items():
            self._literal(text, bases, source.path, line)
        for pattern, line in source.reads.items():
            self._listed(pattern, bases, source.path, line)

    def _words(self, path: str, content: bytes) -> None:
        """A script that is not Python: every word of it may name a file."""
        text = content.decode("utf-8", "replace")
        self._scan.options |= set(_OPTION.findall(text))
        bases = list(dict.fromkeys((self._located.cwd, os.path.dirname(path))))
        known = set(self._scan.files)
        for number, line in enumerate(text.splitlines(), start=1):
            for word in _WORD.findall(line.partition(" #")[0] if self._located.language == "bash" else line):
                self._literal(word, bases, path, number)
                if self._located.language == "node" and word.startswith("."):
                    for ending in (".js", ".mjs", ".cjs", ".json", "/index.js"):
                        self._literal(word + ending, bases, path, number)
        if self._located.language == "node":
            self._literal("package.json", bases, path, 0)
        for other in [file for file in self._scan.files if file not in known]:
            if other.endswith((".sh", ".bash", ".js", ".mjs", ".cjs")):
                self._words(other, _bytes(other))

    def _literal(self, text: str, bases: list[str], file: str, line: int) -> None:
        if len(text) > 1024 or "\0" in text or "\n" in text:
            return
        first = text.partition("/")[0]
        for base in bases[:1] if text.startswith("/") else bases:
            if first and first not in (".", "..", "~") and first not in self._names.of(base):
                continue
            path = os.path.normpath(os.path.join(base, text))
            try:
                status = os.stat(path)
            except (OSError, ValueError):
                parent = os.path.dirname(path)
                if "/" in text and self._located.owns(parent) and os.path.isdir(parent):
                    self._scan.folders.add(parent)
                continue
            self._existing(path, status, f"named in {self._show(file)}:{line}", typed=text)

    def _existing(self, path: str, status: os.stat_result, why: str, *, typed: str) -> None:
        located, scan = self._located, self._scan
        if path in (located.path, located.real) or path in scan.files:
            return
        if stat.S_ISDIR(status.st_mode):
            if located.owns(path):
                scan.folders.add(path)
                scan.details.setdefault(
                    path, f"{self._show(path)}/ is {why}; --include '{self._show(path)}/**' sends it"
                )
            return
        if not stat.S_ISREG(status.st_mode):
            return
        shown = self._show(path)
        if not located.owns(path) or not located.owns(os.path.realpath(path)):
            if not typed.startswith("/"):
                scan.remarks[path] = f"{shown} is {why} but lies outside the project; --include {shown} sends it"
        elif part := secret_part(path[len(self._base(path)) :]):
            scan.remarks[path] = f"{shown} is {why} but {part!r} looks like a secret; --include {shown} sends it"
        elif _never(path[len(self._base(path)) :]) or self._ignored(path):
            scan.details[path] = f"{shown} is {why} but is ignored"
        elif status.st_size > MAX_LITERAL:
            scan.remarks[path] = (
                f"{shown} is {why} but has {size_text(status.st_size)}, over 10 MiB; --include {shown} sends it"
            )
        else:
            scan.files[path] = why
            if path.endswith(".py"):
                self._search.include(path)

    def _listed(self, pattern: str, bases: list[str], file: str, line: int) -> None:
        """A directory listing or glob whose arguments are literals: ship what it finds, within limits."""
        for base in bases:
            full = os.path.normpath(os.path.join(base, pattern))
            if not self._located.owns(full):
                continue
            found = [
                path
                for path in matching(full, self._ignored, self._located.owns, limit=MAX_READ_FILES + 1).files
                if path not in self._scan.files
            ]
            sizes = {path: os.stat(path).st_size for path in found}
            if not found:
                continue
            shown = self._show(full)
            if len(found) > MAX_READ_FILES or sum(sizes.values()) > MAX_READ_BYTES:
                self._scan.remarks[full] = (
                    f"{shown} is read in {self._show(file)}:{line} but is large "
                    f"({show_count(len(found), 'file')} or more); --include '{shown}' sends it"
                )
                continue
            for path, size in sizes.items():
                if size <= MAX_LITERAL:
                    self._scan.files.setdefault(path, f"listed in {self._show(file)}:{line}")

    def _base(self, path: str) -> str:
        """The project that a path lies in, so that secrets are looked for below it only."""
        return next((top for top in self._located.projects if path.startswith(top + "/")), os.path.dirname(path))

    def _show(self, path: str) -> str:
        return os.path.relpath(path, self._located.cwd)


def _never(path: str) -> bool:
    return any(part in (".git", ".hg", ".svn", "__pycache__", ".venv", "node_modules") for part in path.split("/"))


def _bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", hint="Check its permissions.") from error
