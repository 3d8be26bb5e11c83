"""All outputs of a batch that there are by now, brought here."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from rgrid.progress import Bar
from rgrid.selectors import index_text
from rgrid.transfer.download import Downloader, Summary, total_bytes
from rgrid.transfer.where import layout_for

if TYPE_CHECKING:
    from rgrid.client import Client
    from rgrid.runs import Record
    from rgrid_shared.views import BatchView

WORKERS: Final = 6
PAGE: Final = 100


def bring(
    client: Client,
    batch: BatchView,
    indexes: list[int] | None,
    *,
    record: Record | None,
    dest: str | None = None,
    flat: bool = False,
) -> Summary:
    """Fetch the outputs of the ended items among ``indexes`` (None: all), a page of manifests at a time.

    Raises ``LocalTrouble``, ``Unreachable``, ``Damaged``; what was placed before stays.
    """
    layout = layout_for(client, batch, record, dest=dest)
    whole = Summary()
    query: dict[str, Any] = {"index": index_text(indexes), "limit": PAGE}
    pending: deque[Future[Summary]] = deque()
    with Bar("outputs", 0) as bar, ThreadPoolExecutor(WORKERS, "rgrid-outputs") as pool:
        downloader = Downloader(client, layout, record, flat=flat, count=bar.add)
        try:
            for view in client.pages(lambda page: client.batch_outputs(batch["id"], page), query, "outputs"):
                downloader.reserve(view)
                bar.expect(total_bytes([view]))
                pending.append(pool.submit(downloader.fetch, view))
                # A link to the store ends after minutes: manifests are not fetched far ahead of their files.
                while len(pending) > PAGE:
                    whole.add(pending.popleft().result())
            while pending:
                whole.add(pending.popleft().result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return whole
