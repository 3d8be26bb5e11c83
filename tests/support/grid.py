"""A real embedded grid in a directory of its own, and the ``rgrid`` command pointed at it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.engine import IMAGE, require_image

RGRID = (sys.executable, "-m", "rgrid")


def user_python() -> str:
    """The interpreter that stands for the user's own: the one behind the test environment's virtualenv."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


@dataclass(frozen=True)
class Ran:
    """What a finished command left: its exit code and the exact bytes of both streams."""

    code: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        """Stdout as text."""
        return self.out.decode(errors="replace")

    @property
    def errors(self) -> str:
        """Stderr as text."""
        return self.err.decode(errors="replace")

    @property
    def json(self) -> object:
        """Stdout as one JSON document."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Grid:
    """A home directory for rgrid and the environment that makes commands use it."""

    home: Path
    extra: Mapping[str, str] = field(default_factory=dict)

    def env(self, **more: str) -> dict[str, str]:
        """A user's environment: their own Python first on PATH, no virtualenv, nothing of the test run's."""
        keep = ("HOME", "LANG", "LC_ALL", "USER", "SSL_CERT_FILE", "SSL_CERT_DIR", "PIP_CERT", "TMPDIR")
        env = {name: os.environ[name] for name in keep if name in os.environ}
        env["PATH"] = f"{Path(user_python()).parent}:{os.environ.get('PATH', '/usr/bin:/bin')}"
        env["RGRID_HOME"] = str(self.home)
        return env | dict(self.extra) | more

    def rgrid(
        self,
        *args: str,
        cwd: Path | None = None,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
    ) -> Ran:
        """Run ``rgrid ARGS`` to its end, off a terminal."""
        return run([*RGRID, *args], cwd=cwd or self.home, stdin=stdin, env=self.env(**(env or {})), timeout=timeout)

    def start(self, *args: str, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start ``rgrid ARGS`` and leave it running, its streams piped."""
        return subprocess.Popen(
            [*RGRID, *args],
            cwd=cwd,
            env=self.env(**(env or {})),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


def run(argv: Sequence[str], *, cwd: Path, stdin: bytes | None, env: Mapping[str, str], timeout: float = 120) -> Ran:
    """Run a command to its end with exactly this environment; no stdin means ``/dev/null``."""
    with subprocess.Popen(
        list(argv),
        cwd=cwd,
        env=dict(env),
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            out, err = process.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return Ran(process.returncode, out, err)


@pytest.fixture(scope="session")
def grid() -> Iterator[Grid]:
    """One embedded grid for the whole test run, started as a user would and stopped at the end."""
    with started() as grid:
        yield grid


@pytest.fixture(scope="session")
def docker_grid() -> Iterator[Grid]:
    """Another, whose runner has containers."""
    require_image(IMAGE)
    with started(RGRID_RUNNER_BACKEND="docker") as grid:
        yield grid


@contextmanager
def started(**extra: str) -> Iterator[Grid]:
    """A grid of one's own, ``extra`` in the environment of everything; stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="rgrid-t-") as folder:
        grid = Grid(Path(folder), extra)
        up = grid.rgrid("up")
        assert up.code == 0, up.errors
        try:
            yield grid
        finally:
            down = grid.rgrid("down", "--force")
            assert down.code == 0, down.errors
