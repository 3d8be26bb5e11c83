"""What requirements come to: exact pins, asked for once a day for each project and index.

Wheels alone are tried first: what they come to can be shared by all. What cannot be had as wheels, or comes from an
address, a repository or an index that the project itself names, is the project's own.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from rgrid_runner.files import read_json, write_json
from rgrid_runner.interpreters import Interpreter
from rgrid_runner.outcome import AttemptFailed
from rgrid_runner.python_versions import satisfies
from rgrid_runner.uv import Terms, Uv
from rgrid_runner.workbench import SHARED, Workbench
from rgrid_shared.layer_keys import resolution_key
from rgrid_shared.specs import Requirements
from rgrid_shared.states import FailureClass

RESOLVED_FOR_S: Final = 24 * 3600.0
_PACKAGE: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\s*(?:$|[\[(;@=<>!~]|--hash)")
_ADDRESS: Final = re.compile(
    r"(?:^|@)\s*(?:(?P<vcs>git|hg|svn|bzr)\+)?(?P<scheme>[a-z0-9.+-]+)://(?P<rest>\S*)", re.IGNORECASE
)
_OPTION: Final = re.compile(r"(?:--index-url|--extra-index-url|--find-links)[ =]https?://\S+$")
_VARIABLE: Final = re.compile(r"\$\{([A-Z0-9_]+)\}")
Once = Callable[[str, Callable[[], Coroutine[object, object, None]]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Target:
    """What a layer is for. ``image``: the id of a container's image, empty on the host."""

    python: Interpreter
    image: str
    platform: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """Pins, one a line. ``scope``: the project that they are of, or ``SHARED``. ``fresh``: the index was just asked."""

    lock: tuple[str, ...]
    scope: str
    terms: Terms
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """Requirements of a project. ``given``: the batch's environment values, of which addresses may name some."""

    wanted: Requirements
    target: Target
    project_id: str
    given: Mapping[str, str]

    @property
    def options(self) -> tuple[str, ...]:
        """The lines that name indexes."""
        return tuple(self.wanted.get("options", ()))

    @property
    def complete(self) -> bool:
        """True for a list that says everything: each line is a pin with its hashes."""
        lines = self.wanted["lines"]
        return self.wanted["exact"] and all(" --hash=" in line for line in lines)

    @property
    def private(self) -> bool:
        """True if it is the project's own whatever it comes to."""
        return bool(self.options) or any(_ADDRESS.search(line) for line in self.wanted["lines"])

    @property
    def needs_code(self) -> bool:
        """True if something is no wheel for sure."""
        found = [match for line in self.wanted["lines"] if (match := _ADDRESS.search(line))]
        return any(match["vcs"] or not match["rest"].partition("#")[0].endswith(".whl") for match in found)

    def terms(self, *, wheels: bool) -> Terms:
        """How packages may be had. AttemptFailed (DEPENDENCIES) if a variable has no value."""
        names = set(_VARIABLE.findall("\n".join([*self.options, *self.wanted["lines"]])))
        for name in sorted(names - self.given.keys()):
            raise AttemptFailed(
                FailureClass.DEPENDENCIES, f"The requirements name ${{{name}}}, which has no value. Add -e {name}."
            )
        return Terms(wheels, self.options, {name: self.given[name] for name in sorted(names)})

    def ways(self) -> list[tuple[str, bool]]:
        """The ways to have them, best first: scope, and whether only wheels are taken."""
        first = [] if self.needs_code else [(self.project_id if self.private else SHARED, True)]
        return [*first, (self.project_id, False)]


class Resolver:
    """Resolutions below ``root``, each kept for a day."""

    def __init__(self, root: Path, bench: Workbench, uv: Uv, once: Once, clock: Callable[[], float]) -> None:
        """``once`` does some work one time for all who ask for it under the same name."""
        self._root = root
        self._bench = bench
        self._uv = uv
        self._once = once
        self._clock = clock
        root.mkdir(parents=True, exist_ok=True)

    async def resolve(self, ask: Ask, say: Callable[[str], None]) -> Resolution:
        """The pins. AttemptFailed: DEPENDENCIES with the resolver's words; INFRASTRUCTURE if the index is away."""
        lines = ask.wanted["lines"]
        check_lines(lines, ask.options)
        name = self._name(ask)
        kept = self._kept(name, ask)
        if kept is not None:
            return kept
        if ask.complete or not lines:
            scope, wheels = ask.ways()[0]
            return Resolution(tuple(lines), scope, ask.terms(wheels=wheels))
        say(f"Resolving {len(lines)} requirement{'s' if len(lines) != 1 else ''}…")
        await self._once(name, lambda: self._ask(name, ask))
        kept = self._kept(name, ask)
        if kept is None:
            raise AttemptFailed(FailureClass.INFRASTRUCTURE, "The runner could not keep the resolved requirements")
        return replace(kept, fresh=True)

    def with_code(self, ask: Ask, tried: Resolution) -> Resolution | None:
        """What to do if ``tried`` has no wheels after all, remembered for the next time; None if there is no way."""
        if not (ask.complete and tried.terms.wheels):
            return None
        self._keep(self._name(ask), tried.lock, ask.project_id, wheels=False)
        return Resolution(tried.lock, ask.project_id, ask.terms(wheels=False))

    def prune(self) -> None:
        """Forget what is out of date."""
        for path in self._root.iterdir():
            if path.stat().st_mtime < self._clock() - RESOLVED_FOR_S:
                path.unlink(missing_ok=True)

    def _name(self, ask: Ask) -> str:
        target = ask.target
        return resolution_key(
            lines=ask.wanted["lines"],
            options=ask.options,
            exact=ask.wanted["exact"],
            interpreter=target.python.full_name,
            path=target.python.path,
            image=target.image,
            platform=target.platform,
            accelerator=self._uv.accelerator,
            project=ask.project_id,
            index=self._uv.index,
        )

    def _kept(self, name: str, ask: Ask) -> Resolution | None:
        document = read_json(self._root / f"{name}.json")
        if isinstance(document, dict) and self._clock() - document["at"] < RESOLVED_FOR_S:
            return Resolution(tuple(document["lock"]), document["scope"], ask.terms(wheels=document["wheels"]))
        return None

    def _keep(self, name: str, lock: Sequence[str], scope: str, *, wheels: bool) -> None:
        document = {"at": self._clock(), "lock": list(lock), "scope": scope, "wheels": wheels}
        write_json(self._root / f"{name}.json", document)

    async def _ask(self, name: str, ask: Ask) -> None:
        ways = ask.ways()
        for scope, wheels in ways:
            try:
                async with self._bench.shop(scope, ask.target.image) as shop:
                    lock = await self._uv.resolve(
                        shop,
                        ask.wanted["lines"],
                        ask.target.python.path,
                        ask.terms(wheels=wheels),
                        deps=not ask.wanted["exact"],
                    )
            except AttemptFailed as error:
                if error.failure is not FailureClass.DEPENDENCIES or (scope, wheels) == ways[-1]:
                    raise
            else:
                self._keep(name, lock, scope, wheels=wheels)
                return


def check_lines(lines: Sequence[str], options: Sequence[str]) -> None:
    """AttemptFailed (DEPENDENCIES) for a line that is neither a package nor an address: no paths of the runner's."""
    for line in lines:
        address = _ADDRESS.search(line)
        named = bool(_PACKAGE.match(line)) and "@" not in line.partition(";")[0]
        if not named and (address is None or address["scheme"].lower() == "file"):
            raise AttemptFailed(FailureClass.DEPENDENCIES, f"{line!r} is not a requirement that can be installed here.")
    for option in options:
        if not _OPTION.match(option):
            raise AttemptFailed(FailureClass.DEPENDENCIES, f"{option!r} does not name an index by http.")


def check_python(wanted: Requirements, python: Interpreter) -> None:
    """AttemptFailed (DEPENDENCIES) if the script needs another Python than the runtime has."""
    specifier = wanted["requires_python"]
    try:
        fits = satisfies(python.version, specifier)
    except ValueError as error:
        raise AttemptFailed(FailureClass.DEPENDENCIES, f"requires-python = {specifier!r}: {error}") from error
    if not fits:
        raise AttemptFailed(
            FailureClass.DEPENDENCIES,
            f"The script needs Python {specifier}; the runtime {python.name} is {python.version} on this runner. "
            "Choose another with --runtime.",
        )
