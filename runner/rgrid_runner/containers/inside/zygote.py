"""The interpreter that a container keeps warm: each run of the batch is a fork of it. Installed as ``sitecustomize``.

Python is started with the run's own command line, and stops here, at the end of its start: ``site`` imports this as
the last thing before the script. What forks off simply returns from that import, and the interpreter itself goes on
to open the script, run it, print its traceback and end as it would have without us: there is no frame, no module and
no path of ours in it. Only what differs between the runs of a batch is put right: arguments, environment, directory,
descriptors. All else that is read at the start is the same, the keeper sees to that; the hash seed is, too.
"""

import os
import sys

CONTROL = "/rgrid/ctl/"


def main() -> object:
    """Serve; returns in a fork that is to be the script. Raises ImportError if no other sitecustomize is there."""
    orders, answers = map(int, os.environ.pop("RGRID_WARM").split(","))
    del os.environ["PYTHONPATH"]
    here = os.path.dirname(__file__)  # noqa: PTH120
    sys.path.remove(here)
    sys.path_importer_cache.pop(here, None)
    if sys.version_info < (3, 8):  # noqa: UP036 - it is the image's, not ours
        os.write(answers, b"unfit\n")  # sys.argv comes later there: be the one script that we were started for
        os.close(orders)
        os.close(answers)
        return find_real()
    real = find_real()
    become(serve(orders, answers), answers)
    os.close(answers)
    return real


def find_real() -> object:
    """The sitecustomize that would have been imported, None if there is none."""
    mine = sys.modules.pop("sitecustomize")
    try:
        import sitecustomize  # type: ignore[import-not-found]
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
        sys.modules["sitecustomize"] = mine  # the import of this one ends in a moment, and wants to find it
        return None
    return sitecustomize


def serve(orders: int, answers: int) -> bytes:
    """Fork for each order; returns one in the fork."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)  # they were the first run's, so that Python made its streams for that kind
    os.close(nothing)
    os.chdir("/")
    os.write(answers, b"ready\n")
    while True:
        order = read(orders, int.from_bytes(read(orders, 8), "little"))
        script = os.fork()
        if script == 0:
            os.close(orders)
            return order
        _, status = os.waitpid(script, 0)
        os.write(answers, b"exited %d\n" % status)


def read(fd: int, size: int) -> bytes:
    """Exactly so many bytes; no return if the keeper is gone."""
    data = b""
    while len(data) < size:
        part = os.read(fd, size - len(data))
        if not part:
            os._exit(0)
        data += part
    return data


def become(order: bytes, answers: int) -> None:
    """Put right what differs from run to run, and say that the script runs, or why it cannot."""
    marks, cwd, argc, *rest = order.split(b"\0")[:-1]
    argv, env = rest[: int(argc)], rest[int(argc) :]
    step = b"control"
    try:
        os.setsid()
        with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:  # noqa: PTH123
            file.write(b"500")
        put(CONTROL + "in" if b"stdin" in marks else os.devnull, os.O_RDONLY, 0)
        put(CONTROL + "out", os.O_WRONLY, 1)
        put(CONTROL + "err", os.O_WRONLY, 2)
        step = b"cwd"
        os.chdir(cwd)
    except OSError as error:
        os.write(answers, b"failed %s %d\n" % (step, error.errno or 0))
        os._exit(127)
    os.environb.clear()
    for pair in env:
        name, _, value = pair.partition(b"=")
        os.environb[name] = value
    arguments = argv[3:] if argv[1] == b"-m" else argv[2:]
    sys.argv[1:] = map(os.fsdecode, arguments)
    if hasattr(sys, "orig_argv"):
        sys.orig_argv[:] = map(os.fsdecode, argv)
    os.write(answers, b"started %d\n" % os.getpid())


def put(path: str, flags: int, number: int) -> None:
    """Open ``path`` as this descriptor."""
    fd = os.open(path, flags)
    os.dup2(fd, number)
    os.close(fd)


found = main()
if found is None:
    raise ImportError("there is none", name="sitecustomize")
sys.modules["sitecustomize"] = found  # type: ignore[assignment]
