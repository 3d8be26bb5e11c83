"""The wire's spec and items from what was gathered: paths relative to the common root, files with their hashes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rgrid.submit.arguments import AbsoluteArg, ArgText
from rgrid.submit.bundle import Bundle
from rgrid.submit.hashing import Hashed
from rgrid.submit.request import RunRequest
from rgrid_shared.errors import UsageError
from rgrid_shared.specs import Arg, FileRef, Item, Requirements, Spec, Stdin
from rgrid_shared.wire import path_problem


class Piece(NamedTuple):
    """An item before the root is known. ``files``: its own, absolute path → why."""

    name: str
    output_name: str
    args: list[ArgText]
    files: dict[str, str]


def common_root(bundle: Bundle, pieces: Iterable[Piece], argv0: ArgText) -> str:
    """The deepest directory that holds the working directory, the script and everything that travels."""
    located = bundle.located
    places = {located.cwd, *bundle.folders}
    places.update(os.path.dirname(path) for path in (*bundle.files, *bundle.links))
    if isinstance(argv0, AbsoluteArg):
        places.add(os.path.dirname(argv0.path))
    for piece in pieces:
        places.update(path.rpartition("/")[0] or "/" for path in piece.files)
        for arg in piece.args:
            if isinstance(arg, AbsoluteArg):
                places.add(os.path.dirname(arg.path))
    return os.path.commonpath(places)


class _Paths:
    """Absolute local paths as paths below the root."""

    def __init__(self, root: str) -> None:
        self._cut = 1 if root == "/" else len(root) + 1

    def relative(self, path: str) -> str:
        """``path`` below the root; raises UsageError if it cannot stand on the wire."""
        found = path[self._cut :]
        if not found.isascii() or len(found) > 200 or "\0" in found:
            problem = path_problem(found)
            if problem:
                raise UsageError(f"The path {path!r} {problem}.", hint="Rename it, or leave it out by .rgridignore.")
        return found

    def arg(self, arg: ArgText) -> Arg:
        """An argument as the wire has it."""
        if isinstance(arg, str):
            return arg
        return {"prefix": arg.prefix, "path": self.relative(arg.path), "original": arg.original}

    def file(self, file: Hashed) -> FileRef:
        """A shipped file as the wire has it."""
        return {"path": self.relative(file.path), "sha256": file.sha256, "size": file.size, "mode": file.mode}


def build_spec(
    request: RunRequest,
    bundle: Bundle,
    root: str,
    files: Mapping[str, Hashed],
    *,
    argv0: ArgText,
    runtime: str,
    requirements: Requirements | None,
    env_names: list[str],
    stdin: Hashed | None,
) -> Spec:
    """What all items share."""
    located = bundle.located
    paths = _Paths(root)
    shipped = [paths.file(files[path]) for path in sorted(bundle.files)]
    folders = {path for path in (located.cwd, *bundle.folders) if path != root}
    links = {path: text for path, text in bundle.links.items() if not _holds(path, bundle)}
    wire_stdin: Stdin = None
    if stdin is not None:
        wire_stdin = {"sha256": stdin.sha256, "size": stdin.size}
    elif request.stdin == "stream":
        wire_stdin = {"stream": True}
    return {
        "root": root,
        "cwd": "" if located.cwd == root else paths.relative(located.cwd),
        "script": {
            "kind": "module" if located.module else "file",
            "path": located.typed if located.module else paths.relative(located.real),
            "argv0": paths.arg(argv0),
            "name": located.typed if located.module else os.path.basename(located.typed),
            "language": located.language,
        },
        "files": shipped,
        "dirs": sorted(paths.relative(path) for path in folders),
        "links": {paths.relative(path): text for path, text in sorted(links.items())},
        "runtime": runtime,
        "requirements": requirements,
        "resources": request.resources,
        "timeout_s": request.timeout_s,
        "retry": {"retries": request.retries, "on": list(request.retry_on)},
        "network": request.network,
        "isolate": request.isolate,
        "stdin": wire_stdin,
        "env_names": env_names,
    }


def _holds(link: str, bundle: Bundle) -> bool:
    """True if something travels by a path through this link: then it is a directory on the runner."""
    inside = link + "/"
    return any(path.startswith(inside) for path in (*bundle.files, *bundle.folders)) or link in bundle.files


def build_items(pieces: Iterable[Piece], root: str, files: Mapping[str, Hashed]) -> list[Item]:
    """The items, in order."""
    paths = _Paths(root)
    return [
        {
            "name": piece.name,
            "output_name": piece.output_name,
            "args": [paths.arg(arg) for arg in piece.args],
            "files": [paths.file(files[path]) for path in piece.files],
        }
        for piece in pieces
    ]
