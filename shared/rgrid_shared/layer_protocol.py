"""What runner and API say to each other about dependency layers: who builds one, where its archive is."""

from __future__ import annotations

from typing import Annotated, NotRequired

from annotated_types import Ge, Len
from typing_extensions import TypedDict

from rgrid_shared.protocol import Upload
from rgrid_shared.wire import Bytes, Sha256, ShortText, closed

Digest = Annotated[str, Len(64, 64)]
"""A layer's key: 64 lower-case hex digits."""


@closed
class LayerQuery(TypedDict):
    """``POST /v1/runners/{id}/layers/find``: the archive of a layer, or leave to build it.

    ``project_id``: the only project that may use the layer, empty if all may. ``lock``: one exact pin a line.
    Asked again while it builds, it keeps the leave. ``share``: False only says what is in the layer, and gets neither.
    """

    key: Digest
    project_id: str
    lock: Annotated[list[str], Len(0, 10_000)]
    interpreter: ShortText
    share: NotRequired[bool]


class LayerArchive(TypedDict):
    """An archive in the store: ``size`` bytes with this hash behind ``url``, ``unpacked`` bytes in its files."""

    url: str
    sha256: Sha256
    size: Bytes
    unpacked: Bytes


class LayerAnswer(TypedDict):
    """``archive``: where it is. Without one, ``build`` says that this runner is to build it for all.

    If neither, another runner does: ask again after ``retry_s`` seconds. ``lease_s``: how long the leave to build
    lasts before it must be asked for again.
    """

    archive: LayerArchive | None
    build: bool
    retry_s: float
    lease_s: float


@closed
class LayerPlace(TypedDict):
    """``POST /v1/runners/{id}/layers/place``: where an archive of ``size`` bytes may be put."""

    key: Digest
    size: Annotated[int, Ge(1)]


class LayerPlaceReply(TypedDict):
    """``upload``: None if the grid has an archive of this layer by now."""

    upload: Upload | None


@closed
class LayerPublish(TypedDict):
    """``POST /v1/runners/{id}/layers/publish``: the archive is stored. ``unpacked``: bytes of its files."""

    key: Digest
    object_key: str
    etags: list[str]
    sha256: Sha256
    unpacked: Bytes


class LayerPublished(TypedDict):
    """``accepted``: False if another runner's archive was first; this one is dropped."""

    accepted: bool


@closed
class LayerRefusal(TypedDict):
    """``POST /v1/runners/{id}/layers/refuse``: the archive with this hash is not what it should be, and why."""

    key: Digest
    sha256: Sha256
    reason: ShortText


@closed
class LayerGivenUp(TypedDict):
    """``POST /v1/runners/{id}/layers/give-up``: this runner does not build the layer after all."""

    key: Digest
