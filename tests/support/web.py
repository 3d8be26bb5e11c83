"""A small real HTTP server for tests: answers from a function, counts connections, and can hang up."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """What to send back. ``cut``: send only this many bytes of the body, then hang up. ``close``: hang up at once."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    close: bool = False


def reply(document: object, status: int = 200, **headers: str) -> Answer:
    """A JSON answer as the API gives it."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, json.dumps(document).encode(), {"Rgrid-Api": "1", **names})


def problem(code: str, status: int, detail: str = "no", **headers: str) -> Answer:
    """A problem document."""
    return reply({"type": "t", "title": "T", "status": status, "detail": detail, "code": code}, status, **headers)


def ranged(content: bytes, asked: Asked) -> Answer:
    """``content``, or the part of it that a Range header asks for."""
    match = re.fullmatch(r"bytes=(\d+)-(\d+)", asked.headers.get("range", ""))
    if not match:
        return Answer(200, content)
    first, last = int(match[1]), int(match[2])
    return Answer(206, content[first : last + 1])


@dataclass
class Web:
    """A running server: its address, what it was asked, and how many connections were made to it."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0

    @property
    def paths(self) -> list[str]:
        return [f"{one.method} {one.path}" for one in self.asked]


@contextmanager
def serve(answer: Callable[[Asked], Answer]) -> Iterator[Web]:
    """Run a server on a free port of the loopback for as long as the block lasts."""
    web = Web()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            with lock:
                web.connections += 1

        def _any(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            asked = Asked(
                self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, self.rfile.read(size)
            )
            with lock:
                web.asked.append(asked)
            given = answer(asked)
            if given.close:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response(given.status)
            for name, value in given.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(given.body)))
            self.end_headers()
            self.wfile.write(given.body if given.cut is None else given.body[: given.cut])
            if given.cut is not None:
                self.close_connection = True

        do_GET = do_POST = do_PUT = do_DELETE = _any  # noqa: N815 - the base class's names

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """Clients that hang up are part of these tests."""

    server = Quiet(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    web.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
