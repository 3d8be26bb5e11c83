"""What ``rgrid doctor`` checks: each part by using it, and what to do about what does not work."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rgrid.client import Client
from rgrid.config import Server
from rgrid.local import processes
from rgrid.local.find import running, server_of
from rgrid.local.layout import Layout, LocalError, check_owner
from rgrid.local.programs import INSTALL, find_programs
from rgrid.local.record import GridRecord, read_facts, read_secrets
from rgrid.local.start import lock_holder
from rgrid_shared import __version__
from rgrid_shared.errors import RgridError

LOW_DISK_BYTES = 2 << 30
CLOCK_LIMIT_S = 5.0
RUNNER_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Check:
    """One answer. ``ok``: None means that it does not matter here or could not be asked. ``hint``: what to do."""

    name: str
    ok: bool | None
    detail: str
    hint: str = ""

    def as_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return asdict(self)


class Broken(Exception):
    """A check found a fault: what is wrong, and what to do."""

    def __init__(self, detail: str, hint: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint


def local_checks(layout: Layout) -> Iterator[Check]:
    """Everything about the embedded grid, in the order in which one part needs the other."""
    yield _try("programs", lambda: _programs(layout))
    if not layout.root.exists():
        yield Check("embedded grid", None, "has not run here yet", "rgrid up, or just rgrid run SCRIPT")
        yield from machine_checks(layout.home if layout.home.exists() else Path.home())
        return
    yield _try("directory", lambda: _directory(layout))
    record = running(layout)
    yield _supervisor(layout, record)
    if record is not None:
        yield _try("database", lambda: _database(layout))
        yield _try("object store", lambda: _store(layout, record))
        try:
            server = server_of(layout, record)
        except LocalError as error:
            yield Check("keys", False, error.message, "rgrid down; restore secrets.json, or rgrid down --delete-data")
            return
        yield from server_checks(server)
    yield from machine_checks(layout.root)


def server_checks(server: Server) -> Iterator[Check]:
    """A control plane: reachable, its key, its version, its parts, its runners and its clock."""
    with Client(server) as client:
        began = time.time()
        try:
            meta = client.meta()
        except RgridError as error:
            yield Check("server", False, error.message, error.hint or "rgrid login --server URL")
            return
        took_ms = (time.time() - began) * 1000
        secure = " over TLS" if server.url.startswith("https:") else ""
        yield Check("server", True, f"{server.url}{secure} answers in {took_ms:.0f} ms")
        yield Check("key", True, f"opens project {meta['project']}")
        yield Check(
            "version",
            True if meta["version"] == __version__ else None,
            f"server {meta['version']}, this rgrid {__version__}",
            "" if meta["version"] == __version__ else "They work together; the same version on both sides is better.",
        )
        yield _try("parts", lambda: _parts(client))
        yield _try("clock", lambda: _clock(client))
        yield _try("runners", lambda: _runners(client, patience_s=RUNNER_LIMIT_S if server.local else 0.0))


def machine_checks(folder: Path) -> Iterator[Check]:
    """This machine: its interpreter, uv, and the space around ``folder``."""
    yield Check("python", True, f"{sys.version.split()[0]} at {sys.executable}")
    uv = _uv()
    if uv:
        yield Check("uv", True, uv)
    else:
        yield Check("uv", False, "not found: requirements of scripts cannot be installed here", INSTALL)
    free = shutil.disk_usage(folder).free
    low = free < LOW_DISK_BYTES
    yield Check(
        "disk space",
        not low,
        f"{free / 2**30:.1f} GiB free for {folder}",
        "Free some space, or set RGRID_HOME to a directory on another disk." if low else "",
    )


def _try(name: str, question: Callable[[], str]) -> Check:
    """Ask one thing; a fault that it may meet becomes the answer."""
    try:
        return Check(name, True, question())
    except Broken as broken:
        return Check(name, False, broken.detail, broken.hint)
    except RgridError as error:
        return Check(name, False, error.message, error.hint)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return Check(name, False, f"{type(error).__name__}: {error}")


def _programs(layout: Layout) -> str:
    found = find_programs(read_facts(layout.facts).store_kind)
    return f"PostgreSQL {found.postgres_major}, {found.store_kind}"


def _directory(layout: Layout) -> str:
    for folder in (layout.home, layout.root):
        check_owner(folder)
    open_to_others = layout.root.stat().st_mode & 0o077
    if open_to_others:
        raise Broken(f"{layout.root} is open to other users", f"chmod 700 {layout.root}")
    if layout.secrets.exists() and layout.secrets.stat().st_mode & 0o077:
        raise Broken(f"{layout.secrets} is open to other users", f"chmod 600 {layout.secrets}")
    return str(layout.root)


def _supervisor(layout: Layout, record: GridRecord | None) -> Check:
    if record is not None:
        kind = "stops when idle" if record.auto else "stays until rgrid down"
        parts = ", ".join(f"{name} {pid}" for name, pid in record.parts.items())
        return Check("embedded grid", True, f"{record.url}, since {record.started_at}, {kind} ({parts})")
    pid, mark = lock_holder(layout)
    if processes.is_alive(pid, mark):
        return Check("embedded grid", False, f"is starting or stopping (pid {pid})", "Wait a moment; rgrid doctor")
    from rgrid.local import recovery

    left = recovery.leftovers(layout)
    if left:
        names = ", ".join(f"{one.part} {one.pid}" for one in left)
        return Check("embedded grid", False, f"its supervisor is gone, but {names} still run", "rgrid up recovers it")
    return Check("embedded grid", None, "is not running", "rgrid up, or just rgrid run SCRIPT")


def _database(layout: Layout) -> str:
    programs = find_programs(read_facts(layout.facts).store_kind)
    done = subprocess.run(
        [
            programs.postgres / "psql",
            "-XAt",
            "-h",
            layout.sockets,
            "-U",
            "rgrid",
            "-d",
            "postgres",
            "-c",
            _DATABASE_SQL,
        ],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=10,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise Broken(done.stderr.strip() or "does not answer", f"Its log: {layout.log('database')}")
    version, size = done.stdout.strip().split("|")
    return f"PostgreSQL {version}, {int(size) >> 20} MiB"


_DATABASE_SQL = "select current_setting('server_version'), pg_database_size(current_database())"


def _store(layout: Layout, record: GridRecord) -> str:
    """Put, get and delete an object, as the control plane does."""
    import minio
    import urllib3

    keys = read_secrets(layout.secrets)
    http = urllib3.PoolManager(timeout=5.0, retries=False)
    address = record.store_url.partition("://")[2]
    store = minio.Minio(
        address,
        access_key=keys.store_access_key,
        secret_key=keys.store_secret_key,
        secure=False,
        region="us-east-1",
        http_client=http,
    )
    key, body = f"doctor/{secrets.token_hex(8)}", secrets.token_bytes(1024)
    began = time.monotonic()
    try:
        import io

        store.put_object("rgrid", key, io.BytesIO(body), len(body))
        answer = store.get_object("rgrid", key)
        try:
            same = answer.read() == body
        finally:
            answer.close()
        store.remove_object("rgrid", key)
    except (urllib3.exceptions.HTTPError, minio.error.MinioException) as error:
        raise Broken(f"{record.store_url}: {error}", f"Its log: {layout.log('store')}") from error
    if not same:
        raise Broken("gave other bytes back than it was given", f"Check the disk that holds {layout.store}")
    return f"{record.store_url} stored, gave back and deleted an object in {(time.monotonic() - began) * 1000:.0f} ms"


def _parts(client: Client) -> str:
    health = client.health()
    told = ", ".join(f"{name} {word}" for name, word in health["parts"].items()) or "ok"
    if not health["ok"]:
        raise Broken(told, "See the log of the part that is not ok.")
    return told


def _clock(client: Client) -> str:
    from email.utils import parsedate_to_datetime

    answer = client.transport.request("GET", client.url("/healthz"), headers=client.headers)
    answer.read()
    told = answer.headers.get("Date")
    if not told:
        return "the server does not tell its time"
    apart_s = abs(parsedate_to_datetime(told).timestamp() - time.time())
    if apart_s > CLOCK_LIMIT_S:
        raise Broken(f"{apart_s:.0f} s apart from the server's", "Set this machine's clock (NTP).")
    return "agrees with the server's"


def _runners(client: Client, *, patience_s: float) -> str:
    """At least one runner is online; a grid that was just started gets a moment."""
    deadline = time.monotonic() + patience_s
    while True:
        found = client.runners()["runners"]
        online = [runner for runner in found if runner["state"] == "online"]
        if online:
            slots = sum(runner["slots"] for runner in online)
            names = ", ".join(sorted({name for runner in online for name in runner["runtimes"]}))
            return f"{len(online)} online, {slots} slots; {names}"
        if time.monotonic() > deadline:
            raise Broken(f"none online ({len(found)} known)", "Start one: rgrid-runner; its log says what is wrong.")
        time.sleep(0.1)


def _uv() -> str | None:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("uv")
    if found is None:
        return None
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False, timeout=10)
    return f"{said.stdout.strip().removeprefix('uv ').split(' ')[0]} at {found}" if said.returncode == 0 else None
