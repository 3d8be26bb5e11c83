"""Which file SCRIPT names, what runs it, and which directories count as its project."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rgrid_shared.errors import UsageError
from rgrid_shared.specs import Language

_BY_EXTENSION: Final[dict[str, Language]] = {
    ".py": "python",
    ".pyw": "python",
    ".sh": "bash",
    ".bash": "bash",
    ".js": "node",
    ".mjs": "node",
    ".cjs": "node",
}
_BY_PROGRAM: Final[dict[str, Language]] = {
    "python": "python",
    "bash": "bash",
    "sh": "bash",
    "node": "node",
    "nodejs": "node",
}
_MARKS: Final = (".git", ".hg", ".rgrid", "pyproject.toml", "setup.py", "setup.cfg", ".rgridignore")


@dataclass(frozen=True, slots=True)
class Located:
    """A script. Paths are absolute.

    ``typed``: as it was given. ``path``: the file; for a module the one that ``-m`` runs, empty if it is no file of
    this project (``-m pytest``). ``real``: with links followed; Python puts its directory on ``sys.path``.
    ``import_root``: that directory, or the working directory for a module. ``projects``: directories whose files
    count as the script's own, outermost first.
    """

    typed: str
    path: str
    real: str
    cwd: str
    module: bool
    language: Language
    import_root: str
    projects: tuple[str, ...]

    def owns(self, path: str) -> bool:
        """True if an absolute path lies inside the script's project."""
        return any(path.startswith(project + "/") for project in self.projects)


def locate(script: str, cwd: str, *, module: bool = False) -> Located:
    """Find the script; raises UsageError for a missing or unreadable one, a directory, an unknown language."""
    if not script:
        raise UsageError("The script's name is empty.", hint="rgrid run SCRIPT [ARGS]…")
    if "\0" in script:
        raise UsageError("The script's name holds a NUL byte.", hint="rgrid run SCRIPT [ARGS]…")
    if module:
        path = _module_file(script, cwd)
        return Located(script, path, path, cwd, True, "python", cwd, _projects(cwd, os.path.dirname(path) or cwd))
    path = os.path.normpath(os.path.join(cwd, script))
    _check_file(script, path)
    # `__file__` follows no link of its own but is otherwise where it was typed: only its directory is resolved.
    path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    real = os.path.realpath(path)
    language = _language(script, path)
    return Located(
        script, path, real, cwd, False, language, os.path.dirname(real), _projects(cwd, os.path.dirname(real))
    )


def _check_file(script: str, path: str) -> None:
    if script == "-":
        raise UsageError("A script on stdin is not supported.", hint="Save it to a file: rgrid run script.py")
    if script == "{}":
        raise UsageError(
            "{} stands where the script's name belongs.",
            hint="Name the script first: rgrid run SCRIPT {} --batch '*.csv'",
        )
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        if os.path.islink(path):
            raise UsageError(
                f"{script} is a link to {os.readlink(path)}, which is not there.", hint="Check where it leads."
            ) from error
        raise UsageError(f"There is no script {script!r}.", hint=_near(path)) from error
    except OSError as error:
        raise UsageError(f"{script}: {error.strerror}.", hint="Check the path.") from error
    if stat.S_ISDIR(mode):
        inside = f"{script.rstrip('/')}/__main__.py"
        known = os.path.exists(os.path.join(path, "__main__.py"))
        raise UsageError(
            f"{script} is a directory, not a script.",
            hint=f"Name the file: rgrid run {inside}"
            if known
            else "Name a file, or a module with rgrid run -m MODULE.",
        )
    if not stat.S_ISREG(mode):
        raise UsageError(f"{script} is not a regular file.", hint="Save the script to a file.")
    if not os.access(path, os.R_OK):
        raise UsageError(f"{script} cannot be read: permission denied.", hint=f"chmod u+r {script}")


def _near(path: str) -> str:
    """A hint that names a file with a like name in the same directory, if there is one."""
    from difflib import get_close_matches

    try:
        names = os.listdir(os.path.dirname(path))
    except OSError:
        return "Check the path."
    close = get_close_matches(os.path.basename(path), names, n=1, cutoff=0.6)
    return (
        f"Did you mean {os.path.join(os.path.dirname(os.path.relpath(path)), close[0])}?"
        if close
        else "Check the path."
    )


def _language(script: str, path: str) -> Language:
    try:
        with open(path, "rb") as file:
            first = file.readline(256)
    except OSError as error:
        raise UsageError(f"{script} cannot be read: {error.strerror}.", hint="Check its permissions.") from error
    program = ""
    if first.startswith(b"#!"):
        words = first[2:].decode("utf-8", "replace").split()
        names = [os.path.basename(word) for word in words if not word.startswith("-") and "=" not in word]
        program = next((name for name in names if name != "env"), "")
    known = _BY_EXTENSION.get(Path(path).suffix.lower()) or _BY_PROGRAM.get(re.sub(r"[\d.]+$", "", program))
    if known:
        return known
    if program == "uv" or (not program and not Path(path).suffix and b"\0" not in first):
        return "python"
    ending = Path(path).suffix or "nothing"
    what = f"its first line asks for {program}" if program else f"names ending in {ending} are unknown"
    raise UsageError(
        f"rgrid does not know how to run {script}: {what}.",
        hint="Python (.py), bash (.sh) and Node.js (.js, .mjs) scripts run, or any that names one of them by #!.",
    )


def _module_file(name: str, cwd: str) -> str:
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", name):
        raise UsageError(f"{name!r} is not the name of a module.", hint="rgrid run -m package.module [ARGS]…")
    base = os.path.join(cwd, *name.split("."))
    for path in (f"{base}/__main__.py", f"{base}.py"):
        if os.path.isfile(path):
            return path
    if os.path.isfile(f"{base}/__init__.py"):
        raise UsageError(
            f"The package {name} has no __main__.py.", hint=f"Name a module in it: rgrid run -m {name}.MODULE"
        )
    return ""


def _projects(cwd: str, folder: str) -> tuple[str, ...]:
    """The script's project and the working directory, without those inside another.

    The project is the nearest directory upward that a version control system or a Python project marks. The home
    directory and ``/`` are nobody's project.
    """
    home = os.path.expanduser("~")
    too_high = {"/", home, os.path.realpath(home), *_above(home), *_above(os.path.realpath(home))}
    found = folder
    for candidate in (folder, *_above(folder)):
        if candidate in too_high:
            break
        if any(os.path.exists(f"{candidate}/{mark}") for mark in _MARKS):
            found = candidate
            break
    tops = sorted({path for path in (found, cwd) if path not in too_high} or {folder}, key=len)
    return tuple(top for i, top in enumerate(tops) if not any(top.startswith(other + "/") for other in tops[:i]))


def _above(path: str) -> list[str]:
    return [str(parent) for parent in Path(path).parents]
