"""What somebody asks to be run: the one object that the command line and the SDK both fill in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from rgrid.submit.items import ItemSource
from rgrid_shared.specs import NO_RESOURCES, Requirements, Resources


@dataclass(frozen=True, slots=True)
class Exact:
    """What an execution ran with: its packages (None if it needed none) and its runtime."""

    requirements: Requirements | None
    runtime: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """A run or a batch, before anything was looked at.

    ``script``: as typed, relative to ``cwd``, or a module's name if ``module``. ``args``: what the script gets; in a
    batch with ``{}`` and its kin. ``items``: None for a single run. ``cwd``: absolute, empty for the process's own.
    ``runtime``: empty for the one like this machine's. ``requirements``: a file's name. ``exact``: the packages of an
    earlier execution, taken as they were instead of all that is written. ``include``: globs of files to ship.
    ``allow_large``: ship whatever it weighs. ``env``: values for the script. ``timeout_s``: seconds of script time.
    ``stdin``: ``stream`` for a pipe that is fed after submission, a ``file:`` path, or empty. ``network``: False cuts
    the script off where the runner's backend can. ``isolate``: no item runs where another has run.
    """

    script: str
    args: tuple[str, ...] = ()
    module: bool = False
    items: ItemSource | None = None
    cwd: str = ""
    runtime: str = ""
    requirements: str = ""
    exact: Exact | None = None
    include: tuple[str, ...] = ()
    allow_large: bool = False
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    resources: Resources = field(default_factory=lambda: NO_RESOURCES)
    timeout_s: float | None = None
    retries: int = 0
    retry_on: tuple[str, ...] = ()
    network: bool = True
    isolate: bool = False
    name: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0
    parallel: int | None = None
    max_fails: int | None = None
    canary: int | None = None
    stdin: Literal["", "stream"] | str = ""
