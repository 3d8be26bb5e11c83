"""Log chunks for people: ``rgrid logs`` on a terminal, in a pipe, with times, or as JSON."""

from __future__ import annotations

import os
import sys
from base64 import b64decode
from codecs import getincrementaldecoder
from typing import TYPE_CHECKING, Final

from rgrid import output
from rgrid.times import parse_time
from rgrid_shared.states import Stream

if TYPE_CHECKING:
    from rgrid_shared.views import ExecutionView, LogChunkView

_DECODER: Final = getincrementaldecoder("utf-8")


class Printer:
    """Writes chunks. A pipe gets the script's bytes as they are; a terminal gets text that cannot drive it.

    On a terminal the updates of a progress bar (carriage returns) are collapsed to the last one of each line.
    """

    def __init__(self, *, stream: str | None, timestamps: bool, raw: bool, json: bool, utc: bool) -> None:
        self._only = stream
        self._timestamps = timestamps
        self._raw = raw
        self._json = json
        self._utc = utc
        self._lines: dict[str, _Lines] = {}

    def heading(self, text: str) -> None:
        """Begin another item's log."""
        if not self._json:
            self.end()
            sys.stdout.write(output.paint(f"==> {output.clean(text)} <==", output.BOLD) + "\n")
            sys.stdout.flush()

    def show(self, view: ExecutionView, chunk: LogChunkView) -> None:
        """Write one chunk."""
        if self._only is not None and chunk["stream"] != self._only:
            return
        if self._json:
            text = b64decode(chunk["data"]).decode(errors="replace")
            output.write_line(
                {"type": "log", "execution_id": view["id"], "index": view["index"], "text": text, **chunk}
            )
            return
        if chunk["stream"] == Stream.SYSTEM:
            output.say(b64decode(chunk["data"]).decode(errors="replace").rstrip("\n"))
            return
        file = sys.stderr if chunk["stream"] == Stream.STDERR else sys.stdout
        plain = self._raw or not output.is_terminal(file)
        if plain and not self._timestamps:
            file.flush()
            data = memoryview(b64decode(chunk["data"]))
            while data:
                data = data[os.write(file.fileno(), data) :]
            return
        lines = self._lines.setdefault(chunk["stream"], _Lines())
        for line in lines.feed(b64decode(chunk["data"]), chunk["at"]):
            self._write(chunk["stream"], line, plain=plain)

    def _write(self, stream: str, line: tuple[str, str], *, plain: bool) -> None:
        at, text = line
        file = sys.stderr if stream == Stream.STDERR else sys.stdout
        shown = text if plain else output.clean(text.rstrip("\r").rpartition("\r")[2].replace("\t", "    "))
        if self._timestamps:
            moment = parse_time(at)
            local = moment if self._utc else moment.astimezone()
            shown = f"{output.paint(local.isoformat(timespec='milliseconds'), output.DIM, file)} {shown}"
        file.write(shown + "\n")
        file.flush()

    def end(self) -> None:
        """Write what has no end of line yet."""
        for stream, lines in self._lines.items():
            file = sys.stderr if stream == Stream.STDERR else sys.stdout
            for line in lines.rest():
                self._write(stream, line, plain=self._raw or not output.is_terminal(file))
        self._lines = {}


class _Lines:
    """Cuts chunks into lines, each with the time of the chunk that completed it."""

    def __init__(self) -> None:
        self._decoder = _DECODER("replace")
        self._open = ""
        self._at = ""

    def feed(self, data: bytes, at: str) -> list[tuple[str, str]]:
        text = self._open + self._decoder.decode(data)
        *whole, self._open = text.split("\n")
        self._at = at
        return [(at, line) for line in whole]

    def rest(self) -> list[tuple[str, str]]:
        text = self._open + self._decoder.decode(b"", final=True)
        self._open = ""
        return [(self._at, text)] if text else []
