"""Where layers are made: on the host here, or in a container of the image that they are for (``boxed_bench``).

A *shop* is a directory with uv's cache and half-made environments. Package code (source distributions) only ever runs
in a shop of its own project; the shop that all projects share sees wheels alone, which run nothing when installed.
"""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rgrid_runner.files import remove_tree
from rgrid_runner.layer_shelf import measure
from rgrid_runner.outcome import AttemptFailed
from rgrid_shared.states import FailureClass

SHARED: Final = ""
"""The scope of what all projects share."""
CACHE: Final = "cache"
"""The name of uv's cache in a shop."""
FOREIGN: Final = ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME", "UV_PROJECT", "UV_PYTHON")
"""Variables of the runner's own surroundings that would lead uv elsewhere."""
# The host's own certificates, as pip uses them: an index behind a company's authority works as it does there.
# (The setting has two names, by uv's age.)
UV_DEFAULTS: Final = {"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"}
UV_ALWAYS: Final = {"UV_NO_PROGRESS": "1", "NO_COLOR": "1", "UV_PYTHON_DOWNLOADS": "never"}


@dataclass(frozen=True, slots=True)
class Shop:
    """``place``: where it is on the host; ``seen``: where commands see it; ``image``: they run in a container of it.

    ``scope``: the project whose code may run in it, ``SHARED`` for none. ``cache``: uv's, as commands see it, empty
    for uv's own. ``walled``: what was made in it leaves it as an archive, since package code may have made anything.
    """

    place: Path
    seen: str
    scope: str = SHARED
    image: str = ""
    cache: str = ""
    walled: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """What a command left: its exit code and streams."""

    code: int
    out: str
    err: str


class Workbench(ABC):
    """Runs uv, and the interpreters that layers are for."""

    @abstractmethod
    async def open(self, most: int) -> None:
        """Clear what an earlier agent left half-made, and caches if they come to more than ``most`` bytes.

        To be called before anything runs here, and after the backend's ``open``.
        """

    @property
    @abstractmethod
    def uv(self) -> str:
        """The program, as commands see it. AttemptFailed (INFRASTRUCTURE) if there is none."""

    @abstractmethod
    def seen(self, layer: Path) -> str:
        """The path by which scripts see a finished layer."""

    @abstractmethod
    def shop(self, scope: str, image: str) -> AbstractAsyncContextManager[Shop]:
        """The shop of a scope, for commands that run on the host or in ``image``."""

    @abstractmethod
    async def run(
        self, shop: Shop, command: Sequence[str], *, stdin: str = "", env: Mapping[str, str] | None = None
    ) -> Said:
        """Run ``command`` in ``shop``; ``env``: in addition. AttemptFailed: it could not be run."""

    @abstractmethod
    async def tend(self, layer: Path, image: str, command: Sequence[str]) -> None:
        """Run ``command`` on a finished layer, gently: it takes nothing that scripts need. Its end is all one.

        ``command`` names the layer by ``seen``.
        """


class HostBench(Workbench):
    """Commands are processes of the agent's own account."""

    def __init__(self, root: Path, env: Mapping[str, str]) -> None:
        """``root``: holds the shops, and no project whose settings uv could pick up. ``env``: the runner's own."""
        self._root = root
        self._env = {**UV_DEFAULTS, **{name: value for name, value in env.items() if name not in FOREIGN}, **UV_ALWAYS}

    async def open(self, most: int) -> None:
        """See ``Workbench.open``. What all share is in uv's own cache, which is the account's."""
        await asyncio.to_thread(sweep, self._root, most)

    @property
    def uv(self) -> str:
        """The program of the installed package."""
        return uv_program()

    def seen(self, layer: Path) -> str:
        """Scripts see the host's paths."""
        return str(layer)

    @asynccontextmanager
    async def shop(self, scope: str, image: str) -> AsyncIterator[Shop]:
        """A directory that stays, with a cache of the project's own; what all share is in uv's own cache."""
        place = self._root / (scope or "shared")
        place.mkdir(parents=True, exist_ok=True)
        yield Shop(place, str(place), scope, cache=str(place / CACHE) if scope else "")

    async def run(
        self, shop: Shop, command: Sequence[str], *, stdin: str = "", env: Mapping[str, str] | None = None
    ) -> Said:
        """See ``Workbench.run``."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=shop.place,
            env={**self._env, **(env or {})},
        )
        try:
            out, err = await process.communicate(stdin.encode())
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        return Said(process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"))

    async def tend(self, layer: Path, image: str, command: Sequence[str]) -> None:
        """See ``Workbench.tend``."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=layer,
            preexec_fn=_be_gentle,
        )
        try:
            await process.wait()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise


def sweep(root: Path, most: int) -> None:
    """Remove all of the shops below ``root`` but their caches, and those too if they come to over ``most`` bytes."""
    root.mkdir(parents=True, exist_ok=True)
    for path in root.glob("*/*"):
        if path.name != CACHE:
            remove_tree(path)
    caches = list(root.glob(f"*/{CACHE}"))
    if sum(measure(cache) for cache in caches) > most:
        for cache in caches:
            remove_tree(cache)


def uv_program() -> str:
    """The uv that came with the runner. AttemptFailed (INFRASTRUCTURE) if none did."""
    from uv import find_uv_bin

    try:
        return os.fsdecode(find_uv_bin())
    except FileNotFoundError as error:
        raise AttemptFailed(
            FailureClass.INFRASTRUCTURE, f"This runner has no uv to install requirements with: {error}"
        ) from error


def _be_gentle() -> None:
    os.nice(19)
