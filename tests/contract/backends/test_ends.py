"""How runs end: codes, signals, limits, and that nothing is left."""

from __future__ import annotations

import asyncio
import signal
from datetime import UTC, datetime

import pytest

from rgrid_runner.backends.base import UnknownRun
from rgrid_shared.states import FailureClass, Stream

from .conftest import Bench, joined, until

FOREVER = "import time\nprint('up')\nwhile True: time.sleep(1)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + FOREVER
DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        {prelude}
        os.write(3, str(os.getpid()).encode())
        time.sleep(1000)
    os._exit(0)
os.wait()
"""


@pytest.mark.parametrize("code", [0, 1, 3, 255])
async def test_exit_code_is_the_script_s(bench: Bench, code: int) -> None:
    """The code comes through, and only 0 is no failure."""
    end, _, _ = await bench.run(f"raise SystemExit({code})")
    assert end.exit_code == code
    assert end.signal is None
    assert end.failure is (FailureClass.SCRIPT if code else None)


@pytest.mark.parametrize("signum", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1])
async def test_death_by_signal_is_told_as_a_shell_does(bench: Bench, signum: signal.Signals) -> None:
    """A script that a signal killed has code 128 + n, and the signal's name is in the message."""
    end, _, _ = await bench.run(f"import os; os.kill(os.getpid(), {int(signum)})")
    assert (end.exit_code, end.signal) == (128 + signum, signum)
    assert end.failure is FailureClass.SCRIPT
    assert signum.name in end.message


async def test_traceback_is_in_the_tail(bench: Bench) -> None:
    """The end of stderr is at hand for messages."""
    end, _, err = await bench.run("print('x' * 9000, file=__import__('sys').stderr); 1/0")
    assert end.stderr_tail.endswith("ZeroDivisionError: division by zero\n")
    assert end.stderr_tail.encode() == err[-4096:]


async def test_times_and_usage_are_measured(bench: Bench) -> None:
    """Wall time, processor time and memory of the script and its children are told."""
    before = datetime.now(UTC)
    code = """
import os
if not os.fork():
    b = bytearray(80_000_000)
    for i in range(2_000_000): pass
    os._exit(0)
os.wait()
"""
    end, _, _ = await bench.run(code)
    assert before <= end.started_at <= end.ended_at <= datetime.now(UTC)
    assert end.wall_ms >= 10
    assert end.cpu_ms >= 10
    assert end.max_rss >= 80_000_000


async def test_timeout_ends_a_script(bench: Bench) -> None:
    """A script over its time gets TERM and its class is TIMEOUT, whatever code it then exits with."""
    code = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n" + FOREVER
    end, out, _ = await bench.run(code, timeout_s=0.3)
    assert out == b"up\n"
    assert end.failure is FailureClass.TIMEOUT
    assert end.exit_code == 0
    assert 300 <= end.wall_ms < 3000


async def test_ignored_term_is_followed_by_kill(bench: Bench) -> None:
    """A script that ignores TERM is killed when the grace is over."""
    end, _, _ = await bench.run(DEAF, timeout_s=0.3, grace_s=0.3)
    assert end.failure is FailureClass.TIMEOUT
    assert end.signal == signal.SIGKILL
    assert end.wall_ms >= 600


async def test_kill_ends_a_script_with_the_given_reason(bench: Bench) -> None:
    """kill() asks with TERM; the first reason stays."""
    key = await bench.start("import sys\ntry:\n  print('up'); import time; time.sleep(100)\nfinally:\n  print('bye')")
    await bench.first_line(key)
    await bench.backend.kill(key, FailureClass.CANCELLED)
    await bench.backend.kill(key, FailureClass.PREEMPTED)
    end, _, _ = await bench.finish(key)
    assert end.failure is FailureClass.CANCELLED
    assert end.exit_code == 128 + signal.SIGTERM


async def test_kill_after_the_end_changes_nothing(bench: Bench) -> None:
    """A run that has ended stays as it ended."""
    key = await bench.start("raise SystemExit(7)")
    before = await bench.backend.wait(key)
    await bench.backend.kill(key, FailureClass.CANCELLED)
    assert await bench.backend.wait(key) == before


async def test_memory_limit_kills(bench: Bench) -> None:
    """A script over its memory limit, children counted, ends as OOM."""
    code = """
import os, time
os.fork()
b = bytearray(60_000_000)
for i in range(0, len(b), 4096): b[i] = 1
time.sleep(100)
"""
    end, _, _ = await bench.run(code, memory=100_000_000)
    assert end.failure is FailureClass.OOM
    assert end.max_rss > 99_000_000


async def test_memory_shared_by_forks_counts_once(bench: Bench) -> None:
    """Forks that share their parent's memory are not charged for it again."""
    code = """
import os, time
b = bytearray(60_000_000)
for i in range(0, len(b), 4096): b[i] = 1
for _ in range(3):
    if not os.fork(): time.sleep(1); os._exit(0)
for _ in range(3): os.wait()
"""
    end, _, _ = await bench.run(code, memory=120_000_000)
    assert end.failure is None


@pytest.mark.parametrize("prelude", ["pass", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"])
@pytest.mark.parametrize("stops", ["exits", "is killed"])
async def test_a_daemon_does_not_outlive_its_run(bench: Bench, stops: str, prelude: str) -> None:
    """A double-forked process with a session of its own is dead when the run has ended."""
    note = bench.work / "pid"
    code = "import os; os.dup2(os.open('pid', os.O_CREAT | os.O_WRONLY), 3)\n" + DAEMON.format(prelude=prelude)
    key = await bench.start(code + (FOREVER if stops == "is killed" else ""))
    await until(lambda: note.exists() and note.read_text() != "")
    pid = int(note.read_text())
    if stops == "is killed":
        assert bench.alive(pid)
        await bench.backend.kill(key, FailureClass.CANCELLED)
    end = await bench.backend.wait(key)
    assert end.exit_code == (0 if stops == "exits" else 128 + signal.SIGTERM)
    assert not bench.alive(pid)


async def test_background_process_that_holds_stdout_does_not_hold_the_run(bench: Bench) -> None:
    """What a script leaves behind has about a second to finish its output; then the run ends without it."""
    code = "import subprocess; print(subprocess.Popen(['sleep', '1000']).pid)"
    async with asyncio.timeout(10):
        end, out, _ = await bench.run(code)
    assert end.failure is None
    assert not bench.alive(int(out))


async def test_background_output_within_the_second_is_kept(bench: Bench) -> None:
    """A child that goes on writing for a moment after the script's exit is still heard."""
    _, out, _ = await bench.run("import subprocess; subprocess.Popen(['sh', '-c', 'sleep 0.2; echo late'])")
    assert out == b"late\n"


async def test_a_run_that_keeps_changing_its_pid_is_caught(bench: Bench) -> None:
    """A program that forks and exits without end cannot outrun kill."""
    code = """
import os, time
if os.fork():
    while True: time.sleep(1)
print('up')
if os.fork(): os._exit(0)
os.setsid()
while True:
    if os.fork(): os._exit(0)
"""
    key = await bench.start(code)
    await bench.first_line(key)
    async with asyncio.timeout(10):
        await bench.backend.kill(key, FailureClass.CANCELLED)
        assert (await bench.backend.wait(key)).failure is FailureClass.CANCELLED


async def test_orphans_do_not_pile_up(bench: Bench) -> None:
    """Children whose parent is gone are reaped while the script goes on."""
    code = """
import os, time
orphans = []
for _ in range(50):
    r, w = os.pipe()
    if os.fork() == 0:
        orphan = os.fork()
        if orphan: os.write(w, str(orphan).encode())
        os._exit(0)
    os.wait()
    orphans.append(os.read(r, 20).decode())
print(*orphans)
time.sleep(1000)
"""
    key = await bench.start(code)
    orphans = list(map(int, (await bench.first_line(key)).split()))
    assert len(orphans) == 50
    await until(lambda: not any(map(bench.state_of, orphans)))


async def test_clean_kills_and_forgets(bench: Bench) -> None:
    """After clean nothing runs, the spool is gone and the key is unknown."""
    order = bench.python_order("import os; print(os.getpid())\n" + DEAF, grace_s=60)
    await bench.backend.start(order)
    pid = int(await bench.first_line(order.key))
    async with asyncio.timeout(10):
        await bench.backend.clean(order.key)
    assert not bench.alive(pid)
    assert not order.spool.exists()
    with pytest.raises(UnknownRun):
        await bench.backend.wait(order.key)
    assert await bench.succeed() == []


async def test_one_slot_serves_many_runs(bench: Bench) -> None:
    """Runs one after another do not disturb each other."""
    for index in range(20):
        end, out, _ = await bench.run(f"print({index})")
        assert (end.failure, out) == (None, f"{index}\n".encode())


async def test_many_runs_at_once(bench: Bench) -> None:
    """Concurrent runs each get their own output and code."""
    ends = await asyncio.gather(*(bench.run(f"print({i}); raise SystemExit({i})") for i in range(8)))
    assert [end.exit_code for end, _, _ in ends] == list(range(8))
    assert [int(out) for _, out, _ in ends] == list(range(8))


async def test_end_is_seen_by_all_who_wait(bench: Bench) -> None:
    """Several may wait and stream the same run."""
    key = await bench.start("print('x'); raise SystemExit(2)")
    ends = await asyncio.gather(bench.backend.wait(key), bench.backend.wait(key))
    assert ends[0] == ends[1]
    assert joined(await bench.chunks(key), Stream.STDOUT) == b"x\n"
