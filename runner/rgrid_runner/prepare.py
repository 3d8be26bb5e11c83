"""The first step of an attempt: everything that its script needs, brought here and put in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from rgrid_runner import world
from rgrid_runner.backends.base import Box, Image, StartOrder
from rgrid_runner.files import remove_tree
from rgrid_runner.gpus import Taken, visible
from rgrid_runner.interpreters import Interpreter
from rgrid_runner.layers import Layer
from rgrid_runner.record import Record
from rgrid_runner.room import Room
from rgrid_runner.workspace import Known, build, check, needed, stdin_blob
from rgrid_shared.protocol import BlobUrlsReply, Claim, ClaimedSpec
from rgrid_shared.specs import Item, Spec

GRACE_S: Final = 10.0
"""From the request to end until a script is killed, in seconds."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A script that can be started. ``known``: what its workspace holds; ``layer``: None without requirements."""

    order: StartOrder
    known: Mapping[str, Known]
    layer: Layer | None
    gpus: Taken


class Preparation:
    """Prepares one attempt. ``say`` tells the user what takes time."""

    def __init__(
        self,
        room: Room,
        record: Record,
        claim: Claim,
        given: ClaimedSpec,
        *,
        say: Callable[[str], None],
        fresh_urls: Callable[[list[str]], Awaitable[BlobUrlsReply]],
    ) -> None:
        self._room = room
        self._record = record
        self._claim = claim
        self._given = given
        self._say = say
        self._fresh_urls = fresh_urls
        self._place = room.place(record.key)

    async def run(self) -> Prepared:
        """Do it. AttemptFailed, BackendError, OSError: it cannot be done; what was made is left to the clean-up."""
        spec, item = self._given["spec"], self._claim["item"]
        check(spec, item)
        language = spec["script"].get("language")
        interpreter = await self._room.runtimes.interpreter(spec["runtime"], language, self._say)
        image = await self._room.backend.image(interpreter.image_id, self._say)
        await self._room.in_thread(self._place.base.mkdir, parents=True, exist_ok=True)
        await self._room.backend.prepare(self._place.disk, spec["resources"]["disk"])
        known, layer = await self._bring(spec, item, interpreter, image)
        gpus = await self._room.gpus.wait(self._record.key)
        self._record.gpus = [gpu["uuid"] for gpu in gpus if "uuid" in gpu]
        scene = self._scene(spec, layer, image, gpus)
        for argument in (spec["script"]["argv0"], *item["args"]):
            if not isinstance(argument, str) and scene.root != spec["root"]:
                self._say(f"{argument['original']} is {scene.root}/{argument['path']} here")
        return Prepared(self._order(spec, item, scene, interpreter, layer, image), known, layer, gpus)

    async def _bring(
        self, spec: Spec, item: Item, interpreter: Interpreter, image: Image | None
    ) -> tuple[Mapping[str, Known], Layer | None]:
        """Inputs and dependencies, at the same time; then the workspace."""
        blobs, large = needed(spec, item)
        own = {sha256: self._place.own / sha256 for sha256 in large}
        if own:
            await self._room.in_thread(self._place.own.mkdir, exist_ok=True)
        self._room.cache.pin(blobs)
        layer: Layer | None = None
        try:
            urls = [*self._given["blobs"], *self._claim["blobs"]]
            fetching = self._room.fetcher.fetch(blobs, urls, self._fresh_urls, own)
            if spec["requirements"] is not None:
                layering = self._room.layers.ensure(
                    spec["requirements"],
                    interpreter,
                    self._claim["project_id"],
                    self._say,
                    holder=self._record.key,
                    image=image,
                    given=self._given["env"],
                )
                layer, _ = await both(layering, fetching)
                self._record.layer = layer.key
            else:
                await fetching
            owner = self._room.backend.owner
            known = await self._room.in_thread(build, self._place, spec, item, self._room.cache, own, owner)
            if own:
                await self._room.in_thread(remove_tree, self._place.own)
        finally:
            self._room.cache.unpin(blobs)
        return known, layer

    def _scene(self, spec: Spec, layer: Layer | None, image: Image | None, gpus: Taken) -> world.Scene:
        if image is None:
            has = visible(gpus) if self._room.gpus.present else {}
            return world.on_host(self._place, self._room.host_env, has)
        return world.in_container(self._place, spec["root"], layer, image.env)

    def _order(
        self,
        spec: Spec,
        item: Item,
        scene: world.Scene,
        interpreter: Interpreter,
        layer: Layer | None,
        image: Image | None,
    ) -> StartOrder:
        claim, place = self._claim, self._place
        program = world.executable(interpreter, layer)
        stdin: Any = place.stdin if stdin_blob(spec) else None
        streamed: Literal["stream"] = "stream"
        return StartOrder(
            key=self._record.key,
            argv=world.arguments(spec, item, program, scene.root),
            env=world.environment(
                claim,
                scene,
                program,
                layer,
                self._given["env"],
                host=self._room.host_env,
                pass_env=self._room.settings.pass_env,
            ),
            cwd=Path(scene.root) / spec["cwd"],
            spool=place.spool,
            timeout_s=claim["timeout_s"],
            grace_s=GRACE_S,
            stdin=streamed if self._record.streams_stdin else stdin,
            memory=spec["resources"]["memory"],
            cpu_millis=spec["resources"]["cpu_millis"],
            log_limit=claim["log_limit"],
            box=self._box(spec, scene, interpreter, image),
        )

    def _box(self, spec: Spec, scene: world.Scene, interpreter: Interpreter, image: Image | None) -> Box | None:
        if image is None:
            return None
        isolate = spec.get("isolate", False)
        return Box(
            image=image.id,
            batch=self._claim["batch_id"],
            network=spec["network"],
            gpus=tuple(self._record.gpus),
            isolate=isolate,
            warm=interpreter.is_python and not isolate,
            mounts=scene.mounts,
        )


async def both(first: Awaitable[Any], second: Awaitable[Any]) -> tuple[Any, Any]:
    """Both results; if one fails the other is cancelled first."""
    tasks = [asyncio.ensure_future(first), asyncio.ensure_future(second)]
    try:
        one, other = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    return one, other
