"""A script forked from a warm interpreter is told from a fresh ``python script.py`` by nothing but its speed."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from support.held import HOME, Bench, bench_with

from rgrid_runner.backends.base import Exit
from rgrid_shared.states import FailureClass

ENV: Final = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/tmp", "PYTHONUNBUFFERED": "1"}
SCRIPTS: Final = {
    "world": """
import builtins, gc, os, signal, sys
print(__name__, __file__, sys.argv, sys.orig_argv, sys.path, sys.executable, sys.flags, sys.prefix)
print(sorted(sys.modules), sorted(globals()), __spec__, __builtins__ is builtins, sorted(sys.path_importer_cache))
print(sorted(os.environ.items()), os.getcwd(), os.getsid(0) == os.getpid(), os.umask(0o22))
print([str(signal.getsignal(n)) for n in range(1, 32)], sorted(map(int, os.listdir('/proc/self/fd')))[:-1])
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
print([status[name] for name in ("SigBlk", "SigIgn", "SigCgt", "Umask", "Threads", "NoNewPrivs")])
print(open('/proc/self/oom_score_adj').read(), open('/proc/self/stat').read().count('python'))
for stream in (sys.stdin, sys.stdout, sys.stderr):
    print(stream, stream.fileno(), stream.isatty(), stream.line_buffering, stream.write_through, stream.errors,
          stream.seekable(), getattr(stream.buffer, 'name', None), len(gc.get_objects()) > 0)
""",
    "traceback": "def f():\n    return 1 / 0\ntry:\n    f()\nexcept Exception as e:\n    raise KeyError('x') from e\n",
    "stack": "import inspect, traceback, sys\n"
    "traceback.print_stack()\nprint(len(inspect.stack()), sys._getframe().f_back)",
    "syntax error": "print('no'\nx = = 1\n",
    "exit code": "raise SystemExit(7)",
    "exit words": "import sys\nprint('out', end='')\nsys.exit('bye')",
    "exit none": "import sys; sys.exit()",
    "killed": "import os, signal; print('x', flush=True); os.kill(os.getpid(), signal.SIGKILL)",
    "interrupted": "raise KeyboardInterrupt",
    "aborted": "import os; os.abort()",
    "input": "print(input('? ')[::-1]); import sys; print(sys.stdin.read())",
    "threads": """
import atexit, threading, time
atexit.register(print, 'at exit')
threading.Thread(target=lambda: (time.sleep(0.05), print('thread'))).start()
print('main')
""",
    "multiprocessing": """
import multiprocessing as mp
def double(x): return 2 * x
if __name__ == '__main__':
    for method in ('fork', 'spawn', 'forkserver'):
        with mp.get_context(method).Pool(2) as pool: print(method, pool.map(double, range(5)))
""",
    "subprocess": "import subprocess, sys; print(subprocess.run([sys.executable, '-c', 'print(3)']).returncode)",
    "pickled": "import pickle\nclass A: pass\nprint(pickle.dumps(A()), A.__module__)",
    "import beside": "import beside; print(beside.__file__, beside.__spec__.name)",
    "recursion": "def f(n):\n    try: return f(n + 1)\n    except RecursionError: return n\nprint(f(0))",
    "not unicode": "import sys; print(ascii(sys.argv)); sys.stdout.buffer.write(b'\\xff')",
    "unraisable": "class A:\n    def __del__(self): 1/0\na = A()\ndel a\nimport warnings; warnings.warn('w')",
    "closed": "import os, sys; os.close(1); print('x')",
}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async for it in bench_with(tmp_path, "python3"):
        yield it


async def run(bench: Bench, *argv: str, warm: bool, **changes: Any) -> tuple[Exit, bytes, bytes]:
    stdin = bench.directory / "stdin"
    stdin.write_text("abc\nmore\nlines\n")
    changes = {"env": ENV | {"RGRID_ATTEMPT": "1"}, "stdin": stdin} | changes
    return await bench.run("python3", *argv, warm=warm, **changes)


async def is_kept(bench: Bench) -> bool:
    """True if there is a warm interpreter beside the keeper, and nothing else."""
    return len(bench.processes()) == 2


def words(data: bytes) -> str:
    """What was said, without the addresses that differ from process to process."""
    return re.sub(r"\b0x[0-9a-f]+", "0x", data.decode("utf-8", "replace"))


def told(end: Exit) -> tuple[object, ...]:
    return end.exit_code, end.signal, end.failure, end.message


async def test_a_fork_is_told_from_a_fresh_interpreter_by_nothing(bench: Bench) -> None:
    """Output, traceback, code, modules, paths, streams, signals, threads, multiprocessing: all the same, twice."""
    (bench.work / "beside.py").write_text("")
    script = bench.work / "script.py"
    os.mkdir(bench.work / "__pycache__")
    os.chown(bench.work / "__pycache__", 10001, 10001)
    for name, code in SCRIPTS.items():
        script.write_text(code)
        arguments = ("script.py", "a b", "-x", "\udcff", "")
        end, out, err = await run(bench, *arguments, warm=False)
        for _ in range(2):
            warm_end, warm_out, warm_err = await run(bench, *arguments, warm=True)
            assert (words(warm_out), words(warm_err)) == (words(out), words(err)), name
            assert told(warm_end) == told(end), name
            assert await is_kept(bench)
    assert set(bench.backend.left.values()) == {True}


async def test_a_module_and_a_path_to_a_script(bench: Bench) -> None:
    """``-m`` and scripts by link, by absolute path and from another directory are as they would be."""
    (bench.work / "deep").mkdir()
    (bench.work / "deep" / "tool.py").write_text(SCRIPTS["world"])
    (bench.work / "link.py").symlink_to("deep/tool.py")
    for program in (("-m", "deep.tool"), ("link.py",), ("deep/tool.py",), (f"{HOME}/deep/../link.py",), ("none.py",)):
        end, out, err = await run(bench, *program, "x", warm=False)
        warm_end, warm_out, warm_err = await run(bench, *program, "x", warm=True)
        assert (words(warm_out), words(warm_err), told(warm_end)) == (words(out), words(err), told(end))
        await bench.renew()  # another program starts another interpreter


async def test_what_differs_between_runs_is_theirs(bench: Bench) -> None:
    """Arguments, variables of the attempt and the random state are each run's own; none sees an earlier one's."""
    code = "import os, random, sys; print(sys.argv[1:], os.environ['RGRID_ATTEMPT'], random.random()); sys.x = 1"
    (bench.work / "script.py").write_text(code + "; print('x' in sys.path); sys.path.append('x'); print('é')")
    seen = set()
    for number in ("1", "2", "3"):
        _, out, _ = await run(bench, "script.py", number, warm=True, env=ENV | {"RGRID_ATTEMPT": number})
        argument, attempt, rest = out.decode().split(" ", 2)
        assert (argument, attempt, rest.splitlines()[1:]) == (f"['{number}']", number, ["False", "é"])
        seen.add(rest)
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("argv", "env"),
    [
        (("-c", "print(1)"), ENV),
        (("-u", "script.py"), ENV),
        (("script.py",), ENV | {"PYTHONPATH": "/opt"}),
        (("script.py",), ENV | {"PYTHONHASHSEED": "0"}),
    ],
)
async def test_what_speaks_to_the_interpreter_gets_one_of_its_own(
    bench: Bench, argv: tuple[str, ...], env: dict[str, str]
) -> None:
    """Interpreter options and PYTHON variables are honoured by starting a fresh one."""
    (bench.work / "script.py").write_text("import sys; print(sys.flags.hash_randomization, '/opt' in sys.path)")
    end, _, _ = await run(bench, *argv, warm=True, env=env)
    assert end.failure is None
    assert not await is_kept(bench)


async def test_another_environment_gets_an_interpreter_of_its_own(bench: Bench) -> None:
    """What was read at the start of the warm one must be the same, or the run is started anew."""
    (bench.work / "script.py").write_text("import os, time; print(os.environ.get('TZ'), time.tzname, os.getppid())")
    _, first, _ = await run(bench, "script.py", warm=True)
    _, other, _ = await run(bench, "script.py", warm=True, env=ENV | {"TZ": "XYZ-3"})
    assert other.split()[:2] == [b"XYZ-3", b"('XYZ',"]
    assert other.split()[-1] == b"1"  # the keeper started it
    assert first.split()[-1] != b"1"


async def test_a_run_that_is_killed_leaves_the_interpreter(bench: Bench) -> None:
    """Timeout, TERM and a fork bomb end a warm run as any other; the next is a fork of the same interpreter."""
    script = bench.work / "script.py"
    script.write_text("import time\nprint('up')\ntime.sleep(1000)")
    end, _, _ = await run(bench, "script.py", warm=True, timeout_s=0.3)
    assert (end.failure, end.signal) == (FailureClass.TIMEOUT, signal.SIGTERM)
    kept = bench.processes()
    script.write_text("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass")
    end, _, _ = await run(bench, "script.py", warm=True, timeout_s=0.3, grace_s=0.1)
    assert end.failure is FailureClass.TIMEOUT
    assert bench.processes() == kept
    script.write_text("print('fine')")
    assert (await run(bench, "script.py", warm=True))[1] == b"fine\n"
    assert bench.processes() == kept


async def test_a_script_that_kills_its_interpreter_harms_itself_alone(bench: Bench) -> None:
    """The script's own end is still told, and the next run has a new interpreter."""
    script = bench.work / "script.py"
    script.write_text("import os, signal; os.kill(os.getppid(), signal.SIGKILL); print('on'); raise SystemExit(6)")
    end, out, _ = await run(bench, "script.py", warm=True)
    assert (end.exit_code, out) == (6, b"on\n")
    script.write_text("print('next')")
    assert (await run(bench, "script.py", warm=True))[1] == b"next\n"
    assert await is_kept(bench)


async def test_an_interpreter_that_cannot_start_says_so_as_ever(bench: Bench) -> None:
    """A broken Python's own message and code are the script's; a missing one is a start that is refused."""
    broken = bench.work / "python-broken"
    broken.write_text("#!/bin/sh\necho broken >&2\nexit 9\n")
    broken.chmod(0o755)
    end, _, err = await bench.run(f"{HOME}/python-broken", "script.py", warm=True, env=ENV)
    assert (end.exit_code, err) == (9, b"broken\n")


async def test_an_interpreter_that_cannot_be_kept_runs_its_one_script(bench: Bench) -> None:
    """A Python that is too old to be forked says so and goes on as the script; the next run gets another."""
    old = bench.work / "python-old"
    old.write_text("#!/bin/sh\necho unfit >/proc/self/fd/${RGRID_WARM#*,}\necho once\nexit 4\n")
    old.chmod(0o755)
    for _ in range(2):
        end, out, _ = await bench.run(f"{HOME}/python-old", "script.py", warm=True, env=ENV)
        assert (end.exit_code, out) == (4, b"once\n")
    assert not await is_kept(bench)


async def test_runs_one_after_another_are_quick(bench: Bench) -> None:
    """Fifty warm runs give fifty right answers."""
    (bench.work / "script.py").write_text("import sys; print(int(sys.argv[1]) ** 2)")
    for number in range(50):
        async with asyncio.timeout(10):
            assert (await run(bench, "script.py", str(number), warm=True))[1] == b"%d\n" % number**2
