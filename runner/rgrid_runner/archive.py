"""A directory tree as one ``.tar.zst``, and back, whoever packed it.

What is unpacked may come from a host that was broken into or from package code: nothing but plain files, directories
and links that stay inside is made, nothing outside the target is touched, and caps hold before bytes are written.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Self

from rgrid_shared.wire import path_problem

LEVEL: Final = 3
_THREADS: Final = 2
_WINDOW: Final = 128 * 1024**2
_PIECE: Final = 256 * 1024
_EXTENDED: Final = 64 * 1024
"""Bytes of an extended header (a long name); a tar file may claim any number, which would be read into memory."""
_KINDS: Final = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE)
_EXTENSIONS: Final = (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_DEEPEST: Final = 64
_INTERPRETER: Final = re.compile(r"bin/python[0-9.]*")
_PYTHON: Final = re.compile(r"(?:/[^/\0]+)*/(?:python|pypy)[0-9.]*")


class BadArchive(Exception):
    """The archive holds what none of ours holds; the message says what."""


@dataclass(frozen=True, slots=True)
class Packed:
    """An archive that was made: its bytes and their hash, and the bytes of the files in it."""

    size: int
    sha256: str
    unpacked: int


@dataclass(frozen=True, slots=True)
class Caps:
    """What an archive may unpack to. ``ratio``: times its own size, beyond the first MiB."""

    unpacked: int
    entries: int = 500_000
    ratio: int = 200

    def allowed(self, size: int) -> int:
        """Bytes that an archive of ``size`` bytes may come to."""
        return min(self.unpacked, (size + 1024**2) * self.ratio)


class _Hashing:
    """A file that is written through a hash."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.state = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        """Write all of ``data``."""
        self.state.update(data)
        self.size += len(data)
        return self._file.write(data)


def pack(root: Path, target: Path) -> Packed:
    """Pack all below ``root`` into the file ``target``, in order of name. OSError: the disk.

    Left out: whatever is no file, directory or link, and set-id bits. Times are kept to the second, for bytecode says
    by them what it was compiled from. Links are packed as they are, never followed.
    """
    import zstandard

    unpacked = 0
    with target.open("wb") as file:
        out = _Hashing(file)
        compressor = zstandard.ZstdCompressor(level=LEVEL, threads=_THREADS)
        with (
            compressor.stream_writer(out, closefd=False) as stream,  # type: ignore[arg-type]
            tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            for name, info in _walk(os.fspath(root), ""):
                entry = _entry(root, name, info)
                if not entry.isreg():
                    tar.addfile(entry)
                    continue
                with os.fdopen(os.open(root / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as content:
                    tar.addfile(entry, content)
                unpacked += info.st_size
    return Packed(out.size, out.state.hexdigest(), unpacked)


def _walk(root: str, below: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(f"{root}/{below}") as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        info = entry.stat(follow_symlinks=False)
        name = f"{below}/{entry.name}" if below else entry.name
        if stat.S_ISDIR(info.st_mode):
            yield name, info
            yield from _walk(root, name)
        elif stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode):
            yield name, info


def _entry(root: Path, name: str, info: os.stat_result) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode = stat.S_IMODE(info.st_mode) & 0o777
    entry.mtime = int(info.st_mtime)
    if stat.S_ISDIR(info.st_mode):
        entry.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(info.st_mode):
        entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(root / name)  # noqa: PTH115
    else:
        entry.size = info.st_size
    return entry


class _Member(tarfile.TarInfo):
    """A member whose kind and length are looked at before the rest of it is read."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """A header. BadArchive if it is of a kind that is not made here."""
        member = super().frombuf(buf, encoding, errors)
        if member.type in _EXTENSIONS:
            if member.size > _EXTENDED:
                raise BadArchive("a header of it is too long")
        elif member.type not in _KINDS:
            raise BadArchive(f"{member.name!r} is neither a file nor a directory nor a link")
        return member


def unpack(source: Path, target: Path, caps: Caps) -> int:
    """Unpack into the new directory ``target``; the bytes of the files.

    Links stay inside, but for an environment's ``bin/python``, which leads to its interpreter. Everything becomes
    readable for all and writable for nobody but the owner, who is the caller. BadArchive: it is refused, and
    ``target`` holds a part of it that is to be removed; OSError: the disk.
    """
    import zstandard

    allowed = caps.allowed(source.stat().st_size)
    target.mkdir()
    try:
        with source.open("rb") as file:
            stream = zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(file)
            with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as tar:
                return _Unpacking(tar, os.fspath(target), allowed, caps.entries).run()
    except (tarfile.TarError, zstandard.ZstdError, EOFError, ValueError, OverflowError, RecursionError) as error:
        raise BadArchive(f"it cannot be read: {error}") from error


class _Unpacking:
    def __init__(self, tar: Any, root: str, allowed: int, entries: int) -> None:
        self._tar = tar
        self._root = root
        self._allowed = allowed
        self._entries = entries
        self._directories: dict[str, int] = {"": 0}
        self._written = 0

    def run(self) -> int:
        count = 0
        while (member := self._tar.next()) is not None:
            self._tar.members.clear()  # it would keep them all
            count += 1
            if count > self._entries:
                raise BadArchive(f"it holds more than {self._entries:,} entries")
            self._check(member)
            self._make(member)
        for name, mtime in self._directories.items():
            if name:
                os.utime(f"{self._root}/{name}", (mtime, mtime))
        return self._written

    def _check(self, member: tarfile.TarInfo) -> None:
        name = member.name
        if problem := path_problem(name):
            raise BadArchive(f"the path {name[:200]!r} {problem}")
        if name.count("/") >= _DEEPEST:
            raise BadArchive(f"{name[:200]!r} lies too deep")
        # Only directories that this archive made are written to, and nothing is ever replaced: no link is in the way.
        if name.rpartition("/")[0] not in self._directories:
            raise BadArchive(f"{name!r} lies in a directory that is not there")
        if member.issparse():
            raise BadArchive(f"{name!r} is a file with holes")
        if member.issym() and not _stays(name, member.linkname):
            raise BadArchive(f"the link {name!r} leads out to {member.linkname[:200]!r}")
        if member.isreg():
            self._written += member.size
            if self._written > self._allowed:
                raise BadArchive(f"it unpacks to more than {self._allowed:,} bytes")

    def _make(self, member: tarfile.TarInfo) -> None:
        path = f"{self._root}/{member.name}"
        try:
            if member.isdir():
                os.mkdir(path, 0o755)  # noqa: PTH102
                self._directories[member.name] = int(member.mtime)
            elif member.issym():
                os.symlink(member.linkname, path)  # noqa: PTH211
            else:
                self._write(member, path)
        except FileExistsError:
            raise BadArchive(f"{member.name!r} stands twice in it") from None

    def _write(self, member: tarfile.TarInfo, path: str) -> None:
        content = self._tar.extractfile(member)
        mode = 0o755 if member.mode & 0o111 else 0o644
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            while piece := content.read(_PIECE):
                view = memoryview(piece)
                while view:
                    view = view[os.write(file, view) :]
            os.fchmod(file, mode)
            os.utime(file, (int(member.mtime), int(member.mtime)))
        finally:
            os.close(file)


def _stays(name: str, linkname: str) -> bool:
    """True if a link stays inside, up at most to the root first and down from there, or is the interpreter's."""
    if linkname.startswith("/"):
        return bool(_INTERPRETER.fullmatch(name) and _PYTHON.fullmatch(linkname)) and "/../" not in linkname
    parts = linkname.split("/")
    up = 0
    while up < len(parts) and parts[up] == "..":
        up += 1
    return linkname != "" and "" not in parts and ".." not in parts[up:] and up <= name.count("/")
