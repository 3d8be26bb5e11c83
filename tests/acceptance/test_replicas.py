"""Two API processes behind one database are one grid."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

from acceptance.conftest import Write
from support.grid import RGRID, Grid
from support.ports import free_port
from support.waiting import until


def environment_of(pid: int) -> dict[str, str]:
    raw = Path(f"/proc/{pid}/environ").read_bytes().decode()
    return dict(pair.split("=", 1) for pair in raw.split("\0") if "=" in pair)


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_submit_to_one_and_follow_on_the_other(grid: Grid, project: Write) -> None:
    """A run submitted to one replica is followed live on another, to the same bytes and exit code."""
    here = project(
        {
            "s.py": "import time\nfor n in range(20):\n    print('line', n, flush=True)\n    time.sleep(0.05)\nraise SystemExit(3)\n"
        }
    )
    facts = json.loads((grid.home / "local/grid.json").read_text())
    key = json.loads((grid.home / "local/secrets.json").read_text())["api_key"]
    port = free_port()
    env = environment_of(facts["parts"]["api"]) | {"RGRID_HOST": "127.0.0.1", "RGRID_PORT": str(port)}
    command = [sys.executable, "-m", "rgrid_api.main", "serve", "--host", "127.0.0.1", "--port", str(port)]
    replica = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: answers(f"{url}/readyz") or None, what="the second replica")
        second = {"RGRID_SERVER": url, "RGRID_API_KEY": key}
        batch = grid.rgrid("run", "-d", "-q", "s.py", cwd=here).text.strip()
        follower = subprocess.run(
            [*RGRID, "attach", batch], cwd=here, env=grid.env(**second), capture_output=True, timeout=60, check=False
        )
        assert follower.returncode == 3, follower.stderr
        assert follower.stdout == b"".join(b"line %d\n" % n for n in range(20))
    finally:
        replica.terminate()
        replica.communicate(timeout=20)
