"""What backends have in common whose scripts are held by shims: streaming, ends, adoption.

In ``directory``: ``shims/`` has a socket for each shim, ``runs/`` a link from each run's key to its spool directory.
That is all a successor needs: a key whose shim answers runs, a key with a status has ended, and any other was lost.

A backend says with four hooks what its scripts run in; ``ProcessBackend`` needs none but the wording.

::

    start ─ _enter(order) ─▶ Place | None ─ START_IN | START ─▶ shim ─ … ─ ended, refused, lost ─ _leave(key, reusable)

``_enter``    takes what the run is started in; a ``Place`` (a container that is up and idle), or None for processes.
``_leave``    nothing of the run is left, neither process nor mount: what ``_enter`` took may serve another, or may not.
``_refusal``  why it could not be started, in words.
``_adopted``  which containers go on, told before ``open`` returns.

Containers, their control directories and PID 1 are made as ``rgrid_runner.containers.layout`` says (``install``,
``make_control``, ``hold``, ``keeper_command``); ``Place.name`` is what ``_adopted`` and ``_leave`` know them by.
"""

from __future__ import annotations

import asyncio
import os
from abc import abstractmethod
from collections.abc import AsyncIterator, Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rgrid_runner.backends import leftovers, spool
from rgrid_runner.backends.base import LOST_AFTER_S, Backend, BackendError, Chunk, Exit, StartOrder, UnknownRun
from rgrid_runner.backends.shim_link import LinkLost, ShimLink
from rgrid_runner.backends.shims import Shims
from rgrid_runner.shim import frames
from rgrid_runner.shim.linux import BOOT_ID
from rgrid_runner.shim.order import STREAM, Order
from rgrid_runner.shim.place import Place
from rgrid_shared.states import FailureClass

_FEED_BYTES: Final = 64 * 1024
_INLINE_BYTES: Final = 256 * 1024
"""A log up to this size is hashed at once; a longer one in a thread."""


class _Run:
    """What the agent knows of one run."""

    def __init__(self, key: str, directory: Path, link: ShimLink | None, timeout_s: float | None = None) -> None:
        self.key = key
        self.spool = directory
        self.link = link
        self.timeout_s = timeout_s
        self.taken = 0
        self.ended = False
        self.exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.news: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def tell(self) -> None:
        """Wake whoever reads the log."""
        self.news.set_result(None)
        self.news = asyncio.get_running_loop().create_future()


class ShimBackend(Backend):
    """Runs scripts through shims. ``directory`` belongs to one runner."""

    def __init__(self, directory: Path, *, lost_after_s: float = LOST_AFTER_S) -> None:
        self._index = directory.absolute() / "runs"
        self._shims = Shims(directory.absolute() / "shims")
        self._lost_after_s = lost_after_s
        self._runs: dict[str, _Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> list[str]:
        """See ``Backend.open``. BackendError if another agent uses the directory."""
        busy = await self._shims.open()
        self._index.mkdir(mode=0o700, parents=True, exist_ok=True)
        for entry in self._index.iterdir():
            run = _Run(entry.name, entry.readlink(), busy.pop(entry.name, None))
            self._runs[run.key] = run
            if run.link:
                run.taken = run.link.taken
                self._follow(run, run.link)
            else:
                self._in_background(self._conclude(run, None))
        self._adopted(
            {
                run.key: identity
                for run in self._runs.values()
                if run.link and (identity := spool.read_identity(run.spool))
            }
        )
        for link in busy.values():  # its entry is gone: cleaned by an agent that died while it did so
            await self._drop(link)
        await self._shims.warm_up()
        return list(self._runs)

    # what a backend adds

    async def _enter(self, order: StartOrder) -> Place | None:
        """Take what a run is started in, just before it is; None: it is a process of this host.

        Raises BackendError if there is none to be had; nothing is taken then. Each call that returns is followed by
        one ``_leave``. A start whose shim was found dead is tried once more, with another ``_enter``.
        """
        return None

    def _leave(self, key: str, *, reusable: bool) -> None:
        """The run is over, or was not started; called before ``wait`` says so. Must not block.

        ``reusable``: the container is as it was before the run. If not, it may still be up (an idle PID 1 with
        something that was left in its name spaces), or gone. Also called for runs of an earlier agent that ended
        here (``_adopted`` told of it, or it ended before that was called). Does nothing for a key it does not know.
        """

    @abstractmethod
    def _refusal(self, order: StartOrder, code: int, step: str) -> BackendError:
        """Why a script could not be started. ``code``: an errno; ``step``: what failed (``SpawnError.step``)."""

    def _adopted(self, held: Mapping[str, spool.Identity]) -> None:
        """The runs of an earlier agent that go on, by key (``Identity.container`` names their containers)."""

    # the seam

    async def start(self, order: StartOrder) -> datetime:
        """See ``Backend.start``. ValueError for a key that is known."""
        if order.key in self._runs:
            raise ValueError(f"{order.key} was started before")
        started_at = await self._try_start(order) or await self._try_start(order)
        if started_at is None:
            raise BackendError("The process that was to hold the script died.", FailureClass.INFRASTRUCTURE)
        return started_at

    async def _try_start(self, order: StartOrder) -> datetime | None:
        """Start it in a shim; None if that died (it may have been killed while it was idle) and nothing was started."""
        place = await self._enter(order)
        try:
            link = await self._shims.get()
        except BackendError:
            self._leave(order.key, reusable=True)
            raise
        run = _Run(order.key, order.spool.absolute(), link, order.timeout_s)
        self._runs[run.key] = run
        (self._index / run.key).symlink_to(run.spool)
        self._follow(run, link)
        fields = self._order(order).fields()
        try:
            if place:
                answer = await link.ask(frames.START_IN, *place.fields(), *fields)
            else:
                answer = await link.ask(frames.START, *fields)
        except LinkLost:
            await asyncio.wait({run.exit})  # ``_lost`` has left the place
            identity = spool.read_identity(run.spool)
            if identity is None:
                self._forget(run)
                return None
            return identity.started_at  # started and lost at once: ``wait`` says so
        if len(answer) == 1:
            return datetime.fromtimestamp(int(answer[0]) / 1e9, UTC)
        code, step, *rest = answer
        self._shims.give_back(link)
        self._forget(run)
        self._leave(order.key, reusable=rest == [frames.YES])
        raise self._refusal(order, int(code), step.decode())

    async def stream(self, key: str, after: int) -> AsyncIterator[Chunk]:
        """See ``Backend.stream``."""
        run = self._run(key)
        reader = spool.LogReader(run.spool, after)
        try:
            while True:
                ended, news = run.ended, run.news  # before the log is read: nothing that comes later is missed
                chunks = reader.read()
                for chunk in chunks:
                    yield chunk
                if not chunks:
                    if ended:
                        return
                    await asyncio.shield(news)
        finally:
            reader.close()

    async def wait(self, key: str) -> Exit:
        """See ``Backend.wait``."""
        return await asyncio.shield(self._run(key).exit)

    async def feed(self, key: str, data: bytes, eof: bool) -> None:
        """See ``Backend.feed``."""
        run = self._run(key)
        parts = [data[at : at + _FEED_BYTES] for at in range(0, len(data), _FEED_BYTES)] or [b""]
        for part in parts:
            last = eof and part is parts[-1]
            await self._ask(run, frames.FEED, part, b"1" if last else b"")
            run.taken += len(part)

    async def fed(self, key: str) -> int:
        """See ``Backend.fed``."""
        return self._run(key).taken

    async def kill(self, key: str, reason: FailureClass) -> None:
        """See ``Backend.kill``."""
        await self._ask(self._run(key), frames.KILL, reason.encode(), b"")

    async def freeze(self, key: str) -> None:
        """See ``Backend.freeze``."""
        await self._ask(self._run(key), frames.FREEZE)

    async def thaw(self, key: str) -> None:
        """See ``Backend.thaw``."""
        await self._ask(self._run(key), frames.THAW)

    async def renew(self, key: str, until_boottime: float) -> None:
        """See ``Backend.renew``."""
        await self._ask(self._run(key), frames.RENEW, frames.number(int(until_boottime * 1000)))

    async def clean(self, key: str) -> None:
        """See ``Backend.clean``."""
        run = self._run(key)
        await self._ask(run, frames.KILL, FailureClass.CANCELLED.encode(), b"1")
        await asyncio.wait({run.exit})
        self._forget(run)

    async def close(self, *, abandon: bool) -> None:
        """See ``Backend.close``."""
        for run in self._runs.values():
            if run.link:
                run.link.close()
        await self._shims.close(wait=not abandon)
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _run(self, key: str) -> _Run:
        try:
            return self._runs[key]
        except KeyError:
            raise UnknownRun(key) from None

    def _order(self, order: StartOrder) -> Order:
        if order.stdin is None:
            stdin = b""
        else:
            stdin = STREAM if order.stdin == "stream" else os.fsencode(Path(order.stdin).absolute())
        return Order(
            key=order.key.encode(),
            spool=os.fsencode(order.spool.absolute()),
            cwd=os.fsencode(order.cwd.absolute()),
            stdin=stdin,
            lease_ms=0 if order.lease_until is None else int(order.lease_until * 1000),
            timeout_ms=-1 if order.timeout_s is None else int(order.timeout_s * 1000),
            grace_ms=int(order.grace_s * 1000),
            lost_after_ms=int(self._lost_after_s * 1000),
            memory=order.memory,
            log_limit=order.log_limit,
            argv=[os.fsencode(arg) for arg in order.argv],
            env={os.fsencode(name): os.fsencode(value) for name, value in order.env.items()},
        )

    async def _ask(self, run: _Run, kind: int, *fields: bytes) -> None:
        """Ask the run's shim for something; nothing to do if the run has ended."""
        if run.link:
            try:
                await run.link.ask(kind, run.key.encode(), *fields)
            except LinkLost:
                return  # the run ends as lost

    def _forget(self, run: _Run) -> None:
        spool.remove(run.spool)
        (self._index / run.key).unlink(missing_ok=True)
        self._runs.pop(run.key, None)

    def _follow(self, run: _Run, link: ShimLink) -> None:
        link.on_grew = run.tell
        link.on_ended = lambda fields: self._ended(run, link, fields[1:])
        link.on_lost = lambda: self._lost(run, link)

    def _ended(self, run: _Run, link: ShimLink, status: list[bytes]) -> None:
        run.link = None
        run.ended = True
        self._shims.give_back(link)
        self._leave(run.key, reusable=spool.reusable(status))
        run.tell()
        if spool.log_bytes(run.spool) <= _INLINE_BYTES:
            run.exit.set_result(spool.exit_of(run.spool, status, timeout_s=run.timeout_s))
        else:
            self._in_background(self._conclude(run, status))

    def _lost(self, run: _Run, link: ShimLink) -> None:
        run.link = None
        self._shims.forget(link)
        self._in_background(self._conclude(run, None))

    async def _conclude(self, run: _Run, status: list[bytes] | None) -> None:
        """Work out the end of a run; without a status from its shim, from what is on disk."""
        try:
            if status is None:
                end = await asyncio.to_thread(_autopsy, run.spool, run.timeout_s)
                self._leave(run.key, reusable=False)
            else:
                end = await asyncio.to_thread(spool.exit_of, run.spool, status, timeout_s=run.timeout_s)
        except OSError as error:
            reason = f"The spool of {run.key} cannot be read: {error.strerror}."
            run.exit.set_exception(BackendError(reason, FailureClass.INFRASTRUCTURE))
        else:
            run.exit.set_result(end)
        run.ended = True
        run.tell()

    async def _drop(self, link: ShimLink) -> None:
        """End a run that nobody knows."""
        ended = asyncio.Event()
        link.on_ended = lambda _: ended.set()
        link.on_lost = ended.set
        await link.ask(frames.KILL, link.key.encode(), FailureClass.CANCELLED.encode(), b"1")
        await ended.wait()
        self._shims.give_back(link)

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _autopsy(directory: Path, timeout_s: float | None) -> Exit:
    identity = spool.read_identity(directory)
    now = datetime.now(UTC)
    if identity is None:
        return spool.lost(directory, "The runner ended before the script was started.", now)
    if identity.boot_id != BOOT_ID:
        return spool.lost(directory, "The runner's host was restarted.", now)
    status = spool.read_status(directory)
    if status is not None:
        return spool.exit_of(directory, status, timeout_s=timeout_s)
    leftovers.kill(identity)
    return spool.lost(directory, "The process that held the script died.", now)
