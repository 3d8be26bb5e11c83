"""What a run in a container costs, against ``docker run`` of the same."""

from __future__ import annotations

import os
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path

from support.engine import IMAGE, missing_engine
from support.grid import Grid

from bench.measure import PY, Row, four_at_a_time, median, rgrid, small_files, timed

ENV = {"RGRID_RUNNER_BACKEND": "docker"}
_DOCKER = (
    "docker", "run", "--rm", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
    "--user", "10001:10001", "--tmpfs", "/tmp:size=64m", "--memory", "512m", "--pids-limit", "512", "--workdir", "/w",
)  # fmt: skip
_MIB = 1 << 20
_TURN = """\
import hashlib
import sys
from pathlib import Path

data = Path(sys.argv[1]).read_bytes()
digest = hashlib.sha256(data).hexdigest()
turned = data[::-1]
Path("out.bin").write_bytes(turned)
print(len(data), digest[:8])
"""


def missing() -> str:
    """Why nothing can be measured here; empty if it can."""
    return missing_engine()


def docker_run(place: Path, *command: str) -> list[str]:
    """The same hardened container by ``docker run``, the files mounted."""
    return [*_DOCKER, "--volume", f"{place}:/w", IMAGE, *command]


def s1(grid: Grid, place: Path) -> Iterator[Row]:
    """One script, 1 MiB in, 1 MiB out, typed to output on disk, on a warm grid."""
    place.chmod(0o777)
    (place / "turn.py").write_text(_TURN)
    env = grid.env()

    def fresh() -> None:
        (place / "in.bin").write_bytes(os.urandom(_MIB))
        (place / "out.bin").unlink(missing_ok=True)

    def ours() -> float:
        fresh()
        seconds = timed(rgrid("run", "turn.py", "in.bin"), cwd=place, env=env)
        assert (place / "out.bin").read_bytes() == (place / "in.bin").read_bytes()[::-1]
        return seconds

    def theirs() -> float:
        fresh()
        return timed(docker_run(place, "python3", "turn.py", "in.bin"), cwd=place, env=env)

    ours()
    theirs()
    pairs = [(ours(), theirs()) for _ in range(9)]
    got, base = (statistics.median(column) for column in zip(*pairs, strict=True))
    yield Row("S1", "one script, 1 MiB in and out / docker run", got / base, 0.75, note=f"{got:.2f} s of {base:.2f} s")


def s2(grid: Grid, place: Path) -> Iterator[Row]:
    """200 small files, four at a time: against ``docker run`` four at a time, and against bare processes."""
    yield from _batch(grid, place, "S2", (), 0.12)


def s2i(grid: Grid, place: Path) -> Iterator[Row]:
    """The same with a fresh container for every item."""
    yield from _batch(grid, place, "S2i", ("--isolate",), 1.1)


def _batch(grid: Grid, place: Path, code: str, how: tuple[str, ...], must: float) -> Iterator[Row]:
    place.chmod(0o777)
    names = small_files(place)
    env = grid.env()

    def ours() -> float:
        shutil.rmtree(place / "outputs", ignore_errors=True)
        seconds = timed(rgrid("run", *how, "--batch", "in/*.txt", "--parallel", "4", "upper.py"), cwd=place, env=env)
        assert sum(1 for _ in (place / "outputs").rglob("out.txt")) == len(names)
        return seconds

    ours()
    got = median(ours, 3)
    bare = median(lambda: four_at_a_time([PY, "upper.py"], names, place)[0], 3)
    (place / "out.txt").unlink()  # of another owner than the containers
    theirs, tool = four_at_a_time(docker_run(place, "python3", "upper.py"), names, place)
    what = "batch of 200" if not how else "batch of 200, a container each"
    yield Row(code, f"{what} / docker run ×4", got / theirs, must, note=f"{got:.2f} s of {theirs:.2f} s")
    if not how:
        yield Row(code, f"{what} / bare {tool}", got / bare, 2.0, note=f"{got:.2f} s of {bare:.2f} s")
