"""What is kept on disk of each attempt, so that an agent that takes over can bring it to its end.

Written twice: at the claim, and right before the script starts. Everything later is either the backend's (how the
script ended, its spool) or can be done again (collecting and storing outputs).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from rgrid_runner.files import read_json, write_json
from rgrid_shared.protocol import Claim, Upload
from rgrid_shared.specs import Resources

FORMAT: Final = 1


@dataclass(slots=True)
class Record:
    """One attempt. ``notes``: what rgrid said before the script, as (time, text): log chunks 1 … len(notes).

    ``streams_stdin``: the script's stdin is fed chunk by chunk. ``prepare_ms``: from claim to start. ``gpus``: UUIDs
    of those that it has. Environment values are not kept: what runs has them already, and what has not started is not
    started by a successor.
    """

    execution_id: str
    attempt: int
    pack: Upload
    resources: Resources
    streams_stdin: bool
    layer: str = ""
    prepare_ms: int = 0
    gpus: list[str] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)

    @property
    def key(self) -> str:
        """The attempt's name: of its directories, of its run in the backend."""
        return f"{self.execution_id}.{self.attempt}"

    @classmethod
    def of(cls, claim: Claim, resources: Resources, *, streams_stdin: bool) -> Record:
        """The record of a fresh claim."""
        return cls(claim["execution_id"], claim["attempt"], claim["pack"], resources, streams_stdin)


class Records:
    """The records of a runner: one small file each."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def save(self, record: Record) -> None:
        """Write ``record`` in one step. OSError: the disk."""
        write_json(self._root / f"{record.key}.json", {"format": FORMAT, **asdict(record)})

    def remove(self, key: str) -> None:
        """The attempt is over."""
        (self._root / f"{key}.json").unlink(missing_ok=True)

    def load(self) -> Iterator[Record]:
        """All records that can be read; others are removed (their attempts' leases run out)."""
        for path in sorted(self._root.iterdir()):
            document = read_json(path) if path.suffix == ".json" else None
            if isinstance(document, dict) and document.pop("format", None) == FORMAT:
                document["notes"] = [(at, text) for at, text in document["notes"]]
                yield Record(**document)
            else:
                path.unlink(missing_ok=True)
