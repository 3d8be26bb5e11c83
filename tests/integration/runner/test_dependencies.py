"""Scripts with requirements, from an index of one package."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from support.package_index import add_package, index_settings

USES = "import greet, sys\nprint(greet.hello(), sys.prefix != sys.base_prefix)"


def requirements(*lines: str, **changes: Any) -> dict[str, Any]:
    return {"lines": list(lines), "source": "requirements.txt", "requires_python": "", "exact": False, **changes}


@pytest.fixture
def index(tmp_path: Path) -> dict[str, str]:
    """Settings of an index of one package."""
    add_package(tmp_path / "index", "greet", "1.0", "def hello(): return 'hello'\n")
    return index_settings(tmp_path / "index", tmp_path / "uv")


def test_requirements_are_installed_once_and_said(site: Any, runner: Any, index: dict[str, str]) -> None:
    """The first run installs and says so; the second finds the layer and says nothing."""
    runner(**index)
    first = site.run(USES, requirements=requirements("greet"))
    assert first.out == b"hello True\n"
    assert b"Installing 1 package (greet)" in first.log["system"]
    before = time.monotonic()
    second = site.run(USES, requirements=requirements("greet"))
    assert second.out == b"hello True\n"
    assert "system" not in second.log
    assert time.monotonic() - before < 5


def test_what_was_installed_is_known_and_can_be_had_again(site: Any, runner: Any, index: dict[str, str]) -> None:
    """An execution lists its packages; its lock gives another the same layer, whatever the index has by then."""
    runner(**index)
    first = site.run(USES, requirements=requirements("greet"))
    assert first.view["packages"] == ["greet==1.0"]
    add_package(Path(index["UV_CACHE_DIR"]).parent / "index", "greet", "2.0", "def hello(): return 'other'\n")
    lock = site.get(f"/v1/executions/{first.view['id']}/lock")
    again = site.run(USES, requirements=requirements(*lock["lines"], exact=True))
    assert (again.out, again.view["packages"]) == (b"hello True\n", ["greet==1.0"])
    assert len(list((site.scratch / "r/layers/ready").iterdir())) == 1


def test_items_of_a_batch_share_one_layer(site: Any, runner: Any, index: dict[str, str]) -> None:
    """Built once, however many start at the same time."""
    runner(**index)
    items = [{"args": [str(n)], "files": {}} for n in range(8)]
    batch = site.submit(USES, items=items, requirements=requirements("greet"))
    assert site.all_ended(batch["id"])["counts"]["succeeded"] == 8
    assert len(list((site.scratch / "r/layers/ready").iterdir())) == 1


def test_what_cannot_be_installed_is_the_users_to_mend(site: Any, runner: Any, index: dict[str, str]) -> None:
    """The resolver's words, the class, and no retry."""
    runner(**index)
    ended = site.run(USES, requirements=requirements("nosuchpackage==9"))
    assert (ended.status, ended.view["failure"], ended.view["attempt"]) == ("failed", "dependencies", 1)
    assert "nosuchpackage" in ended.view["message"]
    assert ended.view["exit_code"] is None
    other = site.run(USES, requirements=requirements("greet", requires_python=">=3.99"))
    assert other.view["failure"] == "dependencies"
    assert "--runtime" in other.view["message"]
