"""What travels with a script, gathered from its text, its arguments and ``--include``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from rgrid.submit.ignore import Ignored
from rgrid.submit.locate import Located
from rgrid.submit.scan import Scan
from rgrid.submit.secrets_filter import secret_part
from rgrid.submit.units import show_count
from rgrid.submit.walk import Found, matching, walk
from rgrid.times import size_text
from rgrid_shared.errors import UsageError

MAX_FILES: Final = 10_000
MAX_BYTES: Final = 1 << 30


class Bundle:
    """Grows while the script, the arguments and the includes are looked at. Paths are absolute.

    ``files``: what all items share, path → why; ``named``: those of them that are arguments themselves; ``folders``:
    further directories that exist on the runner; ``links``: link → its text; ``left_out``: path → why it stays here;
    ``notes``: path → what to say about it.
    """

    def __init__(self, located: Located, ignored: Ignored, home: str) -> None:
        self.located = located
        self.files: dict[str, str] = {}
        self.named: set[str] = set()
        self.folders: set[str] = set()
        self.links: dict[str, str] = {}
        self.left_out: dict[str, str] = {}
        self.notes: dict[str, str] = {}
        self._ignored = ignored
        self._homes = {home, os.path.realpath(home)}

    def too_high(self, path: str) -> str:
        """Why a directory never travels as a whole; empty if it may."""
        if path == "/":
            return "the root directory"
        if path in self._homes:
            return "the home directory"
        if any(home.startswith(path + "/") for home in self._homes):
            return "above the home directory"
        return "above the working directory" if self.located.cwd.startswith(path + "/") else ""

    def add_script(self, scan: Scan) -> None:
        """The script, its modules and the data files that they name."""
        located = self.located
        if located.path:
            self.files[located.real] = "script"
            self.named.add(located.real)
            if located.real != located.path:
                self.links[located.path] = os.path.relpath(located.real, os.path.dirname(located.path))
            typed = os.path.normpath(os.path.join(located.cwd, located.typed))
            if not located.module and typed != located.path:
                self._link_to_folder(os.path.dirname(typed))
        for path, why in scan.files.items():
            self.files.setdefault(path, why)
        self.folders |= scan.folders

    def _link_to_folder(self, folder: str) -> None:
        """The link through which the script's directory was typed."""
        while folder != "/" and not os.path.islink(folder):
            folder = os.path.dirname(folder)
        if folder != "/":
            self.links[folder] = os.path.relpath(os.path.realpath(folder), os.path.realpath(os.path.dirname(folder)))

    def add_folder(self, path: str, files: dict[str, str]) -> None:
        """A directory that is an argument, with all in it; its files go to ``files``."""
        self._merge(walk(path, self._rules(path), self.located.owns), f"in {self._show(path)}/", files)
        self.folders.add(path)

    def include(self, patterns: Iterable[str]) -> None:
        """``--include``: globs relative to the working directory; raises UsageError if one names nothing."""
        for typed in patterns:
            pattern = os.path.normpath(os.path.join(self.located.cwd, os.path.expanduser(typed)))
            if self.too_high(pattern) and os.path.isdir(pattern):
                raise UsageError(
                    f"--include {typed}: that is {self.too_high(pattern)}.",
                    hint="Name what is needed: --include 'data/**'",
                )
            found = matching(pattern, self._rules(pattern), self.located.owns, whole=True)
            if not (found.files or found.links or found.folders):
                left = f" ({found.left_out[0][1]})" if found.left_out else ""
                raise UsageError(
                    f"--include: nothing matches {typed!r}{left}.", hint=f"It is taken from {self.located.cwd}."
                )
            self._merge(found, f"--include {typed}", self.files)

    def _rules(self, path: str) -> Ignored:
        inside = any(path == top or path.startswith(top + "/") for top in self.located.projects)
        return self._ignored if inside else Ignored((path,))

    def _merge(self, found: Found, why: str, files: dict[str, str]) -> None:
        for path in found.files:
            files.setdefault(path, why)
        self.folders.update(found.folders)
        self.links.update(found.links)
        self.left_out.update(found.left_out)

    def check(self, scan: Scan, sizes: dict[str, int], *, allow_large: bool) -> None:
        """Refuse a bundle that lacks what it needs or weighs too much. Raises UsageError."""
        for path, problem in scan.needed.items():
            if path not in self.files:
                raise UsageError(problem, hint=f"If it is no secret: --include {self._show(path)}")
        free = {path: size for path, size in sizes.items() if path not in self.named}
        total = sum(free.values())
        if allow_large or (len(free) <= MAX_FILES and total <= MAX_BYTES):
            return
        largest = sorted(free.items(), key=lambda entry: -entry[1])[:5]
        listing = "\n".join(
            f"  {size_text(size):>9}  {self._show(path)}  ({self.files[path]})" for path, size in largest
        )
        raise UsageError(
            f"{show_count(len(free), 'file')} with {size_text(total)} would travel; the largest:\n{listing}",
            hint="List what is not needed in .rgridignore, or send it all with --allow-large.",
        )

    def remarks(self, scan: Scan) -> list[str]:
        """What to say: about paths that the script names but that stay here, and about what was left out."""
        said = [text for path, text in scan.remarks.items() if path not in self.files]
        said += self.notes.values()
        secret = [path for path in self.left_out if path not in self.files and secret_part(os.path.basename(path))]
        if secret:
            names = ", ".join(self._show(path) for path in secret[:3]) + (" …" if len(secret) > 3 else "")
            said.append(f"{names} stayed here: named like secrets; --include sends them")
        others = [path for path in self.left_out if path not in self.files and path not in secret]
        if others:
            first = f"{self._show(others[0])} ({self.left_out[others[0]]})"
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            said.append(f"{first}{more} stayed here")
        return said

    def _show(self, path: str) -> str:
        return os.path.relpath(path, self.located.cwd)
