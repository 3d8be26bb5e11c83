"""Layers are built once and found again without asking anybody."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.package_index import add_package, index_settings

from rgrid_runner.interpreters import Interpreter
from rgrid_runner.layers import UNUSED_FOR_S, Layers, check_python
from rgrid_runner.outcome import AttemptFailed
from rgrid_runner.uv import Uv, classify
from rgrid_shared.specs import Requirements
from rgrid_shared.states import FailureClass


class Bench:
    """Layers over an index of two packages; ``calls`` counts what uv was asked."""

    def __init__(self, base: Path) -> None:
        add_package(base / "index", "upper", "1.0", "VERSION = '1.0'\n", requires="lower>=2")
        add_package(base / "index", "lower", "2.5", "VERSION = '2.5'\n")
        self.base = base
        self.env = {**os.environ, **index_settings(base / "index", base / "uv")}
        self.now = 1_000_000_000.0
        self.calls: list[str] = []
        self.said: list[str] = []
        self.layers = self.fresh()

    def fresh(self) -> Layers:
        bench = self

        class Counting(Uv):
            async def _run(self, *arguments: str, stdin: str = "") -> str:
                bench.calls.append(" ".join(arguments[:2]))
                return await super()._run(*arguments, stdin=stdin)

        return Layers(self.base / "layers", Counting(self.base, self.env), clock=lambda: self.now)

    async def ensure(self, *lines: str, **changes: Any) -> Any:
        wanted: Requirements = {"lines": list(lines), "source": "t", "requires_python": "", "exact": False}
        return await self.layers.ensure({**wanted, **changes}, PYTHON, "prj", self.said.append)  # type: ignore[typeddict-item]


PYTHON = Interpreter("python3", "cpython", ".".join(map(str, sys.version_info[:3])), sys._base_executable)  # type: ignore[attr-defined]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def version_in(layer: Any, module: str) -> str:
    """Ask the layer's own interpreter."""
    code = f"import {module}; print({module}.VERSION)"
    return subprocess.run(
        [layer.path / "bin/python", "-I", "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


async def test_requirements_are_installed_with_what_they_need(bench: Bench) -> None:
    """The layer holds the resolved set and nothing half-done is left beside it."""
    layer = await bench.ensure("upper")
    assert (version_in(layer, "upper"), version_in(layer, "lower")) == ("1.0", "2.5")
    assert [path.name for path in layer.path.parent.iterdir()] == [layer.key]
    assert any("2 packages (lower, upper)" in text for text in bench.said)


async def test_the_second_time_nobody_is_asked(bench: Bench) -> None:
    """Not even by another agent on the same state directory."""
    layer = await bench.ensure("upper")
    bench.calls.clear()
    bench.said.clear()
    bench.layers = bench.fresh()
    assert await bench.ensure("upper") == layer
    assert (bench.calls, bench.said) == ([], [])


async def test_ten_at_once_build_once(bench: Bench) -> None:
    """One resolution, one environment, one installation."""
    layers = await asyncio.gather(*(bench.ensure("upper") for _ in range(10)))
    assert len(set(layers)) == 1
    assert [call.split(" ")[0] for call in bench.calls] == ["pip", "venv", "pip"]


async def test_a_resolution_holds_for_a_day(bench: Bench) -> None:
    """After that the index is asked again, and the same answer finds the same layer."""
    layer = await bench.ensure("upper")
    bench.calls.clear()
    bench.now += 23 * 3600
    await bench.ensure("upper")
    assert bench.calls == []
    bench.now += 2 * 3600
    assert await bench.ensure("upper") == layer
    assert bench.calls == ["pip compile"]


async def test_exact_lists_are_not_resolved(bench: Bench) -> None:
    """A lock is installed as it is, without what it leaves out."""
    layer = await bench.ensure("upper==1.0", exact=True)
    assert "pip compile" not in bench.calls
    assert version_in(layer, "upper") == "1.0"
    with pytest.raises(subprocess.CalledProcessError):
        version_in(layer, "lower")


async def test_the_resolvers_words_are_shown(bench: Bench) -> None:
    """A requirement that does not exist is the user's to mend."""
    with pytest.raises(AttemptFailed, match="nosuch") as caught:
        await bench.ensure("nosuch")
    assert caught.value.failure is FailureClass.DEPENDENCIES


async def test_an_unreachable_index_is_the_grids_trouble(bench: Bench) -> None:
    """It is tried again elsewhere, not billed."""
    bench.env |= {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_HTTP_RETRIES": "0"}
    bench.layers = bench.fresh()
    with pytest.raises(AttemptFailed) as caught:
        await bench.ensure("nosuch")
    assert caught.value.failure is FailureClass.INFRASTRUCTURE


async def test_bytecode_is_compiled_behind_the_first_start(bench: Bench) -> None:
    """Off the critical path, once."""
    layer = await bench.ensure("lower")
    assert not list(layer.path.rglob("lower.*.pyc"))
    bench.layers.started(layer)
    async with asyncio.timeout(30):
        await asyncio.gather(*bench.layers._compiling.values())
    assert list(layer.path.rglob("lower.*.pyc"))
    bench.layers.started(layer)
    assert not bench.layers._compiling


async def test_what_nobody_uses_goes(bench: Bench) -> None:
    """Unfinished builds at once, layers after a month."""
    layer = await bench.ensure("lower")
    (layer.path.parent / ".build-x").mkdir()
    bench.layers.prune()
    assert [path.name for path in layer.path.parent.iterdir()] == [layer.key]
    bench.now += UNUSED_FOR_S + 1
    bench.layers.prune()
    assert list(layer.path.parent.iterdir()) == []


def test_another_python_is_refused_with_what_to_do() -> None:
    """``requires-python`` is checked before anything is resolved."""
    with pytest.raises(AttemptFailed, match="--runtime"):
        check_python({"lines": [], "source": "", "requires_python": ">=4", "exact": False}, PYTHON)


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("× No solution found when resolving dependencies", FailureClass.DEPENDENCIES),
        ("error: Failed to fetch\n Caused by: error sending request for url", FailureClass.INFRASTRUCTURE),
        ("No space left on device (os error 28)", FailureClass.INFRASTRUCTURE),
        ("× Failed to build `x==1`", FailureClass.DEPENDENCIES),
    ],
)
def test_faults_are_told_apart(text: str, failure: FailureClass) -> None:
    """The requirements' fault is shown, the grid's is tried again."""
    assert classify(text) is failure
