"""A shell of this host's, for images that have neither an interpreter nor a shell.

``keeper.sh`` needs ``sh``, ``env`` and ``setsid``. They are copied with the libraries that they are linked with, and
the copies name a loader that lies beside them, so that they run whatever C library the image has, or none. Only PID 1
and what starts a script use them; the script's own environment does not know of them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from struct import unpack_from
from typing import Final

from rgrid_shared.errors import UsageError

SEEN: Final = "/rgrid/host"
"""Where a container sees them."""
COMMAND: Final = (f"{SEEN}/sh",)
ENV: Final = {"PATH": SEEN, "LD_LIBRARY_PATH": SEEN}
_PROGRAMS: Final = ("sh", "env", "setsid")
_LOADER: Final = "loader"
_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
_LIBRARY: Final = re.compile(r"=> (/\S+)")
_ELF_64: Final = b"\x7fELF\x02\x01"
_INTERPRETER: Final = 3
"""``PT_INTERP``."""


def install(directory: Path) -> None:
    """Copy the programs to ``directory``, to be mounted at ``SEEN``. UsageError if this host's cannot be used so."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    directory.chmod(0o755)
    for name in _PROGRAMS:
        found = shutil.which(name, path=_PATH)
        if found is None:
            raise UsageError(f"The docker backend needs {name} on this host.")
        data = Path(found).read_bytes()
        offset, size = _loader_field(data)
        if size:
            loader = data[offset : offset + size].rstrip(b"\0").decode()
            for library in _libraries(loader, found):
                _put(directory / library.name, library.read_bytes())
            _put(directory / _LOADER, Path(loader).read_bytes())
            data = data[:offset] + _field(size) + data[offset + size :]
        _put(directory / name, data)


def _field(size: int) -> bytes:
    """The loader's new path in the place of the old one."""
    path = f"{SEEN}/{_LOADER}".encode()
    if len(path) >= size:
        raise UsageError("This host's programs name a loader whose path is too short to be replaced.")
    return path.ljust(size, b"\0")


def _loader_field(data: bytes) -> tuple[int, int]:
    """Where a program names its loader: offset and size, 0 bytes for one without."""
    if not data.startswith(_ELF_64):
        raise UsageError("This host's programs are not of 64 bits, little end first.")
    table, width, count = unpack_from("<Q", data, 32)[0], *unpack_from("<HH", data, 54)
    for at in range(table, table + width * count, width):
        if unpack_from("<I", data, at)[0] == _INTERPRETER:
            return int(unpack_from("<Q", data, at + 8)[0]), int(unpack_from("<Q", data, at + 32)[0])
    return 0, 0


def _libraries(loader: str, program: str) -> list[Path]:
    """What the loader would load for a program, by the names that the program has for it."""
    listed = subprocess.run([loader, "--list", program], capture_output=True, text=True, check=False, timeout=30)
    if listed.returncode:
        raise UsageError(f"{loader} cannot tell what {program} needs: {listed.stderr.strip()}")
    return [Path(found) for found in _LIBRARY.findall(listed.stdout)]


def _put(path: Path, data: bytes) -> None:
    """Write a program; containers that are up keep the one that they have."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_bytes(data)
    new.chmod(0o755)
    new.replace(path)
