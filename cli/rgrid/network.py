"""Addresses, lost connections, and how long to wait: what is known of the network without an HTTP library."""

from __future__ import annotations

import random
from typing import Final
from urllib.parse import SplitResult, urlsplit

from rgrid_shared.errors import Unreachable, UsageError

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class Lost(Unreachable):
    """The connection failed before the whole answer was here."""


def split(url: str) -> SplitResult:
    """The parts of an http(s) address. Raises ``UsageError`` for anything else."""
    try:
        parts = urlsplit(url)
        # Looked at because that is what checks it.
        _ = parts.port
    except ValueError as error:
        raise UsageError(f"{url!r} is not an address: {error}.") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{url!r} is not an http:// or https:// address.", hint="Write it as https://host[:port].")
    return parts


def backoff_s(nth: int) -> float:
    """Seconds before try number ``nth`` + 1: 0.1 s doubling up to 5 s, with jitter."""
    return float(min(5.0, 0.1 * 2.0 ** min(nth, 10)) * (0.5 + random.random() / 2))  # noqa: S311 - not a secret
