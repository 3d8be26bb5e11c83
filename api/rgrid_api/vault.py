"""Environment values at rest: AES-256-GCM under the grid's secret key."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from rgrid_shared.errors import Internal

FORMAT: Final = b"\x01"
NONCE_BYTES: Final = 12
KEY_BYTES: Final = 32


def new_secret_key() -> str:
    """A fresh key as ``RGRID_SECRET_KEY`` takes it: 32 random bytes in url-safe base 64."""
    return base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode()


class Vault:
    """Seals and opens small dictionaries of text.

    Sealed bytes are format (1 byte), nonce (12 bytes), ciphertext and tag; nobody without the key can read or
    change them unnoticed.
    """

    def __init__(self, secret_key: str) -> None:
        """``secret_key``: 32 bytes in url-safe base 64, padded or not. Raises ValueError if it is anything else."""
        try:
            key = base64.b64decode(secret_key + "=" * (-len(secret_key) % 4), altchars=b"-_", validate=True)
        except binascii.Error:
            key = b""
        if len(key) != KEY_BYTES:
            raise ValueError(f"the secret key must be {KEY_BYTES} bytes in url-safe base 64")
        self._cipher = AESGCM(key)
        self._fingerprint_key = hmac.digest(key, b"rgrid fingerprint", hashlib.sha256)

    def seal(self, values: dict[str, str]) -> bytes:
        """Encrypt ``values``; two seals of the same values differ."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        clear = json.dumps(values, separators=(",", ":")).encode()
        return FORMAT + nonce + self._cipher.encrypt(nonce, clear, FORMAT)

    def open(self, sealed: bytes) -> dict[str, str]:
        """The values that were sealed. Raises Internal if they were sealed with another key, or changed."""
        nonce, body = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        try:
            if sealed[:1] != FORMAT or len(nonce) != NONCE_BYTES:
                raise InvalidTag
            clear = self._cipher.decrypt(nonce, body, FORMAT)
        except InvalidTag as error:
            raise Internal(
                "stored environment values cannot be decrypted",
                hint="start the API with the RGRID_SECRET_KEY that they were stored with",
            ) from error
        opened: dict[str, str] = json.loads(clear)
        return opened

    def fingerprint(self, data: bytes) -> str:
        """A keyed hash, in hex: tells equal data from other data without letting a reader guess secrets in it."""
        return hmac.new(self._fingerprint_key, data, hashlib.sha256).hexdigest()
