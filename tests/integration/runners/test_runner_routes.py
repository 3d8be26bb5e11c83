"""What a runner does over HTTP, against real PostgreSQL and S3."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Any

import httpx
import pytest
from support.control_plane import ControlPlane, control_plane, file, settings_for, spec, submission
from support.s3 import S3Server

from rgrid_api.storage.s3 import ObjectStore
from rgrid_shared.states import FailureClass, Phase, Status, Stream

AT = "2026-01-02T03:04:05.000006Z"
RESOURCES = {"cpu_millis": 8000, "memory": 1 << 34, "disk": 1 << 36, "gpus": []}
USAGE = {
    "wall_ms": 5,
    "cpu_ms": 4,
    "max_rss": 1000,
    "prepare_ms": 1,
    "deliver_ms": 1,
    "read_bytes": 10,
    "written_bytes": 20,
    "gpu_percent": 30,
    "gpu_memory": 1 << 37,
}
EMPTY: dict[str, list[object]] = {"entries": [], "objects": [], "left_out": []}


class Runner:
    """A runner that speaks the protocol and runs nothing."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.id = ""
        self.offers = 0

    async def register(self, **changes: object) -> httpx.Response:
        body = {
            "runner_id": self.id or None,
            "name": "one",
            "backend": "process",
            "version": "0.1.0",
            "slots": 4,
            "labels": {},
            "runtimes": {"python3.11": "3.11.7"},
            "resources": RESOURCES,
            **changes,
        }
        reply = await self.client.post("/v1/runners", json=body)
        if reply.status_code == 200:
            self.id = reply.json()["runner_id"]
        return reply

    async def post(self, verb: str, **body: object) -> httpx.Response:
        return await self.client.post(f"/v1/runners/{self.id}/{verb}", json=body)

    def offer(self, slots: int) -> dict[str, Any]:
        self.offers += 1
        free = {"slots": slots, "cpu_millis": 8000, "memory": 1 << 34, "disk": 1 << 36, "gpus": []}
        return {"request_id": f"request-{self.id}-{self.offers}", "free": free}

    async def poll(self, *claims: dict[str, Any], slots: int = 0, wait_s: float = 0) -> dict[str, Any]:
        """Poll, listing these claims and offering ``slots``."""
        listed = [{"execution_id": c["execution_id"], "attempt": c["attempt"]} for c in claims]
        offer = self.offer(slots) if slots else None
        reply = await self.post("poll", attempts=listed, claim=offer, wait_s=wait_s, draining=False)
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()
        return found

    async def finish(self, *reports: dict[str, Any], slots: int = 0) -> dict[str, Any]:
        reply = await self.post("finish", reports=list(reports), claim=self.offer(slots) if slots else None)
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()
        return found


def ended(claim: dict[str, Any], **changes: object) -> dict[str, Any]:
    """The report of a script that exited with 0 and left nothing."""
    return {
        "execution_id": claim["execution_id"],
        "attempt": claim["attempt"],
        "failure": None,
        "exit_code": 0,
        "signal": None,
        "message": "",
        "started_at": AT,
        "ended_at": AT,
        "usage": USAGE,
        "manifest": EMPTY,
        "last_seq": 0,
        "streams": [],
        "bad_blobs": [],
        "layer": "",
        **changes,
    }


def chunk(seq: int, data: bytes) -> dict[str, Any]:
    """A chunk of stdout."""
    return {"seq": seq, "stream": str(Stream.STDOUT), "at": AT, "data": base64.b64encode(data).decode()}


def reporting(claim: dict[str, Any], phase: Phase, *chunks: dict[str, Any], started: bool = True) -> dict[str, Any]:
    """News of one attempt."""
    return {
        "execution_id": claim["execution_id"],
        "attempt": claim["attempt"],
        "phase": str(phase),
        "started_at": AT if started else None,
        "chunks": list(chunks),
    }


@pytest.fixture
async def runner(plane: ControlPlane) -> Runner:
    """A registered runner."""
    runner = Runner(plane.runner)
    assert (await runner.register()).status_code == 200
    return runner


async def _submit(plane: ControlPlane, count: int = 1, **changes: object) -> dict[str, Any]:
    reply = await plane.client.post("/v1/batches", json=submission(count, **changes))
    assert reply.status_code == 201, reply.text
    found: dict[str, Any] = reply.json()
    return found


async def _upload(plane: ControlPlane, data: bytes) -> str:
    """Store a blob as a client does."""
    sha256 = hashlib.sha256(data).hexdigest()
    blobs = [{"sha256": sha256, "size": len(data), "offset": 0}]
    reply = await plane.client.post("/v1/uploads", json={"uploads": [{"size": len(data), "blobs": blobs}]})
    upload = reply.json()["uploads"][0]
    async with httpx.AsyncClient() as plain:
        assert (await plain.put(upload["urls"][0], content=data)).is_success
    done = await plane.client.post("/v1/uploads/complete", json={"uploads": [{"id": upload["id"]}]})
    assert done.status_code == 200, done.text
    return sha256


async def _execution(plane: ControlPlane, execution_id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await plane.client.get(f"/v1/executions/{execution_id}")).json()
    return found


async def test_the_whole_way_of_an_execution(plane: ControlPlane, runner: Runner) -> None:
    """Submitted, claimed with readable blobs and clear environment, logged, delivered, ended: all of it is visible."""
    sha256 = await _upload(plane, b"print(1)\n")
    what = spec(files=[file("s.py", sha256, 9)], env_names=["TOKEN"])
    batch = await _submit(plane, 1, spec=what, env={"TOKEN": "hush"})
    reply = await runner.poll(slots=2)
    (claim,) = reply["claims"]
    served = reply["specs"][batch["id"]]
    assert served["env"] == {"TOKEN": "hush"}
    (blob,) = served["blobs"]
    async with httpx.AsyncClient() as plain:
        assert (await plain.get(blob["url"])).content == b"print(1)\n"
        assert (await plain.put(claim["pack"]["urls"][0], content=b"result")).is_success

    await runner.post("report", reports=[reporting(claim, Phase.PREPARING, started=False)])
    news = await runner.post("report", reports=[reporting(claim, Phase.RUNNING, chunk(1, b"1\n"))])
    assert news.json()["answers"][0] == {
        "execution_id": claim["execution_id"],
        "attempt": 1,
        "next_seq": 2,
        "stale": False,
    }
    seen = await _execution(plane, claim["execution_id"])
    assert (seen["status"], seen["phase"], seen["started_at"]) == (Status.RUNNING, Phase.RUNNING, AT)

    entry = {
        "path": "out/result.txt",
        "kind": "file",
        "mode": 0o644,
        "size": 6,
        "sha256": hashlib.sha256(b"result").hexdigest(),
        "object": 0,
        "offset": 0,
        "target": "",
    }
    manifest = {"entries": [entry], "objects": [{"key": claim["pack"]["key"], "size": 6}], "left_out": []}
    answer = (await runner.finish(ended(claim, manifest=manifest, last_seq=1)))["answers"][0]
    assert (answer["accepted"], answer["stale"], answer["error"]) == (True, False, "")
    seen = await _execution(plane, claim["execution_id"])
    assert (seen["status"], seen["exit_code"], seen["output_files"]) == (Status.SUCCEEDED, 0, 1)
    assert seen["attempts"][-1]["usage"] == USAGE
    outputs = (await plane.client.get(f"/v1/executions/{claim['execution_id']}/outputs")).json()
    async with httpx.AsyncClient() as plain:
        assert (await plain.get(outputs["objects"][0]["url"])).content == b"result"
    assert (await plane.client.get(f"/v1/batches/{batch['id']}")).json()["done"]
    again = (await runner.finish(ended(claim, manifest=manifest, last_seq=1)))["answers"][0]
    assert (again["accepted"], again["stale"]) == (True, False)


async def test_a_poll_waits_until_there_is_work(plane: ControlPlane, runner: Runner) -> None:
    """A waiting runner gets an execution as soon as it is submitted, not at its next poll."""
    waiting = asyncio.create_task(runner.poll(slots=1, wait_s=20))
    async with plane.services.hub.subscribe({"q"}) as woken:
        await _submit(plane)
        assert await woken.wait(10)
    assert len((await asyncio.wait_for(waiting, 5))["claims"]) == 1


async def test_a_cancel_reaches_a_waiting_runner(plane: ControlPlane, runner: Runner) -> None:
    """A running execution that is cancelled is named in the answer to a poll that was already waiting, once."""
    batch = await _submit(plane)
    (claim,) = (await runner.poll(slots=1))["claims"]
    waiting = asyncio.create_task(runner.poll(claim, wait_s=20))
    changed = await plane.client.post(f"/v1/batches/{batch['id']}/cancel", json={"indexes": None, "reason": "enough"})
    assert changed.json()["changed"] == 1
    reply = await asyncio.wait_for(waiting, 5)
    assert [kill["reason"] for kill in reply["kill"]] == [FailureClass.CANCELLED]
    answer = await runner.finish(ended(claim, failure=str(FailureClass.CANCELLED), exit_code=143, signal=15))
    assert answer["answers"][0]["accepted"]
    assert (await _execution(plane, claim["execution_id"]))["status"] == Status.CANCELLED


async def test_what_is_not_its_own_is_stale(plane: ControlPlane, runner: Runner) -> None:
    """Polls, reports, finishes, outputs, blobs and stdin of attempts that are not live here are refused."""
    await _submit(plane)
    (claim,) = (await runner.poll(slots=1))["claims"]
    other = Runner(plane.runner)
    await other.register(name="two")
    which = {"execution_id": claim["execution_id"], "attempt": 1}
    assert (await other.poll(claim))["kill"] == [{**which, "reason": "stale"}]
    reported = await other.post("report", reports=[reporting(claim, Phase.RUNNING, chunk(1, b"x"))])
    assert reported.json()["answers"][0]["stale"]
    assert (await other.finish(ended(claim)))["answers"][0]["stale"]
    for verb, body in (
        ("outputs", {"sizes": [1]}),
        ("blobs", {"sha256": ["0" * 64]}),
        ("stdin", {"after": 0, "wait_s": 0}),
    ):
        refused = await other.post(verb, **which, **body)
        assert (refused.status_code, refused.json()["code"]) == (409, "stale_attempt")
    assert (await _execution(plane, claim["execution_id"]))["status"] == Status.RUNNING


async def test_a_finish_waits_for_the_log(plane: ControlPlane, runner: Runner) -> None:
    """An attempt whose log is not complete in the grid does not end; the answer says where to go on."""
    await _submit(plane)
    (claim,) = (await runner.poll(slots=1))["claims"]
    await runner.post("report", reports=[reporting(claim, Phase.RUNNING, chunk(1, b"a"))])
    answer = (await runner.finish(ended(claim, last_seq=3)))["answers"][0]
    assert (answer["accepted"], answer["stale"], answer["next_seq"]) == (False, False, 2)
    rest = reporting(claim, Phase.DELIVERING, chunk(2, b"b"), chunk(3, b"c"))
    await runner.post("report", reports=[rest])
    assert (await runner.finish(ended(claim, last_seq=3)))["answers"][0]["accepted"]


async def test_a_finish_fills_the_slots_that_it_freed(plane: ControlPlane, runner: Runner) -> None:
    """Ending and claiming are one request: a capped batch goes on without a poll."""
    await _submit(plane, 3, parallel=1)
    claims = (await runner.poll(slots=1))["claims"]
    for index in range(3):
        assert [claim["index"] for claim in claims] == [index]
        reply = await runner.finish(ended(claims[0]), slots=1)
        assert reply["answers"][0]["accepted"]
        claims = reply["claims"]
    assert claims == []


async def test_large_outputs_are_joined_before_the_end(plane: ControlPlane, runner: Runner) -> None:
    """A multipart output is whole in the store before anybody sees it; a wrong part keeps the attempt open."""
    await _submit(plane)
    (claim,) = (await runner.poll(slots=1))["claims"]
    which = {"execution_id": claim["execution_id"], "attempt": 1}
    size = (64 << 20) + 5
    (upload,) = (await runner.post("outputs", **which, sizes=[size])).json()["uploads"]
    assert upload["multipart"]
    etags = []
    async with httpx.AsyncClient(timeout=60) as plain:
        for number, url in enumerate(upload["urls"]):
            part = b"x" * min(upload["part_size"], size - number * upload["part_size"])
            stored = await plain.put(url, content=part)
            etags.append(stored.headers["etag"].strip('"'))
    entry = {
        "path": "big",
        "kind": "file",
        "mode": 0o600,
        "size": size,
        "sha256": "0" * 64,
        "object": 0,
        "offset": 0,
        "target": "",
    }
    stored_as = {"key": upload["key"], "size": size, "upload_id": upload["id"], "etags": etags}
    short = {"entries": [entry], "objects": [{**stored_as, "etags": etags[:-1]}], "left_out": []}
    refused = (await runner.finish(ended(claim, manifest=short)))["answers"][0]
    assert not refused["accepted"]
    assert not refused["stale"]
    assert "parts" in refused["error"]
    whole = {**short, "objects": [stored_as]}
    assert (await runner.finish(ended(claim, manifest=whole)))["answers"][0]["accepted"]
    assert await plane.services.store.head(upload["key"]) == size


async def test_a_manifest_cannot_name_what_is_not_its_own(plane: ControlPlane, runner: Runner) -> None:
    """Objects of other executions, paths that climb and bytes outside an object are refused, and nothing ends."""
    await _submit(plane)
    (claim,) = (await runner.poll(slots=1))["claims"]
    good = {"path": "a", "kind": "dir", "mode": 0o755, "size": 0, "sha256": "", "object": -1, "offset": 0, "target": ""}
    own = {"key": claim["pack"]["key"], "size": 3}
    for entries, objects in (
        ([], [{"key": "p/other/x/exe_1/1/pack", "size": 1}]),
        ([{**good, "path": "../a"}], []),
        ([{**good, "kind": "file", "size": 4, "object": 0, "sha256": "0" * 64}], [own]),
        ([{**good, "kind": "file", "size": 3, "object": 1, "sha256": "0" * 64}], [own]),
    ):
        manifest = {"entries": entries, "objects": objects, "left_out": []}
        answer = (await runner.finish(ended(claim, manifest=manifest)))["answers"][0]
        assert (answer["accepted"], answer["stale"]) == (False, False)
        assert answer["error"]
    assert (await _execution(plane, claim["execution_id"]))["status"] == Status.RUNNING


async def test_a_bad_blob_is_missing_for_the_next_submit(plane: ControlPlane, runner: Runner) -> None:
    """Bytes that a runner found wrong are asked for again, so that the next submission heals them."""
    sha256 = await _upload(plane, b"bytes that rot")
    await _submit(plane, 1, spec=spec(files=[file("s.py", sha256, 14)]))
    (claim,) = (await runner.poll(slots=1))["claims"]
    report = ended(claim, failure=str(FailureClass.INPUT), exit_code=None, started_at=None, bad_blobs=[sha256])
    assert (await runner.finish(report))["answers"][0]["accepted"]
    asked = await plane.client.post("/v1/blobs/missing", json={"blobs": [{"sha256": sha256, "size": 14}]})
    assert asked.json()["missing"] == [sha256]


async def test_stdin_comes_as_it_is_fed(plane: ControlPlane, runner: Runner) -> None:
    """Chunks that arrive later reach a waiting runner in order, and again for whoever asks again."""
    await _submit(plane, 1, spec=spec(stdin={"stream": True}))
    (claim,) = (await runner.poll(slots=1))["claims"]
    which = {"execution_id": claim["execution_id"], "attempt": 1}
    waiting = asyncio.create_task(runner.post("stdin", **which, after=0, wait_s=20))
    for seq, data in ((1, b"one\n"), (2, b"")):
        body = {"seq": seq, "data": base64.b64encode(data).decode(), "eof": not data}
        assert (await plane.client.post(f"/v1/executions/{claim['execution_id']}/stdin", json=body)).is_success
    first = (await asyncio.wait_for(waiting, 5)).json()["chunks"]
    assert first[0] == {"seq": 1, "data": base64.b64encode(b"one\n").decode(), "eof": False}
    rest = (await runner.post("stdin", **which, after=1, wait_s=0)).json()["chunks"]
    assert rest == [{"seq": 2, "data": "", "eof": True}]


async def test_a_runner_keeps_its_id_and_its_work(plane: ControlPlane, runner: Runner) -> None:
    """Coming back under its old id, a runner still holds what it held."""
    await _submit(plane)
    (claim,) = (await runner.poll(slots=1))["claims"]
    old = runner.id
    await runner.register(name="renamed")
    assert runner.id == old
    assert (await runner.poll(claim))["granted"] == [{"execution_id": claim["execution_id"], "attempt": 1}]
    (listed,) = (await plane.client.get("/v1/runners")).json()["runners"]
    assert (listed["name"], listed["busy"], listed["state"]) == ("renamed", 1, "online")


async def test_unknown_runners_register_again(plane: ControlPlane, runner: Runner) -> None:
    """A runner that the grid does not know is told to register; a user's key opens no runner route."""
    reply = await plane.runner.post(
        "/v1/runners/rnr_0/poll", json={"attempts": [], "claim": None, "wait_s": 0, "draining": False}
    )
    assert (reply.status_code, reply.json()["hint"]) == (404, "register again")
    assert (await plane.client.post(f"/v1/runners/{runner.id}/report", json={"reports": []})).status_code == 401


async def test_drained_runners_are_shown_as_such(plane: ControlPlane, runner: Runner) -> None:
    """A runner that says it drains is listed as draining."""
    await runner.post("poll", attempts=[], claim=None, wait_s=0, draining=True)
    (listed,) = (await plane.client.get("/v1/runners")).json()["runners"]
    assert listed["state"] == "draining"


async def test_runners_without_isolation_are_refused(database_url: str, s3: S3Server, store: ObjectStore) -> None:
    """A grid takes process runners only if it was told to."""
    settings = settings_for(database_url, s3, store.bucket, allow_process_backend=False)
    async with control_plane(settings) as plane:
        refused = await Runner(plane.runner).register()
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert (await Runner(plane.runner).register(backend="docker")).status_code == 200
