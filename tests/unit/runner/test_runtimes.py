"""What an operator says of runtimes with containers."""

from __future__ import annotations

from pathlib import Path

import pytest

from rgrid_runner.backends.base import BackendError
from rgrid_runner.interpreters import Interpreter
from rgrid_runner.runtimes import READY_MADE, VARIABLES, HostRuntimes, Runtime, from_env
from rgrid_shared.errors import UsageError
from rgrid_shared.states import FailureClass


def test_without_settings_images_are_pulled_when_needed_and_users_may_name_none() -> None:
    """The safe defaults."""
    settings = from_env({})
    assert (settings.pull, settings.allowed, settings.runtimes) == ("missing", (), {})


def test_every_runtime_that_the_documents_name_is_ready_made() -> None:
    """Their own images come first, official ones of the same name after them."""
    for name in ("python3.10", "python3.13", "node20", "bash", "python-datascience", "python-llm", "ffmpeg", "cuda"):
        assert READY_MADE[name][0].startswith("rgrid/")
    assert READY_MADE["node22"] == ("rgrid/node:22", "node:22-slim", "node:22")


def test_every_dockerfile_is_of_a_ready_made_runtime() -> None:
    """What ``make runtimes`` builds is offered without further settings, and labelled with its name."""
    for dockerfile in (Path(__file__).parents[3] / "infra/runtimes").glob("*/Dockerfile"):
        name, text = dockerfile.parent.name, dockerfile.read_text()
        versions = {"python": "3.13", "node": "22"}
        assert name + versions.get(name, "") in READY_MADE
        assert f'io.rgrid.runtime="{name}{"${VERSION}" if name in versions else ""}"' in text
        assert "USER 10001:10001" in text


def test_the_variable_wins_over_the_file(tmp_path: Path) -> None:
    """A name with an image, or with an image and the program that runs scripts."""
    file = tmp_path / "runtimes.toml"
    file.write_text('[runtimes]\nlab = "reg.example/lab/a:1"\nr = { image = "lab/r:4", command = "Rscript" }\n')
    settings = from_env(
        {
            "RGRID_RUNNER_RUNTIMES_FILE": str(file),
            "RGRID_RUNNER_RUNTIMES": f"lab=lab/b@sha256:{'0' * 64}|/opt/py/bin/python3, python3.12=mine:3",
            "RGRID_RUNNER_IMAGES": "reg.example/lab/*, lab/x",
            "RGRID_RUNNER_PULL": "never",
        }
    )
    assert settings.runtimes == {
        "lab": Runtime("lab", f"lab/b@sha256:{'0' * 64}", "/opt/py/bin/python3", None, configured=True),
        "python3.12": Runtime("python3.12", "mine:3", "", "python", configured=True),
        "r": Runtime("r", "lab/r:4", "Rscript", None, configured=True),
    }
    assert settings.allowed == ("reg.example/lab/*", "lab/x")
    assert settings.pull == "never"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RGRID_RUNNER_RUNTIMES", "lab"),
        ("RGRID_RUNNER_RUNTIMES", "lab="),
        ("RGRID_RUNNER_RUNTIMES", "Lab=x:1"),
        ("RGRID_RUNNER_RUNTIMES", "lab=x y"),
        ("RGRID_RUNNER_RUNTIMES", "lab=x:1|python -u"),
        ("RGRID_RUNNER_PULL", "often"),
    ],
)
def test_what_is_wrong_is_named(name: str, value: str) -> None:
    """A wrong setting is refused with its name and a hint."""
    with pytest.raises(UsageError, match=name) as caught:
        from_env({name: value})
    assert caught.value.hint


@pytest.mark.parametrize(
    "text", ["[runtimes\n", "[runtimes]\nlab = 3\n", '[runtimes]\nlab = { picture = "x" }\n', None]
)
def test_a_file_that_says_nothing_sensible_is_refused(tmp_path: Path, text: str | None) -> None:
    """And named, with what is wrong in it."""
    file = tmp_path / "runtimes.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match="runtimes"):
        from_env({"RGRID_RUNNER_RUNTIMES_FILE": str(file)})


async def test_a_hosts_runtimes_are_its_interpreters() -> None:
    """Each by its name; an unknown one is the runner's fault, for the grid should not have sent it here."""
    python = Interpreter("python3.11", "cpython", "3.11.7", "/usr/bin/python3")
    runtimes = HostRuntimes({"python3.11": python})
    assert await runtimes.interpreter("python3.11", "python", print) == python
    assert runtimes.offered == {"python3.11": "3.11.7"}
    with pytest.raises(BackendError, match=r"python3\.12") as caught:
        await runtimes.interpreter("python3.12", None, print)
    assert caught.value.failure is FailureClass.INFRASTRUCTURE


def test_every_variable_is_documented() -> None:
    """docs/runtimes.md tells of each setting."""
    page = (Path(__file__).parents[3] / "docs/runtimes.md").read_text()
    for name in VARIABLES:
        assert f"`{name}`" in page
