"""A shim's entry: ``python -I -S main.py``. File descriptor 3 is the agent, 4 listens for a successor.

Isolated and without ``site``: the shim starts in some ten milliseconds and nothing in the user's environment or
site-packages can change it. Everything it needs is imported here, once, so that an upgrade which replaces the files
on disk does not touch a shim that runs.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Serve until the agent is gone and nothing runs."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib costs 8 ms
    sys.path.append(os.path.dirname(os.path.dirname(here)))  # noqa: PTH120
    from rgrid_runner.shim.guard import go_on_guarded
    from rgrid_runner.shim.server import Server

    os.closerange(5, 1024)
    os.chdir("/")
    os.umask(0o022)  # the script's
    note = go_on_guarded()
    Server(agent=3, listener=4, note=note).serve()


if __name__ == "__main__":
    main()
