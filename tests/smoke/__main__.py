"""Smoke test of a deployed grid: ``python tests/smoke --url URL --key KEY [--quick]``.

Runs every command of ``rgrid`` against the grid as a user would, from a temporary home directory, and prints a short
table. ``--quick`` only reads. Exits 0 if all checks passed, 1 if any failed. What it made it deletes again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WORDS = "import sys\nprint(len(open(sys.argv[1]).read().split()))\nopen('made.txt', 'w').write('made')\n"
FLAKY = "import os, sys\nprint('attempt', os.environ['RGRID_ATTEMPT'])\nsys.exit(7)\n"
STREAM = "for n in range(1000):\n    print('line', n)\n"


class Failed(Exception):
    """A check did not hold."""


def need(held: object, what: str) -> None:
    """Fail with ``what`` unless ``held``."""
    if not held:
        raise Failed(what)


@dataclass
class Smoke:
    """One grid under test: where it is, and a scratch directory with a home of its own."""

    url: str
    key: str
    scratch: Path
    rows: list[tuple[str, bool, float, str]] = field(default_factory=list)
    made: list[str] = field(default_factory=list)

    def rgrid(self, *args: str, code: int = 0) -> str:
        """Run a command that must exit with ``code``; its stdout."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("RGRID_")}
        env |= {"RGRID_HOME": str(self.scratch / "home"), "RGRID_SERVER": self.url, "RGRID_API_KEY": self.key}
        argv = [sys.executable, "-m", "rgrid", *args]
        done = subprocess.run(
            argv,
            cwd=self.scratch,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        need(done.returncode == code, f"rgrid {' '.join(args)}: exit {done.returncode}, {done.stderr.strip()[-300:]}")
        return done.stdout

    def view(self, *args: str) -> Any:
        """The JSON document that a command prints."""
        return json.loads(self.rgrid(*args, "--json"))

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        """GET ``path`` with the key: status and body."""
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.key}"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def check(self, name: str, body: Callable[[Smoke], str | None]) -> None:
        """Run one check and note how it went."""
        start = time.perf_counter()
        try:
            told, good = body(self) or "", True
        except (Failed, OSError, subprocess.TimeoutExpired, ValueError, KeyError) as error:
            told, good = f"{type(error).__name__}: {error}", False
        self.rows.append((name, good, time.perf_counter() - start, told))


def health(smoke: Smoke) -> str:
    """The API answers and says that its parts are well."""
    status, live = smoke.get("/healthz")
    need(status == 200 and live["ok"], f"/healthz: {status} {live}")
    status, ready = smoke.get("/readyz")
    need(status == 200 and ready["ok"], f"/readyz: {status} {ready}")
    return " ".join(f"{part}={state}" for part, state in ready["parts"].items())


def meta(smoke: Smoke) -> str:
    """The key belongs to a project."""
    status, answer = smoke.get("/v1/meta")
    need(status == 200, f"/v1/meta: {status} {answer}")
    return f"project {answer['project']}, version {answer['version']}"


def refused(smoke: Smoke) -> None:
    """A wrong key is refused with a problem document."""
    other = Smoke(smoke.url, "rgr_" + "x" * 40, smoke.scratch)
    status, answer = other.get("/v1/batches")
    need(status == 401 and answer["code"] == "not_authorised", f"{status} {answer}")


def runners(smoke: Smoke) -> str:
    """At least one runner is online."""
    seen = smoke.view("runners")["runners"]
    online = [runner["name"] for runner in seen if runner["state"] == "online"]
    need(online, "no runner is online")
    return f"{len(online)} online"


def reading(smoke: Smoke) -> None:
    """The commands that only read."""
    smoke.rgrid("list")
    smoke.rgrid("keys", "list")
    smoke.rgrid("--version")
    smoke.rgrid("completion", "bash")
    smoke.rgrid("doctor")


def single(smoke: Smoke) -> str:
    """A file goes up, the script runs, a file comes down: store, database, queue and runner."""
    out = smoke.rgrid("run", "words.py", "text.txt")
    need(out == "4\n", f"stdout {out!r}")
    need((smoke.scratch / "made.txt").read_text() == "made", "made.txt did not come back")
    batch = smoke.view("status", "last")["id"]
    smoke.made.append(batch)
    need("made.txt" in smoke.rgrid("outputs", batch), "outputs does not list made.txt")
    smoke.rgrid("download", batch, "--output-dir", "again")
    need((smoke.scratch / "again/made.txt").exists(), "download brought nothing")
    need(smoke.rgrid("logs", batch) == "4\n", "logs differ")
    smoke.rgrid("attach", batch)
    smoke.rgrid("why", batch)
    return str(batch)


def ten(smoke: Smoke) -> str:
    """A batch of ten."""
    smoke.rgrid("run", "words.py", "--batch", *[f"in/{n}.txt" for n in range(10)], "--parallel", "3")
    view = smoke.view("status", "last")
    smoke.made.append(view["id"])
    need(view["counts"]["succeeded"] == 10, f"{view['counts']}")
    return f"{view['id']}: 10 of 10"


def failure(smoke: Smoke) -> str:
    """A failure is seen with its exit code, and retried."""
    smoke.rgrid("run", "flaky.py", code=7)
    batch = smoke.view("status", "last")["id"]
    smoke.made.append(batch)
    changed = smoke.view("retry", batch, "--failed", "-d")
    need(changed["changed"] == 1, f"{changed}")
    smoke.rgrid("wait", batch, code=7)
    return str(batch)


def stream(smoke: Smoke) -> str:
    """A thousand lines arrive in order, attached and afterwards."""
    want = "".join(f"line {n}\n" for n in range(1000))
    need(smoke.rgrid("run", "stream.py") == want, "attached output differs")
    batch = smoke.view("status", "last")["id"]
    smoke.made.append(batch)
    need(smoke.rgrid("logs", batch, "--tail", "2") == "line 998\nline 999\n", "tail differs")
    return "1,000 lines"


def cancelled(smoke: Smoke) -> None:
    """A detached run is cancelled."""
    batch = smoke.rgrid("run", "-d", "-q", "sleep.py").strip()
    smoke.made.append(batch)
    smoke.rgrid("cancel", batch, "-y")
    smoke.rgrid("wait", batch, code=130)


def keys(smoke: Smoke) -> None:
    """A key is made, works, and is revoked."""
    made = smoke.view("keys", "create", "smoke")
    try:
        status, _ = Smoke(smoke.url, made["secret"], smoke.scratch).get("/v1/meta")
        need(status == 200, f"a new key is answered {status}")
    finally:
        smoke.rgrid("keys", "revoke", made["id"], "-y")


def clean(smoke: Smoke) -> str:
    """What this test made is deleted and gone."""
    for batch in smoke.made:
        smoke.rgrid("delete", batch, "-y")
        need(smoke.get(f"/v1/batches/{batch}")[0] == 404, f"{batch} is still there")
    return f"{len(smoke.made)} batches"


QUICK: list[Callable[[Smoke], str | None]] = [health, meta, refused, runners, reading]
FULL: list[Callable[[Smoke], str | None]] = [*QUICK, single, ten, failure, stream, cancelled, keys, clean]


def main() -> int:
    """Check the grid that the arguments name."""
    parser = argparse.ArgumentParser(prog="tests/smoke", description=__doc__)
    parser.add_argument("--url", default=os.environ.get("RGRID_SERVER"), help="address of the grid")
    parser.add_argument("--key", default=os.environ.get("RGRID_API_KEY"), help="API key")
    parser.add_argument("--quick", action="store_true", help="only read")
    options = parser.parse_args()
    if not options.url or not options.key:
        parser.error("--url and --key (or RGRID_SERVER and RGRID_API_KEY) are needed")
    with tempfile.TemporaryDirectory(prefix="rgrid-smoke-") as folder:
        scratch = Path(folder)
        (scratch / "in").mkdir()
        for number in range(10):
            (scratch / f"in/{number}.txt").write_text("word " * number)
        (scratch / "text.txt").write_text("four words of text\n")
        (scratch / "words.py").write_text(WORDS)
        (scratch / "flaky.py").write_text(FLAKY)
        (scratch / "stream.py").write_text(STREAM)
        (scratch / "sleep.py").write_text("import time\ntime.sleep(300)\n")
        smoke = Smoke(options.url.rstrip("/"), options.key, scratch)
        for check in QUICK if options.quick else FULL:
            smoke.check(check.__name__, check)
    for name, good, seconds, told in smoke.rows:
        print(f"{'ok  ' if good else 'FAIL'} {name:<10} {seconds:6.2f} s  {told}")
    failed = sum(not good for _, good, _, _ in smoke.rows)
    print(f"{len(smoke.rows) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
