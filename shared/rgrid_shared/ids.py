"""Identifiers: a prefix that names the kind and 20 characters that sort by time.

``bat_01jd…``: 10 characters of Crockford base 32 hold the milliseconds since 1970 (48 bits), 10 more hold 50
random bits. Ids made in the same second share their first eight characters and differ after them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
BODY_LENGTH: Final = 20


class Kind(StrEnum):
    """What an id names, and its prefix."""

    PROJECT = "prj"
    KEY = "key"
    RUNNER_TOKEN = "tok"  # noqa: S105 - a prefix
    RUNNER = "rnr"
    BATCH = "bat"
    EXECUTION = "exe"
    UPLOAD = "upl"


def make(kind: Kind, now_ms: int, entropy: int) -> str:
    """Build an id from milliseconds since 1970 (UTC) and at least 50 random bits."""
    value = (now_ms & ((1 << 48) - 1)) << 50 | (entropy & ((1 << 50) - 1))
    chars = []
    for _ in range(BODY_LENGTH):
        chars.append(ALPHABET[value & 31])
        value >>= 5
    return f"{kind}_{''.join(reversed(chars))}"


def kind_of(text: str) -> Kind | None:
    """The kind that an id or a prefix of one names, or None."""
    prefix, mark, body = text.partition("_")
    if not mark or len(body) > BODY_LENGTH or any(c not in ALPHABET for c in body):
        return None
    try:
        return Kind(prefix)
    except ValueError:
        return None


def is_whole(text: str, kind: Kind) -> bool:
    """True if ``text`` is a complete id of this kind."""
    return kind_of(text) is kind and len(text) == len(kind) + 1 + BODY_LENGTH
