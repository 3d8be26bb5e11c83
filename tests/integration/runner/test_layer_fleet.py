"""Runners share layers by the real API and a real store: one builds, the others fetch, nobody trusts an archive."""

from __future__ import annotations

import asyncio
import hashlib
import io
import tarfile
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import zstandard
from support.control_plane import ControlPlane, submission
from support.layer_bench import LayerBench, version_in
from support.package_index import add_package, add_source

from rgrid_api.layers.janitor import LayerJanitor
from rgrid_runner.control import Control
from rgrid_runner.layer_fleet import Fleet
from rgrid_runner.layers import Layer
from rgrid_runner.objects import ObjectStore
from rgrid_shared.errors import Conflict

KEY = "ab" * 32


@dataclass
class Host:
    """One runner of the fleet."""

    control: Control
    bench: LayerBench

    async def layer(self, *lines: str, **changes: Any) -> Layer:
        """The layer for these lines, with all done that is done behind its start."""
        layer = await self.bench.ensure(*lines, **changes)
        await self.bench.finished(layer)
        return layer

    async def claim(self) -> dict[str, Any]:
        """Take one execution from the queue."""
        free = {"slots": 1, "cpu_millis": 8000, "memory": 1 << 34, "disk": 1 << 36, "gpus": []}
        request = {"request_id": f"request-{self.control.runner_id}", "free": free}
        reply = await self.control.poll({"attempts": [], "claim": request, "wait_s": 0, "draining": False})  # type: ignore[typeddict-item]
        return dict(reply["claims"][0])


@pytest.fixture
async def host(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Makes runners, each with its own state directory."""
    async with AsyncExitStack() as stack:

        async def make(name: str, *, share: bool = True, **changes: Any) -> Host:
            token = plane.runner.headers["Authorization"].removeprefix("Bearer ")
            transport = httpx.ASGITransport(app=plane.app)
            control = Control("http://rgrid.test", token, lambda _: None, transport=transport)
            stack.push_async_callback(control.close)
            await control.register(
                {
                    "runner_id": None,
                    "name": name,
                    "backend": "process",
                    "version": "0",
                    "slots": 1,
                    "labels": {},
                    "runtimes": {"python3.11": "3.11.7"},
                    "resources": {"cpu_millis": 8000, "memory": 1 << 34, "disk": 1 << 36, "gpus": []},
                }
            )
            store, pool = ObjectStore(), ThreadPoolExecutor(4)
            stack.callback(store.close)
            stack.callback(pool.shutdown)
            bench = LayerBench(tmp_path, name, fleet=Fleet(control, store, pool, share=share), **changes)
            stack.push_async_callback(bench.layers.close)
            return Host(control, bench)

        yield make


async def archives(plane: ControlPlane) -> list[str]:
    """The archives in the store."""
    return [key for key in await plane.services.store.list("") if key.endswith(".tar.zst")]


async def row(plane: ControlPlane, key: str) -> Any:
    async with plane.services.database.read() as tx:
        return (await tx.conn.exec_driver_sql(f"SELECT * FROM layers WHERE key = '{key}'")).mappings().one()


async def test_one_builds_the_other_downloads(plane: ControlPlane, host: Callable[..., Any]) -> None:
    """The second host gets the same layer, with its bytecode, and asks uv for nothing but the resolution."""
    one, two = await host("one"), await host("two")
    built = await one.layer("upper")
    assert len(await archives(plane)) == 1
    fetched = await two.layer("upper")
    assert fetched.key == built.key
    assert (version_in(fetched, "upper"), version_in(fetched, "lower")) == ("1.0", "2.5")
    assert two.bench.calls == ["pip compile"]
    assert list(fetched.path.rglob("upper.*.pyc"))
    assert sorted(path.name for path in (two.bench.state / "layers/archives").iterdir()) == []
    assert (await row(plane, built.key))["builder_id"] is None


async def test_at_the_same_time_one_waits(plane: ControlPlane, host: Callable[..., Any]) -> None:
    """Of two runners that need it now one has leave to build; the other says that it waits, and fetches."""
    hosts = [await host("one"), await host("two")]
    layers = await asyncio.gather(*(each.layer("upper") for each in hosts))
    assert layers[0].key == layers[1].key
    assert sorted("pip install" in each.bench.calls for each in hosts) == [False, True]
    assert sum("Another runner" in text for each in hosts for text in each.bench.said) == 1
    assert len(await archives(plane)) == 1


async def test_who_cannot_build_lets_the_other_try(plane: ControlPlane, host: Callable[..., Any]) -> None:
    """A failed build gives up its leave at once."""
    one = await host("one")
    pins = (await one.bench.layers._resolver.resolve(_ask(one, "lower"), print)).lock
    wrong = [line.rpartition(":")[0] + ":" + "0" * 64 for line in pins]
    with pytest.raises(Exception, match="Hash mismatch"):
        await one.layer(*wrong, exact=True)
    async with plane.services.database.read() as tx:
        builders = await tx.conn.exec_driver_sql("SELECT builder_id FROM layers")
        assert set(builders.scalars()) == {None}


def _ask(host: Host, *lines: str) -> Any:
    from support.layer_bench import PYTHON

    from rgrid_runner.resolving import Ask, Target

    wanted: Any = {"lines": list(lines), "source": "t", "requires_python": "", "exact": False}
    return Ask(wanted, Target(PYTHON, "", "p"), "prj", {})


async def overwrite(plane: ControlPlane, data: bytes) -> None:
    (key,) = await archives(plane)
    await plane.services.store.put(key, data)


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
async def test_a_damaged_archive_is_refused_and_replaced(
    plane: ControlPlane, host: Callable[..., Any], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Wrong bytes, too few, none at all: it is said, the layer is built, and the third host downloads the new one."""
    one, two, three = await host("one"), await host("two"), await host("three")
    await one.layer("upper")
    (key,) = await archives(plane)
    size = await plane.services.store.head(key) or 0
    data = await plane.services.store.get_range(key, 0, size)
    if damage == "gone":
        await plane.services.store.delete([key])
    else:
        middle = size // 2
        wrong = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if damage == "flipped" else data[:middle]
        await overwrite(plane, wrong)
    rebuilt = await two.layer("upper")
    assert version_in(rebuilt, "upper") == "1.0"
    assert "pip install" in two.bench.calls
    assert "is refused" in caplog.text
    (replaced,) = await archives(plane)
    assert replaced != key
    assert version_in(await three.layer("upper"), "upper") == "1.0"
    assert "pip install" not in three.bench.calls


async def test_an_evil_archive_is_refused(plane: ControlPlane, host: Callable[..., Any], tmp_path: Path) -> None:
    """One that was published with its right hash but leads out of its directory is not unpacked; it is replaced."""
    one, two = await host("one"), await host("two")
    await one.layer("upper")
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        info = tarfile.TarInfo("../../../evil")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"evil"))
    data = zstandard.compress(raw.getvalue())
    await overwrite(plane, data)
    async with plane.services.database.transaction() as tx:
        await tx.conn.exec_driver_sql(
            f"UPDATE layers SET sha256 = '{hashlib.sha256(data).hexdigest()}', size = {len(data)}, unpacked = 4"
        )
    layer = await two.layer("upper")
    assert version_in(layer, "upper") == "1.0"
    assert not list(tmp_path.rglob("evil"))
    assert (await row(plane, layer.key))["sha256"] != hashlib.sha256(data).hexdigest()


async def test_the_first_archive_stays(plane: ControlPlane, host: Callable[..., Any]) -> None:
    """A runner that publishes later is told so, and its upload is dropped; so is one that comes twice accepted."""
    one, two = await host("one"), await host("two")
    query: Any = {"key": KEY, "project_id": "", "lock": ["a==1"], "interpreter": "cpython-3.11.7"}
    assert (await one.control.layer_find(query))["build"]
    assert not (await two.control.layer_find(query))["build"]
    with pytest.raises(Conflict):
        await two.control.layer_place({"key": KEY, "size": 3})
    places = [(await one.control.layer_place({"key": KEY, "size": 3}))["upload"]]
    await one.control.layer_give_up({"key": KEY})
    assert (await two.control.layer_find(query))["build"]
    places.append((await two.control.layer_place({"key": KEY, "size": 3}))["upload"])
    answers: list[bool] = []
    for runner, place, body in zip((one, two, one), (*places, places[0]), (b"one", b"two", b"one"), strict=True):
        assert place is not None
        if place["key"] in await archives(plane) or not answers or runner is two:
            httpx.put(place["urls"][0], content=body).raise_for_status()
        published: Any = {
            "key": KEY, "object_key": place["key"], "etags": [], "unpacked": 3,
            "sha256": hashlib.sha256(body).hexdigest(),
        }  # fmt: skip
        answers.append((await runner.control.layer_publish(published))["accepted"])
    assert answers == [True, False, True]
    assert await archives(plane) == [places[0]["key"]]
    assert (await two.control.layer_place({"key": KEY, "size": 3}))["upload"] is None


async def test_a_projects_layer_is_for_its_runners(plane: ControlPlane, host: Callable[..., Any]) -> None:
    """What was built from source goes below the project's prefix, to runners that do its work and no others."""
    one, two, three = await host("one"), await host("two"), await host("three")
    add_source(one.bench.index, "raw", "1.0", "VERSION = '1.0'\n")
    for runner in (one, two):
        (await plane.client.post("/v1/batches", json=submission())).raise_for_status()
        claim = await runner.claim()
        assert claim["project_id"] == plane.project_id
    built = await one.layer("raw", project=plane.project_id)
    (key,) = await archives(plane)
    assert key.startswith(f"p/{plane.project_id}/layers/{built.key}.")
    assert (await two.layer("raw", project=plane.project_id)).key == built.key
    assert "pip install" not in two.bench.calls
    query: Any = {"key": built.key, "project_id": plane.project_id, "lock": [], "interpreter": "x"}
    with pytest.raises(Conflict):
        await three.control.layer_find(query)
    with pytest.raises(Conflict):
        await three.control.layer_find({**query, "project_id": ""})
    await three.layer("raw", project=plane.project_id)
    assert "pip install" in three.bench.calls


async def test_who_does_not_share_still_says_what_is_in_a_layer(plane: ControlPlane, host: Callable[..., Any]) -> None:
    """No archive goes or comes, nobody waits, and the packages of its executions are known."""
    alone, other = await host("alone", share=False), await host("other")
    layer = await alone.layer("upper")
    assert await archives(plane) == []
    assert [line.split(" ")[0] for line in (await row(plane, layer.key))["lock"]] == ["lower==2.5", "upper==1.0"]
    await other.layer("upper")
    assert len(await archives(plane)) == 1
    again = await host("again", share=False)
    await again.layer("upper")
    assert "pip install" in again.bench.calls


async def test_another_version_is_another_archive(plane: ControlPlane, host: Callable[..., Any]) -> None:
    """Each is kept and fetched under its own key."""
    one, two = await host("one"), await host("two")
    add_package(one.bench.index, "lower", "3.0", "VERSION = '3.0'\n")
    for version in ("2.5", "3.0"):
        await one.layer(f"lower=={version}")
        assert version_in(await two.layer(f"lower=={version}"), "lower") == version
    assert len(await archives(plane)) == 2
    assert "pip install" not in two.bench.calls


async def test_what_nobody_needs_leaves_the_store(plane: ControlPlane, host: Callable[..., Any]) -> None:
    """Uploads that were never published and archives out of use go; the packages of a layer stay known."""
    one = await host("one")
    layer = await one.layer("lower")
    query: Any = {"key": KEY, "project_id": "", "lock": [], "interpreter": "x"}
    await one.control.layer_find(query)
    place = (await one.control.layer_place({"key": KEY, "size": 3}))["upload"]
    assert place is not None
    httpx.put(place["urls"][0], content=b"abc").raise_for_status()
    assert len(await archives(plane)) == 2
    services = plane.services
    assert await LayerJanitor(services.database, services.store, after_s=3600).run_once() == 0
    assert await LayerJanitor(services.database, services.store, after_s=0, unused_s=0).run_once() == 2
    assert await archives(plane) == []
    assert (await row(plane, layer.key))["lock"][0].startswith("lower==2.5 --hash=sha256:")
