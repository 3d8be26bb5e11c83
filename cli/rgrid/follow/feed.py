"""What happens to an execution or a batch, as one stream of messages that survives the network.

A lost connection is taken up again after the last message; where WebSockets do not get through, the same messages are
made by polling. The caller sees each chunk of log once and in order, and never an outage.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from rgrid.network import Lost, backoff_s
from rgrid_shared.errors import Overloaded, Unreachable

if TYPE_CHECKING:
    from rgrid.caller import Query
    from rgrid.client import Client
    from rgrid_shared.views import (
        BatchView,
        EndMessage,
        ExecutionMessage,
        ExecutionView,
        FollowMessage,
        LogMessage,
        OutputsView,
    )

POLL_WAIT_S: Final = 20.0
BATCH_POLL_S: Final = 2.0
LOCAL_PATIENCE_S: Final = 30.0
"""A grid on this machine that is away for longer was stopped; watching it any longer helps nobody."""


@dataclass(slots=True)
class Outage:
    """Counts failed tries in a row and tells the user once."""

    client: Client
    say: Callable[[str], None]
    tries: int = 0
    since: float = 0.0
    said: bool = False

    def pause(self, error: Exception) -> None:
        """Wait before the next try. Raises ``Unreachable`` if there is no sense in another."""
        now = time.monotonic()
        if self.tries == 0:
            self.since = now
        if self.client.server.local and now - self.since > LOCAL_PATIENCE_S:
            raise Unreachable(
                "The grid on this machine was stopped; what runs on it goes on when it is started.", hint="rgrid up"
            ) from error
        if self.tries == 3 and not self.said:
            self.said = True
            self.say("the connection to the grid is lost; trying again. What runs goes on.")
        time.sleep(backoff_s(self.tries))
        self.tries += 1

    def over(self) -> None:
        """A message has come."""
        self.tries = 0


def _resumed(
    client: Client,
    path: str,
    query: Callable[[], Query],
    poll: Callable[[], Iterator[FollowMessage]],
    say: Callable[[str], None],
) -> Iterator[FollowMessage]:
    # Imported where the watching starts: most commands, and all help, do without WebSockets.
    from rgrid.follow.socket import Refused, Socket

    outage = Outage(client, say)
    polling = False
    while True:
        try:
            if polling:
                for message in poll():
                    outage.over()
                    yield message
                return
            with Socket(client, path, query()) as socket:
                for message in socket.messages():
                    outage.over()
                    yield message
                return
        except Refused:
            polling = True
        except (Lost, Unreachable, Overloaded) as error:
            outage.pause(error)


@dataclass(slots=True)
class Position:
    """``ATTEMPT:SEQ`` of the last chunk that was handed on."""

    attempt: int = 0
    seq: int = 0

    @property
    def cursor(self) -> str:
        """As the API takes it; empty before the first chunk."""
        return f"{self.attempt}:{self.seq}" if self.attempt else ""

    def advance(self, attempt: int, seq: int) -> bool:
        """Move to a chunk; False if it is not new."""
        if (attempt, seq) <= (self.attempt, self.seq):
            return False
        self.attempt, self.seq = attempt, seq
        return True


def execution_feed(
    client: Client, execution_id: str, *, outputs: bool, say: Callable[[str], None], position: Position | None = None
) -> Iterator[FollowMessage]:
    """Log chunks, states and the end of one execution, with its manifest if ``outputs``.

    ``position``: where to start; it moves along. Raises the server's error if the execution cannot be followed.
    """
    place = position or Position()
    path = f"/v1/executions/{execution_id}/follow"

    def query() -> Query:
        return {"after": place.cursor, "outputs": "1" if outputs else None}

    for message in _resumed(client, path, query, lambda: _poll_execution(client, execution_id, place, outputs), say):
        if message["type"] == "log" and not place.advance(message["attempt"], message["seq"]):
            continue
        yield message


def _poll_execution(client: Client, execution_id: str, place: Position, outputs: bool) -> Iterator[FollowMessage]:
    while True:
        page = client.logs(execution_id, {"after": place.cursor}, wait_s=POLL_WAIT_S)
        for chunk in page["chunks"]:
            yield cast("LogMessage", {"type": "log", "execution_id": execution_id, **chunk})
        if page["ended"]:
            view = client.execution(execution_id)
            stored = [client.outputs(execution_id)] if outputs else []
            yield _executions([view], stored)
            yield _END
            return


@dataclass(slots=True)
class Seen:
    """What a follower of a batch knows, so that a new connection need not repeat all of it."""

    total: int
    indexes: set[int] = field(default_factory=set)
    latest: str = ""

    def note(self, view: ExecutionView) -> None:
        """Take a state in."""
        self.indexes.add(view["index"])
        for moment in (view["ended_at"], view["started_at"], view["created_at"]):
            if moment and moment > self.latest:
                self.latest = moment

    @property
    def after(self) -> str:
        """A time before which nothing is new; empty while the first snapshot is not complete."""
        if len(self.indexes) < self.total or not self.latest:
            return ""
        from datetime import timedelta

        from rgrid.times import parse_time

        # Rows are stamped inside their transactions: what commits late may carry an earlier time.
        return (parse_time(self.latest) - timedelta(seconds=10)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def batch_feed(
    client: Client, batch: BatchView, *, outputs: bool, say: Callable[[str], None]
) -> Iterator[FollowMessage]:
    """A batch's counts and its executions' states, until all have ended; manifests of ended ones if ``outputs``.

    After an outage some messages come again: take each state as the present one.
    """
    seen = Seen(batch["total"])
    path = f"/v1/batches/{batch['id']}/follow"

    def query() -> Query:
        return {"after": seen.after, "outputs": "1" if outputs else None}

    for message in _resumed(client, path, query, lambda: _poll_batch(client, batch["id"], outputs), say):
        if message["type"] == "executions":
            for view in message["executions"]:
                seen.note(view)
        yield message


def _poll_batch(client: Client, batch_id: str, outputs: bool) -> Iterator[FollowMessage]:
    states: dict[str, tuple[int, str]] = {}
    before: BatchView | None = None
    while True:
        batch = client.batch(batch_id)
        if before is None or batch["counts"] != before["counts"] or batch["done"]:
            before = batch
            yield {"type": "batch", "batch": batch}
            fresh: list[ExecutionView] = []
            for view in client.pages(lambda query: client.executions(batch_id, query), {"limit": 1000}, "executions"):
                if states.get(view["id"]) != (view["version"], view["phase"]):
                    states[view["id"]] = (view["version"], view["phase"])
                    fresh.append(view)
            for view in fresh:
                stored = [client.outputs(view["id"])] if outputs and view["ended_at"] else []
                yield _executions([view], stored)
        if batch["done"]:
            yield _END
            return
        time.sleep(max(BATCH_POLL_S, batch["total"] / 2000))


_END: Final[EndMessage] = {"type": "end"}


def _executions(views: list[ExecutionView], outputs: list[OutputsView]) -> ExecutionMessage:
    return {"type": "executions", "executions": views, "outputs": outputs}
