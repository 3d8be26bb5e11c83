"""Which output goes into which object: small files together, large ones alone. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rgrid_runner.scan import Candidate

SMALL_BYTES: Final = 8 * 1024 * 1024
PACK_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Packed:
    """A file at ``offset`` of its object."""

    file: Candidate
    offset: int


@dataclass(frozen=True, slots=True)
class Planned:
    """An object of ``size`` bytes: its files back to back."""

    size: int
    files: tuple[Packed, ...]


def plan(files: Sequence[Candidate]) -> list[Planned]:
    """Objects for all files that hold bytes; names of one file (same ``ino``) are stored once.

    No pack exceeds ``PACK_BYTES``; a file above ``SMALL_BYTES`` has an object of its own.
    """
    once = {file.ino: file for file in reversed(files) if file.size}
    unique = [file for file in files if file.size and once[file.ino] is file]
    objects: list[Planned] = []
    pack: list[Packed] = []
    filled = 0
    for file in unique:
        if file.size > SMALL_BYTES:
            continue
        if filled + file.size > PACK_BYTES:
            objects.append(Planned(filled, tuple(pack)))
            pack, filled = [], 0
        pack.append(Packed(file, filled))
        filled += file.size
    if pack:
        objects.append(Planned(filled, tuple(pack)))
    return objects + [Planned(file.size, (Packed(file, 0),)) for file in unique if file.size > SMALL_BYTES]
