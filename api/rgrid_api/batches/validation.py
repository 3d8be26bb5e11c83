"""What a submission must keep to beyond its types. Pure: no database, no clock.

Every fault is an ``InvalidRequest`` whose message names the field, and the item by its index in the batch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, Never

from rgrid_shared import runtime_names
from rgrid_shared.errors import InvalidRequest
from rgrid_shared.specs import (
    MAX_ITEMS,
    PAGE_ITEMS,
    Arg,
    BatchSubmit,
    FileRef,
    Item,
    ItemsPage,
    Requirements,
    Spec,
    StdinBlob,
)
from rgrid_shared.states import FailureClass
from rgrid_shared.wire import EMPTY_SHA256, path_problem

MAX_FILES: Final = 100_000
MAX_DIRS: Final = 100_000
MAX_ARGS: Final = 10_000
MAX_ARG_BYTES: Final = 131_071
"""Linux takes no single argument of 128 KiB or more (MAX_ARG_STRLEN, execve(2))."""
MAX_ENV: Final = 1_000
MAX_ENV_BYTES: Final = 1 << 20
MAX_METADATA: Final = 64
MAX_METADATA_CHARS: Final = 500
MAX_REQUIREMENTS: Final = 10_000
MAX_INDEXES: Final = 20
MAX_LABELS: Final = 64
MAX_TIMEOUT_S: Final = 366 * 86_400
ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MODULE: Final = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
SHA256: Final = re.compile(r"[0-9a-f]{64}")
RETRYABLE: Final = frozenset(kind.value for kind in FailureClass if kind.rule.user_may_retry)


def check_submit(body: BatchSubmit) -> None:
    """Check a whole submission whose text was checked already. Raises InvalidRequest."""
    spec, items, total = body["spec"], body["items"], body["total"]
    check_spec(spec)
    check_env(spec["env_names"], body["env"])
    check_metadata(body["metadata"])
    if len(items) > total:
        refuse("items", f"holds {len(items)} items, but total is {total}")
    if body["single"] and total != 1:
        refuse("single", f"is true, but total is {total}: a plain run has one item")
    check_items(spec, items, first=0, total=total, single=body["single"])


def check_page(spec: Spec, total: int, page: ItemsPage) -> None:
    """Check a further page of items, its text checked already, of a batch with this spec. Raises InvalidRequest."""
    if not page["items"]:
        refuse("items", "is empty")
    if page["first"] + len(page["items"]) > total:
        refuse("items", f"reaches beyond item {total - 1}, the last of the batch")
    check_items(spec, page["items"], first=page["first"], total=total, single=False)


def check_spec(spec: Spec) -> None:
    """Check what all items share."""
    _check_root(spec)
    check_files(spec["files"], "spec.files")
    _check_script(spec)
    _check_tree(spec)
    if not runtime_names.is_valid(spec["runtime"]):
        refuse("spec.runtime", f"is no runtime name: {spec['runtime'][:80]!r}", hint="for example python3.11")
    if spec["requirements"] is not None:
        _check_requirements(spec["requirements"])
    timeout = spec["timeout_s"]
    if timeout is not None and not (math.isfinite(timeout) and timeout <= MAX_TIMEOUT_S):
        refuse("spec.timeout_s", "is over a year", hint="leave it out for no limit")
    if len(spec["resources"]["labels"]) > MAX_LABELS:
        refuse("spec.resources.labels", f"holds more than {MAX_LABELS} labels")
    unknown = sorted(set(spec["retry"]["on"]) - RETRYABLE)
    if unknown:
        refuse("spec.retry.on", f"names {unknown[0]!r}; it may name {', '.join(sorted(RETRYABLE))}")
    stdin = stdin_blob(spec)
    if stdin is not None:
        check_blob(stdin["sha256"], stdin["size"], "spec.stdin")


def check_items(spec: Spec, items: Sequence[Item], *, first: int, total: int, single: bool) -> None:
    """Check items ``first`` … of a batch. Their files may not collide with the shared ones."""
    if len(items) > PAGE_ITEMS:
        refuse("items", f"holds {len(items)} items; a request takes {PAGE_ITEMS:,}")
    if total > MAX_ITEMS:
        refuse("total", f"is {total}; a batch takes {MAX_ITEMS:,} items")
    shared = {file["path"]: file["sha256"] for file in spec["files"]}
    folders = parents_of(shared)
    names: dict[str, int] = {}
    for index, item in enumerate(items, first):
        where = f"item {index}:"
        _check_output_name(item["output_name"], where, needed=not single)
        other = names.setdefault(item["output_name"], index)
        if other != index:
            refuse(f"{where} output_name", f"{item['output_name']!r} is also that of item {other}")
        if item["args"]:
            check_args(item["args"], f"{where} args")
        if item["files"]:
            check_files(item["files"], f"{where} files")
            for file in item["files"]:
                if shared.get(file["path"], file["sha256"]) != file["sha256"]:
                    refuse(f"{where} files", f"ships other bytes for {file['path']!r} than the spec does")
                if file["path"] in folders or not shared.keys().isdisjoint(parents_of([file["path"]])):
                    refuse(f"{where} files", f"has {file['path']!r} where the spec has a directory, or below its file")


def check_args(args: Sequence[Arg], where: str) -> None:
    """Check arguments: as many and as long as a program may be given."""
    if len(args) > MAX_ARGS:
        refuse(where, f"holds {len(args)} arguments; at most {MAX_ARGS:,} are taken")
    for number, arg in enumerate(args):
        if isinstance(arg, str):
            if len(arg.encode()) > MAX_ARG_BYTES:
                refuse(f"{where}[{number}]", f"is longer than {MAX_ARG_BYTES:,} bytes")
        elif problem := path_problem(arg["path"]):
            refuse(f"{where}[{number}].path", problem)


def check_files(files: Sequence[FileRef], where: str) -> None:
    """Check shipped files: legal paths, each once, none below another, sane hashes."""
    if len(files) > MAX_FILES:
        refuse(where, f"holds {len(files)} files; at most {MAX_FILES:,} are taken")
    paths: set[str] = set()
    for number, file in enumerate(files):
        path = file["path"]
        if problem := path_problem(path):
            refuse(f"{where}[{number}].path", f"{problem}: {path[:200]!r}")
        if path in paths:
            refuse(f"{where}[{number}].path", f"stands twice: {path[:200]!r}")
        paths.add(path)
        check_blob(file["sha256"], file["size"], f"{where}[{number}]")
    if len(paths) > 1:
        _check_no_file_holds_another(paths, where)


def check_blob(sha256: str, size: int, where: str) -> None:
    """Check a hash and its size; only no bytes have the hash of no bytes."""
    if not SHA256.fullmatch(sha256):
        refuse(f"{where}.sha256", "is not 64 lower-case hex digits")
    if (size == 0) != (sha256 == EMPTY_SHA256):
        refuse(f"{where}.size", f"is {size}, which does not go with its sha256")


def stdin_blob(spec: Spec) -> StdinBlob | None:
    """The blob that is the script's stdin, or None if it is a stream or empty."""
    stdin = spec["stdin"]
    return None if stdin is None or "stream" in stdin else stdin


def check_env(names: Sequence[str], values: dict[str, str]) -> None:
    """Check environment values: legal names, and a value for each name. Messages never hold a value."""
    for number, name in enumerate(names):
        if not ENV_NAME.fullmatch(name):
            refuse(f"spec.env_names[{number}]", f"is no name of an environment variable: {name[:80]!r}")
    if len(set(names)) != len(names):
        refuse("spec.env_names", "holds a name twice")
    if set(names) != set(values):
        odd = min(set(names) ^ set(values))
        refuse("env", f"and spec.env_names do not name the same variables: {odd[:80]!r} stands in one of them only")
    if len(values) > MAX_ENV or sum(len(name) + len(value.encode()) for name, value in values.items()) > MAX_ENV_BYTES:
        refuse("env", f"is too large: at most {MAX_ENV:,} variables and 1 MiB in all")


def check_metadata(metadata: dict[str, str]) -> None:
    """Check metadata: a few short pairs."""
    if len(metadata) > MAX_METADATA:
        refuse("metadata", f"holds {len(metadata)} pairs; at most {MAX_METADATA} are taken")
    for key, value in metadata.items():
        if not key or "=" in key:
            refuse("metadata", f"has the key {key[:80]!r}; a key is not empty and holds no '='")
        if len(key) > MAX_METADATA_CHARS or len(value) > MAX_METADATA_CHARS:
            refuse(f"metadata.{key[:80]}", f"is longer than {MAX_METADATA_CHARS} characters")


def check_text(document: object, canonical: str) -> None:
    """Check that no text in ``document`` holds what neither a program's arguments nor the database can hold.

    ``canonical``: the document as ASCII JSON, which is searched first because it is fast.
    """
    if "\\u0000" in canonical or "\\ud" in canonical:
        _check_text(document, "")


def _check_text(value: object, where: str) -> None:
    if isinstance(value, str):
        if "\0" in value:
            refuse(where, "holds a NUL byte")
        if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            refuse(where, "holds bytes that are not valid UTF-8")
    elif isinstance(value, dict):
        for key, inner in value.items():
            _check_text(key, f"a key of {where}" if where else "a key of the body")
            _check_text(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _check_text(inner, f"{where}[{number}]")


def refuse(field: str, problem: str, *, hint: str = "") -> Never:
    """Raise InvalidRequest about ``field``."""
    raise InvalidRequest(f"{field} {problem}", hint=hint)


def _check_root(spec: Spec) -> None:
    root = spec["root"]
    if root != "/" and (not root.startswith("/") or path_problem(root[1:])):
        refuse("spec.root", f"is not an absolute path in its shortest form: {root[:200]!r}")
    if spec["cwd"] and (problem := path_problem(spec["cwd"])):
        refuse("spec.cwd", f"{problem}: {spec['cwd'][:200]!r}")


def _check_script(spec: Spec) -> None:
    script = spec["script"]
    if script["kind"] == "module":
        if not MODULE.fullmatch(script["path"]):
            refuse("spec.script.path", f"is no module name: {script['path'][:80]!r}")
    elif problem := path_problem(script["path"]):
        refuse("spec.script.path", f"{problem}: {script['path'][:200]!r}")
    elif all(file["path"] != script["path"] for file in spec["files"]):
        refuse("spec.script.path", f"is not among spec.files: {script['path'][:200]!r}")
    check_args([script["argv0"]], "spec.script.argv0")


def _check_requirements(requirements: Requirements) -> None:
    if len(requirements["lines"]) > MAX_REQUIREMENTS:
        refuse("spec.requirements.lines", f"holds more than {MAX_REQUIREMENTS:,} lines")
    options = requirements.get("options", [])
    if len(options) > MAX_INDEXES:
        refuse("spec.requirements.options", f"holds more than {MAX_INDEXES} lines")
    for name, lines in (("lines", requirements["lines"]), ("options", options)):
        for number, line in enumerate(lines):
            if "\n" in line or "\r" in line:
                refuse(f"spec.requirements.{name}[{number}]", "holds a line break")


def _check_tree(spec: Spec) -> None:
    if len(spec["dirs"]) > MAX_DIRS or len(spec["links"]) > MAX_FILES:
        refuse("spec.dirs", f"or spec.links hold more than {MAX_DIRS:,} entries")
    for number, path in enumerate(spec["dirs"]):
        if problem := path_problem(path):
            refuse(f"spec.dirs[{number}]", f"{problem}: {path[:200]!r}")
    files = {file["path"] for file in spec["files"]}
    for path, target in spec["links"].items():
        where = f"spec.links[{path[:200]!r}]"
        if problem := path_problem(path):
            refuse(where, f"{problem}")
        if path in files:
            refuse(where, "is also a shipped file")
        if not stays_inside(path, target):
            refuse(where, f"leads out of the workspace: {target[:200]!r}")
    _check_no_file_holds_another(files | set(spec["links"]), "spec.files", spec["dirs"])


def stays_inside(path: str, target: str) -> bool:
    """True if a link at ``path`` to ``target`` leads to a place below the workspace's root."""
    if not target or target.startswith("/"):
        return False
    depth = path.count("/")
    for part in target.split("/"):
        if part == "..":
            depth -= 1
        elif part not in {"", "."}:
            depth += 1
        if depth < 0:
            return False
    return True


def parents_of(paths: Iterable[str]) -> set[str]:
    """Every directory above these paths, the root left out."""
    found: set[str] = set()
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent and parent not in found:
            found.add(parent)
            parent = parent.rpartition("/")[0]
    return found


def _check_no_file_holds_another(leaves: set[str], where: str, dirs: Iterable[str] = ()) -> None:
    clash = leaves & (parents_of((*leaves, *dirs)) | set(dirs))
    if clash:
        refuse(where, f"has {min(clash)[:200]!r} both as a file and as a directory")


def _check_output_name(name: str, where: str, *, needed: bool) -> None:
    if not name:
        if needed:
            refuse(f"{where} output_name", "is empty; only a single run has none")
        return
    if problem := path_problem(name):
        refuse(f"{where} output_name", f"{problem}: {name[:200]!r}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A blob that a submission refers to: its size in bytes, and the path that first names it."""

    size: int
    path: str


def every_blob(spec: Spec | None, items: Iterable[Item]) -> dict[str, Wanted]:
    """Every blob that is referred to, by hash; those of no bytes left out.

    Raises InvalidRequest if one hash is given two sizes.
    """
    found: dict[str, Wanted] = {}
    groups = [] if spec is None else [spec["files"]]
    groups += [item["files"] for item in items if item["files"]]
    for file in chain.from_iterable(groups):
        known = found.setdefault(file["sha256"], Wanted(file["size"], file["path"]))
        if known.size != file["size"]:
            refuse("files", f"give one sha256 two sizes: {known.path!r} and {file['path']!r}")
    stdin = None if spec is None else stdin_blob(spec)
    if stdin is not None:
        found.setdefault(stdin["sha256"], Wanted(stdin["size"], "stdin"))
    found.pop(EMPTY_SHA256, None)
    return found
