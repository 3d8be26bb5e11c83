"""Bad input gets a clear answer: what happened, why, and what to type next; nothing is half-submitted."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from acceptance.conftest import Write
from support.grid import RGRID, Grid, run


@dataclass(frozen=True)
class Bad:
    """A command that cannot work: its exit code, and words that the message must hold."""

    args: tuple[str, ...]
    says: tuple[str, ...]
    code: int = 2
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


S = {"s.py": "print(1)\n"}
TABLE = {
    "missing script": Bad(("run", "absent.py"), ("absent.py",)),
    "directory as script": Bad(("run", "folder"), ("folder", "directory"), files={"folder/x": ""}),
    "no script at all": Bad(("run",), ("SCRIPT",)),
    "no such module": Bad(("run", "-m", "nowhere.at_all"), ("nowhere",)),
    "glob without match": Bad(("run", "--batch", "none/*.txt", "s.py"), ("none/*.txt", "match"), files=S),
    "two item sources": Bad(("run", "--batch", "*.py", "--range", "1-3", "s.py"), ("--batch", "--range"), files=S),
    "braces misused": Bad(
        ("run", "--batch-json", "i.jsonl", "s.py", "{nope}"), ("{nope}", "{a}"), files={**S, "i.jsonl": '{"a": 1}\n'}
    ),
    "bad range": Bad(("run", "--range", "3-x", "s.py"), ("3-x",), files=S),
    "malformed -e": Bad(("run", "-e", "=x", "s.py"), ("-e =…",), files=S),
    "-e not set here": Bad(("run", "-e", "NOT_SET_ANYWHERE", "s.py"), ("NOT_SET_ANYWHERE",), files=S),
    "env file missing": Bad(("run", "--env-file", "no.env", "s.py"), ("no.env",), files=S),
    "env file malformed": Bad(
        ("run", "--env-file", "x.env", "s.py"), ("x.env", "2"), files={**S, "x.env": "A=1\nnot an assignment\n"}
    ),
    "unknown runtime": Bad(("run", "--runtime", "cobol85", "s.py"), ("cobol85",), files=S),
    "unknown extension": Bad(("run", "s.zzz"), ("s.zzz", "#!"), files={"s.zzz": "x"}),
    "bad memory": Bad(("run", "--memory", "2QB", "s.py"), ("2QB",), files=S),
    "bad timeout": Bad(("run", "--timeout", "soon", "s.py"), ("soon",), files=S),
    "bad gpu": Bad(("run", "--gpu", "A100:x", "s.py"), ("A100:x",), files=S),
    "bad parallel": Bad(("run", "--range", "1-2", "--parallel", "0", "s.py"), ("parallel",), files=S),
    "unknown option": Bad(("run", "--paralel", "3", "s.py"), ("--paralel",), files=S),
    "pep 723 not toml": Bad(
        ("run", "s.py"), ("s.py:1", "TOML"), files={"s.py": "# /// script\n# dependencies = [\n# ///\nprint(1)\n"}
    ),
    "pep 723 not closed": Bad(
        ("run", "s.py"), ("s.py", "///"), files={"s.py": "# /// script\n# dependencies = []\nprint(1)\n"}
    ),
    "requirement malformed": Bad(
        ("run", "s.py"), ("requirements.txt:2",), files={**S, "requirements.txt": "six\n???\n"}
    ),
    "requirements file missing": Bad(("run", "--requirements", "no.txt", "s.py"), ("no.txt",), files=S),
    "unknown import": Bad(("run", "s.py"), ("nobody_has_this", "s.py:1"), files={"s.py": "import nobody_has_this\n"}),
    "json line": Bad(
        ("run", "--batch-json", "i.jsonl", "s.py"),
        ("i.jsonl", "line 2"),
        files={**S, "i.jsonl": '{"a": 1}\nnot json\n'},
    ),
    "lines file missing": Bad(("run", "--batch-lines", "no.txt", "s.py"), ("no.txt",), files=S),
    "lines file empty": Bad(("run", "--batch-lines", "e.txt", "s.py"), ("e.txt",), files={**S, "e.txt": ""}),
    "include without match": Bad(("run", "--include", "zz*", "s.py"), ("zz*",), files=S),
    "unknown id": Bad(("status", "bat_00000000000000000000"), ("bat_0",)),
    "nonsense id": Bad(("status", "what?"), ("what?",)),
    "logs of nothing": Bad(("logs", "exe_zzzzzzzz"), ("exe_zzzz",)),
    "wrong key": Bad(
        ("list",), ("key",), code=4, env={"RGRID_API_KEY": "rgr_wrongwrongwrongwrongwrongwrongwrongwrong"}
    ),
    "server unreachable": Bad(
        ("list",), ("127.0.0.1:9",), code=125, env={"RGRID_SERVER": "http://127.0.0.1:9", "RGRID_API_KEY": "rgr_x"}
    ),
    "key over plain http": Bad(
        ("list",), ("http",), code=2, env={"RGRID_SERVER": "http://192.0.2.1", "RGRID_API_KEY": "rgr_x"}
    ),
    "server address malformed": Bad(("list",), ("ftp",), env={"RGRID_SERVER": "ftp://x", "RGRID_API_KEY": "rgr_x"}),
}


@pytest.mark.parametrize("name", sorted(TABLE))
def test_bad_input_is_refused_clearly(name: str, grid: Grid, project: Write) -> None:
    """Right exit code, the culprit named, no traceback, and no batch that was not there before."""
    bad = TABLE[name]
    here = project(dict(bad.files))
    before = grid.rgrid("list", "--json").out
    env = dict(bad.env)
    if "RGRID_API_KEY" in env and "RGRID_SERVER" not in env:
        env["RGRID_SERVER"] = json.loads((grid.home / "local/grid.json").read_text())["url"]
    done = grid.rgrid(*bad.args, cwd=here, env=env, timeout=60)
    assert done.code == bad.code, done.errors
    for words in bad.says:
        assert words in done.errors
    assert "Traceback" not in done.errors
    assert done.out == b""
    assert grid.rgrid("list", "--json").out == before


# Root reads everything, unless it gives up the capabilities that let it.
AS_A_USER = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()


def test_an_unreadable_file(grid: Grid, project: Write) -> None:
    """A file that the user may not read is named before anything travels."""
    here = project({"s.py": "print(1)\n", "secret.txt": "x"})
    (here / "secret.txt").chmod(0)
    done = run([*AS_A_USER, *RGRID, "run", "s.py", "secret.txt"], cwd=here, stdin=None, env=grid.env())
    assert done.code == 2
    assert "secret.txt" in done.errors


def test_errors_are_json_when_asked(grid: Grid) -> None:
    """With ``--json`` an error is a JSON document too, with code and hint."""
    done = grid.rgrid("status", "bat_00000000000000000000", "--json")
    problem = json.loads(done.out or done.err)["error"]
    assert problem["code"] == "not_found"
    assert done.code == 2


def test_impossible_resources_are_said_at_submit(grid: Grid, project: Write) -> None:
    """A need that no runner can ever meet is refused at submission, with what the nearest one has."""
    here = project({"s.py": "print(1)\n"})
    before = grid.rgrid("list", "--json").json
    done = grid.rgrid("run", "-d", "--gpu", "A100:8", "s.py", cwd=here)
    assert done.code == 2, done.errors
    assert "No runner of this grid has 8 A100 GPUs." in done.errors
    assert "rgrid runners" in done.errors
    assert grid.rgrid("list", "--json").json == before


def test_a_full_disk_here_is_said(grid: Grid, project: Write, tmp_path: Path) -> None:
    """Outputs that do not fit on the local disk: a clear message, exit 125, and they can be fetched again."""
    if os.geteuid() != 0 or subprocess.run(["which", "mount"], capture_output=True, check=False).returncode:
        pytest.skip("needs root to mount a small file system")
    here = project({"s.py": "open('big', 'wb').write(b'x' * 5_000_000)\n"})
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    try:
        done = grid.rgrid("run", "--output-dir", str(small), "s.py", cwd=here)
        assert done.code == 125
        assert "space" in done.errors
        assert "download" in done.errors
    finally:
        subprocess.run(["umount", small], check=True)
    assert grid.rgrid("download", "last", "--output-dir", str(here / "later"), cwd=here).code == 0
    assert (here / "later/big").stat().st_size == 5_000_000
