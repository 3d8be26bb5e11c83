"""Following over real WebSockets: once, in order, across broken connections, and by polling where they are refused."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from support.web import Answer, Asked, problem, reply, serve
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as serve_sockets

from rgrid.client import Client
from rgrid.config import Server
from rgrid.follow.feed import Position, batch_feed, execution_feed
from rgrid_shared.errors import NotAuthorised, NotFound, RgridError
from rgrid_shared.states import Status

HELLO = {"type": "hello", "api": 1}
END = {"type": "end"}


def chunk(seq: int, attempt: int = 1) -> dict[str, Any]:
    data = b64encode(f"{attempt}.{seq}\n".encode()).decode()
    at = "2026-01-01T00:00:00.000000Z"
    return {
        "type": "log",
        "execution_id": "exe_1",
        "attempt": attempt,
        "seq": seq,
        "stream": "stdout",
        "at": at,
        "data": data,
    }


@contextmanager
def sockets(handler: Callable[[ServerConnection, dict[str, list[str]]], None]) -> Iterator[Client]:
    """A WebSocket server that hands each connection and its query to ``handler``."""

    def handle(connection: ServerConnection) -> None:
        assert connection.request is not None
        assert connection.request.headers["Authorization"] == "Bearer k"
        handler(connection, parse_qs(urlsplit(connection.request.path).query))

    server = serve_sockets(handle, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    port = server.socket.getsockname()[1]
    try:
        yield Client(Server(f"http://127.0.0.1:{port}", "k"), patience_s=0.0)
    finally:
        server.shutdown()
        thread.join()


def seqs(client: Client, said: list[str] | None = None) -> list[tuple[int, int]]:
    feed = execution_feed(client, "exe_1", outputs=False, say=(said if said is not None else []).append)
    return [(message["attempt"], message["seq"]) for message in feed if message["type"] == "log"]


def test_a_broken_connection_is_taken_up_after_the_last_chunk() -> None:
    """However often the connection breaks, each chunk comes once and in order, also across attempts."""
    everything = [(1, seq) for seq in range(1, 8)] + [(2, seq) for seq in range(1, 6)]
    cursors: list[str] = []

    def handler(connection: ServerConnection, query: dict[str, list[str]]) -> None:
        cursors.append(query.get("after", [""])[0])
        connection.send(json.dumps(HELLO))
        after = tuple(map(int, cursors[-1].split(":"))) if cursors[-1] else (0, 0)
        left = [one for one in everything if one > after]
        for attempt, seq in left[:3]:
            connection.send(json.dumps(chunk(seq, attempt)))
        if len(left) <= 3:
            connection.send(json.dumps(END))
        else:
            connection.socket.close()

    with sockets(handler) as client:
        assert seqs(client) == everything
    assert cursors == ["", "1:3", "1:6", "2:2"]


def test_repeats_are_dropped() -> None:
    """A server that sends a chunk again does not make it appear twice."""

    def handler(connection: ServerConnection, _: object) -> None:
        for message in [HELLO, chunk(1), chunk(2), chunk(1), chunk(2), chunk(3), {"type": "heartbeat"}, END]:
            connection.send(json.dumps(message))

    with sockets(handler) as client:
        assert seqs(client) == [(1, 1), (1, 2), (1, 3)]


def test_messages_in_fragments_and_of_any_size() -> None:
    """A message may come in many frames and be megabytes long."""
    large = chunk(1) | {"data": b64encode(b"x" * 3_000_000).decode()}

    def handler(connection: ServerConnection, _: object) -> None:
        text = json.dumps(large)
        connection.send(text[i : i + 100_000] for i in range(0, len(text), 100_000))
        connection.send(json.dumps(END))

    with sockets(handler) as client:
        feed = execution_feed(client, "exe_1", outputs=False, say=print)
        assert [message for message in feed if message["type"] == "log"] == [large]


def test_problems_end_the_following() -> None:
    """A problem message is the error that it names, at once."""

    def handler(connection: ServerConnection, _: object) -> None:
        connection.send(json.dumps(HELLO))
        connection.send(json.dumps({"type": "problem", "status": 404, "code": "not_found", "detail": "d", "hint": ""}))
        connection.close(1008)

    with sockets(handler) as client, pytest.raises(NotFound):
        seqs(client)


def polled(asked: Asked) -> Answer:
    """An API behind something that knows no WebSockets."""
    if "/follow" in asked.path:
        return Answer(400, b"no upgrade here")
    if "/logs" in asked.path:
        after = parse_qs(urlsplit(asked.path).query).get("after", [""])[0]
        done = after == "1:2"
        chunks = (
            [] if done else [{k: v for k, v in chunk(s).items() if k not in ("type", "execution_id")} for s in (1, 2)]
        )
        return reply({"chunks": chunks, "next": "1:2", "ended": done})
    if "/outputs" in asked.path:
        return reply({"execution_id": "exe_1", "entries": []})
    return reply({"id": "exe_1", "status": Status.SUCCEEDED, "index": 0})


def test_polling_where_websockets_are_refused() -> None:
    """The same messages come by polling: log, final state with its manifest, end."""
    with serve(polled) as web:
        client = Client(Server(web.url, "k"))
        messages = list(execution_feed(client, "exe_1", outputs=True, say=print))
    assert [message["type"] for message in messages] == ["log", "log", "executions", "end"]
    assert messages[2]["outputs"][0]["execution_id"] == "exe_1"  # type: ignore[typeddict-item]


@pytest.mark.parametrize(("code", "status", "kind"), [("not_authorised", 401, NotAuthorised)])
def test_a_refused_key_is_no_outage(code: str, status: int, kind: type[RgridError]) -> None:
    """A handshake that is refused for its key ends the following with that error."""
    with serve(lambda _: problem(code, status)) as web:
        client = Client(Server(web.url, "k"))
        with pytest.raises(kind):
            list(execution_feed(client, "exe_1", outputs=False, say=print))


def test_an_outage_is_said_once() -> None:
    """Five refused connections in a row are one note on stderr, and the following goes on."""
    left = [5]

    def handler(connection: ServerConnection, _: object) -> None:
        left[0] -= 1
        if left[0] >= 0:
            connection.socket.close()
            return
        connection.send(json.dumps(chunk(1)))
        connection.send(json.dumps(END))

    said: list[str] = []
    with sockets(handler) as client:
        assert seqs(client, said) == [(1, 1)]
    assert len(said) == 1


def test_a_follower_starts_where_it_is_told() -> None:
    """``rgrid logs -f`` goes on after what it has shown."""
    seen: list[str] = []

    def handler(connection: ServerConnection, query: dict[str, list[str]]) -> None:
        seen.extend(query["after"])
        connection.send(json.dumps(END))

    with sockets(handler) as client:
        list(execution_feed(client, "exe_1", outputs=False, say=print, position=Position(2, 9)))
    assert seen == ["2:9"]


def view(index: int, ended: str | None) -> dict[str, Any]:
    status = Status.SUCCEEDED if ended else Status.RUNNING
    at = "2026-01-01T00:00:00.000000Z"
    return {
        "id": f"exe_{index}",
        "index": index,
        "status": status,
        "created_at": at,
        "started_at": at,
        "ended_at": ended,
    }


def test_a_batch_is_taken_up_with_an_overlap() -> None:
    """After an outage only what changed since is asked for, with ten seconds to spare; before the first whole
    picture, everything.
    """
    asked: list[str] = []
    end = "2026-01-01T01:00:00.000000Z"

    def handler(connection: ServerConnection, query: dict[str, list[str]]) -> None:
        asked.append(query.get("after", [""])[0])
        assert query["outputs"] == ["1"]
        views = [[view(0, end)], [view(1, end)], []][len(asked) - 1]
        connection.send(json.dumps({"type": "executions", "executions": views, "outputs": []}))
        if len(asked) < 3:
            connection.socket.close()
        else:
            connection.send(json.dumps(END))

    with sockets(handler) as client:
        batch: Any = {"id": "bat_1", "total": 2}
        list(batch_feed(client, batch, outputs=True, say=print))
    assert asked == ["", "", "2026-01-01T00:59:50.000000Z"]


def test_the_library_s_own_log_stays_off_the_terminal() -> None:
    """What websockets logs of a connection that goes away is not the script's stderr: the follower says it itself."""
    program = "import rgrid.follow.socket, logging; logging.getLogger('websockets.client').error('stream ended')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stderr == b""
