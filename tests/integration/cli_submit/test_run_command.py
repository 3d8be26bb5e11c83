"""``rgrid run`` from the words that were typed to the plan; with ``--dry-run``, so nothing is sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.trees import write

from rgrid import main


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that is the working directory, and an empty RGRID_HOME."""
    root = tmp_path / "project"
    (root / ".git").mkdir(parents=True)
    write(root, {"s.py": "import sys\n", "in/a.csv": "1", "in/b.csv": "2"})
    monkeypatch.chdir(root)
    monkeypatch.setenv("RGRID_HOME", str(tmp_path / "home"))
    return root


Show = Callable[..., dict[str, Any]]


@pytest.fixture
def show(project: Path, capfd: pytest.CaptureFixture[str]) -> Show:
    """``rgrid run --dry-run --json ARGS`` as a document."""

    def run(*args: str) -> dict[str, Any]:
        code = main.run(["run", "--dry-run", "--json", *args])
        out, err = capfd.readouterr()
        assert code == 0, (out, err)
        document: dict[str, Any] = json.loads(out)
        return document | {"stderr": err}

    return run


def test_everything_after_the_script_is_the_scripts(show: Show) -> None:
    """Options of the script pass untouched, also those that rgrid has too."""
    args = ["--epochs", "5", "-n", "3", "--name", "x", "--help", "-d", "--", "--batch"]
    document = show("s.py", *args)
    assert document["items"][0]["args"] == args
    assert "--name went to the script" in document["stderr"]


def test_options_before_the_script_are_rgrids(show: Show) -> None:
    """Every option of the command ends up where it belongs."""
    document = show(
        *("--cpu", "2", "--memory", "2GiB", "--gpu", "A100:2", "--gpu-memory", "40GiB", "--disk", "1GiB"),
        *("--timeout", "1h", "--no-network", "--require", "zone=a", "--retries", "2", "--retry-on", "oom"),
        *("-e", "A=1", "--metadata", "k=v", "--name", "n", "--priority", "5", "--runtime", "3.12", "s.py"),
    )
    spec = document["spec"]
    assert spec["resources"] == {
        "cpu_millis": 2000,
        "memory": 2 << 30,
        "disk": 1 << 30,
        "gpus": 2,
        "gpu_model": "A100",
        "gpu_memory": 40 << 30,
        "labels": {"zone": "a"},
    }
    assert (spec["timeout_s"], spec["network"], spec["runtime"]) == (3600, False, "python3.12")
    assert spec["retry"] == {"retries": 2, "on": ["oom"]}
    assert spec["env_names"] == ["A"]
    assert (document["name"], document["metadata"], document["priority"]) == ("n", {"k": "v"}, 5)


@pytest.mark.parametrize(
    "args",
    [
        ["s.py", "--batch", "in/a.csv", "in/b.csv", "--parallel", "20"],
        ["s.py", "--batch", "in/*.csv", "--parallel=20"],
        ["--batch", "in/*.csv", "--parallel", "20", "s.py"],
        ["--batch=in/{a,b}.csv", "--parallel=20", "s.py", "{}"],
        ["--parallel", "20", "s.py", "--batch", "in/*.csv"],
        ["--batch", "in/*.csv", "--parallel", "20", "--", "s.py", "{}"],
    ],
)
def test_a_batch_may_be_asked_for_before_and_after(show: Show, args: list[str]) -> None:
    """The forms of one wish mean the same."""
    document = show(*args)
    assert [item["args"] for item in document["items"]] == [["in/a.csv"], ["in/b.csv"]]
    assert document["parallel"] == 20


def test_a_double_dash_keeps_everything_for_the_script(show: Show) -> None:
    """``--`` before SCRIPT ends rgrid's options for good."""
    document = show("--batch", "in/*.csv", "--", "s.py", "{}", "--runtime", "x")
    assert document["items"][0]["args"] == ["in/a.csv", "--runtime", "x"]


def test_a_script_that_declares_an_option_keeps_it(project: Path, show: Show) -> None:
    """The literal in the script wins, and a note says how rgrid gets it."""
    write(project, {"s.py": "import argparse\np = argparse.ArgumentParser()\np.add_argument('--parallel')\n"})
    document = show("s.py", "--batch", "in/*.csv", "--parallel", "4")
    assert document["items"][0]["args"] == ["--parallel", "4", "in/a.csv"]
    assert document["parallel"] is None
    assert "--parallel went to the script, which declares it" in document["stderr"]


def test_settings_have_their_order(project: Path, show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flag, environment, the script's block, the project's file, the user's file."""
    write(project.parent, {"home/config.toml": "memory = '1GB'\ncpu = 1\ndisk = '1GB'\ntimeout = '1s'\nretries = 1\n"})
    write(project, {".rgrid/config.toml": "memory = '2GB'\ncpu = 2\ndisk = '2GB'\ntimeout = '2s'\n"})
    write(project, {"s.py": "# /// script\n# [tool.rgrid]\n# memory = '3GB'\n# cpu = 3\n# disk = '3GB'\n# ///\n"})
    monkeypatch.setenv("RGRID_CPU", "4")
    monkeypatch.setenv("RGRID_MEMORY", "4GB")
    spec = show("--memory", "5GB", "s.py")["spec"]
    assert spec["resources"]["memory"] == 5 * 10**9
    assert spec["resources"]["cpu_millis"] == 4000
    assert spec["resources"]["disk"] == 3 * 10**9
    assert spec["timeout_s"] == 2
    assert spec["retry"]["retries"] == 1


def test_settings_may_be_lists_and_tables(project: Path, show: Show) -> None:
    """``include``, ``env`` and ``metadata`` have their natural form in a file."""
    write(
        project,
        {
            ".rgrid/config.toml": "include = ['in/*']\nnetwork = false\n[env]\nA = 1\n[metadata]\nteam = 'x'\n",
        },
    )
    document = show("s.py")
    assert {file["path"] for file in document["spec"]["files"]} == {"s.py", "in/a.csv", "in/b.csv"}
    assert document["spec"]["network"] is False
    assert document["spec"]["env_names"] == ["A"]
    assert document["metadata"] == {"team": "x"}
    assert show("--network", "s.py")["spec"]["network"] is True


def test_the_dry_run_lists_everything(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Every file with size and reason, what it runs with, and that nothing was submitted; no value of a variable."""
    code = main.run(["run", "--dry-run", "--cpu", "2", "-e", "TOKEN=hush", "s.py", "in/a.csv"])
    out, _ = capfd.readouterr()
    assert code == 0
    for text in ("in/a.csv  (argument)", "s.py  (script)", "2 files", "cpu", "TOKEN", "Nothing was submitted."):
        assert text in out
    assert "hush" not in out
    assert not (project.parent / "home/local").exists()


BAD: list[tuple[list[str], str]] = [
    ([], "SCRIPT is missing"),
    (["-d"], "SCRIPT is missing"),
    (["-m"], "module's name is missing"),
    (["nope.py"], "no script 'nope.py'"),
    (["in"], "is a directory"),
    (["in/a.csv"], "does not know how to run"),
    (["--batch", "in/*.tsv", "s.py"], "nothing matches 'in/*.tsv'"),
    (["s.py", "--batch", "32"], "no file '32'"),
    (["--batch", "in/a.csv", "in/b.csv", "s.py"], "does not know how to run in/b.csv"),
    (["--batch", "in/*", "--range", "1-2", "s.py"], "--batch and --range cannot go together"),
    (["--batch", "in/*", "s.py", "--range", "1-2"], "cannot go together"),
    (["--parallel", "3", "s.py"], "--parallel is for a batch"),
    (["s.py", "--parallel", "3"], "--parallel is for a batch"),
    (["--range", "1-3", "s.py", "--parallel", "many"], "is not a number"),
    (["--range", "1-3", "s.py", "--parallel", "0"], "is not a number from 1"),
    (["--range", "1-3", "--parallel", "2", "s.py", "--parallel", "3"], "twice"),
    (["--range", "x", "s.py"], "--range 'x' is not a range"),
    (["--batch", "in/*", "{}"], "{} stands where the script's name belongs"),
    (["--batch", "in/*", "--output-dir", "out/{}", "s.py"], "{} in --output-dir is not filled in"),
    (["-e", "1X=2", "s.py"], "is not the name of a variable"),
    (["-e", "SURELY_NOT_SET_HERE", "s.py"], "is not set here"),
    (["--env-file", "nope", "s.py"], "--env-file nope"),
    (["--memory", "lots", "s.py"], "--memory 'lots' is not a size"),
    (["--timeout", "soon", "s.py"], "--timeout 'soon' is not a duration"),
    (["--gpu", "A100:0", "s.py"], "--gpu 'A100:0' is not a GPU"),
    (["--cpu", "0", "s.py"], "--cpu '0' is not a number of cores"),
    (["--runtime", "python9.9", "s.py"], "no runtime 'python9.9'"),
    (["--runtime", "node20", "s.py"], "is for python"),
    (["s.py", "--runtime", "python9.9"], "no runtime 'python9.9'"),
    (["--metadata", "x", "s.py"], "is not KEY=VALUE"),
    (["--priority", "1000", "s.py"], "is not a number from -100 to 100"),
    (["--retry-on", "monday", "s.py"], "is not a kind of failure"),
    (["--include", "*.nope", "s.py"], "nothing matches '*.nope'"),
    (["--requirements", "nope.txt", "s.py"], "nope.txt"),
    (["--detach", "--watch", "s.py"], "cannot go together"),
    (["--batch-json", "bad.jsonl", "s.py"], "line 2 of bad.jsonl is not JSON"),
    (["--batch-lines", "nope", "s.py"], "--batch-lines nope"),
    (["--dryrun", "s.py"], "--dryrun"),
    (["broken.py"], "broken.py:2: the metadata block is not valid TOML"),
    (["unknown.py"], "unknown.py:1 imports surely_not_a_module"),
]


@pytest.mark.parametrize(("args", "problem"), BAD, ids=[" ".join(args) or "nothing" for args, _ in BAD])
def test_bad_input_is_refused_clearly(
    project: Path, capfd: pytest.CaptureFixture[str], args: list[str], problem: str
) -> None:
    """Wrong input ends with 2, says what is wrong and what to do, starts no grid and shows no traceback."""
    write(
        project,
        {
            "bad.jsonl": '{"a": 1}\noops\n',
            "broken.py": "# /// script\n# dependencies = nope\n# ///\n",
            "unknown.py": "import surely_not_a_module\n",
        },
    )
    code = main.run(["run", *args])
    out, err = capfd.readouterr()
    assert code == 2, err
    assert problem in err
    assert "→" in err
    assert "Traceback" not in err
    assert out == ""
    assert not (project.parent / "home/local").exists()


def test_errors_come_as_json_too(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """``--json`` turns an error into a document."""
    assert main.run(["run", "--json", "--memory", "lots", "s.py"]) == 2
    out, _ = capfd.readouterr()
    assert json.loads(out)["error"]["code"] == "usage"


def test_the_help_needs_nothing_heavy() -> None:
    """``rgrid run --help`` imports neither what talks to the network nor what reads scripts."""
    import subprocess
    import sys

    code = (
        "import sys; from rgrid import main; main.run(['run', '--help']); "
        "print(sorted({'rgrid.submit.plan', 'http.client', 'httpx', 'asyncio', 'rich', 'websockets', 'hashlib'} "
        "& set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--batch" in done.stdout
    assert done.stderr.strip() == "[]"
