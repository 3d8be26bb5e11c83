"""The runtimes of a runner with containers: which images there are, and which interpreters are in them.

An image is asked once what its interpreters are, in a container of its own; the answers are kept by the image's id.
What a name stands for is looked up anew after a short while, so that a tag that was moved is seen without a restart.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

from rgrid_runner.backends.base import BackendError
from rgrid_runner.containers.asking import ImageInfo
from rgrid_runner.files import read_json, write_json
from rgrid_runner.interpreters import Interpreter, answered, question
from rgrid_runner.runtimes import READY_MADE, Runtime, Runtimes, RuntimeSettings
from rgrid_shared.runtime_names import allowed, is_image, language_of
from rgrid_shared.specs import Language
from rgrid_shared.states import FailureClass

log: Final = logging.getLogger("rgrid.runner")
PROGRAMS: Final[dict[Language, tuple[str, ...]]] = {
    "python": ("python3", "python"),
    "node": ("node", "nodejs"),
    "bash": ("bash", "sh"),
}
"""What runs scripts of a language: the first of these on an image's PATH."""
NAME_S: Final = 10.0
"""How long what a name stands for is believed."""
_ATTEMPTS: Final = 4
_ANSWERS_KEPT: Final = 500
Answers = Mapping[Language, tuple[str, str, str]]
"""By language: implementation, full version, program."""


class Engine(Protocol):
    """What is asked of ``containers.engine.Engine``."""

    async def image(self, ref: str, say: Callable[[str], None] | None = None, *, pull: bool = True) -> ImageInfo:
        """The image of this name."""
        ...

    async def pull(self, ref: str, say: Callable[[str], None] | None = None) -> None:
        """Pull it, there or not."""
        ...

    async def programs(self, image: ImageInfo, names: tuple[str, ...]) -> dict[str, str]:
        """Where it has programs."""
        ...

    async def output(self, image: ImageInfo, *command: str) -> tuple[int, bytes]:
        """What a command says in it."""
        ...


class ImageRuntimes(Runtimes):
    """``memory``: a file for answers. Nothing is known before ``open``."""

    def __init__(
        self, engine: Engine, settings: RuntimeSettings, memory: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._memory = memory
        self._clock = clock
        self._runtimes: dict[str, Runtime] = {}
        self._seen: dict[str, tuple[float, ImageInfo]] = {}
        self._answers: dict[str, Answers] = {}
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.offered: dict[str, str] = {}
        self.images: dict[str, str] = {}
        self.image_ids: list[str] = []
        self.allowed = settings.allowed

    async def open(self) -> None:
        """Find out what there is. BackendError if the engine does not answer; a bad image is left out, and logged."""
        kept = await asyncio.to_thread(read_json, self._memory)
        if isinstance(kept, dict):
            self._answers = {key: {kind: tuple(said) for kind, said in each.items()} for key, each in kept.items()}
        names = [*self._settings.runtimes, *(name for name in READY_MADE if name not in self._settings.runtimes)]
        slots = asyncio.Semaphore(_ATTEMPTS)

        async def offer(name: str) -> None:
            async with slots:
                await self._offer(name)

        await asyncio.gather(*map(offer, names))

    async def interpreter(self, runtime: str, language: Language | None, say: Callable[[str], None]) -> Interpreter:
        """See ``Runtimes``."""
        wanted = self._wanted(runtime)
        if wanted.kind and language and wanted.kind != language:
            raise BackendError(
                f"The runtime {runtime} is for {wanted.kind} scripts, and this one is {language}.",
                FailureClass.DEPENDENCIES,
            )
        kind = language or wanted.kind or "python"
        image = await self._image(wanted.image, say)
        answers = await self._asked(image, wanted)
        if kind not in answers:
            raise BackendError(
                f"The image {wanted.image} has nothing on its PATH that runs {kind} scripts "
                f"({', '.join(PROGRAMS[kind])}).",
                FailureClass.DEPENDENCIES,
            )
        implementation, version, path = answers[kind]
        return Interpreter(runtime, implementation, version, path, wanted.image, image.id)

    def _wanted(self, runtime: str) -> Runtime:
        if runtime in self._runtimes:
            return self._runtimes[runtime]
        if is_image(runtime) and allowed(runtime, self.allowed):
            return Runtime(runtime, runtime)
        raise self.unknown(runtime)

    async def _offer(self, name: str) -> None:
        """Take a runtime into the list if its image is there, or may be pulled when it is needed."""
        configured = self._settings.runtimes.get(name)
        choice = (
            [configured] if configured else [Runtime(name, image, kind=language_of(name)) for image in READY_MADE[name]]
        )
        for runtime in choice:
            if configured and self._settings.pull == "always":
                await self._refresh(runtime)
            try:
                image = await self._engine.image(runtime.image, pull=False)
            except BackendError as error:
                if error.failure is not FailureClass.DEPENDENCIES:
                    raise
                continue
            try:
                answers = await self._asked(image, runtime)
            except BackendError as error:
                log.warning("Runtime %s: the image %s does not answer: %s", name, runtime.image, error.message)
                return
            if answers:
                self._add(runtime, _version(runtime, answers))
                self.image_ids.append(image.id)
            else:
                log.warning("Runtime %s: the image %s has no interpreter that is known", name, runtime.image)
            return
        if configured and self._settings.pull == "never":
            log.warning("Runtime %s: there is no image %s here, and none is pulled", name, configured.image)
        elif configured:
            self._add(configured, "")

    def _add(self, runtime: Runtime, version: str) -> None:
        self._runtimes[runtime.name] = runtime
        self.offered[runtime.name] = version
        self.images[runtime.name] = runtime.image

    async def _refresh(self, runtime: Runtime) -> None:
        try:
            await self._engine.pull(runtime.image, log.info)
        except BackendError as error:
            log.warning("Runtime %s: %s", runtime.name, error.message)

    async def _image(self, name: str, say: Callable[[str], None]) -> ImageInfo:
        now = self._clock()
        at, image = self._seen.get(name, (now - NAME_S, None))
        if image is None or now - at >= NAME_S:
            image = await self._engine.image(name, say, pull=self._settings.pull != "never")
            self._seen[name] = (now, image)
        return image

    async def _asked(self, image: ImageInfo, runtime: Runtime) -> Answers:
        key = f"{image.id} {runtime.kind or '*'} {runtime.command}"
        async with self._asking[key]:
            if key not in self._answers:
                answers = await self._ask(image, runtime)
                if not answers:
                    return answers
                self._answers[key] = answers
                await asyncio.to_thread(self._keep)
        return self._answers[key]

    async def _ask(self, image: ImageInfo, runtime: Runtime) -> Answers:
        candidates = _candidates(runtime)
        names = tuple(dict.fromkeys(name for each in candidates.values() for name in each if not name.startswith("/")))
        places = await self._engine.programs(image, names)
        answers: dict[Language, tuple[str, str, str]] = {}
        for language, programs in candidates.items():
            for program in programs:
                path = program if program.startswith("/") else places.get(program, "")
                said = await self._said(image, language, path) if path else None
                if said is not None:
                    answers[language] = said
                    break
        return answers

    async def _said(self, image: ImageInfo, language: Language, path: str) -> tuple[str, str, str] | None:
        program = PurePosixPath(path).name
        asked = _language(program)
        code, output = await self._engine.output(image, path, *question(asked or "other"))
        said = answered(asked or program, output.decode("utf-8", "replace"), path) if code == 0 else None
        if said is None:
            # What cannot tell its version may run scripts all the same, like a plain sh.
            return (program, "", path) if program == "sh" or asked is None else None
        # As it was named, not what is behind it: that may be an environment with packages of its own.
        return said[0], said[1], path

    def _keep(self) -> None:
        newest = list(self._answers.items())[-_ANSWERS_KEPT:]
        write_json(self._memory, dict(newest))


def _language(program: str) -> Language | None:
    """The language whose scripts a program runs, by its name: ``python3.12`` is one for Python."""
    plain = re.sub(r"[\d.]+$", "", program)
    return next((language for language, names in PROGRAMS.items() if plain in names or program in names), None)


def _candidates(runtime: Runtime) -> dict[Language, tuple[str, ...]]:
    """Programs to look for, by language. A command that is of no known language runs whatever it is given."""
    languages = (runtime.kind,) if runtime.kind else tuple(PROGRAMS)
    if not runtime.command:
        return {language: PROGRAMS[language] for language in languages}
    own = _language(PurePosixPath(runtime.command).name)
    return {
        language: (runtime.command,) if runtime.kind or own in (None, language) else PROGRAMS[language]
        for language in languages
    }


def _version(runtime: Runtime, answers: Answers) -> str:
    """For people: ``3.11.7``, or ``python 3.11.7, bash 5.2.15`` of a runtime for scripts of any language."""
    if runtime.kind:
        return answers[runtime.kind][1]
    said = {
        f"{language if implementation == 'cpython' else implementation} {version}".strip(): None
        for language, (implementation, version, _) in answers.items()
    }
    return ", ".join(said)
