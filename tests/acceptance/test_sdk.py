"""``import rgrid``: the same grid from Python."""

from __future__ import annotations

import sys

from acceptance.conftest import Write
from support.grid import Grid, Ran, run

SINGLE = """
import rgrid

run = rgrid.run("s.py", "a.txt")
done = run.wait()
print(done.status, done.exit_code)
print(run.logs().decode(), end="")
print([entry["path"] for entry in run.outputs()])
run.download("back")
print(open("back/made.txt").read())
"""

BATCH = """
import rgrid

batch = rgrid.batch("show.py", items=["one", "two", "three"], parallel=2)
done = batch.wait()
print(done.counts["succeeded"], done.counts["failed"])
for item in batch.executions():
    print(item.index, item.name, item.exit_code)
"""


def python(grid: Grid, here: object, program: str) -> Ran:
    return run([sys.executable, "-c", program], cwd=here, stdin=None, env=grid.env())  # type: ignore[arg-type]


def test_a_single_run(grid: Grid, project: Write) -> None:
    """run, wait, logs, outputs and download work without the command line."""
    here = project(
        {
            "s.py": "import sys\nprint(open(sys.argv[1]).read())\nopen('made.txt', 'w').write('m')\nsys.exit(4)\n",
            "a.txt": "A",
        }
    )
    done = python(grid, here, SINGLE)
    assert done.code == 0, done.errors
    assert done.text == "failed 4\nA\n['made.txt']\nm\n"


def test_a_batch(grid: Grid, project: Write) -> None:
    """A batch over values: one execution an item, each with its own exit code."""
    here = project({"show.py": "import sys\nsys.exit(sys.argv[1] == 'two')\n"})
    done = python(grid, here, BATCH)
    assert done.code == 0, done.errors
    assert done.text == "2 1\n0 one 0\n1 two 1\n2 three 0\n"
