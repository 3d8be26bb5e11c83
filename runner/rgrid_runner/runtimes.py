"""Runtimes: what scripts can be run in here, by name.

On a host a runtime is an interpreter. With containers it is an image: the map below, what the operator says, and, where
the operator allows it, any image that a spec names.
"""

from __future__ import annotations

import tomllib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, cast

from rgrid_runner.backends.base import BackendError
from rgrid_runner.interpreters import MINORS, Interpreter
from rgrid_shared.errors import UsageError
from rgrid_shared.runtime_names import NAME, is_valid, language_of
from rgrid_shared.specs import Language
from rgrid_shared.states import FailureClass

Pull = Literal["always", "missing", "never"]

VARIABLES: Final[dict[str, str]] = {
    "RGRID_RUNNER_RUNTIMES": "Runtimes: name=image or name=image|program, comma separated",
    "RGRID_RUNNER_RUNTIMES_FILE": 'The same as TOML: [runtimes] name = "image" or { image = …, command = … }',
    "RGRID_RUNNER_PULL": "Images of those: missing (default): pulled when first used; always: at start; never",
    "RGRID_RUNNER_IMAGES": "Further images that users may name: reg.example/lab/*,…; default: none",
}


@dataclass(frozen=True, slots=True)
class Runtime:
    """``image``: what it is called. ``command``: the program that runs scripts, empty: the language's usual one.

    ``kind``: the language of its scripts, None for any. ``configured``: the operator names it, so it is offered even
    if its image has yet to be pulled.
    """

    name: str
    image: str
    command: str = ""
    kind: Language | None = None
    configured: bool = False


def _ready_made() -> dict[str, tuple[str, ...]]:
    """Name → images, the first that is present counts: those of ``make runtimes``, then official ones."""
    images: dict[str, tuple[str, ...]] = {}
    for language, versions in (("python", MINORS), ("node", tuple(map(str, range(18, 27))))):
        for version in versions:
            official = f"{language}:{version}"
            images[language + version] = (f"rgrid/{official}", f"{official}-slim", official)
    for name in ("bash", "python-datascience", "python-llm", "ffmpeg", "playwright", "cuda"):
        images[name] = (f"rgrid/{name}",)
    return images


READY_MADE: Final = _ready_made()


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """``runtimes``: what the operator names. ``allowed``: patterns of images that specs may name."""

    runtimes: Mapping[str, Runtime] = field(default_factory=dict)
    pull: Pull = "missing"
    allowed: tuple[str, ...] = ()


def from_env(env: Mapping[str, str]) -> RuntimeSettings:
    """Read the settings of a runner with containers. UsageError names the variable that is wrong."""
    pull = env.get("RGRID_RUNNER_PULL") or "missing"
    if pull not in ("always", "missing", "never"):
        raise UsageError(f"RGRID_RUNNER_PULL is {pull!r}", hint=VARIABLES["RGRID_RUNNER_PULL"])
    runtimes: dict[str, Runtime] = {}
    if path := env.get("RGRID_RUNNER_RUNTIMES_FILE"):
        runtimes |= _from_file(Path(path).expanduser())
    for part in _listed(env, "RGRID_RUNNER_RUNTIMES"):
        name, mark, value = part.partition("=")
        if not mark:
            raise UsageError(
                f"RGRID_RUNNER_RUNTIMES: {part!r} is not NAME=IMAGE", hint=VARIABLES["RGRID_RUNNER_RUNTIMES"]
            )
        image, _, command = value.partition("|")
        runtimes[name.strip()] = _runtime("RGRID_RUNNER_RUNTIMES", name.strip(), image.strip(), command.strip())
    return RuntimeSettings(runtimes, cast("Pull", pull), tuple(_listed(env, "RGRID_RUNNER_IMAGES")))


def _listed(env: Mapping[str, str], name: str) -> list[str]:
    return [part.strip() for part in env.get(name, "").split(",") if part.strip()]


def _from_file(path: Path) -> dict[str, Runtime]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("runtimes", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            f"The file of runtimes cannot be read: {error}", hint=f"RGRID_RUNNER_RUNTIMES_FILE={path}"
        ) from error
    found = {}
    for name, value in table.items() if isinstance(table, dict) else ():
        entry = {"image": value} if isinstance(value, str) else value
        if not isinstance(entry, dict) or entry.keys() - {"image", "command"}:
            raise UsageError(
                f"{path}: runtimes.{name} is neither an image nor image and command",
                hint=VARIABLES["RGRID_RUNNER_RUNTIMES_FILE"],
            )
        found[name] = _runtime(str(path), name, str(entry.get("image", "")), str(entry.get("command", "")))
    return found


def _runtime(where: str, name: str, image: str, command: str) -> Runtime:
    if not NAME.fullmatch(name):
        raise UsageError(f"{where}: {name!r} is no name for a runtime", hint="Lower case: tools, python3.12, lab-2.")
    if not image or not is_valid(image) or any(part.isspace() for part in command):
        raise UsageError(
            f"{where}: {name}={image}|{command} is not IMAGE or IMAGE|PROGRAM", hint="reg.example/lab/r:4|Rscript"
        )
    return Runtime(name, image, command, language_of(name), configured=True)


class Runtimes(ABC):
    """What a runner offers, and which program runs a script.

    ``offered``: name → full version of its interpreter, empty if nobody has asked it yet. ``images``: name → image.
    ``allowed``: patterns of images that specs may name. ``image_ids``: those of ``images`` that are present.
    """

    offered: Mapping[str, str]
    images: Mapping[str, str]
    allowed: tuple[str, ...]
    image_ids: Sequence[str] = ()

    async def open(self) -> None:  # noqa: B027 - a host knows its own from the start
        """Find out what there is. Nothing is offered before."""

    @abstractmethod
    async def interpreter(self, runtime: str, language: Language | None, say: Callable[[str], None]) -> Interpreter:
        """What runs scripts of ``language`` (None: the runtime has but one) in ``runtime``. ``say`` tells of a pull.

        BackendError: INFRASTRUCTURE if this runner does not offer it (now), DEPENDENCIES if the image is not there or
        has no such interpreter.
        """

    def unknown(self, runtime: str) -> BackendError:
        """The error for a runtime that this runner does not offer."""
        return BackendError(f"This runner does not offer the runtime {runtime}.", FailureClass.INFRASTRUCTURE)


class HostRuntimes(Runtimes):
    """The interpreters of this host."""

    def __init__(self, interpreters: Mapping[str, Interpreter]) -> None:
        self._interpreters = interpreters
        self.offered = {name: each.version for name, each in interpreters.items()}
        self.images = {}
        self.allowed = ()

    async def interpreter(self, runtime: str, language: Language | None, say: Callable[[str], None]) -> Interpreter:
        """See ``Runtimes``. A host's interpreter is what its operator says it is, whatever the script's language."""
        found = self._interpreters.get(runtime)
        if found is None:
            raise self.unknown(runtime)
        return found
