"""What a runner's containers have inside, and how their PID 1 is started.

::

    /rgrid/lib/   keeper.py, keeper.sh, warm/sitecustomize.py (read-only mount of what ``install`` made)
    /rgrid/ctl/   the control directory (read-only mount of what ``make_control`` made)
        go      host → keeper: a line starts what ``order`` says; its end of file (no writer left) ends the container
        status  keeper → host: started, failed, exited
        in, out, err   the script's descriptors 0, 1 and 2
        order   what to run; only there while a script is being started

All below the control directory belongs to root and can be reached by the scripts' group alone, each FIFO in one
direction: a script can neither replace one nor keep its container alive by holding ``go`` open.
"""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Final

UID: Final = 10001
"""User and group of everything in a container, its PID 1 included."""
PROGRAMS: Final = "/rgrid/lib"
CONTROL: Final = "/rgrid/ctl"
LAYER: Final = "/opt/rgrid/layer"
_FILES: Final = {"keeper.py": "keeper.py", "keeper.sh": "keeper.sh", "zygote.py": "warm/sitecustomize.py"}
_FIFOS: Final = {"go": 0o640, "in": 0o640, "status": 0o620, "out": 0o620, "err": 0o620}


def install(directory: Path) -> None:
    """Copy the programs that run inside to ``directory``, to be mounted at ``PROGRAMS``.

    A copy, so that an upgrade of the package does not change a container that is up, and readable for ``UID``
    wherever the package lies.
    """
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    source = resources.files(f"{__package__}.inside")
    for name, place in _FILES.items():
        path = directory / place
        path.parent.mkdir(exist_ok=True)
        path.parent.chmod(0o755)
        new = path.with_name(f".{path.name}")
        new.write_bytes((source / name).read_bytes())
        new.chmod(0o644)
        new.replace(path)


def make_control(directory: Path) -> None:
    """Make a control directory with its FIFOs, to be mounted at ``CONTROL``. Needs root.

    Who started the container holds ``go`` open for reading and writing (``hold``) until it wants the container to end.
    """
    directory.mkdir(mode=0o750, parents=True)
    for name, mode in _FIFOS.items():
        path = directory / name
        os.mkfifo(path, mode)
        os.chown(path, 0, UID)
        path.chmod(mode)
    os.chown(directory, 0, UID)
    directory.chmod(0o750)


def hold(control: Path) -> int:
    """A descriptor that keeps the container of this control directory up; to be opened before the container starts.

    Close it to let an idle container end. While a run is in it, its shim holds one too.
    """
    return os.open(control / "go", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)


def keeper_command(python: str) -> list[str]:
    """PID 1 of a container. ``python``: the image's interpreter (3.7 or later), empty if it has only ``sh``."""
    if python:
        return [python, "-I", "-S", "-B", f"{PROGRAMS}/keeper.py"]
    return ["/bin/sh", f"{PROGRAMS}/keeper.sh"]
