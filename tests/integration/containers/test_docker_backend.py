"""What only scripts in containers have: limits that hold, a place of their own, nothing left in between."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from contract.backends.conftest import SETTINGS, DockerBench, NoNetwork, opened
from support.engine import BARE_IMAGE, SHELL_IMAGE, require_image

from rgrid_runner.backends.base import BackendError, Mount
from rgrid_runner.backends.docker import DockerBackend
from rgrid_shared.states import FailureClass

MIB: Final = 1024**2
WHERE: Final = "import socket; print(socket.gethostname())"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[DockerBench]:
    async with opened(DockerBench(tmp_path)) as it:
        assert isinstance(it, DockerBench)
        yield it


def backend(bench: DockerBench) -> DockerBackend:
    assert isinstance(bench.backend, DockerBackend)
    return bench.backend


def boxed(bench: DockerBench, **changes: Any) -> dict[str, Any]:
    """An order's ``box`` with changes."""
    box = bench.box()
    assert box is not None
    return {"box": replace(box, **changes)}


async def where(bench: DockerBench, **changes: Any) -> bytes:
    """The container that a run was in."""
    _, out, _ = await bench.run(WHERE, **boxed(bench, **changes))
    return out


async def test_items_of_a_batch_share_a_container_and_batches_do_not(bench: DockerBench) -> None:
    """One batch after another in one container is never seen; isolated items have one each."""
    first = await where(bench, batch="one")
    assert await where(bench, batch="one") == first
    second = await where(bench, batch="two")
    alone = [await where(bench, batch="two", isolate=True) for _ in range(2)]
    assert len({first, second, *alone}) == 4


async def test_the_engine_is_asked_for_an_image_once(bench: DockerBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for every item of a batch: an id always names the same content."""
    box = bench.box()
    assert box is not None
    asked = []
    real = backend(bench).engine.image

    async def counted(*args: Any, **options: Any) -> Any:
        asked.append(args)
        return await real(*args, **options)

    monkeypatch.setattr(backend(bench).engine, "image", counted)
    answers = [await backend(bench).image(box.image, print) for _ in range(3)]
    assert len(asked) <= 1
    assert answers[0] is not None
    assert answers[0].id == box.image
    assert answers[1:] == answers[:1] * 2


async def test_memory_is_a_wall_and_its_limit_is_named(bench: DockerBench) -> None:
    """A script that takes more is killed at once, however fast it takes it, and told what it had."""
    end, _, _ = await bench.run("b = bytearray(500_000_000)", memory=64 * MIB)
    assert end.failure is FailureClass.OOM
    assert "64 MiB" in end.message
    assert "--memory" in end.message
    assert end.max_rss <= 64 * MIB
    again, _, _ = await bench.run("print('fine')", memory=64 * MIB)
    assert again.failure is None
    assert again.max_rss < 50 * MIB


async def test_a_container_in_which_something_was_left_is_not_used_again(bench: DockerBench) -> None:
    """A shared memory segment outlives its script; the next item of the batch does not see it."""
    leave = "import ctypes; print(ctypes.CDLL(None).shmget(4711, 4096, 0o1666)); " + WHERE
    _, out, _ = await bench.run(leave)
    segment, first = out.split()
    assert int(segment) >= 0
    _, out, _ = await bench.run("print(len(open('/proc/sysvipc/shm').readlines())); " + WHERE)
    lines, second = out.split()
    assert int(lines) == 1
    assert second != first


async def test_one_that_dies_just_before_its_use_is_replaced(
    bench: DockerBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script runs all the same."""
    first = await where(bench)
    (warm,) = backend(bench)._pool._warm.values()
    monkeypatch.setattr(type(warm), "alive", True)
    os.kill(warm.pid, signal.SIGKILL)
    second = await where(bench)
    monkeypatch.undo()
    assert second != first


async def test_a_killed_container_is_infrastructure(bench: DockerBench) -> None:
    """If the engine, or somebody on the host, ends the container of a run, that is not the script's fault."""
    key = await bench.start("print('up'); import time; time.sleep(1000)")
    await bench.first_line(key)
    (warm,) = backend(bench)._held.values()
    os.kill(warm.pid, signal.SIGKILL)
    end = await bench.backend.wait(key)
    assert end.failure is FailureClass.INFRASTRUCTURE


async def test_a_workspace_is_bounded(bench: DockerBench) -> None:
    """A script that fills its disk sees that, and nothing is left when the disk is taken back."""
    disk = bench.directory / "attempt" / "disk"
    await bench.backend.prepare(disk, 16 * MIB)
    code = "try:\n  open('x', 'wb').write(b'x' * 100_000_000)\nexcept OSError as error: print(error.strerror)"
    mounts = (Mount(disk, "/home/me/project", writable=True),)
    _, out, err = await bench.run(code, cwd=Path("/home/me/project"), **boxed(bench, mounts=mounts))
    assert (out, err) == (b"No space left on device\n", b"")
    await bench.backend.clear(disk)
    assert not disk.exists()


@pytest.mark.parametrize("image", [SHELL_IMAGE, BARE_IMAGE])
async def test_images_without_python_or_even_a_shell_work(bench: DockerBench, image: str) -> None:
    """What is asked for runs, with its code, its arguments and its environment and nothing else."""
    box = boxed(bench, image=require_image(image))
    order = bench.order("/bin/echo", "a b", "$HOME '", **box)
    await bench.backend.start(order)
    end, out, err = await bench.finish(order.key)
    assert (end.exit_code, out, err) == (0, b"a b $HOME '\n", b"")
    order = bench.order("env", env={"PATH": "/bin:/usr/bin", "A": "1"}, **box)
    await bench.backend.start(order)
    _, out, _ = await bench.finish(order.key)
    assert sorted(out.split()) == [b"A=1", b"PATH=/bin:/usr/bin"]
    order = bench.order("/bin/false", **box)
    await bench.backend.start(order)
    assert (await bench.backend.wait(order.key)).exit_code == 1
    with pytest.raises(BackendError, match="/nowhere"):
        await bench.backend.start(bench.order("/nowhere", **box))
    order = bench.order("/bin/sleep", "1000", **box)
    await bench.backend.start(order)
    await bench.backend.kill(order.key, FailureClass.CANCELLED)
    assert (await bench.backend.wait(order.key)).failure is FailureClass.CANCELLED


@pytest.mark.parametrize("shims", ["live", "die"])
async def test_kill_9_of_the_runner_leaves_only_what_goes_on(bench: DockerBench, tmp_path: Path, shims: str) -> None:
    """The next agent finds the run, if its shim lives, and no container, control directory or disk beside it."""
    await bench.backend.close(abandon=False)
    disk = bench.directory / "attempt" / "disk"
    mounts = (Mount(disk, str(disk), writable=True),)
    order = bench.python_order(
        "print('up')\nif sys.stdin.read() == 'go': open('out', 'w').write('kept')",
        key="exe_k.1", stdin="stream", cwd=disk, **boxed(bench, mounts=mounts),
    )  # fmt: skip
    code = bench.program() + textwrap.dedent(f"""
        import asyncio
        from rgrid_runner.backends.base import StartOrder

        async def main():
            await backend.open()
            await backend.prepare(Path({str(disk)!r}), 0)
            await backend.prewarm({bench.image!r}, network=False)
            await backend.start({order!r})
            async for chunk in backend.stream("exe_k.1", 0):
                print(chunk.data.decode(), end="", flush=True)
        asyncio.run(main())
    """)
    agent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert agent.stdout is not None
    assert await agent.stdout.readline() == b"up\n"
    agent.kill()
    await agent.wait()
    if shims == "die":
        shim = bench.shim("exe_k.1")
        guard = int(Path(f"/proc/{shim}/stat").read_text().rpartition(") ")[2].split()[1])
        os.kill(guard, signal.SIGKILL)
        os.kill(shim, signal.SIGKILL)
    assert await bench.reopen() == ["exe_k.1"]
    if shims == "live":
        assert len(await backend(bench).engine.ours()) == 1
        await bench.backend.feed("exe_k.1", b"go", True)
    end = await bench.backend.wait("exe_k.1")
    assert end.failure is (None if shims == "live" else FailureClass.INFRASTRUCTURE)
    assert (disk / "out").exists() == (shims == "live")
    await bench.backend.clear(disk)
    await bench.backend.clean("exe_k.1")
    async with asyncio.timeout(20):
        while await backend(bench).engine.ours():
            await asyncio.sleep(0.05)


async def test_two_hundred_items_leave_nothing(bench: DockerBench) -> None:
    """Four at a time, one batch: a handful of containers serves them all, and then none is there."""
    seen: set[bytes] = set()
    free = asyncio.Semaphore(4)

    async def item(number: int) -> None:
        async with free:
            end, out, _ = await bench.run(f"{WHERE}; raise SystemExit({number % 3})")
            assert end.exit_code == number % 3
            seen.add(out)

    await asyncio.gather(*map(item, range(200)))
    assert len(seen) <= 8
    engine = backend(bench).engine
    await bench.backend.close(abandon=False)
    checking = DockerBackend(bench.directory / "state", SETTINGS, NoNetwork(), slots=1)
    assert checking.engine.runner == engine.runner
    assert await checking.engine.ours() == []
    await checking.engine.close()
    await bench.reopen()
