"""How an attempt's archived log looks in the object store.

NDJSON, one line a chunk (``{"seq", "stream", "at", "data"}``, data in base 64), in gzip members of about 1 MiB of log
each. Members follow one another, so ``zcat`` reads the whole; the attempt's row holds an index of them, so that a
reader fetches and unpacks only the members that it needs.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from rgrid_api.logs.chunks import STREAM_NAMES, STREAM_NUMBERS, Chunk
from rgrid_api.times import to_wire

MEMBER_BYTES: Final = 1024**2
LEVEL: Final = 6


@dataclass(frozen=True, slots=True)
class Member:
    """One gzip member: chunks ``first`` … ``last`` in ``size`` bytes at ``offset`` of the object.

    ``until``: the latest time of a chunk in it, as on the wire.
    """

    first: int
    last: int
    offset: int
    size: int
    until: str

    def to_json(self) -> dict[str, Any]:
        """This member as an entry of ``attempts.log_index``."""
        return asdict(self)


def members(index: Sequence[dict[str, Any]]) -> list[Member]:
    """The members that ``attempts.log_index`` lists, in order."""
    return [Member(**entry) for entry in index]


def pack(chunks: Sequence[Chunk], offset: int) -> tuple[Member, bytes]:
    """A member of these chunks (at least one, ascending) that will stand at ``offset``, and its bytes."""
    lines = b"".join(
        json.dumps(
            {
                "seq": chunk.seq,
                "stream": STREAM_NAMES[chunk.stream],
                "at": to_wire(chunk.at),
                "data": base64.b64encode(chunk.data).decode("ascii"),
            },
            separators=(",", ":"),
        ).encode()
        + b"\n"
        for chunk in chunks
    )
    data = gzip.compress(lines, LEVEL, mtime=0)
    until = max(to_wire(chunk.at) for chunk in chunks)
    return Member(chunks[0].seq, chunks[-1].seq, offset, len(data), until), data


def unpack(data: bytes, attempt: int) -> Iterator[Chunk]:
    """The chunks of one member, in order."""
    for line in gzip.decompress(data).splitlines():
        entry = json.loads(line)
        yield Chunk(
            attempt=attempt,
            seq=entry["seq"],
            stream=STREAM_NUMBERS[entry["stream"]],
            at=datetime.fromisoformat(entry["at"]),
            data=base64.b64decode(entry["data"]),
        )
