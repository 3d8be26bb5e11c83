"""Layers are built once and found again without asking anybody."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest
from support.layer_bench import PYTHON, LayerBench, version_in
from support.package_index import add_package, add_source

from rgrid_runner.layer_shelf import UNUSED_FOR_S
from rgrid_runner.outcome import AttemptFailed
from rgrid_runner.resolving import check_python
from rgrid_runner.uv import classify
from rgrid_shared.states import FailureClass


@pytest.fixture
def bench(tmp_path: Path) -> LayerBench:
    return LayerBench(tmp_path)


async def test_requirements_are_installed_with_what_they_need(bench: LayerBench) -> None:
    """The layer holds the resolved set and nothing half-done is left beside it."""
    layer = await bench.ensure("upper")
    assert (version_in(layer, "upper"), version_in(layer, "lower")) == ("1.0", "2.5")
    assert [path.name for path in layer.path.parent.iterdir()] == [layer.key]
    assert list((bench.state / "shops/shared").iterdir()) == []
    assert any("2 packages (lower, upper)" in text for text in bench.said)


async def test_the_second_time_nobody_is_asked(bench: LayerBench) -> None:
    """Not even by another agent on the same state directory."""
    layer = await bench.ensure("upper")
    await bench.finished(layer)
    bench.calls.clear()
    bench.said.clear()
    bench.layers = bench.fresh()
    assert await bench.ensure("upper") == layer
    assert (bench.calls, bench.said) == ([], [])


async def test_ten_at_once_build_once(bench: LayerBench) -> None:
    """One resolution, one environment, one installation."""
    layers = await asyncio.gather(*(bench.ensure("upper", holder=f"exe_{n}.1") for n in range(10)))
    assert len(set(layers)) == 1
    assert bench.calls == ["pip compile", "venv", "pip install"]


async def test_another_version_is_another_layer(bench: LayerBench) -> None:
    """The old one stays as it is for those that still name it."""
    old = await bench.ensure("lower==2.5")
    add_package(bench.index, "lower", "3.0", "VERSION = '3.0'\n")
    new = await bench.ensure("lower==3.0")
    assert old.key != new.key
    assert (version_in(old, "lower"), version_in(new, "lower")) == ("2.5", "3.0")


async def test_a_resolution_holds_for_a_day(bench: LayerBench) -> None:
    """After that the index is asked again, and the same answer finds the same layer."""
    layer = await bench.ensure("upper")
    bench.calls.clear()
    bench.now += 23 * 3600
    await bench.ensure("upper")
    assert bench.calls == []
    bench.now += 2 * 3600
    assert await bench.ensure("upper") == layer
    assert bench.calls == ["pip compile"]


async def test_nothing_is_added_to_an_exact_list(bench: LayerBench) -> None:
    """A list of pins is installed as it is, without what it leaves out."""
    layer = await bench.ensure("upper==1.0", exact=True)
    assert version_in(layer, "upper") == "1.0"
    with pytest.raises(subprocess.CalledProcessError):
        version_in(layer, "lower")


async def test_a_lock_is_used_as_it_is_and_checked(bench: LayerBench) -> None:
    """Pins with hashes ask no resolver and come to the same layer; a hash that is another's is refused."""
    layer = await bench.ensure("upper")
    lock = bench.layers._resolver._root.glob("*.json")
    import json

    lines = json.loads(next(lock).read_text())["lock"]
    bench.calls.clear()
    assert await bench.ensure(*lines, exact=True) == layer
    assert bench.calls == []
    wrong = [line.rpartition(":")[0] + ":" + "0" * 64 for line in lines]
    with pytest.raises(AttemptFailed, match="Hash mismatch") as caught:
        await bench.ensure(*wrong, exact=True)
    assert caught.value.failure is FailureClass.DEPENDENCIES


async def test_the_resolvers_words_are_shown(bench: LayerBench) -> None:
    """A requirement that does not exist is the user's to mend."""
    with pytest.raises(AttemptFailed, match="nosuch") as caught:
        await bench.ensure("nosuch")
    assert caught.value.failure is FailureClass.DEPENDENCIES
    assert "Traceback" not in caught.value.message


async def test_an_unreachable_index_is_the_grids_trouble(bench: LayerBench) -> None:
    """It is tried again elsewhere, not billed."""
    bench.env |= {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_HTTP_RETRIES": "0"}
    bench.layers = bench.fresh()
    with pytest.raises(AttemptFailed) as caught:
        await bench.ensure("nosuch")
    assert caught.value.failure is FailureClass.INFRASTRUCTURE


async def test_bytecode_is_compiled_behind_the_first_start(bench: LayerBench) -> None:
    """Off the critical path, once; no code of the packages runs for it."""
    add_package(bench.index, "sly", "1.0", "import pathlib; pathlib.Path('ran').touch()\n")
    layer = await bench.ensure("sly")
    (next(layer.path.glob("lib/*/site-packages")) / "sly.pth").write_text("import sly\n")
    assert not list(layer.path.rglob("sly.*.pyc"))
    await bench.finished(layer)
    assert list(layer.path.rglob("sly.*.pyc"))
    assert not (layer.path / "ran").exists()
    bench.layers.started(layer)
    assert not bench.layers._behind


async def test_what_nobody_uses_goes(bench: LayerBench) -> None:
    """Unfinished builds at once, layers after a month; never one that a script still uses."""
    layer = await bench.ensure("lower")
    await bench.finished(layer)
    (layer.path.parent / ".build-x").mkdir()
    (bench.state / "shops/shared/build-x/lib").mkdir(parents=True)
    bench.layers = bench.fresh()
    await bench.layers.open()
    assert list((bench.state / "shops/shared").iterdir()) == []
    assert [path.name for path in layer.path.parent.iterdir()] == [layer.key]
    bench.now += UNUSED_FOR_S + 1
    bench.layers.hold(layer.key, "exe.1")
    assert await bench.layers.run_once(bench.now) == 0
    bench.layers.release("exe.1")
    assert await bench.layers.run_once(bench.now) == 1
    assert list(layer.path.parent.iterdir()) == []


async def test_the_least_recently_used_makes_room(tmp_path: Path) -> None:
    """Over the budget the oldest goes and is built again when it is wanted; those in use stay."""
    bench = LayerBench(tmp_path, budget=1)
    lower = await bench.ensure("lower", holder="a.1")
    await bench.finished(lower)
    upper = await bench.ensure("upper", holder="b.1")
    await bench.finished(upper)
    assert lower.path.exists()
    bench.layers.release("a.1")
    await bench.layers.run_once(bench.now)
    assert (lower.path.exists(), upper.path.exists()) == (False, True)
    assert version_in(await bench.ensure("lower", holder="a.2"), "lower") == "2.5"


async def test_source_packages_are_the_projects_own(bench: LayerBench) -> None:
    """What has no wheel is built with a cache of the project's, into a layer that another project does not get."""
    add_source(bench.index, "raw", "1.0", "VERSION = '1.0'\n")
    mine = await bench.ensure("raw", project="prj_a")
    assert version_in(mine, "raw") == "1.0"
    assert (bench.state / "shops/prj_a/cache").is_dir()
    theirs = await bench.ensure("raw", project="prj_b")
    assert mine.key != theirs.key
    shared = [await bench.ensure("lower", project=project) for project in ("prj_a", "prj_b")]
    assert shared[0] == shared[1]


async def test_an_address_is_the_projects_own(bench: LayerBench) -> None:
    """A package that is named by its address is never shared, wheel or not."""
    wheel = next((bench.index / "lower").glob("*.whl"))
    with pytest.raises(AttemptFailed, match="not a requirement"):
        await bench.ensure(f"lower @ {wheel.as_uri()}")
    for line in ("/etc/passwd", "./here", "-r other.txt", "lower @ ./here", "-e ."):
        with pytest.raises(AttemptFailed, match="not a requirement"):
            await bench.ensure(line)


async def test_a_secret_has_to_be_given(bench: LayerBench) -> None:
    """A variable in an index's address comes from the batch's environment, and is not shown when uv complains."""
    options = ["--index-url http://someone:${TOKEN}@127.0.0.1:9/simple"]
    with pytest.raises(AttemptFailed, match="-e TOKEN"):
        await bench.ensure("lower", options=options)
    bench.env |= {"UV_HTTP_RETRIES": "0"}
    bench.layers = bench.fresh()
    with pytest.raises(AttemptFailed) as caught:
        await bench.ensure("lower", options=options, given={"TOKEN": "hush-hush"})
    assert caught.value.failure is FailureClass.INFRASTRUCTURE
    assert "hush-hush" not in caught.value.message
    kept = [path for path in bench.state.rglob("*") if path.is_file() and b"hush-hush" in path.read_bytes()]
    assert kept == []


def test_another_python_is_refused_with_what_to_do() -> None:
    """``requires-python`` is checked before anything is resolved."""
    with pytest.raises(AttemptFailed, match="--runtime"):
        check_python({"lines": [], "source": "", "requires_python": ">=4", "exact": False}, PYTHON)


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("× No solution found when resolving dependencies", FailureClass.DEPENDENCIES),
        ("error: Failed to fetch\n Caused by: error sending request for url", FailureClass.INFRASTRUCTURE),
        ("No space left on device (os error 28)", FailureClass.INFRASTRUCTURE),
        ("× Failed to build `x==1`", FailureClass.DEPENDENCIES),
    ],
)
def test_faults_are_told_apart(text: str, failure: FailureClass) -> None:
    """The requirements' fault is shown, the grid's is tried again."""
    assert classify(text) is failure
