"""The command line as a process: fast paths, help, errors and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rgrid.main import VERBS

HEAVY = ("httpx", "pydantic", "rich", "asyncio", "rgrid_shared.specs", "rgrid.submit.plan")


def rgrid(*args: str, home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RGRID_")}
    return subprocess.run(
        [sys.executable, "-m", "rgrid", *args],
        env={**clean, "RGRID_HOME": str(home), **env},
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def imported(*args: str, home: Path) -> set[str]:
    """Modules that a command line has loaded by its end."""
    program = (
        "import atexit, sys, json\nfrom rgrid.__main__ import main\n"
        "atexit.register(lambda: sys.stderr.write(json.dumps(list(sys.modules))))\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *args],
        env={**os.environ, "RGRID_HOME": str(home), "RGRID_DEBUG": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_the_version_needs_nothing(tmp_path: Path) -> None:
    """``--version`` imports neither a command-line library nor anything of rgrid's but its version."""
    loaded = imported("--version", home=tmp_path)
    assert not loaded & {"typer", "click", "http.client", "rgrid.main", *HEAVY}


@pytest.mark.parametrize("args", [("--help",), ("run", "--help"), ("status", "--help"), ("logs", "--help")])
def test_help_stays_light(args: tuple[str, ...], tmp_path: Path) -> None:
    """Help never imports what only doing the work needs."""
    assert not imported(*args, home=tmp_path) & {*HEAVY, "websockets"}


def test_the_sdk_is_loaded_when_used() -> None:
    """``import rgrid`` alone loads nothing; its names are all there."""
    program = (
        "import sys, rgrid\nassert not {'rgrid.sdk', 'httpx', 'http.client'} & set(sys.modules)\n"
        "assert all(getattr(rgrid, name) for name in rgrid.__all__)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help(verb: str, tmp_path: Path) -> None:
    """Each verb builds and explains itself."""
    done = rgrid(verb, "--help", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: rgrid {verb}")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("statsu",), "rgrid status"),
        (("nonsense",), "--help"),
        (("status", "--jsno"), "--json"),
        (("list", "--limit", "x"), "--limit"),
        (("list", "--limit", "0"), "--limit"),
        (("delete",), "TARGET"),
        (("keys", "revoke"), "rgrid keys revoke --help"),
        (("login", "--server", "http://192.0.2.1", "--key", "rgr_x"), "plain http"),
        (("login", "--server", "https://x", "--key", "wrong"), "rgr_"),
        (("login", "--server", "https://x"), "--key"),
        (("login",), "--server"),
        (("completion", "tcsh"), "tcsh"),
        (("list", "--status", "nope"), "nope"),
        (("list", "--since", "soon"), "soon"),
        (("wait", "--timeout", "soon"), "soon"),
        (("logs", "--stream", "x"), "stdout"),
        (("status",), "rgrid run"),
    ],
)
def test_bad_usage(args: tuple[str, ...], says: str, tmp_path: Path) -> None:
    """Wrong input exits with 2, names what is wrong or what to type, and leaves stdout empty."""
    done = rgrid(*args, home=tmp_path)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert all(line.startswith("rgrid: ") for line in done.stderr.splitlines())


def test_errors_are_json_when_asked(tmp_path: Path) -> None:
    """``--json`` holds for errors, also for those that come before the options are read."""
    for args in (("status", "what?", "--json"), ("list", "--nope", "--json"), ("nope", "--json")):
        done = rgrid(*args, home=tmp_path, RGRID_SERVER="http://127.0.0.1:9", RGRID_API_KEY="rgr_x")
        assert json.loads(done.stdout)["error"]["code"] == "usage"
        assert done.returncode == 2


def test_a_file_in_the_place_of_a_verb(tmp_path: Path) -> None:
    """``rgrid script.py`` is answered with ``rgrid run script.py``."""
    script = tmp_path / "s.py"
    script.write_text("")
    assert f"rgrid run {script}" in rgrid(str(script), home=tmp_path).stderr


def test_an_unreachable_server(tmp_path: Path) -> None:
    """Nobody there: 125, the address, and what to type."""
    done = rgrid("list", home=tmp_path, RGRID_SERVER="http://127.0.0.1:9", RGRID_API_KEY="rgr_x")
    assert done.returncode == 125
    assert "127.0.0.1:9" in done.stderr
    assert "rgrid doctor" in done.stderr


def test_faults_of_our_own_hide_their_traceback(tmp_path: Path) -> None:
    """An unexpected error is one line and the way to its details; RGRID_DEBUG=1 shows them."""
    program = "import sys, rgrid.main\nrgrid.main.root = lambda: 1 / 0\nsys.exit(rgrid.main.run(['list']))"
    for debug, shown in (("", False), ("1", True)):
        env = {**os.environ, "RGRID_HOME": str(tmp_path), "RGRID_DEBUG": debug}
        done = subprocess.run(
            [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 125
        assert "division by zero" in done.stderr
        assert ("Traceback" in done.stderr) is shown
        assert ("RGRID_DEBUG=1" in done.stderr) is not shown


def test_completion_scripts(tmp_path: Path) -> None:
    """Each shell's script comes out, and completing a verb works without a grid."""
    for shell in ("bash", "zsh", "fish"):
        assert "_RGRID_COMPLETE" in rgrid("completion", shell, home=tmp_path).stdout
    done = rgrid(home=tmp_path, _RGRID_COMPLETE="bash_complete", COMP_WORDS="rgrid sta", COMP_CWORD="1")
    assert done.stdout.split() == ["plain,status"]


def test_a_broken_pipe_is_silent(tmp_path: Path) -> None:
    """``rgrid --help | true`` prints no complaint."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "rgrid", "--help"],
        stdout=writer,
        stderr=subprocess.PIPE,
        env={**os.environ, "RGRID_HOME": str(tmp_path)},
        check=False,
    )
    os.close(writer)
    assert done.stderr == b""


def test_a_full_disk_behind_stdout(tmp_path: Path) -> None:
    """Output that cannot be written is an error with its reason, not a traceback."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "rgrid", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, "RGRID_HOME": str(tmp_path)},
            check=False,
        )
    assert done.returncode == 125
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr
