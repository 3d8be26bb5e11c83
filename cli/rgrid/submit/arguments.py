"""Arguments that name files: what travels with them, and how they read on the runner."""

from __future__ import annotations

import os
import re
import stat
from typing import Final, NamedTuple

from rgrid.submit.bundle import Bundle
from rgrid_shared.errors import UsageError

_DEVICES: Final = ("/dev/", "/proc/", "/sys/")
_MAX_PATH: Final = 4096
_LETTER: Final = re.compile(r"-[A-Za-z]")


class AbsoluteArg(NamedTuple):
    """An argument that holds an absolute path: ``prefix`` + ``original``; ``path`` is its shortest form."""

    prefix: str
    path: str
    original: str


ArgText = str | AbsoluteArg


class Arguments:
    """Looks at arguments one by one; files go to the bundle, or to the item that they belong to."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._cwd = bundle.located.cwd
        self._seen: dict[str, tuple[ArgText, dict[str, str]]] = {}

    def take(self, text: str, files: dict[str, str], where: str = "") -> ArgText:
        """One argument, and the files that travel because of it (path → why) added to ``files``.

        ``where``: the item, for messages. Raises UsageError for an argument that no program can be given, and for a
        pipe from the shell's ``<(…)``.
        """
        known = self._seen.get(text)
        if known is None:
            found: dict[str, str] = {}
            known = self._seen[text] = (self._look(text, found, where), found)
        files.update(known[1])
        return known[0]

    def _look(self, text: str, found: dict[str, str], where: str) -> ArgText:
        if "\0" in text:
            raise UsageError(f"{where or repr(text)} holds a NUL byte.", hint="No argument of a program can hold one.")
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise UsageError(f"The argument {text!r} is not valid UTF-8.", hint="Rename the file.") from error
        for prefix, rest in _candidates(text):
            taken = self._existing(prefix, rest, found)
            if taken is not None:
                return taken
        for prefix, rest in _candidates(text):
            taken = self._to_be_made(prefix, rest)
            if taken is not None:
                return taken
        return text

    def _existing(self, prefix: str, rest: str, found: dict[str, str]) -> ArgText | None:
        try:
            status = os.stat(os.path.join(self._cwd, rest))
        except (OSError, ValueError):
            return None
        path = self._path(rest)
        mode = status.st_mode
        if stat.S_ISFIFO(mode):
            raise UsageError(
                f"The argument {rest} is a pipe; it cannot travel.", hint="Write it to a file first, or use stdin."
            )
        if path.startswith(_DEVICES):
            return prefix + rest
        if stat.S_ISREG(mode):
            found[path] = "argument"
        elif stat.S_ISDIR(mode) and not _LETTER.fullmatch(prefix):
            if self._bundle.too_high(path):
                self._bundle.notes.setdefault(
                    path, f"{rest} stays here: it is {self._bundle.too_high(path)}; --include sends parts of it"
                )
                return prefix + rest
            self._bundle.add_folder(path, found)
        else:
            return None
        return AbsoluteArg(prefix, path, rest) if rest.startswith("/") else prefix + rest

    def _to_be_made(self, prefix: str, rest: str) -> ArgText | None:
        """A path that does not exist but whose directory does: the script may write there."""
        if "/" not in rest or len(rest) > _MAX_PATH or "://" in rest:
            return None
        path = self._path(rest)
        parent = os.path.dirname(path)
        if parent == "/" or path.startswith(_DEVICES) or not os.path.isdir(parent):
            return None
        if rest.startswith("/"):
            if self._bundle.too_high(parent) and not self._bundle.located.owns(path):
                return None
            self._bundle.folders.add(parent)
            return AbsoluteArg(prefix, path, rest)
        if not self._bundle.too_high(parent):
            self._bundle.folders.add(parent)
        return prefix + rest

    def _path(self, rest: str) -> str:
        full = rest if rest.startswith("/") else f"{self._cwd}/{rest}"
        if "/." in full or "//" in full or full.endswith("/"):
            return os.path.normpath(full).replace("//", "/")
        return full


def _candidates(text: str) -> list[tuple[str, str]]:
    """The ways to read a path in an argument: all of it, behind ``=``, behind ``@``, behind a short option's letter."""
    ways = [("", text)] if text else []
    head, equals, tail = text.partition("=")
    if equals and tail:
        ways.append((f"{head}=", tail))
    if text.startswith("@") and len(text) > 1:
        ways.append(("@", text[1:]))
    if len(text) > 2 and text[0] == "-" and text[1].isalpha() and not equals:
        ways.append((text[:2], text[2:]))
    return ways
