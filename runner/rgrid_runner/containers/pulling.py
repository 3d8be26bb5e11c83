"""Pulls an image, and tells what it costs to wait in lines that a log can hold."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from rgrid_runner.backends.base import BackendError
from rgrid_shared.states import FailureClass

_EACH_S: Final = 2.0
_NO_ANSWER: Final = ("dial tcp", "lookup", "timeout", "timed out", "refused", "x509", "tls", "toomanyrequests", "eof")
_UNKNOWN: Final = (
    "manifest unknown",
    "not found",
    "does not exist",
    "access denied",
    "invalid reference format",
    "no matching manifest",
    "unauthorized",
    "not known to registry",
)


def pull(client: Any, ref: str, say: Callable[[str], None], stop: Callable[[], bool]) -> None:
    """Pull ``ref``; ``say`` gets a line each two seconds at most. BackendError says whose fault it is.

    Leaves off when ``stop()`` says so.
    """
    from docker.errors import APIError
    from docker.utils import parse_repository_tag

    repository, tag = parse_repository_tag(ref)
    say(f"Pulling the image {ref}")
    progress = Progress()
    due = time.monotonic() + _EACH_S
    try:
        for event in client.pull(repository, tag=tag or "latest", stream=True, decode=True):
            if error := event.get("error"):
                raise refusal(ref, str(error))
            progress.see(event)
            if stop():
                raise BackendError("The runner is closing.", FailureClass.INFRASTRUCTURE)
            if time.monotonic() >= due:
                say(f"Pulling the image {ref}: {progress}")
                due = time.monotonic() + _EACH_S
    except APIError as error:
        raise refusal(ref, str(error.explanation or error)) from error
    say(f"Pulled the image {ref}: {progress}")


class Progress:
    """How far a pull is, from the engine's events."""

    def __init__(self) -> None:
        self._bytes: dict[str, tuple[int, int]] = {}
        self._done: set[str] = set()

    def see(self, event: dict[str, Any]) -> None:
        """One event of the engine."""
        layer, status = str(event.get("id", "")), str(event.get("status", ""))
        detail = event.get("progressDetail") or {}
        if status == "Downloading" and detail.get("total"):
            self._bytes[layer] = (int(detail.get("current", 0)), int(detail["total"]))
        elif status in ("Download complete", "Pull complete") and layer in self._bytes:
            total = self._bytes[layer][1]
            self._bytes[layer] = (total, total)
        if status in ("Pull complete", "Already exists"):
            self._done.add(layer)
        elif status == "Pulling fs layer":
            self._bytes.setdefault(layer, (0, 0))

    def __str__(self) -> str:
        have = sum(current for current, _ in self._bytes.values()) / 1e6
        total = sum(total for _, total in self._bytes.values()) / 1e6
        layers = len(self._bytes.keys() | self._done)
        return f"{len(self._done)} of {layers} layers, {have:.0f} of {total:.0f} MB"


def refusal(ref: str, text: str) -> BackendError:
    """Why an image could not be pulled: there is none, or whoever has it does not answer."""
    low = text.lower()
    if any(words in low for words in _UNKNOWN) and not any(words in low for words in _NO_ANSWER):
        return BackendError(f"There is no image {ref}: {text}", FailureClass.DEPENDENCIES)
    return BackendError(f"The image {ref} cannot be pulled now: {text}", FailureClass.INFRASTRUCTURE)
