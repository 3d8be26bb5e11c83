"""What runs (``grid.json``), the keys that it uses (``secrets.json``), and what stays from start to start."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from rgrid.local.processes import is_alive


@dataclass(frozen=True, slots=True)
class GridRecord:
    """A grid that is up.

    ``mark`` tells the supervisor from a later process with its pid. ``auto``: ``rgrid run`` started it, so it
    stops when nobody has used it for a while. ``parts``: name → pid.
    """

    pid: int
    mark: str
    url: str
    store_url: str
    started_at: str
    version: str
    auto: bool
    parts: dict[str, int] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """True if the supervisor of this record still runs."""
        return is_alive(self.pid, self.mark)


@dataclass(frozen=True, slots=True)
class Secrets:
    """Generated once and kept: the grid's data belongs to them."""

    api_key: str
    runner_token: str
    secret_key: str
    store_access_key: str
    store_secret_key: str


@dataclass(frozen=True, slots=True)
class Facts:
    """``store_kind``: which S3 server wrote the files, None before the first start. Ports are kept where free."""

    store_kind: str | None = None
    api_port: int = 0
    store_port: int = 0


def read_facts(path: Path) -> Facts:
    """What earlier starts chose; the defaults if there was none.

    Raises:
        ValueError: the file was damaged.
    """
    try:
        return Facts(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return Facts()
    except TypeError as error:
        raise ValueError(f"{path}: {error}") from error


def write_facts(path: Path, facts: Facts) -> None:
    """Keep what this start chose."""
    if read_facts(path) != facts:
        write_private(path, json.dumps(asdict(facts), indent=1) + "\n")


def read_record(path: Path) -> GridRecord | None:
    """The record, or None if there is none or it cannot be understood (another version's)."""
    try:
        found = json.loads(path.read_bytes())
        return GridRecord(**{name.name: found[name.name] for name in fields(GridRecord)})
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def write_record(path: Path, record: GridRecord) -> None:
    """Replace the record in one step."""
    write_private(path, json.dumps(asdict(record), indent=1) + "\n")


def read_secrets(path: Path) -> Secrets:
    """The keys of a grid that was started before.

    Raises:
        FileNotFoundError: there never was one here.
        ValueError: the file was damaged.
    """
    found = json.loads(path.read_bytes())
    try:
        return Secrets(**{name.name: str(found[name.name]) for name in fields(Secrets)})
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} lacks {error}") from error


def ensure_secrets(path: Path) -> Secrets:
    """The keys of this grid, made on its first start."""
    try:
        return read_secrets(path)
    except FileNotFoundError:
        import base64
        import secrets

        made = Secrets(
            api_key=f"rgr_{secrets.token_urlsafe(30)}",
            runner_token=f"rgt_{secrets.token_urlsafe(30)}",
            secret_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            store_access_key=secrets.token_hex(10),
            store_secret_key=secrets.token_hex(20),
        )
        write_private(path, json.dumps(asdict(made), indent=1) + "\n")
        return made


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, in one step that survives a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with open(handle, "w") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
