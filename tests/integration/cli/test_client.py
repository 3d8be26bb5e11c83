"""The client against a real HTTP server: kept connections, retries, problems, and what is no rgrid server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest
from support.web import Answer, Asked, problem, ranged, reply, serve

from rgrid.client import Client, Expired
from rgrid.config import Server
from rgrid.http import Transport
from rgrid_shared.errors import (
    NotAuthorised,
    NotFound,
    Overloaded,
    RgridError,
    Unreachable,
    UsageError,
    VersionMismatch,
)

META = {"version": "0.1.0", "api": 1, "project_id": "prj_1", "project": "p"}


def client_of(url: str, **options: float) -> Client:
    return Client(Server(url, "rgr_test"), **options)  # type: ignore[arg-type]


def test_connections_are_kept() -> None:
    """Many requests of one client need one connection, and each carries the key and the API's version."""
    with serve(lambda _: reply(META)) as web, client_of(web.url) as client:
        for _ in range(5):
            assert client.meta()["project"] == "p"
        assert web.connections == 1
        assert web.asked[0].headers["authorization"] == "Bearer rgr_test"
        assert web.asked[0].headers["rgrid-api"] == "1"


def test_a_connection_that_the_server_closed_is_replaced() -> None:
    """An idle connection that went away costs nothing but a new one."""
    first = reply(META)
    first.cut = len(first.body)
    answers = iter([first, reply(META)])
    with serve(lambda _: next(answers)) as web, client_of(web.url) as client:
        client.meta()
        client.meta()
        assert web.connections == 2
        assert len(web.asked) == 2


def test_threads_share_a_client() -> None:
    """Requests from eight threads at once all come back right."""

    def echo(asked: Asked) -> Answer:
        return reply({"missing": [blob["sha256"] for blob in json.loads(asked.body)["blobs"]]})

    wrong: list[str] = []
    with serve(echo) as web, client_of(web.url) as client:

        def ask(name: str) -> None:
            answers = [client.missing([{"sha256": name, "size": 1}]) for _ in range(20)]
            wrong.extend(name for answer in answers if answer != [name])

        threads = [threading.Thread(target=ask, args=(str(number) * 64,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert web.connections <= 8
    assert wrong == []


@pytest.mark.parametrize(
    ("code", "status", "kind"), [("not_found", 404, NotFound), ("not_authorised", 401, NotAuthorised)]
)
def test_problems_come_back_as_errors(code: str, status: int, kind: type[RgridError]) -> None:
    """A problem document becomes the error that the server raised, with its words."""
    with serve(lambda _: problem(code, status, "words")) as web, client_of(web.url) as client:
        with pytest.raises(kind) as caught:
            client.meta()
        assert caught.value.message == "words"
        assert len(web.asked) == 1


def test_a_lost_answer_is_asked_for_again() -> None:
    """A connection that breaks in mid-answer, and a gateway's 502, are tried again within the client's patience."""
    answers = iter([Answer(200, b"x" * 100, {"Rgrid-Api": "1"}, cut=10), Answer(502, b"bad gateway"), reply(META)])
    with serve(lambda _: next(answers)) as web, client_of(web.url) as client:
        assert client.meta()["project"] == "p"
        assert len(web.asked) == 3


def test_what_must_not_happen_twice_is_sent_once() -> None:
    """Making a key and retrying are never repeated by the client itself."""
    with serve(lambda asked: reply(META) if asked.method == "GET" else Answer(close=True)) as web:
        with client_of(web.url) as client:
            client.meta()
            with pytest.raises(Unreachable):
                client.create_key("k", None)
            with pytest.raises(Unreachable):
                client.retry("bat_1", None, failed=True)
        assert [asked.method for asked in web.asked] == ["GET", "POST", "POST"]
        # Each on a connection of its own: one that is kept may have been closed by the server.
        assert web.connections == 3


def test_a_busy_server_is_waited_for() -> None:
    """503 with Retry-After: the client comes back, and says so once."""
    answers = iter([problem("overloaded", 503, Retry_After="0.01")] * 2 + [reply(META)])
    said: list[str] = []
    with serve(lambda _: next(answers)) as web, Client(Server(web.url, "k"), say=said.append) as client:
        assert client.meta()["project"] == "p"
    assert len(said) == 1


def test_a_busy_server_is_not_waited_for_longer_than_sense() -> None:
    """A server that asks for ten minutes is reported as busy at once."""
    busy = problem("overloaded", 429, Retry_After="600")
    with serve(lambda _: busy) as web, client_of(web.url) as client, pytest.raises(Overloaded):
        client.meta()


def test_a_server_of_another_version_is_named() -> None:
    """The message says both versions."""
    answer = Answer(200, b"{}", {"Rgrid-Api": "2", "Rgrid-Version": "9.9"})
    with serve(lambda _: answer) as web, client_of(web.url) as client:
        with pytest.raises(VersionMismatch) as caught:
            client.meta()
        assert "version 2" in caught.value.message
        assert "9.9" in caught.value.hint


@pytest.mark.parametrize("status", [200, 404])
def test_another_web_server_is_recognised(status: int) -> None:
    """A page that is not rgrid's answer is an error with the address, not a crash."""
    with serve(lambda _: Answer(status, b"<html>hello</html>")) as web, client_of(web.url) as client:
        with pytest.raises(Unreachable) as caught:
            client.meta()
        assert web.url in caught.value.message


def test_nobody_there() -> None:
    """A refused connection names the address and what to type."""
    with client_of("http://127.0.0.1:9", patience_s=0.0) as client, pytest.raises(Unreachable) as caught:
        client.meta()
    assert "127.0.0.1:9" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("url", ["ftp://x", "http://", "nothing", "http://x:99999", "http://a..b", "http://x\x01"])
def test_addresses_that_cannot_be(url: str) -> None:
    """A malformed address is bad usage."""
    with Transport() as transport, pytest.raises(UsageError):
        transport.request("GET", url, headers={})


@pytest.mark.parametrize("key", ["rgr_a\nb", "rgr_→"])
def test_a_key_that_cannot_be_sent(key: str) -> None:
    """A key that no header can carry is bad usage, and is not repeated in the message."""
    with serve(lambda _: reply(META)) as web, Client(Server(web.url, key)) as client:
        with pytest.raises(UsageError) as caught:
            client.meta()
        assert key not in caught.value.message
        assert web.asked == []


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "gopher://127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """A kind of proxy that the client does not speak is bad usage, and does not matter on the loopback."""
    monkeypatch.setenv("ALL_PROXY", proxy)
    with serve(lambda _: reply(META)) as web, client_of(web.url) as client:
        client.meta()
    with client_of("http://grid.invalid:8080") as client, pytest.raises(UsageError) as caught:
        client.meta()
    assert "proxy" in caught.value.message


def test_plain_http_loads_no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of certificates that is not there troubles https alone."""
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent/ca.pem")
    with serve(lambda _: reply(META)) as web, client_of(web.url) as client:
        client.meta()
    with client_of("https://127.0.0.1:9") as client, pytest.raises(UsageError) as caught:
        client.meta()
    assert "SSL_CERT_FILE" in caught.value.message


def test_uploads_start_anew_after_a_failure() -> None:
    """A PUT in chunks that fails is sent again from its first byte."""
    answers = iter([Answer(500, b"oops"), Answer(200, b"", {"ETag": '"e"'})])

    def chunks() -> Iterator[bytes]:
        yield b"abc"
        yield b"def"

    with serve(lambda _: next(answers)) as web, client_of(web.url) as client:
        assert client.put_object(f"{web.url}/key?sig=1", chunks, 6) == '"e"'
        assert [asked.body for asked in web.asked] == [b"abcdef", b"abcdef"]
        assert "authorization" not in web.asked[0].headers


def test_objects_come_in_ranges() -> None:
    """A part of an object is fetched by its offset."""
    content = bytes(range(256)) * 10
    with serve(lambda asked: ranged(content, asked)) as web, client_of(web.url) as client:
        answer = client.get_object(f"{web.url}/key", offset=100, size=300)
        assert answer.read() == content[100:400]
        whole = client.get_object(f"{web.url}/key")
        got = b""
        while data := whole.some(1000):
            assert len(data) <= 1000
            got += data
        assert got == content
        assert web.connections == 1


def test_a_store_that_answers_200_to_a_range() -> None:
    """The range is in the body if ``Content-Range`` says so; if nothing does, the body is not taken for it."""
    part = Answer(200, b"cd", {"Content-Range": "bytes 2-3/6"})
    whole = Answer(200, b"abcdef")
    with serve(lambda asked: part if asked.path == "/says" else whole) as web, client_of(web.url) as client:
        assert client.get_object(f"{web.url}/says", offset=2, size=2).read() == b"cd"
        with pytest.raises(Unreachable):
            client.get_object(f"{web.url}/silent", offset=2, size=2)


def test_sizes_are_exact() -> None:
    """A PUT names its length and is not chunked, from bytes and from pieces; presigned URLs are sent as they are."""
    target = "/b/k%2Fx%20y?X-Amz-Credential=a%2F20260101%2Fs3&X-Amz-Signature=0f&partNumber=1"
    body = bytes(200_000)
    with serve(lambda _: Answer(200, b"", {"ETag": '"e"'})) as web, client_of(web.url) as client:
        client.put_object(web.url + target, body, len(body))
        client.put_object(web.url + target, lambda: iter([body[:70_000], body[70_000:]]), len(body))
    assert web.paths == [f"PUT {target}"] * 2
    for asked in web.asked:
        assert asked.body == body
        assert asked.headers["content-length"] == "200000"
        assert "transfer-encoding" not in asked.headers


def test_links_that_ended_are_told_apart() -> None:
    """403 from the store is an expired link, for which there is a remedy."""
    denied = Answer(403, b"<Error><Code>AccessDenied</Code></Error>")
    with serve(lambda _: denied) as web, client_of(web.url) as client, pytest.raises(Expired):
        client.get_object(f"{web.url}/key")


def test_pages_follow_each_other() -> None:
    """A list is read to its end by cursor, with the filters on every page."""

    def page(asked: Asked) -> Answer:
        second = "cursor=c2" in asked.path
        return reply({"batches": [2] if second else [1], "next": None if second else "c2"})

    with serve(page) as web, client_of(web.url) as client:
        assert list(client.pages(client.batches, {"metadata": ["a=1", "b=2"], "name": None}, "batches")) == [1, 2]
        assert all("metadata=a%3D1&metadata=b%3D2" in asked.path for asked in web.asked)
        assert "name" not in web.asked[0].path


def test_proxies_of_the_environment_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request beyond this machine goes through ``http_proxy``; one to the loopback does not."""
    with serve(lambda _: reply(META)) as web:
        monkeypatch.setenv("http_proxy", web.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with client_of("http://grid.invalid:8080") as client:
            assert client.meta()["project"] == "p"
        with client_of(web.url) as client:
            client.meta()
        assert web.paths == ["GET http://grid.invalid:8080/v1/meta", "GET /v1/meta"]
