"""One small HTTP GET for the supervisor: an HTTP library would cost it more memory than everything else it does."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit


def get(url: str, path: str, *, key: str = "", timeout_s: float = 5.0) -> tuple[int, dict[str, object]]:
    """Status and JSON object of ``GET url + path`` on loopback.

    Raises:
        OSError: nobody answers, or not in time.
    """
    where = urlsplit(url)
    host, port = where.hostname or "127.0.0.1", where.port or 80
    lines = [f"GET {path} HTTP/1.0", f"Host: {host}:{port}", "Rgrid-Api: 1", "Accept: application/json"]
    if key:
        lines.append(f"Authorization: Bearer {key}")
    received = bytearray()
    with socket.create_connection((host, port), timeout=timeout_s) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        while piece := connection.recv(65536):
            received += piece
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    try:
        status = int(head.split(None, 2)[1])
        found = json.loads(body) if body else {}
    except (ValueError, IndexError):
        raise OSError(f"{url} does not answer as HTTP") from None
    return status, found if isinstance(found, dict) else {}
