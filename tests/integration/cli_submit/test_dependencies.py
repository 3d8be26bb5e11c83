"""What a script needs from package indexes, and which source of it counts."""

from __future__ import annotations

import json
import os
import sys
from importlib import metadata
from pathlib import Path

import pytest
from support.trees import BARE, plan_of, shipped, write

from rgrid.submit import interpreters, pep723, requirements_file, runtimes
from rgrid.submit.plan import Plan
from rgrid.submit.request import Exact
from rgrid_shared.errors import UsageError
from rgrid_shared.specs import Requirements

VENV = {**BARE, "VIRTUAL_ENV": sys.prefix}
"""The interpreter of the tests stands for the user's."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / ".git").mkdir(parents=True)
    return root


def found(project: Path, **more: object) -> Plan:
    return plan_of(project, "s.py", environ=VENV, **{"runtime": "", **more})


def lines(plan: Plan) -> list[str]:
    requirements = plan.spec["requirements"]
    return [] if requirements is None else requirements["lines"]


def source(plan: Plan) -> str:
    requirements = plan.spec["requirements"]
    return "" if requirements is None else requirements["source"]


BLOCK = '# /// script\n# requires-python = ">=3.10"\n# dependencies = ["httpx<1", "rich"]\n# ///\n'


def test_the_first_source_counts(project: Path) -> None:
    """PEP 723, then --requirements, then requirements.txt, then pyproject, then the interpreter."""
    write(project, {"s.py": BLOCK + "import h11\n", "requirements.txt": "h11\n", "other.txt": "idna\n"})
    write(project, {"pyproject.toml": '[project]\nname = "x"\ndependencies = ["certifi"]\n'})
    assert (source(found(project)), lines(found(project))) == ("pep723", ["httpx<1", "rich"])
    write(project, {"s.py": "import h11\n"})
    assert lines(found(project, requirements="other.txt")) == ["idna"]
    assert (source(found(project)), lines(found(project))) == ("requirements.txt", ["h11"])
    (project / "requirements.txt").unlink()
    assert (source(found(project)), lines(found(project))) == ("pyproject", ["certifi"])
    (project / "pyproject.toml").unlink()
    assert (source(found(project)), lines(found(project))) == ("environment", [f"h11=={metadata.version('h11')}"])


def test_the_users_own_versions_are_pinned_and_said(project: Path) -> None:
    """Imports of a plain script are taken from the user's interpreter, in one line."""
    write(
        project,
        {"s.py": "import httpx, json\nfrom h11 import Connection\nfrom mine import x\n", "mine.py": "import idna\n"},
    )
    plan = found(project)
    assert lines(plan) == [f"{name}=={metadata.version(name)}" for name in ("h11", "httpx", "idna")]
    assert sum("as installed in" in note for note in plan.notes) == 1
    assert plan.spec["runtime"] == f"python{sys.version_info[0]}.{sys.version_info[1]}"


def test_distributions_are_found_by_their_modules(project: Path) -> None:
    """A module whose package has another name is found: ``dotenv`` is python-dotenv."""
    write(project, {"s.py": "import dotenv, _pytest\n"})
    assert {line.partition("==")[0] for line in lines(found(project))} == {"python-dotenv", "pytest"}


def test_a_script_of_the_standard_library_needs_nothing(project: Path) -> None:
    """No requirement is made up."""
    write(project, {"s.py": "import os, json, asyncio, tomllib, _thread, __future__\n"})
    assert found(project).spec["requirements"] is None


def test_unknown_imports_are_refused_before_anything_is_sent(project: Path) -> None:
    """Each import that nothing provides is named by file and line."""
    write(project, {"s.py": "import os\nimport numpyy\nfrom mine import x\n", "mine.py": "\nimport torchh.nn\n"})
    with pytest.raises(UsageError) as caught:
        found(project)
    assert "s.py:2 imports numpyy" in caught.value.message
    assert "mine.py:2 imports torchh" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    import numpyy\nexcept ImportError:\n    numpyy = None\n",
        "try:\n    import numpyy\nexcept (ValueError, ModuleNotFoundError):\n    import simplee\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpyy\n",
        "import sys\nif sys.version_info < (3, 8):\n    import numpyy\n",
        "def plot():\n    import numpyy\n",
        "import contextlib\nwith contextlib.suppress(ImportError):\n    import numpyy\n",
        "import sys\nif sys.platform == 'win32':\n    import winreg, numpyy\n",
    ],
)
def test_imports_that_a_script_can_do_without_are_dropped(project: Path, text: str) -> None:
    """A guarded import that the user does not have either is no reason to refuse."""
    write(project, {"s.py": text})
    assert lines(found(project)) == []


def test_an_optional_import_that_is_installed_travels(project: Path) -> None:
    """What the local run finds, the remote run finds."""
    write(project, {"s.py": "try:\n    import h11\nexcept ImportError:\n    h11 = None\n"})
    assert lines(found(project)) == [f"h11=={metadata.version('h11')}"]


def test_a_neighbour_shadows_a_package(project: Path) -> None:
    """The script's own directory comes first, as it does for Python."""
    write(project, {"s.py": "import h11, random\n", "h11.py": "", "random.py": ""})
    plan = found(project)
    assert lines(plan) == []
    assert shipped(plan) == {"s.py", "h11.py", "random.py"}


def test_an_editable_install_travels_as_source(project: Path) -> None:
    """What an editable install provides travels as files with its search path; no index is asked for it."""
    write(project, {"s.py": "import rgrid_shared.states\n"})
    plan = found(project)
    assert any(path.endswith("shared/rgrid_shared/states.py") for path in shipped(plan))
    assert "rgrid-shared" not in " ".join(lines(plan))
    assert plan.env["PYTHONPATH"].endswith("shared")


def test_the_interpreter_is_asked_once(project: Path, tmp_path: Path) -> None:
    """A second look needs no subprocess; a changed site-packages directory does."""
    cache = tmp_path / "cache"
    path = f"{sys.prefix}/bin/python"
    first = interpreters.ask(path, VENV, cache)
    file = next(cache.iterdir())
    kept = json.loads(file.read_text())
    kept["version"] = "3.99.0"
    file.write_text(json.dumps(kept))
    assert interpreters.ask(path, VENV, cache).version == "3.99.0"
    kept["stamps"] = {place: [1, 1] for place in kept["stamps"]}
    file.write_text(json.dumps(kept))
    assert interpreters.ask(path, VENV, cache).version == first.version


def test_a_python_that_cannot_be_run_is_an_error(tmp_path: Path) -> None:
    """A broken interpreter is named, with the way around it."""
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(UsageError, match="broken") as caught:
        interpreters.ask(str(fake), BARE, None)
    assert "--requirements" in caught.value.hint


def test_the_active_environment_comes_first(tmp_path: Path) -> None:
    """VIRTUAL_ENV, then PATH, then rgrid's own."""
    for name in ("venv/bin", "path"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "python").write_text("")
        (tmp_path / name / "python").chmod(0o755)
    environ = {"VIRTUAL_ENV": str(tmp_path / "venv"), "PATH": str(tmp_path / "path")}
    assert interpreters.find(environ) == f"{tmp_path}/venv/bin/python"
    assert interpreters.find({"PATH": environ["PATH"]}) == f"{tmp_path}/path/python"
    assert interpreters.find({"PATH": str(tmp_path)}) == sys.executable


def test_namespace_packages_are_told_apart() -> None:
    """Of several distributions that share a top-level name, those are taken that the import means."""
    dists = {key: interpreters.Distribution(key, "1", {}) for key in ("g-storage", "g-auth")}
    modules = {"google": {"g-storage": ["google.cloud.storage"], "g-auth": ["google.auth"]}}
    python = interpreters.Interpreter("python", "3.11.0", frozenset(), modules, dists)
    assert [dist.name for dist in python.providers("google.cloud.storage.blob")] == ["g-storage"]
    assert [dist.name for dist in python.providers("google.auth")] == ["g-auth"]
    assert python.providers("google.other") == []


# -- PEP 723


def test_a_block_is_read() -> None:
    """Dependencies, Python version and rgrid's own table."""
    text = b'#!python\n# /// script\n# dependencies = [\n#   "rich",\n# ]\n#\n# [tool.rgrid]\n# cpu = 2\n# ///\nx = 1\n'
    block = pep723.read(text, "s.py")
    assert block == pep723.Block(("rich",), "", {"cpu": 2})


@pytest.mark.parametrize("text", [b"x = 1\n", b"# /// other\n# x = 1\n# ///\n", b"'''///'''\n"])
def test_a_script_without_a_block_has_none(text: bytes) -> None:
    """Only a ``script`` block counts."""
    assert pep723.read(text, "s.py") is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"# /// script\n# dependencies = [\n#   'rich'\n# x\n# ///\n", r"s\.py:4: .*not valid TOML"),
        (b"\n\n# /// script\n# dependencies = oops\n# ///\n", r"s\.py:4: .*not valid TOML"),
        (b"x = 1\n# /// script\n# dependencies = []\ny = 2\n", r"s\.py:2: .*not closed"),
        (b"# /// script\n# a = 1\n# ///\n\n# /// script\n# b = 1\n# ///\n", r"s\.py:5: a second"),
        (b"# /// script\n# a = 1\n# dependencies = 'rich'\n# ///\n", r"s\.py:3: dependencies is not a list"),
        (b"# /// script\n# requires-python = 3\n# ///\n", r"requires-python is not a string"),
    ],
)
def test_a_bad_block_is_named_by_its_line(text: bytes, problem: str) -> None:
    """A syntax error in the block names the script's own line."""
    with pytest.raises(UsageError, match=problem) as caught:
        pep723.read(text, "s.py")
    assert "PEP 723" in caught.value.hint or "requires-python" in caught.value.hint


def test_a_block_without_dependencies_does_not_hide_other_sources(project: Path) -> None:
    """A block with settings only leaves the dependencies to the next source; an empty list does not."""
    write(project, {"s.py": "# /// script\n# [tool.rgrid]\n# cpu = 2\n# ///\n", "requirements.txt": "rich\n"})
    assert lines(found(project)) == ["rich"]
    write(project, {"s.py": "# /// script\n# dependencies = []\n# ///\n"})
    assert found(project).spec["requirements"] is None


# -- requirements files


def read(folder: Path, files: dict[str, str]) -> requirements_file.Parsed:
    write(folder, files)
    return requirements_file.read(str(folder / "requirements.txt"), "requirements.txt")


def test_a_requirements_file_is_flattened(tmp_path: Path) -> None:
    """Nested files, continuations, comments, hashes and constraints come out as plain lines."""
    parsed = read(
        tmp_path,
        {
            "requirements.txt": "# c\nnumpy>=1 # why\n-r more/base.txt\n-c limits.txt\n--index-url https://x/simple\n"
            "torch==2.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\nhttpx[http2] ; python_version > '3.8'\n",
            "more/base.txt": "rich\n-r inner.txt\n-r ../requirements.txt\n",
            "more/inner.txt": "idna (>=2,<4)\n",
            "limits.txt": "numpy<2\nscipy<1\n",
        },
    )
    assert parsed.lines == [
        "numpy>=1",
        "rich",
        "idna (>=2,<4)",
        "torch==2.0 --hash=sha256:aa --hash=sha256:bb",
        "httpx[http2] ; python_version > '3.8'",
        "numpy<2",
    ]
    assert parsed.options == ["--index-url https://x/simple"]
    assert parsed.left_out == ["the constraint scipy<1"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("-e .", "editable"),
        ("--editable=./x", "editable"),
        ("git+file:///home/me/a", "this repository"),
        ("a @ hg+https://x.org/a", "this repository"),
        ("a @ git+https://me:hunter2@x.org/a.git", "holds a secret"),
        ("a @ git+https://ghp_123@x.org/a.git", "holds a secret"),
        ("--index-url https://me:hunter2@x.org/simple", "holds a secret"),
        ("./wheels/a.whl", "local path"),
        ("../a", "local path"),
        ("a @ file:///tmp/a.whl", "local path"),
        ("a-1.0-py3-none-any.whl", "local path"),
        ("numpy=>1", "is not a requirement"),
        ("num py", "is not a requirement"),
        ("numpy>=", "is not a requirement"),
        ("-r missing.txt", "missing.txt"),
        ("--wat", "does not know the option --wat"),
    ],
)
def test_what_cannot_travel_is_named_by_line(tmp_path: Path, line: str, problem: str) -> None:
    """Every line that cannot be had from an index is refused, naming file and line."""
    with pytest.raises(UsageError, match=problem) as caught:
        read(tmp_path, {"requirements.txt": f"rich\n{line}\n"})
    assert "requirements.txt:2" in caught.value.message or "missing" in caught.value.message
    assert caught.value.hint


def test_repositories_and_indexes_travel(tmp_path: Path) -> None:
    """Addresses in the web go along; a secret in one is a variable's name."""
    lines = ["a @ git+https://x.org/a.git@v1", "b @ git+ssh://git@x.org/b.git", "c @ https://u:${TOKEN}@x.org/c.whl"]
    options = ["--index-url https://${WHO}:${TOKEN}@x.org/simple", "--extra-index-url https://y.org/simple"]
    parsed = read(tmp_path, {"requirements.txt": "\n".join([*lines, *options, "--pre", "-f /local/wheels"])})
    assert (parsed.lines, parsed.options) == (lines, options)
    assert parsed.left_out == ["the option --pre", "the option -f"]


def test_a_secret_of_an_address_must_be_given(project: Path) -> None:
    """A variable that an index's address names has to be among the environment values."""
    write(project, {"s.py": "", "r.txt": "rich\n--index-url https://me:${TOKEN}@x.org/simple\n"})
    with pytest.raises(UsageError, match="TOKEN") as caught:
        found(project, requirements="r.txt")
    assert caught.value.hint == "Add -e TOKEN"
    spec = found(project, requirements="r.txt", env={"TOKEN": "hush"}).spec
    assert spec["requirements"] is not None
    assert spec["requirements"]["options"] == ["--index-url https://me:${TOKEN}@x.org/simple"]


def test_exact_takes_what_another_run_had(project: Path) -> None:
    """Packages and runtime are those of the execution, whatever is written beside the script."""
    lines = ["rich==13.9 --hash=sha256:aa"]
    had: Requirements = {"lines": lines, "source": "execution", "requires_python": "", "exact": True}
    write(project, {"s.py": "import unknown_elsewhere", "requirements.txt": "rich==1\n"})
    plan = found(project, exact=Exact(had, "python3.12"))
    assert (plan.spec["requirements"], plan.spec["runtime"]) == (had, "python3.12")
    assert found(project, exact=Exact(had, "python3.12"), runtime="python3.11").spec["runtime"] == "python3.11"


def test_a_lock_pins_the_projects_dependencies(project: Path) -> None:
    """``uv.lock`` beside ``pyproject.toml`` says which versions; what comes from local sources is dropped, said."""
    write(
        project,
        {
            "s.py": "",
            "pyproject.toml": '[project]\nname="x"\n'
            "dependencies=['rich[jupyter]>=1','ours','idna; os_name == \"posix\"']\n"
            "[tool.uv.sources]\nours = { path = '../ours' }\n",
            "uv.lock": '[[package]]\nname="rich"\nversion="13.9.4"\n[[package]]\nname="idna"\nversion="3.1"\n',
        },
    )
    plan = found(project)
    assert lines(plan) == ["rich[jupyter]==13.9.4", 'idna==3.1; os_name == "posix"']
    assert source(plan) == "lock"
    assert any("ours" in note for note in plan.notes)


def test_a_broken_pyproject_is_named(project: Path) -> None:
    """A project file that is no TOML is an error, not silently skipped."""
    write(project, {"s.py": "", "pyproject.toml": "[project\n"})
    with pytest.raises(UsageError, match=r"pyproject\.toml is not valid TOML"):
        found(project)


# -- runtimes


@pytest.mark.parametrize(
    ("minor", "requires", "runtime"),
    [
        ("3.11", "", "python3.11"),
        ("3.11", ">=3.10", "python3.11"),
        ("3.11", ">=3.12", "python3.12"),
        ("3.11", ">=3.12.1,<3.14", "python3.12"),
        ("3.13", "<3.12", "python3.10"),
        ("3.13", "<3.13.5", "python3.13"),
        ("3.12", "==3.11.*", "python3.11"),
        ("3.12", "~=3.11", "python3.12"),
        ("3.12", "~=3.11.4", "python3.11"),
        ("3.12", "!=3.12.*", "python3.10"),
        ("3.12", "!=3.12.1", "python3.12"),
        ("3.12", ">4", "python3.12"),
    ],
)
def test_the_runtime_is_the_users_minor_version_if_it_fits(minor: str, requires: str, runtime: str) -> None:
    """The user's own minor version, or the lowest that the script allows."""
    assert runtimes.python_for(minor, requires) == runtime


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("python3.12", "python3.12"),
        ("3.12", "python3.12"),
        ("py312", "python3.12"),
        ("Python-3.12", "python3.12"),
        ("cuda12", "cuda12"),
    ],
)
def test_runtime_names(typed: str, name: str) -> None:
    """Usual spellings name the runtime; names of the grid's own pass."""
    assert runtimes.named(typed, "python") == name


@pytest.mark.parametrize("typed", ["python9.9", "python3.7", "python", "node20", "bash", "a b", ""])
def test_runtimes_that_cannot_be_are_refused(typed: str) -> None:
    """A runtime that does not exist, or that is for another language, is refused at once."""
    with pytest.raises(UsageError) as caught:
        runtimes.named(typed, "python")
    assert caught.value.hint


def test_node_scripts_take_the_local_version(tmp_path: Path) -> None:
    """``node20`` where Node.js 20 is on PATH; none there is an error with the way on."""
    fake = tmp_path / "node"
    fake.write_text("#!/bin/sh\necho v20.11.1\n")
    fake.chmod(0o755)
    assert runtimes.node({"PATH": f"{tmp_path}{os.pathsep}/bin"}) == "node20"
    with pytest.raises(UsageError) as caught:
        runtimes.node({"PATH": "/nowhere"})
    assert "--runtime node" in caught.value.hint


@pytest.mark.parametrize("typed", ["reg.example/lab/tools:3", "python-datascience", "ffmpeg"])
def test_images_and_ready_made_runtimes_are_for_scripts_of_any_language(typed: str) -> None:
    """They pass as they are typed; the grid knows which it has."""
    assert runtimes.named(typed, "bash") == runtimes.named(typed, "python") == typed


def test_a_ready_made_runtime_keeps_its_packages(tmp_path: Path) -> None:
    """What the script imports is the runtime's, unless requirements are written down; the note says so."""
    project = write(tmp_path / "project", {"s.py": "import numpy, os\n"})
    plan = plan_of(project, "s.py", environ=VENV, runtime="python-datascience")
    assert plan.spec["requirements"] is None
    assert "numpy: as the runtime python-datascience has them" in plan.notes
    write(project, {"requirements.txt": "numpy==2.1.0\n"})
    plan = plan_of(project, "s.py", environ=VENV, runtime="python-datascience")
    assert plan.spec["requirements"] is not None
    assert plan.spec["requirements"]["lines"] == ["numpy==2.1.0"]


def test_the_scripts_language_goes_along(tmp_path: Path) -> None:
    """So that a runtime with several interpreters finds the right one."""
    project = write(tmp_path / "project", {"s.py": "", "run.sh": "", "tool": "#!/usr/bin/env bash\n"})
    for name, language in (("s.py", "python"), ("run.sh", "bash"), ("tool", "bash")):
        assert plan_of(project, name, environ=VENV, runtime="ffmpeg").spec["script"]["language"] == language


@pytest.mark.parametrize(
    ("runtime", "words", "hint"),
    [
        ("python3.13", "offers the runtime python3.13", "Did you mean python3.12"),
        ("ffmepg", "offers the runtime ffmepg", "Did you mean ffmpeg? rgrid runtimes"),
        ("zzz", "offers the runtime zzz", "rgrid runtimes"),
        ("reg.example/other/x", "may run the image reg.example/other/x", "It may run: reg.example/lab/*"),
    ],
)
def test_a_runtime_that_is_not_offered_is_refused_with_what_may_be_meant(runtime: str, words: str, hint: str) -> None:
    """Near names, or the images that may be named."""
    offered, allowed = ["python3.11", "python3.12", "ffmpeg"], ["reg.example/lab/*"]
    with pytest.raises(UsageError, match=words) as caught:
        runtimes.check_offered(runtime, offered, allowed)
    assert hint in caught.value.hint
    for fine in (*offered, "reg.example/lab/x:2"):
        runtimes.check_offered(fine, offered, allowed)
