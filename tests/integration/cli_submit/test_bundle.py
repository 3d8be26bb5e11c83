"""What travels with a script, on real trees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.trees import BARE, plan_of, shipped, write

from rgrid.submit import bundle
from rgrid.submit.items import Files, Lines, Range
from rgrid_shared.errors import UsageError
from rgrid_shared.wire import EMPTY_SHA256


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a mark of its own, below a directory that is not one."""
    root = tmp_path / "project"
    (root / ".git").mkdir(parents=True)
    write(root, {".git/config": "[core]", "s.py": "print(1)\n"})
    return root


def test_the_script_travels_alone_if_it_needs_nothing(project: Path) -> None:
    """No neighbour travels that nothing asks for."""
    write(project, {"other.py": "", "data.csv": "1", "notes/a.txt": "1"})
    plan = plan_of(project, "s.py")
    assert shipped(plan) == {"s.py"}
    assert plan.spec["root"] == str(project)
    assert plan.spec["cwd"] == ""
    assert plan.spec["script"] == {
        "kind": "file",
        "path": "s.py",
        "argv0": "s.py",
        "name": "s.py",
        "language": "python",
    }


def test_imports_of_the_project_travel(project: Path) -> None:
    """The closure of imports travels: packages, relative, conditional, lazy and by literal name; nothing else."""
    write(
        project,
        {
            "s.py": "import flat, pkg.deep.leaf\nfrom pkg import api\ndef f():\n    import lazy\n"
            "try:\n    import maybe\nexcept ImportError:\n    maybe = None\n"
            "import importlib\nimportlib.import_module('named.mod')\n",
            "flat.py": "from pkg.sub import *\n",
            "lazy.py": "",
            "maybe.py": "",
            "named/__init__.py": "",
            "named/mod.py": "",
            "named/other.py": "",
            "unused.py": "",
            "pkg/__init__.py": "from . import core\nfrom .core import x\n",
            "pkg/core.py": "x = 1\nfrom ..pkg import helper\n",
            "pkg/helper.py": "",
            "pkg/api.py": "",
            "pkg/unused.py": "",
            "pkg/deep/__init__.py": "",
            "pkg/deep/leaf.py": "from ... import flat\n",
            "pkg/sub/__init__.py": "__all__ = ['starred']\n",
            "pkg/sub/starred.py": "",
            "pkg/sub/unstarred.py": "",
        },
    )
    assert shipped(plan_of(project, "s.py")) == {
        "s.py",
        "flat.py",
        "lazy.py",
        "maybe.py",
        "named/__init__.py",
        "named/mod.py",
        "pkg/__init__.py",
        "pkg/core.py",
        "pkg/helper.py",
        "pkg/api.py",
        "pkg/deep/__init__.py",
        "pkg/deep/leaf.py",
        "pkg/sub/__init__.py",
        "pkg/sub/starred.py",
    }


def test_a_package_that_imports_by_computed_names_travels_whole(project: Path) -> None:
    """Plug-ins found at run time are not missed."""
    write(
        project,
        {
            "s.py": "import importlib, sys\nimportlib.import_module(f'plugins.{sys.argv[1]}')\n",
            "plugins/__init__.py": "",
            "plugins/a.py": "",
            "plugins/b/__init__.py": "",
            "plugins/b/c.py": "",
        },
    )
    assert shipped(plan_of(project, "s.py")) >= {"plugins/a.py", "plugins/b/c.py"}


def test_a_path_that_the_script_adds_is_searched(project: Path) -> None:
    """``sys.path.insert(0, Path(__file__).parent.parent / 'src')`` is understood."""
    write(
        project,
        {
            "tools/t.py": "import sys\nfrom pathlib import Path\nROOT = Path(__file__).resolve().parent.parent\n"
            "sys.path.insert(0, str(ROOT / 'src'))\nimport mine\n",
            "src/mine.py": "",
        },
    )
    plan = plan_of(project, "tools/t.py")
    assert shipped(plan) == {"tools/t.py", "src/mine.py"}
    assert plan.env == {}


def test_a_source_layout_travels_with_its_search_path(project: Path) -> None:
    """What an editable install provides locally is found on the runner through PYTHONPATH."""
    write(project, {"pyproject.toml": "", "src/mine/__init__.py": "", "scripts/t.py": "import mine\n"})
    plan = plan_of(project / "scripts", "t.py")
    assert shipped(plan) == {"scripts/t.py", "src/mine/__init__.py"}
    assert plan.env == {"PYTHONPATH": "../src"}
    assert plan.spec["env_names"] == ["PYTHONPATH"]


def test_pythonpath_into_the_project_counts(project: Path) -> None:
    """An exported PYTHONPATH means the same on the runner."""
    write(project, {"s.py": "import mine\n", "code/mine.py": ""})
    plan = plan_of(project, "s.py", environ={**BARE, "PYTHONPATH": str(project / "code")})
    assert shipped(plan) == {"s.py", "code/mine.py"}
    assert plan.env == {"PYTHONPATH": "code"}


def test_literals_that_name_files_travel(project: Path) -> None:
    """Files that the text names travel, relative to the working directory, the script or the module."""
    write(
        project,
        {
            "s.py": "from pathlib import Path\nimport os, pkg.m\nopen('cfg/a.toml')\nopen('top.txt')\n"
            "HERE = Path(__file__).parent\n"
            "HERE / 'data' / 'x.csv'\nos.path.join(os.path.dirname(__file__), 'data', 'y.csv')\n",
            "cfg/a.toml": "1",
            "cfg/b.toml": "1",
            "top.txt": "1",
            "data/x.csv": "1",
            "data/y.csv": "1",
            "data/z.csv": "1",
            "pkg/__init__.py": "",
            "pkg/m.py": "open('beside.json')\n",
            "pkg/beside.json": "1",
        },
    )
    assert shipped(plan_of(project, "s.py")) == {
        "s.py",
        "cfg/a.toml",
        "top.txt",
        "data/x.csv",
        "data/y.csv",
        "pkg/__init__.py",
        "pkg/m.py",
        "pkg/beside.json",
    }


def test_literal_files_have_a_size_limit(project: Path) -> None:
    """A literal over 10 MiB stays, and is said with the way to send it."""
    write(project, {"s.py": "open('big.bin')\n"})
    with (project / "big.bin").open("wb") as file:
        file.truncate((10 << 20) + 1)
    plan = plan_of(project, "s.py")
    assert shipped(plan) == {"s.py"}
    assert any("big.bin" in note and "--include big.bin" in note for note in plan.notes)
    assert not plan_of(project, "s.py", include=("big.bin",)).notes


def test_literals_outside_the_project_stay(project: Path) -> None:
    """A file above the project is not taken because a text names it; a note says so."""
    write(project.parent, {"above.txt": "1"})
    write(project, {"s.py": "open('../above.txt')\nopen('/etc/hostname')\n"})
    plan = plan_of(project, "s.py")
    assert shipped(plan) == {"s.py"}
    assert any("../above.txt" in note for note in plan.notes)


def test_docstrings_are_not_literals(project: Path) -> None:
    """A docstring that is a file's name names no file."""
    write(project, {"s.py": '"""top.txt"""\n', "top.txt": "1"})
    assert shipped(plan_of(project, "s.py")) == {"s.py"}


def test_directories_that_the_script_lists_travel(project: Path) -> None:
    """``glob`` and ``listdir`` of literals find on the runner what they find here."""
    write(
        project,
        {
            "s.py": "import glob, os\nglob.glob('data/*.csv')\nos.listdir('cfg')\n",
            "data/a.csv": "1",
            "data/b.txt": "1",
            "cfg/x": "1",
            "cfg/deep/y": "1",
        },
    )
    assert shipped(plan_of(project, "s.py")) == {"s.py", "data/a.csv", "cfg/x"}


def test_directories_that_are_named_exist(project: Path) -> None:
    """A script may write into a directory that exists here, though none of its files travels."""
    (project / "out/deep").mkdir(parents=True)
    write(project, {"s.py": "open('out/result.txt', 'w')\n", "out/old.txt": "1"})
    plan = plan_of(project, "s.py", "--to", "out/deep/new.txt")
    assert shipped(plan) == {"s.py"}
    assert plan.spec["dirs"] == ["out", "out/deep"]


def test_arguments_that_name_files_travel(project: Path) -> None:
    """Files named by arguments travel, also behind ``=``, ``@`` and a short option; directories with all in them."""
    write(project, {f"d/{name}": "1" for name in ("1", "2", "3", "4", "deep/5", "odd name\n")})
    plan = plan_of(project, "s.py", "d/1", "--in=d/2", "@d/3", "-id/4", "--dir", "d/deep", "d/odd name\n", "d/none")
    assert shipped(plan) == {"s.py", "d/1", "d/2", "d/3", "d/4", "d/deep/5", "d/odd name\n"}
    assert plan.items[0]["args"] == ["d/1", "--in=d/2", "@d/3", "-id/4", "--dir", "d/deep", "d/odd name\n", "d/none"]


def test_inputs_above_the_working_directory_keep_their_place(project: Path) -> None:
    """``../data/x.csv`` works: the working directory stands as deep in the workspace as here."""
    write(project, {"work/s.py": "", "data/x.csv": "1"})
    plan = plan_of(project / "work", "s.py", "../data/x.csv")
    assert (plan.spec["root"], plan.spec["cwd"]) == (str(project), "work")
    assert shipped(plan) == {"work/s.py", "data/x.csv"}
    assert plan.items[0]["args"] == ["../data/x.csv"]


def test_absolute_inputs_are_known_as_such(project: Path) -> None:
    """An absolute path travels as a path that the runner can rewrite; a plain text stays one."""
    other = write(project.parent, {"else/x.csv": "1"})
    plan = plan_of(project, "s.py", f"{other}/else/x.csv", f"--in={project}/s.py", "/no/such/file")
    assert plan.spec["root"] == str(project.parent)
    assert plan.items[0]["args"] == [
        {"prefix": "", "path": "else/x.csv", "original": f"{other}/else/x.csv"},
        {"prefix": "--in=", "path": "project/s.py", "original": f"{project}/s.py"},
        "/no/such/file",
    ]


def test_an_absolute_output_is_rewritten_too(project: Path) -> None:
    """An absolute path that is to be made, in a directory that is there, comes out in the workspace."""
    plan = plan_of(project, "s.py", f"{project}/out.txt")
    assert plan.items[0]["args"] == [{"prefix": "", "path": "out.txt", "original": f"{project}/out.txt"}]


def test_an_absolute_script_stays_one(project: Path) -> None:
    """``sys.argv[0]`` of a script that was typed by its absolute path is absolute."""
    plan = plan_of(project, f"{project}/s.py")
    assert plan.spec["script"]["argv0"] == {"prefix": "", "path": "s.py", "original": f"{project}/s.py"}


@pytest.mark.parametrize("arg", ["/", "..", "../..", "~"])
def test_too_high_directories_never_travel(project: Path, arg: str) -> None:
    """Not the root, not the home directory, nothing above the working directory; a note says so."""
    arg = os.path.expanduser("~") if arg == "~" else arg
    plan = plan_of(project, "s.py", arg)
    assert shipped(plan) == {"s.py"}
    assert plan.items[0]["args"] == [arg]
    assert any("stays here" in note for note in plan.notes)


def test_the_working_directory_may_travel(project: Path) -> None:
    """``.`` is a directory like others."""
    write(project, {"a/b": "1"})
    assert shipped(plan_of(project, "s.py", ".")) == {"s.py", "a/b"}


NEVER = {
    ".env": "SECRET",
    ".env.local": "SECRET",
    "server.pem": "SECRET",
    "id_rsa": "SECRET",
    "id_ed25519.pub": "SECRET",
    "aws_credentials": "SECRET",
    "Credentials.json": "SECRET",
    ".netrc": "SECRET",
    ".ssh/config": "SECRET",
    ".aws/config": "SECRET",
    "deep/.env": "SECRET",
}


def test_secrets_never_travel(project: Path) -> None:
    """Secret-shaped names stay: beside the script, named in its text, in a directory argument, under a wide include."""
    write(project, NEVER)
    names = "\n".join(f"open({name!r})" for name in NEVER)
    write(project, {"s.py": names, "fine.txt": "1"})
    plan = plan_of(project, "s.py", ".", include=("**/*", "*"))
    assert shipped(plan) == {"s.py", "fine.txt"}
    assert all(note for note in plan.notes)
    assert any("secret" in note for note in plan.notes)


@pytest.mark.parametrize("name", sorted(NEVER))
def test_secrets_travel_if_they_are_named(project: Path, name: str) -> None:
    """What the user names as an argument or by ``--include`` travels."""
    write(project, NEVER)
    assert name in shipped(plan_of(project, "s.py", name))
    assert name in shipped(plan_of(project, "s.py", include=(name,)))


def test_a_needed_module_with_a_secrets_name_is_asked_for(project: Path) -> None:
    """A module that the script imports but that looks like a secret is an error with the way on."""
    write(project, {"s.py": "import credentials\n", "credentials.py": "KEY = 1\n"})
    with pytest.raises(UsageError, match=r"credentials\.py is imported") as caught:
        plan_of(project, "s.py")
    assert "--include credentials.py" in caught.value.hint
    assert "credentials.py" in shipped(plan_of(project, "s.py", include=("credentials.py",)))


def test_modules_may_be_called_id_something(project: Path) -> None:
    """``id_map.py`` is no SSH key."""
    write(project, {"s.py": "import id_map\n", "id_map.py": ""})
    assert "id_map.py" in shipped(plan_of(project, "s.py"))


def test_rubbish_does_not_travel(project: Path) -> None:
    """Version control, environments and caches stay."""
    write(
        project,
        {
            ".venv/lib/a.py": "",
            "myenv/pyvenv.cfg": "",
            "myenv/lib/a.py": "",
            "__pycache__/s.pyc": "",
            "node_modules/x/y.js": "",
            ".mypy_cache/x": "",
            "a.pyc": "",
            "good.txt": "1",
        },
    )
    assert shipped(plan_of(project, "s.py", ".")) == {"s.py", "good.txt"}


def test_the_ignore_file_is_honoured(project: Path) -> None:
    """``.rgridignore`` works as ``.gitignore`` does; what is named as an argument travels all the same."""
    write(
        project,
        {
            ".rgridignore": "# comment\n*.log\n!keep.log\n/top/\nbuild/\n**/tmp/*.dat\n",
            "a.log": "1",
            "keep.log": "1",
            "top/x": "1",
            "deep/top/x": "1",
            "deep/build/x": "1",
            "deep/tmp/a.dat": "1",
            "deep/tmp/a.txt": "1",
            "deep/.rgridignore": "own\n",
            "deep/own": "1",
            "own": "1",
            "s.py": "open('a.log')\n",
        },
    )
    assert shipped(plan_of(project, "s.py", ".")) == {"s.py", "keep.log", "deep/top/x", "deep/tmp/a.txt", "own"}
    assert "a.log" in shipped(plan_of(project, "s.py", "a.log"))


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("data/*.csv", {"data/a.csv"}),
        ("data/**", {"data/a.csv", "data/b.txt", "data/deep/c.csv"}),
        ("data", {"data/a.csv", "data/b.txt", "data/deep/c.csv"}),
        ("dat*", {"data/a.csv", "data/b.txt", "data/deep/c.csv"}),
        ("**/*.csv", {"data/a.csv", "data/deep/c.csv"}),
        ("data/[ab].*", {"data/a.csv", "data/b.txt"}),
        ("data/.hidden", {"data/.hidden"}),
    ],
)
def test_includes(project: Path, pattern: str, found: set[str]) -> None:
    """``--include`` takes globs, files and directories."""
    write(project, dict.fromkeys(("data/a.csv", "data/b.txt", "data/deep/c.csv", "data/.hidden"), "1"))
    if pattern in ("data", "dat*"):
        found = found | {"data/.hidden"}
    assert shipped(plan_of(project, "s.py", include=(pattern,))) == found | {"s.py"}


@pytest.mark.parametrize("pattern", ["nope/*", "/", "..", "none.txt"])
def test_a_useless_include_is_refused(project: Path, pattern: str) -> None:
    """An include that names nothing, or far too much, is an error."""
    with pytest.raises(UsageError, match="--include"):
        plan_of(project, "s.py", include=(pattern,))


def test_too_much_is_refused_with_a_list(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limits nothing travels: the largest files and the flag are named. Arguments do not count."""
    monkeypatch.setattr(bundle, "MAX_BYTES", 1000)
    write(project, {"big.bin": b"x" * 2000, "small.bin": b"x"})
    with pytest.raises(UsageError, match=r"big\.bin") as caught:
        plan_of(project, "s.py", include=("*.bin",))
    assert "--allow-large" in caught.value.hint
    assert "big.bin" in shipped(plan_of(project, "s.py", include=("*.bin",), allow_large=True))
    assert "big.bin" in shipped(plan_of(project, "s.py", "big.bin"))


def test_links_inside_a_directory_stay_links(project: Path) -> None:
    """A link that stays inside travels as a link; one out of the project does not travel."""
    write(project.parent, {"secret.txt": "SECRET"})
    write(project, {"d/real.txt": "1", "outside_d.txt": "1"})
    (project / "d/inside").symlink_to("real.txt")
    (project / "d/project").symlink_to("../outside_d.txt")
    (project / "d/out").symlink_to("../../secret.txt")
    (project / "d/absolute").symlink_to("/etc/passwd")
    plan = plan_of(project, "s.py", "d")
    assert plan.spec["links"] == {"d/inside": "real.txt"}
    assert shipped(plan) == {"s.py", "d/real.txt", "d/project"}
    assert any("d/" in note and "stayed here" in note for note in plan.notes)


def test_a_linked_script_runs_from_its_real_place(project: Path) -> None:
    """Python takes a script's modules from where it really lies; so does rgrid."""
    write(project, {"real/main.py": "import beside\n", "real/beside.py": "", "bin/x": ""})
    (project / "bin/run.py").symlink_to("../real/main.py")
    plan = plan_of(project, "bin/run.py")
    assert shipped(plan) == {"real/main.py", "real/beside.py"}
    assert plan.spec["script"]["path"] == "real/main.py"
    assert plan.spec["script"]["argv0"] == "bin/run.py"
    assert plan.spec["links"] == {"bin/run.py": "../real/main.py"}


def test_modules_run_as_with_m(project: Path) -> None:
    """``-m package.module`` takes the package's ``__init__`` files, and the working directory as import root."""
    write(project, {"pkg/__init__.py": "", "pkg/tool.py": "from . import part\n", "pkg/part.py": ""})
    plan = plan_of(project, "pkg.tool", module=True)
    assert shipped(plan) == {"pkg/__init__.py", "pkg/tool.py", "pkg/part.py"}
    assert plan.spec["script"] == {
        "kind": "module",
        "path": "pkg.tool",
        "argv0": "pkg.tool",
        "name": "pkg.tool",
        "language": "python",
    }


def test_modules_of_the_standard_library_run(project: Path) -> None:
    """``-m json.tool`` needs no file."""
    plan = plan_of(project, "json.tool", "s.py", module=True, runtime="")
    assert shipped(plan) == {"s.py"}
    assert plan.spec["requirements"] is None


def test_shell_scripts_bring_what_they_name(project: Path) -> None:
    """Words of a shell script that name files travel, and what a Python script among them imports."""
    write(
        project,
        {
            "run.sh": '#!/bin/sh\n. ./lib.sh\npython work.py "data/x.csv" > out.txt # notes.txt\n',
            "lib.sh": "cat inner.txt\n",
            "inner.txt": "1",
            "notes.txt": "1",
            "work.py": "import part\n",
            "part.py": "",
            "data/x.csv": "1",
        },
    )
    plan = plan_of(project, "run.sh", runtime="")
    assert shipped(plan) == {"run.sh", "lib.sh", "inner.txt", "work.py", "part.py", "data/x.csv"}
    assert plan.spec["runtime"] == "bash"


def test_a_batch_gives_each_item_its_own_file(project: Path) -> None:
    """Inputs belong to their items; what all share stands in the spec once."""
    write(project, {"in/a.csv": "1", "in/b.csv": "2", "cfg.toml": "3"})
    plan = plan_of(project, "s.py", "--cfg", "cfg.toml", "{}", "out/{/.}.txt", items=Files(("in/*.csv",)))
    assert shipped(plan) == {"s.py", "cfg.toml"}
    assert [[file["path"] for file in item["files"]] for item in plan.items] == [["in/a.csv"], ["in/b.csv"]]
    assert [item["args"] for item in plan.items] == [
        ["--cfg", "cfg.toml", "in/a.csv", "out/a.txt"],
        ["--cfg", "cfg.toml", "in/b.csv", "out/b.txt"],
    ]
    assert [item["output_name"] for item in plan.items] == ["a.csv", "b.csv"]


def test_an_item_that_is_also_the_scripts_travels_once(project: Path) -> None:
    """A file that the script names and an item is stands in the spec only."""
    write(project, {"s.py": "open('in/a.csv')\n", "in/a.csv": "1", "in/b.csv": "2"})
    plan = plan_of(project, "s.py", items=Files(("in/*.csv",)))
    assert shipped(plan) == {"s.py", "in/a.csv"}
    assert [len(item["files"]) for item in plan.items] == [0, 1]


def test_lines_that_name_files_bring_them(project: Path) -> None:
    """A line of an item file that names a file is an argument like others."""
    write(project, {"list": "in/a.csv\nhttps://x.org/b\n", "in/a.csv": "1"})
    plan = plan_of(project, "s.py", items=Lines("list"))
    assert [[file["path"] for file in item["files"]] for item in plan.items] == [["in/a.csv"], []]


def test_braces_mean_nothing_outside_a_batch(project: Path) -> None:
    """A single run gets ``{}`` as it stands."""
    assert plan_of(project, "s.py", "{}", "{/}").items[0]["args"] == ["{}", "{/}"]


def test_modes_and_empty_files(project: Path) -> None:
    """Permission bits travel; a file of no bytes has the hash of no bytes."""
    write(project, {"empty": ""})
    (project / "empty").chmod(0o751)
    file = next(f for f in plan_of(project, "s.py", "empty").spec["files"] if f["path"] == "empty")
    assert file == {"path": "empty", "sha256": EMPTY_SHA256, "size": 0, "mode": 0o751}


def test_a_script_with_a_syntax_error_still_travels(project: Path) -> None:
    """Its own traceback is what the user should see; a note says that its imports are unknown."""
    write(project, {"s.py": "def f(:\n"})
    plan = plan_of(project, "s.py")
    assert shipped(plan) == {"s.py"}
    assert any("line 1" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("nope.py", "no script"),
        ("d", "is a directory"),
        ("x.csv", "does not know how to run"),
        ("-", "stdin"),
        ("{}", "script's name"),
        ("", "empty"),
        ("a\0b", "NUL"),
        ("fifo", "not a regular file"),
        ("dangling.py", "is a link"),
    ],
)
def test_what_is_no_script_is_refused(project: Path, script: str, problem: str) -> None:
    """Each way to name no script has its own clear message and a way on."""
    write(project, {"d/x": "", "x.csv": "1,2"})
    os.mkfifo(project / "fifo")
    (project / "dangling.py").symlink_to("gone.py")
    with pytest.raises(UsageError, match=problem) as caught:
        plan_of(project, script)
    assert caught.value.hint


def test_a_misspelt_script_is_guessed(project: Path) -> None:
    """A near name is offered."""
    write(project, {"process.py": ""})
    with pytest.raises(UsageError) as caught:
        plan_of(project, "proces.py")
    assert "process.py" in caught.value.hint


def test_a_pipe_as_argument_is_refused(project: Path) -> None:
    """What the shell's ``<(…)`` makes cannot travel."""
    os.mkfifo(project / "p")
    with pytest.raises(UsageError, match="pipe"):
        plan_of(project, "s.py", "p")


def test_a_name_that_is_not_utf8_is_refused(project: Path) -> None:
    """A name that the wire cannot carry is refused, not mangled."""
    name = os.fsdecode(b"bad\xff.txt")
    (project / name).write_text("1")
    with pytest.raises(UsageError, match="UTF-8"):
        plan_of(project, "s.py", name)


def test_a_nul_in_an_item_is_refused_by_name(project: Path) -> None:
    """No argument can hold a NUL."""
    with pytest.raises(UsageError, match="NUL"):
        plan_of(project, "s.py", "a\0b")


def test_braces_fit_a_range(project: Path) -> None:
    """Numbers fill templates."""
    plan = plan_of(project, "s.py", "--seed={}", items=Range("1-3"))
    assert [item["args"] for item in plan.items] == [["--seed=1"], ["--seed=2"], ["--seed=3"]]


@pytest.mark.parametrize(
    ("text", "declared"),
    [
        ("import argparse\np.add_argument('--batch')\n", True),
        ("import click\n@click.option('--batch/--no-batch')\ndef f(): ...\n", True),
        ("import typer\ndef main(batch: int): ...\n", True),
        ("def main(batch: int): ...\n", False),
        ("'use --batch to split'\n", False),
        ('"""Usage: s.py [--batch N]"""\nimport docopt\n', True),
        ('"""Usage: s.py [--batch N]"""\n', False),
        ("from absl import flags\nflags.DEFINE_integer('batch', 1, '')\n", True),
        ("p.add_argument('--batch-size')\n", False),
        ("import opts\n", True),
    ],
)
def test_declared_options_are_found(project: Path, text: str, declared: bool) -> None:
    """A script declares an option if the literal stands in it or a module that it brings, or its framework makes it."""
    from rgrid.submit.plan import prepare

    write(project, {"s.py": text, "opts.py": "OPTION = '--batch'\n"})
    found = prepare("s.py", cwd=str(project), environ=BARE).scan.options
    assert ("--batch" in found) is declared
