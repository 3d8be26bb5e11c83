"""The small pure parts of the control plane."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.control_plane import spec

from rgrid_api import auth, cursors
from rgrid_api.activity import UseClock, counts_as_use
from rgrid_api.batches.selectors import parse_indexes
from rgrid_api.batches.shapes import Host, check_satisfiable, hold_sentence, shape_of
from rgrid_api.error_handlers import field_path
from rgrid_api.executions.why import Facts, why
from rgrid_api.new_ids import new_id, new_ids
from rgrid_api.times import from_wire, to_wire
from rgrid_api.vault import Vault, new_secret_key
from rgrid_shared.errors import Internal, InvalidRequest, NotAuthorised, Unsatisfiable
from rgrid_shared.ids import Kind, is_whole
from rgrid_shared.protocol import Gpu
from rgrid_shared.specs import NO_RESOURCES, Resources
from rgrid_shared.states import FailureClass, Phase, Status

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
GIB = 1 << 30


def test_ids_sort_as_they_were_made() -> None:
    """Ids made together are distinct, whole, and in ascending order."""
    ids = new_ids(Kind.EXECUTION, 5_000)
    assert ids == sorted(set(ids))
    assert all(is_whole(one, Kind.EXECUTION) for one in ids)
    assert is_whole(new_id(Kind.BATCH), Kind.BATCH)


@given(st.dictionaries(st.text(), st.text(st.characters(exclude_categories=["Cs"]))))
def test_vault_gives_back_what_it_sealed(values: dict[str, str]) -> None:
    """Any environment comes back as it was, from any vault with the same key."""
    key = new_secret_key()
    assert Vault(key).open(Vault(key).seal(values)) == values


def test_vault_refuses_others() -> None:
    """Sealed bytes open only unchanged and only with their key; an unusable key is refused at once."""
    sealed = Vault(new_secret_key()).seal({"TOKEN": "hunter2"})
    assert b"hunter2" not in sealed
    for bad in (sealed, sealed[:-1], b"\x02" + sealed[1:], b""):
        with pytest.raises(Internal, match="cannot be decrypted"):
            Vault(new_secret_key()).open(bad)
    with pytest.raises(ValueError, match="32 bytes"):
        Vault("dG9vIHNob3J0")


def test_fingerprints_need_the_key() -> None:
    """Equal data has equal fingerprints under one key and others under another."""
    vault = Vault(new_secret_key())
    assert vault.fingerprint(b"x") == vault.fingerprint(b"x") != vault.fingerprint(b"y")
    assert Vault(new_secret_key()).fingerprint(b"x") != vault.fingerprint(b"x")


def test_cursors_come_back() -> None:
    """A cursor gives its sort key back."""
    assert cursors.decode(cursors.encode(7, "exe_1"), (int, str)) == [7, "exe_1"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "!!!", "é", "W10", "e30"),
        *(cursors.encode(*key) for key in [("a",), (1, "a", "b"), ("a", 1), (2**40, "a"), (1, "\0")]),
    ],
)
def test_other_cursors_are_refused(text: str) -> None:
    """What no page gave is refused, whatever it is."""
    with pytest.raises(InvalidRequest, match="cursor"):
        cursors.decode(text, (int, str))


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (None, "no key was sent"),
        ("", "no key was sent"),
        ("Basic abc", "not of the form"),
        ("Bearer ", "not a key"),
        ("Bearer nonsense", "not a key"),
        (f"Bearer {auth.new_secret(auth.TOKEN_PREFIX)}", "runner token opens no user routes"),
        (f"Bearer rgr_{'é' * 40}", "not a key"),
    ],
)
def test_headers_without_a_key(header: str | None, says: str) -> None:
    """Every bad header is refused with the way to log in, and never repeated."""
    with pytest.raises(NotAuthorised, match=says) as refusal:
        auth.bearer(header, auth.KEY_PREFIX)
    assert refusal.value.hint == "rgrid login"
    assert header is None or len(header) < 10 or header not in refusal.value.message


def test_secrets_have_their_form() -> None:
    """A new secret is its prefix and 40 url-safe characters, and no two are the same."""
    secret = auth.new_secret(auth.KEY_PREFIX)
    assert auth.well_formed(secret, auth.KEY_PREFIX)
    assert secret != auth.new_secret(auth.KEY_PREFIX)
    assert auth.bearer(f"bearer {secret}", auth.KEY_PREFIX) == auth.hash_of(secret)


def test_times_on_the_wire() -> None:
    """Times go out in UTC with microseconds and come back the same; anything without a zone is refused."""
    assert to_wire(NOW) == "2026-01-02T03:04:05.000006Z"
    assert from_wire("2026-01-02T04:04:05.000006+01:00", "since") == NOW
    for text in ("yesterday", "2026-01-02", "2026-01-02T03:04:05"):
        with pytest.raises(InvalidRequest, match="since is not a time"):
            from_wire(text, "since")


def test_selectors() -> None:
    """``1,3-5`` names items 1, 3, 4 and 5; what is unclear is refused."""
    assert parse_indexes("1,3-5") == [(1, 1), (3, 5)]
    for text in ("", "a", "5-3", "1,,2", "-1", "1-2-3"):
        with pytest.raises(InvalidRequest, match="index"):
            parse_indexes(text)


def test_fields_in_words() -> None:
    """A fault is found by the path of its field, without the validator's own words."""
    assert field_path(("body", "items", 3, "args", 0, "PathArg", "path")) == "items[3].args[0].path"
    assert field_path(("query", "limit")) == "query parameter limit"
    assert field_path(("body",)) == "the body"


def test_what_counts_as_use() -> None:
    """Users' requests keep a grid alive; runners, health checks and the question itself do not."""
    used = [("POST", "/v1/batches"), ("GET", "/v1/runners"), ("GET", "/v1/batches/last/follow")]
    unused = [("GET", "/healthz"), ("GET", "/v1/activity"), ("POST", "/v1/runners"), ("POST", "/v1/runners/r/poll")]
    assert all(counts_as_use(*request) for request in used)
    assert not any(counts_as_use(*request) for request in unused)


def test_open_requests_are_use() -> None:
    """While a user's request is open, the grid is not idle."""
    clock = UseClock()
    clock.begin()
    assert clock.idle_s() == 0.0
    clock.end(refused=False)
    assert clock.idle_s() > 0.0


def needs(**changes: object) -> Resources:
    return {**NO_RESOURCES, "labels": {}, **changes}  # type: ignore[typeddict-item]


def host(*gpus: Gpu, runtime: str = "python3.11", labels: dict[str, str] | None = None) -> Host:
    return Host(
        runtimes={runtime: "1"},
        labels=labels or {},
        resources={"cpu_millis": 4000, "memory": 8 * GIB, "disk": 100 * GIB, "gpus": list(gpus)},
    )


A100: Gpu = {"index": 0, "model": "NVIDIA A100-SXM4-40GB", "memory": 40 * GIB}


@pytest.mark.parametrize(
    ("wanted", "hosts", "says"),
    [
        (needs(), [host()], ""),
        (needs(), [], "No runner is online"),
        (needs(), [host(runtime="node20")], "offers runtime python3.11 (they offer node20)"),
        (needs(), [host(runtime="node20"), host()], ""),
        (needs(cpu_millis=4000, memory=8 * GIB), [host()], ""),
        (needs(cpu_millis=64_000), [host()], "has 64 CPUs"),
        (needs(memory=64 * GIB), [host()], "has 64 GiB of memory"),
        (needs(gpus=1), [host()], "has 1 GPU"),
        (needs(gpus=1, gpu_model="a100", gpu_memory=40 * GIB), [host(A100)], ""),
        (needs(gpus=2, gpu_model="A100"), [host(A100)], "has 2 A100 GPUs"),
        (needs(gpu_memory=80 * GIB), [host(A100)], "has 1 GPU with 80 GiB"),
        (needs(gpu_model="A10"), [host(A100)], "No runner of this grid has 1 A10 GPU."),
        (needs(gpus=2, memory=9 * GIB), [host(), host(A100)], "grid has 9 GiB of memory; none has 2 GPUs."),
        (needs(gpus=2), [host(runtime="node20"), host(A100)], "No runner of this grid has 2 GPUs."),
        (needs(labels={"zone": "b"}), [host(labels={"zone": "a"})], "label zone=b"),
        (needs(labels={"zone": "a"}, gpus=1), [host(labels={"zone": "a"}), host(A100)], "all that it needs"),
    ],
)
def test_hold(wanted: Resources, hosts: list[Host], says: str) -> None:
    """What no runner can ever run is said, and what one can run is not held."""
    sentence = hold_sentence("python3.11", wanted, hosts)
    assert says in sentence
    assert bool(says) is bool(sentence)


def test_what_nobody_can_run_is_refused() -> None:
    """The refusal names the need and what the nearest runner has; whoever is away counts as long as it may return."""
    wanted = needs(gpus=2, gpu_model="A100", memory=4 * GIB)
    away = host(A100, {**A100, "index": 1})
    with pytest.raises(Unsatisfiable, match="No runner of this grid has 2 A100 GPUs") as refusal:
        check_satisfiable("python3.11", wanted, [host(runtime="node20"), host(A100)], [host()])
    assert "1 × NVIDIA A100-SXM4-40GB" in refusal.value.hint
    assert "4 CPUs, 8 GiB of memory" in refusal.value.hint
    assert refusal.value.exit_code == 2
    check_satisfiable("python3.11", wanted, [host(A100)], [away])
    check_satisfiable("python3.11", wanted, [host(A100), away], [])
    check_satisfiable("python3.11", wanted, [], [host()])


def test_shapes_differ_by_need_alone() -> None:
    """What a host must have decides the shape; nothing else does."""
    base = shape_of(spec())
    assert shape_of(spec(root="/elsewhere", timeout_s=5.0)) == base
    assert shape_of(spec(runtime="node20")) != base
    assert shape_of(spec(resources=needs(gpus=1))) != base
    assert shape_of(spec(resources=needs(labels={"a": "1", "b": "2"}))) == shape_of(
        spec(resources=needs(labels={"b": "2", "a": "1"}))
    )


def facts(status: Status, **changes: object) -> Facts:
    base = {
        "status": status,
        "phase": "",
        "attempt": 1,
        "failure": None,
        "exit_code": None,
        "runner": "",
        "not_before": None,
        "cancel_requested": False,
        "retries": 0,
        "sealed": True,
        "paused": False,
        "parallel": None,
        "canary": None,
        "index": 0,
    }
    return Facts(**{**base, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given_facts", "says"),
    [
        (facts(Status.SUCCEEDED, exit_code=0), "exited with 0"),
        (facts(Status.FAILED, failure=FailureClass.SCRIPT, exit_code=3), "exited with 3"),
        (facts(Status.FAILED, failure=FailureClass.RUNNER_LOST, attempt=6), "tried 6 times"),
        (facts(Status.TIMED_OUT, failure=FailureClass.TIMEOUT), "time limit"),
        (facts(Status.RUNNING, phase=Phase.PREPARING, runner="box"), "prepared on box"),
        (facts(Status.RUNNING, phase=Phase.DELIVERING, runner="box"), "outputs are being stored"),
        (facts(Status.RUNNING, phase=Phase.RUNNING, cancel_requested=True), "was cancelled"),
        (facts(Status.QUEUED, hold="No runner of this grid has 64 CPUs."), "64 CPUs"),
        (facts(Status.QUEUED), "next runner"),
        (facts(Status.PENDING, sealed=False), "rest of the batch"),
        (facts(Status.PENDING, paused=True), "paused"),
        (facts(Status.PENDING, not_before=NOW + timedelta(seconds=9), retries=1), "again in 9 s"),
        (facts(Status.PENDING, canary=2, index=5), "first 2 items"),
        (facts(Status.PENDING, parallel=4), "4 of this batch"),
        (facts(Status.PENDING), "Next in line"),
    ],
)
def test_why(given_facts: Facts, says: str) -> None:
    """Every state has its reason, in one sentence."""
    sentence = why(given_facts, NOW)
    assert says in sentence
    assert sentence.endswith(".")
