"""Where rgrid's files lie, which server a command talks to, and where settings come from.

Settings, first found wins: flag, environment (``RGRID_…``), ``[tool.rgrid]`` of the script's PEP 723 block,
``.rgrid/config.toml`` of the project, ``~/.rgrid/config.toml``. Keys only ever stand in ``~/.rgrid/credentials``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rgrid_shared.errors import UsageError

Say = Callable[[str], None]
Setting = str | int | float | bool | list[object] | dict[str, object]

LOCAL: Final = "local"
"""Names the embedded grid where a server's address is expected."""


@dataclass(frozen=True, slots=True)
class Server:
    """A control plane and the key for it. ``local``: the embedded grid. ``profile``: where the key came from."""

    url: str
    api_key: str = field(repr=False)
    local: bool = False
    profile: str = ""


def home() -> Path:
    """The directory of rgrid's own: ``RGRID_HOME`` or ``~/.rgrid``."""
    named = os.environ.get("RGRID_HOME")
    return Path(named).expanduser().absolute() if named else Path.home() / ".rgrid"


def resolve_server(
    profile: str | None = None, url: str | None = None, *, say: Say | None = None, start: bool = True
) -> Server:
    """The server that a command talks to.

    ``url`` (or ``RGRID_SERVER``), else that of ``profile`` (or ``RGRID_PROFILE``, or ``profile`` in config.toml), else
    that of the ``default`` profile, else the embedded grid, which is started if ``start`` allows it or if it ran here
    before. Raises ``UsageError`` for a profile or key that is not there, and for a key that would cross the network
    in clear.
    """
    found = configured_server(profile, url)
    return found if found is not None else _embedded(say, start=start)


def configured_server(profile: str | None = None, url: str | None = None) -> Server | None:
    """The same, but None where it would be the embedded grid: nothing is started."""
    url = url or os.environ.get("RGRID_SERVER") or None
    chosen = profile or os.environ.get("RGRID_PROFILE") or None
    if url == LOCAL or (url is None and chosen == LOCAL):
        return None
    key = os.environ.get("RGRID_API_KEY") or ""
    if url and key and not profile:
        return checked(Server(url, key))

    from rgrid import credentials

    profiles = credentials.load(home())
    if chosen is None and url is None:
        named = Defaults.load().lookup("profile")
        chosen = str(named) if named is not None else None
        if chosen == LOCAL:
            return None
    if chosen is not None:
        if chosen not in profiles:
            known = ", ".join(sorted(profiles)) or "none"
            raise UsageError(
                f"There is no profile {chosen!r} (known: {known}).", hint=f"rgrid login --profile {chosen} --server URL"
            )
        found = profiles[chosen]
        return checked(Server(url or found.url, key or found.api_key, profile=chosen))
    if url:
        match = next((name for name, entry in profiles.items() if entry.url.rstrip("/") == url.rstrip("/")), None)
        if match is None:
            checked(Server(url, ""))
            raise UsageError(f"There is no key for {url}.", hint=f"rgrid login --server {url}")
        return checked(Server(url, profiles[match].api_key, profile=match))
    if credentials.DEFAULT in profiles:
        found = profiles[credentials.DEFAULT]
        return checked(Server(found.url, key or found.api_key, profile=credentials.DEFAULT))
    return None


def _embedded(say: Say | None, *, start: bool) -> Server:
    place = home()
    if not start and not (place / LOCAL).exists():
        raise UsageError(
            "No grid is configured and none has run here yet.",
            hint="`rgrid run SCRIPT` starts one by itself; `rgrid login --server URL` connects to another.",
        )
    from rgrid import local

    return local.ensure(place, say or (lambda _text: None))


def checked(server: Server) -> Server:
    """The server, if its address may be used with a key. Raises ``UsageError`` if not."""
    from rgrid.network import LOOPBACK, split

    parts = split(server.url)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise UsageError(
            f"{server.url} is plain http beyond this machine: the key would cross the network in clear.",
            hint="Use its https:// address, or tunnel it to localhost (ssh -L).",
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(f"{server.url!r} holds more than a server's address.", hint="Write it as https://host[:port].")
    return server


@dataclass(frozen=True, slots=True)
class Defaults:
    """Settings below the flags: the layers from the environment down, strongest first."""

    layers: tuple[tuple[str, Mapping[str, object]], ...]

    @classmethod
    def load(cls, project: Path | None = None, script_block: Mapping[str, object] | None = None) -> Defaults:
        """Read the layers. ``project``: a directory; the nearest ``.rgrid/config.toml`` from there upward counts.

        ``script_block``: ``[tool.rgrid]`` of the script. Raises ``UsageError`` naming the file that is not TOML.
        """
        own = home() / "config.toml"
        layers: list[tuple[str, Mapping[str, object]]] = [("environment", _environment())]
        if script_block:
            layers.append(("the script's [tool.rgrid]", script_block))
        start = (project or Path.cwd()).absolute()
        for folder in (start, *start.parents):
            path = folder / ".rgrid" / "config.toml"
            if path != own and path.is_file():
                layers.append((str(path), _toml(path)))
                break
        if own.is_file():
            layers.append((str(own), _toml(own)))
        return cls(tuple(layers))

    def lookup(self, name: str) -> object | None:
        """The value of a setting by its flag's name (``gpu-memory`` or ``gpu_memory``), or None."""
        return self.find(name)[0]

    def find(self, name: str) -> tuple[object | None, str]:
        """The value and the layer that it came from, for messages."""
        for spelling in dict.fromkeys((name.replace("-", "_"), name.replace("_", "-"))):
            for source, layer in self.layers:
                if spelling in layer:
                    return layer[spelling], source
        return None, ""


def _environment() -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in os.environ.items():
        if name.startswith("RGRID_") and name not in ("RGRID_HOME", "RGRID_API_KEY", "RGRID_SERVER"):
            found[name[6:].lower()] = value
    return found


def _toml(path: Path) -> dict[str, object]:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}.") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
