"""The user's own Python: its version and what is installed in it, asked once and remembered."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rgrid.submit.hashing import write_atomically
from rgrid_shared.errors import UsageError

_TIMEOUT_S: Final = 60
_FORMAT: Final = 1

# Runs in the user's interpreter, which may be any Python 3.8 or later, so it uses nothing newer.
_PROBE: Final = r"""
import sys
sys.path[:] = [p for p in sys.path if p]
import json, os, re
from importlib import metadata
from urllib.parse import unquote, urlsplit
stdlib = sorted(getattr(sys, "stdlib_module_names", ())) or sorted(sys.builtin_module_names)
modules, dists = {}, {}
for dist in metadata.distributions():
    name = dist.metadata["Name"]
    if not name:
        continue
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in dists:
        continue
    origin = {}
    try:
        origin = json.loads(dist.read_text("direct_url.json") or "{}")
    except ValueError:
        pass
    dists[key] = {"name": name, "version": dist.version, "origin": origin}
    tops = {}
    for file in dist.files or ():
        parts = file.parts
        if parts[0] in ("..", "bin", "__pycache__") or parts[0].endswith((".dist-info", ".egg-info", ".data")):
            continue
        if not parts[-1].endswith((".py", ".so", ".pyd", ".pyc")):
            continue
        top = parts[0].split(".")[0]
        where = tops.setdefault(top, set())
        if len(parts) > 1:
            own = parts[:-1] if parts[-1] == "__init__.py" else parts[:-1] + (parts[-1].split(".")[0],)
            where.add(".".join(own))
    for top in (dist.read_text("top_level.txt") or "").split():
        tops.setdefault(top, set())
    if "dir_info" in origin:
        base = unquote(urlsplit(origin.get("url", "")).path)
        for folder in (base + "/src", base):
            for entry in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
                if entry.endswith(".py"):
                    tops.setdefault(entry[:-3], set())
                elif os.path.exists(folder + "/" + entry + "/__init__.py"):
                    tops.setdefault(entry, set())
    for top, where in tops.items():
        modules.setdefault(top, {})[key] = where
for top, owners in modules.items():
    for key, where in owners.items():
        short = sorted(where, key=len) if len(owners) > 1 else []
        least = []
        for path in short:
            if path != top and not any(path == other or path.startswith(other + ".") for other in least):
                least.append(path)
        owners[key] = least[:200]
folders = sorted({p for p in sys.path if p and os.path.isdir(p) and ("site-packages" in p or "dist-packages" in p)})
found = {}
from importlib import util
for name in sys.argv[1:]:
    try:
        spec = util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    places = list(getattr(spec, "submodule_search_locations", None) or ()) if spec else []
    found[name] = (spec.origin or (places[0] if places else "")) if spec else ""
print(json.dumps({
    "executable": sys.executable, "version": "%d.%d.%d" % sys.version_info[:3],
    "stdlib": stdlib, "modules": modules, "dists": dists, "folders": folders, "found": found,
}))
"""


@dataclass(frozen=True, slots=True)
class Distribution:
    """An installed distribution. ``origin``: its ``direct_url.json`` (PEP 610), empty if it came from an index."""

    name: str
    version: str
    origin: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python and what is installed in it. ``path``: the program itself, also where a version manager's shim stood.

    ``modules``: top-level module → distributions that provide it, each with the dotted paths that are its own where
    several share the name (namespace packages).
    """

    path: str
    version: str
    stdlib: frozenset[str]
    modules: Mapping[str, Mapping[str, Sequence[str]]]
    dists: Mapping[str, Distribution]

    @property
    def minor(self) -> str:
        """``3.11`` for 3.11.7."""
        return ".".join(self.version.split(".")[:2])

    def providers(self, module: str) -> list[Distribution]:
        """The distributions that a dotted module name comes from; none if nothing provides it."""
        owners = self.modules.get(module.partition(".")[0], {})
        if len(owners) == 1:
            return [self.dists[key] for key in owners]
        fitting = [
            key
            for key, own in owners.items()
            if not own or any(module == path or module.startswith(path + ".") for path in own)
        ]
        return [self.dists[key] for key in fitting]


def find(environ: Mapping[str, str]) -> str:
    """The user's Python: that of ``VIRTUAL_ENV``, else ``python`` or ``python3`` on PATH, else rgrid's own."""
    active = environ.get("VIRTUAL_ENV")
    if active and os.access(path := f"{active}/bin/python", os.X_OK):
        return path
    for name in ("python", "python3"):
        found = which(name, environ)
        if found and _is_python3(found):
            return found
    return sys.executable


def which(name: str, environ: Mapping[str, str]) -> str | None:
    """The program that a name on PATH stands for, or None; without ``shutil``, whose import costs 5 ms."""
    for folder in environ.get("PATH", os.defpath).split(os.pathsep):
        path = f"{folder}/{name}"
        if folder and os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return None


def _is_python3(path: str) -> bool:
    """False for a ``python`` that is Python 2, told by its real name."""
    return "python2" not in os.path.basename(os.path.realpath(path))


def ask(path: str, environ: Mapping[str, str], cache: Path | None) -> Interpreter:
    """What a Python has. Remembered in the directory ``cache`` until the program or its packages change.

    Raises UsageError if it cannot be run.
    """
    key = hashlib.sha256(
        json.dumps([_FORMAT, path, *_selectors(path, environ)]).encode(errors="surrogatepass")
    ).hexdigest()
    file = cache / f"python-{key[:24]}.json" if cache else None
    if file is not None:
        remembered = _remembered(file)
        if remembered is not None:
            return remembered
    answer = _run(path, (), environ)
    if file is not None:
        answer["stamps"] = {place: _stamp(place) for place in [path, answer["executable"], *answer["folders"]]}
        with suppress(OSError):  # without it the next time is only slower
            write_atomically(file, json.dumps(answer).encode())
    return _from_answer(answer)


def locate_module(path: str, module: str, environ: Mapping[str, str]) -> str:
    """Where a Python would import a top-level module from; empty if it has none."""
    return str(_run(path, (module,), environ)["found"].get(module, ""))


def _selectors(path: str, environ: Mapping[str, str]) -> list[str]:
    """What decides which Python a version manager's shim starts."""
    if "/shims/" not in path:
        return []
    here = os.getcwd()
    while here != "/" and not os.path.exists(f"{here}/.python-version"):
        here = os.path.dirname(here)
    return [environ.get("PYENV_VERSION", ""), here, str(_stamp(f"{here}/.python-version")), str(_global_version(path))]


def _global_version(shim: str) -> list[int]:
    return _stamp(f"{os.path.dirname(os.path.dirname(shim))}/version")


def _stamp(path: str) -> list[int]:
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_mtime_ns, status.st_ino]


def _remembered(file: Path) -> Interpreter | None:
    try:
        answer = json.loads(file.read_bytes())
        if any(_stamp(place) != stamp for place, stamp in answer["stamps"].items()):
            return None
        return _from_answer(answer)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _from_answer(answer: Mapping[str, Any]) -> Interpreter:
    dists = {key: Distribution(d["name"], d["version"], d["origin"]) for key, d in answer["dists"].items()}
    return Interpreter(answer["executable"], answer["version"], frozenset(answer["stdlib"]), answer["modules"], dists)


def _run(path: str, args: Sequence[str], environ: Mapping[str, str]) -> dict[str, Any]:
    import subprocess

    try:
        done = subprocess.run(
            [path, "-c", _PROBE, *args],
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
            env={key: value for key, value in environ.items() if key not in ("PYTHONSTARTUP", "PYTHONINSPECT")},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(
            f"Your Python ({path}) cannot be run: {error}.",
            hint="Name the requirements: --requirements FILE --runtime python3.11",
        ) from error
    try:
        answer = json.loads(done.stdout)
    except ValueError as error:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no answer"]
        raise UsageError(
            f"Your Python ({path}) does not say what is installed in it: {last[0]}.",
            hint="Name the requirements: --requirements FILE --runtime python3.11",
        ) from error
    assert isinstance(answer, dict)
    return answer
