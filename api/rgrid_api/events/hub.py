"""Wake-ups across processes: one LISTEN connection, any number of waiting coroutines.

PostgreSQL's NOTIFY is a hint, never the truth: whoever waits here also looks again by itself every few seconds. The
hub's own promises are two: a notification that was committed after ``subscribe`` wakes its subscribers while the
connection lives, and everybody is woken once after a lost connection came back, since notifications sent in
between are gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable
from typing import Final

import asyncpg
from sqlalchemy.engine import make_url

CHANNEL: Final = "rgrid"
EVERYBODY: Final = "*"
"""The payload of a transaction that touched more topics than one payload holds."""

CHECK_S: Final = 15.0
CONNECT_TIMEOUT_S: Final = 5.0
FIRST_BACKOFF_S: Final = 0.1
MAX_BACKOFF_S: Final = 5.0
LOST: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)

log = logging.getLogger(__name__)


class Subscription:
    """What a coroutine waits on. Wake-ups that come while nobody waits are kept (as one)."""

    __slots__ = ("_hub", "_woken", "topics")

    def __init__(self, hub: Hub, topics: frozenset[str]) -> None:
        self.topics = topics
        self._hub = hub
        self._woken = asyncio.Event()

    @property
    def stopping(self) -> bool:
        """True if the hub stops: waiting has no sense any more."""
        return self._hub.stopping

    def wake(self) -> None:
        """End the present or the next ``wait``."""
        self._woken.set()

    async def wait(self, timeout_s: float) -> bool:
        """Wait for a wake-up; True if there was one since the last call, False after ``timeout_s`` seconds.

        Returns at once while the hub is stopping.
        """
        if not self._woken.is_set():
            if self._hub.stopping:
                return False
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), timeout_s)
        woken = self._woken.is_set()
        self._woken.clear()
        return woken


class Hub:
    """One for each process. ``start`` before the first request, ``stop`` after the last."""

    def __init__(self, database_url: str) -> None:
        self._dsn = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._waiting: dict[str, set[Subscription]] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self._listening = asyncio.Event()
        self.stopping = False

    @property
    def connected(self) -> bool:
        """True while the LISTEN connection is up."""
        return self._listening.is_set()

    async def start(self) -> None:
        """Begin to listen. Returns once the connection is up, or raises what kept it from coming up.

        Raises ``OSError``, ``TimeoutError`` or ``asyncpg.PostgresError``.
        """
        connection = await self._connect()
        self._keeper = asyncio.create_task(self._keep(connection), name="hub")

    def begin_stop(self) -> None:
        """Let every waiter go, now and from now on, so that long polls are answered before the process ends."""
        self.stopping = True
        self._wake_everybody()

    async def stop(self) -> None:
        """Let every waiter go and close the connection."""
        self.begin_stop()
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None

    @contextlib.asynccontextmanager
    async def subscribe(self, topics: Iterable[str]) -> AsyncIterator[Subscription]:
        """Be woken by any of ``topics``. Subscribe first, then read the state, then wait: nothing slips between."""
        subscription = Subscription(self, frozenset(topics))
        for topic in subscription.topics:
            self._waiting.setdefault(topic, set()).add(subscription)
        try:
            yield subscription
        finally:
            for topic in subscription.topics:
                waiting = self._waiting[topic]
                waiting.discard(subscription)
                if not waiting:
                    del self._waiting[topic]

    def dispatch(self, payload: str) -> None:
        """Wake whoever subscribed to a topic of ``payload`` (topics between spaces, or ``*``)."""
        topics = payload.split(" ")
        if EVERYBODY in topics:
            self._wake_everybody()
            return
        for topic in topics:
            for subscription in self._waiting.get(topic, ()):
                subscription.wake()

    def _wake_everybody(self) -> None:
        for waiting in self._waiting.values():
            for subscription in waiting:
                subscription.wake()

    async def _connect(self) -> asyncpg.Connection:
        connection = await asyncpg.connect(
            self._dsn,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=CONNECT_TIMEOUT_S,
            server_settings={"application_name": "rgrid-hub"},
        )
        self._lost.clear()
        connection.add_termination_listener(lambda _: self._lost.set())
        try:
            await connection.add_listener(CHANNEL, lambda _connection, _pid, _channel, payload: self.dispatch(payload))
        except LOST:
            connection.terminate()
            raise
        self._listening.set()
        return connection

    async def _keep(self, connection: asyncpg.Connection) -> None:
        """Watch the connection for as long as the process lives; bring it back when it is lost."""
        try:
            while True:
                await self._until_lost(connection)
                self._listening.clear()
                connection.terminate()
                log.warning("the notification connection was lost; connecting again")
                connection = await self._reconnect()
                self._wake_everybody()
        finally:
            self._listening.clear()
            connection.terminate()

    async def _until_lost(self, connection: asyncpg.Connection) -> None:
        while not self._lost.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._lost.wait(), CHECK_S)
            if not self._lost.is_set():
                try:
                    # A peer that vanished without a word is noticed only by asking it something.
                    await connection.execute("SELECT 1")
                except LOST:
                    return

    async def _reconnect(self) -> asyncpg.Connection:
        backoff_s = FIRST_BACKOFF_S
        while True:
            try:
                return await self._connect()
            except LOST as error:
                log.info("no notification connection yet (%s); next try in %.1f s", error, backoff_s)
            await asyncio.sleep(backoff_s)
            backoff_s = min(MAX_BACKOFF_S, backoff_s * 2)
