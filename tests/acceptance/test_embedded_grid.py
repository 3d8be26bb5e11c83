"""The embedded grid as its user meets it: real PostgreSQL, S3 server, control plane and runner in a home of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.grid import Grid
from support.waiting import until

from rgrid.local import processes, recovery
from rgrid.local.layout import Layout
from rgrid.local.record import GridRecord, read_record, write_record
from rgrid.local.start import lock_holder

FIRST_START_S = 5.0
LATER_START_S = 2.0


@pytest.fixture
def own() -> Iterator[Grid]:
    """An empty home directory; whatever grid a test starts in it is stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="rgrid-own-") as folder:
        grid = Grid(Path(folder))
        yield grid
        grid.rgrid("down", "--force")
        assert recovery.leftovers(layout_of(grid)) == []
        assert recovery.scripts(layout_of(grid)) == []


def layout_of(grid: Grid) -> Layout:
    """The paths of a test's grid."""
    return Layout(grid.home)


def record_of(grid: Grid) -> GridRecord:
    """What runs; fails if nothing does."""
    record = read_record(layout_of(grid).record)
    assert record is not None
    assert record.alive
    return record


def hello(grid: Grid) -> Path:
    """A script beside the grid's home."""
    script = grid.home / "hello.py"
    script.write_text("print('hello')\n")
    return script


def doctor(grid: Grid) -> dict[str, dict[str, Any]]:
    """The answers of ``rgrid doctor --json`` by name."""
    document = grid.rgrid("doctor", "--json").json
    assert isinstance(document, dict)
    return {check["name"]: check for check in document["checks"]}


def test_up_doctor_down(own: Grid) -> None:
    """A grid starts within its time, every part of it works, and it stops without a trace of a process."""
    began = time.monotonic()
    up = own.rgrid("up")
    first = time.monotonic() - began
    assert up.code == 0, up.errors
    assert record_of(own).url in up.text
    checks = doctor(own)
    assert [name for name, check in checks.items() if check["ok"] is False] == []
    assert {"directory", "database", "object store", "server", "key", "runners", "uv", "disk space"} <= set(checks)
    assert own.rgrid("doctor").code == 0

    down = own.rgrid("down")
    assert (down.code, down.text) == (0, "The grid is stopped.\n")
    began = time.monotonic()
    assert own.rgrid("up", "-q").code == 0
    later = time.monotonic() - began
    assert own.rgrid("down").code == 0
    assert own.rgrid("down").text == "The grid was not running.\n"
    # On a machine that is busy with other things the yardstick is what importing the control plane takes just now.
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import rgrid_api.server"], check=True)
    yardstick = time.monotonic() - began
    assert first < max(FIRST_START_S, 8 * yardstick)
    assert later < max(LATER_START_S, 5 * yardstick)


def test_private_and_on_loopback(own: Grid) -> None:
    """Nobody else on the machine can read the grid's keys, and it listens on no other address than loopback."""
    own.rgrid("up")
    layout = layout_of(own)
    assert layout.root.stat().st_mode & 0o077 == 0
    assert layout.secrets.stat().st_mode & 0o077 == 0
    keys = json.loads(layout.secrets.read_text())
    for pid in record_of(own).parts.values():
        command = " ".join(processes.command_of(pid))
        assert not any(key in command for key in keys.values())
    assert {host for host, _ in listening(record_of(own).parts.values())} == {"127.0.0.1"}


def listening(pids: Any) -> set[tuple[str, int]]:
    """The TCP addresses that these processes listen on."""
    import psutil

    return {
        (found.laddr.ip, found.laddr.port)
        for pid in pids
        for found in psutil.Process(pid).net_connections("tcp")
        if found.status == psutil.CONN_LISTEN
    }


def test_two_shells_at_once(own: Grid) -> None:
    """Four commands that all find no grid start one together and all of them work."""
    script = hello(own)
    started = [own.start("run", str(script), cwd=own.home) for _ in range(4)]
    ended = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0, 0], ended
    assert [out for out, _ in ended] == [b"hello\n"] * 4
    log = layout_of(own).log("supervisor").read_text()
    assert log.count(" up at ") == 1
    assert sum(b"starting the embedded grid" in err for _, err in ended) == 1


def test_started_by_run(own: Grid) -> None:
    """``rgrid run`` alone starts a grid, says so in one line on stderr, and the script's output stays its own."""
    ran = own.rgrid("run", str(hello(own)))
    assert (ran.code, ran.out) == (0, b"hello\n"), ran.errors
    starting = f"rgrid: starting the embedded grid in {layout_of(own).root}"
    assert [line for line in ran.errors.splitlines() if "embedded grid" in line] == [starting]
    assert record_of(own).auto
    again = own.rgrid("run", str(hello(own)))
    assert again.code == 0
    assert "embedded grid" not in again.errors
    assert own.rgrid("up").code == 0
    assert until(lambda: not record_of(own).auto, what="a grid that up was asked for stays")


def test_idle_stop(own: Grid) -> None:
    """A grid that started by itself stops when nobody uses it; the next command finds everything that was there."""
    impatient = replace(own, extra={"RGRID_LOCAL_IDLE_S": "1"})
    assert impatient.rgrid("run", str(hello(own))).code == 0
    pid, mark = lock_holder(layout_of(own))
    assert until(lambda: not processes.is_alive(pid, mark), seconds=60, what="the idle grid stops")
    assert recovery.leftovers(layout_of(own)) == []
    listed = own.rgrid("list", "--json")
    assert listed.code == 0, listed.errors
    assert len(listed.json["batches"]) == 1  # type: ignore[index]


def test_open_work_is_no_idleness(own: Grid) -> None:
    """A grid in which something runs does not stop, however long nobody asks."""
    impatient = replace(own, extra={"RGRID_LOCAL_IDLE_S": "1"})
    script = own.home / "wait.py"
    script.write_text("import pathlib, time\nwhile not pathlib.Path('/nowhere').exists(): time.sleep(0.05)\n")
    ran = impatient.rgrid("run", "--detach", "--quiet", str(script))
    assert ran.code == 0, ran.errors
    pid, mark = lock_holder(layout_of(own))
    assert not processes.wait_gone(pid, mark, 4.0)
    assert own.rgrid("cancel", ran.text.strip(), "-y").code == 0
    assert until(lambda: not processes.is_alive(pid, mark), seconds=60, what="the grid stops after the cancel")


@pytest.mark.parametrize("part", ["database", "store", "api", "runner"])
def test_part_crashes(own: Grid, part: str) -> None:
    """A part that is killed is started again, and the grid works as before."""
    own.rgrid("up")
    before = record_of(own)
    os.kill(before.parts[part], signal.SIGKILL)
    assert until(lambda: (now := record_of(own).parts).get(part) not in {None, before.parts[part]} and now)
    assert record_of(own).url == before.url
    assert until(lambda: own.rgrid("doctor").code == 0, seconds=30, what="every part works again")
    ran = own.rgrid("run", str(hello(own)))
    assert (ran.code, ran.out) == (0, b"hello\n"), ran.errors


def test_supervisor_killed(own: Grid) -> None:
    """After the supervisor was killed the next command takes over: same address, same data, no part left twice."""
    ran = own.rgrid("run", str(hello(own)))
    assert ran.code == 0, ran.errors
    before = record_of(own)
    os.kill(before.pid, signal.SIGKILL)
    assert until(lambda: not before.alive)
    again = own.rgrid("run", str(hello(own)))
    assert (again.code, again.out) == (0, b"hello\n"), again.errors
    after = record_of(own)
    assert after.url == before.url
    assert not set(after.parts.values()) & set(before.parts.values())
    assert {one.pid for one in recovery.leftovers(layout_of(own))} == set(after.parts.values())
    assert len(own.rgrid("list", "--json").json["batches"]) == 2  # type: ignore[index]


def test_everything_killed(own: Grid) -> None:
    """After a power cut, as far as one can be had, the grid comes up with everything that was acknowledged."""
    ran = own.rgrid("run", str(hello(own)))
    assert ran.code == 0, ran.errors
    record = record_of(own)
    family = [record.pid, *record.parts.values()]
    for pid in family:
        os.kill(pid, signal.SIGKILL)
    for pid, _ in recovery.scripts(layout_of(own)):
        os.kill(pid, signal.SIGKILL)
    assert until(lambda: not any(processes.mark_of(pid) for pid in family))
    logs = own.rgrid("logs", "last")
    assert (logs.code, logs.out) == (0, b"hello\n"), logs.errors


def test_stale_lock_file_of_another_process(own: Grid) -> None:
    """A PostgreSQL lock file that names a living process of somebody else's does not keep the grid from starting."""
    own.rgrid("up")
    own.rgrid("down")
    pidfile = layout_of(own).database / "postmaster.pid"
    pidfile.write_text(f"{os.getpid()}\n{layout_of(own).database}\n1700000000\n5432\n/tmp\n\n  1 1\nready   \n")
    up = own.rgrid("up")
    assert up.code == 0, up.errors


def test_half_made_database(own: Grid) -> None:
    """What a killed first start left of a database is made anew."""
    layout = layout_of(own)
    (layout.database / "base").mkdir(parents=True)
    layout.root.chmod(0o700)
    up = own.rgrid("up")
    assert up.code == 0, up.errors


def test_long_home(own: Grid) -> None:
    """A home directory whose path is longer than a socket's address may be works all the same."""
    far = own.home.joinpath(*["a-rather-long-directory-name"] * 6)
    far.mkdir(parents=True)
    distant = Grid(far)
    try:
        ran = distant.rgrid("run", str(hello(own)))
        assert (ran.code, ran.out) == (0, b"hello\n"), ran.errors
    finally:
        down = distant.rgrid("down", "--delete-data", "-y")
    assert down.code == 0, down.errors
    assert not Layout(far).sockets.exists()


def test_delete_data(own: Grid) -> None:
    """Deleting asks first; then nothing is left, and the next start is a first one."""
    own.rgrid("up")
    refused = own.rgrid("down", "--delete-data")
    assert refused.code == 2
    assert "-y" in refused.errors
    assert record_of(own)
    assert own.rgrid("down", "--delete-data", "-y").code == 0
    assert not layout_of(own).root.exists()
    assert own.rgrid("up").code == 0


def test_work_survives_down(own: Grid) -> None:
    """What is open when the grid goes down is finished after it came up again."""
    gate = own.home / "gate"
    script = own.home / "wait.py"
    script.write_text(
        f"import pathlib, time\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.05)\nprint('done')\n"
    )
    ran = own.rgrid("run", "--detach", "--quiet", str(script))
    assert ran.code == 0, ran.errors
    batch = ran.text.strip()
    assert until(lambda: own.rgrid("status", batch, "--json").json["counts"]["running"] == 1)  # type: ignore[index]
    down = own.rgrid("down")
    assert "1 execution is open and will go on at the next start." in down.text
    gate.touch()
    waited = own.rgrid("wait", batch)
    assert waited.code == 0, waited.errors
    assert own.rgrid("logs", batch).out == b"done\n"


def test_newer_rgrid(own: Grid) -> None:
    """A newer rgrid restarts a grid that nobody uses, and uses a busy one as it is."""
    own.rgrid("up")
    older = replace(record_of(own), version="0.0.9")
    script = own.home / "wait.py"
    script.write_text("import time\nwhile True: time.sleep(0.05)\n")
    batch = own.rgrid("run", "--detach", "--quiet", str(script)).text.strip()
    write_record(layout_of(own).record, older)
    busy = own.rgrid("status", batch)
    assert "takes over when idle" in busy.errors
    assert record_of(own).pid == older.pid
    own.rgrid("cancel", batch, "-y")
    said = own.rgrid("wait", batch).errors + own.rgrid("list").errors
    assert "restarting the embedded grid: 0.0.9 →" in said
    assert record_of(own).pid != older.pid
    assert not older.alive
    assert not record_of(own).auto


def test_doctor_says_what_is_wrong(own: Grid) -> None:
    """Doctor names what is broken and what to do, and its exit code says so."""
    own.rgrid("up")
    own.rgrid("down")
    asleep = doctor(own)
    assert asleep["embedded grid"]["ok"] is None
    assert own.rgrid("doctor").code == 0
    layout_of(own).secrets.chmod(0o644)
    open_to_all = doctor(own)["directory"]
    assert open_to_all["ok"] is False
    assert "chmod 600" in open_to_all["hint"]
    nobody = own.rgrid("doctor", "--json", env={"RGRID_SERVER": "http://127.0.0.1:9", "RGRID_API_KEY": "rgr_x"})
    assert nobody.code == 1
    assert nobody.json["ok"] is False  # type: ignore[index]


def test_foreground(own: Grid) -> None:
    """In the foreground the grid lives as long as its command, which leaves on a signal with 0."""
    with own.start("up", "--foreground", cwd=own.home) as process:
        try:
            assert until(lambda: layout_of(own).record.exists() or process.poll() is not None, seconds=60)
            assert process.poll() is None, process.communicate()
            assert record_of(own).pid == process.pid
            second = own.rgrid("up", "--foreground")
            assert second.code != 0
            assert "already runs" in second.errors
        finally:
            process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said


def test_not_installed(own: Grid, tmp_path: Path) -> None:
    """A laptop with `rgrid` alone is told how to get the embedded grid, or to name a server."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\nfound = u.find_spec\n"
        "u.find_spec = lambda name, package=None: None if name == 'rgrid_api' else found(name, package)\n"
    )
    ran = own.rgrid("up", env={"PYTHONPATH": str(tmp_path)})
    assert ran.code == 125
    assert "pip install 'rgrid[local]'" in ran.errors
    assert "Traceback" not in ran.errors


def test_disk_full(tmp_path: Path) -> None:
    """A disk that fills up while the database is made is said in words, and nothing stays behind."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=290m", "tmpfs", str(tmp_path)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted: {done.stderr.strip()}")
    try:
        small = Grid(tmp_path / "home")
        small.home.mkdir()
        (tmp_path / "ballast").write_bytes(bytes(20 << 20))
        probe = small.rgrid("up", cwd=tmp_path)
        assert probe.code == 0, probe.errors
        small.rgrid("down", "--delete-data", "-y", cwd=tmp_path)
        (tmp_path / "ballast").write_bytes(bytes(280 << 20))
        full = small.rgrid("up", cwd=tmp_path)
        assert full.code == 125
        assert "MiB free; the embedded grid needs" in full.errors or "is full" in full.errors
        assert recovery.leftovers(Layout(small.home)) == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)
