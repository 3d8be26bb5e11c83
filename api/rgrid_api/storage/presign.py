"""Presigned URLs by AWS Signature Version 4, query form, path style.

Source: "Authenticating Requests: Using Query Parameters", Amazon S3 API Reference. The minio SDK makes the same URLs
in 85-110 µs; a claim of 100 items presigns 300 of them, so this does the same in a tenth of the time by keeping the
day's signing key.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, urlsplit

MAX_EXPIRES_S: Final = 7 * 24 * 3600
"""SigV4's own limit."""


class Presigner:
    """Signs URLs of one bucket of one store. Pure computation; safe to share between threads."""

    def __init__(self, *, endpoint: str, access_key: str, secret_key: str, bucket: str, region: str) -> None:
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path not in ("", "/"):
            raise ValueError(f"not an S3 endpoint (http[s]://host[:port]): {endpoint!r}")
        # A client leaves the scheme's own port out of the Host header, which is what gets signed.
        default_port = {"http": ":80", "https": ":443"}[parts.scheme]
        self._host = parts.netloc.lower().removesuffix(default_port)
        self._base = f"{parts.scheme}://{self._host}"
        self._bucket = quote(bucket, safe="")
        self._region = region
        self._access_key = access_key
        self._secret_key = secret_key
        self._day = ("", b"", "")

    def url(
        self,
        method: str,
        key: str,
        *,
        now: datetime,
        expires_s: int,
        query: Mapping[str, str] | None = None,
        content_length: int | None = None,
    ) -> str:
        """A URL that allows ``method`` on ``key`` for ``expires_s`` seconds from ``now`` (UTC).

        With ``content_length`` the store takes a body of exactly that many bytes and no other.
        """
        if not 0 < expires_s <= MAX_EXPIRES_S:
            raise ValueError(f"a URL cannot be valid for {expires_s} seconds")
        stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        signing_key, credential = self._signing(stamp[:8])
        path = f"/{self._bucket}/{quote(key, safe='/~')}"
        if content_length is None:
            headers, signed = f"host:{self._host}\n", "host"
        else:
            headers, signed = f"content-length:{content_length}\nhost:{self._host}\n", "content-length%3Bhost"
        parameters = [
            "X-Amz-Algorithm=AWS4-HMAC-SHA256",
            f"X-Amz-Credential={credential}",
            f"X-Amz-Date={stamp}",
            f"X-Amz-Expires={expires_s}",
            f"X-Amz-SignedHeaders={signed}",
        ]
        if query:
            parameters += [f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in query.items()]
            parameters.sort()
        canonical_query = "&".join(parameters)
        request = f"{method}\n{path}\n{canonical_query}\n{headers}\n{signed.replace('%3B', ';')}\nUNSIGNED-PAYLOAD"
        to_sign = (
            f"AWS4-HMAC-SHA256\n{stamp}\n{stamp[:8]}/{self._region}/s3/aws4_request\n"
            f"{hashlib.sha256(request.encode()).hexdigest()}"
        )
        signature = hmac.digest(signing_key, to_sign.encode(), "sha256").hex()
        return f"{self._base}{path}?{canonical_query}&X-Amz-Signature={signature}"

    def _signing(self, day: str) -> tuple[bytes, str]:
        """The day's signing key and quoted credential."""
        known, key, credential = self._day
        if known != day:
            key = f"AWS4{self._secret_key}".encode()
            for part in (day, self._region, "s3", "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            credential = quote(f"{self._access_key}/{day}/{self._region}/s3/aws4_request", safe="~")
            self._day = (day, key, credential)
        return key, credential
