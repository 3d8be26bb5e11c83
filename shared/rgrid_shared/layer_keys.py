"""The name of a dependency layer: the hash of everything that decides its content."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final

_SECRET: Final = re.compile(r"//[^/@\s]*@")


def digest(fields: Iterable[tuple[str, str]]) -> str:
    """SHA-256 over named fields. Each is delimited by its length, so no two lists of fields share a digest."""
    state = hashlib.sha256()
    for name, value in fields:
        for part in (name.encode(), value.encode()):
            state.update(len(part).to_bytes(8, "big"))
            state.update(part)
    return state.hexdigest()


def layer_key(
    *, lock: str, interpreter: str, path: str, image: str, platform: str, accelerator: str, scope: str
) -> str:
    """The key of a layer.

    ``lock``: the resolved requirements, one exact pin a line; ``interpreter``: implementation and full version
    (``cpython-3.11.7``); ``path``: where that is, for an environment points at it; ``image``: the runtime image's
    digest, empty for none; ``platform``: machine and C library (``x86_64-linux-glibc``); ``accelerator``: the CUDA
    variant, empty for none; ``scope``: the project that alone may use it, empty for a layer that all share.
    """
    return digest(
        [
            ("format", "2"),
            ("lock", lock),
            ("interpreter", interpreter),
            ("path", path),
            ("image", image),
            ("platform", platform),
            ("accelerator", accelerator),
            ("scope", scope),
        ]
    )


def resolution_key(
    *,
    lines: Iterable[str],
    options: Iterable[str],
    exact: bool,
    interpreter: str,
    path: str,
    image: str,
    platform: str,
    accelerator: str,
    project: str,
    index: str,
) -> str:
    """The key under which a resolver's answer is kept. ``options``: what the requirements say of indexes.

    ``index``: the runner's own settings of them. Values of the user's variables are no part of it.
    """
    return digest(
        [
            ("format", "2"),
            *(("line", line) for line in lines),
            *(("option", option) for option in options),
            ("exact", str(exact)),
            ("interpreter", interpreter),
            ("path", path),
            ("image", image),
            ("platform", platform),
            ("accelerator", accelerator),
            ("project", project),
            ("index", index),
        ]
    )


def lock_lines(text: str) -> list[str]:
    """A resolver's answer, one requirement a line with its hashes behind it; comments and empty lines are left out."""
    joined = text.replace("\\\n", " ")
    lines = (" ".join(line.split()) for line in joined.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def pin(line: str) -> str:
    """A line of a lock without its hashes, for people: ``numpy==2.1.0``. Secrets in addresses are not shown."""
    return _SECRET.sub("//****@", line.partition(" --hash")[0].strip())
