"""The API as methods: one for each user route. Problems come back as the errors of ``rgrid_shared.errors``.

Objects go straight to and from the store by presigned URLs.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote

from rgrid.caller import Caller, Query
from rgrid.http import Body, Response
from rgrid.network import Lost
from rgrid_shared.errors import RgridError, Unreachable

if TYPE_CHECKING:
    from rgrid_shared import specs, views

STORE_PATIENCE_S: Final = 60.0


class Expired(RgridError):
    """The store refuses a presigned URL: it is out of date."""

    code = "url_expired"
    title = "The transfer link is out of date"


class Client(Caller):
    """The routes of one server; safe to use from many threads."""

    # -- blobs and objects

    def missing(self, blobs: list[specs.Blob]) -> list[str]:
        """Those hashes that the project does not have; at most 10,000 blobs."""
        reply: views.MissingReply = self.call("POST", "/v1/blobs/missing", {"blobs": blobs})
        return reply["missing"]

    def uploads(self, uploads: list[specs.UploadRequest]) -> views.UploadsReply:
        """Places for at most 1,000 objects, in order."""
        return cast("views.UploadsReply", self.call("POST", "/v1/uploads", {"uploads": uploads}))

    def uploads_complete(self, done: list[specs.UploadDone]) -> int:
        """Make uploaded blobs known by their hash; how many now are. At most 1,000 objects."""
        reply: views.UploadsDoneReply = self.call("POST", "/v1/uploads/complete", {"uploads": done})
        return reply["stored"]

    def put_object(self, url: str, body: Body, size: int) -> str:
        """PUT ``size`` bytes to a presigned URL and return its etag.

        ``body``: the bytes, or a function that starts the chunks anew (a lost PUT is sent again, for up to a minute).
        Raises ``Expired`` if the URL is out of date and ``Unreachable`` if the store refuses or cannot be reached.
        """

        def attempt() -> str:
            answer = self.transport.request("PUT", url, headers={}, body=body, size=size)
            self._check_store(answer)
            answer.read()
            return str(answer.headers.get("ETag", ""))

        return self._patiently(attempt, STORE_PATIENCE_S, "the store")

    def get_object(self, url: str, *, offset: int = 0, size: int | None = None) -> Response:
        """Open the bytes ``offset`` … ``offset + size`` (or all) of the object behind a presigned URL.

        The head of the answer is here when this returns; the caller reads it to the end or closes it. Raises as
        ``put_object`` does.
        """
        headers = {"Accept-Encoding": "identity"}
        if size is not None:
            headers["Range"] = f"bytes={offset}-{offset + size - 1}"

        def attempt() -> Response:
            answer = self.transport.request("GET", url, headers=headers)
            self._check_store(answer)
            # Some stores (rclone) answer 200 to a range all the same, and say so by Content-Range alone.
            ranged = answer.status == 206 or answer.headers.get("Content-Range") is not None
            whole = not offset and int(answer.headers.get("Content-Length") or 0) == size
            if size is not None and not (ranged or whole):
                answer.close()
                raise Unreachable("The store does not answer range requests.")
            return answer

        return self._patiently(attempt, STORE_PATIENCE_S, "the store")

    def _check_store(self, answer: Response) -> None:
        if answer.status < 300:
            return
        text = answer.read()[:2000].decode(errors="replace")
        if answer.status == 429 or answer.status >= 500:
            raise Lost(f"The store answers {answer.status}.")
        if answer.status in (401, 403):
            raise Expired(f"The store refuses the link ({answer.status}).")
        code = text.partition("<Code>")[2].partition("</Code>")[0] or text.strip()[:120]
        raise Unreachable(f"The store refuses the transfer ({answer.status} {code}).", hint="rgrid doctor")

    # -- batches

    def submit(self, body: specs.BatchSubmit, idempotency_key: str = "") -> views.BatchView:
        """Create a batch. The same key and body again give the same batch."""
        headers = {"Idempotency-Key": idempotency_key or secrets.token_urlsafe(18)}
        return cast("views.BatchView", self.call("POST", "/v1/batches", body, headers=headers, timeout_s=120))

    def items(self, batch_id: str, page: specs.ItemsPage) -> views.BatchView:
        """Add a page of items to a batch that is still arriving."""
        return cast("views.BatchView", self.call("POST", f"/v1/batches/{_part(batch_id)}/items", page, timeout_s=120))

    def batch(self, batch_id: str) -> views.BatchDetail:
        """A batch by id, unique prefix, ``last`` or ``last:N``."""
        return cast("views.BatchDetail", self.call("GET", f"/v1/batches/{_part(batch_id)}"))

    def batches(self, query: Query | None = None) -> views.BatchPage:
        """One page of batches, newest first."""
        return cast("views.BatchPage", self.call("GET", "/v1/batches", query=query))

    def executions(self, batch_id: str, query: Query | None = None) -> views.ExecutionPage:
        """One page of a batch's executions, by index."""
        return cast("views.ExecutionPage", self.call("GET", f"/v1/batches/{_part(batch_id)}/executions", query=query))

    def batch_outputs(self, batch_id: str, query: Query | None = None) -> views.OutputsPage:
        """One page of manifests of a batch's ended executions."""
        return cast("views.OutputsPage", self.call("GET", f"/v1/batches/{_part(batch_id)}/outputs", query=query))

    def cancel(self, batch_id: str, indexes: list[int] | None, reason: str = "") -> views.Changed:
        """Cancel a batch, or those of its items."""
        body = {"indexes": indexes, "reason": reason}
        return cast("views.Changed", self.call("POST", f"/v1/batches/{_part(batch_id)}/cancel", body))

    def retry(self, batch_id: str, indexes: list[int] | None, *, failed: bool) -> views.Changed:
        """Run items again as new executions."""
        from rgrid_shared.specs import RetryRequest

        body = RetryRequest(indexes=indexes, failed=failed)
        return cast("views.Changed", self.call("POST", f"/v1/batches/{_part(batch_id)}/retry", body, once=True))

    def delete(self, batch_id: str) -> None:
        """Delete a batch that is done."""
        self.call("DELETE", f"/v1/batches/{_part(batch_id)}")

    # -- executions

    def execution(self, execution_id: str) -> views.ExecutionDetail:
        """An execution by id or unique prefix."""
        return cast("views.ExecutionDetail", self.call("GET", f"/v1/executions/{_part(execution_id)}"))

    def lock(self, execution_id: str) -> views.LockView:
        """The exact packages that an execution was given."""
        return cast("views.LockView", self.call("GET", f"/v1/executions/{_part(execution_id)}/lock"))

    def outputs(self, execution_id: str) -> views.OutputsView:
        """The manifest of an ended execution, with fresh presigned GETs."""
        return cast("views.OutputsView", self.call("GET", f"/v1/executions/{_part(execution_id)}/outputs"))

    def logs(self, execution_id: str, query: Query | None = None, *, wait_s: float = 0) -> views.LogPage:
        """One page of log chunks; with ``wait_s`` the answer may come that much later."""
        query = {**(query or {}), "wait_s": str(wait_s)} if wait_s else query
        path = f"/v1/executions/{_part(execution_id)}/logs"
        return cast("views.LogPage", self.call("GET", path, query=query, timeout_s=60 + wait_s))

    def stdin(self, execution_id: str, chunk: specs.StdinChunk) -> None:
        """Send one numbered chunk of stdin."""
        self.call("POST", f"/v1/executions/{_part(execution_id)}/stdin", chunk)

    # -- everything else

    def meta(self) -> views.MetaView:
        """The server's version and the key's project."""
        return cast("views.MetaView", self.call("GET", "/v1/meta"))

    def health(self) -> views.Health:
        """``/readyz``: what works."""
        return cast("views.Health", self.call("GET", "/readyz"))

    def runtimes(self) -> views.RuntimesPage:
        """What the grid can run."""
        return cast("views.RuntimesPage", self.call("GET", "/v1/runtimes"))

    def runners(self) -> views.RunnersPage:
        """All runners."""
        return cast("views.RunnersPage", self.call("GET", "/v1/runners"))

    def keys(self) -> views.KeysPage:
        """The project's keys."""
        return cast("views.KeysPage", self.call("GET", "/v1/keys"))

    def create_key(self, name: str, expires_in_s: int | None) -> views.NewKeyView:
        """Make a key; its secret is in this answer and never again."""
        body = {"name": name, "expires_in_s": expires_in_s}
        return cast("views.NewKeyView", self.call("POST", "/v1/keys", body, once=True))

    def revoke_key(self, key_id: str) -> None:
        """Revoke a key."""
        self.call("DELETE", f"/v1/keys/{_part(key_id)}")

    def pages(self, fetch: Callable[[Query], Any], query: Query, field: str) -> Iterator[Any]:
        """All entries of a list, page by page: ``pages(client.batches, {...}, "batches")``."""
        cursor: str | None = None
        while True:
            page = fetch({**query, "cursor": cursor})
            yield from page[field]
            cursor = page["next"]
            if cursor is None:
                return


def _part(text: str) -> str:
    return quote(text, safe=":")
