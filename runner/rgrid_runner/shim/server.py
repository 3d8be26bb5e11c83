"""The shim's life: obey one agent, outlive it, and leave when there is nothing left to look after."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # ``signal`` without the enum module
import _socket
import os

from rgrid_runner.shim import frames
from rgrid_runner.shim.container import Container
from rgrid_runner.shim.guard import Note
from rgrid_runner.shim.linux import become_subreaper
from rgrid_runner.shim.loop import Loop
from rgrid_runner.shim.order import Order
from rgrid_runner.shim.place import Place
from rgrid_runner.shim.processes import Processes
from rgrid_runner.shim.run import Run
from rgrid_runner.shim.spawn import SpawnError

_READ = 256 * 1024
_RETRY_NS = 5_000_000_000


class Server:
    """One agent, one run at a time.

    An agent that goes away is waited for while a script runs; when the script has ended, its status is on disk and
    the shim leaves. A new agent's connection replaces the old one.
    """

    def __init__(self, *, agent: int, listener: int, note: Note) -> None:
        """Take over two descriptors: a connected socket and a listening one."""
        become_subreaper()
        self._note = note
        self._loop = Loop()
        self._agent = -1
        self._splitter = frames.Splitter()
        self._out = b""
        self._told = 0
        self._run: Run | None = None
        self._unwritten = False
        self._listener = _socket.socket(fileno=listener)
        self._listener.setblocking(False)
        os.set_inheritable(listener, False)
        self._loop.on_readable(listener, self._accept)
        self._wake = self._catch_signals()
        self._meet(agent)

    def serve(self) -> None:
        """Until the agent is gone and nothing runs."""
        while self._look_at_run() or self._agent >= 0:
            self._loop.turn(self._due())

    # the agent

    def _accept(self) -> None:
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]  # what socket.accept() wraps
        except OSError:
            return
        self._hear()  # what the old agent still said counts
        self._part()
        self._meet(fd)

    def _meet(self, fd: int) -> None:
        os.set_blocking(fd, False)
        os.set_inheritable(fd, False)
        self._agent, self._splitter, self._out = fd, frames.Splitter(), b""
        self._loop.on_readable(fd, self._hear)
        key, taken = (self._run.order.key, self._run.feeder.taken) if self._run else (b"", 0)
        self._say(frames.HELLO, 0, *map(frames.number, (frames.VERSION, os.getpid())), key, frames.number(taken))

    def _part(self) -> None:
        if self._agent >= 0:
            self._loop.remove(self._agent)
            os.close(self._agent)
            self._agent = -1

    def _hear(self) -> None:
        agent = self._agent
        while self._agent == agent >= 0:
            try:
                data = os.read(agent, _READ)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._part()
                return
            for kind, number, fields in self._splitter.feed(data):
                self._obey(kind, number, fields)
            if len(data) < _READ:
                return

    def _say(self, kind: int, number: int, *fields: bytes) -> None:
        if self._agent < 0:
            return
        idle = not self._out
        self._out += frames.pack(kind, number, *fields)
        if idle:
            self._flush()

    def _flush(self) -> None:
        try:
            sent = os.write(self._agent, self._out)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._part()
            return
        self._out = self._out[sent:]
        self._loop.on_writable(self._agent, self._flush if self._out else None)

    # what it asks for

    def _obey(self, kind: int, number: int, fields: list[bytes]) -> None:
        if kind in (frames.START, frames.START_IN):
            self._start(number, fields, contained=kind == frames.START_IN)
            return
        run = self._run
        if run is None or run.over or run.order.key != fields[0]:
            self._say(frames.ACK, number)  # it ended meanwhile
            return
        if kind == frames.FEED:
            agent = self._agent
            run.feeder.push(fields[1], bool(fields[2]), lambda: self._fed(agent, number))
            return
        if kind == frames.KILL:
            run.kill(frames.BY_REQUEST, fields[1], at_once=bool(fields[2]))
        elif kind == frames.FREEZE:
            run.freezer.freeze()
        elif kind == frames.THAW:
            run.freezer.thaw()
        elif kind == frames.RENEW:
            run.freezer.renew(int(fields[1]))
        self._say(frames.ACK, number)

    def _fed(self, agent: int, number: int) -> None:
        if agent == self._agent:
            self._say(frames.ACK, number)

    def _start(self, number: int, fields: list[bytes], *, contained: bool) -> None:
        try:
            if self._run:
                raise SpawnError(0, "busy")
            self._run = self._contained(fields) if contained else self._plain(fields)
        except SpawnError as error:
            reusable = frames.YES if error.reusable else b""
            self._say(frames.ACK, number, frames.number(error.errno), error.step.encode(), reusable)
        except OSError as error:
            self._say(frames.ACK, number, frames.number(error.errno or 0), b"spool", frames.YES)
        else:
            self._told = 0
            self._say(frames.ACK, number, frames.number(self._run.started_wall_ns))

    def _plain(self, fields: list[bytes]) -> Run:
        order = Order.read(fields)
        return Run(order, Processes(order), self._loop)

    def _contained(self, fields: list[bytes]) -> Run:
        place, rest = Place.read(fields)
        order = Order.read(rest)
        return Run(order, Container(order, place, self._loop, self._note), self._loop)

    # the run

    def _due(self) -> int:
        """Do what the clock asks for; nanoseconds until it asks again, −1 for never."""
        if self._run is None:
            return -1
        if self._unwritten:
            return _RETRY_NS
        due = self._run.tick()
        return 0 if self._run.over else due

    def _look_at_run(self) -> bool:
        """Tell the agent what is new; True as long as there is a run to look after."""
        run = self._run
        if run is None:
            return False
        if run.log_size > self._told and not self._out:  # one hint on its way is enough: the log is the truth
            self._told = run.log_size
            self._say(frames.GREW, 0)
        if run.over:
            written = run.write_status()
            self._unwritten = not written and self._agent < 0
            if self._unwritten:
                return True  # the disk is full and nobody listens: keep it, try again
            self._run = None
            self._say(frames.ENDED, 0, run.order.key, *run.status())
            if run.stuck:
                self._part()  # what hangs in the kernel must not be taken for a part of the next run
        return self._run is not None

    def _catch_signals(self) -> int:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        _signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for signum in (_signal.SIGCHLD, _signal.SIGTERM):
            _signal.signal(signum, lambda _signum, _frame: None)
        self._loop.on_readable(reading, self._signalled)
        return reading

    def _signalled(self) -> None:
        signums = os.read(self._wake, 4096)
        if self._run and not self._run.over:
            if _signal.SIGTERM in signums:
                self._run.kill(frames.BY_HOST, b"")
            self._run.reap()
        elif _signal.SIGTERM in signums:
            self._part()
