"""What a script outlives: its agent, the API, the object store."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from support.waiting import until

TICKS = """
import pathlib, time
print("on", flush=True)
n = 0
while not pathlib.Path({flag!r}).exists():
    n += 1
    print(n, flush=True)
    time.sleep(0.02)
pathlib.Path("left").write_text("done")
print("off")
"""


@pytest.fixture
def site_env() -> dict[str, str]:
    """Leases of four seconds."""
    return {"RGRID_TIME_SCALE": "0.1"}


def started(site: Any, flag: Path) -> str:
    """A script that prints until ``flag`` exists, running."""
    execution = str(site.submit(TICKS.format(flag=str(flag)))["first_execution_id"])
    until(lambda: site.log(execution).get("stdout"), what="the first line")
    return execution


def whole(out: bytes) -> bool:
    """True if the script's lines are all there, once and in order."""
    lines = out.decode().splitlines()
    return lines == ["on", *(str(n) for n in range(1, len(lines) - 1)), "off"]


def test_a_killed_agents_script_goes_on_under_its_successor(site: Any, runner: Any) -> None:
    """Kill -9 of the agent loses nothing: same attempt, every line once, its files, its exit code."""
    first = runner()
    execution = started(site, flag := site.scratch / "flag")
    first.kill()
    first.wait()
    runner()
    until(lambda: "Taking over" in (site.scratch / "r.log").read_text(), what="the successor's adoption")
    flag.touch()
    ended = site.ended(execution)
    assert (ended.status, ended.view["attempt"], ended.files) == ("succeeded", 1, {"left": b"done"})
    assert whole(ended.out)


def test_a_script_that_ended_without_an_agent_is_delivered(site: Any, runner: Any) -> None:
    """Its output and files wait on disk."""
    first = runner()
    execution = started(site, flag := site.scratch / "flag")
    first.kill()
    first.wait()
    flag.touch()
    until(lambda: list((site.scratch / "r/work").glob("*/disk/root/left")), what="the script's end")
    runner()
    ended = site.ended(execution)
    assert (ended.status, ended.files) == ("succeeded", {"left": b"done"})
    assert whole(ended.out)


def test_term_drains_and_a_second_one_leaves_work_to_a_successor(site: Any, runner: Any) -> None:
    """A drained runner takes no work; told twice, it goes and its script stays."""
    first = runner()
    execution = started(site, flag := site.scratch / "flag")
    first.terminate()
    until(lambda: "Draining" in (site.scratch / "r.log").read_text(), what="the drain")
    waiting = site.submit("print(1)")["first_execution_id"]
    first.send_signal(signal.SIGTERM)
    assert first.wait(15) == 0
    assert site.get(f"/v1/executions/{waiting}")["status"] == "queued"
    runner()
    assert site.ended(waiting).status == "succeeded"
    flag.touch()
    assert whole(site.ended(execution).out)


def test_a_drained_runner_ends_by_itself(site: Any, runner: Any) -> None:
    """SIGTERM lets the running script end, delivers it, and exits with 0."""
    first = runner()
    execution = started(site, flag := site.scratch / "flag")
    first.terminate()
    flag.touch()
    assert first.wait(20) == 0
    assert site.ended(execution).status == "succeeded"
    assert list((site.scratch / "r/work").iterdir()) == []
    assert list((site.scratch / "r/attempts").iterdir()) == []


def test_a_lost_runners_work_runs_elsewhere_and_its_own_is_forgotten(site: Any, runner: Any) -> None:
    """A frozen agent's attempt is stale when it comes back: killed, not reported, its directory gone."""
    first = runner("a")
    execution = started(site, flag := site.scratch / "flag")
    first.send_signal(signal.SIGSTOP)
    runner("b")
    until(lambda: site.get(f"/v1/executions/{execution}")["attempt"] == 2, seconds=30, what="the second attempt")
    first.send_signal(signal.SIGCONT)
    until(lambda: not list((site.scratch / "a/work").iterdir()), seconds=20, what="the first attempt's removal")
    flag.touch()
    ended = site.ended(execution)
    assert (ended.status, ended.view["attempt"]) == ("succeeded", 2)
    assert whole(ended.out)


def test_the_api_may_stop_for_a_while(site: Any, runner: Any) -> None:
    """Without an API the script freezes when its lease is in doubt; later it goes on where it stood."""
    runner()
    execution = started(site, flag := site.scratch / "flag")
    site.api.send_signal(signal.SIGSTOP)
    try:
        until(lambda: "T" in script_states(site.scratch / "r/work"), seconds=15, what="the freeze")
    finally:
        site.api.send_signal(signal.SIGCONT)
    flag.touch()
    ended = site.ended(execution)
    assert (ended.status, ended.view["attempt"]) == ("succeeded", 1)
    assert whole(ended.out)


def script_states(work: Path) -> set[str]:
    """The states of all processes that work below ``work``, as /proc spells them (T: stopped)."""
    states = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(work):
                states.add((process / "stat").read_text().rpartition(")")[2].split()[0])
        except OSError:
            continue  # it ended meanwhile
    return states


def test_work_that_had_not_started_is_given_back(site: Any, runner: Any) -> None:
    """An agent that dies while it prepares costs a retry, not a lease."""
    first = runner()
    execution = started(site, flag := site.scratch / "flag")
    first.kill()
    first.wait()
    for path in (site.scratch / "r/backend").rglob("runs/*"):
        path.unlink()
    flag.touch()
    runner()
    ended = site.ended(execution)
    assert (ended.status, ended.view["attempt"]) == ("succeeded", 2)


def test_two_agents_never_share_a_directory(site: Any, runner: Any) -> None:
    """The second is refused with what to do."""
    runner()
    until(lambda: (site.scratch / "r.log").exists() and "ready" in (site.scratch / "r.log").read_text())
    assert runner().wait(10) == 2
    assert "Another runner works in" in (site.scratch / "r.log").read_text()


def test_a_wrong_token_is_said_and_not_retried(site: Any, runner: Any) -> None:
    """Exit code 4: not authorised."""
    assert runner(RGRID_RUNNER_TOKEN="rgt_wrong").wait(10) == 4
