"""What a script sees when it starts."""

from __future__ import annotations

import json
import os

import pytest

from rgrid_runner.backends.base import BackendError
from rgrid_shared.states import FailureClass

from .conftest import Bench

LIBC_S_OWN = 1 << 31 | 1 << 32
"""Signals 32 and 33 belong to the C library, which sets them itself."""


async def test_environment_is_exactly_the_ordered_one(bench: Bench) -> None:
    """Nothing is added to the environment and nothing is lost, whatever bytes it holds."""
    env = {"PATH": bench.path(), "A": "ä=€\n", "EMPTY": "", "B": b"\xff".decode("utf-8", "surrogateescape")}
    order = bench.order("/usr/bin/env", "-0", env=env)
    await bench.backend.start(order)
    _, out, _ = await bench.finish(order.key)
    expected = {os.fsencode(f"{name}={value}") for name, value in env.items()}
    assert set(out.split(b"\0")) - {b""} == expected


async def test_arguments_arrive_as_given(bench: Bench) -> None:
    """Argv is passed on byte for byte: spaces, quotes, newlines, dashes, empty and non-UTF-8 arguments."""
    args = ("", " a b ", "ü→", "'\"\\", "line\nbreak", "--", "-x", "\udcff")
    end, out, _ = await bench.run("import sys, os; os.write(1, b'\\0'.join(map(os.fsencode, sys.argv[1:])))", *args)
    assert end.failure is None
    assert out == b"\0".join(map(os.fsencode, args))


async def test_starts_in_its_working_directory(bench: Bench) -> None:
    """Cwd is the ordered directory."""
    directory = bench.work / "süb dir"
    directory.mkdir()
    _, out, _ = await bench.run("import os; print(os.getcwd())", cwd=directory)
    assert out.decode() == f"{directory}\n"


async def test_signals_session_umask_and_descriptors_are_a_fresh_login_s(bench: Bench) -> None:
    """No ignored or blocked signal, own session, no terminal, umask 022 and three descriptors."""
    code = """
import json, os
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
stat = open("/proc/self/stat").read().rpartition(") ")[2].split()
print(json.dumps({
    "umask": status["Umask"], "blocked": int(status["SigBlk"], 16), "leader": os.getsid(0) == os.getpid(),
    "terminal": int(stat[4]), "fds": sorted(map(int, os.listdir("/proc/self/fd")))[:-1]}))
"""
    _, out, _ = await bench.run(code)
    world = json.loads(out)
    assert world == {"umask": "0022", "blocked": 0, "leader": True, "terminal": 0, "fds": [0, 1, 2]}
    order = bench.order("/bin/cat", "/proc/self/status")
    await bench.backend.start(order)
    _, out, _ = await bench.finish(order.key)
    ignored = int(dict(line.split(b":\t", 1) for line in out.splitlines())[b"SigIgn"], 16)
    assert ignored & ~LIBC_S_OWN == 0


async def test_missing_interpreter_is_the_runner_s_fault(bench: Bench) -> None:
    """An interpreter that is not there fails the start with its name, and the key is free again."""
    order = bench.order("/nowhere/python9", "x.py")
    with pytest.raises(BackendError, match="/nowhere/python9") as caught:
        await bench.backend.start(order)
    assert caught.value.failure is FailureClass.INFRASTRUCTURE
    await bench.backend.start(bench.python_order("pass", key=order.key))
    assert (await bench.backend.wait(order.key)).failure is None


async def test_missing_working_directory_is_named(bench: Bench) -> None:
    """A start that fails says what was missing."""
    with pytest.raises(BackendError, match="not-there"):
        await bench.start("pass", cwd=bench.work / "not-there")


async def test_arguments_that_are_too_long_are_the_script_s_fault(bench: Bench) -> None:
    """More argument bytes than the kernel takes is not retried on another host."""
    with pytest.raises(BackendError) as caught:
        await bench.start("pass", "x" * 200_000)
    assert caught.value.failure is FailureClass.SCRIPT


async def test_a_bare_program_name_is_sought_on_the_ordered_path(bench: Bench) -> None:
    """argv[0] without a slash is looked up in the script's PATH."""
    (bench.work / "bin").mkdir()
    tool = bench.work / "bin" / "greet"
    tool.write_text(f"#!{bench.python} -S\nprint('hello')\n")
    tool.chmod(0o755)
    order = bench.order("greet", env={"PATH": str(bench.work / "bin")})
    await bench.backend.start(order)
    _, out, _ = await bench.finish(order.key)
    assert out == b"hello\n"
