"""``make bench``: what the speed targets ask, measured as ratios in one run, beside their targets.

Starts an embedded grid of its own in a temporary directory. Every figure is a median of repeated runs on this machine
at this moment; compare ratios, never seconds across runs. ``python tests/bench S7 S10`` measures only those.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.grid import Grid

from bench import containers
from bench.measure import PY, Row, four_at_a_time, median, rgrid, small_files, timed

Bench = Callable[[Grid, Path], Iterator[Row]]


def s3(grid: Grid, place: Path) -> Iterator[Row]:
    """200 small files, four at a time, against the same processes started bare."""
    names = small_files(place)
    tool = ""

    def bare() -> float:
        nonlocal tool
        seconds, tool = four_at_a_time([PY, "upper.py"], names, place)
        return seconds

    def ours() -> float:
        shutil.rmtree(place / "outputs", ignore_errors=True)
        return timed(rgrid("run", "--batch", "in/*.txt", "--parallel", "4", "upper.py"), cwd=place, env=grid.env())

    ours()
    base, got = median(bare, 3), median(ours, 3)
    yield Row(
        "S3", "batch of 200, process backend", got / base, 1.6, note=f"{got:.2f} s against {base:.2f} s of {tool}"
    )


def s5(grid: Grid, place: Path) -> Iterator[Row]:
    """Large batches accepted: command typed to acknowledged."""
    (place / "in").mkdir()
    (place / "s.py").write_text("print(1)\n")
    for number in range(10_000):
        (place / f"in/{number:05}").write_text(f"input {number}\n")
    env = grid.env()
    args = ("run", "-d", "-q", "--parallel", "1")
    seconds = timed(rgrid(*args, "--batch", "in/*", "s.py"), cwd=place, env=env)
    timed(rgrid("cancel", "last", "-y"), cwd=place, env=env)
    yield Row("S5", "10,000 items with small inputs accepted", seconds, 5.0, "s")
    with Peaks(grid) as peaks:
        seconds = timed(rgrid(*args, "--range", "1-100000", "s.py"), cwd=place, env=env)
    timed(rgrid("cancel", "last", "-y"), cwd=place, env=env)
    yield Row("S5", "100,000 items without inputs accepted", seconds, 10.0, "s")
    yield Row("S5", "largest process meanwhile", peaks.largest / 1e6, 300, "MB", note=peaks.name)


class Peaks:
    """The largest resident memory of any process of the grid, sampled in a thread."""

    def __init__(self, grid: Grid) -> None:
        """Watch the parts that ``grid.json`` names, their children and the commands that run meanwhile."""
        import threading

        self._parts = json.loads((grid.home / "local/grid.json").read_text())["parts"]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.largest, self.name = 0, ""

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(0.05):
            watched = [(name, pid) for name, pid in self._parts.items()]
            watched += [("rgrid", child.pid) for child in me.children()]
            for name, pid in watched:
                with contextlib.suppress(psutil.Error):
                    size = psutil.Process(pid).memory_info().rss
                    if size > self.largest:
                        self.largest, self.name = size, name

    def __enter__(self) -> Peaks:
        """Start sampling."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop sampling."""
        self._stop.set()
        self._thread.join()


def s6(grid: Grid, place: Path) -> Iterator[Row]:
    """Print to shown: each line carries the clock of its print; the reader compares on arrival."""
    (place / "s.py").write_text(
        "import time\nfor n in range(500):\n    print(time.clock_gettime_ns(time.CLOCK_BOOTTIME), flush=True)\n"
        "    time.sleep(0.01)\n"
    )
    process = subprocess.Popen(
        rgrid("run", "s.py"), cwd=place, env=grid.env(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    assert process.stdout
    arrived = iter(process.stdout.readline, b"")
    delays = [(time.clock_gettime_ns(time.CLOCK_BOOTTIME) - int(line)) / 1e6 for line in arrived]
    process.wait()
    delays.sort()
    yield Row("S6", "print to shown, p50", delays[len(delays) // 2], 10, "ms")
    yield Row("S6", "print to shown, p99", delays[int(len(delays) * 0.99)], 50, "ms")


def s7(grid: Grid, place: Path) -> Iterator[Row]:
    """Cancel typed to process dead."""
    (place / "s.py").write_text("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(100)\n")

    def once() -> float:
        process = subprocess.Popen(
            rgrid("run", "s.py"),
            cwd=place,
            env=grid.env(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout
        victim = psutil.Process(int(process.stdout.readline()))
        start = time.perf_counter()
        canceller = subprocess.Popen(
            rgrid("cancel", "last", "-y", "-q"), cwd=place, env=grid.env(), stdout=subprocess.DEVNULL
        )
        victim.wait(20)
        seconds = time.perf_counter() - start
        canceller.wait()
        process.communicate()
        return seconds

    yield Row("S7", "cancel typed to process dead, p50", median(once, 7) * 1000, 300, "ms")


def s8(grid: Grid, place: Path) -> Iterator[Row]:
    """A second run with the same requirements against one without any."""
    (place / "plain.py").write_text("print(1)\n")
    (place / "six_.py").write_text('# /// script\n# dependencies = ["six==1.16.0"]\n# ///\nprint(1)\n')
    env = grid.env()
    for name in ("plain.py", "six_.py", "six_.py"):
        timed(rgrid("run", name), cwd=place, env=env)
    plain = median(lambda: timed(rgrid("run", "plain.py"), cwd=place, env=env), 9)
    with_layer = median(lambda: timed(rgrid("run", "six_.py"), cwd=place, env=env), 9)
    yield Row("S8", "second run with requirements / without", with_layer / plain, 1.3, note=f"{with_layer:.2f} s")


def s9(grid: Grid, place: Path) -> Iterator[Row]:
    """First run with numpy and pandas, wheels cached, against ``uv pip install`` and a local run."""
    uv = Path(sys.executable).with_name("uv")
    pins = ["numpy==2.1.3", "pandas==2.2.3"]
    code = "import numpy, pandas\nprint(pandas.Series(numpy.arange(3)).sum())\n"
    (place / "local.py").write_text(code)
    env = grid.env()

    def local(name: str) -> float:
        start = time.perf_counter()
        venv = place / name
        subprocess.run([uv, "venv", "-q", "--python", PY, venv], env=env, check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", venv / "bin/python", *pins], env=env, check=True)
        subprocess.run([venv / "bin/python", "local.py"], cwd=place, env=env, check=True, capture_output=True)
        return time.perf_counter() - start

    local("warm-the-cache")
    base = median(lambda: local(f"venv{time.monotonic_ns()}"), 3)

    def ours(number: int) -> float:
        listed = ", ".join(f'"{pin}"' for pin in pins)
        # Another harmless pin makes another layer, so that each is a first run.
        extra = ("six==1.16.0", "six==1.15.0", "six==1.14.0")[number]
        (place / "s.py").write_text(f'# /// script\n# dependencies = [{listed}, "{extra}"]\n# ///\n{code}')
        return timed(rgrid("run", "s.py"), cwd=place, env=env)

    got = statistics.median(ours(number) for number in range(3))
    yield Row(
        "S9", "first run with numpy pandas / uv + local", got / base, 1.3, note=f"{got:.2f} s against {base:.2f} s"
    )


def s10(grid: Grid, place: Path) -> Iterator[Row]:
    """How fast the command itself answers."""
    (place / "s.py").write_text("print(1)\n")
    env = grid.env()
    timed(rgrid("run", "s.py"), cwd=place, env=env)
    ours = Path(sys.executable)

    def one(argv: list[str]) -> float:
        return median(lambda: timed(argv, cwd=place, env=env), 15)

    def python(code: str) -> float:
        return one([str(ours), "-c", code])

    yield Row("S10", "rgrid --version / python -c pass", one(rgrid("--version")) / python("pass"), 2.0)
    yield Row("S10", "rgrid run --help / import typer", one(rgrid("run", "--help")) / python("import typer"), 2.5)
    yield Row(
        "S10",
        "rgrid status ID / import typer, httpx",
        one(rgrid("status", "last")) / python("import typer, httpx"),
        2.0,
    )


def s13(grid: Grid, place: Path) -> Iterator[Row]:
    """What an idle grid costs: processor time over 20 s and proportional memory of all its processes."""
    (place / "s.py").write_text("print(1)\n")
    timed(rgrid("run", "s.py"), cwd=place, env=grid.env())
    root = psutil.Process(json.loads((grid.home / "local/grid.json").read_text())["pid"])
    time.sleep(5)

    def cpu() -> float:
        total = 0.0
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    before, start = cpu(), time.monotonic()
    time.sleep(20)
    share = (cpu() - before) / (time.monotonic() - start)
    memory = 0
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            memory += process.memory_full_info().pss
    yield Row("S13", "idle grid, share of one core", share * 100, 2.0, "%")
    yield Row("S13", "idle grid, PSS of all processes", memory / 1e6, 350, "MB")


BENCHES: dict[str, Bench] = {"S3": s3, "S5": s5, "S6": s6, "S7": s7, "S8": s8, "S9": s9, "S10": s10, "S13": s13}
ON_DOCKER: dict[str, Bench] = {"S1": containers.s1, "S2": containers.s2, "S2i": containers.s2i, "S8": s8, "S9": s9}


def measured(folder: Path, name: str, env: dict[str, str], benches: Mapping[str, Bench]) -> None:
    """Start a grid of its own and print the table of ``benches`` on it."""
    grid = Grid(folder / name, env)
    grid.home.mkdir()
    start = time.perf_counter()
    timed(rgrid("up"), cwd=folder, env=grid.env())
    print(f"{'':4} {f'first start of the embedded grid, {name}':<44} {time.perf_counter() - start:8.2f} s {5:7.2f} s")
    try:
        for code, bench in benches.items():
            place = folder / f"{code}-{name}"
            place.mkdir()
            for row in bench(grid, place):
                mark = "" if row.figure <= row.must else "  over"
                print(
                    f"{row.code:4} {row.what:<44} {row.figure:8.2f} {row.unit:<2}{row.must:6.2f} {row.unit:<2}"
                    f" {row.note}{mark}",
                    flush=True,
                )
    finally:
        timed(rgrid("down", "--force"), cwd=folder, env=grid.env())


def main(wanted: list[str]) -> int:
    """Measure and print; exits 0: a slow machine is no failure, the table is what counts."""
    known = {**BENCHES, **ON_DOCKER}
    unknown = [code for code in wanted if code not in known]
    if unknown:
        raise SystemExit(f"unknown: {' '.join(unknown)}; there are {' '.join(known)}")
    plain = {code: bench for code, bench in BENCHES.items() if not wanted or code in wanted}
    boxed = {code: bench for code, bench in ON_DOCKER.items() if not wanted or code in wanted}
    print(f"{'':4} {'what':<44} {'figure':>10} {'must':>9}")
    with tempfile.TemporaryDirectory(prefix="rgrid-b-") as folder:
        if plain:
            measured(Path(folder), "process", {}, plain)
        if boxed and (reason := containers.missing()):
            print(f"left out on Docker: {' '.join(boxed)}: {reason}")
        elif boxed:
            measured(Path(folder), "docker", containers.ENV, boxed)
    print(f"{os.cpu_count()} cores; medians of this run")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
