"""Brings directories of the host into the mount namespace of a container that runs, and takes them out again.

The way of it (Linux 5.2): ``open_tree`` makes a detached clone of a mount here, a forked child enters the container's
namespace, and ``move_mount`` puts the clone there. Nothing else of the host can be reached through it. Mount points
are made through the host's view of the container's root file system, because the container's own is read-only.

All of it happens while no script is in the container, so that nothing moves below our feet; still no symlink is
followed anywhere, since a workspace may hold what an earlier item of the batch left there.
"""

from __future__ import annotations

import errno
import os
import stat

from rgrid_runner.shim.cgroup import read
from rgrid_runner.shim.linux import IS_LINUX

if IS_LINUX:
    import ctypes

    from rgrid_runner.shim.linux import libc

TYPE_CHECKING = False  # ``typing`` costs 10 ms
if TYPE_CHECKING:
    from collections.abc import Callable

TMP = b"/tmp"
SHM = b"/dev/shm"

_OPEN_TREE, _MOVE_MOUNT = 428, 429  # the same on every architecture
_AT_FDCWD = -100
_OPEN_TREE_CLONE, _AT_SYMLINK_NOFOLLOW = 1, 0x100
_F_EMPTY_PATH = 4
_RDONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _PRIVATE = 1, 2, 4, 32, 4096, 1 << 18
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_NEWNS, _NEWIPC = 0x20000, 0x8000000
_WALK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_CLEAN, _LEFT = b"clean", b"left"


class MountError(Exception):
    """``errno``, and the path that it was about."""

    def __init__(self, errno: int, path: str) -> None:
        super().__init__(errno, path)
        self.errno = errno
        self.path = path


class _About:
    """Makes an OSError say which path it is about."""

    def __init__(self, path: bytes) -> None:
        self._path = os.fsdecode(path)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise MountError(error.errno or 0, self._path) from error


def table(pid: int) -> bytes:
    """What is mounted in a process's namespace, in words that change if anything does."""
    return read(f"/proc/{pid}/mountinfo")


def insert(pid: int, root: bytes, tmpfs: list[tuple[bytes, int]], mounts: list[tuple[bytes, bytes, bool]]) -> None:
    """Mount ``tmpfs`` (target, bytes) and then ``mounts`` (source, target, writable) in the namespace of ``pid``.

    ``root``: its root directory as the host sees it. Nothing brings set-uid programs or devices along; what is not
    writable is so for everybody. Raises MountError; part of it may be done then (``clear`` takes it out).
    """
    clones: list[tuple[int, bytes, bool]] = []
    with _About(root):
        host = os.open(root, _WALK | os.O_DIRECTORY)
    try:
        for source, target, writable in mounts:
            with _About(source):
                clones.append((_clone(source), target, writable))
        _inside(pid, _NEWNS, lambda: _insert(host, tmpfs, clones))
    finally:
        os.close(host)
        for clone, _, _ in clones:
            os.close(clone)


def clear(pid: int, before: bytes) -> bool:
    """Unmount what was mounted in the namespace of ``pid`` since its ``table`` was ``before``.

    True if nothing of a run is left, also not in its IPC namespace: SysV segments, semaphores and queues, POSIX queues.
    Raises MountError.
    """
    known = set(before.splitlines())
    try:
        targets = [_unescaped(line.split()[4]) for line in table(pid).splitlines() if line not in known]
    except OSError as error:
        raise MountError(error.errno or 0, "mountinfo") from error
    answer = _inside(pid, _NEWIPC, lambda: _clear(pid, targets))
    return answer == _CLEAN and table(pid) == before


def _inside(pid: int, kind: int, work: Callable[[], bytes]) -> bytes:
    """Do ``work`` in a forked child that has entered a namespace of ``pid``; its answer. Raises MountError."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        answer = b""
        try:
            _enter(pid, kind)
            answer = work()
        except MountError as error:
            answer = b"%d %s" % (error.errno, os.fsencode(error.path))
        except OSError as error:
            answer = b"%d %s" % (error.errno or 0, os.fsencode(error.filename or ""))
        finally:
            os.write(writing, answer)
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:  # noqa: PTH123
        answer = file.read()
    os.waitpid(child, 0)
    if answer not in (_CLEAN, _LEFT):
        code, _, path = answer.partition(b" ")
        raise MountError(int(code or errno.EIO), os.fsdecode(path))
    return answer


# in the child


def _enter(pid: int, kind: int) -> None:
    name = "mnt" if kind == _NEWNS else "ipc"
    fd = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    _done(libc.setns(fd, kind))
    os.close(fd)


def _insert(host: int, tmpfs: list[tuple[bytes, int]], clones: list[tuple[int, bytes, bool]]) -> bytes:
    inside = os.open("/", _WALK | os.O_DIRECTORY)
    for target, size in tmpfs:
        with _About(target):
            _make(inside, host, target, directory=True)
            _done(libc.mount(b"tmpfs", target, b"tmpfs", _NOSUID | _NODEV, b"size=%d,mode=1777" % size))
    for clone, target, writable in clones:
        with _About(target):
            _make(inside, host, target, directory=stat.S_ISDIR(os.fstat(clone).st_mode))
            _done(libc.syscall(_MOVE_MOUNT, clone, b"", _AT_FDCWD, target, _F_EMPTY_PATH))
            flags = _NOSUID | _NODEV | (0 if writable else _RDONLY)
            _done(libc.mount(None, target, None, _REMOUNT | _BIND | flags, None))
            _done(
                libc.mount(None, target, None, _PRIVATE, None)
            )  # what is mounted below it must not appear on the host
    return _CLEAN


def _clear(pid: int, targets: list[bytes]) -> bytes:
    left = any(read(f"/proc/sysvipc/{name}").count(b"\n") > 1 for name in ("shm", "sem", "msg"))
    _enter(pid, _NEWNS)
    for target in targets:
        if not any(target.startswith(other + b"/") for other in targets):
            with _About(target):
                _done(libc.umount2(target, _MNT_DETACH | _UMOUNT_NOFOLLOW))
    return _LEFT if left or os.listdir("/dev/mqueue") else _CLEAN  # noqa: PTH208


def _clone(path: bytes) -> int:
    return _done(libc.syscall(_OPEN_TREE, _AT_FDCWD, path, _OPEN_TREE_CLONE | _AT_SYMLINK_NOFOLLOW | os.O_CLOEXEC))


def _make(inside: int, host: int, target: bytes, *, directory: bool) -> None:
    """Make a mount point and the directories above it, which everybody may pass through.

    ``inside`` and ``host``: the root directory as the container and as the host see it. What lies in a mount of this
    run is made inside, what lies in the container's root file system from the host's side.
    """
    names = [name for name in target.split(b"/") if name]
    if not names or any(name in (b".", b"..") for name in names):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    at = os.dup(inside)
    for depth, name in enumerate(names):
        last = depth == len(names) - 1
        try:
            step = os.open(name, _WALK, dir_fd=at)
        except FileNotFoundError:
            _add(at, name, host, names[: depth + 1], directory=directory or not last)
            step = os.open(name, _WALK, dir_fd=at)
        mode = os.fstat(step).st_mode
        if stat.S_ISDIR(mode) != (directory or not last) or stat.S_ISLNK(mode):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not last and not mode & stat.S_IXOTH:
            _open_up(step, host, names[: depth + 1])
        os.close(at)
        at = step
    os.close(at)


def _add(at: int, name: bytes, host: int, names: list[bytes], *, directory: bool) -> None:
    try:
        _create(name, at, directory=directory)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        above = _walk(host, names[:-1])
        _create(name, above, directory=directory)
        os.close(above)


def _create(name: bytes, at: int, *, directory: bool) -> None:
    if directory:
        os.mkdir(name, 0o755, dir_fd=at)
    else:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o644, dir_fd=at))


def _open_up(step: int, host: int, names: list[bytes]) -> None:
    """Let everybody pass through a directory of the image, such as ``/root``; one in a mount is its owner's affair."""
    seen = os.fstat(step)
    try:
        above = _walk(host, names[:-1])
        there = os.stat(names[-1], dir_fd=above, follow_symlinks=False)
    except OSError:
        return
    if (there.st_dev, there.st_ino) == (seen.st_dev, seen.st_ino):
        os.chmod(names[-1], stat.S_IMODE(there.st_mode) | stat.S_IXOTH, dir_fd=above)
    os.close(above)


def _walk(at: int, names: list[bytes]) -> int:
    """A descriptor for a path below ``at`` on which there is no symlink."""
    at = os.dup(at)
    for name in names:
        step = os.open(name, _WALK | os.O_DIRECTORY, dir_fd=at)
        os.close(at)
        at = step
    return at


def _unescaped(path: bytes) -> bytes:
    """A path as mountinfo writes it: blanks, tabs, newlines and backslashes in octal."""
    first, *rest = path.split(b"\\")
    return first + b"".join(bytes((int(part[:3], 8),)) + part[3:] for part in rest)


def _done(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
