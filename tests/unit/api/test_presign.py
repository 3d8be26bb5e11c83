"""Presigned URLs. That a store takes them is tested against a real one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from rgrid_api.storage.presign import Presigner

NOW = datetime(2013, 5, 24, tzinfo=UTC)


AMAZON = "https://s3.amazonaws.com"


def presigner(endpoint: str = AMAZON) -> Presigner:
    return Presigner(
        endpoint=endpoint,
        access_key="AKIAIOSFODNN7EXAMPLE",
        secret_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        bucket="examplebucket",
        region="us-east-1",
    )


def test_the_day_s_key_is_renewed() -> None:
    """URLs of two days are signed with the key of their own day."""
    one = presigner()
    urls = [one.url("GET", "k", now=NOW.replace(day=day), expires_s=60) for day in (24, 25, 24)]
    assert urls[0] == urls[2] != urls[1]
    assert urls[1] == presigner().url("GET", "k", now=NOW.replace(day=25), expires_s=60)


def test_everything_that_matters_changes_the_signature() -> None:
    """Method, key, length, query, time and host are all signed."""

    def url(method: str = "GET", key: str = "k", *, expires_s: int = 60, day: int = 24, **more: Any) -> str:
        return presigner(more.pop("endpoint", AMAZON)).url(
            method, key, now=NOW.replace(day=day), expires_s=expires_s, **more
        )

    urls = [
        url(),
        url("PUT"),
        url("PUT", content_length=5),
        url("PUT", content_length=6),
        url("PUT", query={"partNumber": "1", "uploadId": "u"}),
        url("PUT", query={"partNumber": "2", "uploadId": "u"}),
        url(key="k2"),
        url(expires_s=61),
        url(day=25),
        url(endpoint="http://s3.amazonaws.com:8080"),
    ]
    signatures = [parse_qs(urlsplit(url).query)["X-Amz-Signature"][0] for url in urls]
    assert len(set(signatures)) == len(urls)


def test_a_scheme_s_own_port_is_not_signed() -> None:
    """Clients leave port 80 and 443 out of the Host header."""
    assert presigner("https://h:443").url("GET", "k", now=NOW, expires_s=1) == presigner("https://h").url(
        "GET", "k", now=NOW, expires_s=1
    )


@pytest.mark.parametrize("seconds", [0, -1, 8 * 24 * 3600])
def test_a_lifetime_out_of_range_is_refused(seconds: int) -> None:
    """SigV4 knows URLs of one second to seven days."""
    with pytest.raises(ValueError, match="valid for"):
        presigner().url("GET", "k", now=NOW, expires_s=seconds)
