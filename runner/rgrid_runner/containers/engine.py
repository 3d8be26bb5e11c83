"""The Docker engine, as few verbs: check, image, create, start, remove, ours. What is no success is an error in words.

The SDK is synchronous, so each call runs in a thread of the engine's own: a pull that lasts minutes must not take the
threads that others need. Nothing here knows what a container is for; ``box.py`` does.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from rgrid_runner.backends.base import BackendError
from rgrid_runner.containers import asking, host, pulling
from rgrid_runner.containers.asking import ImageInfo, Plan, Started
from rgrid_runner.containers.host import EngineInfo
from rgrid_shared.states import FailureClass

T = TypeVar("T")

_THREADS: Final = 8
_TIMEOUT_S: Final = 60


class Engine:
    """The engine of this host. ``runner``: tells this runner's containers from those of others (no secret)."""

    def __init__(self, runner: str) -> None:
        self.runner = runner
        self._client: Any = None
        self._connecting = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, "docker")
        self._pulls: dict[str, asyncio.Task[None]] = {}
        self._closing = threading.Event()

    async def check(self) -> EngineInfo:
        """What the engine is. UsageError if this host cannot have containers, BackendError if none answers."""
        host.check()
        return host.engine_info(await self._call(lambda client: client.info()))

    async def image(self, ref: str, say: Callable[[str], None] | None = None, *, pull: bool = True) -> ImageInfo:
        """The image that ``ref`` (a name or an id) names; pulled if it is not there, with its progress by ``say``.

        BackendError: DEPENDENCIES if there is no such image, INFRASTRUCTURE if the registry or engine does not answer.
        """
        found = await self._call(asking.image, ref)
        if found is None and pull and not ref.startswith("sha256:"):
            await self._pull(ref, say)
            found = await self._call(asking.image, ref)
        if found is None:
            raise BackendError(
                f"There is no image {ref} on this runner.",
                FailureClass.INFRASTRUCTURE if ref.startswith("sha256:") else FailureClass.DEPENDENCIES,
                hint="rgrid runtimes lists what the grid can run.",
            )
        return found

    async def pull(self, ref: str, say: Callable[[str], None] | None = None) -> None:
        """Pull an image, there or not: its name may stand for another by now. BackendError as of ``image``."""
        await self._pull(ref, say)

    async def programs(self, image: ImageInfo, names: tuple[str, ...]) -> dict[str, str]:
        """Where the image has programs, by name: the first on its PATH, if any. Nothing of the image is run."""
        return await self._call(asking.programs, self.runner, image, names)

    async def create(self, plan: Plan) -> str:
        """Create a container, not started; its id. BackendError."""
        return await self._call(asking.create, self.runner, plan)

    async def start(self, container: str) -> Started:
        """Start a container. BackendError; it is removed then."""
        try:
            return await self._call(asking.start, container)
        except BackendError:
            await self.remove(container)
            raise

    async def remove(self, container: str) -> None:
        """Kill and remove a container, with its volumes; no error if it is gone."""
        await self._call(asking.remove, container)

    async def ours(self) -> list[str]:
        """The ids of all containers of this runner, running or not."""
        return await self._call(asking.ours, self.runner)

    async def output(self, image: ImageInfo, *command: str, timeout_s: float = 30) -> tuple[int, bytes]:
        """Run a command in a container of its own without network; its exit code and stdout. BackendError."""
        plan = Plan(f"rgrid-{self.runner}-ask-{os.urandom(4).hex()}", image, command, "none", keep=True)
        container = await self.create(plan)
        try:
            return await self._call(asking.run, container, timeout_s)
        finally:
            await self.remove(container)

    async def close(self) -> None:
        """Let go of the engine's socket. Containers stay as they are; pulls are left off."""
        self._closing.set()
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        if self._client is not None:
            self._client.close()
            self._client = None

    # inside

    async def _call(self, verb: Callable[..., T], *args: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, functools.partial(self._spoken, verb, *args))

    def _spoken(self, verb: Callable[..., T], *args: Any) -> T:
        with asking.in_words():
            return verb(self._connected(), *args)

    def _connected(self) -> Any:
        with self._connecting:
            if self._client is None:
                host.probe()
                import docker
                from docker.utils import kwargs_from_env

                self._client = docker.APIClient(version="auto", timeout=_TIMEOUT_S, **kwargs_from_env())
            return self._client

    async def _pull(self, ref: str, say: Callable[[str], None] | None) -> None:
        """Pull once, however many ask; the first one hears of the progress."""
        task = self._pulls.get(ref)
        if task is None:
            loop = asyncio.get_running_loop()

            def heard(line: str) -> None:
                if say is not None:
                    loop.call_soon_threadsafe(say, line)

            task = loop.create_task(self._call(pulling.pull, ref, heard, self._closing.is_set))
            self._pulls[ref] = task
            task.add_done_callback(lambda _: self._pulls.pop(ref, None))
        await asyncio.shield(task)
