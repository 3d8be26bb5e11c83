"""What agent and shim say to each other over a Unix socket, and what a shim leaves on disk.

A frame is a header (payload bytes, kind, number) and a list of byte strings. The agent numbers its requests from 1
and the shim answers each with one ``ACK`` of that number: no fields if it was done, else an errno and a step. The
shim's own frames have number 0. Both sides speak ``VERSION``; a later version keeps understanding earlier ones,
because a shim may be older than the agent that adopts it.

On disk, in the run's spool directory: ``LOG`` (chunks, appended), ``RUN`` and ``STATUS`` (one frame each).
"""

from __future__ import annotations

from struct import Struct

VERSION = 1

# agent → shim
START = 1  # key, spool, cwd, stdin, limits …, argv …, env … (see ``order.py``)
FEED = 2  # key, data, b"1" for end of file
KILL = 3  # key, reason, b"1" to leave out TERM and grace
FREEZE = 4  # key
THAW = 5  # key
RENEW = 6  # key, milliseconds of CLOCK_BOOTTIME
START_IN = 7  # a container (see ``place.py``), then the fields of START

# shim → agent
HELLO = 20  # version, pid, key or nothing, bytes of stdin taken
ACK = 21
GREW = 22  # the log has more
ENDED = 23  # key, then the fields of STATUS

# on disk
RUN = 40
STATUS = 41

LOG_FILE = "log"
RUN_FILE = "run"
STATUS_FILE = "status"

STDOUT, STDERR, SYSTEM = 1, 2, 3

YES = b"1"
"""A field that says yes; an empty one says no."""

# why a run ended
BY_ITSELF, BY_TIMEOUT, BY_MEMORY, BY_REQUEST, BY_LEASE, BY_HOST, BY_DISK, BY_LOSS = range(8)

HEADER = Struct("<IBI")
CHUNK = Struct("<IBQQ")  # data bytes, stream, seq, microseconds since 1970
_LENGTH = Struct("<I")


def pack(kind: int, number: int, *fields: bytes) -> bytes:
    """One frame."""
    parts = [b""]
    size = 0
    for field in fields:
        parts.append(_LENGTH.pack(len(field)))
        parts.append(field)
        size += 4 + len(field)
    parts[0] = HEADER.pack(size, kind, number)
    return b"".join(parts)


def unpack(payload: bytes) -> list[bytes]:
    """The fields of a frame's payload. ValueError if it is cut short."""
    fields = []
    at = 0
    while at < len(payload):
        end = at + 4
        size = int.from_bytes(payload[at:end], "little")
        at = end + size
        if at > len(payload):
            raise ValueError("a frame is cut short")
        fields.append(payload[end:at])
    return fields


class Splitter:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[int, int, list[bytes]]]:
        """The frames that are whole with ``data``: kind, number, fields."""
        data = self._rest + data
        frames = []
        at = 0
        while len(data) - at >= HEADER.size:
            size, kind, number = HEADER.unpack_from(data, at)
            end = at + HEADER.size + size
            if end > len(data):
                break
            frames.append((kind, number, unpack(data[at + HEADER.size : end])))
            at = end
        self._rest = data[at:]
        return frames


def number(value: int) -> bytes:
    """A field that holds an integer; ``int(field)`` reads it."""
    return b"%d" % value
