"""What holds scripts: shims, which may be killed, and their guards, which may be killed too."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from rgrid_shared.states import FailureClass

from .conftest import Bench, opened, state_of, until

DAEMON = """
import os, time
print(os.getpid())
if not os.fork():
    os.setsid()
    if not os.fork():
        print(os.getpid())
        time.sleep(1000)
    os._exit(0)
time.sleep(1000)
"""


def parent_of(pid: int) -> int:
    """A shim's parent is its guard."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


async def start_with_daemon(bench: Bench) -> tuple[str, int, int]:
    """A script with a daemon beside it: key and both pids."""
    key = await bench.start(DAEMON)
    text = b""
    async for chunk in bench.backend.stream(key, 0):
        text += chunk.data
        if text.count(b"\n") == 2:
            break
    script, daemon = map(int, text.split())
    return key, script, daemon


async def test_a_killed_shim_takes_its_script_along(bench: Bench) -> None:
    """Without its shim a script and all it started are killed, and the run ends as INFRASTRUCTURE with its log."""
    key, script, daemon = await start_with_daemon(bench)
    os.kill(bench.shim(key), signal.SIGKILL)
    async with asyncio.timeout(10):
        end, out, _ = await bench.finish(key)
    assert (end.failure, end.exit_code) == (FailureClass.INFRASTRUCTURE, None)
    assert out == f"{script}\n{daemon}\n".encode()
    assert end.streams[0].kept == len(out)
    assert not bench.alive(script)
    assert not bench.alive(daemon)


async def test_a_killed_shim_takes_its_script_along_though_no_agent_is_there(bench: Bench) -> None:
    """The guard kills what the shim held by itself; the next agent learns that the run was lost."""
    key, script, daemon = await start_with_daemon(bench)
    await bench.backend.close(abandon=True)
    os.kill(bench.shim(key), signal.SIGKILL)
    await until(lambda: not bench.alive(script) and not bench.alive(daemon))
    assert await bench.reopen() == [key]
    assert (await bench.backend.wait(key)).failure is FailureClass.INFRASTRUCTURE


@pytest.mark.parametrize("agent", ["there", "away"])
async def test_shim_and_guard_killed_together(bench: Bench, agent: str) -> None:
    """When both are gone the agent, or its successor, finds the script and its daemon and kills them."""
    key, script, daemon = await start_with_daemon(bench)
    shim = bench.shim(key)
    guard = parent_of(shim)
    if agent == "away":
        await bench.backend.close(abandon=True)
    os.kill(guard, signal.SIGKILL)
    os.kill(shim, signal.SIGKILL)
    if agent == "away":
        assert await bench.reopen() == [key]
    async with asyncio.timeout(10):
        assert (await bench.backend.wait(key)).failure is FailureClass.INFRASTRUCTURE
    assert not bench.alive(script)
    assert not bench.alive(daemon)


async def test_a_killed_guard_harms_nobody(bench: Bench) -> None:
    """The shim works on without its guard."""
    key = await bench.start("print('up'); input(); raise SystemExit(3)", stdin="stream")
    await bench.first_line(key)
    os.kill(parent_of(bench.shim(key)), signal.SIGKILL)
    await bench.backend.feed(key, b"\n", True)
    assert (await bench.backend.wait(key)).exit_code == 3


async def test_a_shim_that_is_told_to_end_ends_its_script_first(bench: Bench) -> None:
    """TERM for the shim, as a host that shuts down sends it, ends the script in order and says why."""
    key = await bench.start("import time; print('up'); time.sleep(1000)")
    await bench.first_line(key)
    os.kill(bench.shim(key), signal.SIGTERM)
    assert (await bench.backend.wait(key)).failure is FailureClass.PREEMPTED


async def test_a_shim_that_was_killed_idle_is_replaced(bench: Bench) -> None:
    """The next run gets a new one."""
    key = await bench.start("pass")
    await bench.backend.wait(key)
    shim = bench.shim(key)
    os.kill(shim, signal.SIGKILL)
    await until(lambda: state_of(shim) in ("Z", ""))
    again = await bench.start("pass")
    assert (await bench.backend.wait(again)).failure is None
    assert bench.shim(again) != shim


async def test_nothing_is_left_after_close(bench: Bench) -> None:
    """Idle shims end with their agent."""
    key = await bench.start("pass")
    await bench.backend.wait(key)
    shim = bench.shim(key)
    assert state_of(shim)
    await bench.backend.close(abandon=False)
    assert not state_of(shim)
    await bench.reopen()


async def test_a_state_directory_with_a_long_name_works(bench: Bench) -> None:
    """A socket's address holds 108 bytes; the directory may be deeper than that."""
    deep = bench.directory / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    async with opened(type(bench)(deep)) as other:
        key = await other.start("input(); raise SystemExit(2)", stdin="stream")
        assert await other.succeed() == [key]
        await other.backend.feed(key, b"\n", True)
        assert (await other.backend.wait(key)).exit_code == 2
