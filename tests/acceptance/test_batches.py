"""The same script for many items."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

from acceptance.conftest import Write, sha256
from support.grid import Grid
from support.waiting import until

UPPER = """
import sys
from pathlib import Path

source = Path(sys.argv[1])
text = source.read_text()
if "FAIL" in text:
    raise ValueError(f"cannot do {source.name}")
Path("result.txt").write_text(text.upper())
print(source.name)
"""


def status_of(grid: Grid, what: str) -> dict[str, Any]:
    answer = grid.rgrid("status", what, "--json")
    assert answer.code == 0, answer.errors
    view = json.loads(answer.out)
    assert isinstance(view, dict)
    return view


def test_two_hundred_files(grid: Grid, project: Write) -> None:
    """A quoted glob over 200 files leaves 200 result directories, each with its own file's result."""
    files: dict[str, str | bytes] = {f"in/{number:03}.txt": f"word {number}\n" for number in range(200)}
    here = project({**files, "upper.py": UPPER})
    done = grid.rgrid("run", "upper.py", "--batch", "in/*.txt", "--parallel", "4", cwd=here)
    assert done.code == 0, done.errors
    for number in range(200):
        assert (here / f"outputs/{number:03}.txt/result.txt").read_text() == f"WORD {number}\n"
    assert len(list((here / "outputs").iterdir())) == 200


def test_an_unquoted_glob(grid: Grid, project: Write) -> None:
    """Items that the shell already expanded are taken up to the next option."""
    here = project({"upper.py": UPPER, "in/a.txt": "a", "in/b.txt": "b"})
    done = grid.rgrid("run", "upper.py", "--batch", "in/a.txt", "in/b.txt", "--parallel", "2", cwd=here)
    assert done.code == 0, done.errors
    assert (here / "outputs/a.txt/result.txt").read_text() == "A"
    assert (here / "outputs/b.txt/result.txt").read_text() == "B"


def test_items_that_share_a_name_keep_apart(grid: Grid, project: Write) -> None:
    """Two items with one basename in different directories never overwrite each other."""
    here = project({"upper.py": UPPER, "x/a.txt": "from x", "y/a.txt": "from y"})
    done = grid.rgrid("run", "--batch", "*/a.txt", "upper.py", cwd=here)
    assert done.code == 0, done.errors
    found = sorted(path.read_text() for path in (here / "outputs").rglob("result.txt"))
    assert found == ["FROM X", "FROM Y"]


def test_one_failure_and_its_retry(grid: Grid, project: Write) -> None:
    """One item fails: the rest succeed, the exit code is 1, and ``retry --failed`` runs just that one again."""
    here = project({"upper.py": UPPER, "in/1.txt": "a", "in/2.txt": "FAIL", "in/3.txt": "c"})
    done = grid.rgrid("run", "upper.py", "--batch", "in/*.txt", cwd=here)
    assert done.code == 1
    assert "cannot do 2.txt" in done.errors
    assert "retry" in done.errors
    batch = status_of(grid, "last")["id"]
    assert {k: v for k, v in status_of(grid, batch)["counts"].items() if v} == {"succeeded": 2, "failed": 1}
    again = grid.rgrid("retry", batch, "--failed", "-d", "--json", cwd=here)
    assert again.code == 0, again.errors
    assert json.loads(again.out)["changed"] == 1
    assert grid.rgrid("wait", batch, cwd=here).code == 1
    assert status_of(grid, batch)["counts"]["failed"] == 1


def test_a_killed_terminal_loses_nothing(grid: Grid, project: Write) -> None:
    """Kill -9 of the CLI in mid-batch: the batch finishes; ``attach last`` and ``download last`` bring everything."""
    slow = UPPER.replace("import sys\n", "import sys, time\ntime.sleep(0.3)\n")
    files: dict[str, str | bytes] = {f"in/{number:02}.bin.txt": f"{number}" * 1000 for number in range(24)}
    here = project({**files, "upper.py": slow})
    process = grid.start("run", "upper.py", "--batch", "in/*.txt", "--parallel", "4", cwd=here)
    until(lambda: list((here / "outputs").glob("*")) or None, seconds=30, what="the first output")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert grid.rgrid("attach", "last", cwd=here).code == 0
    assert grid.rgrid("download", "last", cwd=here).code == 0
    for number in range(24):
        result = here / f"outputs/{number:02}.bin.txt/result.txt"
        assert result.read_text() == f"{number}" * 1000
    fresh = here / "fresh"
    assert grid.rgrid("download", "last", "--output-dir", str(fresh), cwd=here).code == 0
    pairs = [(path, fresh / path.relative_to(here / "outputs")) for path in (here / "outputs").rglob("result.txt")]
    assert len(pairs) == 24
    assert all(sha256(one) == sha256(two) for one, two in pairs)


def test_lines_json_and_ranges(grid: Grid, project: Write) -> None:
    """Items may be lines, JSON values or numbers; ``{}``, ``{/}``, ``{.}`` and ``{#}`` stand for them."""
    here = project(
        {
            "show.py": "import sys\nprint(sys.argv[1:])\n",
            "lines.txt": "first thing\nsecond\n",
            "items.jsonl": '{"a": 1}\n"text"\n',
        }
    )
    assert grid.rgrid("run", "--batch-lines", "lines.txt", "show.py", "--", "{#}", "<{}>", cwd=here).code == 0
    shown = [grid.rgrid("logs", "last:1", index, cwd=here).text for index in ("0", "1")]
    assert "<first thing>" in shown[0]
    assert "<second>" in shown[1]
    assert grid.rgrid("run", "--range", "1-3", "show.py", cwd=here).code == 0
    assert status_of(grid, "last")["total"] == 3
    assert grid.rgrid("run", "--batch-json", "items.jsonl", "show.py", cwd=here).code == 0
    assert status_of(grid, "last")["total"] == 2


def test_cancelled_batches_stop(grid: Grid, project: Write) -> None:
    """``rgrid cancel`` of a batch: queued items never start, running ones die, and nothing is left open."""
    here = project({"s.py": "import time\ntime.sleep(600)\n"})
    batch = grid.rgrid("run", "-d", "-q", "--range", "1-40", "--parallel", "2", "s.py", cwd=here).text.strip()
    until(lambda: status_of(grid, batch)["counts"]["running"] or None, what="a running item")
    assert grid.rgrid("cancel", batch, "-y", cwd=here).code == 0
    until(lambda: status_of(grid, batch)["done"] or None, seconds=15, what="the end of the batch")
    assert status_of(grid, batch)["counts"]["cancelled"] == 40


def test_max_fails_stops_a_hopeless_batch(grid: Grid, project: Write) -> None:
    """``--max-fails 3``: after three failures no further item starts."""
    here = project({"s.py": "raise SystemExit(1)\n"})
    done = grid.rgrid("run", "--range", "1-60", "--parallel", "2", "--max-fails", "3", "s.py", cwd=here)
    assert done.code == 1
    counts = status_of(grid, "last")["counts"]
    assert 3 <= counts["failed"] <= 8
    assert counts["failed"] + counts["cancelled"] == 60


def test_a_canary_goes_first(grid: Grid, project: Write) -> None:
    """``--canary 1``: the rest runs only if the first item succeeded."""
    here = project({"s.py": "import sys\nsys.exit(int(sys.argv[1]) % 2)\n"})
    assert grid.rgrid("run", "--range", "1-20", "--canary", "1", "s.py", cwd=here).code == 1
    counts = status_of(grid, "last")["counts"]
    assert (counts["failed"], counts["succeeded"]) == (1, 0)
    assert grid.rgrid("run", "--range", "2-2", "--canary", "1", "s.py", cwd=here).code == 0


def test_json_of_a_batch_is_one_document(grid: Grid, project: Write) -> None:
    """``--json`` prints nothing but JSON on stdout."""
    here = project({"s.py": "print('noise')\n"})
    done = grid.rgrid("run", "--json", "--range", "1-2", "s.py", cwd=here)
    assert done.code == 0, done.errors
    assert all(json.loads(line) for line in done.out.splitlines())
    assert not Path(here / "outputs/noise").exists()
