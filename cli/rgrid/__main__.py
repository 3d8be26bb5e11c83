"""``rgrid`` and ``python -m rgrid``. Answers ``--version`` before anything heavy is imported."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line in ``sys.argv``; the exit code is returned, never raised."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from rgrid_shared import __version__

        sys.stdout.write(f"rgrid {__version__}\n")
        return 0
    from rgrid.main import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
