"""What a runner may say that an attempt left behind."""

from __future__ import annotations

from rgrid_shared.protocol import Manifest
from rgrid_shared.wire import path_problem


def manifest_problem(manifest: Manifest, prefix: str) -> str:
    """Why a manifest cannot be taken, empty if it can. ``prefix``: what the keys of its objects begin with."""
    sizes = [stored["size"] for stored in manifest["objects"]]
    for stored in manifest["objects"]:
        if not stored["key"].startswith(prefix):
            return f"object {stored['key'][:200]!r} is not this attempt's"
    for entry in manifest["entries"]:
        problem = path_problem(entry["path"])
        if problem:
            return f"output {entry['path'][:200]!r} {problem}"
        if entry["kind"] == "file" and entry["size"]:
            number = entry["object"]
            if not 0 <= number < len(sizes) or entry["offset"] + entry["size"] > sizes[number]:
                return f"output {entry['path'][:200]!r} lies outside the objects"
            if len(entry["sha256"]) != 64:
                return f"output {entry['path'][:200]!r} has no hash"
        if "\0" in entry["target"]:
            return f"output {entry['path'][:200]!r} holds a NUL byte"
    if any("\0" in left["path"] or "\0" in left["reason"] for left in manifest["left_out"]):
        return "what was left out holds a NUL byte"
    return ""


def files_in(manifest: Manifest) -> tuple[int, int]:
    """How many files a manifest holds, and their bytes."""
    sizes = [entry["size"] for entry in manifest["entries"] if entry["kind"] == "file"]
    return len(sizes), sum(sizes)
