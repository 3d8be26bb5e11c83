"""A script in a container that a shim holds: what it sees, what is left of it, and who ends it."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from support.held import HOME, MIB, Bench, HeldBackend, bench_with, gone, until

from rgrid_runner.backends.base import BackendError, Mount
from rgrid_runner.containers.layout import UID
from rgrid_runner.shim.cgroup import find
from rgrid_runner.shim.tree import start_tick
from rgrid_shared.states import FailureClass


@pytest.fixture(params=["python", "shell"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    """With either keeper."""
    async for it in bench_with(tmp_path, "python3" if request.param == "python" else ""):
        yield it


@pytest.fixture
async def py(tmp_path: Path) -> AsyncIterator[Bench]:
    """With the keeper in Python, for what does not depend on it."""
    async for it in bench_with(tmp_path, "python3"):
        yield it


WORLD: Final = """
import json, os
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
print(json.dumps([os.getuid(), os.getgid(), os.getgroups(), os.getcwd(), sorted(os.environ), status["Umask"],
    int(status["SigBlk"], 16), int(status["SigIgn"], 16) & ~(1 << 24 | 1 << 12), os.getsid(0) == os.getpid(),
    sorted(map(int, os.listdir("/proc/self/fd")))[:-1], status["NoNewPrivs"], int(status["CapBnd"], 16)]))
"""


async def test_a_script_s_world_is_a_fresh_login_s(bench: Bench) -> None:
    """Its user, directory, environment, session, signals and descriptors are its own; nothing of the keeper shows."""
    _, out, err = await bench.script(WORLD)
    user = [UID, UID, [UID], HOME, ["LANG", "PATH"], "0022"]
    assert (json.loads(out), err) == ([*user, 0, 0, True, [0, 1, 2], "1", 0], b"")


async def test_words_arrive_byte_for_byte(bench: Bench) -> None:
    """Arguments and variables with quotes, newlines, dollars and bytes that are no text pass as they are."""
    words = ("", "it's", "a\nb", "$HOME `id` \\", "\udcff\udc80", "-n")
    code = "import os, sys; os.write(1, b'\\0'.join([*map(os.fsencode, sys.argv[1:]), os.environb[b'V']]))"
    _, out, _ = await bench.run("python3", "-c", code, *words, env={"PATH": "/usr/bin", "V": words[2] + words[3]})
    assert out.split(b"\0") == [*map(os.fsencode, words), os.fsencode(words[2] + words[3])]


async def test_how_it_ends_comes_through(bench: Bench) -> None:
    """Exit codes and deaths by signal are the script's, and the container serves one run after another."""
    for code in (0, 3, 255):
        end, _, _ = await bench.run("sh", "-c", f"exit {code}")
        assert (end.exit_code, end.signal) == (code, None)
    end, _, _ = await bench.run("sh", "-c", "kill -SEGV $$")
    assert (end.exit_code, end.signal, end.failure) == (139, signal.SIGSEGV, FailureClass.SCRIPT)
    assert set(bench.backend.left.values()) == {True}
    assert bench.is_clean()


@pytest.mark.parametrize(("what", "code"), [("exec", errno.ENOENT), ("cwd", errno.ENOENT)])
async def test_what_cannot_be_started_is_refused_and_harms_nothing(bench: Bench, what: str, code: int) -> None:
    """A missing program or directory is named, nothing stays mounted, and the container can be used again."""
    order = bench.order("nothing", "x") if what == "exec" else bench.order("true", cwd=Path("/nowhere"))
    with pytest.raises(BackendError, match=f"{what}: {os.strerror(code)}"):
        await bench.backend.start(order)
    assert bench.backend.left == {order.key: True}
    assert bench.is_clean()
    assert (await bench.run("true"))[0].failure is None


async def test_nothing_of_a_run_is_left_for_the_next(bench: Bench) -> None:
    """No file in /tmp or /dev/shm, no process, no mount and no memory peak of one item is seen by the next."""
    mess = """
import os, time
for place in ('/tmp', '/dev/shm'):
    os.makedirs(place + '/deep/er'); open(place + '/deep/er/file', 'w').write('x'); os.chmod(place + '/deep', 0)
open('big', 'wb').write(bytes(80 << 20))
if os.fork() == 0:
    os.setsid(); os.close(1); os.close(2); time.sleep(1000)
"""
    end, _, _ = await bench.script(mess)
    assert end.max_rss > 80 * MIB
    assert bench.is_clean()
    end, out, _ = await bench.run("sh", "-c", "ls -A /tmp /dev/shm; ls /proc | grep -c '^[0-9]'")
    assert out.split()[:2] == [b"/dev/shm:", b"/tmp:"]
    assert end.max_rss < 40 * MIB
    assert bench.backend.left == {"exe_2.1": True, "exe_3.1": True}


@pytest.mark.parametrize("kind", ["-Q", "-M 4096", "-S 1"])
async def test_a_container_with_something_left_in_it_is_ended(py: Bench, kind: str) -> None:
    """SysV queues, segments and semaphores outlive their makers: the container is thrown away for them."""
    key = await py.start("ipcmk", *kind.split())
    await py.finish(key)
    assert py.backend.left == {key: False}
    await until(lambda: gone(py.container.name))


async def test_a_posix_queue_is_something_left(py: Bench) -> None:
    """The kernel keeps POSIX message queues, too."""
    key = await py.start("python3", "-c", "open('/dev/mqueue/q', 'w')")
    assert (await py.finish(key))[0].failure is None
    assert py.backend.left == {key: False}


async def test_the_memory_limit_is_named(bench: Bench) -> None:
    """Too much memory is OOM, with limit and remedy in the message, also when only a child was killed for it."""
    end, _, _ = await bench.script("bytearray(300 << 20)", memory=100 * MIB)
    assert end.failure is FailureClass.OOM
    assert end.message == (
        "It was killed because memory ran out: it used 100 MiB of its limit of 100 MiB. Ask for more with --memory."
    )
    for rest in ("print(os.wait()[1])", "time.sleep(1000)"):
        code = f"import os, time\nif os.fork() == 0: bytearray(300 << 20)\n{rest}"
        end, _, _ = await bench.script(code, memory=100 * MIB)
        assert end.failure is FailureClass.OOM
    assert bench.is_clean()


async def test_limits_are_each_run_s_own(py: Bench) -> None:
    """Limits can rise and fall from one run to the next, down to none."""
    for memory, cpu in ((60, 500), (150, 2000), (80, 0), (0, 0)):
        key = await py.start("sleep", "100", memory=memory * MIB, cpu_millis=cpu)
        group = find(py.container.keeper)
        seen = [Path(f"{directory}").read_text().strip() for directory in limit_files(group)]
        unlimited = int(seen[0]) > 1 << 50 if seen[0].isdigit() else seen[0] == "max"
        assert unlimited if memory == 0 else seen[0] == str(memory * MIB)
        assert seen[1].split()[0] == (str(cpu * 100) if cpu else seen[1].split()[0])
        await py.backend.clean(key)


def limit_files(group: Any) -> tuple[str, str]:
    if hasattr(group, "_memory"):
        return f"{group._memory}/memory.limit_in_bytes", f"{group._cpu}/cpu.cfs_quota_us"
    return f"{group.directory}/memory.max", f"{group.directory}/cpu.max"


async def test_a_fork_bomb_is_contained_and_gone(bench: Bench) -> None:
    """Its time limit ends it within seconds; nothing of it is left and the container serves on."""
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    started = time.monotonic()
    end, _, _ = await bench.script(bomb, timeout_s=0.5, grace_s=0.2)
    assert end.failure is FailureClass.TIMEOUT
    assert time.monotonic() - started < 15
    assert bench.is_clean()
    assert (await bench.run("true"))[0].failure is None


async def test_a_deaf_daemon_is_killed(bench: Bench) -> None:
    """A script that ignores TERM and has a daemon is dead after the grace, and so is the daemon."""
    code = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork(): os._exit(0)
print('up'); time.sleep(1000)
"""
    key = await bench.start("python3", "-uc", code)
    await bench.first_line(key)
    await bench.backend.kill(key, FailureClass.CANCELLED)
    end, _, _ = await bench.finish(key)
    assert (end.failure, end.signal) == (FailureClass.CANCELLED, signal.SIGKILL)
    assert bench.is_clean()


async def test_term_reaches_the_script_s_group_and_leaves_time(bench: Bench) -> None:
    """A script that handles TERM ends as it likes."""
    code = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done"
    key = await bench.start("sh", "-c", code, grace_s=20.0)
    await bench.first_line(key)
    await bench.backend.kill(key, FailureClass.CANCELLED)
    end, out, _ = await bench.finish(key)
    assert (end.failure, end.exit_code, out) == (FailureClass.CANCELLED, 7, b"up\nbye\n")


async def test_a_script_cannot_touch_its_keeper(py: Bench) -> None:
    """PID 1 cannot be killed, traced or looked into, its FIFOs not replaced, and its lifeline not held."""
    code = """
import ctypes, os, signal
for signum in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1): os.kill(1, signum)
os.kill(0, 0)
def refused(call):
    try: call()
    except OSError as error: return error.errno
print(refused(lambda: os.listdir('/proc/1/fd')), refused(lambda: open('/proc/1/mem')),
    ctypes.CDLL(None).ptrace(16, 1, 0, 0), refused(lambda: os.open('/rgrid/ctl/go', os.O_WRONLY)),
    refused(lambda: os.unlink('/rgrid/ctl/go')), refused(lambda: open('/rgrid/ctl/order')),
    refused(lambda: os.open('/rgrid/ctl/status', os.O_RDONLY | os.O_NONBLOCK)))
"""
    end, out, _ = await py.script(code)
    assert out.split() == [b"13", b"13", b"-1", b"13", b"30", b"2", b"13"]
    assert end.failure is None
    assert py.is_clean()


async def test_a_script_can_lie_only_about_its_own_end(bench: Bench) -> None:
    """Rubbish in the keeper's FIFO is passed over; a forged end ends the run, with everything that it had started."""
    rubbish = (
        "import os; s = os.open('/rgrid/ctl/status', 1); os.write(s, b'x' * 300_000 + b'1 started 1'); os._exit(5)"
    )
    end, _, _ = await bench.script(rubbish)
    assert end.exit_code == 5
    forged = "import os, time; s = os.open('/rgrid/ctl/status', 1); os.write(s, b'1 exited 0\\n'); time.sleep(1000)"
    end, _, _ = await bench.script(forged)
    assert end.exit_code == 0
    assert bench.is_clean()
    assert (await bench.run("sh", "-c", "exit 4"))[0].exit_code == 4


async def test_a_container_that_dies_is_the_runner_s_fault(bench: Bench) -> None:
    """A container killed from outside ends its run as infrastructure; a script is not blamed for it."""
    key = await bench.start("sleep", "1000")
    os.kill(bench.container.keeper, signal.SIGKILL)
    end, _, _ = await bench.finish(key)
    assert (end.failure, end.exit_code) == (FailureClass.INFRASTRUCTURE, None)
    assert "container" in end.message
    assert bench.backend.left == {key: False}


async def test_a_dead_container_is_not_started_in(py: Bench) -> None:
    """A start in a container that has gone is refused."""
    os.kill(py.container.keeper, signal.SIGKILL)
    await until(lambda: gone(py.container.name))
    order = py.order("true")
    with pytest.raises(BackendError, match="container"):
        await py.backend.start(order)
    assert py.backend.left == {order.key: False}


async def test_a_container_that_is_not_idle_is_not_started_in(py: Bench) -> None:
    """Two scripts are never in one container at a time."""
    first = await py.start("sleep", "1000")
    second = py.order("true")
    with pytest.raises(BackendError, match="container"):
        await py.backend.start(second)
    assert py.backend.left == {second.key: False}
    await py.backend.kill(first, FailureClass.CANCELLED)
    assert (await py.finish(first))[0].failure is FailureClass.CANCELLED


@pytest.mark.parametrize("killed", ["shim", "shim and guard"])
async def test_a_killed_shim_takes_its_container_along(bench: Bench, killed: str) -> None:
    """Without a shim no script goes on: its guard, or the agent, kills what is in the container and PID 1 too."""
    key = await bench.start("sleep", "1000")
    shim = bench.shim_of(key)
    guard = int(Path(f"/proc/{shim}/stat").read_text().rpartition(") ")[2].split()[1])
    if killed == "shim and guard":
        os.kill(guard, signal.SIGKILL)
    os.kill(shim, signal.SIGKILL)
    end, _, _ = await bench.finish(key)
    assert end.failure is FailureClass.INFRASTRUCTURE
    assert bench.backend.left == {key: False}
    await until(lambda: gone(bench.container.name))


async def test_a_killed_shim_takes_its_container_along_though_no_agent_is_there(bench: Bench) -> None:
    """The guard ends the container by itself, with the lifeline still held; the next agent learns of the loss."""
    key = await bench.start("sleep", "1000")
    shim = bench.shim_of(key)
    await bench.backend.close(abandon=True)
    os.kill(shim, signal.SIGKILL)
    await until(lambda: gone(bench.container.name))
    bench.backend = HeldBackend(bench.directory / "state")
    assert await bench.backend.open() == [key]
    assert (await bench.backend.wait(key)).failure is FailureClass.INFRASTRUCTURE


async def test_an_idle_container_ends_with_its_agent(bench: Bench) -> None:
    """When nobody holds the lifeline any more, an idle container is gone, without anybody's doing."""
    await bench.run("true")
    bench.container.let_go()
    await until(lambda: gone(bench.container.name))


async def test_a_container_ends_when_all_that_minded_it_are_dead(bench: Bench) -> None:
    """Agent, shim and guard killed: the script does not run on alone."""
    key = await bench.start("sleep", "1000")
    shim = bench.shim_of(key)
    guard = int(Path(f"/proc/{shim}/stat").read_text().rpartition(") ")[2].split()[1])
    await bench.backend.close(abandon=True)
    bench.container.let_go()
    assert len(bench.processes()) >= 2
    os.kill(guard, signal.SIGKILL)
    os.kill(shim, signal.SIGKILL)
    await until(lambda: gone(bench.container.name))


async def test_a_successor_takes_over(bench: Bench) -> None:
    """The next agent learns which container goes on, hears the rest, and gets told when it is free."""
    key = await bench.start("sh", "-c", "echo a; read line; echo $line", stdin="stream")
    await bench.first_line(key)
    await bench.backend.close(abandon=True)
    before, bench.backend = bench.backend, HeldBackend(bench.directory / "state")
    assert await bench.backend.open() == [key]
    container = bench.backend.adopted[key].container
    assert container is not None
    held = bench.container
    assert (container.name, container.control) == (held.name, held.control)
    assert container.keeper == (held.keeper, start_tick(held.keeper))
    await bench.backend.feed(key, b"b\n", True)
    end, out, _ = await bench.finish(key)
    assert (end.failure, out) == (None, b"a\nb\n")
    assert (before.left, bench.backend.left) == ({}, {key: True})


async def test_a_frozen_container_stands(bench: Bench) -> None:
    """Frozen, nothing in it runs; thawed it goes on; killed while frozen it does not run again."""
    ticks = "import time\nprint('up')\nwhile True: open('tick', 'a').write('x'); time.sleep(0.01)"
    key = await bench.start("python3", "-uc", ticks, grace_s=60.0)
    await bench.first_line(key)
    tick = bench.work / "tick"
    await until(tick.exists)
    await bench.backend.freeze(key)
    size = tick.stat().st_size
    await asyncio.sleep(0.2)
    assert tick.stat().st_size == size
    await bench.backend.thaw(key)
    await until(lambda: tick.stat().st_size > size)
    await bench.backend.freeze(key)
    await bench.backend.kill(key, FailureClass.RUNNER_LOST)
    assert (await bench.finish(key))[0].failure is FailureClass.RUNNER_LOST
    assert bench.is_clean()


async def test_what_is_mounted(py: Bench) -> None:
    """Files too, one mount below another, below /tmp and below a closed directory; read-only is read-only."""
    (py.directory / "one.txt").write_text("one")
    inner, closed, low = py.make("inner"), py.make("closed"), py.make("low")
    mounts = (
        Mount(py.work, HOME, writable=True),
        Mount(inner, f"{HOME}/in/ner", writable=True),
        Mount(py.directory / "one.txt", "/data/one.txt"),
        Mount(closed, "/root/data", writable=True),
        Mount(low, "/tmp/deep/down", writable=True),
        Mount(py.layer, "/opt/rgrid/layer"),
    )
    code = """
import os
print(open('/data/one.txt').read())
for place in ('in/ner', '.', '/root/data', '/tmp/deep/down', '/tmp', '/opt/rgrid/layer', '/data', '/', '/root', '/opt'):
    try: open(place + '/written', 'w').close(); print(place)
    except OSError as error: print(place, error.errno)
"""
    end, out, err = await py.script(code, mounts=mounts)
    assert (end.failure, err) == (None, b"")
    writable = ["in/ner", ".", "/root/data", "/tmp/deep/down", "/tmp"]
    readable = [f"{place} 30" for place in ("/opt/rgrid/layer", "/data", "/", "/root", "/opt")]
    assert out.decode().splitlines() == ["one", *writable, *readable]
    assert all((place / "written").exists() for place in (py.work, inner, closed, low))
    assert str(inner) not in Path("/proc/self/mountinfo").read_text()
    assert not (py.work / "in/ner/written").exists()
    assert py.is_clean()


async def test_a_link_in_the_way_of_a_mount_is_refused(py: Bench) -> None:
    """What an earlier item left in the workspace cannot lead a mount elsewhere."""
    (py.work / "away").symlink_to("/tmp")
    mounts = (Mount(py.work, HOME, writable=True), Mount(py.make("x"), f"{HOME}/away/x"))
    with pytest.raises(BackendError, match=f"mount {HOME}/away/x"):
        await py.backend.start(py.order("true", mounts=mounts))
    assert py.is_clean()


async def test_a_source_that_is_missing_is_named(py: Bench) -> None:
    """A start whose mount cannot be made says which, and leaves nothing behind."""
    order = py.order("true", mounts=(Mount(py.work, HOME), Mount(py.directory / "none", "/none")))
    with pytest.raises(BackendError, match=r"mount /.*/none"):
        await py.backend.start(order)
    assert py.backend.left == {order.key: True}
    assert py.is_clean()


async def test_stdin_from_a_file_and_fed(bench: Bench) -> None:
    """A file of any size arrives whole, a script may ignore it, and a fed stdin ends when it is closed."""
    data = os.urandom(3 * MIB)
    (bench.directory / "input").write_bytes(data)
    _, out, _ = await bench.run("sha256sum", stdin=bench.directory / "input")
    assert out.split()[0].decode() == hashlib.sha256(data).hexdigest()
    assert (await bench.run("true", stdin=bench.directory / "input"))[0].failure is None
    key = await bench.start("cat", stdin="stream")
    await bench.backend.feed(key, b"one ", False)
    await bench.backend.feed(key, b"two", True)
    assert (await bench.finish(key))[1] == b"one two"


async def test_usage_is_this_run_s(bench: Bench) -> None:
    """Processor time, memory and bytes to the disk of the script and its children, and of no earlier run."""
    work = """
import os
if os.fork() == 0:
    data = bytearray(50 << 20)
    for index in range(3_000_000): pass
    open('f', 'wb').write(data[: 10 << 20]); os._exit(0)
os.wait()
"""
    end, _, _ = await bench.script(work)
    assert end.cpu_ms >= 50
    assert 50 * MIB < end.max_rss < 120 * MIB
    assert 10 * MIB <= end.written_bytes < 11 * MIB
    end, _, _ = await bench.run("true")
    assert (end.cpu_ms < 50, end.written_bytes) == (True, 0)
