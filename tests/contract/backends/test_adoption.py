"""Runs outlive the agent, and a successor takes them over."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap

import pytest

from rgrid_runner.backends.base import BackendError
from rgrid_shared.states import FailureClass, Stream

from .conftest import Bench, joined, until

COUNT = "print('up')\nfor line in open(0): print('got', line, end='')\nraise SystemExit(5)"


async def test_a_running_script_is_adopted(bench: Bench) -> None:
    """The successor streams on where the other stopped, feeds on, and learns the end."""
    key = await bench.start(COUNT, stdin="stream")
    await bench.first_line(key)
    await bench.backend.feed(key, b"1\n", False)
    assert await bench.succeed() == [key]
    assert await bench.backend.fed(key) == 2
    await bench.backend.feed(key, b"2\n", True)
    rest = await bench.chunks(key, 1)
    assert joined(rest, Stream.STDOUT) == b"got 1\ngot 2\n"
    assert rest[0].seq == 2
    end = await bench.backend.wait(key)
    assert (end.exit_code, end.failure) == (5, FailureClass.SCRIPT)


async def test_a_script_that_ends_between_agents_is_not_lost(bench: Bench) -> None:
    """Output and exit of a script that ended while no agent was there are on disk."""
    gate = bench.work / "gate"
    os.mkfifo(gate)
    key = await bench.start("print('a'); open('gate').read(); print('b'); import os; open('gone', 'w'); os._exit(9)")
    await bench.first_line(key)
    pid_file = bench.work / "gone"
    await bench.backend.close(abandon=True)
    await asyncio.to_thread(gate.write_text, "go")
    await until(pid_file.exists)
    assert await bench.reopen() == [key]
    end, out, _ = await bench.finish(key)
    assert (end.exit_code, out) == (9, b"a\nb\n")


async def test_an_ended_run_is_known_until_it_is_cleaned(bench: Bench) -> None:
    """The end is the same for every successor."""
    key = await bench.start("print('x'); raise SystemExit(4)")
    end = await bench.backend.wait(key)
    assert await bench.succeed() == [key]
    again = await bench.backend.wait(key)
    assert (again.exit_code, again.ended_at, again.streams) == (4, end.ended_at, end.streams)


async def test_a_killed_agent_s_runs_are_adopted(bench: Bench) -> None:
    """Kill -9 of the agent harms no script, and its successor goes on without a gap."""
    await bench.backend.close(abandon=False)
    script = "import time, os\nprint(os.getpid())\nopen('gate').read()\nprint('after')"
    order = bench.order(bench.python, "-u", "-S", "-c", script, key="exe_k.1")
    code = bench.program() + textwrap.dedent(f"""
        import asyncio, os
        from pathlib import PosixPath
        from rgrid_runner.backends.base import StartOrder

        async def main():
            await backend.open()
            await backend.start({order!r})
            async for chunk in backend.stream("exe_k.1", 0):
                print(chunk.data.decode(), end="", flush=True)
        asyncio.run(main())
    """)
    os.mkfifo(bench.work / "gate")
    agent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert agent.stdout is not None
    pid = int(await agent.stdout.readline())
    agent.kill()
    await agent.wait()
    assert bench.alive(pid)
    assert await bench.reopen() == ["exe_k.1"]
    await asyncio.to_thread((bench.work / "gate").write_text, "go")
    end, out, _ = await bench.finish("exe_k.1")
    assert (end.failure, out.split()) == (None, [str(pid).encode(), b"after"])


async def test_two_agents_cannot_share_a_directory(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second agent is refused while the first one lives."""
    monkeypatch.setattr("rgrid_runner.backends.shims._LOCK_S", 0.05)
    first = bench.backend
    with pytest.raises(BackendError, match="Another runner"):
        await bench.reopen()
    bench.backend = first
