"""Layers of one or more runners over an index of two tiny packages, with every call of uv counted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rgrid_runner.interpreters import Interpreter
from rgrid_runner.layer_fleet import Fleet
from rgrid_runner.layers import Layer, Layers
from rgrid_runner.uv import Uv
from rgrid_runner.workbench import HostBench, Said, Shop
from rgrid_shared.specs import Requirements
from support.package_index import add_package, index_settings

PYTHON = Interpreter("python3", "cpython", ".".join(map(str, sys.version_info[:3])), sys._base_executable)  # type: ignore[attr-defined]


class CountingBench(HostBench):
    """Notes each call of uv: ``pip compile``, ``venv …``, ``pip install``."""

    def __init__(self, root: Path, env: Mapping[str, str], calls: list[str]) -> None:
        super().__init__(root, env)
        self._calls = calls

    async def run(
        self, shop: Shop, command: Sequence[str], *, stdin: str = "", env: Mapping[str, str] | None = None
    ) -> Said:
        words = [word for word in command[2:] if word not in {"--cache-dir", shop.cache}]
        self._calls.append(" ".join(words[:2]) if words[0] == "pip" else words[0])
        return await super().run(shop, command, stdin=stdin, env=env)


class LayerBench:
    """Layers of a runner called ``name``; those of one ``base`` share the index and nothing else.

    ``calls``: what uv was asked; ``said``: what users were told.
    """

    def __init__(self, base: Path, name: str = "one", *, fleet: Fleet | None = None, **changes: Any) -> None:
        self.index = base / "index"
        if not self.index.exists():
            add_package(self.index, "upper", "1.0", "VERSION = '1.0'\n", requires="lower>=2")
            add_package(self.index, "lower", "2.5", "VERSION = '2.5'\n")
        self.state = base / name
        self.env = {**os.environ, **index_settings(self.index, base / f"{name}-uv")}
        self.now = 1_000_000_000.0
        self.calls: list[str] = []
        self.said: list[str] = []
        self.fleet = fleet
        self.changes = changes
        self.layers = self.fresh()

    def fresh(self) -> Layers:
        """Layers of an agent that starts now on the same state directory."""
        bench = CountingBench(self.state / "shops", self.env, self.calls)
        return Layers(
            self.state / "layers",
            bench,
            Uv(bench, self.env),
            fleet=self.fleet,
            clock=lambda: self.now,
            **self.changes,
        )

    async def ensure(self, *lines: str, project: str = "prj", holder: str = "exe.1", **changes: Any) -> Layer:
        """The layer for these requirements."""
        given = changes.pop("given", None)
        wanted: Requirements = {"lines": list(lines), "source": "t", "requires_python": "", "exact": False}
        return await self.layers.ensure(
            {**wanted, **changes},  # type: ignore[typeddict-item]
            PYTHON,
            project,
            self.said.append,
            holder=holder,
            given=given,
        )

    async def finished(self, layer: Layer) -> None:
        """Let a script start on ``layer`` and wait until all that is done behind it is done."""
        self.layers.started(layer)
        if layer.key in self.layers._behind:
            await self.layers._behind[layer.key][1]


def version_in(layer: Layer, module: str) -> str:
    """Ask the layer's own interpreter."""
    code = f"import {module}; print({module}.VERSION)"
    return subprocess.run(
        [layer.path / "bin/python", "-I", "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
