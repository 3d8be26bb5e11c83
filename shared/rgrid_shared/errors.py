"""The error tree. Every error has a stable code, a message, and a hint: the next command to type.

::

    RgridError                      125
    ├── UsageError                    2   what was typed cannot work
    │   ├── InvalidRequest          422   a body or parameter is wrong
    │   └── Unsatisfiable           422   no runner of the grid could ever run it
    ├── NotAuthorised                 4   401: no key, wrong, expired or revoked
    ├── Forbidden                     4   403: the key may not do this
    ├── NotFound                      2   404: unknown, or somebody else's
    ├── Conflict                    125   409: the state forbids it
    │   ├── StaleAttempt                  409: this attempt is not the live one
    │   └── IdempotencyConflict           409: the key was used with another body
    ├── TooLarge                      2   413: over a limit of the grid
    ├── Overloaded                  125   429/503 with Retry-After
    ├── VersionMismatch             125   426: client and server speak different contracts
    ├── Unreachable                 125   server or store does not answer
    └── Internal                    125   500: a fault of rgrid's own

API handlers raise these; ``rgrid_api.error_handlers`` renders them as RFC 9457 problems. The client turns a
problem back into the same class by its code; ``rgrid.main`` turns the class into an exit code.
"""

from __future__ import annotations

from typing import ClassVar, NotRequired

from typing_extensions import TypedDict


class Problem(TypedDict):
    """RFC 9457 ``application/problem+json`` with rgrid's two members, ``code`` and ``hint``."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: NotRequired[str]


class RgridError(Exception):
    """Base of all errors that rgrid raises on purpose."""

    code: ClassVar[str] = "error"
    title: ClassVar[str] = "Something went wrong"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 125

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.retry_after_s = retry_after_s

    def problem(self) -> Problem:
        """This error as an RFC 9457 document."""
        document: Problem = {
            "type": f"https://rgrid.dev/problems/{self.code}",
            "title": self.title,
            "status": self.http_status,
            "detail": self.message,
            "code": self.code,
        }
        if self.hint:
            document["hint"] = self.hint
        return document


class UsageError(RgridError):
    """What was typed cannot work."""

    code = "usage"
    title = "Bad usage"
    http_status = 400
    exit_code = 2


class InvalidRequest(UsageError):
    """A request body or parameter is wrong."""

    code = "invalid_request"
    title = "The request is not valid"
    http_status = 422


class Unsatisfiable(UsageError):
    """Runners are there, and none of them could ever run it."""

    code = "unsatisfiable"
    title = "No runner can run this"
    http_status = 422


class NotAuthorised(RgridError):
    """No key, or one that is wrong, expired or revoked."""

    code = "not_authorised"
    title = "Not authorised"
    http_status = 401
    exit_code = 4


class Forbidden(RgridError):
    """The key is good but may not do this."""

    code = "forbidden"
    title = "Not allowed"
    http_status = 403
    exit_code = 4


class NotFound(RgridError):
    """Unknown, or another project's: the two cannot be told apart."""

    code = "not_found"
    title = "Not found"
    http_status = 404
    exit_code = 2


class Conflict(RgridError):
    """The present state forbids it."""

    code = "conflict"
    title = "Conflict"
    http_status = 409


class StaleAttempt(Conflict):
    """The report names an attempt that is not the live one. The runner kills that work and forgets it."""

    code = "stale_attempt"
    title = "The attempt is no longer live"


class IdempotencyConflict(Conflict):
    """The idempotency key was used before with another body."""

    code = "idempotency_conflict"
    title = "The idempotency key was used with another body"


class TooLarge(RgridError):
    """Over a limit of the grid."""

    code = "too_large"
    title = "Too large"
    http_status = 413
    exit_code = 2


class Overloaded(RgridError):
    """The grid takes no more for now; ``retry_after_s`` says when to come back."""

    code = "overloaded"
    title = "The grid is busy"
    http_status = 503


class VersionMismatch(RgridError):
    """Client and server speak different versions of the wire contract."""

    code = "version_mismatch"
    title = "Client and server do not match"
    http_status = 426


class Unreachable(RgridError):
    """The server or the store does not answer."""

    code = "unreachable"
    title = "Unreachable"
    http_status = 503


class Internal(RgridError):
    """A fault of rgrid's own."""

    code = "internal"
    title = "Internal error"
    http_status = 500


_TREE: dict[str, type[RgridError]] = {
    kind.code: kind
    for kind in (
        UsageError,
        InvalidRequest,
        Unsatisfiable,
        NotAuthorised,
        Forbidden,
        NotFound,
        Conflict,
        StaleAttempt,
        IdempotencyConflict,
        TooLarge,
        Overloaded,
        VersionMismatch,
        Unreachable,
        Internal,
    )
}


def from_problem(document: Problem, *, retry_after_s: float | None = None) -> RgridError:
    """The error that a problem document describes; an unknown code becomes ``RgridError`` itself."""
    kind = _TREE.get(document.get("code", ""), RgridError)
    return kind(
        document.get("detail") or document.get("title") or "unknown error",
        hint=document.get("hint", ""),
        retry_after_s=retry_after_s,
    )
