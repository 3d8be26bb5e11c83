"""Interpreters: what one is, how it is asked for its version, and those of this host by runtime name.

A version manager's shim (pyenv, asdf) answers differently from directory to directory: every Python found is asked
for its real executable. Answers are kept by path, size and modification time, so that a start asks nobody twice.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rgrid_runner.files import read_json, write_json

MINORS: Final = tuple(f"3.{minor}" for minor in range(10, 15))
_PROBE_TIMEOUT_S: Final = 20.0
_PYTHON_QUESTION: Final = (
    "import sys;v=sys.version_info;"
    "print(sys.implementation.name,'%d.%d.%d'%v[:3]+('' if v[3]=='final' else v[3]),"
    "getattr(sys,'_base_executable','') or sys.executable,sep='\\n')"
)
_VERSION: Final = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


_PYTHONS: Final = {"cpython", "pypy", "graalpy", "python"}


@dataclass(frozen=True, slots=True)
class Interpreter:
    """``name``: of the runtime; ``implementation``: ``cpython``, ``bash`` …; ``version``: in full (``3.11.7``).

    ``path``: the program, in ``image`` if that is not empty. ``image``: as it is called; ``image_id``: which one that
    was when it was asked (``sha256:…``).
    """

    name: str
    implementation: str
    version: str
    path: str
    image: str = ""
    image_id: str = ""

    @property
    def is_python(self) -> bool:
        """True if dependencies can be installed for it."""
        return self.implementation in _PYTHONS

    @property
    def full_name(self) -> str:
        """Implementation and full version, as layer keys name them: ``cpython-3.11.7``."""
        return f"{self.implementation}-{self.version}"


def question(language: str) -> tuple[str, ...]:
    """The arguments with which an interpreter of ``language`` (``python``, ``node``, ``bash``) says what it is."""
    return ("-I", "-S", "-c", _PYTHON_QUESTION) if language == "python" else ("--version",)


def answered(language: str, text: str, path: str) -> tuple[str, str, str] | None:
    """What an interpreter says of itself: implementation, full version, its program. None: that is no answer.

    ``path`` is the program that was asked; a Python names the one behind it.
    """
    if language == "python":
        lines = text.splitlines()
        return (lines[0], lines[1], lines[2]) if len(lines) == 3 else None
    match = _VERSION.search(text)
    return (language, match[0], path) if match else None


def discover(extra: Mapping[str, str], cache: Path, env: Mapping[str, str] | None = None) -> dict[str, Interpreter]:
    """All interpreters of this host by runtime name; the first found wins. ``extra`` come first under their own names.

    ``cache``: a JSON file with the answers of earlier probes.
    """
    env = os.environ if env is None else env
    candidates = list(extra.items())
    candidates += [("", path) for path in _python_candidates(env)]
    candidates += [(tool, path) for tool in ("bash", "node") if (path := shutil.which(tool, path=env.get("PATH")))]
    memory = _Answers(cache)
    with ThreadPoolExecutor(max_workers=4, thread_name_prefix="probe") as pool:
        answers = list(pool.map(lambda candidate: memory.ask(*candidate), candidates))
    memory.save()
    found: dict[str, Interpreter] = {}
    for answer in answers:
        if answer is not None:
            found.setdefault(answer.name, answer)
    return found


def _python_candidates(env: Mapping[str, str]) -> Iterator[str]:
    yield getattr(sys, "_base_executable", "") or sys.executable
    for directory in env.get("PATH", os.defpath).split(os.pathsep):
        if Path(directory).name == "shims":
            continue  # a version manager's: what it stands for is found below, and asking a shim costs 0.2 s
        for name in (*(f"python{minor}" for minor in MINORS), "python3"):
            path = os.path.join(directory, name)  # noqa: PTH118
            if os.access(path, os.X_OK):
                yield path
    home = Path(env.get("HOME", "~")).expanduser()
    for root in (
        Path(env.get("PYENV_ROOT") or home / ".pyenv") / "versions",
        home / ".asdf/installs/python",
        Path(env.get("UV_PYTHON_INSTALL_DIR") or home / ".local/share/uv/python"),
    ):
        newest_first = sorted(root.glob("*/bin/python3"), key=_version_in, reverse=True)
        for executable in newest_first:
            version = _version_in(executable)
            if not version or f"{version[0]}.{version[1]}" in MINORS:
                yield str(executable)


def _version_in(path: Path) -> tuple[int, ...]:
    match = _VERSION.search(path.parent.parent.name)
    return tuple(int(part or 0) for part in match.groups()) if match else ()


class _Answers:
    """What was said by executables that have not changed since."""

    def __init__(self, file: Path) -> None:
        self._file = file
        kept = read_json(file)
        self._kept: dict[str, dict[str, str] | None] = kept if isinstance(kept, dict) else {}
        self._used: dict[str, dict[str, str] | None] = {}

    def ask(self, name: str, path: str) -> Interpreter | None:
        """The interpreter at ``path``, called ``name`` if that is not empty, or None if it does not work."""
        try:
            stat = os.stat(path)  # noqa: PTH116
        except OSError:
            return None
        key = f"{name}|{path}|{stat.st_size}|{stat.st_mtime_ns}"
        if key not in self._kept:
            self._kept[key] = _probe(name, path)
        self._used[key] = answer = self._kept[key]
        if answer is None or not os.access(answer["path"], os.X_OK):
            return None
        return Interpreter(**answer)

    def save(self) -> None:
        """Keep what was used; interpreters that are gone are forgotten."""
        write_json(self._file, self._used)


def _probe(name: str, path: str) -> dict[str, str] | None:
    tool = name if name in {"bash", "node"} else "python"
    said = answered(tool, _run([path, *question(tool)]) or "", path)
    if said is None:
        if not name or tool != "python":
            return None
        match = _VERSION.search(_run([path, "--version"]) or "")
        return asdict(Interpreter(name, name.rstrip("0123456789."), match[0] if match else "0", path))
    implementation, version, executable = said
    major, minor = version.split(".")[:2]
    if tool != "python":
        return asdict(Interpreter(f"node{major}" if tool == "node" else tool, tool, version, path))
    if f"{major}.{minor}" not in MINORS and not name:
        return None
    # Whoever names an interpreter means that one, be it an environment's; what is found stands for itself.
    return asdict(Interpreter(name or f"python{major}.{minor}", implementation, version, path if name else executable))


def _run(command: list[str]) -> str | None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout
