"""Names of runtimes, and of the container images that can stand in their place: ``--runtime reg.example/lab/tools:3``.

A runtime's name holds neither ``/`` nor ``:``; whatever does is an image. Images without a registry, a namespace or a
tag mean what they mean to Docker. Source of the grammar: the reference package of the OCI distribution project.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final

from rgrid_shared.errors import UsageError
from rgrid_shared.specs import Language

NAME: Final = re.compile(r"[a-z][a-z0-9._-]{0,63}")
MAX_LENGTH: Final = 255
_REGISTRY: Final = "docker.io"
_OFFICIAL: Final = "library"
_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE: Final = re.compile(
    rf"(?:(?P<host>[A-Za-z0-9.-]+(?::\d+)?)/)?(?P<path>{_PART}(?:/{_PART})*)"
    r"(?P<version>(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?)"
)


def language_of(runtime: str) -> Language | None:
    """The language of the scripts that a runtime is for: ``python3.12``, ``node20``, ``bash``; None: of any."""
    match = re.fullmatch(r"(python)3\.\d+|(node)\d+|(bash)", runtime)
    if match is None:
        return None
    return "python" if match[1] else "node" if match[2] else "bash"


def is_image(runtime: str) -> bool:
    """True if a runtime is named by its image."""
    return "/" in runtime or ":" in runtime


def is_valid(runtime: str) -> bool:
    """True for what can be the name of a runtime, or of an image."""
    if not is_image(runtime):
        return NAME.fullmatch(runtime) is not None
    return _parts(runtime) is not None


def normal(reference: str) -> str:
    """``reference`` with its registry and tag: ``lab/tools`` is ``docker.io/lab/tools:latest``.

    UsageError if it is no image's name.
    """
    parts = _parts(reference)
    if parts is None:
        raise UsageError(f"{reference!r} is not the name of an image.", hint="Write it like registry/name:tag.")
    host, path, version = parts
    return _with_registry(host, path) + (version or ":latest")


def allowed(reference: str, patterns: Iterable[str]) -> bool:
    """True if one of ``patterns`` (``reg.example/lab/*``; ``*`` stands for anything, ``/`` too) fits an image's name.

    A pattern without a registry is one of Docker's own; one without a tag allows any. What is no name is not allowed.
    """
    try:
        name = normal(reference)
    except UsageError:
        return False
    return any(fnmatchcase(name, each) for pattern in patterns for each in _spelled_out(pattern))


def _parts(reference: str) -> tuple[str, str, str] | None:
    """Registry (empty if none is named), path, and tag and digest with their marks; None: that is no image's name."""
    match = _REFERENCE.fullmatch(reference) if len(reference) <= MAX_LENGTH else None
    if match is None:
        return None
    host, path = match["host"] or "", match["path"]
    if host and not _is_host(host):
        if not re.fullmatch(_PART, host):
            return None
        host, path = "", f"{host}/{path}"
    return host, path, match["version"]


def _spelled_out(pattern: str) -> tuple[str, ...]:
    first, slash, rest = pattern.partition("/")
    if pattern.startswith("*"):
        full = pattern
    elif slash and _is_host(first):
        full = _with_registry(first, rest)
    else:
        full = _with_registry("", pattern)
    if ":" in full.rpartition("/")[2] or full.endswith("*"):
        return (full,)
    return (f"{full}:*", f"{full}@*")


def _is_host(text: str) -> bool:
    return "." in text or ":" in text or text == "localhost"


def _with_registry(host: str, path: str) -> str:
    host = host or _REGISTRY
    if host == _REGISTRY and "/" not in path:
        path = f"{_OFFICIAL}/{path}"
    return f"{host}/{path}"
