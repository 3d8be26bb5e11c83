"""Dependency layers: environments named by the hash of everything that decides what is in them.

Requirements are resolved once a day for each project and index; what they resolve to is installed once, into a
directory that is complete when its name appears, and shared by all executions. A second run asks no uv at all.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import re
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rgrid_runner.files import read_json, remove_tree, write_json
from rgrid_runner.host import platform_name
from rgrid_runner.interpreters import Interpreter
from rgrid_runner.outcome import AttemptFailed
from rgrid_runner.python_versions import satisfies
from rgrid_runner.uv import Uv
from rgrid_shared.layer_keys import layer_key, resolution_key
from rgrid_shared.specs import Requirements
from rgrid_shared.states import FailureClass

log: Final = logging.getLogger("rgrid.runner")
RESOLVED_FOR_S: Final = 24 * 3600.0
UNUSED_FOR_S: Final = 30 * 24 * 3600.0
_TOUCH_S: Final = 3600.0
_LOCK_POLL_S: Final = 0.1
_PIN: Final = re.compile(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(==|@)", re.MULTILINE)
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Layer:
    """A ready environment. ``key``: its name; ``path``: its directory."""

    key: str
    path: Path


class Layers:
    """All layers of a runner, below ``root``."""

    def __init__(self, root: Path, uv: Uv, *, clock: Callable[[], float] = time.time) -> None:
        self._root = root
        self._uv = uv
        self._clock = clock
        self._platform = platform_name()
        self._building: dict[str, asyncio.Task[None]] = {}
        self._compiling: dict[str, asyncio.Task[None]] = {}
        self._touched: dict[str, float] = {}
        for directory in (self._ready, self._resolutions, self._locks):
            directory.mkdir(parents=True, exist_ok=True)

    @property
    def _ready(self) -> Path:
        return self._root / "ready"

    @property
    def _locks(self) -> Path:
        return self._root / "locks"

    @property
    def _resolutions(self) -> Path:
        return self._root / "resolved"

    async def ensure(self, wanted: Requirements, python: Interpreter, project_id: str, say: Say) -> Layer:
        """The layer for ``wanted``, installed now if nobody has before; ``say`` tells the user so.

        AttemptFailed: DEPENDENCIES with the resolver's words; INFRASTRUCTURE if index or disk is the trouble.
        """
        check_python(wanted, python)
        lock, fresh = await self._resolve(wanted, python, project_id, say)
        key = layer_key(lock=lock, interpreter=python.full_name, image="", platform=self._platform, accelerator="")
        layer = Layer(key, self._ready / key)
        if not (layer.path / "meta.json").exists():
            say(f"Installing {_count(lock)}…")
            await self._once(self._building, key, lambda: self._build(layer, lock, python, offline_first=not fresh))
        self._touch(layer)
        return layer

    def started(self, layer: Layer) -> None:
        """A script runs on ``layer``: compile its bytecode behind it, if that was not done yet."""
        if layer.key not in self._compiling and not (layer.path / "compiled").exists():
            self._compiling[layer.key] = asyncio.create_task(self._compile(layer), name=f"compile {layer.key[:12]}")

    async def close(self) -> None:
        """Stop what goes on in the background; unfinished layers are removed at the next start."""
        tasks = [*self._building.values(), *self._compiling.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def prune(self) -> None:
        """Remove unfinished builds, and layers and resolutions that nobody used for ``UNUSED_FOR_S``."""
        oldest = self._clock() - UNUSED_FOR_S
        for path in self._ready.iterdir():
            meta = path / "meta.json"
            if path.name.startswith(".") or not meta.exists() or meta.stat().st_mtime < oldest:
                with suppress(OSError):
                    remove_tree(path)
        for path in self._resolutions.iterdir():
            if path.stat().st_mtime < self._clock() - RESOLVED_FOR_S:
                path.unlink(missing_ok=True)

    async def _resolve(self, wanted: Requirements, python: Interpreter, project_id: str, say: Say) -> tuple[str, bool]:
        """The lock, and whether it was resolved just now."""
        if wanted["exact"]:
            return "\n".join(wanted["lines"]) + "\n", False
        name = resolution_key(
            lines=wanted["lines"], interpreter=f"{python.full_name} {self._platform}", project=project_id,
            index=self._uv.index,
        )  # fmt: skip
        kept = self._kept(name)
        if kept is not None:
            return kept, False
        say(f"Resolving {len(wanted['lines'])} requirement{'s' if len(wanted['lines']) != 1 else ''}…")
        await self._once(self._building, name, lambda: self._ask(name, wanted["lines"], python))
        kept = self._kept(name)
        if kept is None:
            raise AttemptFailed(FailureClass.INFRASTRUCTURE, "The runner could not keep the resolved requirements")
        return kept, True

    def _kept(self, name: str) -> str | None:
        document = read_json(self._resolutions / f"{name}.json")
        if isinstance(document, dict) and self._clock() - document["at"] < RESOLVED_FOR_S:
            return str(document["lock"])
        return None

    async def _ask(self, name: str, lines: list[str], python: Interpreter) -> None:
        lock = await self._uv.resolve(lines, python.path)
        write_json(self._resolutions / f"{name}.json", {"at": self._clock(), "lock": lock})

    async def _build(self, layer: Layer, lock: str, python: Interpreter, *, offline_first: bool) -> None:
        """Build in a directory of its own, then give it its name in one step; one builder a key on this host."""
        with (self._locks / layer.key).open("w") as gate:
            # Another process may hold it, and nobody could signal us.
            while not _locked(gate.fileno()):  # noqa: ASYNC110
                await asyncio.sleep(_LOCK_POLL_S)
            if (layer.path / "meta.json").exists():
                return
            building = self._ready / f".build-{layer.key}"
            remove_tree(building)
            began = self._clock()
            try:
                await self._uv.environment(building, python.path)
                (building / "lock.txt").write_text(lock)
                await self._install(building, offline_first=offline_first)
                write_json(
                    building / "meta.json",
                    {
                        "key": layer.key,
                        "interpreter": python.full_name,
                        "platform": self._platform,
                        "packages": [line.split(" ")[0] for line in lock.splitlines() if _PIN.match(line)],
                        "built_at": began,
                        "built_in_s": round(self._clock() - began, 3),
                    },
                )
                remove_tree(layer.path)
                building.rename(layer.path)
            finally:
                remove_tree(building)

    async def _install(self, environment: Path, *, offline_first: bool) -> None:
        lock = environment / "lock.txt"
        if offline_first:
            try:
                await self._uv.install(environment, lock, offline=True)
            except AttemptFailed:
                log.debug("not all packages are in uv's cache")
            else:
                return
        await self._uv.install(environment, lock, offline=False)

    async def _once(
        self, tasks: dict[str, asyncio.Task[None]], name: str, work: Callable[[], Coroutine[object, object, None]]
    ) -> None:
        """Do ``work`` once for all who ask at the same time; who is cancelled does not stop it for the others."""
        task = tasks.get(name)
        if task is None:
            task = tasks[name] = asyncio.create_task(work(), name=f"layer {name[:12]}")
            task.add_done_callback(lambda done: (tasks.pop(name, None), done.cancelled() or done.exception()))
        await asyncio.shield(task)

    async def _compile(self, layer: Layer) -> None:
        process = await asyncio.create_subprocess_exec(
            str(layer.path / "bin" / "python"), "-I", "-m", "compileall", "-q", str(layer.path / "lib"),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            preexec_fn=_be_nice,
        )  # fmt: skip
        try:
            await process.wait()  # files that do not compile (templates, other versions) do not matter
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        (layer.path / "compiled").touch()
        del self._compiling[layer.key]

    def _touch(self, layer: Layer) -> None:
        """Note the use, at most once an hour."""
        now = self._clock()
        if now - self._touched.get(layer.key, 0.0) > _TOUCH_S:
            os.utime(layer.path / "meta.json", (now, now))
            self._touched[layer.key] = now


def check_python(wanted: Requirements, python: Interpreter) -> None:
    """AttemptFailed (DEPENDENCIES) if the script needs another Python than the runtime has."""
    specifier = wanted["requires_python"]
    try:
        fits = satisfies(python.version, specifier)
    except ValueError as error:
        raise AttemptFailed(FailureClass.DEPENDENCIES, f"requires-python = {specifier!r}: {error}") from error
    if not fits:
        raise AttemptFailed(
            FailureClass.DEPENDENCIES,
            f"The script needs Python {specifier}; the runtime {python.name} is {python.version} on this runner. "
            "Choose another with --runtime.",
        )


def _count(lock: str) -> str:
    names = _PIN.findall(lock)
    listed = ", ".join(name for name, _ in names[:4]) + (", …" if len(names) > 4 else "")
    return f"{len(names)} package{'s' if len(names) != 1 else ''} ({listed})"


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _be_nice() -> None:
    os.nice(19)
