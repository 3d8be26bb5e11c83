"""What the script's stdin will be, told from the command's own."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from rgrid.submit import stdin


def test_a_file_is_a_blob(tmp_path: Path) -> None:
    """A redirected file is taken as a file, by its descriptor."""
    (tmp_path / "f").write_text("hello")
    with (tmp_path / "f").open("rb") as file:
        kind = stdin.detect(file.fileno())
        assert Path(kind.removeprefix("file:")).read_text() == "hello"
        stdin.discard(kind)
    assert (tmp_path / "f").exists()


def test_what_is_left_of_a_file_is_copied_and_not_consumed(tmp_path: Path) -> None:
    """In a shell's ``while read`` loop the script gets the rest, and the loop goes on."""
    (tmp_path / "f").write_text("one\ntwo\n")
    with (tmp_path / "f").open("rb", buffering=0) as file:
        file.read(4)
        kind = stdin.detect(file.fileno())
        copy = Path(kind.removeprefix("file:"))
        assert copy.read_text() == "two\n"
        assert file.read() == b"two\n"
        stdin.discard(kind)
    assert not copy.exists()


def test_pipes_and_sockets_are_streams() -> None:
    """What has no end yet is streamed after submission."""
    reading, writing = os.pipe()
    left, right = socket.socketpair()
    try:
        assert stdin.detect(reading) == "stream"
        assert stdin.detect(left.fileno()) == "stream"
        assert not stdin.has_data(reading)
        os.write(writing, b"x")
        assert stdin.has_data(reading)
    finally:
        os.close(reading)
        os.close(writing)
        left.close()
        right.close()


def test_nothing_is_nothing(tmp_path: Path) -> None:
    """``/dev/null``, an empty file, a file read to its end, and a closed descriptor are no stdin."""
    with Path("/dev/null").open("rb") as null:
        assert stdin.detect(null.fileno()) == ""
    (tmp_path / "f").write_text("")
    with (tmp_path / "f").open("rb") as empty:
        assert stdin.detect(empty.fileno()) == ""
        descriptor = empty.fileno()
    assert stdin.detect(descriptor) == ""


def test_a_terminal_is_nothing() -> None:
    """A terminal is never read."""
    parent, child = os.openpty()
    try:
        assert stdin.detect(child) == ""
    finally:
        os.close(parent)
        os.close(child)
