"""Two API processes behind one database are one grid."""

from __future__ import annotations

from acceptance.conftest import Write
from support.grid import Grid
from support.replica import replica


def test_submit_to_one_and_follow_on_the_other(grid: Grid, project: Write) -> None:
    """A run submitted to one replica is followed live on another, to the same bytes and exit code."""
    here = project(
        {
            "s.py": "import time\nfor n in range(20):\n    print('line', n, flush=True)\n    time.sleep(0.05)\nraise SystemExit(3)\n"
        }
    )
    with replica(grid) as second:
        batch = grid.rgrid("run", "-d", "-q", "s.py", cwd=here).text.strip()
        follower = grid.rgrid("attach", batch, cwd=here, env=second)
    assert follower.code == 3, follower.errors
    assert follower.out == b"".join(b"line %d\n" % n for n in range(20))
