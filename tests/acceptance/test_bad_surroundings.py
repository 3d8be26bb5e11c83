"""When what surrounds a run is broken: a clear message, exit code 125 or 4, nothing half-submitted."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from acceptance.conftest import Write
from support.grid import Grid
from support.ports import free_port
from support.replica import replica
from support.waiting import until
from support.web import Answer, reply, serve


def test_an_object_store_that_is_down(grid: Grid, project: Write) -> None:
    """Inputs that cannot be stored: said with the store's address, nothing is submitted, no traceback."""
    here = project({"s.py": f"print({os.urandom(8).hex()!r})\n"})
    before = grid.rgrid("list", "--json").out
    with replica(grid, RGRID_S3_ENDPOINT=f"http://127.0.0.1:{free_port()}") as broken:
        done = grid.rgrid("run", "s.py", cwd=here, env=broken)
    assert done.code == 125
    assert "127.0.0.1" in done.errors
    assert "Traceback" not in done.errors
    assert grid.rgrid("list", "--json").out == before


def test_a_key_that_has_expired(grid: Grid) -> None:
    """An expired key exits 4 and says that it has expired."""
    made = json.loads(grid.rgrid("keys", "create", "short", "--expires", "1s", "--json").out)
    url = json.loads((grid.home / "local/grid.json").read_text())["url"]
    theirs = {"RGRID_SERVER": url, "RGRID_API_KEY": made["secret"]}
    refused = until(
        lambda: next((ran for ran in [grid.rgrid("list", env=theirs)] if ran.code), None), what="the key's end"
    )
    assert refused.code == 4
    assert "expired" in refused.errors


def test_a_server_of_another_version(grid: Grid) -> None:
    """A server that speaks another version of the API is named as such."""

    def other(_: object) -> Answer:
        return reply({"batches": [], "next": None}, Rgrid_Api="2")

    with serve(other) as web:
        done = grid.rgrid("list", env={"RGRID_SERVER": web.url, "RGRID_API_KEY": "rgr_" + "x" * 40})
    assert done.code == 125
    assert "version" in done.errors


def test_a_full_disk_on_the_runner(project: Write) -> None:
    """An input that does not fit on the runner's disk: said so, exit 125, and the runner goes on with the next run."""
    here = project({"s.py": "print(open('small.txt').read())\n", "small.txt": "fits", "big.bin": os.urandom(6_000_000)})
    with tempfile.TemporaryDirectory(prefix="rgrid-f-") as folder:
        own = Grid(Path(folder))
        assert own.rgrid("run", "s.py", cwd=here).code == 0
        work = own.home / "local/runner/work"
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", work], capture_output=True, text=True, check=False
        )
        if mounted.returncode:
            own.rgrid("down", "--force")
            pytest.skip(f"a file system cannot be mounted: {mounted.stderr.strip()}")
        try:
            full = own.rgrid("run", "s.py", "big.bin", cwd=here)
            again = own.rgrid("run", "s.py", cwd=here)
        finally:
            own.rgrid("down", "--force")
            subprocess.run(["umount", work], check=True)
    assert full.code == 125
    assert "space" in full.errors
    assert (again.code, again.out) == (0, b"fits\n")
