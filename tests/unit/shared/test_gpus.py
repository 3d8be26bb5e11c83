"""Which GPU serves which need."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgrid_shared.gpus import at_once, fits, wanted, words
from rgrid_shared.protocol import Gpu
from rgrid_shared.specs import NO_RESOURCES, Resources

GIB = 1 << 30


def needs(model: str = "", memory: int = 0, count: int = 0) -> Resources:
    return {**NO_RESOURCES, "gpus": count, "gpu_model": model, "gpu_memory": memory}


@pytest.mark.parametrize(
    ("model", "name", "fitting"),
    [
        ("", "Tesla T4", True),
        ("a100", "NVIDIA A100-SXM4-40GB", True),
        ("A100-40GB", "NVIDIA A100-SXM4-40GB", True),
        ("A100-80GB", "NVIDIA A100-SXM4-40GB", False),
        ("A10", "NVIDIA A100-SXM4-40GB", False),
        ("A10", "NVIDIA A10", True),
        ("L4", "NVIDIA L40S", False),
        ("rtx 4090", "NVIDIA GeForce RTX 4090", True),
        ("H200", "NVIDIA GH200 480GB", False),
    ],
)
def test_a_model_is_named_by_its_words(model: str, name: str, fitting: bool) -> None:
    """``A10`` is no ``A100``: nobody pays for another model than was named, or waits for it in vain."""
    gpu: Gpu = {"index": 0, "model": name, "memory": 40 * GIB}
    assert fits(gpu, needs(model)) is fitting


def test_memory_is_at_least_what_was_asked() -> None:
    """A GPU with exactly as much fits, one with a byte less does not."""
    gpu: Gpu = {"index": 0, "model": "Tesla T4", "memory": 16 * GIB}
    assert fits(gpu, needs(memory=16 * GIB))
    assert not fits(gpu, needs(memory=16 * GIB + 1))


def test_naming_a_gpu_takes_one() -> None:
    """A model or an amount of GPU memory asks for a GPU even if no number is given."""
    assert [wanted(each) for each in (needs(), needs("A100"), needs(memory=1), needs("A100", count=3))] == [0, 1, 1, 3]
    assert words(needs("A100", 40 * GIB, 2)) == "2 A100 GPUs with 40 GiB"
    assert words(needs()) == ""


@given(free=st.lists(st.integers(0, 3), max_size=4), each=st.integers(1, 3))
def test_as_many_fit_as_can_be_dealt_out(free: list[int], each: int) -> None:
    """The number agrees with trying every way of giving executions different GPUs."""

    @cache
    def most(left: tuple[int, ...]) -> int:
        ways = [
            tuple(slots - (chosen >> place & 1) for place, slots in enumerate(left))
            for chosen in range(1 << len(left))
            if chosen.bit_count() == each
        ]
        return max((1 + most(tuple(sorted(way))) for way in ways if min(way) >= 0), default=0)

    assert at_once(free, each) == most(tuple(sorted(free)))
