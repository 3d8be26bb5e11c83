"""The documentation is held to what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_type_hints

import pytest
from support.reference import MARK, PAGE, commands, section

import rgrid
from rgrid import sdk
from rgrid_runner.main import all_variables

DOCS = Path(__file__).parent.parent / "docs"
SDK = (DOCS / "sdk.md").read_text()
REFERENCE = PAGE.read_text().partition(MARK)[2]
COMMANDS = dict(commands())


@pytest.mark.parametrize("path", sorted(COMMANDS))
def test_every_command_is_documented_as_it_is(path: str) -> None:
    """Each command's section holds its arguments, purpose and options with the words of ``--help``.

    ``PYTHONPATH=tests python -m support.reference`` writes the sections anew.
    """
    assert section(path, COMMANDS[path]) in REFERENCE


def test_no_command_is_documented_that_is_not_there() -> None:
    """The reference lists nothing that cannot be typed, and nothing twice."""
    told = re.findall(r"^### `(.*?)`$", REFERENCE, re.MULTILINE)
    assert len(told) == len(COMMANDS)


def test_every_name_of_the_sdk_is_documented() -> None:
    """Each setting of ``run`` and each public member of ``Run`` and ``Batch`` stands in docs/sdk.md."""
    for setting in get_type_hints(sdk.Settings):
        assert f"`{setting}`" in SDK, setting
    for kind, name in ((rgrid.Run, "run"), (rgrid.Batch, "batch")):
        for member in vars(kind):
            assert member.startswith("_") or f"`{name}.{member}" in SDK, f"{name}.{member}"


def test_every_setting_of_a_runner_is_documented() -> None:
    """Each variable that a runner reads stands in docs/runner.md, and none that it does not read."""
    page = (DOCS / "runner.md").read_text()
    assert set(re.findall(r"`(RGRID_RUNNER_\w+|RGRID_API_URL)`", page)) == set(all_variables())


def test_links_between_documents_lead_somewhere() -> None:
    """No relative link in the documentation is dead."""
    for page in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
