"""The files below a directory, and those that a glob names."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from rgrid.submit.ignore import Ignored, glob_regex, never_file, never_folder
from rgrid.submit.secrets_filter import secret_name

MAGIC = "*?["


@dataclass(slots=True)
class Found:
    """What a walk met. Paths are absolute.

    ``files``: regular files (a link to a file outside the tree but inside the project counts as its bytes);
    ``folders``: every directory met; ``links``: link → its text, for links that stay inside the tree; ``left_out``:
    what stays here, and why.
    """

    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)


def walk(
    top: str,
    ignored: Ignored,
    owns: Callable[[str], bool],
    *,
    secrets_too: Callable[[str], bool] = lambda _path: False,
    limit: int | None = None,
    depth: int | None = None,
) -> Found:
    """Everything below ``top`` but version control, environments, caches, secrets, and what is ignored.

    ``owns``: whether a link's target is inside the project. ``secrets_too``: secret-shaped paths that the user named.
    ``limit``: stop after so many files. ``depth``: enter so many levels of directories only; those below are named in
    ``folders`` but not entered. Directories that cannot be read are listed in ``left_out``.
    """
    found = Found()
    real_top = os.path.realpath(top)
    pending = [top]
    while pending:
        folder = pending.pop()
        found.folders.append(folder)
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            found.left_out.append((folder, error.strerror or "cannot be read"))
            continue
        inner: list[str] = []
        for entry in listed:
            path = f"{folder}/{entry.name}" if folder != "/" else f"/{entry.name}"
            is_link = entry.is_symlink()
            is_folder = not is_link and entry.is_dir()
            if is_folder and never_folder(path, entry.name):
                continue
            if not is_folder and never_file(entry.name):
                continue
            if ignored(path, folder=is_folder):
                continue
            if secret_name(entry.name) and not secrets_too(path):
                found.left_out.append((path, "looks like a secret"))
            elif is_folder:
                inner.append(path)
            elif is_link:
                _link(path, top, real_top, owns, found)
            elif entry.is_file():
                found.files.append(path)
            else:
                found.left_out.append((path, "is no regular file"))
            if limit is not None and len(found.files) >= limit:
                return found
        if depth is None or folder.count("/") - top.count("/") + 1 < depth:
            pending.extend(reversed(inner))
        else:
            found.folders.extend(inner)
    return found


def _link(path: str, top: str, real_top: str, owns: Callable[[str], bool], found: Found) -> None:
    text = os.readlink(path)
    real = os.path.realpath(path)
    inside = real.startswith(real_top + "/")
    if inside and not os.path.isabs(text) and os.path.normpath(f"{os.path.dirname(path)}/{text}").startswith(top + "/"):
        found.links[path] = text
    elif (inside or owns(real)) and os.path.isfile(real):
        found.files.append(path)
    else:
        found.left_out.append((path, "is a link out of the project"))


def matching(
    pattern: str, ignored: Ignored, owns: Callable[[str], bool], *, whole: bool = False, limit: int | None = None
) -> Found:
    """The files that an absolute glob names; ``**`` crosses directories.

    ``whole``: a directory that it names counts with all that is in it. Hidden names match only a pattern that spells
    their dot. A secret-shaped name counts if the pattern's own last part is secret-shaped: then the user named it.
    """
    start = pattern
    while any(char in start for char in MAGIC):
        start = os.path.dirname(start)
    if start == pattern:
        return _plain(pattern, ignored, owns)
    regex = re.compile(glob_regex(pattern), re.DOTALL)
    hidden = "/." in pattern
    named_secret = secret_name(pattern.rpartition("/")[2])
    met = walk(
        start,
        ignored,
        owns,
        secrets_too=lambda path: named_secret and regex.fullmatch(path) is not None,
        depth=None if "**" in pattern else pattern.count("/") - start.rstrip("/").count("/"),
    )

    def fits(path: str) -> bool:
        return (hidden or "/." not in path[len(start) :]) and regex.fullmatch(path) is not None

    found = Found(
        files=[path for path in met.files if fits(path)][:limit],
        links={path: text for path, text in met.links.items() if fits(path)},
        left_out=[(path, why) for path, why in met.left_out if fits(path)],
    )
    if whole and "**" not in pattern:
        for folder in met.folders:
            if folder != start and fits(folder):
                inside = walk(folder, ignored, owns)
                found.files += inside.files
                found.folders += inside.folders
                found.links |= inside.links
                found.left_out += inside.left_out
    return found


def _plain(path: str, ignored: Ignored, owns: Callable[[str], bool]) -> Found:
    if os.path.isdir(path):
        return walk(path, ignored, owns)
    return Found(files=[path]) if os.path.isfile(path) else Found()
