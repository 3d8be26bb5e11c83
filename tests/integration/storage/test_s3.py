"""The object store, over a real S3 server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest
from minio.credentials.credentials import Credentials
from minio.signer import presign_v4
from support.s3 import S3Server

from rgrid_api.storage.s3 import ObjectStore
from rgrid_shared.errors import Conflict, NotFound, Unreachable

KEY = "p/prj_1/up/a b+é~"


async def test_a_presigned_put_stores_exactly_its_length(store: ObjectStore) -> None:
    """A URL for five bytes takes five bytes and no other body."""
    async with httpx.AsyncClient() as http:
        url = store.presign_put(KEY, size=5)
        assert (await http.put(url, content=b"hello")).status_code == 200
        assert (await http.put(url, content=b"hello, longer")).status_code == 403
    assert await store.head(KEY) == 5
    assert await store.get_range(KEY, 0, 5) == b"hello"


async def test_a_presigned_get_reads_ranges_of_its_own_key_only(store: ObjectStore) -> None:
    """Ranges work; another key with the same signature, another method and an expired URL do not."""
    await store.put(KEY, b"0123456789")
    await store.put("p/prj_2/up/other", b"secret")
    async with httpx.AsyncClient() as http:
        url = store.presign_get(KEY)
        answer = await http.get(url, headers={"Range": "bytes=2-4"})
        # rclone answers a range with 200; the header says which range it is.
        assert (answer.is_success, answer.content) == (True, b"234")
        assert answer.headers["content-range"] == "bytes 2-4/10"
        path = urlsplit(url).path
        assert (await http.get(url.replace(path, f"/{store.bucket}/p/prj_2/up/other"))).status_code == 403
        assert (await http.put(url, content=b"x")).status_code == 403
        past = ObjectStore(
            endpoint=store._endpoint,
            access_key=store._access_key,
            secret_key=store._secret_key,
            bucket=store.bucket,
            clock=lambda: datetime.now(UTC) - timedelta(hours=1),
        )
        assert (await http.get(past.presign_get(KEY))).status_code in (400, 403)


def test_presigned_urls_are_those_of_the_sdk(s3: S3Server) -> None:
    """Our signature of a part's URL equals the minio SDK's."""
    now = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    store = ObjectStore(
        endpoint=s3.endpoint, access_key=s3.access_key, secret_key=s3.secret_key, bucket="bucket", clock=lambda: now
    )
    ours = urlsplit(store.presign_part(KEY, "up/=+load", 3))
    theirs = presign_v4(
        method="PUT",
        url=urlsplit(urlunsplit(ours._replace(query="partNumber=3&uploadId=up%2F%3D%2Bload"))),
        region="us-east-1",
        credentials=Credentials(s3.access_key, s3.secret_key),
        date=now,
        expires=900,
    )
    assert sorted(ours.query.split("&")) == sorted(theirs.query.split("&"))


async def test_multipart_uploads_join_in_order_and_may_be_completed_twice(store: ObjectStore) -> None:
    """Parts that arrive out of order become one object, and completing again is harmless."""
    upload_id = await store.create_multipart(KEY)
    parts = [b"a" * (5 << 20), b"b" * (5 << 20), b"end"]
    etags: dict[int, str] = {}
    async with httpx.AsyncClient() as http:
        for number in (2, 1, 3):
            url = store.presign_part(KEY, upload_id, number)
            etags[number] = (await http.put(url, content=parts[number - 1])).headers["etag"]
    for _ in range(2):
        await store.complete_multipart(KEY, upload_id, [etags[number] for number in (1, 2, 3)])
    assert await store.head(KEY) == sum(map(len, parts))
    assert await store.get_range(KEY, (10 << 20) - 1, 4) == b"bend"


async def test_an_aborted_upload_leaves_nothing(store: ObjectStore) -> None:
    """Wrong etags are refused; aborting is harmless however often; then the upload cannot be completed any more."""
    upload_id = await store.create_multipart(KEY)
    with pytest.raises(Conflict):
        await store.complete_multipart(KEY, upload_id, ["wrong"])
    for _ in range(2):
        await store.abort_multipart(KEY, upload_id)
    with pytest.raises(Conflict):
        await store.complete_multipart(KEY, upload_id, ["etag"])
    assert await store.head(KEY) is None


async def test_what_is_not_there_is_not_found(store: ObjectStore) -> None:
    """No object has no length, cannot be read, and may be deleted; a range past the end is no short read."""
    assert await store.head("nothing") is None
    with pytest.raises(NotFound):
        await store.get_range("nothing", 0, 1)
    await store.put(KEY, b"123")
    with pytest.raises(NotFound):
        await store.get_range(KEY, 2, 5)
    with pytest.raises(NotFound):
        await store.get_range(KEY, 20, 5)
    await store.delete([KEY, KEY, "nothing"])
    assert await store.list("") == []


async def test_a_store_that_is_down_is_unreachable() -> None:
    """A store that does not answer is said to be so, with a time to come back."""
    nowhere = ObjectStore(endpoint="http://127.0.0.1:9", access_key="a", secret_key="b", bucket="nowhere")
    with pytest.raises(Unreachable) as caught:
        await nowhere.head("key")
    assert caught.value.retry_after_s


@pytest.mark.parametrize("endpoint", ["localhost:9000", "ftp://host", "http://host/path", ""])
def test_an_endpoint_is_a_scheme_and_a_host(endpoint: str) -> None:
    """What presigned URLs cannot name is refused at start."""
    with pytest.raises(ValueError, match="endpoint"):
        ObjectStore(endpoint=endpoint, access_key="a", secret_key="b", bucket="nowhere")
