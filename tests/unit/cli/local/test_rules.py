"""The embedded grid's small decisions."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from rgrid.local import logfiles, parts
from rgrid.local.database import check_major, failure
from rgrid.local.keeper import restart_delay
from rgrid.local.layout import Layout, LocalError
from rgrid.local.programs import Programs, postgres_programs
from rgrid.local.start import newer
from rgrid.local.supervisor import is_idle


def test_restart_delays() -> None:
    """The first restart is at once, the next wait longer and longer, but never over ten seconds."""
    delays = [restart_delay(failures) for failures in range(12)]
    assert delays[:4] == [0.0, 0.0, 0.2, 0.4]
    assert delays == sorted(delays)
    assert delays[-1] == 10.0


@pytest.mark.parametrize(
    ("activity", "idle"),
    [
        ({"open_executions": 0, "idle_s": 1801.0}, True),
        ({"open_executions": 0, "idle_s": 1799.0}, False),
        ({"open_executions": 1, "idle_s": 9999.0}, False),
        ({"open_executions": 0}, False),
        ({}, False),
    ],
)
def test_idle(activity: dict[str, object], idle: bool) -> None:
    """A grid stops by itself only if nothing is open and nobody asked for half an hour; unknown means used."""
    assert is_idle(activity, 1800.0) is idle


@pytest.mark.parametrize(
    ("mine", "theirs", "is_newer"),
    [("0.2.0", "0.1.0", True), ("0.10.0", "0.9.1", True), ("0.1.0", "0.1.0", False), ("0.1.0", "0.2.0", False)],
)
def test_newer(mine: str, theirs: str, is_newer: bool) -> None:
    """Versions are compared by number, not by letter."""
    assert newer(mine, theirs) is is_newer


def test_port_is_kept() -> None:
    """A port that is still free is taken again; one that is in use is not."""
    free = parts.pick_port(0)
    assert parts.pick_port(free) == free
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert parts.pick_port(taken.getsockname()[1]) != taken.getsockname()[1]


def test_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the user's for another server, database or store reaches a part."""
    for name in ("RGRID_SERVER", "RGRID_API_KEY", "PGHOST", "PGDATA", "RCLONE_CONFIG", "MINIO_ROOT_USER"):
        monkeypatch.setenv(name, "other")
    monkeypatch.setenv("HTTPS_PROXY", "kept")
    env = parts.base_environment(Layout(tmp_path), parts.API)
    assert "other" not in env.values()
    assert env["HTTPS_PROXY"] == "kept"


def test_log_is_cut(tmp_path: Path) -> None:
    """A log over its limit is moved aside, and what is written next lands at the start of the same file."""
    path = tmp_path / "api.log"
    handle = logfiles.open_for_append(path)
    with open(handle, "wb", buffering=0) as log:
        log.write(b"old\n" * 100)
        assert not logfiles.keep_small(path, limit=400)
        log.write(b"!")
        assert logfiles.keep_small(path, limit=400)
        log.write(b"new\n")
    assert path.read_bytes() == b"new\n"
    assert (tmp_path / "api.log.1").read_bytes().endswith(b"old\n!")
    assert logfiles.tail(path) == "new"


def test_another_major(tmp_path: Path) -> None:
    """Data of another PostgreSQL is refused with both versions and the way to export."""
    layout = Layout(tmp_path)
    layout.database.mkdir(parents=True)
    (layout.database / "PG_VERSION").write_text("16\n")
    with pytest.raises(LocalError, match="PostgreSQL 16; this rgrid brings 18") as caught:
        check_major(layout, Programs(tmp_path, 18, tmp_path, "rclone"))
    assert "Export" in caught.value.hint
    check_major(layout, Programs(tmp_path, 16, tmp_path, "rclone"))


def test_newest_postgres() -> None:
    """The wheel's PostgreSQL programs are found by their version."""
    found = postgres_programs()
    assert max(found) >= 18
    assert (found[max(found)] / "initdb").exists()


def test_part_out_of_space(tmp_path: Path) -> None:
    """A part that ends for lack of space is reported as a full disk."""
    error = failure(
        "The database could not be made", "initdb: could not write: No space left on device", Layout(tmp_path)
    )
    assert "is full" in error.message
