"""The object store: any S3 that knows PUT, GET, HEAD, DELETE, LIST, multipart uploads and presigned URLs.

Every call that touches the network runs in a thread, since the minio SDK blocks; presigning does not touch it. No
call belongs inside a database transaction.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar
from urllib.parse import urlsplit

import anyio.to_thread

from rgrid_api.storage.presign import Presigner
from rgrid_shared.errors import Conflict, Internal, NotFound, RgridError, Unreachable

if TYPE_CHECKING:
    from minio import Minio

T = TypeVar("T")

URL_EXPIRES_S: Final = 900
"""Seconds that a presigned URL lives unless the caller asks for less."""
CONNECT_TIMEOUT_S: Final = 3.0
READ_TIMEOUT_S: Final = 60.0
POOL_SIZE: Final = 16
PART_SIZE: Final = 16 * 1024**2
GONE: Final = frozenset({"NoSuchKey", "NoSuchObject", "ResourceNotFound", "InvalidRange"})
BAD_PARTS: Final = frozenset({"NoSuchUpload", "InvalidPart", "InvalidPartOrder", "EntityTooSmall", "MalformedXML"})
BUSY: Final = frozenset(
    {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "XMinioServerNotInitialized"}
)
CODE: Final = re.compile(r"<Code>(\w+)</Code>")


def utc_now() -> datetime:
    """The present instant."""
    return datetime.now(UTC)


def _refusal(code: str, message: str) -> RgridError:
    """What the store's own error code means here."""
    if code in GONE:
        return NotFound("the object store has no such object")
    if code in BAD_PARTS:
        return Conflict(f"the object store refuses the parts of an upload: {message or code}")
    if code in BUSY:
        return Unreachable(f"the object store is busy: {message or code}", retry_after_s=2)
    return Internal(f"the object store answers {code}: {message}")


class ObjectStore:
    """One bucket.

    ``public_endpoint``: what presigned URLs name, if clients reach the store under another address.
    ``single_put_max``: bytes; larger objects are to be sent in parts.
    Network methods raise ``Unreachable`` if the store does not answer and ``Internal`` if it refuses our own request.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        access_key: str,
        secret_key: str,
        bucket: str,
        region: str = "us-east-1",
        public_endpoint: str | None = None,
        single_put_max: int = 64 * 1024**2,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.bucket = bucket
        self.single_put_max = single_put_max
        self._endpoint = endpoint
        self._access_key = access_key
        self._secret_key = secret_key
        self._region = region
        self._clock = clock
        self._client: Minio | None = None
        self._presigner = Presigner(
            endpoint=public_endpoint or endpoint,
            access_key=access_key,
            secret_key=secret_key,
            bucket=bucket,
            region=region,
        )

    def presign_get(self, key: str, *, expires_s: int = URL_EXPIRES_S) -> str:
        """A URL that reads ``key`` (Range requests too) for ``expires_s`` seconds."""
        return self._presigner.url("GET", key, now=self._clock(), expires_s=expires_s)

    def presign_put(self, key: str, *, size: int | None = None, expires_s: int = URL_EXPIRES_S) -> str:
        """A URL that stores ``key`` in one PUT; of exactly ``size`` bytes if that is given."""
        return self._presigner.url("PUT", key, now=self._clock(), expires_s=expires_s, content_length=size)

    def presign_part(self, key: str, upload_id: str, number: int, *, expires_s: int = URL_EXPIRES_S) -> str:
        """A URL that stores part ``number`` (from 1) of a multipart upload; its answer's ETag is needed at the end."""
        return self._presigner.url(
            "PUT",
            key,
            now=self._clock(),
            expires_s=expires_s,
            query={"partNumber": str(number), "uploadId": upload_id},
        )

    async def create_multipart(self, key: str) -> str:
        """Begin a multipart upload; the store's id for it."""
        return await self._call(lambda s3: str(s3._create_multipart_upload(self.bucket, key, {})))

    async def complete_multipart(self, key: str, upload_id: str, etags: Sequence[str]) -> None:
        """Join the parts. Harmless if they have been joined before.

        Raises ``Conflict`` if a part is missing, is not what its ETag says, or the upload is unknown.
        """
        from minio.datatypes import Part

        parts = [Part(number, etag.strip('"')) for number, etag in enumerate(etags, 1)]
        try:
            await self._call(lambda s3: s3._complete_multipart_upload(self.bucket, key, upload_id, parts))
        except Conflict:
            if await self.head(key) is None:
                raise

    async def abort_multipart(self, key: str, upload_id: str) -> None:
        """Give a multipart upload up and free its parts. Harmless if it is gone."""
        try:
            await self._call(lambda s3: s3._abort_multipart_upload(self.bucket, key, upload_id))
        except (Conflict, NotFound):
            return

    async def head(self, key: str) -> int | None:
        """The object's length in bytes, or None if there is none."""
        try:
            return await self._call(lambda s3: int(s3.stat_object(self.bucket, key).size or 0))
        except NotFound:
            return None

    async def put(self, key: str, data: bytes) -> None:
        """Store ``data`` under ``key``."""
        await self.put_file(key, io.BytesIO(data), len(data))

    async def put_file(self, key: str, file: BinaryIO, size: int) -> None:
        """Store the next ``size`` bytes of ``file`` under ``key``, in parts if they are many."""
        await self._call(lambda s3: s3.put_object(self.bucket, key, file, size, part_size=PART_SIZE))

    async def get_range(self, key: str, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset``. Raises ``NotFound`` if there is no such object or it is shorter."""
        if size == 0:
            return b""

        def read(s3: Minio) -> bytes:
            answer = s3.get_object(self.bucket, key, offset=offset, length=size)
            try:
                return bytes(answer.read())
            finally:
                answer.close()
                answer.release_conn()

        data = await self._call(read)
        if len(data) != size:
            raise NotFound(f"the object store holds {len(data)} of {size} bytes at {offset} of {key}")
        return data

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove objects. Those that are gone already do not matter."""
        listed = list(keys)

        def remove(s3: Minio) -> None:
            for key in listed:
                s3.remove_object(self.bucket, key)

        if listed:
            await self._call(remove)

    async def list(self, prefix: str) -> list[str]:
        """All keys that begin with ``prefix``."""
        return await self._call(
            lambda s3: [str(o.object_name) for o in s3.list_objects(self.bucket, prefix, recursive=True)]
        )

    async def ensure_bucket(self) -> None:
        """Make the bucket unless it is there."""

        def ensure(s3: Minio) -> None:
            from minio.error import S3Error

            try:
                if not s3.bucket_exists(self.bucket):
                    s3.make_bucket(self.bucket)
            except S3Error as error:
                if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                    raise

        await self._call(ensure)

    async def ready(self) -> bool:
        """True if the store answers and has the bucket."""
        return await self._call(lambda s3: bool(s3.bucket_exists(self.bucket)))

    async def _call(self, work: Callable[[Minio], T]) -> T:
        """Run ``work`` in a thread and say its failures in our words."""
        return await anyio.to_thread.run_sync(self._guarded, work)

    def _guarded(self, work: Callable[[Minio], T]) -> T:
        from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
        from urllib3.exceptions import HTTPError

        try:
            return work(self._connected())
        except S3Error as error:
            raise _refusal(error.code or "no code", error.message or "") from error
        except InvalidResponseError as error:
            # The SDK reads only errors that are labelled application/xml; rclone labels them text/xml.
            code = CODE.search(str(error))
            if code:
                raise _refusal(code[1], "") from error
            raise Unreachable(f"the object store does not answer as one: {error}", retry_after_s=2) from error
        except (ServerError, HTTPError, OSError) as error:
            raise Unreachable(f"the object store does not answer: {error}", retry_after_s=2) from error
        except (MinioException, ValueError) as error:
            raise Internal(f"the object store cannot be used: {error}") from error

    def _connected(self) -> Minio:
        # Imported at first use, in a thread: it takes 0.27 s, which the API's start does not wait for.
        import urllib3
        from minio import Minio

        if self._client is None:
            parts = urlsplit(self._endpoint)
            self._client = Minio(
                parts.netloc,
                access_key=self._access_key,
                secret_key=self._secret_key,
                region=self._region,
                secure=parts.scheme == "https",
                http_client=urllib3.PoolManager(
                    maxsize=POOL_SIZE,
                    timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S),
                    retries=urllib3.Retry(total=2, backoff_factor=0.1, status_forcelist=[500, 502, 503, 504]),
                ),
            )
        return self._client
