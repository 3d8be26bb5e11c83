"""Where new bytes go: object keys, and presigned places to put them.

Nothing is ever uploaded to a key that is named by its content: a PUT URL may be used again until it expires, and
would replace the bytes behind a hash for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from rgrid_api.storage.s3 import URL_EXPIRES_S, ObjectStore
from rgrid_api.times import to_wire
from rgrid_shared.errors import Conflict, InvalidRequest, TooLarge
from rgrid_shared.protocol import Upload

MIB: Final = 1024**2
MIN_PART: Final = 16 * MIB
MAX_PARTS: Final = 2_000
"""S3 allows 10,000; fewer, larger parts keep the answer that lists their URLs small."""
MAX_OBJECT: Final = 5 * 1024**4
"""S3's own limit."""


def upload_key(project_id: str, upload_id: str) -> str:
    """Where a client's upload goes."""
    return f"p/{project_id}/up/{upload_id}"


def output_prefix(project_id: str, execution_id: str, attempt: int) -> str:
    """What every output object of an attempt begins with."""
    return f"p/{project_id}/x/{execution_id}/{attempt}/"


def output_key(project_id: str, execution_id: str, attempt: int, name: str) -> str:
    """An output object of an attempt."""
    return output_prefix(project_id, execution_id, attempt) + name


def log_key(project_id: str, name: str) -> str:
    """An object that holds archived logs."""
    return f"p/{project_id}/logs/{name}"


def part_size(size: int) -> int:
    """Bytes in each part of a multipart upload of ``size`` bytes (the last may be shorter): whole MiB, ≥ 16 MiB."""
    return max(MIN_PART, -(-size // (MAX_PARTS * MIB)) * MIB)


def pack_upload(store: ObjectStore, key: str) -> Upload:
    """A place for one object of any length, by a single PUT. Pure computation."""
    return _single(key, store.presign_put(key), 0)


async def new_upload(store: ObjectStore, key: str, size: int) -> Upload:
    """A place for an object of exactly ``size`` bytes.

    ``id`` is the store's id of a multipart upload, to be named again in ``complete_upload``, else empty. Raises
    ``TooLarge`` above 5 TiB.
    """
    if size > MAX_OBJECT:
        raise TooLarge(f"an object cannot be larger than {MAX_OBJECT} bytes")
    if size <= store.single_put_max:
        return _single(key, store.presign_put(key, size=size), size)
    upload_id = await store.create_multipart(key)
    step = part_size(size)
    return {
        "id": upload_id,
        "key": key,
        "multipart": True,
        "part_size": step,
        "urls": [store.presign_part(key, upload_id, number + 1) for number in range(-(-size // step))],
        "expires_at": _expiry(),
    }


async def complete_upload(
    store: ObjectStore, key: str, size: int, *, name: str, upload_id: str = "", etags: Sequence[str] = ()
) -> None:
    """Make sure that the object is there with all its bytes; joins the parts of a multipart upload first.

    ``name`` is what the upload is called in messages. Repeating it is harmless. Raises ``InvalidRequest`` if etags are
    lacking, ``Conflict`` if the store does not have ``size`` bytes under ``key``.
    """
    if upload_id:
        wanted = -(-size // part_size(size))
        if len(etags) != wanted:
            raise InvalidRequest(f"{name} has {wanted} parts, but {len(etags)} etags came with it")
        await store.complete_multipart(key, upload_id, etags)
    stored = await store.head(key)
    if stored is None:
        raise Conflict(f"nothing was stored for {name}")
    if stored != size:
        raise Conflict(f"the store has {stored} bytes for {name}, not {size}")


def _single(key: str, url: str, size: int) -> Upload:
    return {"id": "", "key": key, "multipart": False, "part_size": size, "urls": [url], "expires_at": _expiry()}


def _expiry() -> str:
    return to_wire(datetime.now(UTC) + timedelta(seconds=URL_EXPIRES_S))
