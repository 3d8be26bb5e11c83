"""The name of a dependency layer: the hash of everything that decides its content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def digest(fields: Iterable[tuple[str, str]]) -> str:
    """SHA-256 over named fields. Each is delimited by its length, so no two lists of fields share a digest."""
    state = hashlib.sha256()
    for name, value in fields:
        for part in (name.encode(), value.encode()):
            state.update(len(part).to_bytes(8, "big"))
            state.update(part)
    return state.hexdigest()


def layer_key(*, lock: str, interpreter: str, image: str, platform: str, accelerator: str) -> str:
    """The key of a layer.

    ``lock``: the resolved requirements, one exact pin a line; ``interpreter``: implementation and full version
    (``cpython-3.11.7``); ``image``: the runtime image's digest, empty for none; ``platform``: machine and C library
    (``x86_64-linux-glibc``); ``accelerator``: the CUDA variant, empty for none.
    """
    return digest(
        [
            ("format", "1"),
            ("lock", lock),
            ("interpreter", interpreter),
            ("image", image),
            ("platform", platform),
            ("accelerator", accelerator),
        ]
    )


def resolution_key(*, lines: Iterable[str], interpreter: str, project: str, index: str) -> str:
    """The key under which a resolver's answer is kept."""
    return digest(
        [
            ("lines", "\n".join(lines)),
            ("interpreter", interpreter),
            ("project", project),
            ("index", index),
        ]
    )
