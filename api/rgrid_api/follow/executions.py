"""Following one execution: its log as it is written, its states, and its end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from rgrid_api.db.tables import executions
from rgrid_api.executions.outputs import load_outputs
from rgrid_api.executions.views import EXECUTION_SELECT, execution_view
from rgrid_api.follow.socket import Socket
from rgrid_api.logs.chunks import Cursor
from rgrid_api.logs.reading import read_page
from rgrid_shared.errors import NotFound
from rgrid_shared.views import ExecutionView, OutputsView

if TYPE_CHECKING:
    from rgrid_api.services import Services

VAIN_S: Final = 0.02
"""A wake-up that brought nothing is followed by this pause: the rest of a busy batch wakes this follower too."""


async def follow_execution(
    services: Services, socket: Socket, *, execution_id: str, batch_id: str, after: Cursor, outputs: bool
) -> None:
    """Send every log chunk after ``after`` once and in order, and the execution whenever its state is new.

    The final state is sent after the last log chunk, then the end. The caller has made sure that the execution may
    be seen. Raises ``NotFound`` if it is deleted meanwhile.
    """
    cursor = after
    shown: ExecutionView | None = None
    state: tuple[int, str] | None = None
    woken = False
    async with services.hub.subscribe({f"l:{execution_id}", f"b:{batch_id}"}) as subscription:
        while True:
            page = await read_page(services.database, services.store, execution_id, cursor)
            cursor = page.next
            for chunk in page.chunks:
                await socket.send({"type": "log", "execution_id": execution_id, **chunk.view()})
            news = (page.version, page.phase) != state and (page.ended or not page.final)
            if news:
                state = (page.version, page.phase)
                shown = await _show(services, socket, execution_id, shown, outputs=outputs)
            if page.ended:
                await socket.end()
                return
            if page.more:
                continue
            if woken and not news and not page.chunks:
                await asyncio.sleep(VAIN_S)
            woken = await socket.pause(subscription)


async def _show(
    services: Services, socket: Socket, execution_id: str, shown: ExecutionView | None, *, outputs: bool
) -> ExecutionView:
    """Send the execution if it looks other than ``shown``."""
    async with services.database.read() as tx:
        result = await tx.conn.execute(EXECUTION_SELECT.where(executions.c.id == execution_id))
        row = result.mappings().one_or_none()
        if row is None:
            raise NotFound(f"execution {execution_id} has been deleted")
        view = execution_view(row)
        stored: list[OutputsView] = []
        if outputs and view["ended_at"] is not None:
            stored = await load_outputs(tx, services.store, [execution_id])
    if view != shown:
        await socket.send({"type": "executions", "executions": [view], "outputs": stored})
    return view
