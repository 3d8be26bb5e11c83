"""Layers made in containers of the image that they are for, by the image's own interpreter.

The container is one as scripts get: nothing of the host but its shop, uv, certificates and uv's settings, with a
network as scripts have it. One container for each call, so that nothing of a build is there for the next. What package
code may fill is a disk of its own, bounded and gone after the build.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from rgrid_runner.backends.base import Backend, BackendError, Box, Exit, Mount, StartOrder, UnknownRun
from rgrid_runner.files import remove_tree
from rgrid_runner.outcome import AttemptFailed
from rgrid_runner.uv import INDEX_SETTINGS
from rgrid_runner.workbench import (
    CACHE,
    FOREIGN,
    SHARED,
    UV_ALWAYS,
    UV_DEFAULTS,
    Said,
    Shop,
    Workbench,
    sweep,
    uv_program,
)
from rgrid_shared.states import FailureClass, Stream

SEEN: Final = "/opt/rgrid/layer"
"""Where a container sees its layer."""
_SHARED: Final = "shared"
_SHOP: Final = "/opt/rgrid/shop"
_UV: Final = "/opt/rgrid/uv"
_CERTIFICATES: Final = "/opt/rgrid/certificates.pem"
_CONFIGURATION: Final = "/opt/rgrid/uv.toml"
_HOST_CERTIFICATES: Final = (
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem",
)  # fmt: skip
_NETWORK: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TIMEOUT_S: Final = 3600.0
_GRACE_S: Final = 5.0
_OUTPUT: Final = 32 * 1024**2
_MEMORY: Final = 8 * 1024**3
"""Bytes for a build that runs package code."""
_NOT_FOUND: Final = 127
_MISSING: Final = re.compile(r"there is no|no such file|not found", re.IGNORECASE)
_GENTLE_MILLIS: Final = 1000


class BoxedBench(Workbench):
    """Commands run in containers of ``backend``."""

    def __init__(self, root: Path, backend: Backend, env: Mapping[str, str], *, disk: int = 0) -> None:
        """``root``: holds the shops. ``env``: the runner's own. ``disk``: bytes for package code, 0: the backend's."""
        self._root = root
        self._backend = backend
        self._disk = disk
        self._env = _environment(env)
        self._mounts = tuple(_mounts(env))

    async def open(self, most: int) -> None:
        """See ``Workbench.open``."""
        self._root.mkdir(parents=True, exist_ok=True)
        for path in self._root.iterdir():
            if path.name != _SHARED:
                await self._backend.clear(path)
                await asyncio.to_thread(remove_tree, path)
        await asyncio.to_thread(sweep, self._root, most)

    @property
    def uv(self) -> str:
        """Where the host's program is seen."""
        return _UV

    def seen(self, layer: Path) -> str:
        """One place for all."""
        return SEEN

    @asynccontextmanager
    async def shop(self, scope: str, image: str) -> AsyncIterator[Shop]:
        """What all share is in one directory, so that uv can link instead of copying; a project's is bounded."""
        if scope == SHARED:
            place = self._root / _SHARED
            await asyncio.to_thread(self._own, place)
            yield Shop(place, _SHOP, image=image, cache=f"{_SHOP}/{CACHE}")
            return
        place = self._root / f"{scope}.{secrets.token_hex(4)}"
        await self._backend.prepare(place, self._disk)
        try:
            await asyncio.to_thread(self._own, place)
            yield Shop(place, _SHOP, scope, image, f"{_SHOP}/{CACHE}", walled=True)
        finally:
            await asyncio.shield(self._backend.clear(place))

    def _own(self, place: Path) -> None:
        place.mkdir(parents=True, exist_ok=True)
        if self._backend.owner is not None:
            os.chown(place, self._backend.owner, self._backend.owner)

    async def run(
        self, shop: Shop, command: Sequence[str], *, stdin: str = "", env: Mapping[str, str] | None = None
    ) -> Said:
        """See ``Workbench.run``."""
        mounts = (*self._mounts, Mount(Path(uv_program()), _UV), Mount(shop.place, _SHOP, writable=True))
        memory = _MEMORY if shop.scope else 0
        said, end = await self._errand(
            shop.image, command, mounts, {**self._env, **(env or {})}, _SHOP, stdin, memory=memory
        )
        if end.failure not in {None, FailureClass.SCRIPT}:
            raise _ended(end)
        if end.exit_code == _NOT_FOUND and not said.out:
            raise _no_uv(said.err.strip())
        return said

    async def tend(self, layer: Path, image: str, command: Sequence[str]) -> None:
        """See ``Workbench.tend``."""
        mounts = (Mount(layer, SEEN, writable=True),)
        await asyncio.to_thread(self._own_all, layer)
        with suppress(AttemptFailed):
            await self._errand(image, command, mounts, {"PATH": _PATH}, "/", "", cpu_millis=_GENTLE_MILLIS)

    def _own_all(self, layer: Path) -> None:
        """Let commands write into the layer: one that was downloaded belongs to the agent."""
        owner = self._backend.owner
        if owner is None or layer.lstat().st_uid == owner:
            return
        for directory, _, files in os.walk(layer):
            for path in (directory, *(os.path.join(directory, name) for name in files)):  # noqa: PTH118
                os.chown(path, owner, owner, follow_symlinks=False)

    async def _errand(
        self,
        image: str,
        command: Sequence[str],
        mounts: tuple[Mount, ...],
        env: Mapping[str, str],
        cwd: str,
        stdin: str,
        *,
        memory: int = 0,
        cpu_millis: int = 0,
    ) -> tuple[Said, Exit]:
        """One run of the backend, with a container of its own."""
        name = f"layer-{secrets.token_hex(8)}"
        place = self._root / f".{name}"
        source = place / "stdin"
        place.mkdir(parents=True)
        order = StartOrder(
            key=f"{name}.1",
            argv=tuple(command),
            env=env,
            cwd=Path(cwd),
            spool=place / "spool",
            timeout_s=_TIMEOUT_S,
            grace_s=_GRACE_S,
            stdin=source if stdin else None,
            memory=memory,
            cpu_millis=cpu_millis,
            log_limit=_OUTPUT,
            box=Box(image=image, batch=name, isolate=True, mounts=mounts),
        )
        try:
            if stdin:
                source.write_text(stdin)
            try:
                await self._backend.start(order)
            except BackendError as error:
                raise _not_started(error) from error
            return await self._listen(order.key)
        finally:
            await asyncio.shield(self._clean(order.key, place))

    async def _listen(self, key: str) -> tuple[Said, Exit]:
        texts = {Stream.STDOUT: bytearray(), Stream.STDERR: bytearray()}
        async for chunk in self._backend.stream(key, 0):
            if chunk.stream in texts:
                texts[chunk.stream] += chunk.data
        end = await self._backend.wait(key)
        out, err = (text.decode(errors="replace") for text in texts.values())
        return Said(1 if end.exit_code is None else end.exit_code, out, err), end

    async def _clean(self, key: str, place: Path) -> None:
        with suppress(UnknownRun):
            await self._backend.clean(key)
        await asyncio.to_thread(remove_tree, place)


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    """What of the runner's own environment uv needs: its settings, and how to reach the network."""
    network = {*_NETWORK, *(name.lower() for name in _NETWORK)}
    kept = {
        name: value
        for name, value in env.items()
        if (name.startswith("UV_") and name not in {*FOREIGN, "UV_CACHE_DIR", "UV_CONFIG_FILE"}) or name in network
    }
    found = {"PATH": _PATH, "HOME": "/tmp", "TMPDIR": _SHOP, "LANG": "C.UTF-8"}  # noqa: S108
    if _certificates(env) is not None:
        found["SSL_CERT_FILE"] = _CERTIFICATES
    if _configuration(env) is not None:
        found["UV_CONFIG_FILE"] = _CONFIGURATION
    return {**UV_DEFAULTS, **kept, **UV_ALWAYS, **found}


def _mounts(env: Mapping[str, str]) -> list[Mount]:
    """The files that these settings name: certificates, uv's configuration, indexes that are directories."""
    mounts = [Mount(path, str(path)) for path in local_indexes(env)]
    if (bundle := _certificates(env)) is not None:
        mounts.append(Mount(bundle, _CERTIFICATES))
    if (file := _configuration(env)) is not None:
        mounts.append(Mount(file, _CONFIGURATION))
    return mounts


def local_indexes(env: Mapping[str, str]) -> list[Path]:
    """The directories of this host that uv's settings name as places of packages."""
    found: dict[Path, None] = {}
    for word in (word for name in INDEX_SETTINGS for word in env.get(name, "").replace(",", " ").split()):
        label, mark, rest = word.partition("=")
        parts = urlsplit(rest if mark and "/" not in label else word)
        path = Path(unquote(parts.path))
        if parts.scheme in {"", "file"} and path.is_absolute() and path.is_dir():
            found[path] = None
    return list(found)


def _certificates(env: Mapping[str, str]) -> Path | None:
    """The host's certificate authorities in one file."""
    names = (env.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile, *_HOST_CERTIFICATES)
    return next((Path(name).resolve() for name in names if name and Path(name).is_file()), None)


def _configuration(env: Mapping[str, str]) -> Path | None:
    """The configuration of uv of the runner's account, or of the host."""
    own = Path(env.get("XDG_CONFIG_HOME") or Path(env.get("HOME", "/")) / ".config") / "uv/uv.toml"
    places = [Path(env["UV_CONFIG_FILE"])] if env.get("UV_CONFIG_FILE") else [own, Path("/etc/uv/uv.toml")]
    return next((path.resolve() for path in places if path.is_file()), None)


def _not_started(error: BackendError) -> AttemptFailed:
    words = f"{error.message} {error.hint}".strip()
    if _UV in error.message and _MISSING.search(error.message):
        return _no_uv("")
    return AttemptFailed(error.failure, words)


def _no_uv(words: str) -> AttemptFailed:
    """A program of glibc in an image of musl looks as if it were not there."""
    return AttemptFailed(
        FailureClass.DEPENDENCIES,
        "Requirements cannot be installed in this image: uv does not start there. It needs glibc, which images "
        f"based on Alpine (musl) do not have; choose one that is based on Debian or the like. {words}".strip(),
    )


def _ended(end: Exit) -> AttemptFailed:
    """A build that did not end by itself."""
    theirs = {FailureClass.TIMEOUT, FailureClass.OOM, FailureClass.DISK}
    failure = FailureClass.DEPENDENCIES if end.failure in theirs else FailureClass.INFRASTRUCTURE
    return AttemptFailed(failure, f"The requirements could not be built. {end.message}")
