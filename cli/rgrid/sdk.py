"""The grid from Python: the same submission, client and downloads as the command line.

Every call raises ``rgrid.RgridError`` with a message and a hint when something is wrong. Nothing is printed.
"""

from __future__ import annotations

import os
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, cast

from rgrid import runs
from rgrid.client import Client
from rgrid.config import resolve_server
from rgrid.follow.ending import exit_code
from rgrid.follow.feed import execution_feed
from rgrid.follow.waiting import until_done
from rgrid.selectors import Found, find, index_text
from rgrid.times import parse_time, seconds_of
from rgrid.transfer.placement import from_cwd
from rgrid_shared.errors import RgridError, UsageError
from rgrid_shared.states import Status, Stream

if TYPE_CHECKING:
    from rgrid.submit.items import ItemSource
    from rgrid.submit.request import RunRequest
    from rgrid_shared.protocol import OutputEntry
    from rgrid_shared.specs import Resources
    from rgrid_shared.views import BatchDetail, BatchView, ExecutionView


class Settings(TypedDict, total=False):
    """What ``run`` and ``batch`` take by name; each as the flag of ``rgrid run`` of that name.

    ``cpu``: cores. ``memory``, ``disk``, ``gpu_memory``: bytes, or text such as ``16GB``. ``gpu``: a count, or
    ``A100:2``. ``timeout``: seconds, or text such as ``1h``. ``env``: variables for the script. ``labels``: what a
    runner must carry. ``cwd``: the directory that paths are relative to. ``server``, ``profile``: which grid.
    """

    module: bool
    runtime: str
    requirements: str
    include: Iterable[str]
    cpu: float
    memory: int | str
    disk: int | str
    gpu: int | str
    gpu_memory: int | str
    labels: Mapping[str, str]
    timeout: float | str
    retries: int
    retry_on: Iterable[str]
    network: bool
    isolate: bool
    env: Mapping[str, str]
    name: str
    metadata: Mapping[str, str]
    priority: int
    cwd: str | os.PathLike[str]
    server: str
    profile: str


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended. ``exit_code``: what ``rgrid run`` would exit with."""

    status: Status
    exit_code: int
    message: str

    @property
    def ok(self) -> bool:
        """True if it succeeded."""
        return self.status is Status.SUCCEEDED


@dataclass(frozen=True, slots=True)
class BatchResult:
    """How a batch ended: how many items in each status."""

    counts: Mapping[str, int]
    total: int

    @property
    def ok(self) -> bool:
        """True if every item succeeded."""
        return self.counts[Status.SUCCEEDED] == self.total


@dataclass(frozen=True, slots=True)
class Execution:
    """One item of a batch as it stands. ``exit_code``: of the script, None if it did not run to an end."""

    id: str
    index: int
    name: str
    status: Status
    exit_code: int | None
    message: str
    runner: str


@dataclass(frozen=True, slots=True)
class LogLine:
    """A piece of log. ``at``: when the runner read it (UTC)."""

    stream: Stream
    data: bytes
    at: datetime


def run(script: str | os.PathLike[str], *args: object, **settings: Unpack[Settings]) -> Run:
    """Submit one run of ``script`` and return at once. ``args`` become the script's arguments, as text."""
    return Run(*_submit(_request(script, args, None, settings), settings))


def batch(
    script: str | os.PathLike[str],
    *args: object,
    items: Iterable[object] | None = None,
    files: str | Iterable[str] | None = None,
    parallel: int | None = None,
    max_fails: int | None = None,
    canary: int | None = None,
    **settings: Unpack[Settings],
) -> Batch:
    """Submit ``script`` once for each item and return at once.

    ``items``: values (text as it is, anything else as JSON); ``files``: a glob or paths. ``{}`` in ``args`` stands for
    the item; without one it is the last argument.
    """
    from rgrid.submit.items import Files, Values

    if (items is None) == (files is None):
        raise UsageError("A batch needs either items or files.")
    source: ItemSource
    if files is not None:
        source = Files((files,) if isinstance(files, str) else tuple(map(str, files)))
    else:
        source = Values(tuple(items or ()))
    request = _request(script, args, source, settings)
    request = replace(request, parallel=parallel, max_fails=max_fails, canary=canary)
    return Batch(*_submit(request, settings))


def get(target: str = "last", *, server: str | None = None, profile: str | None = None) -> Run | Batch:
    """A run or a batch that was submitted before: by id, unique prefix, ``last`` or ``last:N``."""
    client = Client(resolve_server(profile, server, start=False))
    found = find(client, target).batch
    return Run(client, found) if found["single"] else Batch(client, found)


def _submit(request: RunRequest, settings: Settings) -> tuple[Client, BatchView]:
    from rgrid.submit import submit_run

    client = Client(resolve_server(settings.get("profile"), settings.get("server")))
    submitted = submit_run(client, request)
    runs.remember(submitted.batch["id"], runs.record_of(submitted.plan))
    return client, submitted.batch


def _request(
    script: str | os.PathLike[str], args: tuple[object, ...], source: ItemSource | None, settings: Settings
) -> RunRequest:
    from rgrid.submit.request import RunRequest

    cwd = os.path.abspath(settings.get("cwd") or os.getcwd())  # noqa: PTH100, PTH109 - the request holds text
    timeout = settings.get("timeout")
    return RunRequest(
        script=os.fspath(script),
        args=tuple(map(str, args)),
        module=settings.get("module", False),
        items=source,
        cwd=cwd,
        runtime=settings.get("runtime", ""),
        requirements=settings.get("requirements", ""),
        include=tuple(settings.get("include", ())),
        env=dict(settings.get("env", {})),
        resources=_resources(settings),
        timeout_s=seconds_of(timeout) if isinstance(timeout, str) else timeout,
        retries=settings.get("retries", 0),
        retry_on=tuple(settings.get("retry_on", ())),
        network=settings.get("network", True),
        isolate=settings.get("isolate", False),
        name=settings.get("name", ""),
        metadata=dict(settings.get("metadata", {})),
        priority=settings.get("priority", 0),
    )


def _resources(settings: Settings) -> Resources:
    from rgrid.submit.units import parse_gpu, parse_size

    def size(name: str) -> int:
        given = settings.get(name, 0)
        return parse_size(given, name) if isinstance(given, str) else int(cast("int", given))

    gpus, model = settings.get("gpu", 0), ""
    if isinstance(gpus, str):
        model, gpus = parse_gpu(gpus)
    return {
        "cpu_millis": round(settings.get("cpu", 0) * 1000),
        "memory": size("memory"),
        "disk": size("disk"),
        "gpus": gpus,
        "gpu_model": model,
        "gpu_memory": size("gpu_memory"),
        "labels": dict(settings.get("labels", {})),
    }


class _Submitted:
    """What runs and batches have in common."""

    def __init__(self, client: Client, view: BatchView) -> None:
        self._client = client
        self.id: str = view["id"]
        self.total: int = view["total"]

    def __repr__(self) -> str:
        return f"<rgrid.{type(self).__name__} {self.id}>"

    @cached_property
    def _spec_cwd(self) -> str:
        return self._client.batch(self.id)["spec"]["cwd"]

    def view(self) -> BatchDetail:
        """Everything that the API says about it, now."""
        return self._client.batch(self.id)

    def _wait(self, timeout: float | None) -> None:
        if not until_done(self._client, [Found(self.view(), None)], timeout, _silent):
            raise TimeoutError(f"{self.id} has not ended within {timeout} s")

    def cancel(self, reason: str = "") -> int:
        """Stop what runs and what waits; how many items were stopped."""
        return self._client.cancel(self.id, None, reason)["changed"]

    def delete(self) -> None:
        """Delete it with its logs and outputs on the grid; it must have ended."""
        self._client.delete(self.id)
        runs.forget(self.id)

    def download(self, dest: str | os.PathLike[str] | None = None, *, flat: bool = False) -> list[Path]:
        """Bring the outputs here and return where they are.

        ``dest``: a directory; None puts them where the script would have left them (a batch's under ``outputs/``). A
        file that was changed here since submission is kept: the output is put beside it.
        """
        return self._download(None, dest, flat=flat)

    def _download(self, indexes: list[int] | None, dest: str | os.PathLike[str] | None, *, flat: bool) -> list[Path]:
        from rgrid.transfer.bring import bring

        record = runs.recall(self.id)
        target = None if dest is None else os.fspath(dest)
        summary = bring(self._client, self.view(), indexes, record=record, dest=target, flat=flat)
        if record and summary.written:
            runs.remember(self.id, replace(record, written={**record.written, **summary.written}))
        return [Path(path) for path in summary.paths]

    def _outputs(self, indexes: list[int] | None) -> Iterator[tuple[int, OutputEntry]]:
        query: dict[str, Any] = {"index": index_text(indexes), "limit": 200}
        for view in self._client.pages(lambda page: self._client.batch_outputs(self.id, page), query, "outputs"):
            for entry in view["entries"]:
                seen = entry.copy()
                seen["path"] = from_cwd(entry["path"], self._spec_cwd)
                yield view["index"], seen

    def _latest(self, indexes: list[int] | None = None) -> Iterator[ExecutionView]:
        return Found(self.view(), indexes).executions(self._client)

    def _lines(self, execution_id: str, *, follow: bool) -> Iterator[LogLine]:
        if follow:
            for message in execution_feed(self._client, execution_id, outputs=False, say=_silent):
                if message["type"] == "log":
                    yield _line(message)
            return
        after = ""
        while True:
            page = self._client.logs(execution_id, {"after": after})
            yield from map(_line, page["chunks"])
            if page["ended"] or not page["chunks"]:
                return
            after = page["next"]


class Run(_Submitted):
    """One run of a script."""

    def _execution(self) -> ExecutionView:
        return next(self._latest([0]))

    @property
    def status(self) -> Status:
        """Where it stands, now."""
        return Status(self._execution()["status"])

    def wait(self, timeout: float | None = None) -> Result:
        """Wait until it has ended. Raises ``TimeoutError`` after ``timeout`` seconds; the run goes on then."""
        self._wait(timeout)
        view = self._execution()
        return Result(Status(view["status"]), exit_code(view), view["message"])

    def logs(self) -> bytes:
        """All that the script has printed so far, stdout and stderr in one, as it was written."""
        lines = self._lines(self._execution()["id"], follow=False)
        return b"".join(line.data for line in lines if line.stream is not Stream.SYSTEM)

    def stream(self) -> Iterator[LogLine]:
        """The log as it is written, from its beginning to the run's end."""
        return self._lines(self._execution()["id"], follow=True)

    def outputs(self) -> list[OutputEntry]:
        """What the script has made, changed or deleted; paths relative to the working directory."""
        return [entry for _, entry in self._outputs(None)]


class Batch(_Submitted):
    """A script run once for each of many items."""

    @property
    def counts(self) -> Mapping[str, int]:
        """How many items stand in each status, now."""
        return cast("Mapping[str, int]", self.view()["counts"])

    def wait(self, timeout: float | None = None) -> BatchResult:
        """Wait until every item has ended. Raises ``TimeoutError`` after ``timeout`` seconds; the batch goes on."""
        self._wait(timeout)
        view = self.view()
        return BatchResult(cast("Mapping[str, int]", view["counts"]), view["total"])

    def executions(self) -> list[Execution]:
        """Every item as it stands, by index; of an item that was retried its latest."""
        return [
            Execution(
                id=view["id"],
                index=view["index"],
                name=view["name"],
                status=Status(view["status"]),
                exit_code=view["exit_code"],
                message=view["message"],
                runner=view["runner"],
            )
            for view in self._latest()
        ]

    def logs(self, index: int) -> bytes:
        """All that the script has printed for one item so far."""
        view = next(self._latest([index]), None)
        if view is None:
            raise UsageError(f"{self.id} has no item {index}.")
        lines = self._lines(view["id"], follow=False)
        return b"".join(line.data for line in lines if line.stream is not Stream.SYSTEM)

    def outputs(self) -> dict[int, list[OutputEntry]]:
        """What the items that have ended have made, by index; paths relative to the working directory."""
        found: dict[int, list[OutputEntry]] = {}
        for index, entry in self._outputs(None):
            found.setdefault(index, []).append(entry)
        return found

    def retry(self, *, indexes: Iterable[int] | None = None) -> int:
        """Run items again: these, or all that did not succeed. Returns how many."""
        chosen = None if indexes is None else sorted(indexes)
        return self._client.retry(self.id, chosen, failed=chosen is None)["changed"]


def _silent(_text: str) -> None:
    """Nothing is printed from the SDK."""


def _line(chunk: Any) -> LogLine:
    return LogLine(Stream(chunk["stream"]), b64decode(chunk["data"]), parse_time(chunk["at"]))


__all__ = ["Batch", "BatchResult", "Execution", "LogLine", "Result", "RgridError", "Run", "batch", "get", "run"]
