"""The four parts of the embedded grid as processes: what each runs, with which environment, and how it is stopped."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from rgrid.local.layout import Layout
from rgrid.local.programs import Programs
from rgrid.local.record import Secrets

DIR_MARK = "RGRID_LOCAL_DIR"
PART_MARK = "RGRID_LOCAL_PART"
"""Every part carries these two in its environment, so that a later supervisor recognises what an earlier one left."""

DATABASE = "database"
STORE = "store"
API = "api"
RUNNER = "runner"

SIGNATURES: Mapping[str, tuple[str, ...]] = {
    DATABASE: ("postgres",),
    STORE: ("rclone", "minio"),
    API: ("rgrid_api.main",),
    RUNNER: ("rgrid_runner.main",),
}
"""What stands in the command line of each part."""


@dataclass(frozen=True, slots=True)
class Part:
    """A process to keep running.

    ``stops``: the signals that ask it to end, each with the seconds it then has; SIGKILL follows.
    ``before_exec`` runs in the child.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    stops: tuple[tuple[signal.Signals, float], ...]
    before_exec: Callable[[], None] | None = None


def base_environment(layout: Layout, part: str) -> dict[str, str]:
    """The user's environment without what would steer a part: rgrid's own settings and PostgreSQL's."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RGRID_", "PG", "RCLONE_", "MINIO_")) and name not in {"PYTHONHOME", "NOTIFY_SOCKET"}
    }
    return kept | {DIR_MARK: str(layout.root), PART_MARK: part}


def database_part(layout: Layout, programs: Programs, before_exec: Callable[[], None] | None) -> Part:
    """PostgreSQL on a unix socket, sized for one user; SIGINT is its fast shutdown."""
    options = {
        "listen_addresses": "",
        "unix_socket_directories": str(layout.sockets),
        "max_connections": "50",
        "shared_buffers": "32MB",
        "work_mem": "4MB",
        "maintenance_work_mem": "32MB",
        "huge_pages": "off",
        "jit": "off",
        "io_method": "sync",
        "max_worker_processes": "2",
        "max_parallel_workers_per_gather": "0",
        "max_logical_replication_workers": "0",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "min_wal_size": "32MB",
        "max_wal_size": "256MB",
        "checkpoint_timeout": "15min",
        "log_checkpoints": "off",
        "log_timezone": "UTC",
        "timezone": "UTC",
    }
    if programs.postgres_major < 18:
        del options["io_method"]
    settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    return Part(
        DATABASE,
        (str(programs.postgres / "postgres"), "-D", str(layout.database), *settings),
        base_environment(layout, DATABASE) | {"LC_ALL": "C"},
        ((signal.SIGINT, 30.0), (signal.SIGQUIT, 5.0)),
        before_exec,
    )


def initdb_command(layout: Layout, programs: Programs) -> list[str]:
    """Makes the data directory: UTF-8, byte order (the same on every machine), checksums, no passwords.

    Only the owner of the socket's directory can connect.
    """
    return [
        str(programs.postgres / "initdb"),
        f"--pgdata={layout.database}",
        "--username=rgrid",
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C",
        *(("--locale-provider=builtin", "--builtin-locale=C.UTF-8") if programs.postgres_major >= 17 else ()),
        "--no-instructions",
    ]


def database_url(layout: Layout) -> str:
    """Where the API finds the database."""
    return f"postgresql+asyncpg://rgrid@/postgres?host={quote(str(layout.sockets), safe='')}"


def store_part(layout: Layout, programs: Programs, secrets: Secrets, port: int) -> Part:
    """The S3 server on loopback; its keys travel in the environment, where other users cannot read them."""
    env = base_environment(layout, STORE)
    address = f"127.0.0.1:{port}"
    stops = ((signal.SIGTERM, 5.0),)
    if programs.store_kind == "minio":
        env |= {"MINIO_ROOT_USER": secrets.store_access_key, "MINIO_ROOT_PASSWORD": secrets.store_secret_key}
        env |= {"MINIO_BROWSER": "off", "MINIO_UPDATE": "off"}
        return Part(
            STORE, (str(programs.store), "server", "--quiet", "--address", address, str(layout.store)), env, stops
        )
    env |= {"RCLONE_AUTH_KEY": f'"{secrets.store_access_key},{secrets.store_secret_key}"', "GOMEMLIMIT": "96MiB"}
    options = (
        "--config=",
        f"--addr={address}",
        "--vfs-cache-mode=off",
        "--buffer-size=0",  # 16 MiB read ahead for each open file otherwise, of a disk that is right here
        "--etag-hash=",  # an MD5 of the whole object for each HEAD and GET otherwise; nothing here reads it
        "--poll-interval=0",
        "--dir-cache-time=24h",
        "--max-header-bytes=65536",
        "--log-level=NOTICE",
    )
    return Part(STORE, (str(programs.store), "serve", "s3", *options, str(layout.store)), env, stops)


PASSED_TO_API = ("RGRID_TIME_SCALE", "RGRID_LOG_LIMIT", "RGRID_LOG_ARCHIVE_AFTER_S")
"""Settings of the control plane that a user of the embedded grid may choose; the rest is the grid's own."""


def api_part(layout: Layout, secrets: Secrets, port: int, store_url: str) -> Part:
    """The control plane on loopback."""
    env = base_environment(layout, API)
    env |= {name: os.environ[name] for name in PASSED_TO_API if name in os.environ}
    env |= {
        "RGRID_DATABASE_URL": database_url(layout),
        "RGRID_S3_ENDPOINT": store_url,
        "RGRID_S3_ACCESS_KEY": secrets.store_access_key,
        "RGRID_S3_SECRET_KEY": secrets.store_secret_key,
        "RGRID_S3_BUCKET": "rgrid",
        # rclone holds all parts of an upload in memory until the last one; one long PUT goes straight to disk.
        "RGRID_S3_SINGLE_PUT_MAX": str(5 * 1024**3),
        "RGRID_SECRET_KEY": secrets.secret_key,
        "RGRID_HOST": "127.0.0.1",
        "RGRID_PORT": str(port),
        "RGRID_BOOTSTRAP_PROJECT": "local",
        "RGRID_BOOTSTRAP_KEY": secrets.api_key,
        "RGRID_BOOTSTRAP_RUNNER_TOKEN": secrets.runner_token,
        "RGRID_ALLOW_PROCESS_BACKEND": "true",
    }
    return Part(API, (*python(), "rgrid_api.main", "serve"), env, ((signal.SIGTERM, 10.0),))


def runner_part(layout: Layout, secrets: Secrets, url: str) -> Part:
    """One runner for this machine, with what ``RGRID_RUNNER_…`` says. It leaves running scripts to its successor."""
    chosen = {name: value for name, value in os.environ.items() if name.startswith("RGRID_RUNNER_")}
    ours = {
        "RGRID_RUNNER_DRAIN_TIMEOUT": "1",
        "RGRID_RUNNER_BACKEND": "process",
        "RGRID_RUNNER_SHARE_LAYERS": "off",  # there is nobody to share them with
    }
    env = base_environment(layout, RUNNER) | ours | chosen
    env |= {
        "RGRID_API_URL": url,
        "RGRID_RUNNER_TOKEN": secrets.runner_token,
        "RGRID_RUNNER_DIR": str(layout.runner),
    }
    return Part(RUNNER, (*python(), "rgrid_runner.main"), env, ((signal.SIGTERM, 3.0), (signal.SIGTERM, 5.0)))


def python() -> tuple[str, ...]:
    """This interpreter running a module, without the working directory on its path."""
    return (sys.executable, "-P", "-m")


def is_part(name: str, command: list[str]) -> bool:
    """True if this command line is one of the part's own."""
    words = {Path(word).name for word in command[:4]}
    return any(word in words for word in SIGNATURES.get(name, ()))


def pick_port(wanted: int) -> int:
    """A free loopback port: ``wanted`` if it still is, so that those who follow a run find the grid again."""
    for port in (wanted, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")
