"""``rgrid run [OPTIONS] SCRIPT [ARGS]…``: a script, once or for many inputs, as if it ran here."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from rgrid import output
from rgrid.submit import argv
from rgrid.verbs import Json, Profile, Quiet, ServerUrl, Verb, application
from rgrid_shared.errors import UsageError

if TYPE_CHECKING:
    from rgrid.submit.argv import Line
    from rgrid.submit.plan import Plan, Prepared
    from rgrid.submit.request import Exact
    from rgrid_shared.views import BatchView

app = application()

BATCH: Final = "Batch"
NEEDS: Final = "What it needs"
SCRIPT: Final = "What it gets"
OUTPUTS: Final = "Outputs and conduct"
_LINE: Final = "rgrid.line"

_EPILOG: Final = (
    "What stands after SCRIPT belongs to the script, but for --batch, --batch-lines, --batch-json, --range, "
    "--parallel, --runtime, --remote-only, --watch and --detach; and not even those if the script declares the "
    "option itself or `--` stands before SCRIPT."
)


class RunCommand(Verb):
    """Takes the command line apart at SCRIPT before the options are parsed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what stands before SCRIPT; keep the rest as it is."""
        line = argv.split(args, self.values(ctx))
        ctx.meta[_LINE] = line
        words = [*line.options, "-m"] if line.module else list(line.options)
        typed = [line.script, *line.args] if line.script is not None else []
        return super().parse_args(ctx, [*words, "--", *typed])

    def values(self, ctx: Any) -> dict[str, int]:
        """How many values each option takes."""
        found: dict[str, int] = {}
        for param in self.get_params(ctx):
            if param.param_type_name == "option":
                count = 0 if getattr(param, "is_flag", False) or getattr(param, "count", False) else param.nargs
                found.update(dict.fromkeys((*param.opts, *param.secondary_opts), count))
        return found


@app.verb(cls=RunCommand, epilog=_EPILOG)
def run(
    ctx: typer.Context,
    script: Annotated[
        list[str] | None,
        typer.Argument(metavar="SCRIPT [ARGS]...", help="The script, and what it gets.", show_default=False),
    ] = None,
    module: Annotated[
        bool, typer.Option("-m", help="Run a module as `python -m` does: -m MODULE [ARGS].", rich_help_panel=SCRIPT)
    ] = False,
    batch: Annotated[
        str | None,
        typer.Option(
            metavar="GLOB", help="One run for each file: 'data/**/*.csv', 'img{1..100}.png'.", rich_help_panel=BATCH
        ),
    ] = None,
    batch_lines: Annotated[
        str | None, typer.Option(metavar="FILE", help="One run for each line (- is stdin).", rich_help_panel=BATCH)
    ] = None,
    batch_json: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="One run for each JSON value, one a line; {key} is a field.", rich_help_panel=BATCH
        ),
    ] = None,
    range_: Annotated[
        str | None,
        typer.Option("--range", metavar="A-B", help="One run for each number: 1-100, 0-90:10.", rich_help_panel=BATCH),
    ] = None,
    parallel: Annotated[int | None, typer.Option(metavar="N", help="At most N at once.", rich_help_panel=BATCH)] = None,
    max_fails: Annotated[
        int | None, typer.Option(metavar="N", help="Start no more after N failures.", rich_help_panel=BATCH)
    ] = None,
    canary: Annotated[
        int | None, typer.Option(metavar="N", help="Run N items first; stop if one fails.", rich_help_panel=BATCH)
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="python3.12, node20, ffmpeg, an image … (yours by default).", rich_help_panel=NEEDS
        ),
    ] = None,
    cpu: Annotated[str | None, typer.Option(metavar="N", help="Cores: 2, 0.5.", rich_help_panel=NEEDS)] = None,
    memory: Annotated[str | None, typer.Option(metavar="SIZE", help="16GB, 512MiB.", rich_help_panel=NEEDS)] = None,
    gpu: Annotated[str | None, typer.Option(metavar="MODEL:N", help="1, A100, A100:2.", rich_help_panel=NEEDS)] = None,
    gpu_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Memory of each GPU.", rich_help_panel=NEEDS)
    ] = None,
    disk: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Space for its files.", rich_help_panel=NEEDS)
    ] = None,
    timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="Stop it after 90s, 1h30m, 2d.", rich_help_panel=NEEDS)
    ] = None,
    network: Annotated[
        bool | None,
        typer.Option("--network/--no-network", help="Let it reach the network (default: yes).", rich_help_panel=NEEDS),
    ] = None,
    isolate: Annotated[
        bool,
        typer.Option("--isolate", help="A fresh container for every item.", rich_help_panel=NEEDS),
    ] = False,
    require: Annotated[
        list[str] | None,
        typer.Option(
            "--require", "--label", metavar="K=V", help="Only on runners with this label.", rich_help_panel=NEEDS
        ),
    ] = None,
    requirements: Annotated[
        str | None, typer.Option(metavar="FILE", help="Its requirements.", rich_help_panel=SCRIPT)
    ] = None,
    exact: Annotated[
        str | None,
        typer.Option(metavar="EXECUTION", help="Exactly the packages of that run.", rich_help_panel=SCRIPT),
    ] = None,
    include: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="More files to send.", rich_help_panel=SCRIPT)
    ] = None,
    allow_large: Annotated[
        bool, typer.Option("--allow-large", help="Send more than 1 GiB or 10,000 files.", rich_help_panel=SCRIPT)
    ] = False,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", "-e", metavar="KEY[=VALUE]", help="A variable; alone: yours.", rich_help_panel=SCRIPT),
    ] = None,
    env_file: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Variables from a file.", rich_help_panel=SCRIPT)
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="TEXT", help="A name for lists.", rich_help_panel=OUTPUTS)] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="To find it by.", rich_help_panel=OUTPUTS)
    ] = None,
    priority: Annotated[
        int | None, typer.Option(metavar="N", help="-100 … 100; higher goes first.", rich_help_panel=OUTPUTS)
    ] = None,
    retries: Annotated[
        int | None, typer.Option(metavar="N", help="Try again after a failure.", rich_help_panel=OUTPUTS)
    ] = None,
    retry_on: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="script, timeout, oom, disk.", rich_help_panel=OUTPUTS)
    ] = None,
    output_dir: Annotated[
        str | None, typer.Option("--output-dir", "-o", metavar="DIR", help="Where outputs go.", rich_help_panel=OUTPUTS)
    ] = None,
    flat: Annotated[
        bool,
        typer.Option("--flat", help="A batch's outputs without a directory for each item.", rich_help_panel=OUTPUTS),
    ] = False,
    remote_only: Annotated[
        bool, typer.Option("--remote-only", help="Leave outputs on the grid.", rich_help_panel=OUTPUTS)
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Submit and return.", rich_help_panel=OUTPUTS)] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Stay and show it (default).", rich_help_panel=OUTPUTS)
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would travel; submit nothing.", rich_help_panel=OUTPUTS)
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    profile: Profile = None,
    server: ServerUrl = None,
) -> int:
    """Run SCRIPT on the grid: its output here, its exit code, its files where it would have left them.

    The script's imports, the files that its arguments and its text name, and its requirements travel by themselves.
    """
    line: Line = ctx.meta[_LINE]
    flags: dict[str, object] = {}
    for key, value in ctx.params.items():
        if key not in ("script", "module", "json", "quiet", "profile", "server", "dry_run"):
            flags[key.rstrip("_").replace("_", "-")] = value
    output.mode.json, output.mode.quiet = json, quiet
    known = {option for option in RunCommand.values(ctx.command, ctx) if option.startswith("--")}  # type: ignore[arg-type]
    same = _packages_of(exact, profile, server) if exact else None
    job = _understand(line, flags, known, same)
    if dry_run:
        return _show(job.plan)
    return _go(job, profile, server)


class _Job:
    """A plan, and how its end is wanted."""

    def __init__(self, plan: Plan, *, dest: str, flat: bool, remote_only: bool, detach: bool) -> None:
        self.plan = plan
        self.dest = dest
        self.flat = flat
        self.remote_only = remote_only
        self.detach = detach


def _note(text: str) -> None:
    if not output.mode.quiet:
        output.say(text)


def _packages_of(target: str, profile: str | None, server: str | None) -> Exact:
    from rgrid.session import connect
    from rgrid.submit.exact import packages_of

    with connect(profile, server, start=True) as client:
        return packages_of(client, target)


def _understand(line: Line, flags: dict[str, object], known: set[str], exact: Exact | None) -> _Job:
    """Look at everything that was typed and at every file; nothing is sent."""
    from pathlib import Path

    from rgrid.config import Defaults, home
    from rgrid.submit import plan as plans
    from rgrid.submit.build_request import build, item_source
    from rgrid.submit.options import Options

    if line.script is None:
        what = "the module's name" if line.module else "SCRIPT"
        raise UsageError(f"{what} is missing.", hint="rgrid run [OPTIONS] SCRIPT [ARGS]…   (rgrid run --help)")
    prepared = _prepare(line, unquoted=flags.get("batch"))
    declared = prepared.scan.options
    taken = argv.take_frozen(line.args, declared) if not line.closed else argv.Taken(line.args, {}, ())
    for name, values in taken.options.items():
        key = name[2:]
        if flags.get(key):
            raise UsageError(f"{name} is given twice: before and after the script.", hint="Give it once.")
        if key not in ("batch", "batch-lines", "batch-json", "range"):
            flags[key] = values[0] if values else True
    if flags.get("detach") and flags.get("watch"):
        raise UsageError("--detach and --watch cannot go together.", hint="Drop one of them.")

    block = prepared.block
    folder = Path(prepared.located.path or f"{prepared.located.cwd}/-m").parent
    options = Options(flags, Defaults.load(folder, block.settings if block else None))
    source = item_source(options, taken.options)
    request = build(line.script, taken.args, options, module=line.module, source=source, exact=exact)
    plan = plans.make_plan(request, home(), prepared)
    _misplaced(line, taken, known, declared)
    typed_dest = options.text("output-dir")
    dest = os.path.abspath(os.path.expanduser(typed_dest)) if typed_dest else ""  # noqa: PTH100, PTH111 - no links followed
    return _Job(
        plan,
        dest=dest or ("" if plan.single else os.path.join(prepared.located.cwd, "outputs")),  # noqa: PTH118 - a string
        flat=options.flag("flat"),
        remote_only=options.flag("remote-only"),
        detach=options.flag("detach"),
    )


def _prepare(line: Line, *, unquoted: object) -> Prepared:
    from rgrid.submit.plan import prepare

    assert line.script is not None
    try:
        return prepare(line.script, module=line.module)
    except UsageError as error:
        if unquoted:
            # `--batch data/*.csv script.py`: the shell has put the second match where SCRIPT belongs.
            raise UsageError(
                error.message, hint="If the shell expanded the glob, quote it: --batch 'data/*.csv'."
            ) from error
        raise


def _misplaced(line: Line, taken: argv.Taken, known: set[str], declared: set[str]) -> None:
    if line.closed:
        return
    for name in taken.kept:
        _note(f"{name} went to the script, which declares it; for rgrid put it before {line.script}")
    for name in argv.misplaced(taken.args, known - {"--help"}, declared):
        _note(f"{name} went to the script; if it is meant for rgrid, put it before {line.script}")


def _show(plan: Plan) -> int:
    from rgrid.submit import dry_run

    if output.mode.json:
        output.write_json(dry_run.document(plan))
    else:
        output.write("\n".join(dry_run.lines(plan)))
    return 0


def _go(job: _Job, profile: str | None, server: str | None) -> int:
    from rgrid import runs
    from rgrid.follow.attach import Options, attach_batch, attach_single
    from rgrid.progress import Bar
    from rgrid.session import connect
    from rgrid.submit import stdin
    from rgrid.submit.submission import send

    plan = job.plan
    for note in plan.notes:
        _note(note)
    with connect(profile, server, start=True) as client:
        bars: list[Bar] = []

        def bar(label: str, size: int) -> Bar:
            bars.append(Bar(label, size))
            return bars[-1]

        try:
            # Off a terminal stderr is somebody's file: it holds the script's stderr and what is worth a warning.
            batch = send(client, plan, say=_note, progress=bar, routine=output.is_terminal(sys.stderr)).batch
        finally:
            for drawn in bars:
                drawn.close()
            stdin.discard(plan.request.stdin)
        runs.remember(batch["id"], runs.record_of(plan, dest=job.dest, flat=job.flat))
        if job.detach:
            return _detached(job, batch)
        options = Options(
            json=output.mode.json,
            quiet=output.mode.quiet,
            place=not job.remote_only,
            dest=job.dest or None,
            flat=job.flat,
            deletions=plan.single and not job.dest,
        )
        if plan.single:
            feed = 0 if plan.request.stdin == "stream" else None
            return attach_single(client, batch, local_root=plan.spec["root"], options=options, stdin=feed)
        return attach_batch(client, batch, dest=job.dest, options=options)


def _detached(job: _Job, batch: BatchView) -> int:
    from rgrid.submit import stdin

    if output.mode.json:
        output.write_json(batch)
        return 0
    output.write(batch["id"])
    if stdin.detect() == "stream" and stdin.has_data():
        _note("stdin is a pipe and is not read with --detach; a file can be: < FILE")
    _note(f"submitted; rgrid attach {batch['id']} shows it, rgrid cancel {batch['id']} stops it")
    return 0
