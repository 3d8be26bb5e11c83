"""The interpreters of this host, by runtime name: ``python3.11``, ``bash``, ``node20``.

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
_PYTHON_PROBE: Final = (
    "import sys;v=sys.version_info;"
    "print(sys.implementation.name,'%d.%d.%d'%v[:3]+('' if v[3]=='final' else v[3]),"
    "getattr(sys,'_base_executable','') or sys.executable,sep='\\n')"
)
_VERSION: Final = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True)
class Interpreter:
    """``name``: of the runtime; ``implementation``: ``cpython``, ``bash`` …; ``version``: in full (``3.11.7``)."""

    name: str
    implementation: str
    version: str
    path: str

    @property
    def is_python(self) -> bool:
        """True if dependencies can be installed for it."""
        return self.name.startswith("python")

    @property
    def full_name(self) -> str:
        """Implementation and full version, as layer keys name them: ``cpython-3.11.7``."""
        return f"{self.implementation}-{self.version}"


def discover(extra: Mapping[str, Path], cache: Path, env: Mapping[str, str] | None = None) -> dict[str, Interpreter]:
    """All interpreters of this host by runtime name; the first found wins. ``extra`` come first under their own names.

    ``cache``: a JSON file with the answers of earlier probes.
    """
    env = os.environ if env is None else env
    candidates = [(name, str(path)) for name, path in extra.items()]
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
    tool = name if name in {"bash", "node"} else ""
    if tool:
        text = _run([path, "--version"])
        match = _VERSION.search(text or "")
        if match is None:
            return None
        called = f"node{match[1]}" if tool == "node" else tool
        return asdict(Interpreter(called, tool, match[0], path))
    answer = (_run([path, "-I", "-S", "-c", _PYTHON_PROBE]) or "").splitlines()
    if len(answer) != 3:
        if not name:
            return None
        match = _VERSION.search(_run([path, "--version"]) or "")
        return asdict(Interpreter(name, name.rstrip("0123456789."), match[0] if match else "0", path))
    implementation, version, executable = answer
    minor = ".".join(version.split(".")[:2])
    if minor not in MINORS and not name:
        return None
    # Whoever names an interpreter means that one, be it an environment's; what is found stands for itself.
    return asdict(Interpreter(name or f"python{minor}", implementation, version, path if name else executable))


def _run(command: list[str]) -> str | None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout
