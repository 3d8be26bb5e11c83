"""What rgrid itself prints: notes on stderr, tables and JSON on stdout, and nothing that drives the terminal."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TextIO

from rgrid_shared.errors import RgridError

PREFIX: Final = "rgrid: "
DIM, BOLD, RED, GREEN, YELLOW, BLUE = "2", "1", "31", "32", "33", "34"
_CONTROL: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_SPACE: Final = re.compile(r"[\n\t]")


@dataclass(slots=True)
class Mode:
    """How the running command was asked to print."""

    json: bool = False
    quiet: bool = False


mode: Final = Mode()


def prepare_streams() -> None:
    """Let text that the terminal's encoding cannot show come out escaped instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="backslashreplace")


def clean(text: str, *, lines: bool = False) -> str:
    """``text`` with every character that could drive a terminal written as an escape.

    Control characters of C0 and C1, lone surrogates, and the marks that reorder text. Newlines and tabs too, unless
    ``lines``.
    """
    text = _CONTROL.sub(_escape, text)
    return text if lines else _SPACE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape", "surrogatepass").decode("ascii")


def coloured(stream: TextIO) -> bool:
    """True if colour is wanted on ``stream``: a terminal that can, or ``CLICOLOR_FORCE``; never with ``NO_COLOR``."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("CLICOLOR_FORCE", "0") not in ("", "0"):
        return True
    return is_terminal(stream) and os.environ.get("TERM") != "dumb"


def is_terminal(stream: TextIO) -> bool:
    """True if ``stream`` is open and a terminal."""
    try:
        return stream.isatty()
    except ValueError:
        return False


def lively() -> bool:
    """True if stderr is a terminal that can redraw lines."""
    return is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"


def paint(text: str, code: str, stream: TextIO | None = None) -> str:
    """``text`` in a colour, if ``stream`` (stdout) wants any."""
    return f"\x1b[{code}m{text}\x1b[0m" if coloured(stream or sys.stdout) else text


def say(text: str) -> None:
    """A note of rgrid's own: ``rgrid: …`` on stderr, one line for each line of ``text``, control characters shown."""
    for line in clean(text, lines=True).splitlines() or [""]:
        sys.stderr.write(paint(PREFIX + line, DIM, sys.stderr) + "\n")
    sys.stderr.flush()


def write(text: str) -> None:
    """A line on stdout, control characters shown."""
    sys.stdout.write(clean(text, lines=True) + "\n")


def write_json(document: object) -> None:
    """One JSON document on stdout: indented for a terminal, compact for a pipe."""
    if is_terminal(sys.stdout):
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        write_line(document)


def write_line(document: object) -> None:
    """One line of NDJSON on stdout, sent at once."""
    sys.stdout.write(json.dumps(document, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Aligned columns on stdout; without colour or box. Cells are cleaned; ``paint`` a cell with ``Cell``."""
    cells = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
    widths = [max([width(head), *(width(row[column].text) for row in cells)]) for column, head in enumerate(headers)]
    head = "  ".join(pad(name, wide) for name, wide in zip(headers, widths, strict=True)).rstrip()
    sys.stdout.write(paint(head, DIM) + "\n")
    for row in cells:
        line = "  ".join(
            (paint(cell.text, cell.code) if cell.code else cell.text) + " " * (wide - width(cell.text))
            for cell, wide in zip(row, widths, strict=True)
        )
        sys.stdout.write(line.rstrip() + "\n")


class Cell(str):
    """A table cell with a colour."""

    __slots__ = ("code", "text")

    def __new__(cls, text: str, code: str = "") -> Cell:
        """``text`` is cleaned."""
        cell = super().__new__(cls, text)
        cell.text = clean(text)
        cell.code = code
        return cell

    text: str
    code: str


def width(text: str) -> int:
    """Columns that ``text`` takes on a terminal."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def pad(text: str, columns: int) -> str:
    """``text`` with spaces up to ``columns``."""
    return text + " " * (columns - width(text))


def shorten(text: str, columns: int) -> str:
    """``text`` cleaned, cut to at most ``columns`` characters with an ellipsis."""
    text = clean(text)
    return text if len(text) <= columns else text[: max(0, columns - 1)] + "…"


def show_error(error: RgridError) -> None:
    """What happened, why and what to type next; as JSON on stdout if the command was asked for JSON."""
    if mode.json:
        write_json({"error": error.problem()})
        return
    stream = sys.stderr
    label = paint(PREFIX.rstrip(), RED, stream)
    stream.write(f"{label} {clean(error.message, lines=True).replace(chr(10), chr(10) + PREFIX)}\n")
    if error.hint:
        stream.write(paint(f"{PREFIX}→ {clean(error.hint, lines=True)}", DIM, stream) + "\n")
    stream.flush()


def fields(pairs: Iterable[tuple[str, str]]) -> None:
    """``name  value`` lines on stdout, aligned; pairs without a value are left out."""
    kept = [(name, value) for name, value in pairs if value]
    wide = max((len(name) for name, _ in kept), default=0)
    for name, value in kept:
        code = value.code if isinstance(value, Cell) else ""
        text = clean(value, lines=True).replace("\n", "\n" + " " * (wide + 2))
        sys.stdout.write(f"{paint(pad(name, wide), DIM)}  {paint(text, code) if code else text}\n")


def confirm(question: str, *, yes: bool) -> bool:
    """Ask on a terminal; ``yes`` answers. Off a terminal without ``yes``: raises ``UsageError``, never waits."""
    if yes:
        return True
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        from rgrid_shared.errors import UsageError

        raise UsageError(
            f"{question} This needs an answer, and there is no terminal to ask on.", hint="Add -y to answer yes."
        )
    sys.stderr.write(f"{clean(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
