"""Cgroups of both versions, over files as kernels write them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgrid_runner.shim.cgroup import CgroupV1, CgroupV2, find, quota_us

PATH = "/system.slice/docker-4f1e.scope"
V2_FILES = {
    "cgroup.procs": "41\n0\n77\n",
    "cgroup.freeze": "0\n",
    "cgroup.events": "populated 1\nfrozen 1\n",
    "memory.current": "5242880\n",
    "memory.peak": "104857600\n",
    "memory.max": "max\n",
    "memory.swap.max": "max\n",
    "memory.events": "low 0\nhigh 0\nmax 31\noom 2\noom_kill 2\noom_group_kill 0\n",
    "cpu.stat": "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\nnr_periods 0\n",
    "cpu.max": "max 100000\n",
    "pids.max": "max\n",
}
V1_FILES = {
    "freezer": {"cgroup.procs": "41\n", "freezer.state": "FROZEN\n"},
    "memory": {
        "memory.usage_in_bytes": "4096\n",
        "memory.max_usage_in_bytes": "9000\n",
        "memory.limit_in_bytes": "9223372036854771712\n",
        "memory.memsw.limit_in_bytes": "9223372036854771712\n",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
    },
    "cpu,cpuacct": {
        "cpu.cfs_quota_us": "-1\n",
        "cpu.cfs_period_us": "100000\n",
        "cpuacct.usage": "7000000\n",
    },
    "pids": {"pids.max": "max\n"},
}


def lay_out(directory: Path, files: dict[str, str]) -> Path:
    directory.mkdir(parents=True)
    for name, text in files.items():
        (directory / name).write_text(text)
    return directory


@pytest.fixture
def v2(tmp_path: Path) -> tuple[CgroupV2, Path]:
    """A kernel with the unified hierarchy alone."""
    lay_out(tmp_path / "proc" / "41", {"cgroup": f"0::{PATH}\n"})
    directory = lay_out(tmp_path / f"sys{PATH}", V2_FILES)
    (tmp_path / "sys" / "cgroup.controllers").write_text("cpu io memory pids\n")
    group = find(41, proc=str(tmp_path / "proc"), root=str(tmp_path / "sys"))
    assert isinstance(group, CgroupV2)
    return group, directory


@pytest.fixture
def v1(tmp_path: Path) -> tuple[CgroupV1, Path]:
    """A kernel with one hierarchy for each controller, two of them mounted together and not linked."""
    lines = "".join(f"{number}:{names}:/docker/4f1e\n" for number, names in enumerate(V1_FILES, 2))
    lay_out(tmp_path / "proc" / "41", {"cgroup": lines + "1:name=systemd:/docker/4f1e\n0::/\n"})
    for names, files in V1_FILES.items():
        lay_out(tmp_path / "sys" / names / "docker" / "4f1e", files)
    group = find(41, proc=str(tmp_path / "proc"), root=str(tmp_path / "sys"))
    assert isinstance(group, CgroupV1)
    return group, tmp_path / "sys"


def test_a_cgroup_that_cannot_be_seen_is_an_error(tmp_path: Path) -> None:
    """Another cgroup namespace, or a missing controller, is told and not guessed around."""
    lay_out(tmp_path / "proc" / "41", {"cgroup": f"0::/..{PATH}\n"})
    lay_out(tmp_path / "sys", {})
    for _ in ("no version 1 hierarchy", "no such directory in version 2"):
        with pytest.raises(FileNotFoundError, match="cgroup"):
            find(41, proc=str(tmp_path / "proc"), root=str(tmp_path / "sys"))
        (tmp_path / "sys" / "cgroup.controllers").touch()


def test_processes_of_other_namespaces_are_not_told(v2: tuple[CgroupV2, Path]) -> None:
    """The kernel lists them as 0, which kill(2) would take for our own group."""
    assert v2[0].pids() == [41, 77]


def test_a_cgroup_that_is_gone_has_no_processes(v2: tuple[CgroupV2, Path]) -> None:
    """Freezing, thawing and killing what has ended is no error."""
    group, directory = v2
    for file in directory.iterdir():
        file.unlink()
    assert group.pids() == []
    assert group.freeze()
    group.thaw()
    group.kill()


@pytest.mark.parametrize(
    ("limits", "written"),
    [
        ((1 << 20, 1500, 64), {"memory.max": "1048576", "cpu.max": "150000 100000", "pids.max": "64"}),
        ((0, 0, 0), {"memory.max": "max", "cpu.max": "max 100000", "pids.max": "max", "memory.swap.max": "max"}),
        ((1 << 20, 1, 1), {"memory.swap.max": "0", "cpu.max": "1000 100000"}),
    ],
)
def test_limits_of_version_2(v2: tuple[CgroupV2, Path], limits: tuple[int, int, int], written: dict[str, str]) -> None:
    """Memory without any swap, a share of each period, a number of processes; 0 is no limit."""
    group, directory = v2
    for name in written:
        (directory / name).write_text("")
    group.limit(memory=limits[0], cpu_millis=limits[1], pids=limits[2])
    assert {name: (directory / name).read_text() for name in written} == written


def test_a_kernel_without_swap_has_no_limit_of_it(v2: tuple[CgroupV2, Path]) -> None:
    """memory.swap.max is not there then, and is not made."""
    group, directory = v2
    (directory / "memory.swap.max").unlink()
    group.limit(memory=1, cpu_millis=0, pids=0)
    assert not (directory / "memory.swap.max").exists()


def test_usage_of_version_2_counts_from_the_beginning(v2: tuple[CgroupV2, Path]) -> None:
    """Processor time and OOM kills of earlier runs are not this one's."""
    group, directory = v2
    group.begin()
    assert (group.cpu_ms(), group.oom_kills(), group.memory()) == (0, 0, 5242880)
    (directory / "cpu.stat").write_text("usage_usec 1750000\n")
    (directory / "memory.events").write_text("oom 3\noom_kill 5\n")
    assert (group.cpu_ms(), group.oom_kills()) == (250, 3)
    group.close()


def test_a_peak_that_can_be_reset_is_read_through_the_same_descriptor(v2: tuple[CgroupV2, Path]) -> None:
    """Linux 6.12: the file that took the reset tells the peak since then, and needs no samples."""
    group, directory = v2
    group.begin()
    assert not group.samples
    (directory / "memory.peak").write_text("123456\n")
    assert group.peak() == 123456
    group.close()


class NoReset(CgroupV2):
    """A kernel before 6.12, whose memory.peak takes no write: a directory's file that is there to be read only."""

    def _reset_peak(self) -> None:
        super()._reset_peak()
        self.close()
        self.samples = True


def test_a_peak_that_cannot_be_reset(v2: tuple[CgroupV2, Path]) -> None:
    """Linux 5.19: the lifetime's peak counts if it has risen in this run, else the largest sample does."""
    _, directory = v2
    group = NoReset(str(directory))
    (directory / "memory.peak").write_text("104857600\n")
    group.begin()
    (directory / "memory.peak").write_text("104857600\n")
    for now in (7_000_000, 9_000_000, 3_000_000):
        (directory / "memory.current").write_text(f"{now}\n")
        assert group.memory() == now
    assert group.peak() == 9_000_000
    (directory / "memory.peak").write_text("200000000\n")
    assert group.peak() == 200_000_000


def test_without_any_peak_samples_are_taken(v2: tuple[CgroupV2, Path]) -> None:
    """Before Linux 5.19 the kernel does not say; what was seen does."""
    group, directory = v2
    (directory / "memory.peak").unlink()
    group.begin()
    assert group.samples
    assert group.peak() == 5242880


def test_version_1_is_found_controller_by_controller(v1: tuple[CgroupV1, Path]) -> None:
    """Controllers that are mounted together are found under their common name."""
    group, root = v1
    files = {
        "memory/docker/4f1e/memory.limit_in_bytes": "8192",
        "memory/docker/4f1e/memory.memsw.limit_in_bytes": "8192",
        "cpu,cpuacct/docker/4f1e/cpu.cfs_quota_us": "25000",
        "pids/docker/4f1e/pids.max": "9",
    }
    for name in files:
        (root / name).write_text("")
    group.limit(memory=8192, cpu_millis=250, pids=9)
    assert {name: (root / name).read_text() for name in files} == files
    assert group.directory.endswith("/freezer/docker/4f1e")
    assert group.freeze()


def test_usage_of_version_1_counts_from_the_beginning(v1: tuple[CgroupV1, Path]) -> None:
    """The peak is reset by writing to it, the other counters are compared."""
    group, root = v1
    group.begin()
    memory = root / "memory/docker/4f1e"
    assert (memory / "memory.max_usage_in_bytes").read_text().startswith("0")
    (memory / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 4\n")
    (root / "cpu,cpuacct/docker/4f1e/cpuacct.usage").write_text("19000000\n")
    assert (group.cpu_ms(), group.oom_kills(), group.memory()) == (12, 1, 4096)


@given(st.integers(1, 1_000_000))
def test_a_quota_is_never_less_than_the_kernel_takes(cpu_millis: int) -> None:
    """A thousandth of a processor is a millisecond in each tenth of a second, the least there is."""
    assert quota_us(cpu_millis) == max(1000, cpu_millis * 100)
