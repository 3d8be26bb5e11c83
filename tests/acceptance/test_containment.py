"""Scripts that take all they can get: each is stopped in time, for the right reason, and its neighbour does not notice.

The neighbour runs in a container of its own, beside the hostile script, and counts how long it was kept waiting.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import pytest
from support.ward import MIB, Ward

from rgrid_runner.backends.base import Exit
from rgrid_shared.states import FailureClass

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONTAINED_S = 15.0
PACE_S = 2.0
"""A neighbour that does a little every 20 ms is never kept from it for longer, on a machine of two busy cores."""
TICKS = """
import time
last, worst, count = time.monotonic(), 0.0, 0
print("up", flush=True)
while not os.path.exists("stop"):
    time.sleep(0.02)
    now = time.monotonic()
    worst, last, count = max(worst, now - last), now, count + 1
print(worst, count)
"""
FORK_BOMB = """
print("up", flush=True)
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
FILLS = {
    "/tmp": "place = '/tmp/fill'",
    "/dev/shm": "place = '/dev/shm/fill'",
    "the workspace": "place = 'fill'",
}
FILL = """
block = bytes(1 << 20)
with open(place, "wb", buffering=0) as file:
    for _ in range(4096):
        file.write(block)
"""


@dataclass(frozen=True)
class Contained:
    """How a hostile script ended, beside a neighbour that did its work."""

    exit: Exit
    err: str
    seconds: float


async def beside_a_neighbour(ward: Ward, code: str, *, kill: bool = False, **changes: Any) -> Contained:
    """Run a hostile script; fails unless it is over in time and the neighbour kept its pace, in another batch."""
    neighbour = await ward.start(TICKS)
    await ward.up(neighbour)
    started = time.monotonic()
    key = await ward.start(code, **changes)
    if kill:
        await ward.up(key)
        await ward.backend.kill(key, FailureClass.CANCELLED)
    async with asyncio.timeout(60):
        ended, _, err = await ward.end(key)
    seconds = time.monotonic() - started
    (ward.workspace(neighbour) / "stop").touch()
    calm, out, said = await ward.end(neighbour)
    assert calm.failure is None, said
    worst, count = map(float, out.split()[-2:])
    assert worst < PACE_S, f"the neighbour stood still for {worst:.1f} s"
    assert count >= min(seconds, CONTAINED_S) / 0.02 / 10
    assert seconds < CONTAINED_S
    return Contained(ended, err, seconds)


async def test_a_fork_bomb_is_contained(ward: Ward) -> None:
    """It reaches the limit of processes, and the timeout ends all of it."""
    done = await beside_a_neighbour(ward, FORK_BOMB, timeout_s=2.0)
    assert done.exit.failure is FailureClass.TIMEOUT


async def test_a_fork_bomb_that_is_cancelled_is_dead(ward: Ward) -> None:
    """Killing outruns forking."""
    done = await beside_a_neighbour(ward, FORK_BOMB, kill=True)
    assert done.exit.failure is FailureClass.CANCELLED


async def test_filling_memory_ends_the_script_alone(ward: Ward) -> None:
    """The class says memory, and the message names the limit."""
    code = "held = []\nwhile True: held.append(bytearray(os.urandom(1 << 16) * 128))"
    done = await beside_a_neighbour(ward, code, memory=128 * MIB)
    assert done.exit.failure is FailureClass.OOM
    assert "128 MiB" in done.exit.message


async def test_memory_filled_by_a_child_counts_as_the_scripts(ward: Ward) -> None:
    """It is told as memory, not as the exit code that the parent then has."""
    code = (
        "import subprocess\n"
        "subprocess.run([sys.executable, '-c', 'x = []\\nwhile True: x.append(bytearray(8 << 20))'], check=True)"
    )
    done = await beside_a_neighbour(ward, code, memory=128 * MIB)
    assert done.exit.failure is FailureClass.OOM


@pytest.mark.parametrize("place", FILLS.values(), ids=FILLS)
async def test_filling_a_disk_ends_at_its_size(ward: Ward, place: str) -> None:
    """/tmp, /dev/shm and the workspace have an end; the script has the error that a full disk gives."""
    done = await beside_a_neighbour(ward, f"{place}\n{FILL}", disk=128 * MIB)
    assert done.exit.failure is FailureClass.SCRIPT
    assert "No space left on device" in done.err


async def test_tmp_beyond_the_memory_limit_counts_as_memory(ward: Ward) -> None:
    """What lies in /tmp is the script's memory: it is no way around the limit."""
    done = await beside_a_neighbour(ward, f"place = '/tmp/fill'\n{FILL}", memory=48 * MIB)
    assert done.exit.failure is FailureClass.OOM


async def test_a_million_files_end_at_the_disks_number(ward: Ward) -> None:
    """Small files have an end too, long before they trouble the host; cleaning them up is quick."""
    code = "for number in range(1_000_000):\n    os.close(os.open(f'{number}', os.O_CREAT | os.O_WRONLY))"
    done = await beside_a_neighbour(ward, code, disk=64 * MIB)
    assert done.exit.failure is FailureClass.SCRIPT
    assert "No space left on device" in done.err


async def test_a_script_that_ignores_sigterm_is_killed(ward: Ward) -> None:
    """After its grace, with everything that it started in sessions of their own."""
    code = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(5):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True: time.sleep(1)
        os._exit(0)
print("up", flush=True)
while True: time.sleep(1)
"""
    done = await beside_a_neighbour(ward, code, kill=True)
    assert done.exit.failure is FailureClass.CANCELLED
    assert done.exit.signal == 9


async def test_words_in_the_keepers_stead_are_passed_over(ward: Ward) -> None:
    """A script can write where its keeper tells of its end: that neither ends it nor fills up what the keeper needs."""
    code = """
line = os.open("/rgrid/ctl/status", os.O_WRONLY)
for words in (b"exited 0\\n", b"1 started 1\\n", b"1 failed exec 2\\n", b"1 exited 99999999\\n", b"\\0" * 4096, b"x" * 300000):
    os.write(line, words)
sys.exit(7)
"""
    async with asyncio.timeout(CONTAINED_S):
        ended, _, _ = await ward.run(code)
    assert (ended.exit_code, ended.failure) == (7, FailureClass.SCRIPT), ended.message


async def test_a_lie_about_its_own_end_is_all_that_a_script_can_tell(ward: Ward) -> None:
    """Even the keeper's very words only decide how that script ended: nothing of it lives on, the next is its own."""
    lie = "line = os.open('/rgrid/ctl/status', os.O_WRONLY)\nos.write(line, b'\\n1 exited 0\\n')\n"
    async with asyncio.timeout(CONTAINED_S):
        await ward.run(f"{lie}os.fork()\nimport time\ntime.sleep(0.2)\nsys.exit(7)", batch="liars")
        ended, out, _ = await ward.run("print(os.listdir('/proc').count('1'))\nsys.exit(3)", batch="liars")
    assert (ended.exit_code, out) == (3, "1\n"), ended.message


async def test_signals_to_the_keeper_do_nothing(ward: Ward) -> None:
    """PID 1 of its own container cannot be killed by the script, and says how that ended."""
    code = """
import signal
for number in range(1, 32):
    try:
        os.kill(1, number)
    except OSError:
        pass
print(open("/proc/1/comm").read())
sys.exit(3)
"""
    async with asyncio.timeout(CONTAINED_S):
        ended, out, _ = await ward.run(code)
    assert (ended.exit_code, ended.failure) == (3, FailureClass.SCRIPT), ended.message
    assert out.strip()
