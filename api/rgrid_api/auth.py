"""Who is asking: API keys for users, runner tokens for runners.

A secret is a prefix and 40 random url-safe characters. Only its SHA-256 is stored (a secret of 240 random bits needs
no slow hash) and looked up by a unique index. An answer is kept in memory for ``CACHE_S`` seconds: hot paths do not
query, and a revoked key stops working within that time in every process.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from dataclasses import dataclass
from typing import Final

from rgrid_api.db.session import Database, Tx
from rgrid_api.new_ids import new_id
from rgrid_shared.errors import Conflict, InvalidRequest, NotAuthorised
from rgrid_shared.ids import Kind

KEY_PREFIX: Final = "rgr_"
TOKEN_PREFIX: Final = "rgt_"  # noqa: S105 - a prefix
SECRET_LENGTH: Final = 44
SHOWN_PREFIX: Final = 8
CACHE_S: Final = 10.0
CACHE_ENTRIES: Final = 10_000
LOGIN_HINT: Final = "rgrid login"
TOKEN_HINT: Final = "set RGRID_RUNNER_TOKEN to a token that `rgrid-api bootstrap` printed"  # noqa: S105


@dataclass(frozen=True, slots=True)
class UserAuth:
    """A user's key, and the project that it opens."""

    project_id: str
    key_id: str


@dataclass(frozen=True, slots=True)
class RunnerAuth:
    """A runner's token."""

    token_id: str


def new_secret(prefix: str) -> str:
    """A new secret: ``KEY_PREFIX`` or ``TOKEN_PREFIX`` and 240 random bits."""
    return prefix + secrets.token_urlsafe(30)


def well_formed(secret: str, prefix: str) -> bool:
    """True if ``secret`` could be one with this prefix."""
    return len(secret) == SECRET_LENGTH and secret.startswith(prefix) and secret.isascii()


def hash_of(secret: str) -> bytes:
    """What is stored of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def shown(secret: str) -> str:
    """The first characters of a secret, by which its owner knows it again."""
    return secret[:SHOWN_PREFIX]


def bearer(header: str | None, prefix: str) -> bytes:
    """The hash of the secret in an ``Authorization`` header.

    Raises NotAuthorised if there is none or it has not the form of a secret with this prefix. The message never
    repeats what was sent.
    """
    hint = LOGIN_HINT if prefix == KEY_PREFIX else TOKEN_HINT
    if not header:
        raise NotAuthorised("no key was sent with the request", hint=hint)
    scheme, _, secret = header.partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer":
        raise NotAuthorised("the Authorization header is not of the form 'Bearer KEY'", hint=hint)
    if prefix == KEY_PREFIX and secret.startswith(TOKEN_PREFIX):
        raise NotAuthorised("a runner token opens no user routes; use an API key (rgr_…)", hint=hint)
    if prefix == TOKEN_PREFIX and secret.startswith(KEY_PREFIX):
        raise NotAuthorised("an API key opens no runner routes; use a runner token (rgt_…)", hint=hint)
    if not well_formed(secret, prefix):
        raise NotAuthorised("that is not a key of rgrid", hint=hint)
    return hash_of(secret)


@dataclass(frozen=True, slots=True)
class _Known:
    who: UserAuth | RunnerAuth
    until: float


class Authenticator:
    """Turns ``Authorization`` headers into who is asking; one for each process."""

    def __init__(self) -> None:
        self._known: dict[bytes, _Known] = {}
        self._lookup = asyncio.Lock()

    async def user(self, database: Database, header: str | None) -> UserAuth:
        """The project and key of a user. Raises NotAuthorised if the key is unknown, revoked or expired."""
        hashed = bearer(header, KEY_PREFIX)
        who = self._remembered(hashed)
        if who is None:
            async with self._lookup:
                who = self._remembered(hashed) or await self._look_up_key(database, hashed)
        assert isinstance(who, UserAuth)
        return who

    async def runner(self, database: Database, header: str | None) -> RunnerAuth:
        """The token of a runner. Raises NotAuthorised if it is unknown or revoked."""
        hashed = bearer(header, TOKEN_PREFIX)
        who = self._remembered(hashed)
        if who is None:
            async with self._lookup:
                who = self._remembered(hashed) or await self._look_up_token(database, hashed)
        assert isinstance(who, RunnerAuth)
        return who

    def forget(self) -> None:
        """Drop what is remembered, so that a revocation in this process works at once."""
        self._known.clear()

    def _remembered(self, hashed: bytes) -> UserAuth | RunnerAuth | None:
        known = self._known.get(hashed)
        return known.who if known is not None and time.monotonic() < known.until else None

    def _remember(self, hashed: bytes, who: UserAuth | RunnerAuth, seconds: float) -> None:
        if len(self._known) >= CACHE_ENTRIES:
            self._known.clear()
        self._known[hashed] = _Known(who, time.monotonic() + seconds)

    async def _look_up_key(self, database: Database, hashed: bytes) -> UserAuth:
        async with database.transaction() as tx:
            row = (await tx.run("key_by_hash", hash=hashed)).mappings().one_or_none()
            if row is None:
                raise NotAuthorised("that key is not known here", hint=LOGIN_HINT)
            if row["revoked"]:
                raise NotAuthorised("that key was revoked", hint=LOGIN_HINT)
            if row["left_s"] is not None and row["left_s"] <= 0:
                raise NotAuthorised("that key has expired", hint=LOGIN_HINT)
            if row["note_use"]:
                await tx.run("key_used", id=row["id"])
        who = UserAuth(project_id=row["project_id"], key_id=row["id"])
        self._remember(hashed, who, min(CACHE_S, CACHE_S if row["left_s"] is None else row["left_s"]))
        return who

    async def _look_up_token(self, database: Database, hashed: bytes) -> RunnerAuth:
        async with database.read() as tx:
            row = (await tx.run("token_by_hash", hash=hashed)).mappings().one_or_none()
        if row is None:
            raise NotAuthorised("that runner token is not known here", hint=TOKEN_HINT)
        if row["revoked"]:
            raise NotAuthorised("that runner token was revoked", hint=TOKEN_HINT)
        who = RunnerAuth(token_id=row["id"])
        self._remember(hashed, who, CACHE_S)
        return who


async def ensure_project(tx: Tx, name: str) -> str:
    """The id of the project of this name, made if there is none."""
    return str((await tx.run("project_ensure", id=new_id(Kind.PROJECT), label=name)).scalar_one())


async def ensure_key(tx: Tx, project_id: str, secret: str, name: str) -> str:
    """The id of the key with this secret, made if there is none; a revoked one stays revoked.

    Raises InvalidRequest if the secret has not the form of a key, Conflict if it opens another project.
    """
    if not well_formed(secret, KEY_PREFIX):
        raise InvalidRequest(f"an API key is {KEY_PREFIX} and {SECRET_LENGTH - len(KEY_PREFIX)} url-safe characters")
    found = await tx.run(
        "key_ensure", id=new_id(Kind.KEY), project_id=project_id, label=name, prefix=shown(secret), hash=hash_of(secret)
    )
    row = found.mappings().one()
    if row["project_id"] != project_id:
        raise Conflict("that API key belongs to another project", hint="choose another RGRID_BOOTSTRAP_KEY")
    return str(row["id"])


async def ensure_runner_token(tx: Tx, secret: str, name: str) -> str:
    """The id of the runner token with this secret, made if there is none; a revoked one stays revoked.

    Raises InvalidRequest if the secret has not the form of a token.
    """
    if not well_formed(secret, TOKEN_PREFIX):
        raise InvalidRequest(f"a runner token is {TOKEN_PREFIX} and {SECRET_LENGTH - len(TOKEN_PREFIX)} characters")
    return str(
        (await tx.run("token_ensure", id=new_id(Kind.RUNNER_TOKEN), label=name, hash=hash_of(secret))).scalar_one()
    )
