"""A run as the shim sees it: bytes and integers, nothing to interpret."""

from __future__ import annotations

from rgrid_runner.shim import frames

STREAM = b"|"
"""The ``stdin`` that means: fed over the socket. No path is spelled so, paths are absolute."""


class Order:
    """What to run. Times in milliseconds, sizes in bytes; ``timeout_ms`` −1 and ``memory`` 0 mean no limit.

    ``lease_ms``: the reading of CLOCK_BOOTTIME when the lease ends, 0 for none.
    """

    def __init__(
        self,
        *,
        key: bytes,
        spool: bytes,
        cwd: bytes,
        stdin: bytes,
        lease_ms: int,
        timeout_ms: int,
        grace_ms: int,
        lost_after_ms: int,
        memory: int,
        log_limit: int,
        argv: list[bytes],
        env: dict[bytes, bytes],
    ) -> None:
        self.key = key
        self.spool = spool
        self.cwd = cwd
        self.stdin = stdin
        self.lease_ms = lease_ms
        self.timeout_ms = timeout_ms
        self.grace_ms = grace_ms
        self.lost_after_ms = lost_after_ms
        self.memory = memory
        self.log_limit = log_limit
        self.argv = argv
        self.env = env

    def fields(self) -> list[bytes]:
        """The fields of a START frame."""
        numbers = (
            self.lease_ms,
            self.timeout_ms,
            self.grace_ms,
            self.lost_after_ms,
            self.memory,
            self.log_limit,
            len(self.argv),
        )
        flat = [part for pair in self.env.items() for part in pair]
        return [self.key, self.spool, self.cwd, self.stdin, *map(frames.number, numbers), *self.argv, *flat]

    @classmethod
    def read(cls, fields: list[bytes]) -> Order:
        """The order that ``fields()`` wrote."""
        lease_ms, timeout_ms, grace_ms, lost_after_ms, memory, log_limit, argc = map(int, fields[4:11])
        rest = fields[11:]
        flat = rest[argc:]
        return cls(
            key=fields[0],
            spool=fields[1],
            cwd=fields[2],
            stdin=fields[3],
            lease_ms=lease_ms,
            timeout_ms=timeout_ms,
            grace_ms=grace_ms,
            lost_after_ms=lost_after_ms,
            memory=memory,
            log_limit=log_limit,
            argv=rest[:argc],
            env=dict(zip(flat[::2], flat[1::2], strict=True)),
        )
