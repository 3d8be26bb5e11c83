"""README and CONTRIBUTING say what is true: their commands exist and run, their links lead somewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.grid import Grid

from rgrid.main import VERBS

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md", "docs/embedded-grid.md"]
ELSEWHERE = ("rgrid run process.py", "rgrid login")
"""Commands that need somebody's own files or server."""


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[str]:
    """What stands after a prompt, without its comment."""
    lines = "".join(blocks(page, "console")).splitlines()
    return [line[2:].split("  #")[0].strip() for line in lines if line.startswith("$ ")]


@pytest.mark.parametrize("page", PAGES)
def test_links(page: str) -> None:
    """Every link to a file of the repository finds it."""
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text())
    missing = [target for target in targets if not (ROOT / page).parent.joinpath(target).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_verbs_and_targets(page: str) -> None:
    """Every `rgrid VERB` and `make TARGET` that is mentioned exists."""
    text = (ROOT / page).read_text()
    code = " ; ".join([*re.findall(r"`([^`\n]+)`", text), *commands(page)])
    verbs = set(re.findall(r"(?:^|; |\$ )rgrid ([a-z]+)", code))
    assert verbs <= set(VERBS)
    targets = set(re.findall(r"(?:^|; )make ([a-z]+)", code))
    makefile = (ROOT / "Makefile").read_text()
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


def test_make_lists_its_targets() -> None:
    """`make` alone says what there is."""
    listed = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert {"setup", "demo", "test", "check", "bench", "smoke"} <= set(
        re.findall(r"^  make (\w+)", listed, re.MULTILINE)
    )


def test_readme_commands_run(grid: Grid, tmp_path: Path) -> None:
    """What a reader types from README works, line after line, in a copy of the examples."""
    examples = tmp_path / "examples"
    shutil.copytree(ROOT / "examples", examples)
    ran = [line for line in commands("README.md") if line.startswith("rgrid ") and not line.startswith(ELSEWHERE)]
    assert len(ran) >= 6
    for line in ran:
        script = f'rgrid() {{ "{sys.executable}" -P -m rgrid "$@"; }}; {line}'
        done = subprocess.run(
            ["bash", "-c", script], cwd=examples, env=grid.env(), capture_output=True, text=True, timeout=120
        )
        nothing_failed = "retry" in line and "othing" in done.stdout + done.stderr
        assert done.returncode == 0 or nothing_failed, f"{line}\n{done.stdout}\n{done.stderr}"


def test_readme_python_runs(grid: Grid, tmp_path: Path) -> None:
    """The Python example works as it stands."""
    shutil.copytree(ROOT / "examples/hello", tmp_path / "hello")
    (source,) = blocks("README.md", "python")
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=tmp_path, env=grid.env(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "Hello, you!" in done.stdout


@pytest.mark.parametrize(
    "script", ["hello/hello.py", "sales/report.py sales/orders.csv", "wordcount/count.py wordcount/texts/alice.txt"]
)
def test_examples_are_ordinary(script: str, tmp_path: Path) -> None:
    """Each example runs with `python` alone."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    command = [sys.executable, "-W", "error", *script.split()]
    done = subprocess.run(command, cwd=tmp_path / "examples", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
