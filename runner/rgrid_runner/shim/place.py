"""The container that a run is started in, as the shim sees it: what follows the count in a START_IN frame."""

from __future__ import annotations

from rgrid_runner.shim import frames

_FLAGS = (b"", frames.YES)
_NUMBERS = 6


class Place:
    """A container that is up and idle, and what this run brings into it.

    ``name``: the container's id, only for people and for who adopts the run. ``control``: the directory on the host
    with its FIFOs (``rgrid_runner.containers.layout``). ``keeper``: the host's pid of its PID 1. ``root``: the host's
    path of its root file system, where mount points are made (the engine's ``MergedDir``). ``mounts``: source on the
    host, target in the container, writable or not; in order. ``tmp`` and ``shm``: bytes of fresh file systems on
    ``/tmp`` and ``/dev/shm``. ``pids`` and ``cpu_millis``: 0 for no limit (that of memory is the order's).
    ``warm``: the script may be forked from an interpreter that the container keeps. ``shell``: PID 1 is ``keeper.sh``.
    """

    def __init__(
        self,
        *,
        name: bytes,
        control: bytes,
        keeper: int,
        root: bytes,
        mounts: list[tuple[bytes, bytes, bool]],
        tmp: int,
        shm: int,
        pids: int,
        cpu_millis: int,
        warm: bool = False,
        shell: bool = False,
    ) -> None:
        self.name = name
        self.control = control
        self.keeper = keeper
        self.root = root
        self.mounts = mounts
        self.tmp = tmp
        self.shm = shm
        self.pids = pids
        self.cpu_millis = cpu_millis
        self.warm = warm
        self.shell = shell

    def fields(self) -> list[bytes]:
        """How many fields follow, and these; in a START_IN frame the order's come next."""
        numbers = (self.keeper, self.tmp, self.shm, self.pids, self.cpu_millis, len(self.mounts))
        flat = [part for source, target, write in self.mounts for part in (source, target, _FLAGS[write])]
        flags = [_FLAGS[self.warm], _FLAGS[self.shell]]
        mine = [self.name, self.control, self.root, *flags, *map(frames.number, numbers), *flat]
        return [frames.number(len(mine)), *mine]

    @classmethod
    def read(cls, fields: list[bytes]) -> tuple[Place, list[bytes]]:
        """The place that ``fields()`` wrote, and the fields after it."""
        end = 1 + int(fields[0])
        name, control, root, warm, shell = fields[1:6]
        keeper, tmp, shm, pids, cpu_millis, count = map(int, fields[6 : 6 + _NUMBERS])
        flat = fields[6 + _NUMBERS : 6 + _NUMBERS + 3 * count]
        place = cls(
            name=name,
            control=control,
            keeper=keeper,
            root=root,
            mounts=[(flat[at], flat[at + 1], bool(flat[at + 2])) for at in range(0, len(flat), 3)],
            tmp=tmp,
            shm=shm,
            pids=pids,
            cpu_millis=cpu_millis,
            warm=bool(warm),
            shell=bool(shell),
        )
        return place, fields[end:]
