"""The ``uv`` program: resolve, make an environment, install. Its words are passed on as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from rgrid_runner.outcome import AttemptFailed, clip
from rgrid_runner.workbench import Said, Shop, Workbench
from rgrid_shared.layer_keys import lock_lines
from rgrid_shared.states import FailureClass

_UNREACHABLE: Final = re.compile(
    r"error sending request|dns error|failed to lookup address|connection (refused|reset)|connect(ion)? timed out"
    r"|operation timed out|network unreachable|HTTP status server error|tls handshake|client error \(Connect\)",
    re.IGNORECASE,
)
_FULL: Final = re.compile(r"No space left on device|os error 28|Disk quota exceeded", re.IGNORECASE)
INDEX_SETTINGS: Final = (
    "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_INDEX_STRATEGY",
)  # fmt: skip
"""Settings of uv that decide where packages come from."""
_OPTIONS: Final = {
    "--index-url": "UV_DEFAULT_INDEX", "--extra-index-url": "UV_INDEX", "--find-links": "UV_FIND_LINKS",
}  # fmt: skip
_WHEELS: Final = ("--only-binary", ":all:")
_SECRET_LENGTH: Final = 4
"""Shorter values would hide ordinary words."""


def classify(text: str) -> FailureClass:
    """Whose fault uv's complaint is: the requirements', or the grid's (no index, no disk)."""
    return FailureClass.INFRASTRUCTURE if _UNREACHABLE.search(text) or _FULL.search(text) else FailureClass.DEPENDENCIES


def index_of(env: Mapping[str, str]) -> str:
    """What decides where packages come from, as one string: part of a resolution's name."""
    return "\n".join(f"{name}={env[name]}" for name in INDEX_SETTINGS if name in env)


@dataclass(frozen=True, slots=True)
class Terms:
    """How packages may be had. ``wheels``: nothing but wheels, so that no code of theirs runs.

    ``options``: lines of a requirements file that name indexes. ``secrets``: variables that requirements and options
    mention; they are given to uv and never shown.
    """

    wheels: bool
    options: tuple[str, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    def env(self, host: Mapping[str, str]) -> dict[str, str]:
        """The variables that uv gets for this. ``host``: the runner's own, which the user's indexes come before.

        (In a requirements file options would count for less than variables do, and on a command line all could read
        them.)
        """
        found: dict[str, list[str]] = {}
        for option in self.options:
            name, _, address = option.replace("=", " ", 1).partition(" ")
            for variable, value in self.secrets.items():
                address = address.replace(f"${{{variable}}}", value)
            found.setdefault(_OPTIONS[name], []).append(address.strip())
        env = dict(self.secrets)
        for setting, addresses in found.items():
            mark = "," if setting == "UV_FIND_LINKS" else " "
            beside = [host[setting]] if setting in host and setting != "UV_DEFAULT_INDEX" else []
            env[setting] = mark.join(addresses[-1:] if setting == "UV_DEFAULT_INDEX" else [*addresses, *beside])
        return env


_PLAIN: Final = Terms(wheels=True)


class Uv:
    """Runs uv on a workbench."""

    def __init__(self, bench: Workbench, env: Mapping[str, str]) -> None:
        """``env``: the runner's own, which says where packages come from."""
        self._bench = bench
        self._host = env
        self.index = index_of(env)
        self.accelerator = env.get("UV_TORCH_BACKEND", "")

    async def resolve(self, shop: Shop, lines: Sequence[str], python: str, terms: Terms, *, deps: bool) -> list[str]:
        """The exact pins, with hashes, that ``lines`` come to for this interpreter. AttemptFailed with uv's words.

        ``deps``: False for a list that is complete as it is.
        """
        how = (*(_WHEELS if terms.wheels else ()), *(() if deps else ("--no-deps",)))
        answer = await self._run(
            shop, terms,
            "pip", "compile", "-", "--python", python, "--generate-hashes", "--no-header", "--no-annotate", *how,
            stdin="\n".join(lines) + "\n",
        )  # fmt: skip
        return lock_lines(answer.out)

    async def environment(self, shop: Shop, name: str, python: str) -> None:
        """Make an empty environment that may be moved, ``name`` in the shop."""
        await self._run(
            shop, _PLAIN, "venv", f"{shop.seen}/{name}", "--python", python, "--relocatable", "--no-project"
        )

    async def install(self, shop: Shop, name: str, lock: Sequence[str], terms: Terms, *, offline: bool) -> None:
        """Install exactly what ``lock`` lists into the environment ``name``. ``offline``: from the cache or not at all.

        Hashes are checked; where only wheels are taken, every line must have one.
        """
        how = [*(_WHEELS if terms.wheels else ()), *(("--offline",) if offline else ())]
        if all(" --hash=" in line for line in lock):
            how.append("--require-hashes")
        if shop.scope:
            # What package code may write to later must not be what is installed now.
            how += ["--link-mode", "copy"]
        await self._run(
            shop, terms,
            "pip", "install", "--python", f"{shop.seen}/{name}/bin/python", "--no-deps", "-r", "-", *how,
            stdin="\n".join(lock) + "\n",
        )  # fmt: skip

    async def _run(self, shop: Shop, terms: Terms, *arguments: str, stdin: str = "") -> Said:
        cache = ("--cache-dir", shop.cache) if shop.cache else ()
        command = (self._bench.uv, "--quiet", *cache, *arguments)
        said = await self._bench.run(shop, command, stdin=stdin, env=terms.env(self._host))
        if said.code:
            text = _words(said, terms.secrets)
            raise AttemptFailed(classify(text), text)
        return said


def _words(said: Said, secrets: Mapping[str, str]) -> str:
    """The complaint as it is, but for the values of secrets."""
    text = said.err.strip() or said.out.strip()
    for value in secrets.values():
        if len(value) >= _SECRET_LENGTH:
            text = text.replace(value, "****")
    return clip(text) or f"uv ended with {said.code}"
