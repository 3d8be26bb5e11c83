"""Large streams and files pass through with flat memory."""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
from pathlib import Path

import psutil
from acceptance.conftest import Write, sha256
from support.grid import RGRID, Grid

MIB = 1 << 20


class Peak:
    """The highest resident memory, in bytes, of each process of a grid and of the command while a run lasts."""

    def __init__(self, home: Path) -> None:
        parts = json.loads((home / "local/grid.json").read_text())["parts"]
        self.pids: dict[str, int] = {name: pid for name, pid in parts.items() if name in ("api", "runner")}
        self.peaks: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            for name, pid in self.pids.items():
                try:
                    rss = psutil.Process(pid).memory_info().rss
                except psutil.Error:
                    continue
                self.peaks[name] = max(rss, self.peaks.get(name, 0))

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def watched(grid: Grid, here: Path, *args: str) -> tuple[int, str, bytes, Peak]:
    """Run a command whose stdout is hashed as it comes: exit code, hash, stderr, memory peaks."""
    command = subprocess.Popen(
        [*RGRID, *args],
        cwd=here,
        env=grid.env(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with Peak(grid.home) as peak, command as process:
        peak.pids["cli"] = process.pid
        assert process.stdout and process.stderr
        digest = hashlib.sha256()
        while block := process.stdout.read(MIB):
            digest.update(block)
        err = process.stderr.read()
        code = process.wait(60)
    return code, digest.hexdigest(), err, peak


def test_fifty_megabytes_on_stdout(grid: Grid, project: Write) -> None:
    """50 MB of binary on stdout arrive byte for byte; no process grows by them."""
    here = project(
        {
            "s.py": "import sys\nb = bytes(range(256)) * 4096\nfor n in range(50):\n    sys.stdout.buffer.write(bytes([n]) + b[1:])\n"
        }
    )
    block = bytes(range(256)) * 4096
    want = hashlib.sha256(b"".join(bytes([n]) + block[1:] for n in range(50))).hexdigest()
    code, got, err, peak = watched(grid, here, "run", "s.py")
    assert (code, got, err) == (0, want, b"")
    assert max(peak.peaks.values()) < 300 * MIB, peak.peaks


def test_a_gibibyte_each_way(grid: Grid, project: Write) -> None:
    """A 1 GiB input goes up and a 1 GiB output comes down, hash-equal, with flat memory everywhere."""
    here = project(
        {
            "s.py": "import sys\nwith open(sys.argv[1], 'rb') as i, open('big.out', 'wb') as o:\n"
            "    while b := i.read(1 << 20):\n        o.write(b[::-1])\n"
        }
    )
    want = hashlib.sha256()
    with (here / "big.in").open("wb") as file:
        for number in range(1024):
            block = number.to_bytes(8, "big") * (MIB // 8)
            file.write(block)
            want.update(block[::-1])
    code, _, err, peak = watched(grid, here, "run", "s.py", "big.in")
    assert code == 0, err
    assert sha256(here / "big.out") == want.hexdigest()
    assert max(peak.peaks.values()) < 300 * MIB, peak.peaks
