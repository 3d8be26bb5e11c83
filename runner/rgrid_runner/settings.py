"""What a runner is told by its environment. Every setting is a variable whose name starts with ``RGRID_``."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

from rgrid_shared.errors import UsageError

GIB: Final = 1024**3
Number = TypeVar("Number", int, float)

VARIABLES: Final[dict[str, str]] = {
    "RGRID_API_URL": "Where the API is: http://127.0.0.1:8700",
    "RGRID_RUNNER_TOKEN": "Runner token: rgt_…",
    "RGRID_RUNNER_NAME": "Name that people see; default: the host's name",
    "RGRID_RUNNER_SLOTS": "Executions at a time; default: the number of cores, at least 4",
    "RGRID_RUNNER_DIR": "State directory; default: ~/.rgrid/runner",
    "RGRID_RUNNER_LABELS": "Labels that specs may require: zone=eu,disk=ssd",
    "RGRID_RUNNER_BACKEND": "What runs scripts: process (default), docker",
    "RGRID_RUNNER_RUNTIMES": "Runtimes: python3.12=/opt/py/bin/python,… or, on Docker, name=image|command,…",
    "RGRID_RUNNER_GPU_SHARES": "Executions on one GPU at a time; default 1",
    "RGRID_RUNNER_CACHE_BYTES": "Most bytes of inputs kept for the next execution; default 10 GiB",
    "RGRID_RUNNER_LAYER_BYTES": "Most bytes of dependency layers kept; default 20 GiB",
    "RGRID_RUNNER_SHARE_LAYERS": "off: layers are neither fetched from other runners nor given to them; default: on",
    "RGRID_RUNNER_OUTPUT_FILES": "Most files collected from one execution; default 100000",
    "RGRID_RUNNER_OUTPUT_BYTES": "Most bytes collected from one execution; default 64 GiB",
    "RGRID_RUNNER_DRAIN_TIMEOUT": "Seconds that SIGTERM waits for running scripts; default: no limit",
    "RGRID_RUNNER_PASS_ENV": "Variables of the runner's own environment that scripts get: HTTP_PROXY,…",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """A runner's settings. Sizes in bytes, times in seconds."""

    api_url: str
    token: str
    name: str
    slots: int
    state: Path
    labels: dict[str, str]
    backend: str
    runtimes: dict[str, str]
    gpu_shares: int
    cache_bytes: int
    layer_bytes: int
    share_layers: bool
    output_files: int
    output_bytes: int
    drain_timeout_s: float | None
    pass_env: tuple[str, ...]


def from_env(env: Mapping[str, str] | None = None) -> Settings:
    """Read the settings. UsageError names the variable that is missing or wrong."""
    env = os.environ if env is None else env
    drain = env.get("RGRID_RUNNER_DRAIN_TIMEOUT", "")
    return Settings(
        api_url=_url(env),
        token=_required(env, "RGRID_RUNNER_TOKEN"),
        name=env.get("RGRID_RUNNER_NAME") or platform.node() or "runner",
        slots=_number(env, "RGRID_RUNNER_SLOTS", max(4, os.cpu_count() or 1), int, least=1),
        state=Path(env.get("RGRID_RUNNER_DIR") or "~/.rgrid/runner").expanduser().absolute(),
        labels=_pairs(env, "RGRID_RUNNER_LABELS"),
        backend=env.get("RGRID_RUNNER_BACKEND") or "process",
        runtimes=_pairs(env, "RGRID_RUNNER_RUNTIMES"),
        gpu_shares=_number(env, "RGRID_RUNNER_GPU_SHARES", 1, int, least=1),
        cache_bytes=_number(env, "RGRID_RUNNER_CACHE_BYTES", 10 * GIB, int, least=0),
        layer_bytes=_number(env, "RGRID_RUNNER_LAYER_BYTES", 20 * GIB, int, least=0),
        share_layers=_switch(env, "RGRID_RUNNER_SHARE_LAYERS", default=True),
        output_files=min(200_000, _number(env, "RGRID_RUNNER_OUTPUT_FILES", 100_000, int, least=0)),
        output_bytes=_number(env, "RGRID_RUNNER_OUTPUT_BYTES", 64 * GIB, int, least=0),
        drain_timeout_s=_number(env, "RGRID_RUNNER_DRAIN_TIMEOUT", 0.0, float, least=0.0) if drain else None,
        pass_env=tuple(name.strip() for name in env.get("RGRID_RUNNER_PASS_ENV", "").split(",") if name.strip()),
    )


def _required(env: Mapping[str, str], name: str) -> str:
    if value := env.get(name, ""):
        return value
    raise UsageError(f"{name} is not set", hint=f"{name}: {VARIABLES[name]}")


def _url(env: Mapping[str, str]) -> str:
    url = _required(env, "RGRID_API_URL").rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(f"RGRID_API_URL is no web address: {url!r}", hint=VARIABLES["RGRID_API_URL"])
    return url


def number(
    env: Mapping[str, str], name: str, default: Number, kind: type[Number], *, least: Number, meaning: str
) -> Number:
    """The number that a variable holds, at least ``least``. UsageError, with ``meaning`` as its hint."""
    text = env.get(name, "")
    if not text:
        return default
    try:
        value = kind(text)
    except ValueError:
        raise UsageError(f"{name} is no number: {text!r}", hint=meaning) from None
    if value < least:
        raise UsageError(f"{name} must be at least {least}, not {text}", hint=meaning)
    return value


def _number(env: Mapping[str, str], name: str, default: Number, kind: type[Number], *, least: Number) -> Number:
    return number(env, name, default, kind, least=least, meaning=VARIABLES[name])


def _switch(env: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = env.get(name, "").lower()
    if text not in {"", "on", "off"}:
        raise UsageError(f"{name} is on or off, not {text!r}", hint=VARIABLES[name])
    return default if not text else text == "on"


def _pairs(env: Mapping[str, str], name: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in env.get(name, "").split(","))):
        key, mark, value = part.partition("=")
        if not mark or not key.strip():
            raise UsageError(f"{name}: {part!r} is not NAME=VALUE", hint=VARIABLES[name])
        pairs[key.strip()] = value.strip()
    return pairs
