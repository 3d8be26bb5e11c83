"""Another API process behind the database of an embedded grid."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

from support.grid import Grid
from support.ports import free_port
from support.waiting import until


def environment_of(pid: int) -> dict[str, str]:
    """The environment that a process was started with."""
    raw = Path(f"/proc/{pid}/environ").read_bytes().decode()
    return dict(pair.split("=", 1) for pair in raw.split("\0") if "=" in pair)


def answers(url: str) -> bool:
    """True if a GET of ``url`` is answered with 200."""
    try:
        with urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextlib.contextmanager
def replica(grid: Grid, **changes: str) -> Iterator[dict[str, str]]:
    """A second API with the grid's own settings but for ``changes``; the environment that points commands at it."""
    facts = json.loads((grid.home / "local/grid.json").read_text())
    key = json.loads((grid.home / "local/secrets.json").read_text())["api_key"]
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    env = environment_of(facts["parts"]["api"]) | {"RGRID_HOST": "127.0.0.1", "RGRID_PORT": str(port)} | changes
    command = [sys.executable, "-m", "rgrid_api.main", "serve", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        until(lambda: answers(f"{url}/healthz") or None, what="the second replica")
        yield {"RGRID_SERVER": url, "RGRID_API_KEY": key}
    finally:
        process.terminate()
        process.communicate(timeout=20)
