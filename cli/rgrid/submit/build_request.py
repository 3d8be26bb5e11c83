"""The request that a command line asks for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from rgrid.submit import env_values, stdin, units
from rgrid.submit.items import Files, ItemSource, JsonItems, Lines, Range
from rgrid.submit.options import Options
from rgrid.submit.request import Exact, RunRequest
from rgrid_shared.errors import UsageError
from rgrid_shared.specs import Resources
from rgrid_shared.states import FailureClass

SOURCES = ("batch", "batch-lines", "batch-json", "range")
_BATCH_ONLY = ("parallel", "max-fails", "canary")


def item_source(options: Options, frozen: Mapping[str, Sequence[str]]) -> ItemSource | None:
    """Where the items come from, None for a single run; raises UsageError for two sources.

    ``frozen``: options that stood after SCRIPT, by name with dashes.
    """
    given = [name for name in SOURCES if f"--{name}" in frozen or options.flags.get(name) is not None]
    if len(given) > 1:
        raise UsageError(f"--{given[0]} and --{given[1]} cannot go together.", hint="Give the items in one way.")
    if not given:
        for name in _BATCH_ONLY:
            if options.typed(name) or f"--{name}" in frozen:
                raise UsageError(
                    f"--{name} is for a batch, and this is a single run.", hint="Add --batch 'data/*.csv'."
                )
        return None
    name = given[0]
    values = frozen.get(f"--{name}") or (str(options.flags[name]),)
    if name == "batch":
        return Files(tuple(values))
    if name == "batch-lines":
        return Lines(values[0])
    return JsonItems(values[0]) if name == "batch-json" else Range(values[0])


def build(
    script: str,
    args: Sequence[str],
    options: Options,
    *,
    module: bool,
    source: ItemSource | None,
    exact: Exact | None = None,
) -> RunRequest:
    """Check every option and put them together; raises UsageError naming the one that is wrong."""
    if exact is not None and options.typed("requirements"):
        raise UsageError("--exact and --requirements cannot go together.", hint="Drop one of them.")
    timeout = options.text("timeout")
    if source is not None:
        _no_braces(options)
    return RunRequest(
        script=script,
        args=tuple(args),
        module=module,
        items=source,
        runtime=options.text("runtime"),
        requirements=options.text("requirements"),
        exact=exact,
        include=options.texts("include"),
        allow_large=options.flag("allow-large"),
        env=env_values.collect(options.pairs("env"), options.texts("env-file"), os.environ),
        resources=resources(options),
        timeout_s=units.parse_duration(timeout, "--timeout") if timeout else None,
        retries=options.number("retries", 0, 100) or 0,
        retry_on=_classes(options.texts("retry-on")),
        network=options.flag("network", default=True),
        isolate=options.flag("isolate"),
        name=_short(options.text("name"), "--name"),
        metadata=units.parse_pairs(options.pairs("metadata"), "--metadata"),
        priority=options.number("priority", -100, 100) or 0,
        parallel=options.number("parallel", 1, 1_000_000) if source is not None else None,
        max_fails=options.number("max-fails", 1, 1_000_000) if source is not None else None,
        canary=options.number("canary", 1, 1_000_000) if source is not None else None,
        stdin=_stdin(options, source),
    )


def resources(options: Options) -> Resources:
    """What one execution needs."""
    cpu, memory, disk = options.text("cpu"), options.text("memory"), options.text("disk")
    gpu, gpu_memory = options.text("gpu"), options.text("gpu-memory")
    model, gpus = units.parse_gpu(gpu) if gpu and gpu != "0" else ("", 0)
    if gpu_memory and not gpus:
        gpus = 1
    return {
        "cpu_millis": units.parse_cpu(cpu) if cpu else 0,
        "memory": units.parse_size(memory, "--memory") if memory else 0,
        "disk": units.parse_size(disk, "--disk") if disk else 0,
        "gpus": gpus,
        "gpu_model": model,
        "gpu_memory": units.parse_size(gpu_memory, "--gpu-memory") if gpu_memory else 0,
        "labels": units.parse_pairs(options.pairs("require"), "--require"),
    }


def _classes(names: Sequence[str]) -> tuple[str, ...]:
    allowed = [kind.value for kind in FailureClass if kind.rule.user_may_retry]
    for name in names:
        if name not in allowed:
            raise UsageError(f"--retry-on {name!r} is not a kind of failure.", hint=f"One of: {', '.join(allowed)}.")
    return tuple(names)


def _short(text: str, option: str) -> str:
    if len(text) > 500:
        raise UsageError(f"{option} is too long.", hint="At most 500 characters.")
    return text


def _no_braces(options: Options) -> None:
    for name in ("output-dir", "name"):
        if "{}" in options.text(name):
            raise UsageError(
                f"{{}} in --{name} is not filled in: it stands for the item in the script's arguments only.",
                hint="Each item's outputs get a directory of their own anyway.",
            )


def _stdin(options: Options, source: ItemSource | None) -> str:
    if isinstance(source, Lines | JsonItems) and source.path == "-":
        return ""
    kind = stdin.detect()
    # A pipe can feed one script, and only while somebody is there to pump it.
    return "" if kind == "stream" and (source is not None or options.flag("detach")) else kind
