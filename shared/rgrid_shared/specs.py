"""What is submitted: one spec, many items."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from annotated_types import Ge, Le, Len
from typing_extensions import TypedDict

from rgrid_shared.wire import Base64, Bytes, Count, RelPath, Sha256, ShortText, closed

PAGE_ITEMS = 5_000
"""Items in one request at most; larger batches are sent page by page."""
MAX_ITEMS = 100_000
"""Items in a batch at most."""


@closed
class FileRef(TypedDict):
    """One shipped file. ``mode``: permission bits (0o777). The bytes are the blob named by ``sha256``."""

    path: RelPath
    sha256: Sha256
    size: Bytes
    mode: Annotated[int, Ge(0), Le(0o777)]


@closed
class PathArg(TypedDict):
    """An argument that holds an absolute path: ``prefix`` + where ``path`` lies on the runner.

    ``original`` is what was typed after the prefix. A backend that can mount a file at its own path uses it as it
    is; the process backend puts the workspace's path in its place and says so.
    """

    prefix: str
    path: RelPath
    original: str


Arg = str | PathArg
Language = Literal["python", "bash", "node"]
"""What scripts are written in."""


@closed
class Script(TypedDict):
    """What to run. ``path``: a file (``kind`` file) below the root, or a module name (``kind`` module).

    ``argv0``: the script as it was typed, relative to the working directory (``./s.py`` stays ``./s.py``);
    a ``PathArg`` if it was typed as an absolute path. ``name`` is for people and lists. ``language``: which of a
    runtime's interpreters it is for; without it the runtime has but one.
    """

    kind: Literal["file", "module"]
    path: str
    argv0: Arg
    name: ShortText
    language: NotRequired[Language]


@closed
class Requirements(TypedDict):
    """Dependencies as text, one requirement (PEP 508, or pip's hash form) a line. Nested files are already flat.

    ``source`` says where they were found, for people: ``pep723``, ``requirements.txt``, ``pyproject``, ``lock``,
    ``environment``, ``execution``. ``exact``: the lines are already complete pins of a resolved set.
    ``requires_python``: a PEP 440 specifier, or empty. ``options``: lines that name indexes (``--index-url URL``);
    ``${NAME}`` in a URL stands for an environment value of the batch, since a spec holds no secrets.
    """

    lines: list[str]
    source: str
    requires_python: str
    exact: bool
    options: NotRequired[list[str]]


@closed
class Resources(TypedDict):
    """What one execution needs. ``cpu_millis``: 1000 = one core. 0 means: no claim and no limit."""

    cpu_millis: Count
    memory: Bytes
    disk: Bytes
    gpus: Count
    gpu_model: ShortText
    gpu_memory: Bytes
    labels: dict[str, str]


@closed
class RetryRule(TypedDict):
    """``retries``: further attempts by the user's wish; ``on``: failure classes (``FailureClass`` values)."""

    retries: Annotated[int, Ge(0), Le(100)]
    on: list[str]


@closed
class StdinStream(TypedDict):
    """stdin is a pipe at the client: its bytes follow in numbered chunks after submission."""

    stream: Literal[True]


@closed
class StdinBlob(TypedDict):
    """stdin is a regular file at the client: its bytes are a blob."""

    sha256: Sha256
    size: Bytes


Stdin = StdinStream | StdinBlob | None


@closed
class Spec(TypedDict):
    """What all items of a batch share.

    ``root``: the absolute directory at the client that the workspace stands for: the common ancestor of the script,
    the working directory and every shipped file. ``cwd``: the working directory below it, ``""`` if it is the root.
    ``dirs``: further directories that exist below the root (empty ones too). ``links``: symbolic links that were
    shipped, path → target, both inside the root. ``env_names``: names of the encrypted environment values.
    ``timeout_s``: script time in seconds, None = none. ``isolate``: no item runs where another has run.
    """

    root: str
    cwd: str
    script: Script
    files: list[FileRef]
    dirs: list[RelPath]
    links: dict[str, str]
    runtime: ShortText
    requirements: Requirements | None
    resources: Resources
    timeout_s: Annotated[float, Ge(0.001)] | None
    retry: RetryRule
    network: bool
    isolate: NotRequired[bool]
    stdin: Stdin
    env_names: list[str]


@closed
class Item(TypedDict):
    """What differs from execution to execution.

    ``name``: the item as people know it (the input's path as typed, the line, the number); ``output_name``: the
    directory below ``outputs/`` that its files go to, unique within the batch and safe as a path (may hold ``/``);
    empty for a single run. ``args``: everything after the script.
    """

    name: Annotated[str, Len(0, 4096)]
    output_name: Annotated[str, Len(0, 1024)]
    args: list[Arg]
    files: list[FileRef]


@closed
class BatchSubmit(TypedDict):
    """``POST /v1/batches``: the spec and the first page of items.

    ``total``: how many items the whole batch has. If ``items`` holds all of them the batch starts at once; if not,
    the rest follows by ``POST /v1/batches/{id}/items`` and nothing starts before the last item has arrived.
    ``env``: values of ``spec.env_names``; encrypted at rest, never returned. ``parallel``: executions that may be
    queued or running at once, None = no limit. ``max_fails``: stop starting items after this many failures.
    ``canary``: run this many items first; go on only if all of them succeed. ``single``: a plain run, not a batch.
    """

    spec: Spec
    items: list[Item]
    total: Annotated[int, Ge(1), Le(MAX_ITEMS)]
    env: dict[str, str]
    name: ShortText
    metadata: dict[str, str]
    priority: Annotated[int, Ge(-100), Le(100)]
    parallel: Annotated[int, Ge(1)] | None
    max_fails: Annotated[int, Ge(1)] | None
    canary: Annotated[int, Ge(1)] | None
    single: bool


@closed
class ItemsPage(TypedDict):
    """``POST /v1/batches/{id}/items``: items ``first`` … ``first + len(items) - 1``. Repeating a page is harmless."""

    first: Count
    items: list[Item]


@closed
class StdinChunk(TypedDict):
    """``POST /v1/executions/{id}/stdin``: chunk number ``seq`` (from 1). ``eof``: nothing follows. Repeatable."""

    seq: Annotated[int, Ge(1)]
    data: Base64
    eof: bool


NO_RESOURCES: Resources = {
    "cpu_millis": 0,
    "memory": 0,
    "disk": 0,
    "gpus": 0,
    "gpu_model": "",
    "gpu_memory": 0,
    "labels": {},
}


@closed
class Blob(TypedDict):
    """A blob by name and length."""

    sha256: Sha256
    size: Bytes


@closed
class MissingQuery(TypedDict):
    """``POST /v1/blobs/missing``."""

    blobs: Annotated[list[Blob], Len(0, 10_000)]


@closed
class PackedBlob(TypedDict):
    """A blob inside an object that is to be uploaded."""

    sha256: Sha256
    size: Bytes
    offset: Bytes


@closed
class UploadRequest(TypedDict):
    """One object to be stored: one blob, or several small ones packed back to back."""

    size: Bytes
    blobs: Annotated[list[PackedBlob], Len(1, 4096)]


@closed
class UploadsRequest(TypedDict):
    """``POST /v1/uploads``."""

    uploads: Annotated[list[UploadRequest], Len(1, 1000)]


@closed
class UploadDone(TypedDict):
    """``etags``: one for each part of a multipart upload, in order; empty for a single PUT."""

    id: str
    etags: NotRequired[list[str]]


@closed
class UploadsDone(TypedDict):
    """``POST /v1/uploads/complete``."""

    uploads: Annotated[list[UploadDone], Len(1, 1000)]


@closed
class KeyCreate(TypedDict):
    """``POST /v1/keys``. ``expires_in_s``: seconds from now, None = never."""

    name: ShortText
    expires_in_s: Annotated[int, Ge(1)] | None


@closed
class CancelRequest(TypedDict):
    """``POST /v1/batches/{id}/cancel`` and ``/v1/executions/{id}/cancel``. ``indexes``: None = the whole batch."""

    indexes: list[Count] | None
    reason: ShortText


@closed
class RetryRequest(TypedDict):
    """``POST /v1/batches/{id}/retry``: items by index, or all whose latest execution did not succeed."""

    indexes: list[Count] | None
    failed: bool
