"""What a submission must keep to, and what its refusal says."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.control_plane import file, item, spec, submission

from rgrid_api.batches import validation
from rgrid_shared.errors import InvalidRequest
from rgrid_shared.specs import BatchSubmit
from rgrid_shared.states import FailureClass

SHA = "a" * 64
Change = Callable[[Any], None]


def check(body: BatchSubmit) -> None:
    validation.check_text(body, json.dumps(body))
    validation.check_submit(body)


def put(path: str, value: object) -> Change:
    """A change that sets ``a.b.0.c`` of a document."""

    def change(document: Any) -> None:
        *parents, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
        for part in parents:
            document = document[part]
        document[last] = value

    return change


BAD: list[tuple[str, Change, str]] = [
    ("climbing path", put("spec.files.0.path", "../s.py"), r"spec.files\[0\].path climbs"),
    ("absolute path", put("spec.files.0.path", "/etc/passwd"), r"spec.files\[0\].path is absolute"),
    ("NUL in a path", put("items.1.files", [file("a\0b")]), r"items\[1\].files\[0\].path holds a NUL"),
    ("NUL in an argument", put("items.1.args", ["a\0b"]), r"items\[1\].args\[0\] holds a NUL"),
    ("NUL in a key", put("metadata", {"a\0": "b"}), "a key of metadata holds a NUL"),
    ("argument that is not UTF-8", put("items.1.args", ["\udcff"]), r"items\[1\].args\[0\] holds bytes"),
    ("path in long form", put("spec.files.0.path", "a/./s.py"), "shortest form"),
    ("file twice", put("spec.files", [file("s.py"), file("s.py")]), "stands twice"),
    ("file below a file", put("spec.files", [file("s.py"), file("s.py/x")]), "both as a file and as a directory"),
    ("file that is a directory", put("spec.dirs", ["s.py"]), "both as a file and as a directory"),
    ("directory below a file", put("spec.dirs", ["s.py/below"]), "both as a file and as a directory"),
    ("climbing directory", put("spec.dirs", ["../x"]), r"spec.dirs\[0\] climbs"),
    ("relative root", put("spec.root", "home"), "spec.root"),
    ("climbing root", put("spec.root", "/home/../x"), "spec.root"),
    ("absolute cwd", put("spec.cwd", "/x"), "spec.cwd is absolute"),
    ("script that is not shipped", put("spec.script.path", "t.py"), "spec.script.path is not among spec.files"),
    ("script above the root", put("spec.script.path", "../s.py"), "spec.script.path climbs"),
    ("odd module", put("spec.script", {"kind": "module", "path": "a-b", "argv0": "a", "name": "a"}), "no module name"),
    ("odd argv0", put("spec.script.argv0", {"prefix": "", "path": "/s", "original": "/s"}), "argv0.*is absolute"),
    ("hash in capitals", put("spec.files.0.sha256", "A" * 64), "64 lower-case hex digits"),
    ("hash of nothing with a size", put("spec.files.0.size", 4), "does not go with its sha256"),
    ("size 0 with another hash", put("spec.files.0.sha256", SHA), "does not go with its sha256"),
    ("link out of the workspace", put("spec.links", {"a/b": "../../x"}), "leads out of the workspace"),
    ("absolute link", put("spec.links", {"a": "/etc"}), "leads out of the workspace"),
    ("link over a file", put("spec.links", {"s.py": "t"}), "is also a shipped file"),
    ("path through a link", put("spec.links", {"s.py/a": "t"}), "both as a file and as a directory"),
    ("runtime with a space", put("spec.runtime", "python 3"), "spec.runtime is no runtime name"),
    ("runtime of nothing", put("spec.runtime", ""), "spec.runtime is no runtime name"),
    ("endless timeout", put("spec.timeout_s", float("inf")), "spec.timeout_s"),
    ("timeout of a century", put("spec.timeout_s", 4e9), "spec.timeout_s is over a year"),
    (
        "retry on what nobody may retry",
        put("spec.retry.on", [FailureClass.CANCELLED.value]),
        "spec.retry.on names 'cancelled'",
    ),
    ("retry on nonsense", put("spec.retry.on", ["gremlins"]), "spec.retry.on names 'gremlins'"),
    ("requirement of two lines", put("spec.requirements", {"lines": ["a\nb"]}), "holds a line break"),
    ("stdin of a wrong size", put("spec.stdin", {"sha256": SHA, "size": 0}), "spec.stdin.size"),
    ("env name with a dash", put("spec.env_names", ["A-B"]), r"spec.env_names\[0\]"),
    ("env name that starts with a digit", put("spec.env_names", ["1A"]), r"spec.env_names\[0\]"),
    ("env name twice", put("spec.env_names", ["A", "A"]), "holds a name twice"),
    ("env name without a value", put("spec.env_names", ["TOKEN"]), "'TOKEN' stands in one"),
    ("env value without a name", put("env", {"TOKEN": "hunter2"}), "'TOKEN' stands in one"),
    ("too many pairs", put("metadata", {str(n): "" for n in range(65)}), "65 pairs; at most 64"),
    ("long pair", put("metadata", {"k": "x" * 501}), "metadata.k is longer than 500"),
    ("metadata key with =", put("metadata", {"a=b": "c"}), "holds no '='"),
    ("more items than the total", put("total", 2), "holds 3 items, but total is 2"),
    ("single run of three", put("single", True), "single is true, but total is 3"),
    ("output name twice", put("items.2.output_name", "out-1"), "item 2: output_name 'out-1' is also that of item 1"),
    ("output name that climbs", put("items.2.output_name", "../x"), "item 2: output_name climbs"),
    ("output name missing", put("items.2.output_name", ""), "item 2: output_name is empty"),
    ("long argument", put("items.2.args", ["x" * 131_072]), r"item 2: args\[0\] is longer"),
    ("argument that climbs", put("items.2.args", [{"prefix": "", "path": "../x", "original": "x"}]), "item 2: args"),
    ("item file twice", put("items.2.files", [file("a"), file("a")]), r"item 2: files\[1\].path stands twice"),
    ("item's other bytes", put("items.2.files", [file("s.py", SHA, 3)]), "item 2: files ships other bytes"),
    ("item file below a file", put("items.2.files", [file("s.py/a")]), "item 2: files has"),
]


@pytest.mark.parametrize(("change", "says"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_refused(change: Change, says: str) -> None:
    """Everything that cannot run is refused before it is stored, in words that name the field and the item."""
    body = submission(3)
    change(body)
    with pytest.raises(InvalidRequest, match=says):
        check(body)


GOOD: list[tuple[str, Change]] = [
    ("plain", put("name", "")),
    ("root of everything", put("spec.root", "/")),
    ("working directory below", put("spec.cwd", "a/b")),
    ("unicode everywhere", put("items.1.args", ["ü 😀", "\n", "--x='y'"])),
    ("escaped text that looks like NUL", put("items.1.args", ["\\u0000"])),
    ("link to a sibling", put("spec.links", {"a/b": "../c"})),
    ("module", put("spec.script", {"kind": "module", "path": "a.b_c", "argv0": "a.b_c", "name": "a.b_c"})),
    ("item shares a file", put("items.1.files", [file("s.py")])),
    ("retry what a user may retry", put("spec.retry.on", [FailureClass.OOM.value, FailureClass.SCRIPT.value])),
    ("stream on stdin", put("spec.stdin", {"stream": True})),
    ("nested output names", put("items.1.output_name", "a/b")),
    ("items that follow later", put("total", 9)),
]


@pytest.mark.parametrize("change", [case[1] for case in GOOD], ids=[case[0] for case in GOOD])
def test_accepted(change: Change) -> None:
    """What runs locally is not refused."""
    body = submission(3)
    change(body)
    check(body)


def test_env_values_stay_out_of_messages() -> None:
    """A refusal about the environment never repeats a value."""
    body = submission(1, env={"TOKEN": "hunter2", "OTHER": "hunter3"}, spec=spec(env_names=["TOKEN"]))
    with pytest.raises(InvalidRequest) as refusal:
        check(body)
    assert "hunter" not in refusal.value.message


def test_page_must_fit_the_batch() -> None:
    """A page of items may not reach beyond the total, and not be empty."""
    with pytest.raises(InvalidRequest, match="beyond item 9"):
        validation.check_page(spec(), 10, {"first": 9, "items": [item(9), item(10)]})
    with pytest.raises(InvalidRequest, match="items is empty"):
        validation.check_page(spec(), 10, {"first": 0, "items": []})


def test_every_blob_is_counted_once() -> None:
    """The blobs of a submission are a set; blobs of no bytes are known everywhere and not among them."""
    shared, own = "a" * 64, "b" * 64
    wanted = spec(files=[file("s.py"), file("a", shared, 3)], stdin={"sha256": own, "size": 7})
    items = [item(0, files=[file("x", own, 7)]), item(1, files=[file("y", shared, 3)])]
    found = validation.every_blob(wanted, items)
    assert {sha256: blob.size for sha256, blob in found.items()} == {shared: 3, own: 7}


def test_one_hash_has_one_size() -> None:
    """A hash with two sizes is refused."""
    with pytest.raises(InvalidRequest, match="two sizes: 'a' and 'b'"):
        validation.every_blob(None, [item(0, files=[file("a", SHA, 1), file("b", SHA, 2)])])
