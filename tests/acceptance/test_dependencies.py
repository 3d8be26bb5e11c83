"""Scripts that need packages run without anybody installing them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from acceptance.conftest import Write
from support.grid import Grid, Ran, user_python

PEP723 = """# /// script
# requires-python = ">=3.9"
# dependencies = ["six==1.16.0"]
# ///
import six
print("six", six.__version__)
"""


def both(grid: Grid, here: Path, *args: str) -> tuple[Ran, Ran, float]:
    """Run twice; the second run's seconds."""
    first = grid.rgrid("run", *args, cwd=here, timeout=240)
    start = time.perf_counter()
    second = grid.rgrid("run", *args, cwd=here)
    return first, second, time.perf_counter() - start


def test_inline_metadata(grid: Grid, project: Write) -> None:
    """A PEP 723 block is installed once; the second run installs nothing and says nothing of it."""
    here = project({"s.py": PEP723})
    first, second, seconds = both(grid, here, "s.py")
    assert (first.code, first.out) == (0, b"six 1.16.0\n"), first.errors
    assert (second.code, second.out, second.err) == (0, b"six 1.16.0\n", b"")
    assert seconds < 5


def test_requirements_beside_the_script(grid: Grid, project: Write) -> None:
    """``requirements.txt`` beside the script is found by itself, nested files included."""
    here = project(
        {
            "s.py": "import six\nprint(six.__version__)\n",
            "requirements.txt": "-r more.txt\n",
            "more.txt": "six==1.15.0\n",
        }
    )
    first, second, _ = both(grid, here, "s.py")
    assert (first.code, first.out) == (0, b"1.15.0\n"), first.errors
    assert (second.code, second.out) == (0, b"1.15.0\n"), second.errors


def test_the_packages_of_an_earlier_run(grid: Grid, project: Write) -> None:
    """``--exact`` takes what another run had, whatever is written now; ``status --json`` lists it."""
    here = project({"s.py": "import six\nprint(six.__version__)\n", "requirements.txt": "six==1.15.0\n"})
    first = grid.rgrid("run", "s.py", cwd=here, timeout=240)
    assert (first.code, first.out) == (0, b"1.15.0\n"), first.errors
    view = json.loads(grid.rgrid("status", "last", "0", "--json", cwd=here).out)
    assert view["packages"] == ["six==1.15.0"]
    (here / "requirements.txt").write_text("six==1.16.0\n")
    again = grid.rgrid("run", "--exact", view["id"], "s.py", cwd=here)
    assert (again.code, again.out) == (0, b"1.15.0\n"), again.errors
    last = json.loads(grid.rgrid("status", "last", "0", "--json", cwd=here).out)
    assert last["packages"] == view["packages"]


@pytest.fixture(scope="module")
def own_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's virtualenv with numpy in a version of its own."""
    place = tmp_path_factory.mktemp("venv") / "v"
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "venv", "-q", "--python", user_python(), place], check=True)
    subprocess.run([uv, "pip", "install", "-q", "--python", place / "bin/python", "numpy==2.1.3"], check=True)
    return place


def test_the_users_own_versions(grid: Grid, project: Write, own_environment: Path) -> None:
    """Without any requirements file, the versions of the user's own interpreter are used and said in one line."""
    here = project({"s.py": "import numpy\nprint(numpy.__version__, numpy.arange(3).sum())\n"})
    env = {"VIRTUAL_ENV": str(own_environment)}
    first = grid.rgrid("run", "s.py", cwd=here, env=env, timeout=240)
    assert (first.code, first.out) == (0, b"2.1.3 3\n"), first.errors
    assert "numpy" in first.errors
    second = grid.rgrid("run", "s.py", cwd=here, env=env)
    assert (second.code, second.out) == (0, b"2.1.3 3\n"), second.errors


def test_neighbours_and_relative_data(grid: Grid, project: Write) -> None:
    """Modules beside the script and a relative data file travel by themselves."""
    here = project(
        {
            "s.py": "import a\nprint(a.go())\n",
            "a.py": "import b\ngo = b.go\n",
            "b.py": "def go():\n    return open('d/x.txt').read()\n",
            "d/x.txt": "data",
        }
    )
    done = grid.rgrid("run", "s.py", cwd=here)
    assert (done.code, done.out) == (0, b"data\n"), done.errors


def test_secrets_stay_here(grid: Grid, project: Write) -> None:
    """``.env``, keys and ``.git`` beside the script never travel, not even in a directory that does."""
    here = project(
        {
            "s.py": "import os, sys\nfor folder, names, files in os.walk('.'):\n    for name in sorted(files):\n        print(os.path.join(folder, name))\n",
            ".env": "SECRET=1",
            ".env.local": "SECRET=1",
            "id_rsa": "k",
            "server.pem": "k",
            "my_credentials.json": "{}",
            ".git/config": "x",
            ".aws/credentials": "x",
            "data/ok.txt": "1",
            "data/.env": "SECRET=1",
            "data/id_ed25519": "k",
            "data/.git/HEAD": "x",
        }
    )
    done = grid.rgrid("run", "s.py", "data", cwd=here)
    assert done.code == 0, done.errors
    assert sorted(done.text.split()) == ["./data/ok.txt", "./s.py"]


def test_a_requirement_that_does_not_exist(grid: Grid, project: Write) -> None:
    """The resolver's own words reach the user, the exit code is 125, and nothing is retried for ever."""
    here = project({"s.py": "print(1)\n", "requirements.txt": "six==999.0\n"})
    done = grid.rgrid("run", "s.py", cwd=here, timeout=120)
    assert done.code == 125
    assert "six" in done.errors
    assert "999" in done.errors
    assert "Traceback" not in done.errors


def test_an_unknown_import_is_refused_before_upload(grid: Grid, project: Write) -> None:
    """An import that nobody here can satisfy is named with file and line, and nothing is submitted."""
    here = project({"s.py": "import json\nimport surely_not_a_module_anywhere\n"})
    before = grid.rgrid("list", "--json").out
    done = grid.rgrid("run", "s.py", cwd=here)
    assert done.code == 2
    assert "surely_not_a_module_anywhere" in done.errors
    assert "s.py:2" in done.errors
    assert grid.rgrid("list", "--json").out == before
