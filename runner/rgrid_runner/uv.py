"""The ``uv`` program: resolve, make an environment, install. Its words are passed on as they are."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rgrid_runner.outcome import AttemptFailed, clip
from rgrid_shared.states import FailureClass

_UNREACHABLE: Final = re.compile(
    r"error sending request|dns error|failed to lookup address|connection (refused|reset)|connect(ion)? timed out"
    r"|operation timed out|network unreachable|HTTP status server error|tls handshake|client error \(Connect\)",
    re.IGNORECASE,
)
_FULL: Final = re.compile(r"No space left on device|os error 28|Disk quota exceeded", re.IGNORECASE)
_INDEX_SETTINGS: Final = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")
_FOREIGN: Final = ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME", "UV_PROJECT", "UV_PYTHON")


def classify(text: str) -> FailureClass:
    """Whose fault uv's complaint is: the requirements', or the grid's (no index, no disk)."""
    return FailureClass.INFRASTRUCTURE if _UNREACHABLE.search(text) or _FULL.search(text) else FailureClass.DEPENDENCIES


def index_of(env: Mapping[str, str]) -> str:
    """What decides where packages come from, as one string: part of a resolution's name."""
    return "\n".join(f"{name}={env[name]}" for name in _INDEX_SETTINGS if name in env)


class Uv:
    """Runs uv in ``directory``, which holds no project whose settings it could pick up."""

    def __init__(self, directory: Path, env: Mapping[str, str] | None = None) -> None:
        self._directory = directory
        env = os.environ if env is None else env
        self._env = {name: value for name, value in env.items() if name not in _FOREIGN}
        # The host's own certificates, as pip uses them: an index behind a company's authority works as it does there.
        # (The setting has two names, by uv's age.)
        self._env = {"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1", **self._env, "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
        self._program = ""
        self.index = index_of(env)

    async def resolve(self, lines: list[str], python: str) -> str:
        """The exact pins, with hashes, that ``lines`` come to for this interpreter. AttemptFailed with uv's words."""
        return await self._run(
            "pip", "compile", "-", "--python", python, "--generate-hashes", "--no-header", "--no-annotate",
            stdin="\n".join(lines) + "\n",
        )  # fmt: skip

    async def environment(self, path: Path, python: str) -> None:
        """Make an empty environment at ``path`` that may be moved."""
        await self._run("venv", str(path), "--python", python, "--relocatable", "--no-project")

    async def install(self, environment: Path, lock: Path, *, offline: bool) -> None:
        """Install exactly what ``lock`` lists. ``offline``: from uv's cache or not at all."""
        how = ("--offline",) if offline else ()
        python = str(environment / "bin" / "python")
        await self._run("pip", "install", "--python", python, "--no-deps", "-r", str(lock), *how)

    async def _run(self, *arguments: str, stdin: str = "") -> str:
        process = await asyncio.create_subprocess_exec(
            self._find(),
            "--quiet",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self._directory,
            env=self._env,
        )
        try:
            output, errors = await process.communicate(stdin.encode())
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if process.returncode:
            text = clip(errors.decode(errors="replace").strip()) or f"uv ended with {process.returncode}"
            raise AttemptFailed(classify(text), text)
        return output.decode()

    def _find(self) -> str:
        if not self._program:
            from uv import find_uv_bin

            try:
                self._program = os.fsdecode(find_uv_bin())
            except FileNotFoundError as error:
                raise AttemptFailed(
                    FailureClass.INFRASTRUCTURE, f"This runner has no uv to install requirements with: {error}"
                ) from error
        return self._program
