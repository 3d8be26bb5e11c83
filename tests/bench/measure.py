"""How the benches measure: whole commands, by the clock on the wall, medians of a few."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from support.grid import RGRID, run, user_python

PY = user_python()


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, the figure, and the target it must stay under."""

    code: str
    what: str
    figure: float
    must: float
    unit: str = "×"
    note: str = ""


def timed(argv: list[str], *, cwd: Path, env: dict[str, str], code: int = 0) -> float:
    """Seconds that a command takes; it must exit with ``code``."""
    start = time.perf_counter()
    done = run(argv, cwd=cwd, stdin=None, env=env, timeout=600)
    seconds = time.perf_counter() - start
    if done.code != code:
        raise SystemExit(f"{argv}: exit {done.code}\n{done.errors}")
    return seconds


def median(measure: Callable[[], float], times: int) -> float:
    """The median of ``times`` measurements."""
    return statistics.median(measure() for _ in range(times))


def rgrid(*args: str) -> list[str]:
    """The command line of ``rgrid ARGS``, started as its installed entry point is."""
    script = Path(sys.executable).with_name("rgrid")
    return [str(script), *args] if script.exists() else [*RGRID, *args]


UPPER = "import sys\nfrom pathlib import Path\nPath('out.txt').write_text(Path(sys.argv[1]).read_text().upper())\n"
"""A small script: one file in, one file out."""
FILES = 200


def small_files(place: Path) -> list[str]:
    """``FILES`` small inputs and the script that takes one of them; the inputs' names."""
    (place / "in").mkdir()
    (place / "upper.py").write_text(UPPER)
    for number in range(FILES):
        (place / f"in/{number:03}.txt").write_text("some words\n" * 20)
    return [f"in/{number:03}.txt" for number in range(FILES)]


def four_at_a_time(command: list[str], names: list[str], place: Path) -> tuple[float, str]:
    """Seconds that ``command`` takes for each of ``names``, four at a time, and by which program."""
    parallel = shutil.which("parallel")
    whole = [parallel, "-j4", *command, "{}"] if parallel else ["xargs", "-P4", "-n1", *command]
    start = time.perf_counter()
    subprocess.run(whole, cwd=place, input="\n".join(names).encode(), capture_output=True, check=True)
    return time.perf_counter() - start, "GNU parallel" if parallel else "xargs -P4"
