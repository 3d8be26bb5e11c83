"""Starts shims, keeps the idle ones, and finds those that an earlier agent left."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rgrid_runner.backends.base import BackendError
from rgrid_runner.backends.shim_link import LinkLost, ShimLink, connect, listen, nothing, nothing_with
from rgrid_runner.shim import main as shim_main
from rgrid_shared.states import FailureClass

_GREETING_S: Final = 5.0
_LOCK_S: Final = 10.0
_GONE_S: Final = 5.0
_LOOK_S: Final = 0.005


class Shims:
    """The shims of one runner, each with a socket in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._idle: list[ShimLink] = []
        self._children: set[int] = set()
        self._lock = -1

    async def open(self) -> dict[str, ShimLink]:
        """Connect to every shim that is there; those that run something, by its key.

        Raises BackendError if another agent holds the directory and does not let go within ten seconds.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._take_lock()
        busy = {}
        for path in self._directory.glob("*.sock"):
            link = await self._adopt(path)
            if link is None:
                path.unlink(missing_ok=True)
            elif link.key:
                busy[link.key] = link
            else:
                self.give_back(link)
        return busy

    async def get(self) -> ShimLink:
        """An idle shim, else a new one. Raises BackendError if none can be started."""
        if self._idle:
            return self._idle.pop()
        try:
            return await self._spawn()
        except OSError as error:
            raise BackendError(
                f"The runner cannot start a process: {error.strerror}.", FailureClass.INFRASTRUCTURE
            ) from error

    async def warm_up(self) -> None:
        """Have one at hand, so that the first script need not wait for it."""
        self.give_back(await self.get())

    def give_back(self, link: ShimLink) -> None:
        """The shim's run is over; it may take another."""
        if link.lost:
            self.forget(link)
            return
        link.on_grew, link.on_ended = nothing, nothing_with
        link.on_lost = lambda: self.forget(link)
        self._idle.append(link)

    def forget(self, link: ShimLink) -> None:
        """The shim is gone."""
        if link in self._idle:
            self._idle.remove(link)
        link.socket_path.unlink(missing_ok=True)
        self._reap()

    async def close(self, *, wait: bool) -> None:
        """Hang up on the idle ones, which ends them; with ``wait``, until they are gone."""
        pids = []
        for link in self._idle:
            if wait:
                with contextlib.suppress(LinkLost):
                    await link.greeted()
            link.close()
            link.socket_path.unlink(missing_ok=True)
            pids.append(link.pid)
        self._idle.clear()
        if wait:
            with contextlib.suppress(TimeoutError):
                await _until(lambda: all(map(_gone, pids)), _GONE_S)
        self._reap()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    async def _take_lock(self) -> None:
        self._lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            await _until(self._locked, _LOCK_S)
        except TimeoutError:
            os.close(self._lock)
            self._lock = -1
            raise BackendError(
                f"Another runner uses {self._directory}.",
                FailureClass.INFRASTRUCTURE,
                hint="Stop it, or give this one a directory of its own with RGRID_RUNNER_DIR.",
            ) from None

    def _locked(self) -> bool:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    async def _adopt(self, path: Path) -> ShimLink | None:
        """A link to the shim behind a socket, or None if there is none (any more)."""
        link = ShimLink(path)
        try:
            connection = connect(path)
        except OSError:
            return None
        await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=connection)
        try:
            async with asyncio.timeout(_GREETING_S):
                await link.greeted()
        except (LinkLost, TimeoutError):
            link.close()
            return None
        return link

    async def _spawn(self) -> ShimLink:
        link = ShimLink(self._directory / f"{secrets.token_hex(4)}.sock")
        ours, theirs = socket.socketpair()
        with theirs, listen(link.socket_path) as listener:
            ours.setblocking(False)
            high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 16) for end in (theirs, listener)]
            errors = self._directory / "shim.log"
            argv = [sys.executable, "-I", "-S", shim_main.__file__]
            actions = [
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, os.fspath(errors), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, high[0], 3),
                (os.POSIX_SPAWN_DUP2, high[1], 4),
            ]
            try:
                pid = os.posix_spawn(sys.executable, argv, os.environ, file_actions=actions)  # noqa: ASYNC221 - 1 ms
                self._children.add(pid)
            except OSError:
                ours.close()
                raise
            finally:
                for fd in high:
                    os.close(fd)
        await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=ours)
        return link

    def _reap(self) -> None:
        """Collect shims that ended: they are our children as long as we are the agent that started them."""
        self._children = {pid for pid in self._children if not _gone(pid)}


async def _until(true: Callable[[], bool], seconds: float) -> None:
    """Until other processes made it true. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - nothing in this process could tell
            await asyncio.sleep(_LOOK_S)


def _gone(pid: int) -> bool:
    """True if there is no such process any more; collects it if it is ours."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        pass  # an earlier agent's, or collected
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
