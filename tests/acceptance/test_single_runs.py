"""One script, run on the grid as if it ran here."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time
from pathlib import Path

from acceptance.conftest import Write
from support.grid import RGRID, Grid, run, user_python
from support.waiting import until


def test_stdout_is_byte_equal_to_a_local_run(grid: Grid, project: Write) -> None:
    """``rgrid run s.py a.txt > out.txt 2> err.txt`` leaves the out.txt that ``python s.py a.txt`` would."""
    here = project(
        {
            "s.py": "import sys\nd = open(sys.argv[1], 'rb').read()\nsys.stdout.buffer.write(d[::-1])\nprint('e', file=sys.stderr)\n",
            "a.txt": bytes(range(256)) * 300,
        }
    )
    local = run([user_python(), "s.py", "a.txt"], cwd=here, stdin=None, env=grid.env())
    remote = grid.rgrid("run", "s.py", "a.txt", cwd=here)
    assert (remote.code, remote.out, remote.err) == (local.code, local.out, local.err)


def test_warm_runs_add_little(grid: Grid, project: Write) -> None:
    """On a warm grid, the median of ten runs is at most 0.6 s slower than python itself."""
    here = project({"s.py": "print(open('a.txt').read())\n", "a.txt": "x\n"})
    grid.rgrid("run", "s.py", cwd=here)

    def timed(argv: list[str]) -> float:
        start = time.perf_counter()
        done = run(argv, cwd=here, stdin=None, env=grid.env())
        assert done.code == 0, done.errors
        return time.perf_counter() - start

    local = sorted(timed([user_python(), "s.py"]) for _ in range(10))
    remote = sorted(timed([*RGRID, "run", "s.py"]) for _ in range(10))
    assert remote[5] - local[5] <= 0.6, (local, remote)


def test_detached_runs_are_found_again(grid: Grid, project: Write) -> None:
    """``-d`` prints an id; status, wait, logs, outputs and download work by it, by prefix and by ``last``."""
    here = project({"s.py": "print('out')\nopen('made.txt', 'w').write('m')\nraise SystemExit(5)\n"})
    started = grid.rgrid("run", "-d", "-q", "s.py", cwd=here)
    assert started.code == 0, started.errors
    batch = started.text.strip()
    assert grid.rgrid("wait", batch, cwd=here).code == 5
    status = grid.rgrid("status", batch, "--json", cwd=here).json
    assert isinstance(status, dict)
    assert grid.rgrid("logs", "last", cwd=here).out == b"out\n"
    assert grid.rgrid("logs", batch[:16], cwd=here).out == b"out\n"
    assert "made.txt" in grid.rgrid("outputs", batch, cwd=here).text
    assert not (here / "made.txt").exists()
    assert grid.rgrid("download", batch, cwd=here).code == 0
    assert (here / "made.txt").read_text() == "m"


def test_local_changes_are_not_overwritten(grid: Grid, project: Write) -> None:
    """A file that changed here after submission keeps its new content; the output is put beside it and named."""
    here = project({"s.py": "open('data.txt', 'a').write('remote')\n", "data.txt": "old"})
    batch = grid.rgrid("run", "-d", "-q", "s.py", "data.txt", cwd=here).text.strip()
    assert grid.rgrid("wait", batch, cwd=here).code == 0
    (here / "data.txt").write_text("edited here")
    download = grid.rgrid("download", batch, cwd=here)
    assert (here / "data.txt").read_text() == "edited here"
    assert "data.txt" in download.errors
    assert any(path.read_text() == "oldremote" for path in here.glob("data.txt?*"))


def test_a_pipe_is_streamed_while_the_script_runs(grid: Grid, project: Write) -> None:
    """Lines written to a pipe arrive one by one; submission does not wait for the end of the pipe."""
    here = project({"s.py": "import sys\nfor line in sys.stdin:\n    print('got', line.strip(), flush=True)\n"})
    with subprocess.Popen(
        [*RGRID, "run", "s.py"], cwd=here, env=grid.env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin and process.stdout
        for word in (b"one", b"two", b"three"):
            process.stdin.write(word + b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"got " + word + b"\n"
        process.stdin.close()
        assert process.wait(30) == 0


def test_an_open_pipe_does_not_hold_up_the_end(grid: Grid, project: Write) -> None:
    """A script that ignores stdin ends at once although the pipe is never closed."""
    here = project({"s.py": "print('done')\n"})
    with subprocess.Popen(
        [*RGRID, "run", "s.py"], cwd=here, env=grid.env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.wait(30) == 0


def test_a_timeout_exits_with_124(grid: Grid, project: Write) -> None:
    """``--timeout`` stops the script and everything it started; outputs so far come back."""
    here = project(
        {
            "s.py": "import subprocess, time\nopen('pid', 'w').write('x')\n"
            "subprocess.Popen(['sleep', '600'])\nprint('started', flush=True)\ntime.sleep(600)\n"
        }
    )
    done = grid.rgrid("run", "--timeout", "1s", "s.py", cwd=here)
    assert done.code == 124, done.errors
    assert done.out == b"started\n"
    assert (here / "pid").exists()


def test_two_interrupts_cancel(grid: Grid, project: Write) -> None:
    """The first Ctrl-C detaches, a second within two seconds cancels; the exit code is 130 either way."""
    here = project({"s.py": "import time\nprint('up', flush=True)\ntime.sleep(600)\n"})
    process = grid.start("run", "s.py", cwd=here)
    assert process.stdout and process.stderr
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGINT)
    line = process.stderr.readline()
    assert b"attach" in line + process.stderr.readline(), line
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    until(
        lambda: json.loads(grid.rgrid("status", "last", "--json").out)["ended_at"],
        seconds=15,
        what="the cancelled run's end",
    )


def test_one_interrupt_detaches(grid: Grid, project: Write) -> None:
    """After one Ctrl-C the run goes on, and ``attach`` shows all of its output."""
    here = project({"s.py": "import time, os\nprint('up', flush=True)\ntime.sleep(1.5)\nprint('end')\n"})
    process = grid.start("run", "s.py", cwd=here)
    assert process.stdout
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    attached = grid.rgrid("attach", "last", cwd=here)
    assert (attached.code, attached.out) == (0, b"up\nend\n")


def test_cancel_reaches_a_running_script(grid: Grid, project: Write) -> None:
    """``rgrid cancel`` ends a running script within 15 s and the watcher exits 130."""
    here = project(
        {
            "s.py": "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_DFL)\nprint('up', flush=True)\ntime.sleep(600)\n"
        }
    )
    process = grid.start("run", "s.py", cwd=here)
    assert process.stdout
    assert process.stdout.readline() == b"up\n"
    assert grid.rgrid("cancel", "last", "-y", cwd=here).code == 0
    process.communicate(timeout=15)
    assert process.returncode == 130


def test_output_moves_with_output_dir(grid: Grid, project: Write) -> None:
    """``--output-dir`` puts what the script wrote there, in the same tree, and leaves the project alone."""
    here = project({"s.py": "import os\nos.mkdir('r')\nopen('r/x', 'w').write('1')\n"})
    done = grid.rgrid("run", "--output-dir", "elsewhere", "s.py", cwd=here)
    assert done.code == 0, done.errors
    assert (here / "elsewhere/r/x").read_text() == "1"
    assert not (here / "r").exists()


def test_remote_only_leaves_nothing_here(grid: Grid, project: Write) -> None:
    """``--remote-only`` keeps outputs on the grid until they are downloaded."""
    here = project({"s.py": "open('x', 'w').write('1')\n"})
    assert grid.rgrid("run", "--remote-only", "s.py", cwd=here).code == 0
    assert not (here / "x").exists()
    assert grid.rgrid("download", "last", cwd=here).code == 0
    assert (here / "x").read_text() == "1"


def test_a_terminal_sees_the_same(grid: Grid, project: Write) -> None:
    """On a terminal the script's output is shown, and nothing of rgrid's is mixed into stdout."""
    here = project({"s.py": "print('shown')\n"})
    main, follower = pty.openpty()
    process = subprocess.Popen(
        [*RGRID, "run", "s.py"],
        cwd=here,
        env=grid.env(TERM="xterm"),
        stdin=follower,
        stdout=follower,
        stderr=subprocess.PIPE,
    )
    os.close(follower)
    process.communicate(timeout=30)
    seen = os.read(main, 65536)
    os.close(main)
    assert process.returncode == 0
    assert seen == b"shown\r\n"


def test_retries_are_made_when_asked(grid: Grid, project: Write) -> None:
    """``--retries 2`` runs a failing script again, and the code of the last attempt counts."""
    here = project(
        {
            "s.py": "import os, sys\nprint('try', os.environ['RGRID_ATTEMPT'])\nsys.exit(0 if os.environ['RGRID_ATTEMPT'] == '3' else 1)\n"
        }
    )
    done = grid.rgrid("run", "--retries", "2", "s.py", cwd=here)
    assert done.code == 0, done.errors
    assert done.out == b"try 1\ntry 2\ntry 3\n"


def test_dry_run_sends_nothing(grid: Grid, project: Write) -> None:
    """``--dry-run`` lists what would travel and why, and submits nothing."""
    here = project({"s.py": "import helper\nopen('data.txt')\n", "helper.py": "", "data.txt": "d", "other.txt": "o"})
    before = grid.rgrid("list", "--json").out
    done = grid.rgrid("run", "--dry-run", "s.py", cwd=here)
    assert done.code == 0, done.errors
    for name in ("s.py", "helper.py", "data.txt"):
        assert name in done.text
    assert "other.txt" not in done.text
    assert grid.rgrid("list", "--json").out == before
    assert Path(here / "s.py").exists()
