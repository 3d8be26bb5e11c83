"""An order in the words of a keeper, which reads it as the file ``order`` in its control directory."""

from __future__ import annotations

from rgrid_runner.shim.order import Order


def for_python(order: Order, *, warm: bool) -> bytes:
    """For ``keeper.py``: fields that end in NUL, which is in no argument and no variable."""
    env = [name + b"=" + value for name, value in order.env.items()]
    marks = (b"stdin " if order.stdin else b"") + (b"warm" if warm else b"")
    fields = [marks, order.cwd, b"%d" % len(order.argv), *order.argv, *env]
    return b"".join(field + b"\0" for field in fields)


def for_shell(order: Order) -> bytes:
    """For ``keeper.sh``: a piece of shell, all that came from elsewhere in quotes."""
    env = [_quoted(name + b"=" + value) for name, value in order.env.items()]
    argv = [*map(_quoted, order.argv)]
    path = _quoted(order.env.get(b"PATH", b"/bin:/usr/bin"))
    lines = (
        b"stdin=" + (b"/rgrid/ctl/in" if order.stdin else b"/dev/null"),
        b"cwd=" + _quoted(order.cwd),
        b"program() { PATH=" + path + b"; command -v " + argv[0] + b" >/dev/null; }",
        b"run() { exec $setsid env -i " + b" ".join((*env, *argv)) + b"; }",
    )
    return b"".join(line + b"\n" for line in lines)


def _quoted(text: bytes) -> bytes:
    return b"'" + text.replace(b"'", b"'\\''") + b"'"
