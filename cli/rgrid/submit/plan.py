"""From a request to a plan: everything looked at, checked and hashed, nothing sent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rgrid.submit import dependencies, interpreters, items, locate, pep723, requirements_file, runtimes
from rgrid.submit.arguments import ArgText, Arguments
from rgrid.submit.bundle import Bundle
from rgrid.submit.hashing import Hashed, Hasher
from rgrid.submit.ignore import Ignored
from rgrid.submit.locate import Located
from rgrid.submit.pep723 import Block
from rgrid.submit.request import RunRequest
from rgrid.submit.scan import Scan, scan
from rgrid.submit.spec_builder import Piece, build_items, build_spec, common_root
from rgrid.submit.template import Template, output_names
from rgrid_shared.errors import UsageError
from rgrid_shared.specs import Item, Requirements, Spec


@dataclass(frozen=True, slots=True)
class Prepared:
    """A script that was found and read, before its options are known."""

    located: Located
    ignored: Ignored
    scan: Scan
    block: Block | None
    environ: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be sent.

    ``files``: every local file by absolute path, as it was read; ``reasons``: why each travels; ``kept``: bytes of
    small ones by hash. ``notes``: lines for stderr; ``details``: lines for a dry run. ``env``: values for
    ``spec.env_names``.
    """

    request: RunRequest
    spec: Spec
    items: list[Item]
    files: Mapping[str, Hashed]
    reasons: Mapping[str, str]
    kept: Mapping[str, bytes]
    env: Mapping[str, str]
    notes: tuple[str, ...]
    details: tuple[str, ...]

    @property
    def single(self) -> bool:
        """True for a plain run."""
        return self.request.items is None

    def path_of(self, relative: str) -> str:
        """The local path of a file of the workspace."""
        return os.path.join(self.spec["root"], relative)


def prepare(script: str, *, module: bool = False, cwd: str = "", environ: Mapping[str, str] | None = None) -> Prepared:
    """Find a script and read what it says. Raises UsageError if it cannot be run."""
    environ = os.environ if environ is None else environ
    located = locate.locate(script, cwd or os.getcwd(), module=module)
    ignored = Ignored(located.projects)
    found = scan(located, ignored, environ)
    block = pep723.read(found.text, located.typed) if located.language == "python" else None
    return Prepared(located, ignored, found, block, environ)


def make_plan(request: RunRequest, home: Path, prepared: Prepared | None = None) -> Plan:
    """Look at everything and hash it. ``home``: rgrid's own directory, for caches.

    Raises:
        UsageError: whatever is wrong with the request; nothing has been sent.
        TooLarge: more items than a batch takes.
    """
    ready = prepared or prepare(request.script, module=request.module, cwd=request.cwd)
    ready, requirements, runtime, notes = _dependencies(request, ready, home / "cache")
    located, found = ready.located, ready.scan

    bundle = Bundle(located, ready.ignored, os.path.expanduser("~"))
    bundle.add_script(found)
    bundle.include(request.include)
    pieces = _pieces(request, bundle, located.cwd)
    argv0: ArgText = Arguments(bundle).take(located.typed, {}) if located.typed.startswith("/") else located.typed

    hasher = Hasher(home / "cache" / "hashes.json")
    reasons = dict(bundle.files)
    for piece in pieces:
        reasons.update(piece.files)
    stdin = request.stdin.removeprefix("file:") if request.stdin.startswith("file:") else ""
    if stdin:
        reasons[stdin] = "stdin"
    files = hasher.hash_all(reasons, lambda path: os.path.relpath(path, located.cwd))
    bundle.check(found, {path: files[path].size for path in bundle.files}, allow_large=request.allow_large)

    root = common_root(bundle, pieces, argv0)
    env = dict(request.env)
    if found.closure.search and "PYTHONPATH" not in env:
        # Relative to the working directory, for only the runner knows where the workspace lies.
        env["PYTHONPATH"] = ":".join(os.path.relpath(path, located.cwd) for path in found.closure.search)
    _check_variables(requirements, env)
    spec = build_spec(
        request,
        bundle,
        root,
        files,
        argv0=argv0,
        runtime=runtime,
        requirements=requirements,
        env_names=sorted(env),
        stdin=files[stdin] if stdin else None,
    )
    return Plan(
        request=request,
        spec=spec,
        items=build_items(pieces, root, files),
        files=files,
        reasons=reasons,
        kept=hasher.kept,
        env=env,
        notes=(*notes, *bundle.remarks(found)),
        details=tuple(text for path, text in found.details.items() if path not in reasons),
    )


def _pieces(request: RunRequest, bundle: Bundle, cwd: str) -> list[Piece]:
    """The items with their arguments and own files; files of arguments that all items share go to the bundle."""
    arguments = Arguments(bundle)
    shared: dict[str, str] = {}
    pieces: list[Piece] = []
    if request.items is None:
        args = [arguments.take(arg, shared) for arg in request.args]
        pieces.append(Piece("", "", args, {}))
    else:
        raws = items.load(request.items, cwd)
        template = Template(request.args, raws)
        for arg in template.fixed():
            arguments.take(arg, shared)
        names = output_names(raws, cwd)
        for index, (raw, output_name) in enumerate(zip(raws, names, strict=True)):
            own: dict[str, str] = {}
            if raw.is_path:
                arguments.take(raw.text, own, raw.where)
            args = [
                arguments.take(text, own if depends else {}, raw.where) for text, depends in template.fill(raw, index)
            ]
            pieces.append(Piece(raw.text[:4096], output_name, args, own))
    for path, why in shared.items():
        bundle.files.setdefault(path, why)
        if why == "argument":
            bundle.named.add(path)
    for piece in pieces:
        for path in [path for path in piece.files if path in bundle.files]:
            del piece.files[path]
    return pieces


def _dependencies(
    request: RunRequest, ready: Prepared, cache: Path
) -> tuple[Prepared, Requirements | None, str, tuple[str, ...]]:
    """The requirements and the runtime. Code of source installs is scanned as the project's own."""
    located = ready.located
    if located.language != "python":
        given = runtimes.named(request.runtime, located.language) if request.runtime else ""
        default = "bash" if located.language == "bash" else given or runtimes.node(ready.environ)
        return ready, None, given or default, ()
    notes: tuple[str, ...] = ()
    if ready.scan.problem:
        notes = (f"{located.typed} cannot be read as Python ({ready.scan.problem}): what it imports stays here",)
    if request.exact is not None:
        runtime = runtimes.named(request.runtime, "python") if request.runtime else request.exact.runtime
        return ready, request.exact.requirements, runtime, notes
    written = dependencies.declared(located, ready.block, request.requirements or None)
    requires = ready.block.requires_python if ready.block else ""
    if written is not None:
        requires = written.requirements["requires_python"]
        notes += written.notes
    runtime = runtimes.named(request.runtime, "python") if request.runtime else ""
    if written is not None and runtime:
        return ready, _or_none(written.requirements), runtime, notes
    wanted = ready.scan.closure.wanted if written is None else []
    if runtime and not wanted:
        return ready, None, runtime, notes
    if runtime and runtimes.brings_packages(runtime):
        # It was chosen for what is in it; this machine's versions would only hide that.
        names = ", ".join(sorted({want.module.partition(".")[0] for want in wanted}))
        return ready, None, runtime, (*notes, f"{names}: as the runtime {runtime} has them")
    python = interpreters.ask(interpreters.find(ready.environ), ready.environ, cache)
    runtime = runtime or runtimes.python_for(python.minor, requires)
    if written is not None:
        return ready, _or_none(written.requirements), runtime, notes
    roots: tuple[str, ...] = ()
    while True:
        answer = dependencies.from_environment(ready.scan.closure.wanted, python, located, ready.environ)
        new = tuple(root for root in answer.source_roots if root not in roots)
        if not answer.source_roots:
            return ready, answer.requirements, runtime, notes + answer.notes
        if not new:
            raise UsageError(
                f"A module of a source install is not found below {', '.join(answer.source_roots)}.",
                hint="Add its directory to PYTHONPATH, or list a released version in a requirements.txt.",
            )
        roots += new
        again = scan(located, ready.ignored, ready.environ, extra_roots=roots)
        ready = Prepared(located, ready.ignored, again, ready.block, ready.environ)


def _check_variables(requirements: Requirements | None, env: Mapping[str, str]) -> None:
    """Every variable that an address of packages names has to have a value."""
    if requirements is None:
        return
    used = requirements_file.variables([*requirements["lines"], *requirements.get("options", [])])
    for name in sorted(used - env.keys()):
        raise UsageError(f"The requirements name ${{{name}}}, which has no value.", hint=f"Add -e {name}")


def _or_none(requirements: Requirements) -> Requirements | None:
    return requirements if requirements["lines"] or requirements["requires_python"] else None
