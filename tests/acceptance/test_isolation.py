"""What a script in a container cannot do: to the host, to its neighbours, to the next item of its batch.

Every test runs hostile scripts through the Docker backend itself, on a real engine, with the network and the disks that
a runner has. A script tells what came of each try; only an error counts as refused, and only the right one: an attempt
that fails for a slip of its own would prove nothing.
"""

from __future__ import annotations

import errno
import json
import secrets
import subprocess
from pathlib import Path

import pytest
from support.ward import MIB, PLACE, Ward, service

pytestmark = pytest.mark.asyncio(loop_scope="module")

REFUSED = {errno.EPERM, errno.EACCES, errno.EROFS, errno.ENOSYS}
TRY = """
import ctypes, errno, json, os, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
NUMBERS = dict(zip(("x86_64", "aarch64"), (0, 1)))[os.uname().machine]
outcome = {}
def call(name, *arguments):
    ctypes.set_errno(0)
    done = getattr(libc, name)(*arguments)
    outcome[f"{name}{arguments}"] = ctypes.get_errno() if done == -1 else 0
def kernel(name, numbers, *arguments):
    ctypes.set_errno(0)
    done = libc.syscall(numbers[NUMBERS], *arguments)
    outcome[name] = ctypes.get_errno() if done == -1 else 0
def attempt(name, do, *arguments):
    try:
        do(*arguments)
        outcome[name] = 0
    except OSError as error:
        outcome[name] = error.errno
def write(path, text="1"):
    def do():
        line = os.open(path, os.O_WRONLY)
        try:
            os.write(line, text.encode())
        finally:
            os.close(line)
    attempt(f"write {path}", do)
def tell():
    print(json.dumps(outcome))
"""


def refused(outcome: dict[str, int], also: frozenset[int] = frozenset()) -> dict[str, str]:
    """What was not refused, with the error that it got instead."""
    return {name: errno.errorcode.get(code, "done") for name, code in outcome.items() if code not in REFUSED | also}


async def test_a_script_has_no_power_over_the_kernel(ward: Ward) -> None:
    """Mounts, devices, modules, namespaces, tracing, keys, clocks: the kernel refuses each because it may not."""
    outcome = await ward.says(
        TRY
        + """
b = lambda text: text.encode()
call("mount", b("none"), b("/tmp"), b("tmpfs"), 0, None)
call("mount", b("/home"), b("/tmp"), None, 4096, None)
call("mount", None, b("/"), None, 32, None)
call("mount", None, b("/opt/rgrid/layer"), None, 32 | 4096, None)
call("mount", b("proc"), b("/tmp"), b("proc"), 0, None)
call("umount2", b("/tmp"), 2)
call("umount2", b("/proc/sys"), 2)
call("chroot", b("/tmp"))
call("sethostname", b("x"), 1)
call("swapon", b("/tmp/x"), 0)
call("iopl", 3) if hasattr(libc, "iopl") else None
call("setns", os.open("/proc/self/ns/net", os.O_RDONLY), 0)
for flag in (0x20000, 0x10000000, 0x40000000, 0x8000000, 0x2000000):
    call("unshare", flag)
kernel("pivot_root", (155, 41), b("/tmp"), b("/tmp"))
kernel("open_tree", (428, 428), -100, b("/"), 1)
kernel("fsopen", (430, 430), b("tmpfs"), 0)
kernel("move_mount", (429, 429), -100, b("/tmp"), -100, b("/home"), 0)
kernel("init_module", (175, 105), None, 0, None)
kernel("delete_module", (176, 106), b("x"), 0)
kernel("kexec_load", (246, 104), 0, 0, None, 0)
kernel("bpf", (321, 280), 0, None, 0)
kernel("perf_event_open", (298, 241), None, 0, -1, -1, 0)
kernel("userfaultfd", (323, 282), 0)
kernel("keyctl", (250, 219), 0, -3, 1)
kernel("add_key", (248, 217), b("user"), b("a"), b("b"), 1, -3)
kernel("request_key", (249, 218), b("user"), b("a"), None, -3)
kernel("open_by_handle_at", (304, 265), -100, None, 0)
kernel("quotactl", (179, 60), 0, None, 0, None)
kernel("acct", (163, 89), None)
kernel("syslog", (103, 116), 3, None, 0)
kernel("settimeofday", (164, 170), ctypes.byref((ctypes.c_long * 2)(1, 0)), None)
kernel("clock_settime", (227, 112), 0, ctypes.byref((ctypes.c_long * 2)(1, 0)))
kernel("clone with a user namespace", (56, 220), 0x10000000 | 17, None, None, None, None)
kernel("process_vm_readv of the keeper", (310, 270), 1, ctypes.byref((ctypes.c_long * 2)()), 1,
       ctypes.byref((ctypes.c_long * 2)()), 1, 0)
call("ptrace", 16, 1, None, None)
call("ptrace", 0x4206, 1, None, None)
attempt("mknod block", os.mknod, "disk", 0o60666, os.makedev(7, 0))
attempt("mknod char", os.mknod, "/tmp/mem", 0o20666, os.makedev(1, 1))
attempt("raw socket", socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
attempt("raw socket of IPv6", socket.socket, socket.AF_INET6, socket.SOCK_RAW, 58)
attempt("packet socket", socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 3)
attempt("setuid", os.setuid, 0)
attempt("setgid", os.setgid, 0)
attempt("setgroups", os.setgroups, [0])
attempt("chown to root", os.chown, ".", 0, 0)
attempt("nice", os.nice, -5)
attempt("real time", os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1))
tell()
"""
    )
    assert len(outcome) > 45
    assert refused(outcome) == {}


async def test_a_script_changes_nothing_but_its_own_places(ward: Ward, tmp_path: Path) -> None:
    """Kernel settings, its own limits, the image, the layer and what holds it up are read-only or closed."""
    (tmp_path / "module.py").write_text("x = 1\n")
    (tmp_path / "module.py").chmod(0o666)  # only the mount keeps it from being written
    tmp_path.chmod(0o777)
    outcome = await ward.says(
        TRY
        + """
for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/vm/overcommit_memory", "/proc/sys/net/ipv4/ip_forward",
             "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity", "/sys/kernel/mm/transparent_hugepage/enabled",
             "/opt/rgrid/layer/module.py", "/etc/passwd", "/usr/bin/python3", "/rgrid/lib/keeper.py"):
    write(path)
write("/proc/self/oom_score_adj", "-1000")
write("/proc/1/oom_score_adj", "1000")
for directory, _, files in os.walk("/sys/fs/cgroup"):
    for file in files:
        if file in ("memory.limit_in_bytes", "memory.max", "cpu.cfs_quota_us", "cpu.max", "pids.max", "cgroup.procs",
                    "freezer.state", "cgroup.freeze", "release_agent", "devices.allow"):
            write(f"{directory}/{file}")
for place in ("/", "/etc", "/rgrid", "/rgrid/ctl", "/rgrid/lib", "/opt/rgrid/layer", "/opt", "/home", "/var/tmp", "/run",
              "/dev"):
    if os.path.isdir(place):
        attempt(f"create in {place}", os.mkdir, f"{place}/new")
for name in ("go", "status", "out", "err", "in"):
    attempt(f"remove {name}", os.unlink, f"/rgrid/ctl/{name}")
    attempt(f"replace {name}", os.rename, "/tmp", f"/rgrid/ctl/{name}")
attempt("hold go open", os.open, "/rgrid/ctl/go", os.O_WRONLY | os.O_NONBLOCK)
attempt("remove from the layer", os.unlink, "/opt/rgrid/layer/module.py")
attempt("chmod of the layer", os.chmod, "/opt/rgrid/layer/module.py", 0o777)
for name in ("environ", "mem", "maps", "stack", "syscall", "auxv"):
    attempt(f"read the keeper's {name}", open, f"/proc/1/{name}", "rb")
for name in ("cwd", "root", "exe", "ns/mnt", "fd/0"):
    attempt(f"follow the keeper's {name}", os.readlink, f"/proc/1/{name}")
tell()
""",
        layer=tmp_path,
    )
    assert len(outcome) > 40
    # A rename over a FIFO of another mount is refused for crossing mounts before anything else is looked at.
    assert refused(outcome, also=frozenset({errno.EXDEV, errno.ENOENT})) == {}
    assert (tmp_path / "module.py").read_text() == "x = 1\n"


async def test_privileges_cannot_be_gained(ward: Ward) -> None:
    """No capability is left in any set, set-uid programs gain nothing, and system calls are filtered."""
    status = await ward.says(
        "import json\nprint(json.dumps(dict(line.strip().split(':\\t', 1) for line in open('/proc/self/status'))))"
    )
    assert {name: int(status[name], 16) for name in status if name.startswith("Cap")} == {
        "CapInh": 0,
        "CapPrm": 0,
        "CapEff": 0,
        "CapBnd": 0,
        "CapAmb": 0,
    }
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert set(status["Uid"].split()) | set(status["Gid"].split()) == {"10001"}
    assert set(status.get("Groups", "").split()) <= {"10001"}


async def test_only_harmless_devices_are_there(ward: Ward) -> None:
    """No disk, no memory, no kernel log, no terminal of the host; masked files say nothing."""
    found = await ward.says(
        """
import json, stat
devices = []
for name in sorted(os.listdir("/dev")):
    mode = os.stat(f"/dev/{name}").st_mode if os.path.exists(f"/dev/{name}") else 0
    if stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
        devices.append(name)
said = {}
for path in ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug"):
    try:
        said[path] = len(open(path, "rb").read(16))
    except OSError:
        said[path] = 0
print(json.dumps({"devices": devices, "said": said}))
"""
    )
    harmless = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console", "stdin", "stdout", "stderr"}
    assert set(found["devices"]) <= harmless
    assert set(found["said"].values()) == {0}


async def test_nothing_of_the_host_is_to_be_found(ward: Ward) -> None:
    """No Docker socket, no runner's directory, no token, no path of the host, no other's process."""
    found = await ward.says(
        """
import json, stat
sockets = []
for directory, folders, files in os.walk("/"):
    if directory in ("/proc", "/sys"):
        folders.clear()
    for name in files:
        path = os.path.join(directory, name)
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            sockets.append(path)
print(json.dumps({
    "sockets": sockets,
    "docker": [path for path in ("/var/run/docker.sock", "/run/docker.sock", "/run/containerd") if os.path.exists(path)],
    "directory": os.path.exists(sys.argv[1]),
    "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
    "me": os.getpid(),
    "environment": dict(os.environ),
}))
""",
        str(ward.directory),
    )
    assert found["sockets"] == []
    assert found["docker"] == []
    assert found["directory"] is False
    assert found["processes"] == [1, found["me"]]
    assert set(found["environment"]) <= {"PATH", "SECRET", "LC_CTYPE"}


async def test_another_runs_workspace_and_layer_are_out_of_reach(ward: Ward, tmp_path: Path) -> None:
    """Two runs at the same time, even of one batch: no file, process or name of one is to be found by the other."""
    mark = f"mark-{secrets.token_hex(8)}"
    (tmp_path / mark).write_text("a layer")
    tmp_path.chmod(0o755)
    other = await ward.start(
        f"open('{mark}', 'w').close()\nopen('/tmp/{mark}', 'w').close()\nopen('/dev/shm/{mark}', 'w').close()\n"
        "print('up', flush=True)\nimport time\nwhile not os.path.exists('stop'): time.sleep(0.02)",
        batch="both",
        layer=tmp_path,
        place=f"/home/alice/{mark}",
        env={"PATH": "/usr/bin:/bin", "SECRET": mark},
    )
    assert await ward.up(other) == "up"
    found = await ward.says(
        """
import json
mark, found = sys.argv[1], []
for directory, folders, files in os.walk("/"):
    if directory == "/sys":
        folders.clear()
    found += [os.path.join(directory, name) for name in folders + files if mark in name]
for pid in filter(str.isdigit, os.listdir("/proc")):
    for name in ("environ", "cmdline"):
        try:
            if int(pid) != os.getpid() and mark in open(f"/proc/{pid}/{name}").read():
                found.append(f"/proc/{pid}/{name}")
        except OSError:
            pass
print(json.dumps(found))
""",
        mark,
        batch="both",
    )
    (ward.workspace(other) / "stop").touch()
    ended, _, err = await ward.end(other)
    assert ended.failure is None, err
    assert found == []


async def test_the_network_leads_to_public_addresses_alone(ward: Ward) -> None:
    """Metadata, the gateway, this host's services by any address, and a sibling: refused, each within two seconds."""
    listening = await ward.start(
        "import socket, json\n"
        "server = socket.create_server(('0.0.0.0', 8000)); server.settimeout(0.05)\n"
        "probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); probe.connect(('1.1.1.1', 1))\n"
        "print(probe.getsockname()[0], flush=True)\n"
        "came = 0\n"
        "while not os.path.exists('stop'):\n"
        "    try: server.accept(); came += 1\n"
        "    except TimeoutError: pass\n"
        "print(came)",
        network=True,
    )
    sibling = await ward.up(listening)
    gateway = sibling.rpartition(".")[0] + ".1"
    told = json.loads(subprocess.check_output(["ip", "-json", "-4", "address"], text=True))
    mine = [address["local"] for interface in told for address in interface["addr_info"]]
    with service() as port:
        asked = [("169.254.169.254", 80), (sibling, 8000), ("10.0.0.1", 443), ("192.168.0.1", 443)]
        asked += [(address, port) for address in {*mine, gateway} if not address.startswith("127.")]
        said = await ward.says(
            """
import json, socket, time
said = []
for host, port in json.loads(sys.argv[1]):
    started = time.monotonic()
    try:
        socket.create_connection((host, port), 5).close()
        said.append([host, port, 0, time.monotonic() - started])
    except OSError as error:
        said.append([host, port, error.errno or -1, time.monotonic() - started])
print(json.dumps(said))
""",
            json.dumps(asked),
            network=True,
        )
    (ward.workspace(listening) / "stop").touch()
    _, out, _ = await ward.end(listening)
    assert out.split()[-1] == "0"
    assert len(said) >= 6
    for host, port, code, seconds in said:
        assert code > 0, (host, port)
        assert seconds < 2, (host, port, seconds)


async def test_without_a_network_there_is_none(ward: Ward) -> None:
    """--no-network: one interface, loopback."""
    said = await ward.says("import json, socket\nprint(json.dumps([name for _, name in socket.if_nameindex()]))")
    assert "lo" in said
    assert not [name for name in said if name.startswith(("eth", "en", "docker"))]


async def test_nothing_of_an_item_is_left_for_the_next_of_its_batch(ward: Ward) -> None:
    """In the same container: no file in /tmp, /dev/shm or the home directory, and a memory peak of its own."""
    first, out, err = await ward.run(
        """
import json, mmap
for place in ("/tmp", "/dev/shm", "."):
    os.makedirs(f"{place}/a/b")
    open(f"{place}/a/b/file", "w").write("x")
    os.chmod(f"{place}/a", 0)
    os.symlink("/etc/passwd", f"{place}/.hidden")
block = bytearray(120 << 20)
print(json.dumps(os.uname().nodename))
""",
        batch="one-after-another",
    )
    assert first.failure is None, err
    found = await ward.says(
        """
import json
print(json.dumps([os.uname().nodename, os.listdir("/tmp"), os.listdir("/dev/shm"), os.listdir("."),
                  sorted(int(name) for name in os.listdir("/proc") if name.isdigit()), os.getpid()]))
""",
        batch="one-after-another",
    )
    second, _, _ = await ward.run("pass", batch="one-after-another")
    container, tmp, shm, here, processes, me = found
    assert container == json.loads(out), "it was not the same container: this test shows nothing"
    assert (tmp, shm, here) == ([], [], [])
    assert processes == [1, me]
    assert first.max_rss >= 100 * MIB
    assert second.max_rss < 60 * MIB


async def test_a_warm_interpreter_carries_nothing_over(ward: Ward, tmp_path: Path) -> None:
    """Items that are forked from one interpreter: modules, variables, files, processes and memory are each one's own."""
    tmp_path.chmod(0o755)
    (tmp_path / "first.py").write_text(
        "import builtins, os, sys\n"
        "builtins.left = sys.left = 'here'\nsys.modules['left'] = sys\nos.environ['LEFT'] = 'here'\n"
        "open('/tmp/left', 'w').close()\nblock = bytearray(120 << 20)\nos.chdir('/tmp')\nos.umask(0)\n"
    )
    (tmp_path / "second.py").write_text(
        "import builtins, json, os, sys\n"
        "print(json.dumps([hasattr(builtins, 'left') or hasattr(sys, 'left') or 'left' in sys.modules,\n"
        "    'LEFT' in os.environ, os.listdir('/tmp'), os.getcwd(), os.umask(0o22), len(os.listdir('/proc/self/fd')),\n"
        "    os.uname().nodename, sum(map(str.isdigit, os.listdir('/proc')))]))\n"
    )
    seen = []
    for name in ("second.py", "first.py", "second.py", "first.py", "second.py"):
        key = await ward.start(
            "", batch="warm", warm=True, layer=tmp_path, argv=("python3", f"/opt/rgrid/layer/{name}")
        )
        ended, out, err = await ward.end(key)
        assert ended.failure is None, err
        if out:
            seen.append(json.loads(out))
            assert ended.max_rss < 60 * MIB
        else:
            assert ended.max_rss > 100 * MIB
    before, *after = seen
    assert before[:5] == [False, False, [], PLACE, 0o22]
    for each in after:
        assert each[:7] == before[:7]
        assert each[7] <= 3  # the keeper, the interpreter, itself


LEFTOVERS = {
    "a process of a session of its own": """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        import signal, time
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.signal(number, signal.SIG_IGN)
        for number in (0, 1, 2): os.close(number)
        time.sleep(600)
    os._exit(0)
""",
    "a shared memory segment": "assert libc.shmget(4711, 4096, 0o1666) >= 0\n",
    "a semaphore": "assert libc.semget(4711, 1, 0o1666) >= 0\n",
    "a message queue": "assert libc.msgget(4711, 0o1666) >= 0\n",
    "a POSIX message queue": "assert libc.mq_open(b'/left', os.O_CREAT | os.O_RDWR, 0o666, None) >= 0\n",
}


@pytest.mark.parametrize("leave", LEFTOVERS.values(), ids=LEFTOVERS)
async def test_what_outlives_a_script_never_meets_the_next(ward: Ward, leave: str) -> None:
    """A process, segment, semaphore or queue that an item leaves is gone when the next of its batch starts."""
    batch = f"leaving-{secrets.token_hex(4)}"
    ended, _, err = await ward.run("import ctypes\nlibc = ctypes.CDLL('librt.so.1')\n" + leave, batch=batch)
    assert ended.failure is None, err
    found = await ward.says(
        """
import ctypes, json
libc = ctypes.CDLL("librt.so.1")
lines = sum(len(open(f"/proc/sysvipc/{kind}").readlines()) - 1 for kind in ("shm", "sem", "msg"))
found = {
    "processes": len([name for name in os.listdir("/proc") if name.isdigit()]),
    "sysv": lines,
    "queue": libc.mq_open(b"/left", os.O_RDWR),
}
print(json.dumps(found))
""",
        batch=batch,
    )
    assert found == {"processes": 2, "sysv": 0, "queue": -1}


@pytest.mark.parametrize("isolate", [False, True])
async def test_two_batches_never_share_a_container(ward: Ward, isolate: bool) -> None:
    """Nor do two items with --isolate."""
    name = "import json\nprint(json.dumps(os.uname().nodename))"
    batches = [secrets.token_hex(4), secrets.token_hex(4)]
    seen = [await ward.says(name, batch=batches[0 if isolate else turn], isolate=isolate) for turn in range(2)]
    assert len(set(seen)) == 2
