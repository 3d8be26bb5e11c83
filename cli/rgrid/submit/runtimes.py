"""Which runtime a script gets: the one that was asked for, or the one that is like this machine's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from rgrid.submit.interpreters import which
from rgrid_shared import runtime_names
from rgrid_shared.errors import UsageError
from rgrid_shared.specs import Language

_SPECIFIER: Final = re.compile(r"\s*(~=|===?|!=|<=?|>=?)\s*(\d+)(?:\.(\d+|\*))?(?:\.[\w.*+]+)?\s*")
PYTHONS: Final = tuple(f"3.{minor}" for minor in range(10, 15))


def named(text: str, language: Language) -> str:
    """The runtime that ``--runtime`` names: ``3.12`` and ``python312`` are ``python3.12``; raises UsageError.

    A name that is of another kind than the script is refused; one that is of no known kind is left to the grid, and so
    is an image (``reg.example/lab/tools:3``).
    """
    if runtime_names.is_image(text):
        runtime_names.normal(text)
        return text
    name = text.strip().lower()
    short = re.fullmatch(r"(?:python|py)?-?3\.?(\d{1,2})", name)
    if short:
        name = f"python3.{short[1]}"
    elif re.fullmatch(r"node(?:js)?-?(\d+)", name):
        name = "node" + re.sub(r"\D", "", name)
    if not runtime_names.is_valid(name):
        raise UsageError(
            f"--runtime {text!r} is not the name of a runtime.", hint="Write it like --runtime python3.12."
        )
    kind = re.sub(r"[\d.]+$", "", name)
    if kind == "python" and not re.fullmatch(r"python3\.\d{1,2}", name):
        raise UsageError(f"There is no runtime {text!r}.", hint=f"Write it like --runtime python{PYTHONS[-2]}.")
    if kind == "python" and name[6:] not in PYTHONS:
        raise UsageError(
            f"There is no runtime {text!r}.", hint=f"Known: {', '.join('python' + version for version in PYTHONS)}."
        )
    if runtime_names.language_of(name) not in (None, language):
        raise UsageError(f"The script is for {language}; the runtime {name} cannot run it.", hint="Drop --runtime.")
    return name


def brings_packages(runtime: str) -> bool:
    """True if a runtime is more than an interpreter: a ready-made one, or an image."""
    return runtime_names.language_of(runtime) is None


def check_offered(runtime: str, offered: Sequence[str], allowed: Sequence[str]) -> None:
    """Refuse a runtime that is not among those ``offered``, or an image that no pattern of ``allowed`` fits.

    UsageError, which names what may be meant.
    """
    if runtime in offered:
        return
    if runtime_names.is_image(runtime):
        if runtime_names.allowed(runtime, allowed):
            return
        may = (
            f"It may run: {', '.join(allowed)}." if allowed else "It runs no images that are named; see rgrid runtimes."
        )
        raise UsageError(f"No runner of this grid may run the image {runtime}.", hint=may)
    from difflib import get_close_matches

    near = get_close_matches(runtime, offered, n=3, cutoff=0.6)
    meant = f"Did you mean {' or '.join(near)}? " if near else ""
    raise UsageError(
        f"No runner of this grid offers the runtime {runtime}.", hint=f"{meant}rgrid runtimes lists what it offers."
    )


def python_for(minor: str, requires: str) -> str:
    """The runtime for a script: this machine's minor version, or the lowest that ``requires`` (PEP 440) allows.

    A specifier that nothing known satisfies keeps this machine's version; the grid then says what does not fit.
    """
    if not requires or satisfies(minor, requires):
        return f"python{minor}"
    fitting = next((version for version in PYTHONS if satisfies(version, requires)), minor)
    return f"python{fitting}"


def satisfies(minor: str, requires: str) -> bool:
    """True if some patch release of a minor version (``3.11``) fits a ``requires-python`` specifier."""
    have = tuple(int(part) for part in minor.split("."))
    for part in requires.split(","):
        match = _SPECIFIER.fullmatch(part)
        if match is None:
            continue
        operator, major, second = match[1], int(match[2]), match[3]
        want = (major,) if second in (None, "*") else (major, int(second))
        ours = have[: len(want)]
        deeper = part.strip().count(".") > 1 and not part.strip().endswith(".*")
        fits = {
            ">=": ours >= want,
            ">": ours > want or (ours == want and deeper),
            "<=": ours <= want,
            "<": ours < want or (ours == want and deeper),
            "==": ours == want,
            "===": ours == want,
            "!=": ours != want or deeper,
            "~=": ours == want if deeper else (ours[:1] == want[:1] and ours >= want),
        }[operator]
        if not fits:
            return False
    return True


def node(environ: Mapping[str, str]) -> str:
    """``node20`` where Node.js 20 is on PATH; raises UsageError if none is."""
    import subprocess

    program = which("node", environ)
    if program is not None:
        try:
            done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):
            done = None
        match = re.match(r"v(\d+)\.", done.stdout) if done else None
        if match:
            return f"node{match[1]}"
    raise UsageError("There is no Node.js here to take the version from.", hint="Name it: rgrid run --runtime node20 …")
