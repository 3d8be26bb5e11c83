"""Start a script in a clean world: own session, default signals, no descriptor but 0, 1 and 2."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # ``signal`` without the enum module
import errno
import os


class SpawnError(Exception):
    """The script's process could not be made: ``errno`` and the step that failed.

    Steps: ``cwd``, ``exec``; for a container also ``container`` (it is not up, or not idle), ``cgroup``, ``control``
    (its directory), ``keeper`` (its PID 1 does not answer) and ``mount PATH``. ``reusable``: what it was to run in is
    as it was.
    """

    def __init__(self, errno: int, step: str, *, reusable: bool = False) -> None:
        super().__init__(errno, step)
        self.errno = errno
        self.step = step
        self.reusable = reusable


def spawn(argv: list[bytes], env: dict[bytes, bytes], cwd: bytes, stdin: int, stdout: int, stderr: int) -> int:
    """Start ``argv[0]`` (sought on the new PATH if it has no slash); returns its pid once exec has worked.

    The three descriptors become 0, 1 and 2 of the script and stay open here. Raises SpawnError. By ``posix_spawn``,
    which shares memory until exec: forking the interpreter costs 2 ms more.
    """
    try:
        os.chdir(cwd)
    except OSError as error:
        raise SpawnError(error.errno or 0, "cwd") from error
    try:
        return os.posix_spawn(
            _program(argv[0], env),
            argv,
            env,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, stdin, 0),
                (os.POSIX_SPAWN_DUP2, stdout, 1),
                (os.POSIX_SPAWN_DUP2, stderr, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=_ignored(),
        )
    except OSError as error:
        raise SpawnError(error.errno or 0, "exec") from error
    finally:
        os.chdir("/")


def _ignored() -> list[int]:
    """What is ignored here, by Python, by ``nohup`` or by a shell's ``&``, must not be in the script."""
    return [signum for signum in range(1, _signal.NSIG) if _signal.getsignal(signum) == _signal.SIG_IGN]


def _program(name: bytes, env: dict[bytes, bytes]) -> bytes:
    if b"/" in name:
        return name
    for directory in env.get(b"PATH", os.defpath.encode()).split(b":"):
        path = (directory or b".") + b"/" + name
        if os.access(path, os.X_OK):
            return path
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
