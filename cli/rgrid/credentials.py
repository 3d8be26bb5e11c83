"""``~/.rgrid/credentials``: server and key by profile. The file is 0600, its directory 0700, whatever the umask."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rgrid_shared.errors import UsageError

DEFAULT: Final = "default"
FILE: Final = "credentials"


@dataclass(frozen=True, slots=True)
class Entry:
    """One profile: a server and the key for it."""

    url: str
    api_key: str = field(repr=False)


def load(home: Path) -> dict[str, Entry]:
    """All profiles, none if there is no file. Raises ``UsageError`` if the file is damaged or open to others."""
    path = home / FILE
    try:
        text = path.read_text(encoding="utf-8")
        mode = path.stat().st_mode
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from error
    if mode & 0o077:
        raise UsageError(f"{path} holds keys and can be read by others.", hint=f"chmod 600 {path}")
    import tomllib

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is damaged: {error}.", hint="rgrid login") from error
    found: dict[str, Entry] = {}
    for name, entry in document.items():
        if isinstance(entry, dict) and isinstance(entry.get("server"), str) and isinstance(entry.get("api_key"), str):
            found[name] = Entry(entry["server"], entry["api_key"])
        else:
            raise UsageError(f"{path}: profile {name!r} needs `server` and `api_key`.", hint="rgrid login")
    return found


def save(home: Path, profile: str, entry: Entry) -> Path:
    """Add or replace a profile; the file is replaced as a whole. Returns its path."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.chmod(0o700)
    _write(home / FILE, {**load(home), profile: entry})
    return home / FILE


def _quoted(text: str) -> str:
    # A JSON string is a TOML basic string as long as nothing is written as a surrogate pair.
    return json.dumps(text, ensure_ascii=False)


def _write(path: Path, profiles: Mapping[str, Entry]) -> None:
    lines = []
    for name, entry in sorted(profiles.items()):
        lines += [f"[{_quoted(name)}]", f"server = {_quoted(entry.url)}", f"api_key = {_quoted(entry.api_key)}", ""]
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".credentials-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join(lines))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
