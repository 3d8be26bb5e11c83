"""What a keeper is told, and what shims and agents say of containers."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rgrid_runner.backends import spool
from rgrid_runner.containers import inside
from rgrid_runner.shim import frames, orders
from rgrid_runner.shim.order import Order
from rgrid_runner.shim.place import Place

TEXT = st.binary(max_size=30).map(lambda data: data.replace(b"\0", b"0"))
ARGV = st.lists(TEXT, min_size=1, max_size=5)
ENV = st.dictionaries(st.from_regex(rb"[A-Z_]{1,5}", fullmatch=True), TEXT, max_size=5)


def order(argv: list[bytes], env: dict[bytes, bytes], *, cwd: bytes = b"/w", stdin: bytes = b"") -> Order:
    return Order(
        key=b"exe_1.1", spool=b"/s", cwd=cwd, stdin=stdin, lease_ms=0, timeout_ms=0, grace_ms=0, lost_after_ms=0,
        memory=0, log_limit=0, argv=argv, env=env,
    )  # fmt: skip


@pytest.fixture(scope="module")
def keeper() -> ModuleType:
    """The program that runs as PID 1, as a module."""
    spec = importlib.util.spec_from_file_location("keeper", Path(inside.__file__).with_name("keeper.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@given(argv=ARGV, env=ENV, cwd=TEXT, fed=st.booleans(), warm=st.booleans())
def test_the_keeper_reads_what_the_shim_wrote(
    keeper: ModuleType, argv: list[bytes], env: dict[bytes, bytes], cwd: bytes, fed: bool, warm: bool
) -> None:
    """Arguments and environment come through byte for byte, and so does what goes with them."""
    sent = order(argv, env, cwd=cwd, stdin=b"|" if fed else b"")
    read = keeper.Order(orders.for_python(sent, warm=warm))
    assert (read.argv, read.env, read.cwd) == (argv, env, cwd)
    assert read.stdin == (b"/rgrid/ctl/in" if fed else b"/dev/null")
    assert read._warm == warm


@settings(max_examples=30, deadline=None)
@given(argv=ARGV, env=ENV)
def test_the_shell_reads_what_the_shim_wrote(
    tmp_path_factory: pytest.TempPathFactory, argv: list[bytes], env: dict[bytes, bytes]
) -> None:
    """Nothing in an argument or a variable is taken for shell."""
    path = tmp_path_factory.mktemp("order") / "order"
    show = [b"/usr/bin/python3", b"-c", b"import os, sys; os.write(1, b'\\0'.join(map(os.fsencode, sys.argv[1:])))"]
    path.write_bytes(orders.for_shell(order([*show, *argv], env | {b"PATH": b"/usr/bin"})))
    done = subprocess.run(("sh", "-c", f". {path}; run"), capture_output=True, check=True)
    assert done.stdout == b"\0".join(argv)
    path.write_bytes(orders.for_shell(order([b"/usr/bin/env", b"-0"], env)))
    done = subprocess.run(("sh", "-c", f". {path}; run"), capture_output=True, check=True)
    assert set(done.stdout.split(b"\0")[:-1]) == {name + b"=" + value for name, value in env.items()}


@pytest.mark.parametrize(
    ("argv", "env", "may"),
    [
        ([b"/opt/bin/python3.11", b"x.py", b"-O"], {b"PYTHONUNBUFFERED": b"1"}, True),
        ([b"python", b"-m", b"tool"], {}, True),
        ([b"python", b"-m"], {}, False),
        ([b"python", b"-O", b"x.py"], {}, False),
        ([b"python", b"-"], {}, False),
        ([b"python"], {}, False),
        ([b"node", b"x.js"], {}, False),
        ([b"python", b"x.py"], {b"PYTHONPATH": b""}, False),
    ],
)
def test_who_may_be_forked(keeper: ModuleType, argv: list[bytes], env: dict[bytes, bytes], may: bool) -> None:
    """Only a Python script or module whose command line and environment say nothing special to the interpreter."""
    assert keeper.Order(orders.for_python(order(argv, env), warm=True)).may_be_warm() == may
    assert not keeper.Order(orders.for_python(order(argv, env), warm=False)).may_be_warm()


def test_who_may_share_an_interpreter(keeper: ModuleType) -> None:
    """Arguments and rgrid's own variables may differ; script, module, directory, stdin and environment may not."""

    def read(*argv: bytes, env: dict[bytes, bytes], **changes: bytes) -> object:
        return keeper.Order(orders.for_python(order([b"python", *argv], env, **changes), warm=True))

    one = read(b"x.py", b"a", env={b"A": b"1", b"RGRID_ATTEMPT": b"1"})
    assert one.starts_like(read(b"x.py", b"b", b"c", env={b"A": b"1", b"RGRID_ATTEMPT": b"2"}))  # type: ignore[attr-defined]
    others = (
        read(b"y.py", b"a", env={b"A": b"1"}),
        read(b"x.py", env={b"A": b"2"}),
        read(b"x.py", env={b"A": b"1"}, cwd=b"/v"),
        read(b"x.py", env={b"A": b"1"}, stdin=b"|"),
        read(b"-m", b"x.py", env={b"A": b"1"}),
    )
    assert not any(one.starts_like(other) for other in others)  # type: ignore[attr-defined]


@given(
    st.lists(st.tuples(TEXT, TEXT, st.booleans()), max_size=4),
    st.tuples(*[st.integers(0, 2**50)] * 5),
    st.tuples(st.booleans(), st.booleans()),
    ARGV,
)
def test_a_place_survives_the_socket(
    mounts: list[tuple[bytes, bytes, bool]],
    numbers: tuple[int, int, int, int, int],
    flags: tuple[bool, bool],
    rest: list[bytes],
) -> None:
    """The shim reads the container that the agent wrote, and the order behind it."""
    keeper, tmp, shm, pids, cpu_millis = numbers
    sent = Place(
        name=b"id", control=b"/c", keeper=keeper, root=b"/r", mounts=mounts, tmp=tmp, shm=shm, pids=pids,
        cpu_millis=cpu_millis, warm=flags[0], shell=flags[1],
    )  # fmt: skip
    read, behind = Place.read([*sent.fields(), *rest])
    assert vars(read) == vars(sent)
    assert behind == rest


def test_an_identity_with_and_without_a_container(tmp_path: Path) -> None:
    """What a shim of an earlier version wrote is still read; a container is known by its own fields."""
    plain = [b"boot", b"1", b"2", b"3", b"4", b"5000000000", b"RGRID_ATTEMPT=1"]
    path = tmp_path / frames.RUN_FILE
    path.write_bytes(frames.pack(frames.RUN, 0, *plain))
    identity = spool.read_identity(tmp_path)
    assert identity is not None
    assert (identity.marks, identity.container) == ((b"RGRID_ATTEMPT=1",), None)
    path.write_bytes(frames.pack(frames.RUN, 0, *plain, b"", b"4f1e", b"/c", b"77", b"99", b"/sys/x"))
    identity = spool.read_identity(tmp_path)
    assert identity is not None
    assert identity.marks == (b"RGRID_ATTEMPT=1",)
    assert identity.container == spool.Container("4f1e", Path("/c"), (77, 99), Path("/sys/x"))


def test_a_status_of_an_earlier_shim_is_read(tmp_path: Path) -> None:
    """Fields that came later are missing in it: nothing read, nothing written, nothing to use again."""
    old = [b"0", b"0", b"1000", b"2000", b"1", b"3", b"4096", b"0", b"0", b"0", b"0", b"", b"tail"]
    end = spool.exit_of(tmp_path, old)
    assert (end.failure, end.read_bytes, end.written_bytes, end.stderr_tail) == (None, 0, 0, "tail")
    assert not spool.reusable(old)
    new = [*old, b"1", b"10", b"20", b"0"]
    end = spool.exit_of(tmp_path, new)
    assert (end.read_bytes, end.written_bytes, spool.reusable(new)) == (10, 20, True)
