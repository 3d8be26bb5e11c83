"""Log chunks, cursors, and how they look on the wire."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rgrid_api.times import to_wire
from rgrid_shared.errors import InvalidRequest
from rgrid_shared.states import Stream
from rgrid_shared.views import LogChunkView

STREAM_NUMBERS: Final[dict[str, int]] = {Stream.STDOUT: 1, Stream.STDERR: 2, Stream.SYSTEM: 3}
"""How streams are stored."""
STREAM_NAMES: Final[dict[int, str]] = {number: str(name) for name, number in STREAM_NUMBERS.items()}
_CURSOR: Final = re.compile(r"(\d{1,9}):(\d{1,18})")


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A place in an execution's log: after chunk ``seq`` of ``attempt``. ``Cursor()`` is before everything."""

    attempt: int = 0
    seq: int = 0

    def __str__(self) -> str:
        return f"{self.attempt}:{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """The cursor that ``ATTEMPT:SEQ`` names; empty text is the beginning. Raises ``InvalidRequest``."""
        if not text:
            return cls()
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise InvalidRequest(f"not a log cursor: {text[:80]!r}", hint="write it as ATTEMPT:SEQ, for example 1:250")
        return cls(int(match[1]), int(match[2]))


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes as the script wrote them. ``stream`` is a value of ``STREAM_NUMBERS``."""

    attempt: int
    seq: int
    stream: int
    at: datetime
    data: bytes

    @property
    def cursor(self) -> Cursor:
        """The place after this chunk."""
        return Cursor(self.attempt, self.seq)

    def view(self) -> LogChunkView:
        """This chunk on the wire."""
        return {
            "attempt": self.attempt,
            "seq": self.seq,
            "stream": STREAM_NAMES[self.stream],
            "at": to_wire(self.at),
            "data": base64.b64encode(self.data).decode("ascii"),
        }
