"""Executions from claim to end, on the real API, store, backend and interpreter."""

from __future__ import annotations

import base64
import hashlib
import time
from pathlib import Path
from typing import Any

from support.waiting import until


def test_script_runs_with_its_output_exit_code_and_files(site: Any, runner: Any) -> None:
    """The way of one execution: stdout, stderr, exit code and files are the script's."""
    runner()
    ended = site.run(
        "import sys, pathlib\n"
        "print('out', *sys.argv[1:])\nprint('err', file=sys.stderr)\n"
        "pathlib.Path('a/b').mkdir(parents=True)\npathlib.Path('a/b/c.txt').write_text('made')\n"
        "pathlib.Path('in.txt').write_text(pathlib.Path('in.txt').read_text() + '!')\nsys.exit(3)\n",
        "x",
        "--y",
        files={"in.txt": b"given"},
    )
    assert (ended.status, ended.view["exit_code"], ended.out, ended.err) == ("failed", 3, b"out x --y\n", b"err\n")
    assert ended.files == {"a/b/c.txt": b"made", "in.txt": b"given!"}


def test_world_is_the_users(site: Any, runner: Any) -> None:
    """argv, cwd, environment, ``__file__`` and TMPDIR are as a local run's; the runner's token is nowhere."""
    runner()
    ended = site.run(
        "import os, sys, tempfile, pathlib\n"
        "print(sys.argv, os.path.relpath(os.getcwd(), os.environ['TMPDIR']), sys.path[0] == os.getcwd())\n"
        "print(os.environ['GIVEN'], os.environ['RGRID_ATTEMPT'], 'RGRID_RUNNER_TOKEN' in os.environ)\n"
        "print(pathlib.Path('../data/x').read_text(), sys.stdout.encoding)\n"
        "print(tempfile.gettempdir() == os.environ['TMPDIR'])\n"
        "print(open(sys.argv[2]).read())\n",
        "täxt",
        {"prefix": "", "path": "data/x", "original": "/data/x"},
        path="work/s.py",
        cwd="work",
        files={"data/x": b"above"},
        env={"GIVEN": "geheim"},
        script={"kind": "file", "path": "work/s.py", "argv0": "./s.py", "name": "s.py"},
    )
    lines = ended.out.decode().splitlines()
    assert lines[0].startswith("['./s.py', 'täxt', '/")
    assert lines[0].endswith("] ../disk/root/work True")
    assert lines[1:] == ["geheim 1 False", "above utf-8", "True", "above"]
    assert b"/data/x is " in ended.log["system"]


def test_module_bash_and_node_run(site: Any, runner: Any) -> None:
    """``-m`` and other runtimes."""
    runner()
    module = {"kind": "module", "path": "pkg.tool", "argv0": "pkg.tool", "name": "pkg.tool"}
    ended = site.run("", "1", script=module, files={"pkg/__init__.py": b"", "pkg/tool.py": b"print(__name__)"})
    assert ended.out == b"__main__\n"
    assert site.run("echo $0 $1; exit 7", "a", path="s.sh", runtime="bash").view["exit_code"] == 7


def test_stdin_file_and_pipe_reach_the_script(site: Any, runner: Any) -> None:
    """A regular file is there at once; a pipe arrives in numbered chunks, after the start."""
    runner()
    data = b"line\n" * 1000
    site.upload([data])
    echo = "import sys; data = sys.stdin.buffer.read(); print(len(data), data[-5:])"
    sha = hashlib.sha256(data).hexdigest()
    assert site.run(echo, stdin={"sha256": sha, "size": len(data)}).out == b"5000 b'line\\n'\n"
    assert site.run(echo).out == b"0 b''\n"
    execution = site.submit(echo, stdin={"stream": True})["first_execution_id"]
    for seq, part in enumerate((b"one", b"two", b""), start=1):
        chunk = {"seq": seq, "data": base64.b64encode(part).decode(), "eof": not part}
        assert site.http.post(f"/v1/executions/{execution}/stdin", json=chunk).status_code == 204
    assert site.ended(execution).out == b"6 b'netwo'\n"


def test_items_of_a_batch_run_with_their_own_files(site: Any, runner: Any) -> None:
    """Forty items, four at a time: each sees its file and leaves its own."""
    runner()
    upper = "import sys, pathlib; p = pathlib.Path(sys.argv[1]); p.with_suffix('.up').write_text(p.read_text().upper())"
    items = [{"args": [f"in/{n}.txt"], "files": {f"in/{n}.txt": f"text {n}".encode()}} for n in range(40)]
    batch = site.submit(upper, items=items)
    assert site.all_ended(batch["id"])["counts"]["succeeded"] == 40
    page = site.get(f"/v1/batches/{batch['id']}/outputs", params={"limit": 100})
    for outputs in page["outputs"]:
        n = outputs["index"]
        assert site.download(outputs) == {f"in/{n}.up": f"TEXT {n}".encode()}


def test_large_output_and_input_are_streamed_whole(site: Any, runner: Any) -> None:
    """An 80 MiB input comes by ranges, 150 MiB of output go by parts, 5 MB of stdout arrive byte for byte."""
    process = runner()
    data = bytes(range(256)) * 4096 * 80
    copy = (
        "import shutil, sys\nshutil.copy('big', 'copy')\n"
        "with open('copy', 'ab') as f: f.write(b'x' * (70 << 20))\nsys.stdout.buffer.write(bytes(range(250)) * 20000)\n"
    )
    ended = site.ended(
        site.submit(copy, items=[{"args": [], "files": {"big": data}}])["first_execution_id"], seconds=90
    )
    assert ended.status == "succeeded"
    assert ended.files["copy"] == data + b"x" * (70 << 20)
    assert ended.out == bytes(range(250)) * 20000
    status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    peak_kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    assert peak_kib < 120 * 1024


def test_failures_name_their_class(site: Any, runner: Any) -> None:
    """Timeout, missing runtime's absence, signal, traceback: each with its class and message."""
    runner()
    slow = site.run("import time\nprint('on', flush=True)\ntime.sleep(60)", timeout_s=0.5)
    assert (slow.status, slow.view["failure"], slow.out) == ("timed_out", "timeout", b"on\n")
    broken = site.run("def f(): raise KeyError('k')\nf()")
    assert broken.view["failure"] == "script"
    assert broken.view["message"].endswith("KeyError: 'k'")
    killed = site.run("import os; os.kill(os.getpid(), 9)")
    assert killed.view["exit_code"] == 137


def test_cancelled_script_dies_and_delivers(site: Any, runner: Any) -> None:
    """A running script is stopped by a cancel, and what it wrote is there."""
    runner()
    wait = "import time\nopen('half', 'w').write('1')\nprint('on', flush=True)\ntime.sleep(60)"
    execution = site.submit(wait)["first_execution_id"]
    until(lambda: site.log(execution).get("stdout"), what="the first line")
    before = time.monotonic()
    site.post(f"/v1/executions/{execution}/cancel", {"indexes": None, "reason": ""})
    ended = site.ended(execution)
    assert (ended.status, ended.files) == ("cancelled", {"half": b"1"})
    assert time.monotonic() - before < 5


def test_missing_input_is_never_run_on(site: Any, runner: Any, s3: Any, store: Any) -> None:
    """Bytes that are gone or wrong end the attempt as INPUT and mark the blob, so that the next submit heals it."""
    data = b"x" * 1000
    site.upload([b"print(1)", data])
    objects = [path for path in (s3.directory / store.bucket).rglob("*") if path.is_file()]
    for path in objects:
        path.write_bytes(b"y" * path.stat().st_size)
    runner()
    ended = site.ended(_submit_without_upload(site, b"print(1)", {"in": data}))
    assert (ended.status, ended.view["failure"]) == ("failed", "input")
    sha = hashlib.sha256(data).hexdigest()
    missing = site.post("/v1/blobs/missing", {"blobs": [{"sha256": sha, "size": 1000}]})["missing"]
    assert missing == [sha]
    assert site.run("print(1)", files={"in": data}).out == b"1\n"


def _submit_without_upload(site: Any, script: bytes, files: dict[str, bytes]) -> str:
    upload, site.upload = site.upload, lambda contents: None
    try:
        return str(site.submit(script, files=files)["first_execution_id"])
    finally:
        site.upload = upload
