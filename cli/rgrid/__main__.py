"""``rgrid`` and ``python -m rgrid``. Answers ``--version`` before anything heavy is imported."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command line in ``sys.argv``. Ends the process with the exit code, or returns it where that is quick."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from rgrid_shared import __version__

        sys.stdout.write(f"rgrid {__version__}\n")
        return 0
    from rgrid.main import run

    code = run(sys.argv[1:])
    if os.environ.get("RGRID_DEBUG"):
        return code
    # Everything is written and closed by now. Taking the interpreter down piece by piece would add a fifth to a short
    # command, and would wait for threads that only read.
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
